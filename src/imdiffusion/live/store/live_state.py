"""The live state, as its one writer sees it: checkpoints, feedback, models, cursors.

`write` is one transaction: scores, updates of events, states, offsets and counters become true
together, and every new record gets a number in the feed. A sink is a reader of the feed with a
cursor: what it has not taken yet is what lies behind its cursor, and nothing is kept twice. What
readers ask is in `queries.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from imdiffusion.errors import UsageError
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import event_of, record_of
from imdiffusion.live.store.inserts import VERDICTS, Checkpoint, Feedback, Inserts
from imdiffusion.live.store.retention import Retention, Thinning
from imdiffusion.live.store.schema import lock, open_state, storage
from imdiffusion.records import EventRecord, Record
from imdiffusion.saved_state import State
from imdiffusion.schema import nearest


class Store(Closing):
    """The one writer of a file of live state. Its methods may be called from any thread.

    Opening checks the whole file, brings it to the newest version, and sets a damaged one aside
    (StateWarning). Every method returns when what it wrote is on the disk, and raises OutputError
    having changed nothing where that failed.
    """

    def __init__(self, path: str | Path, *, retention: Retention | None = None) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._held = lock(self.path)
        try:
            self._connection = open_state(self.path)
        except BaseException:
            self._held.close()
            raise
        self._thinning = Thinning(retention or Retention(), self.path)
        self._inserts = Inserts(self._connection)

    # -- checkpoints

    def write(self, checkpoint: Checkpoint, *, now: int) -> int:
        """Make a checkpoint true; the number of the last record in the feed. now: ns, UTC.

        A score or an update that is there already stays as it is: it is counted ("again") and not
        fed a second time.
        """
        with self._transaction():
            inserts = self._inserts
            again = inserts.tell(checkpoint.told, now)
            again += inserts.add_updates(checkpoint.updates, now)
            inserts.stand(checkpoint.standing, now)
            run = self._connection.executemany
            run("DELETE FROM states WHERE entity = ?", [(name,) for name in checkpoint.forgotten])
            run(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
                (
                    (entity, part, state.to_bytes(), now)
                    for (entity, part), state in checkpoint.states.items()
                ),
            )
            run(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
                [(source, offset, now) for source, offset in checkpoint.offsets.items()],
            )
            self._inserts.count({**checkpoint.counts, **({("again", ""): again} if again else {})})
            return self._last()

    def count(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add to counters, (name, label) -> how much, outside of any checkpoint."""
        with self._transaction():
            self._inserts.count(counts)

    # -- what a start goes on from

    def entities(self) -> list[str]:
        """The entities of which the last checkpoint has states."""
        with self._lock, storage(self.path):
            rows = self._connection.execute("SELECT DISTINCT entity FROM states").fetchall()
        return [str(name) for (name,) in rows]

    def state(self, entity: str, part: str) -> State | None:
        """One state of the last checkpoint. ModelError for one that cannot be read."""
        with self._lock, storage(self.path):
            row = self._connection.execute(
                "SELECT state FROM states WHERE entity = ? AND part = ?", (entity, part)
            ).fetchone()
        return None if row is None else State.from_bytes(row[0])

    def adopt(self, entity: str, states: Mapping[str, bytes], *, recorded: int) -> bool:
        """Take these states of an entity for its own, unless those here are as new; whether so."""
        with self._transaction():
            (own,) = self._connection.execute(
                "SELECT max(recorded) FROM states WHERE entity = ?", (entity,)
            ).fetchone()
            if own is not None and int(own) >= recorded:
                return False
            self._connection.execute("DELETE FROM states WHERE entity = ?", (entity,))
            self._connection.executemany(
                "INSERT INTO states VALUES (?, ?, ?, ?)",
                [(entity, part, state, recorded) for part, state in states.items()],
            )
        return True

    def offset(self, source: str) -> str | None:
        """Where a source stood at the last checkpoint; None = at its beginning."""
        with self._lock, storage(self.path):
            row = self._connection.execute(
                "SELECT offset FROM offsets WHERE source = ?", (source,)
            ).fetchone()
        return None if row is None else str(row[0])

    # -- the feed and its sinks

    def join(self, sink: str, takes: Iterable[str]) -> None:
        """A sink takes part: these kinds of record, from where it was; a new one from now on."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO cursors VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET takes = excluded.takes",
                (sink, self._last(), " ".join(sorted(takes))),
            )

    def leave(self, *, known: Iterable[str]) -> None:
        """Sinks that are not among the known ones are no more, and hold nothing back."""
        with self._transaction():
            there = [row[0] for row in self._connection.execute("SELECT sink FROM cursors")]
            self._connection.executemany(
                "DELETE FROM cursors WHERE sink = ?", [(name,) for name in {*there} - {*known}]
            )

    def cursor(self, sink: str) -> int:
        """The number up to which a sink has taken, or was not there to take, everything."""
        with self._lock, storage(self.path):
            found = self._connection.execute("SELECT seq FROM cursors WHERE sink = ?", (sink,))
            return int(found.fetchone()[0])

    def behind(self, sink: str, *, limit: int) -> list[tuple[int, Record]]:
        """The next records for a sink, oldest first, each with its number."""
        with self._lock, storage(self.path):
            seq, takes = self._connection.execute(
                "SELECT seq, takes FROM cursors WHERE sink = ?", (sink,)
            ).fetchone()
            rows = self._connection.execute(
                "SELECT seq, record FROM feed WHERE seq > ? AND instr(?, kind) "
                "ORDER BY seq LIMIT ?",
                (seq, takes, limit),
            ).fetchall()
        return [(number, record_of(text)) for number, text in rows]

    def ongoing(self) -> list[EventRecord]:
        """The newest update of every event that is ongoing, the earliest onset first."""
        with self._lock, storage(self.path):
            rows = self._connection.execute(
                "SELECT record FROM events JOIN updates USING (id, number) "
                "WHERE status = 'ongoing' ORDER BY start, id"
            ).fetchall()
        return [event_of(row[0]) for row in rows]

    def advance(self, sink: str, seq: int, *, counts: Mapping[tuple[str, str], int]) -> None:
        """A sink has taken everything up to `seq`."""
        with self._transaction():
            self._connection.execute(
                "UPDATE cursors SET seq = max(seq, ?) WHERE sink = ?", (seq, sink)
            )
            self._inserts.count(counts)

    def last(self) -> int:
        """The number of the newest record; 0 = none yet."""
        with self._lock, storage(self.path):
            return self._last()

    def _last(self) -> int:
        # Of the numbering itself: it goes on where the feed has been trimmed to nothing.
        row = self._connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'feed'"
        ).fetchone()
        return 0 if row is None else int(row[0])

    # -- people and models

    def add_feedback(self, event: str, verdict: str, *, who: str, text: str, now: int) -> Feedback:
        """Keep what a person said of an event. UsageError: no such event or verdict."""
        if verdict not in VERDICTS:
            raise UsageError(
                f"{verdict!r} is no verdict on an event", remedy=nearest(verdict, VERDICTS)
            )
        with self._transaction():
            if not self._one("SELECT 1 FROM events WHERE id = ?", event):
                raise UsageError(f"there is no event {event!r}", remedy="List the events first.")
            number = self._connection.execute(
                "INSERT INTO feedback (event, verdict, who, text, recorded) VALUES (?, ?, ?, ?, ?)",
                (event, verdict, who, text, now),
            ).lastrowid
        return Feedback(int(number or 0), event, verdict, who, text, now)

    def last_feedback(self) -> int:
        """The id of the last that was said; 0 = nothing yet."""
        with self._lock, storage(self.path):
            row = self._connection.execute("SELECT max(id) FROM feedback").fetchone()
        return int(row[0] or 0)

    def unresolved(self) -> list[EventRecord]:
        """The newest update of every event of which it was said last that it is not resolved."""
        with self._lock, storage(self.path):
            rows = self._connection.execute(
                "SELECT record FROM feedback JOIN events ON events.id = event "
                "JOIN updates ON updates.id = event AND updates.number = events.number "
                "WHERE verdict = 'not_resolved' AND feedback.id IN "
                "(SELECT max(id) FROM feedback GROUP BY event) ORDER BY start, event"
            ).fetchall()
        return [event_of(row[0]) for row in rows]

    def add_model(self, entity: str, digest: str, *, detector: str, path: str, now: int) -> None:
        """Note a fitted model of an entity; it does not become the live one by that."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO models VALUES (?, ?, ?, ?, ?)",
                (entity, digest, detector, path, now),
            )

    def promote(self, entity: str, digest: str, *, reason: str, now: int) -> None:
        """Make a model of an entity the live one. UsageError: it was never noted."""
        with self._transaction():
            if not self._one(
                "SELECT 1 FROM models WHERE entity = ? AND digest = ?", entity, digest
            ):
                raise UsageError(
                    f"entity {entity!r} has no model {digest!r}", remedy="Add the model first."
                )
            self._connection.execute(
                "INSERT INTO promotions (entity, digest, reason, recorded) VALUES (?, ?, ?, ?)",
                (entity, digest, reason, now),
            )

    def roll_back(self, entity: str, *, reason: str, now: int) -> str:
        """Make the model live that was before the live one; its digest. UsageError: none was."""
        with self._transaction():
            promotions = self._connection.execute(
                "SELECT digest FROM promotions WHERE entity = ? ORDER BY seq DESC", (entity,)
            ).fetchall()
            before = [digest for (digest,) in promotions if digest != promotions[0][0]]
            if not before:
                raise UsageError(
                    f"entity {entity!r} has no earlier live model", remedy="Fit one, or keep it."
                )
            self._connection.execute(
                "INSERT INTO promotions (entity, digest, reason, recorded) VALUES (?, ?, ?, ?)",
                (entity, before[0], reason, now),
            )
        return str(before[0])

    # -- upkeep

    def retain(self, retention: Retention) -> None:
        """From the next step of retention on these spans hold."""
        with self._lock:
            self._thinning = Thinning(retention, self.path)

    def thin(self, *, now: int, rows: int = 2_000) -> int:
        """One small step of retention, at most about `rows` rows; how many went. now: ns, UTC."""
        with self._transaction():
            gone, shed = self._thinning.step(self._connection, now=now, rows=rows)
            self._inserts.count(shed)
            if self._thinning.dropped:
                self._inserts.forget()
            return gone

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        with self._lock:
            self._connection.close()
            self._held.close()

    # -- inside

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; numbers given to names in a transaction that failed are forgotten."""
        with self._lock, storage(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have rolled back itself
                    self._connection.execute("ROLLBACK")
                self._inserts.forget()
                raise

    def _one(self, query: str, *values: str) -> bool:
        return self._connection.execute(query, values).fetchone() is not None
