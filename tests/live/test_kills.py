"""Killed with SIGKILL at every step of its work, live detection loses and contradicts nothing

`make soak` takes 200 kills, half of them at a moment that a clock draws; `make test` five.
"""

import json
import os
import platform
import random
import time
from collections import Counter
from itertools import cycle
from pathlib import Path

import pytest
from live_child import STAGES
from live_runs import check, child, story, told

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("IMDIFFUSION_KILLS", "5"))
RESULT = os.environ.get("IMDIFFUSION_SOAK_RESULT", "")
SHORT = ("ingest", "score", "write", "flush", "commit")


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory):
    """What an undisturbed run tells."""
    folder = tmp_path_factory.mktemp("whole")
    story(folder)
    assert child(folder)
    return told(folder)


def test_kills_at_any_step_lose_and_contradict_nothing(tmp_path, whole):
    generator, began = random.Random(KILLS), time.monotonic()
    stages = cycle([*SHORT, *(stage for stage in STAGES if stage not in SHORT)])
    died, number, stories = Counter(), 0, 0
    story(tmp_path)
    while died.total() < KILLS:
        number += 1
        if number % 2 or KILLS < 20:  # by name, or by the clock
            stage = next(stages)
            ended = child(tmp_path, stage, generator.randrange(9))
        else:
            stage = "any moment"
            ended = child(tmp_path, after=generator.uniform(0.3, 1.2))
        died[stage] += not ended
        if ended:  # it came to the end of the files: begin a new story
            check(tmp_path, whole)
            for path in tmp_path.iterdir():
                path.unlink()
            story(tmp_path)
            stories += 1
    assert child(tmp_path)
    check(tmp_path, whole)
    if RESULT:
        facts = {
            "kills": dict(sorted(died.items())), "total": died.total(), "stories": stories + 1,
            "lost": 0, "contradicted": 0, "seconds": round(time.monotonic() - began),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        }  # fmt: skip
        Path(RESULT).write_text(json.dumps(facts, indent=2) + "\n")
