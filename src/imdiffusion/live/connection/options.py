"""Sources and sinks from a configuration: options held against a constructor's keywords.

A member of the tables "sources" and "sinks" is built from keywords alone, whose annotations are the
check (`imdiffusion.schema.keywords_of`). What a type cannot say (a range, a form) the constructor
checks itself, with `positive` and `one_of` of `imdiffusion.schema` where they fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.protocols import Sink, Source
from imdiffusion.schema import Field, checked, keywords_of, one_of

Kind = Literal["score", "event"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def load_source(name: str, options: Mapping[str, object]) -> Source:
    """The source `name` of the registry, built from its options and not yet open.

    Raises ConfigError for an unknown name or option (with the nearest), one that is missing, and a
    value of the wrong type or out of range; MissingExtraError where the source needs one.
    """
    return cast(Source, _built("sources", name, options))


def load_sink(name: str, options: Mapping[str, object]) -> Sink:
    """The sink `name` of the registry, built and not yet open; errors as in `load_source`."""
    return cast(Sink, _built("sinks", name, options))


def options_of(table: str, name: str) -> dict[str, Field]:
    """Each option of a member; its default is `schema.NEEDED` where it has to be given."""
    return keywords_of(registry.load(table, name))


def takes_of(takes: Sequence[str]) -> frozenset[str]:
    """The option `takes` of a sink as a set; ConfigError for what is no kind of record."""
    return frozenset(one_of("kind of record", kind, KINDS) for kind in takes)


def _built(table: str, name: str, options: Mapping[str, object]) -> Any:
    make = registry.load(table, name)
    try:
        return make(**checked(keywords_of(make), options, "option"))
    except ConfigError as error:
        raise ConfigError(f"{table[:-1]} {name!r}: {error.what}", remedy=error.remedy) from error
