"""Runs of live_child.py or another on two growing files, and what must be true of them"""

import json
import subprocess
import sys
import threading
from pathlib import Path

from live_parts import write_rows

from imdiffusion.live.store.queries import Reader

HERE = Path(__file__).parent
ROWS = 160
FAR = 2**62


def story(folder):
    """The files that are watched."""
    for name in ("web", "db"):
        write_rows(folder / name, [name], ROWS)


def child(folder, *death, after=None, before=(), until=None, program="live_child.py", words=()):
    """Run until it ends, dies where it was told to, or `after` seconds have passed.

    before: a command that runs it. until: what it says before it is killed. program: of this
    folder; words: what it is told beside the folder, before how it dies. Whether it came to its
    end.
    """
    with subprocess.Popen(
        [*before, sys.executable, HERE / program, folder, *words, *map(str, death)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(after or 60, process.kill)
        timer.start()
        err = ""
        for text in process.stderr:
            err += text
            if until is not None and until in text:
                process.kill()
        out = process.stdout.read()
        process.wait()
        timer.cancel()
    assert process.returncode in (0, -9), err
    return out == "done\n"


def told(folder, *, settled=True):
    """What the live state holds: {key: score}, {key: turn}; settled: all of it was sent."""
    with Reader(folder / "live.db") as reader:
        scores = {
            one.key: json.dumps(one.to_dict())
            for entity in ("web", "db")
            for mode in ("online", "offline")
            for one in reader.scores(entity, 0, FAR, mode=mode)
            if one.state != "stale"
        }
        turns = {
            one.key: json.dumps(one.to_dict())
            for event in reader.events(limit=999)
            for one in reader.event(event.id)
        }
        assert not settled or set(reader.waiting().values()) == {0}
        assert "shed" not in {name for name, _ in reader.counters()}
    return scores, turns


def sent(path):
    """What a sink has seen: {key: record}; the same key never said two things."""
    seen = {}
    for text in path.read_text().splitlines():
        fact = json.loads(text)
        if fact["kind"] == "score":
            key = (fact["entity"], fact["timestamp"], fact["mode"], fact["model"])
        else:
            key = (fact["id"], fact["update"])
        assert seen.setdefault(key, fact) == fact, f"two things were said of {key}"
    return seen


def check(folder, whole):
    scores, turns = told(folder)
    assert scores == whole[0]
    assert turns == whole[1]
    assert len(scores) >= 2 * ROWS
    for name in ("first", "second"):
        seen = sent(folder / f"{name}.out")
        assert seen.keys() == scores.keys() | turns.keys()
