"""Fit or score every entity of a folder: what is whole is left, the rest goes to a backend.

How each entity ended is in a `Summary`: in memory, and as JSON beside the results.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imdiffusion import __version__, presets, registry
from imdiffusion.batch.folder import (
    SUMMARY,
    Found,
    OutputFolder,
    Series,
    clear,
    distinct,
    file_name,
    find,
)
from imdiffusion.batch.pool import DONE, FAILED, FOUND, Answer, Backend, Pool, TaskMessage
from imdiffusion.data.atomic import atomic_path
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError, UsageError
from imdiffusion.progress import Progress

MANIFEST = "manifest.json"
FORMAT = 2  # of the summary; 1 had the backend as "on"
_READING = FileOptions()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one entity ended; `folder` is where its model or results are, "" where there are none."""

    entity: str
    answer: Answer
    folder: str


# Called with each entity that ended, and how far the whole is.
Watch = Callable[[Outcome, Progress], None]


@dataclass(slots=True)
class Summary:
    """How a call ended.

    outcomes: by entity. passed: what was in the folder and is no entity, with the reason. unused:
    results in `out` of entities that were not asked for. seconds: of the call. threads: of each
    worker.
    """

    verb: str
    backend: str
    folder: str
    out: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    seconds: float = 0.0
    threads: int = 0

    def of_status(self, status: str) -> list[Outcome]:
        """Those that ended so, by name: "done", "found" or "failed"."""
        return [one for _, one in sorted(self.outcomes.items()) if one.answer.status == status]

    @property
    def failed(self) -> dict[str, str]:
        """Why an entity failed, by name."""
        return {one.entity: one.answer.reason for one in self.of_status(FAILED)}

    @property
    def exit_code(self) -> int:
        """0, or that of the failures where it is one and the same, else 3."""
        codes = {one.answer.code for one in self.of_status(FAILED)}
        return 0 if not codes else codes.pop() if len(codes) == 1 else 3

    def total(self, fact: str) -> int:
        """The sum of a fact over all entities that have it."""
        return sum(one.answer.facts.get(fact, 0) for one in self.outcomes.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON facts."""
        facts = sorted({name for one in self.outcomes.values() for name in one.answer.facts})
        return {
            "format": FORMAT,
            "version": __version__,
            "verb": self.verb,
            "backend": self.backend,
            "folder": self.folder,
            "out": self.out,
            "seconds": round(self.seconds, 3),
            "threads": self.threads,
            "entities": len(self.outcomes),
            **{status: len(self.of_status(status)) for status in (DONE, FOUND, FAILED)},
            "totals": {name: self.total(name) for name in facts},
            "failures": self.failed,
            "passed_over": self.passed,
            "unused": self.unused,
            "outcomes": {
                name: {**asdict(one.answer), "folder": one.folder}
                for name, one in sorted(self.outcomes.items())
            },
        }

    def write(self) -> Path:
        """Write it beside the results, whole. Raises OutputError."""
        path = Path(self.out, SUMMARY)
        with atomic_path(path) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return path

    def describe(self) -> str:
        """One line for people."""
        counts = ", ".join(
            f"{len(self.of_status(status))} {word}"
            for status, word in ((DONE, "done"), (FOUND, "were there"), (FAILED, "failed"))
        )
        passed = f" {_some(list(self.passed))} skipped." if self.passed else ""
        unused = f" Not selected: {_some(self.unused)}." if self.unused else ""
        entities = f"{len(self.outcomes)} {'entity' if len(self.outcomes) == 1 else 'entities'}"
        return f"{self.out}: {entities}: {counts}.{passed}{unused}"


def fit(
    folder: str | Path,
    out: str | Path,
    *,
    backend: str = "local",
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
    entities. backend: "local", "ray" or "ray://HOST:PORT". jobs: workers at most; threads: of
    each; gpus: of each, may be a fraction (ray). retries: how often an entity whose worker died is
    tried again. exclude: spans that each fit leaves out. keywords: of `ImDiffusion`.

    Called again it goes on: what is whole and was made of the same rows and settings stays. An
    entity that fails is in the summary and touches no other. Raises before the work: DataError,
    OutputError, UsageError, ConfigError, MissingExtraError.
    """
    given = {"preset": "fast", "seed": 0, "device": "auto", **keywords}
    overrides = {k: v for k, v in given.items() if k not in ("preset", "seed", "device")}
    presets.resolve(given["preset"], overrides)
    spans = [[_plain(start), _plain(end)] for start, end in exclude]
    output = OutputFolder(Path(out))

    def task(series: Series, each: int) -> TaskMessage:
        return TaskMessage(
            "fit",
            series.entity,
            str(series.path),
            str(output.target(series.entity)),
            str(output.receipt(series.entity)),
            state=str(output.fit(series.entity)),
            reading=asdict(reading),
            keywords=given,
            exclude=spans,
            threads=each,
            same_threads=threads is not None,
        )

    call = _Call("fit", Path(folder), output, reading, watch)
    return call.work(task, backend, retries, jobs=jobs, threads=threads, gpus=gpus)


def detect(
    folder: str | Path,
    models: str | Path,
    out: str | Path,
    *,
    backend: str = "local",
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
    output, fitted = OutputFolder(Path(out)), Path(models).absolute()
    shared = (fitted / MANIFEST).is_file()
    if not fitted.is_dir():
        raise UsageError(
            f"there is no folder of models {models}",
            remedy="Make it: imdiffusion batch fit FOLDER --out MODELS.",
        )
    if output.out.resolve() == fitted.resolve():
        raise UsageError(
            f"the results would go into the models {models}", remedy="Name a folder of their own."
        )

    def task(series: Series, each: int) -> TaskMessage:
        return TaskMessage(
            "detect",
            series.entity,
            str(series.path),
            str(output.target(series.entity)),
            str(output.receipt(series.entity)),
            model=str(fitted if shared else fitted / file_name(series.entity)),
            reading=asdict(reading),
            keywords={"device": device, "ignore_extra": ignore_extra},
            threads=each,
            same_threads=threads is not None,
        )

    call = _Call("detect", Path(folder), output, reading, watch)
    return call.work(task, backend, retries, jobs=jobs, threads=threads, gpus=gpus)


class _Call:
    """One call: its entities found, their tasks handed to workers, and how each ended."""

    def __init__(
        self,
        verb: str,
        folder: Path,
        output: OutputFolder,
        reading: FileOptions,
        watch: Watch | None,
    ) -> None:
        self.verb, self.folder, self.output = verb, folder.absolute(), output
        self.reading, self.watch = reading, watch
        self.summary = Summary(verb, "", str(folder), str(output.out))
        self.entities = 0

    def work(
        self,
        task: Callable[[Series, int], TaskMessage],
        backend: str,
        retries: int,
        *,
        jobs: int | None,
        threads: int | None,
        gpus: float,
    ) -> Summary:
        began = time.monotonic()
        _check(retries=retries, jobs=jobs, threads=threads, gpus=gpus)
        name, address, where = backend.partition("://")
        if address and not where:
            raise UsageError(f"{backend!r} names no host", remedy="For instance ray://HOST:10001.")
        kind = registry.load("backends", name)
        found = find(self.folder, "train" if self.verb == "fit" else "test", self.reading)
        self.summary.backend, self.summary.passed = backend, found.passed
        with self.output.lock():
            self.output.check_verb(self.verb)
            with closing(kind(where, jobs=jobs, threads=threads, gpus=gpus)) as workers:
                self.summary.threads = workers.threads
                self._work(workers, found, task, retries)
            self.summary.unused = self.output.unused(self.summary.outcomes)
            self.summary.seconds = time.monotonic() - began
            self.summary.write()
        return self.summary

    def _work(
        self,
        backend: Backend,
        found: Found,
        task: Callable[[Series, int], TaskMessage],
        retries: int,
    ) -> None:
        series = distinct([*found.series, *self._split(backend, found.shared)])
        self.entities = len(series) + len(self.summary.outcomes)
        for one in series:
            if one.problem:
                self._end(one.entity, Answer(FAILED, f"{one.problem}.", DataError.exit_code))
        sound = [one for one in series if not one.problem]
        tasks = [task(one, backend.threads) for one in sound]
        for number, answer in Pool(backend, retries=retries).work(tasks):
            self._end(sound[number].entity, answer)

    def _split(self, backend: Backend, files: Iterable[Path]) -> Iterator[Series]:
        """The entities of files that hold several; a file that cannot be read fails by its name."""
        for path in files:
            into = self.output.parts / file_name(path.name)
            try:
                clear(into)
                yield from backend.split(path, into, self.reading)
            except DataError as error:
                self._end(path.name, Answer(FAILED, str(error), error.exit_code))

    def _end(self, entity: str, answer: Answer) -> None:
        """Note how an entity ended, and call `watch`."""
        target = self.output.target(entity)
        one = Outcome(entity, answer, str(target) if target.is_dir() else "")
        self.summary.outcomes[entity] = one
        if self.watch is not None:
            done = len(self.summary.outcomes)
            self.watch(one, Progress("entities", done, max(done, self.entities)))


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


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
