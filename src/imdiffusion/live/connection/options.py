"""Sources and sinks from a configuration: options held against a constructor's keywords.

A member of the tables "sources" and "sinks" is built from keywords alone, each a scalar or a
string, as TOML has them; their annotations are the check. What a type cannot say (a range, a
form) the constructor checks itself, with `positive` and `one_of` where they fit.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.protocols import Sink, Source

KINDS = ("score", "event")
_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def load_source(name: str, options: Mapping[str, object]) -> Source:
    """The source `name` of the registry, built from its options and not yet open.

    Raises ConfigError for an unknown name or option (with the nearest), one that is missing, and a
    value of the wrong type or out of range; MissingExtraError where the source needs one.
    """
    return cast(Source, _built("sources", name, options))


def load_sink(name: str, options: Mapping[str, object]) -> Sink:
    """The sink `name` of the registry, built and not yet open; errors as in `load_source`."""
    return cast(Sink, _built("sinks", name, options))


def options_of(table: str, name: str) -> dict[str, tuple[Any, Any]]:
    """Each option of a member: its type and its default (`inspect.Parameter.empty` = needed)."""
    make = registry.load(table, name)
    hints = get_type_hints(make.__init__)
    found = {}
    for key, parameter in inspect.signature(make).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{table[:-1]} {name!r}: {key!r} has to be a keyword-only option")
        found[key] = (hints.get(key, Any), parameter.default)
    return found


def takes_of(text: str) -> frozenset[str]:
    """The option `takes` of a sink, "score,event", as a set; ConfigError for another kind."""
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    for kind in kinds:
        one_of("takes", kind, KINDS)
    if not kinds:
        raise ConfigError("takes names no kind of record", remedy='Write "score", "event" or both.')
    return frozenset(kinds)


def one_of(option: str, value: str, known: Collection[str]) -> str:
    """`value` if it is known; else ConfigError with the nearest."""
    if value not in known:
        raise ConfigError(f"{option} has no {value!r}", remedy=registry.nearest(value, known))
    return value


def positive(**values: float) -> None:
    """Raise ConfigError, naming the option, unless every value is above zero and finite."""
    for option, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{option} is {value}", remedy="Give a number above zero.")


def _built(table: str, name: str, options: Mapping[str, object]) -> Any:
    known = options_of(table, name)
    member = f"{table[:-1]} {name!r}"
    for key, value in options.items():
        if key not in known:
            nearest = registry.nearest(key, known) if known else "It has none."
            raise ConfigError(f"unknown option {key!r} of the {member}", remedy=nearest)
        _check_type(f"option {key!r} of the {member}", value, known[key][0])
    for key, (_, default) in known.items():
        if default is inspect.Parameter.empty and key not in options:
            raise ConfigError(f"the {member} needs the option {key!r}", remedy=f"Give {key} = ...")
    try:
        return registry.load(table, name)(**options)
    except ConfigError as error:
        raise ConfigError(f"{member}: {error.what}", remedy=error.remedy) from error


def _check_type(what: str, value: object, hint: Any) -> None:
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise ConfigError(
                f"{what} is {value!r}", remedy=registry.nearest(str(value), map(str, choices))
            )
        return
    several = get_origin(hint) in (Union, types.UnionType)
    kinds = tuple(kind for kind in (get_args(hint) if several else (hint,)) if kind in _SCALARS)
    fits = (
        isinstance(value, bool)
        if kinds == (bool,)
        else isinstance(value, (*kinds, int) if float in kinds else kinds)
        and (bool in kinds or not isinstance(value, bool))
    )
    if kinds and not fits:
        wanted = " or ".join(_SCALARS[kind] for kind in kinds)
        raise ConfigError(f"{what} is {value!r}", remedy=f"Give {wanted}.")
