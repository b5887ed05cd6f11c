"""Options that hold several names with values: "team=ops, site=north"."""

from __future__ import annotations

import re

from imdiffusion.errors import ConfigError
from imdiffusion.schema import pairs_of


def parse_pairs(option: str, text: str, form: re.Pattern[str]) -> tuple[tuple[str, str], ...]:
    """(name, value) pairs of "name=value, name=value", each name of the given form.

    ConfigError for anything else and for a name that is there twice; it names the option.
    """
    pairs = pairs_of(text, f"{option}: ")
    for name in pairs:
        if not form.fullmatch(name):
            raise ConfigError(
                f"{option}: {name!r} is no name with a value",
                remedy="Write name=value, name=value.",
            )
    return tuple(pairs.items())
