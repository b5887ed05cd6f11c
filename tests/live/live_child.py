"""A process that watches a file until it has no more rows; killed on the way, if it is told where.

    python live_child.py FOLDER [STAGE COUNT]

STAGE names a step of the work, COUNT how many rows of it are let be: it dies by SIGKILL at the
next, before or in the midst of it. At its end it prints "done".
"""

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from live_parts import LineSink, LineSource, ZScorer, zscorer

from imdiffusion.errors import SourceEnded
from imdiffusion.live.engine.engine import Engine, run
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.store import inserts, live_state
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.retention import Retention

# The rows are of long ago: on a slow machine they would go by their age while they come.
FOREVER = Retention(details=1e5, kept=1e5, scores=1e5, peaks=1e5, events=1e5)
# Where it may die: (class, method, before or after the method's own work).
STAGES = {
    "ingest": (LineSource, "read", "after"),
    "score": (ZScorer, "_one", "after"),
    "dump": (ZScorer, "dump", "before"),
    "write": (inserts.Inserts, "_feed", "after"),
    "counted": (inserts.Inserts, "count", "before"),
    "state": (live_state.Store, "write", "before"),
    "written": (live_state.Store, "write", "after"),
    "send": (LineSink, "send", "after"),
    "flush": (LineSink, "flush", "before"),
    "flushed": (LineSink, "flush", "after"),
    "advanced": (live_state.Store, "advance", "after"),
    "commit": (LineSource, "commit", "before"),
    "committed": (LineSource, "commit", "after"),
}


class Ending(LineSource):
    """A file that is read to its end and no further."""

    def read(self, timeout):
        batch = super().read(timeout)
        if batch is None:
            raise SourceEnded(f"{self.path} is read")
        return batch


def die_at(stage, count, stages=STAGES):
    owner, name, when = stages[stage]
    own, left = getattr(owner, name), iter(range(count))

    def dying(*args, **options):
        found = own(*args, **options) if when == "after" else None
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return found if when == "after" else own(*args, **options)

    setattr(owner, name, dying)


def watch(folder):
    with Store(folder / "live.db", retention=FOREVER) as state:
        engine = Engine(
            state,
            sources={name: Ending(folder / name, lines=5) for name in ("web", "db")},
            sinks={name: LineSink(folder / f"{name}.out") for name in ("first", "second")},
            scorer_for=partial(zscorer, offline=True),
            rules=EventRules(quiet=600, renotify=120),
            options=EngineOptions(
                every=0.001, rows=20, poll=0.01, retry=0.05, batch=9, offline=True
            ),
        )
        engine.open()
        run(engine, threading.Event())


if __name__ == "__main__":
    if len(sys.argv) > 2:
        die_at(sys.argv[2], int(sys.argv[3]))
    watch(Path(sys.argv[1]))
    print("done")
