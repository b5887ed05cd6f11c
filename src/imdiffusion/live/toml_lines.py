"""On which line of a TOML file a key stands, which Python's reader does not say."""

from __future__ import annotations

import re

Path = tuple[str | int, ...]

_MANY = re.compile(r"\[\[\s*([\w-]+)\s*\]\]")
_ONE = re.compile(r"\[\s*([\w-]+)\s*\]")
_KEY = re.compile(r"""["']?([\w-]+)["']?\s*=""")


def lines_of(text: str) -> dict[Path, int]:
    """Line of every table and key, from 1: ("fit",), ("fit", "rows"), ("source", 0, "type").

    Of lines inside a text of several lines it may take one for a key: it is asked for keys that
    are there.
    """
    found: dict[Path, int] = {}
    counts: dict[str, int] = {}
    here: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if match := _MANY.match(line):
            name = match[1]
            here = (name, counts.get(name, 0))
            counts[name] = counts.get(name, 0) + 1
            found.setdefault((name,), number)
            found[here] = number
        elif match := _ONE.match(line):
            here = (match[1],)
            found.setdefault(here, number)
        elif match := _KEY.match(line):
            found.setdefault((*here, match[1]), number)
    return found
