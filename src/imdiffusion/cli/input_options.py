"""The files of a command line, read into frames."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from imdiffusion.cli.options import READING, flag
from imdiffusion.errors import DataError

if TYPE_CHECKING:
    from imdiffusion.data.frame import Frame
    from imdiffusion.data.layout import FileOptions
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imdiffusion.data.frame import Frame
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.promise.report import PromiseReport
    from imdiffusion.results import Analysis


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read: every field is an option of each verb that `reads_files`."""

    timestamp: Annotated[
        str, typer.Option(metavar="COL", help="Column of the timestamps.", rich_help_panel=READING)
    ] = "timestamp"
    layout: Annotated[
        Literal["auto", "wide", "long"],
        typer.Option(
            help="One column a channel, or one row a channel and time.", rich_help_panel=READING
        ),
    ] = "auto"
    entity_column: Annotated[
        str,
        typer.Option(metavar="COL", help="Column that names the entity.", rich_help_panel=READING),
    ] = "entity"
    unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns"],
        typer.Option(help="Unit of timestamps given as numbers.", rich_help_panel=READING),
    ] = "auto"
    ignore_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COL",
            help="Leave out a column that is not a channel; repeat for more.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None
    sort: Annotated[
        bool,
        flag(
            "--sort", help="Sort rows by timestamp, instead of refusing.", rich_help_panel=READING
        ),
    ] = False

    def options(self) -> FileOptions:
        """The same for `imdiffusion.read`."""
        from imdiffusion.data.layout import FileOptions

        return FileOptions(
            timestamp=self.timestamp,
            layout=self.layout,
            entity_column=self.entity_column,
            unit=self.unit,
            ignore_columns=tuple(self.ignore_column or ()),
            sort=self.sort,
        )

    def frames(self, files: Sequence[Path]) -> Frame | dict[str, Frame]:
        """One frame for one file without entities, else a dict of frames by entity.

        Of several files, one without an entity column is the entity of its name. Raises
        DataError for unusable data, or if two files hold the same entity.
        """
        from imdiffusion.data.files import read

        if len(files) == 1:
            return read(files[0], self.options())
        return self._by_entity(files, read)

    def readable(self, files: Sequence[Path]) -> tuple[dict[str, Frame], dict[str, str]]:
        """The frames of those files that can be read, by entity; why others cannot, by file.

        Raises DataError where none can be, or if two files hold the same entity.
        """
        from imdiffusion.data.files import read

        broken: dict[str, DataError] = {}

        def tried(path: Path, options: FileOptions) -> Frame | dict[str, Frame]:
            try:
                return read(path, options)
            except DataError as error:
                broken[str(path)] = error
                return {}

        frames = self._by_entity(files, tried)
        if not frames:
            raise next(iter(broken.values()))
        return frames, {name: str(error) for name, error in broken.items()}

    def _by_entity(
        self,
        files: Sequence[Path],
        read: Callable[[Path, FileOptions], Frame | dict[str, Frame]],
    ) -> dict[str, Frame]:
        frames: dict[str, Frame] = {}
        source: dict[str, Path] = {}
        for path in files:
            found = read(path, self.options())
            if not isinstance(found, dict):
                found = {stem(path): replace(found, entity=stem(path))}
            for entity, frame in found.items():
                if entity in frames:
                    raise DataError(
                        f"{source[entity]} and {path} both hold the entity {entity!r}",
                        remedy="Rename one of the files, or give an entity one file.",
                    )
                frames[entity], source[entity] = frame, path
        return frames


def stem(path: Path) -> str:
    """The name of a file without folder and suffixes: "disk.csv.gz" is "disk"."""
    name = path.name
    for suffix in (".gz", ".csv", ".parquet", ".jsonl", ".ndjson"):
        name = name.removesuffix(suffix)
    return name or path.name


def bundled(kind: type, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb every field of `kind` as an option; it receives them as its argument `name`."""

    def bundle(verb: Callable[..., None]) -> Callable[..., None]:
        own, shared = inspect.signature(verb).parameters, inspect.signature(kind).parameters
        hints = get_type_hints(verb, include_extras=True) | get_type_hints(
            kind, include_extras=True
        )

        @wraps(verb)
        def joined(**given: Any) -> None:
            fields = {field: given.pop(field) for field in shared}
            verb(**given, **{name: kind(**fields)})

        parameters = {field: own[field] for field in own if field != name} | dict(shared)
        joined.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                parameter.replace(annotation=hints[field], kind=inspect.Parameter.KEYWORD_ONLY)
                for field, parameter in parameters.items()
            ]
        )
        joined.__annotations__ = {field: hints[field] for field in parameters}
        return joined

    return bundle


# The options of `Reading`, for a verb's argument `reading`.
reads_files = bundled(Reading, "reading")


# -- what every verb that scores does first: load the model, give each series its entity


def load(model: Path, device: str) -> ImDiffusion:
    """The saved detector; ModelError or ConfigError if it cannot be used here."""
    from imdiffusion import ImDiffusion

    return ImDiffusion.load(model, device=device)


def matched(
    detector: ImDiffusion, frames: Frame | dict[str, Frame], files: Sequence[Path]
) -> Frame | dict[str, Frame]:
    """A single unnamed series is the entity of its file's name, where the model has several."""
    if isinstance(frames, dict) or frames.entity is not None or len(detector.entities_) == 1:
        return frames
    return replace(frames, entity=stem(files[0]))


def analyses_of(found: Analysis | Mapping[str, Analysis]) -> list[Analysis]:
    """What `ImDiffusion.analyze` returns, as one analysis an entity."""
    return list(found.values()) if isinstance(found, Mapping) else [found]


def promises_of(detector: ImDiffusion, analyses: Sequence[Analysis]) -> list[PromiseReport]:
    """What is promised of the analysed entities; nothing where one is not of the model's own."""
    found = detector.report_
    if not isinstance(found, dict):
        return [found] * len(analyses)
    names = [analysis.frame.entity for analysis in analyses]
    return [found[name] for name in names] if set(names) <= set(found) else []


def about(detector: ImDiffusion, model: Path | None = None) -> dict[str, str]:
    """Facts on the detector for a report."""
    from imdiffusion import __version__

    settings = detector.settings_
    facts: dict[str, Any] = {"model": model} if model is not None else {}
    facts |= {
        "preset": detector.preset,
        "seed": detector.seed,
        "channels": len(detector.channels_),
        "parameters": f"{detector.num_parameters_:,}",
        "window": f"{settings.window} rows",
        **(
            {"events a day on normal rows, at most": f"{settings.alarms_per_day:g}"}
            if settings.alarms_per_day
            else {"expected share of normal rows in alarm": f"{settings.alarm_rate:g}"}
        ),
        "imdiffusion": __version__,
    }
    return {name: str(value) for name, value in facts.items()}
