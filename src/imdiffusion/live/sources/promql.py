"""What is asked of Prometheus, and what its series are called here: entities and channels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.exposition import LABEL_NAME, labelled

# A piece of a list of queries: anything but a semicolon, or a string of PromQL with whatever in it.
_PIECE = re.compile(r"""(?:[^;"'`]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)+""", re.DOTALL)
_NAMED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*=(?![=~])\s*(\S.*)", re.DOTALL)
_NAME = "__name__"
_NAMELESS = "value"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression. name: what its channels are called; "" = as their metrics are."""

    name: str
    expression: str

    def __str__(self) -> str:
        return f"query {self.name!r}" if self.name else "the query"


def parse_queries(query: str, queries: str) -> tuple[Query, ...]:
    """`query` alone, or "name=expression; name=expression"; ConfigError for anything else."""
    if bool(query.strip()) == bool(queries.strip()):
        raise ConfigError(
            "one of query and queries has to be given",
            remedy='Give query="EXPRESSION", or queries="NAME=EXPRESSION; NAME=EXPRESSION".',
        )
    if query.strip():
        return (Query("", query.strip()),)
    if _PIECE.sub("", queries).strip(";"):
        raise ConfigError("a string in queries has no end", remedy="Close its quotes.")
    found = []
    for piece in filter(str.strip, _PIECE.findall(queries)):
        match = _NAMED.fullmatch(piece)
        if match is None:
            raise ConfigError(
                f"queries: {piece.strip()!r} has no name",
                remedy="Write NAME=EXPRESSION; NAME=EXPRESSION.",
            )
        found.append(Query(match[1], match[2].strip()))
    names = [each.name for each in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(
            f"queries: {sorted(twice)[0]!r} is there twice", remedy="Give each its own name."
        )
    return tuple(found)


def check_labels(option: str, names: Iterable[str]) -> None:
    """ConfigError, naming the option, for a name that no label may have."""
    for name in names:
        if not LABEL_NAME.fullmatch(name):
            raise ConfigError(
                f"{option}: {name!r} is no label name", remedy="Give names like: instance, job."
            )


@dataclass(frozen=True, slots=True)
class Naming:
    """From the labels of a series to its entity and its channel; the same labels, the same names.

    groupby: the labels that name the entity; without any, all series are of `entity`. ignore:
    labels that are in no name.
    """

    groupby: tuple[str, ...]
    ignore: tuple[str, ...]
    entity: str

    def entity_of(self, labels: Mapping[str, str]) -> str:
        """The values of the labels of `groupby`, joined by slashes; KeyError where one is absent.

        With several labels, a slash or percent sign inside a value is written %2F or %25, so that
        no two entities share a name.
        """
        if not self.groupby:
            return self.entity
        values = [labels.get(name, "") for name in self.groupby]
        for name, value in zip(self.groupby, values, strict=True):
            if not value:
                raise KeyError(name)
        if len(values) == 1:
            return values[0]
        return "/".join(value.replace("%", "%25").replace("/", "%2F") for value in values)

    def channel_of(self, query: Query, labels: Mapping[str, str]) -> str:
        """The query's or else the metric's name, with the labels that name no entity.

        Under a query's name the metric's own stands among the labels only if the expression picks
        metrics by it: otherwise no two series differ by it alone.
        """
        rest = {
            name: value
            for name, value in sorted(labels.items())
            if name != _NAME and name not in self.groupby and name not in self.ignore
        }
        metric = labels.get(_NAME, "")
        if query.name and metric and _NAME in query.expression and _NAME not in self.ignore:
            rest = {_NAME: metric, **rest}
        return labelled(query.name or metric or _NAMELESS, rest.items())
