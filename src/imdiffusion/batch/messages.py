"""What a worker is told about one entity, and what it answers: both plain JSON.

Rows, models and scores never travel in them: they are read and written under shared paths.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

DONE, FOUND, FAILED = "done", "found", "failed"


@dataclass(frozen=True, slots=True)
class Order:
    """One entity's work.

    verb: "fit" or "detect". series: the file of its rows. target: the folder that is to appear.
    receipt: the file that says of what the target was made. state: folder of a fit that was cut
    off. model: the model folder to score with ("" for fit). reading: `FileOptions` as a dict.
    keywords: of `ImDiffusion` (fit), or device and ignore_extra (detect). exclude: spans that a
    fit leaves out. threads: of one tensor operation. asked: whether the caller asked for so many: a
    result that was made with another number is then made again.
    """

    verb: str
    entity: str
    series: str
    target: str
    receipt: str
    state: str = ""
    model: str = ""
    reading: dict[str, Any] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)
    exclude: list[list[Any]] = field(default_factory=list)
    threads: int = 1
    asked: bool = False

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, line: str) -> Self:
        """The order that `to_json` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Answer:
    """How it ended.

    status: "done", "found" (it was whole already) or "failed". reason: why it failed, and code:
    the exit code of such an error. facts: rows, events and the like. warnings: the library's.
    seconds: what the work took (of a "found" one: when it was done). attempts: how many workers
    had it.
    """

    status: str
    reason: str = ""
    code: int = 0
    facts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 1

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, line: str) -> Self:
        """The answer that `to_json` wrote."""
        return cls(**json.loads(line))
