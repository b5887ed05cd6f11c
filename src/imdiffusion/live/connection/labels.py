"""Options that hold several names with values: "team=ops, site=north"."""

from __future__ import annotations

import re

from imdiffusion.errors import ConfigError


def parse_pairs(option: str, text: str, form: re.Pattern[str]) -> tuple[tuple[str, str], ...]:
    """(name, value) pairs of "name=value, name=value", each name of the given form.

    ConfigError for anything else and for a name that is there twice; it names the option.
    """
    pairs: dict[str, str] = {}
    for piece in text.split(",") if text.strip() else ():
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not (equals and value and form.fullmatch(name)):
            raise ConfigError(
                f"{option}: {piece.strip()!r} is no name with a value",
                remedy="Write name=value, name=value.",
            )
        if name in pairs:
            raise ConfigError(f"{option}: {name!r} is there twice", remedy="Leave one out.")
        pairs[name] = value
    return tuple(pairs.items())
