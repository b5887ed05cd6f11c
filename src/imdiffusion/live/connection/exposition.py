"""Prometheus' text: names with labels, values, and families of metrics (format 0.0.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

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


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

Labels = tuple[tuple[str, str], ...]  # (name, value) pairs


def labelled(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """`name{label="value",...}`; the name alone where there are no labels."""
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels)
    return f"{name}{{{inside}}}" if inside else name


def value_text(value: float) -> str:
    """A number as the format writes it: shortest that reads back the same, NaN, +Inf or -Inf."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def family_text(name: str, kind: str, about: str, samples: Mapping[Labels, float]) -> str:
    """All lines of one metric: what it is, its type, its samples; "" without samples."""
    if not samples:
        return ""
    about = about.replace("\\", "\\\\").replace("\n", "\\n")
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    lines += [f"{labelled(name, labels)} {value_text(value)}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
