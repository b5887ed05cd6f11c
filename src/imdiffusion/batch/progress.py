"""How far a batch is, and how it ended: in memory, and as JSON beside the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from imdiffusion import __version__
from imdiffusion.batch.messages import DONE, FAILED, FOUND, Answer
from imdiffusion.data.atomic import atomic_path
from imdiffusion.progress import Progress

SUMMARY = "batch.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one entity ended; `folder` is where its model or results are, "" where there are none."""

    entity: str
    answer: Answer
    folder: str


# Called with each entity that ended, and how far the whole is.
Watch = Callable[[Outcome, Progress], None]


@dataclass(slots=True)
class Summary:
    """How a call ended.

    outcomes: by entity. passed: what was in the folder and is no entity, with the reason. unused:
    results in `out` of entities that were not asked for. seconds: of the call. threads: of each
    worker.
    """

    verb: str
    on: str
    folder: str
    out: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    seconds: float = 0.0
    threads: int = 0

    def of_status(self, status: str) -> list[Outcome]:
        """Those that ended so, by name: "done", "found" or "failed"."""
        return [one for _, one in sorted(self.outcomes.items()) if one.answer.status == status]

    @property
    def failed(self) -> dict[str, str]:
        """Why an entity failed, by name."""
        return {one.entity: one.answer.reason for one in self.of_status(FAILED)}

    @property
    def exit_code(self) -> int:
        """0, or that of the failures where it is one and the same, else 3."""
        codes = {one.answer.code for one in self.of_status(FAILED)}
        return 0 if not codes else codes.pop() if len(codes) == 1 else 3

    def total(self, fact: str) -> int:
        """The sum of a fact over all entities that have it."""
        return sum(one.answer.facts.get(fact, 0) for one in self.outcomes.values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON facts."""
        facts = sorted({name for one in self.outcomes.values() for name in one.answer.facts})
        return {
            "format": FORMAT,
            "version": __version__,
            "verb": self.verb,
            "on": self.on,
            "folder": self.folder,
            "out": self.out,
            "seconds": round(self.seconds, 3),
            "threads": self.threads,
            "entities": len(self.outcomes),
            **{status: len(self.of_status(status)) for status in (DONE, FOUND, FAILED)},
            "totals": {name: self.total(name) for name in facts},
            "failures": self.failed,
            "passed_over": self.passed,
            "unused": self.unused,
            "outcomes": {
                name: {**asdict(one.answer), "folder": one.folder}
                for name, one in sorted(self.outcomes.items())
            },
        }

    def write(self) -> Path:
        """Write it beside the results, whole. Raises OutputError."""
        path = Path(self.out, SUMMARY)
        with atomic_path(path) as draft:
            draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        return path

    def told(self) -> str:
        """One line for people."""
        counts = ", ".join(
            f"{len(self.of_status(status))} {word}"
            for status, word in ((DONE, "done"), (FOUND, "were there"), (FAILED, "failed"))
        )
        passed = f" {_some(list(self.passed))} skipped." if self.passed else ""
        unused = f" Not selected: {_some(self.unused)}." if self.unused else ""
        entities = f"{len(self.outcomes)} {'entity' if len(self.outcomes) == 1 else 'entities'}"
        return f"{self.out}: {entities}: {counts}.{passed}{unused}"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
