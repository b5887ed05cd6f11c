"""Everything that is wrong with a configuration, each with its line.

Python's reader of TOML does not say on which line a key stands: `lines_of` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imdiffusion.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, what to do. line: None = not known."""

    place: str
    what: str
    remedy: str
    line: int | None

    def __str__(self) -> str:
        before = "" if self.line is None else f"line {self.line}, "
        end = "" if not self.remedy else f". {self.remedy}"
        return f"{before}{self.place}: {self.what}{end}"


class ProblemsError(ConfigError):
    """A configuration with everything that is wrong with it."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.problems = problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(
            f"{path}: {problems[0]}{more}",
            remedy="" if not more else "imdiffusion config check lists all of them.",
        )


TomlPath = tuple[str | int, ...]

_MANY = re.compile(r"\[\[\s*([\w-]+)\s*\]\]")
_ONE = re.compile(r"\[\s*([\w-]+)\s*\]")
_KEY = re.compile(r"""["']?([\w-]+)["']?\s*=""")


def lines_of(text: str) -> dict[TomlPath, int]:
    """Line of every table and key, from 1: ("fit",), ("fit", "rows"), ("source", 0, "type").

    Of lines inside a text of several lines it may take one for a key: it is asked for keys that
    are there.
    """
    found: dict[TomlPath, int] = {}
    counts: dict[str, int] = {}
    here: TomlPath = ()
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
