"""What a fit is asked for, how far a long call has come, and how a training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdiffusion.settings import Settings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a long call stands: `done` of `total` (0 = unknown) steps, rows or points."""

    phase: str
    done: int
    total: int
    info: dict[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class FitJob:
    """What a fit is asked for.

    device: where its network is trained, None where no network is among the views. spans: (start,
    end) of times or row positions to leave out. checkpoint: folder for the state of a training
    that may be interrupted.
    """

    settings: Settings
    seed: int = 0
    device: torch.device | None = None
    spans: Sequence[tuple[Any, Any]] = ()
    checkpoint: Path | None = None
    on_progress: OnProgress | None = None

    def of_entity(self, number: int, name: str | None) -> FitJob:
        """The same for one of several entities: a folder of its own, its name in the progress."""
        folder = None if self.checkpoint is None else self.checkpoint / str(number)
        on_progress = self.on_progress

        def named(p: Progress) -> None:
            assert on_progress is not None  # noqa: S101
            on_progress(Progress(f"{p.phase} {name}", p.done, p.total, p.info))

        own = on_progress if on_progress is None or name is None else named
        return replace(self, checkpoint=folder, on_progress=own)


@dataclass(slots=True)
class History:
    """What happened: step, training loss and held-out RMSE of each check, and how it ended."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    holdout_rmse: list[float] = field(default_factory=list)
    best_step: int = 0
    converged: bool = False
    seconds: float = 0.0
    earlier_seconds: float = 0.0  # those of them that went into calls before, which were cut off

    def to_dict(self) -> dict[str, Any]:
        """As JSON facts."""
        return asdict(self)
