"""The process that fits a model in the background, and goes on where it was when started again.

in   {"folder": "STATE/fits/NAME"}
out  {"exit_code": 0, "error": ""}, and the verdict in the folder; or why there is none
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from imdiffusion import presets
from imdiffusion.data.atomic import atomic_path
from imdiffusion.data.files import read
from imdiffusion.data.frame import Frame
from imdiffusion.durations import DAY_NS
from imdiffusion.errors import DataError, ImDiffusionError
from imdiffusion.live.models.champion_challenger import (
    Contestant,
    Verdict,
    blanked,
    contest,
    within,
)
from imdiffusion.live.models.fit_job import (
    LOCK,
    RESUME,
    ROWS,
    VERDICT,
    Job,
    Outcome,
    read_job,
    write_facts,
)
from imdiffusion.live.models.pinned import Places, speaker_of
from imdiffusion.live.scorers.cold_start import ColdStartScorer
from imdiffusion.live.scorers.fitted import Scorer
from imdiffusion.live.store.queries import Reader
from imdiffusion.saved_state import State
from imdiffusion.workers import Message, serve

KIND = "training rows"
MOST_HELD = 1_500  # held-out rows that the models are compared on
CONTEXT = 512  # rows before those that a model reads; a baseline learns from all of them


def rows_of(job: Job, folder: Path) -> Frame:
    """The rows to fit on, frozen at the first start. DataError where there are too few."""
    place = folder / ROWS
    if place.exists():
        state = State.from_bytes(place.read_bytes()).check(KIND)
        return _frame(job, state.array("times", np.int64), state.array("rows", np.float64))
    frame = _from_state(job) if job.train == "state" else _from_file(job)
    if len(frame) < job.rows:
        raise DataError(
            f"there are {len(frame)} rows of {job.entity!r} to fit on, {job.rows} are needed",
            remedy="Keep details for longer ([state] details), or ask for fewer ([fit] rows).",
        )
    times = frame.timestamps
    assert times is not None  # noqa: S101  both ways give them
    rows = np.where(frame.observed, frame.values, np.nan)
    state = State(KIND, arrays={"times": times.astype(np.int64), "rows": rows})
    with atomic_path(place) as draft:
        draft.write_bytes(state.to_bytes())
    return frame


def _frame(job: Job, times: np.ndarray, rows: np.ndarray) -> Frame:
    stamps = times.astype("datetime64[ns]")
    return Frame(rows, ~np.isnan(rows), stamps, job.channels, job.entity)


def _from_state(job: Job) -> Frame:
    # Older than that only rows around events are kept: too many faults to learn from.
    since = max(time.time_ns() - round(job.details * DAY_NS), job.since or 0)
    with Reader(Places(Path(job.state)).live) as reader:
        found = reader.details(job.entity, since, 2**62, limit=job.most_rows, channels=job.channels)
    _, first = np.unique(found.timestamps, return_index=True)  # one that two models have judged
    return _frame(job, found.timestamps[first], found.cells[first, 0].astype(np.float64))


def _from_file(job: Job) -> Frame:
    found = read(job.train)
    if isinstance(found, dict):
        if job.entity not in found:
            raise DataError(f"{job.train} has no entity {job.entity!r}")
        found = found[job.entity]
    if found.timestamps is None:
        raise DataError(f"{job.train} has no times", remedy="Give a file with a time column.")
    if not set(found.channels) & set(job.channels):
        raise DataError(f"{job.train} has none of the channels of {job.entity!r}")
    own = found.select(job.channels)
    return replace(own.slice(max(0, len(own) - job.most_rows)), entity=job.entity, rows=None)


def fit(job: Job, folder: Path) -> Outcome:
    """Fit, compare, save: what came of it."""
    rows = rows_of(job, folder)  # first: too few of them are an error before torch is loaded
    from imdiffusion import ImDiffusion
    from imdiffusion.live.scorers.fitted import EntityScorer

    detector = ImDiffusion(**job.keywords)
    split = len(rows) - round(job.holdout * len(rows))
    window = presets.resolve(detector.preset, detector._overrides).window
    rows = rows.select(worth_learning(rows.slice(0, split), window))
    train = rows.slice(0, split)
    detector.fit(train, exclude=within(train, job.excluded), checkpoint=folder / RESUME)
    entity = detector.entity()
    name = str(job.keywords.get("preset", "fast"))
    digest = EntityScorer(entity, detector=name).model
    path = Path("models", folder.name, digest)
    place = Path(job.state) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    verdict = compare(job, lambda: EntityScorer(entity, detector=name), rows, split)
    detector.save(place)
    return Outcome(
        job.entity, digest, name, str(path), time.time_ns(), len(rows), verdict.won,
        verdict.reason, verdict.to_dict(),
    )  # fmt: skip


def worth_learning(rows: Frame, least: int) -> tuple[str, ...]:
    """The channels that at least so many rows observed; DataError where none was.

    One that has just come waits for a later fit: a few values do not say what is normal of it. One
    that is gone, or has another name by now, is left out.
    """
    seen = rows.observed.sum(axis=0)
    names = tuple(name for name, count in zip(rows.channels, seen, strict=True) if count >= least)
    if not names:
        raise DataError(
            f"no channel of {rows.entity!r} was observed in {least} rows, which is a window",
            remedy="Wait for more rows, or set a shorter window.",
        )
    if left := sorted(set(rows.channels) - set(names)):
        sys.stderr.write(f"left out, for hardly a row observed them: {', '.join(left)}\n")
    return names


def compare(job: Job, challenger: Callable[[], Scorer], rows: Frame, split: int) -> Verdict:
    """The contest against the active scorer, on the rows from `split` on."""
    start = max(split, len(rows) - MOST_HELD)
    rows = blanked(rows, job.excluded)  # to flag a fault that is confirmed is no false alarm
    incumbent = Contestant(
        lambda: _incumbent(job, rows.channels), CONTEXT if job.incumbent else start
    )
    return contest(
        Contestant(challenger, CONTEXT),
        incumbent,
        rows.slice(0, start),
        rows.slice(start),
        promise=job.alarm_rate,
        seed=int(job.keywords.get("seed", 0)),
    )


def _incumbent(job: Job, channels: tuple[str, ...]) -> Scorer:
    """The active model, or the baseline; a model that cannot be read has lost its place."""
    if job.incumbent:
        from imdiffusion import ImDiffusion

        try:
            detector = ImDiffusion.load(Path(job.state) / job.incumbent)
            name, likely = job.incumbent_detector, [job.entity]
            return speaker_of(detector, job.incumbent_digest, name=name, likely=likely)
        except ImDiffusionError as error:
            sys.stderr.write(f"{job.incumbent} cannot be compared with: {error}\n")
    return ColdStartScorer(
        channels, period=job.period, baseline=job.baseline, alarm_rate=job.alarm_rate
    )


# -- the process


def answer(message: Message) -> Message:
    """Fit what the folder asks; the exit code is 0 where there is a verdict, else the error's."""
    folder = Path(message["folder"])
    with (folder / LOCK).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # of one that is just being ended
        try:
            write_facts(folder / VERDICT, fit(read_job(folder), folder))
        except ImDiffusionError as error:
            sys.stderr.write(f"{error}\n")
            return {"exit_code": error.exit_code, "error": str(error)}
    return {"exit_code": 0, "error": ""}


if __name__ == "__main__":
    serve(lambda message, note: answer(message))
