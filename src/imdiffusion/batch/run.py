"""Fit or score every entity of a folder: what is whole is left, the rest is handed to an engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imdiffusion import presets, registry
from imdiffusion.batch.backend import Backend
from imdiffusion.batch.folder import Found, Series, distinct, file_name, find
from imdiffusion.batch.messages import FAILED, Answer, Order
from imdiffusion.batch.paths import Places
from imdiffusion.batch.pool import Pool
from imdiffusion.batch.progress import Outcome, Summary, Watch
from imdiffusion.batch.split import clear
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError, UsageError
from imdiffusion.progress import Progress

_READING = FileOptions()
MANIFEST = "manifest.json"


def fit(
    folder: str | Path,
    out: str | Path,
    *,
    on: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
    retries: int = 2,
    reading: FileOptions = _READING,
    exclude: Iterable[tuple[Any, Any]] = (),
    watch: Watch | None = None,
    **keywords: Any,
) -> Summary:
    """Fit one model an entity of `folder` into `out`, and say how each ended.

    folder: one file an entity, one folder an entity with a train file, or files of several
    entities. on: "local", "ray" or "ray://HOST:PORT". jobs: workers at most; threads: of each;
    gpus: of each, may be a fraction (ray). retries: how often an entity whose worker died is
    tried again. exclude: spans that each fit leaves out. keywords: of `ImDiffusion`.

    Called again it goes on: what is whole and was made of the same rows and settings stays. An
    entity that fails is in the summary and touches no other. Raises before the work: DataError,
    OutputError, UsageError, ConfigError, MissingExtraError.
    """
    given = {"preset": "fast", "seed": 0, "device": "auto", **keywords}
    overrides = {k: v for k, v in given.items() if k not in ("preset", "seed", "device")}
    presets.resolve(given["preset"], overrides)
    spans = [[_plain(start), _plain(end)] for start, end in exclude]
    places = Places(Path(out))

    def order(series: Series, each: int) -> Order:
        return Order(
            "fit",
            series.entity,
            str(series.path),
            str(places.target(series.entity)),
            str(places.receipt(series.entity)),
            state=str(places.fit(series.entity)),
            reading=asdict(reading),
            keywords=given,
            exclude=spans,
            threads=each,
            asked=threads is not None,
        )

    call = _Call("fit", Path(folder), places, reading, watch)
    return call.over(order, on, retries, jobs=jobs, threads=threads, gpus=gpus)


def detect(
    folder: str | Path,
    models: str | Path,
    out: str | Path,
    *,
    on: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    gpus: float = 0.0,
    retries: int = 2,
    reading: FileOptions = _READING,
    device: str = "auto",
    ignore_extra: bool = False,
    watch: Watch | None = None,
) -> Summary:
    """Score every entity of `folder` (a file each, or a test file in a folder each) into `out`.

    models: what `fit` wrote, or one model folder for all. Each entity gets a folder with
    scores.parquet and events.parquet. ignore_extra: as in `ImDiffusion.decision_function`. The
    rest is as in `fit`; further ModelError where there are no models.
    """
    places, fitted = Places(Path(out)), Path(models).absolute()
    shared = (fitted / MANIFEST).is_file()
    if not fitted.is_dir():
        raise UsageError(
            f"there is no folder of models {models}",
            remedy="Make it: imdiffusion batch fit FOLDER --out MODELS.",
        )

    if places.out.resolve() == fitted.resolve():
        raise UsageError(
            f"the results would go into the models {models}", remedy="Name a folder of their own."
        )

    def order(series: Series, each: int) -> Order:
        return Order(
            "detect",
            series.entity,
            str(series.path),
            str(places.target(series.entity)),
            str(places.receipt(series.entity)),
            model=str(fitted if shared else fitted / file_name(series.entity)),
            reading=asdict(reading),
            keywords={"device": device, "ignore_extra": ignore_extra},
            threads=each,
            asked=threads is not None,
        )

    call = _Call("detect", Path(folder), places, reading, watch)
    return call.over(order, on, retries, jobs=jobs, threads=threads, gpus=gpus)


class _Call:
    """One call: its entities found, ordered, worked at, and told."""

    def __init__(
        self, verb: str, folder: Path, places: Places, reading: FileOptions, watch: Watch | None
    ) -> None:
        self.verb, self.folder, self.places = verb, folder.absolute(), places
        self.reading, self.watch = reading, watch
        self.summary = Summary(verb, "", str(folder), str(places.out))
        self.asked = 0

    def over(
        self,
        order: Callable[[Series, int], Order],
        on: str,
        retries: int,
        *,
        jobs: int | None,
        threads: int | None,
        gpus: float,
    ) -> Summary:
        began = time.monotonic()
        _check(retries=retries, jobs=jobs, threads=threads, gpus=gpus)
        name, address, where = on.partition("://")
        if address and not where:
            raise UsageError(f"{on!r} names no host", remedy="For instance ray://HOST:10001.")
        kind = registry.load("engines", name)
        found = find(self.folder, "train" if self.verb == "fit" else "test", self.reading)
        self.summary.on, self.summary.passed = on, found.passed
        with self.places.alone():
            self.places.keeps_only(self.verb)
            with closing(kind(where, jobs=jobs, threads=threads, gpus=gpus)) as engine:
                self.summary.threads = engine.threads
                self._work(engine, found, order, retries)
            self.summary.unused = self.places.unused(self.summary.outcomes)
            self.summary.seconds = time.monotonic() - began
            self.summary.write()
        return self.summary

    def _work(
        self, engine: Backend, found: Found, order: Callable[[Series, int], Order], retries: int
    ) -> None:
        whole = distinct([*found.series, *self._taken_apart(engine, found.shared)])
        self.asked = len(whole) + len(self.summary.outcomes)
        for one in whole:
            if one.problem:
                self._end(one.entity, Answer(FAILED, f"{one.problem}.", DataError.exit_code))
        sound = [one for one in whole if not one.problem]
        orders = [order(one, engine.threads) for one in sound]
        for number, answer in Pool(engine, retries=retries).work(orders):
            self._end(sound[number].entity, answer)

    def _taken_apart(self, engine: Backend, files: Iterable[Path]) -> Iterator[Series]:
        """The entities of files that hold several; a file that cannot be read fails by its name."""
        for path in files:
            into = self.places.parts / file_name(path.name)
            try:
                clear(into)
                yield from engine.split(path, into, self.reading)
            except DataError as error:
                self._end(path.name, Answer(FAILED, str(error), error.exit_code))

    def _end(self, entity: str, answer: Answer) -> None:
        """Write down how an entity ended, and tell."""
        target = self.places.target(entity)
        one = Outcome(entity, answer, str(target) if target.is_dir() else "")
        self.summary.outcomes[entity] = one
        if self.watch is not None:
            done = len(self.summary.outcomes)
            self.watch(one, Progress("entities", done, max(done, self.asked)))


def _check(*, retries: int, jobs: int | None, threads: int | None, gpus: float) -> None:
    for name, count in (("jobs", jobs), ("threads", threads)):
        if count is not None and count < 1:
            raise UsageError(f"{name} = {count} is below one", remedy="For instance 1.")
    for name, amount in (("retries", retries), ("gpus", gpus)):
        if not 0 <= amount < math.inf:
            raise UsageError(f"{name} = {amount:g} is no number from 0", remedy="For instance 0.")


def _plain(moment: Any) -> Any:
    """The end of a span as JSON has it: a row position, or a time as text."""
    return moment if isinstance(moment, int | str) else str(moment)
