"""From a file to a `Configuration`: read whole, so that all that is wrong is found at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imdiffusion import presets, registry
from imdiffusion.errors import ConfigError, ImDiffusionError
from imdiffusion.live.config.configuration import CONNECTORS, Configuration, Connector, conflicts
from imdiffusion.live.config.errors import Problem, ProblemsError, TomlPath, lines_of
from imdiffusion.live.config.schema import SECTIONS, ModelSection, Section
from imdiffusion.live.connection.options import options_of
from imdiffusion.schema import Field, fields_of, one_of, wrong_keys

LISTS = (*CONNECTORS, "model")  # tables that may be there several times
KNOWN = ("detector", *LISTS, *SECTIONS)
# Keys of a connector's table that are not its options.
OWN = {name: Field(name=name, kind=str, default="") for name in ("type", "id")}
TAKEN = {"source": ("http",), "sink": ("metrics_page", "terminal")}  # ids of what verbs bring


def read_configuration(path: Path) -> Configuration:
    """Read and check a file. ProblemsError: all that is wrong in it; ConfigError: no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"the configuration {path} does not exist",
            remedy="examples/imdiffusion.toml is one to start from.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    return parse(text, str(path))


def parse(text: str, path: str = "imdiffusion.toml") -> Configuration:
    """The configuration a text says. ProblemsError with everything that is wrong with it."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProblemsError(path, [Problem("TOML", str(error), "", None)]) from error
    reading = _Reading(tables, lines_of(text))
    found = reading.configuration()
    if reading.problems:
        raise ProblemsError(path, sorted(reading.problems, key=lambda one: one.line or 0))
    return found


def is_live(tables: Mapping[str, Any]) -> bool:
    """Whether TOML tables are of a live configuration, not flat settings of a detector."""
    return any(isinstance(tables.get(name), (dict, list)) for name in KNOWN)


class _Reading:
    """One pass over the tables of a file, gathering problems."""

    def __init__(self, tables: dict[str, Any], lines: dict[TomlPath, int]) -> None:
        self.tables, self.lines = tables, lines
        self.problems: list[Problem] = []

    def wrong(self, at: TomlPath, error: ImDiffusionError) -> None:
        """Note a problem at a place; its line is that of the key, or else of its table."""
        line = next(
            (self.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.lines), None
        )
        self.problems.append(Problem(_place(at), error.what, error.remedy, line))

    @contextmanager
    def noted(self, at: TomlPath) -> Iterator[None]:
        """Within, an error is noted at a place."""
        try:
            yield
        except ImDiffusionError as error:
            self.wrong(at, error)

    def check(self, at: TomlPath, known: Mapping[str, Field], table: dict[str, Any]) -> set[str]:
        """The keys of a table that are wrong; each is noted."""
        wrong = wrong_keys(known, table)
        for key, error in wrong.items():
            self.wrong((*at, key), error)
        return set(wrong)

    def configuration(self) -> Configuration:
        for name, value in self.tables.items():
            with self.noted((name,)):
                one_of("table", name, KNOWN)
                if not isinstance(value, list if name in LISTS else dict):
                    form = f"[[{name}]]" if name in LISTS else f"[{name}]"
                    raise ConfigError("is no such table", remedy=f"Write {form}.")
        sections = {name: self._section(name, kind) for name, kind in SECTIONS.items()}
        connectors = {kind: tuple(self._connectors(kind)) for kind in CONNECTORS}
        models = tuple(self._models({*TAKEN["source"], *(one.id for one in connectors["source"])}))
        if not {"source", "serve"} & self.tables.keys():  # a service can be sent rows
            error = ConfigError("there is no source", remedy='For instance: type = "host".')
            self.wrong(("source",), error)
        detector = self._table("detector")
        self._check_detector(detector)
        made = Configuration(
            detector=detector,
            sources=connectors["source"],
            sinks=connectors["sink"],
            models=models,
            **sections,  # type: ignore[arg-type]
        )
        if not self.problems:
            for at, error in conflicts(made):
                self.wrong(at, error)
        return made

    def _table(self, name: str) -> dict[str, Any]:
        value = self.tables.get(name, {})
        return value if isinstance(value, dict) else {}

    def _section(self, name: str, kind: type[Section]) -> Section:
        table = self._table(name)
        wrong = self.check((name,), fields_of(kind), table)
        return kind(**{key: value for key, value in table.items() if key not in wrong})

    def _models(self, sources: set[str]) -> Iterator[ModelSection]:
        for number, table in enumerate(self._list("model")):
            at = ("model", number)
            if not isinstance(table, dict):
                self.wrong(at, ConfigError("is no table", remedy="Write [[model]]."))
                continue
            wrong = self.check(at, fields_of(ModelSection), table)
            made = ModelSection(**{key: table[key] for key in table if key not in wrong})
            if not made.folder and "folder" not in wrong:
                error = ConfigError(
                    "the folder is missing", remedy="Name one that `imdiffusion fit` wrote."
                )
                self.wrong((*at, "folder"), error)
            if made.source:
                with self.noted((*at, "source")):
                    one_of("id of a source", made.source, sources)
            yield made

    def _list(self, name: str) -> list[Any]:
        value = self.tables.get(name, [])
        return value if isinstance(value, list) else []

    def _check_detector(self, table: dict[str, Any]) -> None:
        if not self.check(("detector",), presets.KEYWORDS, table):
            with self.noted(("detector",)):  # each is right, but perhaps not together
                presets.resolve_keywords(table)

    def _connectors(self, kind: str) -> Iterator[Connector]:
        seen: dict[str, int] = {}
        for number, table in enumerate(self._list(kind)):
            at = (kind, number)
            if not isinstance(table, dict):
                self.wrong(at, ConfigError("is no table", remedy=f"Write [[{kind}]]."))
                continue
            made = self._connector(kind, at, table)
            if made is None:
                continue
            if made.id in seen:
                error = ConfigError(
                    f"{kind} {seen[made.id] + 1} has the id {made.id!r} too",
                    remedy='Where several are of one type, give each an id = "...", and keep it.',
                )
                self.wrong((*at, "id"), error)
            seen.setdefault(made.id, number)
            yield made

    def _connector(self, kind: str, at: TomlPath, table: dict[str, Any]) -> Connector | None:
        table_name, name = CONNECTORS[kind], table.get("type")
        before = len(self.problems)
        with self.noted((*at, "type")):
            if name is None:
                known = ", ".join(registry.names(table_name))
                raise ConfigError("the type is missing", remedy=f"Known: {known}.")
            wanted = one_of("type", name, registry.names(table_name))
            self.check(at, {**OWN, **options_of(table_name, wanted)}, table)
        own_id = table.get("id", name)
        with self.noted((*at, "id")):
            if isinstance(own_id, str) and not 0 < len(own_id.strip()) <= 100:
                raise ConfigError(f"{own_id!r} is no id", remedy="Give a short text.")
            if own_id in TAKEN[kind]:
                raise ConfigError(f"the id {own_id!r} is taken", remedy="Choose another.")
        if len(self.problems) > before:
            return None
        options = {key: value for key, value in table.items() if key not in OWN}
        made = Connector(kind, wanted, own_id, options)
        try:
            made.source() if kind == "source" else made.sink()
        except ImDiffusionError as error:
            key = next((key for key in options if re.search(rf"\b{key}\b", error.what)), "type")
            self.wrong((*at, key), error)
            return None
        return made


def _place(at: TomlPath) -> str:
    name, *rest = at
    if rest and isinstance(rest[0], int):
        return " ".join([f"[[{name}]] {rest[0] + 1}", *map(str, rest[1:])])
    return " ".join([f"[{name}]", *map(str, rest)])
