"""`imdiffusion serve` under a steady load: whatever comes is scored, and memory stays flat

`make test` does it for seconds, `make soak` for an hour. It is measured from when memory has
settled: whatever is loaded late is loaded, caches are full. Memory is flat where the line through
its samples rises by less than a twentieth of it over all of the time that is measured, however
long that is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from live_far import TINY, Said, circle, get, put, wait_for

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConvergenceWarning
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.live.store.live_state import Store

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("IMDIFFUSION_SOAK_SECONDS", "6"))
RESULT = os.environ.get("IMDIFFUSION_SOAK_MEMORY_RESULT", "")
SECOND = 1_000_000_000
PACE, AT_ONCE = 0.1, 4  # seconds between two looks; rows of each entity at each of them
TURN = 200  # rows after which the file is set aside, and a new one begun
RISE = 0.05  # of the memory, over the whole time that is measured
SETTLED, STILL = 0.01, 40  # it has settled when so many samples differ by less than that share
LONGEST = 180.0  # seconds in which it has to settle
NAMES = ("a", "b", "c", "d")
MODEL = "watched"  # the entity a fitted model speaks for; the others have a baseline
CONFIGURATION = """
[[source]]
type = "files"
id = "lines"
path = "{folder}/lines.jsonl"
poll = 0.05
[[sink]]
type = "files"
path = "{folder}/out/told.jsonl"
max_bytes = 200_000
keep = 2
window = 1_000
[state]
path = "{folder}/state"
details = 0.01
scores = 0.5
feed = 2_000
[stream]
interval = 1
offline = true
stale_after = 1e9
[fit]
enabled = false
[serve]
port = 0
"""


def prepare(folder: Path, start: int) -> None:
    """A state in which a small fitted model is live for one entity."""
    places = Places(folder / "state")
    places.make()
    times = (start - np.arange(400, 0, -1) * SECOND).astype("datetime64[ns]")
    values = circle(400)
    frame = Frame(values, np.ones(values.shape, bool), times, NAMES, MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = ImDiffusion(**{**TINY, "max_steps": 20, "validate_every": 20}).fit(frame)
    entity = detector.entity()
    digest = EntityScorer(entity).model
    detector.save(places.folder / "models" / "one")
    with Store(places.live) as store:
        store.add_model(MODEL, digest, detector="fast", path="models/one", now=start)
        store.promote(MODEL, digest, reason="by hand", now=start)


class Load:
    """Rows of three entities: two in a file that grows and is rotated, one over HTTP."""

    def __init__(self, folder: Path, address: str, start: int) -> None:
        self.path, self.address, self.start = folder / "lines.jsonl", address, start
        self.values = circle(4_096)
        self.row = self.turned = 0

    def _rows(self, *entities: str) -> list[dict[str, object]]:
        return [
            {"entity": name, "timestamp": self.start + row * SECOND,
             **dict(zip(NAMES, self.values[row % len(self.values)].tolist(), strict=True))}
            for row in range(self.row, self.row + AT_ONCE) for name in entities
        ]  # fmt: skip

    def more(self) -> None:
        """The next rows of each; the file is rotated once all of it was scored."""
        if self.row - self.turned >= TURN and self.scored("lines") == 2 * self.row:
            self.path.rename(self.path.with_name("lines.jsonl.1"))
            self.turned = self.row
        with self.path.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in self._rows(MODEL, "plain"))
        assert put(f"{self.address}/api/ingest", {"rows": self._rows("pushed")}) == 202
        self.row += AT_ONCE

    def metric(self, pattern: str) -> float:
        found = re.search(rf"^{pattern} (\S+)$", get(f"{self.address}/metrics"), re.MULTILINE)
        return 0.0 if found is None else float(found[1])

    def scored(self, source: str) -> int:
        return int(self.metric(f'imdiffusion_done_total{{what="rows",of="{source}"}}'))


def rise(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Of (seconds, bytes): bytes that the fitted line rises by over them, and where it begins."""
    times, held = np.array(samples).T
    slope, begin = np.polyfit(times - times[0], held, 1)
    return float(slope * (times[-1] - times[0])), float(begin)


def settled(samples: list[tuple[float, float]]) -> bool:
    held = [one for _, one in samples[-STILL:]]
    return len(held) == STILL and max(held) - min(held) < SETTLED * max(held)


def test_memory_stays_flat_under_a_steady_load(start, tmp_path):
    first = time.time_ns() // SECOND * SECOND - 2 * 86_400 * SECOND
    prepare(tmp_path, first)
    config = tmp_path / "imdiffusion.toml"
    config.write_text(CONFIGURATION.format(folder=tmp_path))
    process = start("serve", "--config", config)
    said = Said(process.stderr)
    address = wait_for(lambda: said.has("Serving on"), process).split()[2].rstrip(";")
    load, watched = Load(tmp_path, address, first), psutil.Process(process.pid)
    samples: list[tuple[float, float]] = []
    warm, began = True, time.monotonic()
    while warm or samples[-1][0] - samples[0][0] < SECONDS:
        load.more()
        assert process.poll() is None, said.rest()
        samples.append((time.monotonic() - began, float(watched.memory_info().rss)))
        if warm and load.turned and settled(samples):
            warm, samples = False, samples[-1:]
        assert not warm or samples[-1][0] < LONGEST, "memory never settles"
        time.sleep(PACE)
    wait_for(lambda: load.scored("lines") == 2 * load.row, process)
    wait_for(lambda: load.scored("http") == load.row, process)
    for reason in ("failed", "rejected", "rows_shed", "states_refused"):
        assert load.metric(f'imdiffusion_passed_over_total{{reason="{reason}",of=".*"}}') == 0
    grown, held = rise(samples)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, said.rest()
    assert "Traceback" not in said.rest()
    assert grown < RISE * held, f"{grown / 1e6:.1f} of {held / 1e6:.0f} MB"
    if RESULT:
        facts = {
            "seconds": round(samples[-1][0] - samples[0][0]), "rows": 3 * load.row,
            "memory_mb": round(held / 1e6, 1), "risen_mb": round(grown / 1e6, 2),
            "allowed_mb": round(RISE * held / 1e6, 1), "samples": len(samples),
        }  # fmt: skip
        Path(RESULT).write_text(json.dumps(facts, indent=2) + "\n")


def test_a_line_that_rises_is_seen():
    flat = [(second, 300e6 + 1e6 * (-1) ** second) for second in range(60)]
    assert rise(flat)[0] < RISE * 300e6
    leak = [(second, 300e6 + 0.4e6 * second) for second in range(60)]
    assert rise(leak)[0] > RISE * 300e6
