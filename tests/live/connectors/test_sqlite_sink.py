"""Records in SQLite: by key, in transactions, under kills, locks and full disks."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from disk import file_size_limit
from records_made import START, event, few, score

from imdiffusion.errors import ConnectionLost, OutputError
from imdiffusion.live.sinks.sqlite import SqliteSink


def opened(path: Path, **options) -> SqliteSink:
    sink = SqliteSink(path=str(path), **options)
    sink.open()
    return sink


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_tables_rows_and_nulls(tmp_path):
    path = tmp_path / "folder" / "out.db"
    with opened(path) as sink:
        sink.send(few())
        assert ask(path, "SELECT count(*) FROM score") == [(0,)]
        sink.flush()
        assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    assert ask(path, "SELECT timestamp, timestamp_iso, score FROM score ORDER BY 1") == [
        (START, "2023-11-14T22:13:20.123456789Z", 0.5),
        (START + 10**9, "2023-11-14T22:13:21.123456789Z", None),
    ]
    assert ask(path, 'SELECT "update", "end", channels, seen FROM event ORDER BY 1') == [
        (0, None, '["cpu", "a\\"b\\n<b>"]', "[9.0, null]"),
        (1, START + 60 * 10**9, '["cpu", "a\\"b\\n<b>"]', "[9.0, null]"),
    ]


def test_a_key_is_a_row_over_restarts(tmp_path):
    path = tmp_path / "out.db"
    for _ in range(2):
        with opened(path) as sink:
            for _ in range(2):
                sink.send(few())
                sink.flush()
            sink.flush()
            sink.send([score(0, value=0.75), event(0)])
            sink.flush()
    assert ask(path, "SELECT score FROM score ORDER BY timestamp") == [(0.75,), (None,)]
    assert ask(path, "SELECT count(*) FROM event") == [(2,)]


def test_what_the_database_cannot_hold_is_counted_and_blocks_nothing(tmp_path):
    path = tmp_path / "out.db"
    with opened(path) as sink:
        huge = replace(event(0), update=2**70)
        sink.send([score(0), score(1, entity="\ud800"), huge, replace(score(2), timestamp=2**64)])
        sink.send([score(3)])
        sink.flush()
        assert sink.refused == 3
        sink.flush()
        assert sink.refused == 3
    assert ask(path, "SELECT timestamp FROM score ORDER BY 1") == [(START,), (START + 3 * 10**9,)]


def test_a_lock_and_a_full_disk_are_waited_out(tmp_path):
    path = tmp_path / "out.db"
    with opened(path, busy=0.01) as sink:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        sink.send(few())
        with pytest.raises(ConnectionLost, match="locked"):
            sink.flush()
        other.execute("ROLLBACK")
        other.close()
        sink.flush()
        sink.send([score(i) for i in range(2000)])
        with file_size_limit(60_000), pytest.raises(ConnectionLost, match="cannot be written"):
            sink.flush()
        assert ask(path, "SELECT count(*) FROM score") == [(2,)]
        sink.flush()
    assert ask(path, "SELECT count(*) FROM score") == [(2000,)]
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from records_made import score
from imdiffusion.live.sinks.sqlite import SqliteSink
sink = SqliteSink(path=sys.argv[2])
sink.open()
for i in range(0, 10**9, 10):
    sink.send([score(j) for j in range(i, i + 10)])
    sink.flush()
    print(i + 10, flush=True)
"""


def test_a_kill_loses_nothing_that_was_flushed(tmp_path):
    path = tmp_path / "out.db"
    for flushes in (1, 20):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(flushes):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        ((count,),) = ask(path, "SELECT count(*) FROM score")
        assert count >= flushes * 10
        assert count % 10 == 0  # a flush is there whole, or not at all


def test_a_file_of_the_first_format_gets_the_columns_that_it_lacks(tmp_path):
    path = tmp_path / "old.db"
    opened(path).close()
    database = sqlite3.connect(path)
    for table, names in {"score": ("kinds",), "event": ("kinds", "reason")}.items():
        for name in names:
            database.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    database.execute('ALTER TABLE event RENAME COLUMN "update" TO turn')
    columns = "id, turn, entity, status, start, start_iso, peak, peak_iso, detector, model"
    database.execute(
        f"INSERT INTO event ({columns}, channels, shares, expected, seen) "
        "VALUES ('e0', 0, 'db1', 'ongoing', 1, '', 1, '', 'fast', 'm1', '[]', '[]', '[]', '[]')"
    )
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    with opened(path) as sink:
        sink.send([replace(event(0), kinds=("frozen", ""), reason="cpu frozen"), score(0)])
        sink.flush()
    assert ask(path, "SELECT id, kinds, reason FROM event ORDER BY 1") == [
        ("e0", "[]", ""),
        ("e1", '["frozen", ""]', "cpu frozen"),
    ]
    assert ask(path, "SELECT kinds FROM score") == [("[]",)]
    assert ask(path, "PRAGMA user_version") == [(3,)]


def test_a_file_of_the_second_format_gets_todays_words(tmp_path):
    path = tmp_path / "old.db"
    with opened(path) as sink:
        sink.send([score(0), replace(score(1), mode="offline")])
        sink.flush()
    database = sqlite3.connect(path)
    database.execute("ALTER TABLE score RENAME COLUMN mode TO moment")
    words = "CASE moment WHEN 'online' THEN 'arrival' ELSE 'hindsight' END"
    database.execute(f"UPDATE score SET moment = {words}")
    database.execute("PRAGMA user_version = 2")
    database.commit()
    database.close()
    with opened(path) as sink:
        sink.send([score(0), score(2)])  # the first is there already
        sink.flush()
    assert ask(path, "SELECT mode FROM score ORDER BY timestamp") == [
        ("online",), ("offline",), ("online",),
    ]  # fmt: skip


def test_other_files_are_refused_and_stay_what_they_are(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("my notes, longer than a hundred bytes" * 10)
    with pytest.raises(OutputError, match="not a database"):
        opened(text)
    other = tmp_path / "other.db"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE mine (a)")
    database.close()
    with pytest.raises(OutputError, match="something else"):
        opened(other)
    opened(tmp_path / "new.db").close()
    database = sqlite3.connect(tmp_path / "new.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(OutputError, match="format 99, newer than 3"):
        opened(tmp_path / "new.db")
    with pytest.raises(OutputError, match="cannot write"):
        opened(text / "out.db")
