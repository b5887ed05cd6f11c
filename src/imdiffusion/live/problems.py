"""Everything that is wrong with a configuration, and where each stands."""

from __future__ import annotations

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
            remedy="" if not more else "imdiffusion config check says them all.",
        )
