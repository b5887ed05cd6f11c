"""A made-up host with faults, as the detector would have analysed it: input for tests of pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.report.cards import Fault
from imdiffusion.scoring.event import Event, find_events

# name, usual level, swing of the daily load, noise
CHANNELS = (
    ("cpu_user_percent", 24, 14, 2.5),
    ("cpu_system_percent", 6, 3, 0.8),
    ("cpu_iowait_percent", 1.2, 0.5, 0.3),
    ("load_1m", 1.1, 0.6, 0.12),
    ("memory_used_bytes", 3.1e9, 2e8, 2e7),
    ("memory_cached_bytes", 5.4e9, 1e8, 1e7),
    ("swap_used_bytes", 0, 0, 0),
    ("disk_read_bytes_per_s", 8e4, 3e4, 2e4),
    ("disk_write_bytes_per_s", 9e5, 4e5, 1.2e5),
    ("disk_busy_percent", 4, 2, 1),
    ("network_received_bytes_per_s", 1.6e6, 9e5, 1.1e5),
    ("network_sent_bytes_per_s", 4.4e6, 2.6e6, 3e5),
    ("network_errors_per_s", 0, 0, 0),
    ("context_switches_per_s", 9200, 4100, 500),
    ("interrupts_per_s", 5100, 1900, 260),
    ("page_faults_per_s", 1300, 500, 180),
    ("processes", 164, 4, 1),
    ("threads", 612, 30, 5),
    ("open_descriptors", 2240, 160, 14),
    ("tcp_established", 88, 52, 6),
)
# kind, what is known of it, start and length as shares of the series, channel -> change in noises
FAULTS: tuple[tuple[str, str, float, float, dict[str, float]], ...] = (
    ("cpu hog", "stress-ng --cpu 2", 0.10, 0.035, {"cpu_user_percent": 16, "load_1m": 14}),
    (
        "memory leak",
        "a process that takes 4 MB each second and never gives it back",
        0.27,
        0.06,
        {"memory_used_bytes": 40, "page_faults_per_s": 5, "memory_cached_bytes": -12},
    ),
    (
        "disk flood",
        "stress-ng --hdd 2",
        0.45,
        0.03,
        {"disk_write_bytes_per_s": 180, "disk_busy_percent": 60, "cpu_iowait_percent": 30},
    ),
    (
        "server down",
        "the web server is stopped",
        0.62,
        0.04,
        {"network_sent_bytes_per_s": -14, "tcp_established": -14, "context_switches_per_s": -12},
    ),
    ("fork storm", "stress-ng --fork 8", 0.78, 0.02, {"processes": 90, "threads": 25}),
    ("slow clock", "a drift that nothing measures", 0.88, 0.02, {}),
)


@dataclass(frozen=True)
class Story:
    """An analysis and what truly happened."""

    analysis: Any
    faults: list[Fault]


def story(
    rows: int = 3600,
    channels: int = len(CHANNELS),
    *,
    seed: int = 0,
    entity: str | None = None,
    timed: bool = True,
    missing: bool = True,
    names: tuple[str, ...] | None = None,
) -> Story:
    """`rows` half seconds of a host with `channels` channels (the twenty above, repeated)."""
    rng = np.random.default_rng(seed)
    table = [CHANNELS[k % len(CHANNELS)] for k in range(channels)]
    if names is None:
        names = tuple(
            name if k < len(CHANNELS) else f"{name}_{k // len(CHANNELS)}"
            for k, (name, *_) in enumerate(table)
        )
    time = np.arange(rows)
    load = np.sin(time / rows * 9) * 0.5 + 0.5 * (np.sin(time / 37) > 0.8)
    level, swing, noise = np.array([row[1:] for row in table], dtype=float).T
    expected = level + swing * load[:, None]
    smooth = np.apply_along_axis(
        np.convolve, 0, rng.normal(size=(rows, channels)), np.ones(3) / 2, "same"
    )
    values = expected + noise * smooth
    faults = _fault(values, table, noise, rows)
    values = np.maximum(values, 0) if not names[0].startswith("c0") else values
    observed = np.ones(values.shape, dtype=bool)
    if missing:
        observed[int(rows * 0.52) : int(rows * 0.55), channels // 2 :] = False
        observed[rng.random(values.shape) < 0.002] = False
    analysis = _analysed(values, observed, expected, noise, names, entity, timed)
    if timed:
        stamps = analysis.frame.timestamps
        faults = [Fault(stamps[f.start], stamps[f.end], f.kind, f.description) for f in faults]
    return Story(analysis, faults)


def _fault(values: NDArray[Any], table: list[Any], noise: NDArray[Any], rows: int) -> list[Fault]:
    """Put the faults into `values` in place; where they are, in rows."""
    faults = []
    for kind, description, at, part, changes in FAULTS:
        start, end = int(at * rows), int((at + part) * rows)
        ramp = np.linspace(0.2, 1, end - start) if kind == "memory leak" else np.ones(end - start)
        for k, (name, *_) in enumerate(table):
            values[start:end, k] += ramp * changes.get(name, 0) * noise[k]
        faults.append(Fault(start, end, kind, description))
    return faults


def _analysed(
    values: NDArray[Any],
    observed: NDArray[np.bool_],
    expected: NDArray[Any],
    noise: NDArray[Any],
    names: tuple[str, ...],
    entity: str | None,
    timed: bool,
) -> Any:
    rows = len(values)
    rng = np.random.default_rng(1)
    expected = expected + 0.25 * noise * rng.normal(size=values.shape)  # a model is never smooth
    scale = np.where(noise > 0, noise, 1.0)
    error = np.where(observed, ((values - expected) / scale) ** 2, np.nan)
    score = np.nanmean(error, axis=1)
    score = np.convolve(score, np.ones(5) / 5, "same") / 3.4
    seen = np.where(observed, values, np.nan)
    start = np.datetime64("2026-01-05T09:58:00", "ns")
    stamps = start + np.arange(rows) * np.timedelta64(500, "ms") if timed else None
    return analysis_of(
        values=seen,
        observed=observed,
        timestamps=stamps,
        names=names,
        entity=entity,
        score=score,
        channel_scores=error.astype(np.float32),
        expected=expected.astype(np.float32),
        reach=(2.8 * noise).astype(np.float32),
        events=find_events(score, error, seen, expected, names, merge_gap=20, min_length=3),
    )


def analysis_of(
    *,
    values: NDArray[Any],
    observed: NDArray[np.bool_],
    timestamps: NDArray[Any] | None,
    names: tuple[str, ...],
    entity: str | None,
    score: NDArray[Any],
    channel_scores: NDArray[Any],
    expected: NDArray[Any],
    reach: NDArray[Any],
    events: list[Event],
) -> Any:
    """The detector's Analysis of such arrays; `reach` (K,) is half the width of the band."""
    from imdiffusion.data.frame import Frame
    from imdiffusion.results import Analysis

    frame = Frame(values, observed, timestamps, names, entity)
    return Analysis(
        frame=frame,
        score=score,
        alarm=np.nan_to_num(score) > 1,
        channel_scores=channel_scores,
        expected=expected,
        lower=expected - reach,
        upper=expected + reach,
        events=events,
    )
