"""One run, one JSON line: what is in it, and how lines are read and appended.

A line holds these keys; `status` says which of the last two groups it has.

    schema     1
    id         16 hex digits of what was asked for: dataset, entity, variant, row, seed, and the
               settings that are not at their default
    plan       the plan it belongs to, such as "table"
    dataset, entity
    variant    name of the row in the tables
    row        the detector behind it: "fast", "paper", "mahalanobis", ...
    seed       int
    drawn      whether the seed changes the numbers; where not, one seed is all that is measured
    settings   the detector's settings, all of them, resolved
    versions   {"imdiffusion", "python", "numpy", "torch", ...}
    commit     of the checkout, with "+" where it was changed; null outside one
    host       {"cpu", "cores", "memory_gib", "gpu"}
    device     "cpu" or "cuda"
    threads    of one tensor operation
    date       ISO 8601, UTC
    status     "ok" or "failed"

    ok:        rows (train, test), channels, anomalous_share,
               seconds {"fit", "score", "evaluate"}, memory_mib (peak of the process; of the whole
               process, so the largest of what it ran so far), fit_shared (bool: the fit was done by
               another variant with the same training settings; its seconds are that fit's)
               metrics {protocol: {metric: float or null}}, protocols never mixed
               extra: what `ensembles.ensemble_curve` says, where there are diffusion steps
               warnings: what the library said about the data
    failed:    stage ("load", "fit", "score", "evaluate"), error {"type", "message"}
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from imdiffusion.errors import DataError

SCHEMA = 1
Record = dict[str, Any]


def run_id(**asked: Any) -> str:
    """16 hex digits that stand for what was asked for; the same question, the same digits."""
    text = json.dumps(asked, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and force it to disk: after a kill a file has whole lines and at most one torn.

    Non-finite numbers are written as null: "not defined", which no mean counts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(_finite(record), allow_nan=False, separators=(",", ":"))
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        torn = False
        if end:
            file.seek(end - 1)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(paths: Iterable[Path]) -> Iterator[Record]:
    """The runs of these files, the latest line of an id alone; a torn line is passed over.

    A torn line is one that ends a file or stands where a kill cut it. Raises DataError for a line
    of another schema and for a file that does not exist.
    """
    latest: dict[str, Record] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist", remedy="Run `imdiffusion bench run` first.")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut by a kill: its run is asked for again
            if not isinstance(record, dict) or record.get("schema") != SCHEMA:
                raise DataError(
                    f"{path}, line {number}: not a run of schema {SCHEMA}",
                    remedy="Read it with the version that wrote it, or leave it out.",
                )
            latest.pop(record["id"], None)
            latest[record["id"]] = record
    yield from latest.values()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
