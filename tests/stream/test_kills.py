"""Killed with SIGKILL at every step of its work, live detection loses and contradicts nothing

`make soak` takes 200 kills, half of them at a moment that a clock draws; `make test` five.
"""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from live_child import STAGES
from live_parts import write_rows

from imdiffusion.stream.queries import Reader

HERE = Path(__file__).parent
KILLS = int(os.environ.get("IMDIFFUSION_KILLS", "5"))
ROWS = 160
FAR = 2**62


def child(folder, *death, after=None):
    """Run until it ends, dies where it was told to, or `after` seconds have passed."""
    with subprocess.Popen(
        [sys.executable, HERE / "live_child.py", folder, *map(str, death)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(after or 60, process.kill)
        timer.start()
        out, err = process.communicate()
        timer.cancel()
    assert process.returncode in (0, -9), err
    return out == "done\n"


def told(folder):
    """What the live state holds: {key: score}, {key: turn}."""
    with Reader(folder / "live.db") as reader:
        scores = {
            one.key: json.dumps(one.to_dict())
            for entity in ("web", "db")
            for moment in ("arrival", "hindsight")
            for one in reader.scores(entity, 0, FAR, moment=moment)
            if one.state != "stale"
        }
        turns = {
            one.key: json.dumps(one.to_dict())
            for event in reader.events(limit=999)
            for one in reader.event(event.id)
        }
        assert reader.waiting() == {"first": 0, "second": 0}
        assert reader.counters().get(("shed", "first"), 0) == 0
    return scores, turns


def sent(path):
    """What a sink has seen: {key: record}; the same key never said two things."""
    seen = {}
    for text in path.read_text().splitlines():
        fact = json.loads(text)
        if fact["kind"] == "score":
            key = (fact["entity"], fact["timestamp"], fact["moment"], fact["model"])
        else:
            key = (fact["id"], fact["turn"])
        assert seen.setdefault(key, fact) == fact, f"two things were said of {key}"
    return seen


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory):
    """What an undisturbed run tells."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("web", "db"):
        write_rows(folder / name, [name], ROWS)
    assert child(folder)
    return told(folder)


def test_kills_at_any_step_lose_and_contradict_nothing(tmp_path, whole):
    for name in ("web", "db"):
        write_rows(tmp_path / name, [name], ROWS)
    generator = random.Random(KILLS)
    stages = list(STAGES)
    generator.shuffle(stages)
    died, number = 0, 0
    while died < KILLS:
        # Rows are added as it goes, so that there is work left for every kill.
        stage = stages[number % len(stages)]
        number += 1
        if number % 2 or KILLS < 20:
            ended = child(tmp_path, stage, generator.randrange(2, 9))
        else:
            ended = child(tmp_path, after=generator.uniform(0.3, 1.2))
        died += not ended
        if ended:  # it came to the end of the files: begin a new story
            check(tmp_path, whole)
            for path in tmp_path.iterdir():
                path.unlink()
            for name in ("web", "db"):
                write_rows(tmp_path / name, [name], ROWS)
    assert child(tmp_path)
    check(tmp_path, whole)


def check(folder, whole):
    scores, turns = told(folder)
    assert scores == whole[0]
    assert turns == whole[1]
    assert len(scores) >= 2 * ROWS
    for name in ("first", "second"):
        seen = sent(folder / f"{name}.out")
        assert seen.keys() == scores.keys() | turns.keys()
