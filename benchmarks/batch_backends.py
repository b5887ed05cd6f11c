"""What Ray costs beside a process pool: 60 entities fitted and scored by each backend in turn.

Both have one worker a core with one thread each, begun anew in each call as a user's call does, so
the start of Ray's own processes is in its numbers. Fits are a tenth of the default's length, so
that what comes on top shows. Goal: at most 15 % over `local`. Besides: splitting one Parquet
file of these entities, by one process and by Ray Data. Leave it all cores.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from imdiffusion import batch
from imdiffusion.batch import ray as ray_backend
from imdiffusion.data.layout import FileOptions
from imdiffusion.devices import core_count

CHANNELS, BACKENDS = 10, ("local", "ray")
START = np.datetime64("2026-01-01", "ns")
TURNS = 3  # each backend so often, in turn: the median counts


def series(rows: int, seed: int) -> pa.Table:
    """Coupled waves with noise, a row a minute."""
    generator = np.random.default_rng(seed)
    wave = np.sin(np.arange(rows)[:, None] / np.linspace(5, 90, CHANNELS))
    values = wave + 0.1 * generator.normal(size=wave.shape)
    columns = {"timestamp": START + np.arange(rows) * np.timedelta64(60, "s")}
    return pa.table(columns | {f"c{k}": values[:, k] for k in range(CHANNELS)})


def make(folder: Path, entities: int, rows: int) -> Path:
    """One file an entity in folder/each, all of them in folder/all.parquet."""
    tables = [series(rows, seed) for seed in range(entities)]
    (folder / "each").mkdir()
    for number, table in enumerate(tables):
        parquet.write_table(table, folder / "each" / f"e{number:02d}.parquet")
    named = [
        table.append_column("entity", pa.array([f"e{number:02d}"] * rows))
        for number, table in enumerate(tables)
    ]
    parquet.write_table(pa.concat_tables(named), folder / "all.parquet", row_group_size=rows)
    return folder / "each"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def call(backend: str, data: Path, out: Path, **settings: Any) -> dict[str, float]:
    """Seconds to fit and to score all entities with one backend, in folders of this call."""
    jobs = core_count()
    crew: dict[str, Any] = {"backend": backend, "jobs": jobs, "threads": 1}

    def fit() -> None:
        found = batch.fit(data, out / "models", **crew, **settings)
        assert not found.failed, found.failed

    def detect() -> None:
        found = batch.detect(data, out / "models", out / "results", **crew)
        assert not found.failed, found.failed

    return {"fit_s": seconds(fit), "detect_s": seconds(detect)}


def apart(folder: Path) -> list[dict[str, object]]:
    """Seconds to split one file of all entities; Ray Data on a cluster that runs already."""
    backend = ray_backend.RayBackend("", jobs=1, threads=1, gpus=0.0)
    rows: list[dict[str, object]] = []
    try:
        for name, least in (("by one process", 1 << 60), ("by Ray Data", 0)):
            ray_backend.RAY_DATA_BYTES = least
            into = folder / f"parts {name}"
            into.mkdir()
            path = folder / "all.parquet"
            taken = seconds(lambda: backend.split(path, into, FileOptions()))  # noqa: B023
            size = (folder / "all.parquet").stat().st_size / 1e6
            rows.append({"what": f"split {name}", "megabytes": size, "seconds": taken})
    finally:
        backend.close()
    return rows


def main() -> None:
    """Measure and keep the rows."""
    small = ledger.small()
    entities, rows, turns = (2, 200, 1) if small else (60, 2_000, TURNS)
    settings = (
        {"max_steps": 5, "validate_every": 5} if small else {"max_steps": 60, "validate_every": 20}
    )
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in BACKENDS}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        data = make(folder, entities, rows)
        for turn in range(turns):
            for backend in BACKENDS:
                place = folder / f"{backend} {turn}"
                taken[backend].append(call(backend, data, place, **settings))
        kept: list[dict[str, object]] = []
        for what in ("fit_s", "detect_s"):
            middle = {on: float(np.median([one[what] for one in taken[on]])) for on in BACKENDS}
            kept.append(
                {
                    "what": f"{entities} entities, {what.removesuffix('_s')}",
                    **{f"{on}_s": value for on, value in middle.items()},
                    "overhead": middle["ray"] / middle["local"] - 1,
                }
            )
        kept += apart(folder)
    ledger.keep("batch_backends", kept, small=small)


if __name__ == "__main__":
    main()
