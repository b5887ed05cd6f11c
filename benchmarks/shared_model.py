"""One network for many entities: fit time, quality, size on disk, and 10,000 of them in memory.

The 30 services of GCP share one network (`scope="shared"`); beside it stand the recorded runs of a
network each (docs/results/runs/headline.jsonl, the same seed). Each of the 10,000 is an entity of
38 channels as live detection holds it: calibration, imputer, buffers that are full.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import ledger
import numpy as np
import psutil

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.shared_model import fallback_entity
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.metrics.range_based import surface
from imdiffusion_bench.record import read

RUNS = Path(__file__).parent.parent / "docs" / "results" / "runs" / "headline.jsonl"
CHANNELS = 38
PROMISE: dict[str, Any] = {"alarm_rate": 0.01, "calibrate_on": "all"}  # as every row promises


def alone(name: str) -> dict[str, float]:
    """VUS-PR of a network of its own, by entity, as it was recorded with seed 0."""
    return {
        run["entity"]: run["metrics"]["label_free"]["vus_pr"]
        for run in read([RUNS])
        if run["dataset"] == name and run["seed"] == 0 and run["status"] == "ok"
    }


def shared(name: str, folder: Path) -> dict[str, object]:
    """Fit a whole data set as one fleet, and score it."""
    source = open_source(name, folder)
    splits = {entity: source.load(entity) for entity in source.entities()}
    detector = ImDiffusion(scope="shared", **PROMISE)
    start = time.perf_counter()
    detector.fit({entity: split.train for entity, split in splits.items()})
    fitted = time.perf_counter()
    score = detector.decision_function({entity: split.test for entity, split in splits.items()})
    scored = time.perf_counter()
    quality = {
        entity: surface(np.asarray(split.truth.label()).astype(bool), score[entity])["vus_pr"]
        for entity, split in splits.items()
    }
    own = alone(name)
    return {
        "what": f"{name}, one network",
        "entities": len(splits),
        "fit_s": round(fitted - start, 1),
        "points_per_s": round(sum(len(one) for one in score.values()) / (scored - fitted)),
        "vus_pr": round(float(np.mean(list(quality.values()))), 4),
        "vus_pr_of_a_network_each": round(float(np.mean([own[entity] for entity in quality])), 4),
        "entities_that_gain": sum(quality[entity] > own[entity] for entity in quality),
    }


def on_disk(detector: ImDiffusion, more: int) -> float:
    """Kilobytes that one more entity adds to a model folder."""

    def size(path: Path) -> int:
        detector.save(path)
        return sum(file.stat().st_size for file in path.iterdir())

    noise = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        before = size(Path(name) / "a")
        detector.enroll({f"m{n}": noise.normal(size=(500, CHANNELS)) for n in range(more)})
        return (size(Path(name) / "b") - before) / more / 1e3


def in_memory(detector: ImDiffusion, entities: int) -> float:
    """Gigabytes that so many entities and their live buffers take, weights included."""
    like = detector.entity(detector.entities_[0])
    rows = np.random.default_rng(2).normal(size=(250, CHANNELS))
    times = (np.arange(250) * 60_000_000_000).astype("datetime64[ns]")
    full = EntityScorer(fallback_entity([like], "host"))  # one name: a state is its model's alone
    full.push(Frame(rows, np.ones(rows.shape, bool), times, like.channels, "host"))
    state, process, held = full.to_state(), psutil.Process(), []
    before = process.memory_info().rss
    for _ in range(entities):
        fresh = EntityScorer(fallback_entity([like], "host"))
        held.append(EntityScorer.from_state(state, fresh))
    return float(process.memory_info().rss - before) / 1e9


def main() -> None:
    """Measure and keep the rows."""
    small = ledger.small()
    folder = None if small else ledger.data_folder()
    rows: list[dict[str, object]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GCP has constant channels; noise does not converge
        if folder is not None:
            rows.append(shared("GCP", folder))
        noise = np.random.default_rng(0)
        data = {f"h{n}": noise.normal(size=(500, CHANNELS)) for n in range(2)}
        detector = ImDiffusion(scope="shared", max_steps=2, validate_every=2).fit(data)
        more, many = (2, 20) if small else (10, 10_000)
        kilobytes = round(on_disk(detector, more), 2)
        rows.append({"what": "one more entity of 38 channels on disk", "kB": kilobytes})
        gigabytes = round(in_memory(detector, many), 3)
        rows.append({"what": f"{many:,} entities in memory", "GB": gigabytes})
    ledger.keep("shared_model", rows, small=small)


if __name__ == "__main__":
    main()
