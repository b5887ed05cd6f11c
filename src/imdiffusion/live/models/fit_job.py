"""A fit in the background, as files in a folder of its own: what is asked, and what came of it.

job.json       what is asked; while it is there without a verdict, the fit is under way
rows           the rows that it is fitted on, as they were when it began
resume/        where an interrupted training goes on
verdict.json   what came of it
log.txt        stderr of the process
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import ModelError

JOB, VERDICT, ROWS, RESUME, LOG, LOCK = (
    "job.json", "verdict.json", "rows", "resume", "log.txt", "lock",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """What a fit is asked. state: the folder of the live state.

    train: "state", or a file. details: days that the live state keeps every row. incumbent: path
    of the active model, from the state folder; empty = the baseline. period: ns between
    rows, of the baseline. excluded, since: as of `champion_challenger.Shape`.
    """

    state: str
    entity: str
    channels: tuple[str, ...]
    period: int
    train: str
    details: float
    rows: int
    most_rows: int
    holdout: float
    keywords: Mapping[str, Any]
    baseline: str
    alarm_rate: float
    incumbent: str = ""
    incumbent_detector: str = ""
    incumbent_digest: str = ""
    excluded: tuple[tuple[int, int], ...] = ()
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a fit. path: of the model, from the state folder. made: ns, UTC.

    verdict: that of the contest. rows: that it was fitted and compared on.
    """

    entity: str
    digest: str
    detector: str
    path: str
    made: int
    rows: int
    won: bool
    reason: str
    verdict: Mapping[str, Any] = field(default_factory=dict)


def write_facts(path: Path, facts: Job | Outcome) -> None:
    """Write a job or an outcome, whole or not at all. Raises OutputError."""
    with atomic_path(path) as draft:
        draft.write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")


def read_job(folder: Path) -> Job:
    """What is asked in a folder. ModelError if that cannot be read."""
    facts = _facts(folder / JOB)
    try:
        spans = tuple((low, high) for low, high in facts.get("excluded", ()))
        return Job(**{**facts, "channels": tuple(facts["channels"]), "excluded": spans})
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(folder / JOB) from error


def read_outcome(folder: Path) -> Outcome | None:
    """What came of it; None if it is not over. ModelError if that cannot be read."""
    if not (folder / VERDICT).exists():
        return None
    try:
        return Outcome(**_facts(folder / VERDICT))
    except TypeError as error:
        raise _damaged(folder / VERDICT) from error


def clear(folder: Path) -> None:
    """Take away what only a fit that is under way needs."""
    (folder / JOB).unlink(missing_ok=True)
    (folder / ROWS).unlink(missing_ok=True)
    shutil.rmtree(folder / RESUME, ignore_errors=True)


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(facts, dict):
        raise _damaged(path)
    return facts


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path} cannot be read", remedy="Delete its folder: it is fitted again.")
