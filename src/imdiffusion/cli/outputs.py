"""Checks on output paths before hours of work, not after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion import wording
from imdiffusion.data.atomic import check_writable
from imdiffusion.data.timestamps import text_of
from imdiffusion.errors import OutputError, UsageError
from imdiffusion.results import duration, moment

if TYPE_CHECKING:
    from imdiffusion.results import Analysis
    from imdiffusion.scoring.event import Event

TABLES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")


def check_output(
    path: Path, suffixes: tuple[str, ...] = TABLES, *, inputs: Sequence[Path] = ()
) -> None:
    """Raise before the work if the file `path` cannot be written after it.

    Raises UsageError for a suffix that is not one of `suffixes` and for one of the `inputs`, which
    would be replaced; OutputError for a folder in its
    place or a folder around it that is missing or cannot be written to.
    """
    if not path.name.lower().endswith(suffixes):
        raise UsageError(
            f"{path} does not end in {' or '.join(suffixes)}",
            remedy="The suffix chooses the format.",
        )
    if path.resolve() in [one.resolve() for one in inputs]:
        raise UsageError(
            f"{path} is an input and would be replaced", remedy="Write to another file."
        )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder", remedy="Name a file in it.")
    check_writable(path)


def check_model_output(folder: Path) -> None:
    """Raise OutputError before training if a model cannot be saved as `folder` after it."""
    if folder.exists() and not (folder / "manifest.json").is_file():
        if not folder.is_dir():
            raise OutputError(
                f"cannot write the model {folder}: it is a file", remedy="Name a folder."
            )
        if any(folder.iterdir()):
            raise OutputError(
                f"cannot write the model {folder}: it holds other files",
                remedy="Name a new folder, or empty this one.",
            )
    check_writable(folder)


# -- events and scores as rows: for a terminal, for JSON, and for a file

TOLD_CHANNELS = 3  # of an event on a terminal, and fewer where these explain this much of it
TOLD_SHARE = 0.9


def summary(analyses: Sequence[Analysis]) -> dict[str, int]:
    """Counts over all entities, of the caller's own rows; `anomalous` ones score above 1."""
    own = [_own(analysis) for analysis in analyses]
    pairs = list(zip(analyses, own, strict=True))
    return {
        "entities": len(analyses),
        "rows": sum(int(mine.sum()) for mine in own),
        "scored": sum(int(np.isfinite(a.score[mine]).sum()) for a, mine in pairs),
        "anomalous": sum(int(a.alarm[mine].sum()) for a, mine in pairs),
        "events": sum(len(analysis.events) for analysis in analyses),
    }


def event_records(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """One flat JSON object an event, with the columns of `ImDiffusion.detect`.

    Times are ISO 8601 in UTC, or row positions where there are no timestamps; NaN is None.
    """
    named = any(analysis.frame.entity is not None for analysis in analyses)
    return [
        ({"entity": analysis.frame.entity} if named else {})
        | {
            name: iso(moment(analysis.frame, getattr(event, name)))
            for name in ("start", "end", "peak")
        }
        | {
            "duration": duration(analysis.frame, event),
            "score": finite(event.score),
            "channels": list(event.channels),
            "shares": [finite(value) for value in event.shares],
            "expected": [finite(value) for value in event.expected],
            "seen": [finite(value) for value in event.seen],
            "kinds": list(event.kinds),
            "reason": event.reason,
        }
        for analysis in analyses
        for event in analysis.events
    ]


def event_cells(analyses: Sequence[Analysis]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and rows of the table that people read."""
    named = any(analysis.frame.entity is not None for analysis in analyses)
    columns = ("start", "end", "lasts", "peak", "channels: share, seen (expected)")
    rows = []
    for analysis in analyses:
        for event in analysis.events:
            entity = (str(analysis.frame.entity or ""),) if named else ()
            rows.append((*entity, *told_event(analysis, event)))
    return (("entity", *columns) if named else columns), rows


def told_event(analysis: Analysis, event: Event) -> tuple[str, ...]:
    """Start, end, length, peak score and the channels that matter most, in words.

    The reason stands in the place of the channels, where a check found more than numbers say.
    """
    frame, length = analysis.frame, duration(analysis.frame, event)
    start, end = (wording.moment(moment(frame, row)) for row in (event.start, event.end))
    same_day = frame.timestamps is not None and start[:10] == end[:10]
    return (
        start,
        end[11:] if same_day else end,
        told_length(length, temporal=frame.timestamps is not None),
        wording.number(event.score),
        event.reason if any(event.kinds) else "\n".join(told_channels(event)),
    )


def told_channels(event: Event) -> list[str]:
    """The most responsible channels: "cpu 61%: 99.1 (50.2)"."""
    lines: list[str] = []
    told = 0.0
    for channel, share, seen, expected in zip(
        event.channels, event.shares, event.seen, event.expected, strict=True
    ):
        if len(lines) == TOLD_CHANNELS or told >= TOLD_SHARE or not share > 0:
            break
        told += share
        values = f"{wording.number(seen)} ({wording.number(expected)})"
        lines.append(f"{channel} {wording.share(share)}: {values}")
    return lines


def told_length(length: float, *, temporal: bool) -> str:
    """A duration in seconds, or a number of rows, in words."""
    return wording.duration(length) if temporal else f"{length:,.0f} rows"


def iso(value: np.datetime64 | int) -> str | int:
    """A time as ISO 8601 in UTC; a position as it is."""
    return text_of(value) if isinstance(value, np.datetime64) else int(value)


def finite(value: float) -> float | None:
    """The number, or None for what JSON has no word for."""
    return float(value) if math.isfinite(value) else None


def _own(analysis: Analysis) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows are the caller's, and not put in for a gap."""
    rows = analysis.frame.rows
    own = np.ones(len(analysis.score), dtype=np.bool_) if rows is None else rows >= 0
    return np.asarray(own, dtype=np.bool_)
