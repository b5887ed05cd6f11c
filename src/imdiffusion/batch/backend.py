"""The protocol of backends: where the workers of a batch are, how they are begun, told and heard.

What is to be done, how often it is tried and what was lost is decided in `pool.py`, once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imdiffusion.batch.folder import Series
from imdiffusion.data.layout import FileOptions


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker said: that it is ready (with its version), an answer, or how it ended."""

    worker: int
    ready: str = ""
    answer: str = ""
    ended: str = ""


class Backend(Protocol):
    """Workers somewhere. Built as `(where, *, jobs, threads, gpus)`; see `engines` in the registry.

    where: what follows the engine's name, for instance an address. jobs: workers at most, None =
    as many as there is room for. threads: of each, None = its share. gpus: of each, may be a
    fraction. Raises ConfigError or UsageError for what it cannot do.

    patience: seconds for which workers that end before they are ready are begun again, where none
    ever was: 0 where what fails once will fail again. remedy: what to look at when none begins.
    """

    slots: int
    threads: int
    patience: float
    remedy: str

    def start(self, worker: int) -> None:
        """Begin a worker; `wait` tells when it is ready."""

    def hand(self, worker: int, order: str) -> None:
        """Give a ready worker an order."""

    def wait(self, seconds: float) -> Sequence[Said]:
        """What was said since, waiting at most so long for the first word."""

    def stop(self, worker: int) -> None:
        """Let go of a worker that has no order; nothing more is heard of it."""

    def close(self) -> None:
        """End all workers at once: fits save their state where that is possible."""

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        """Take a file of several entities apart into the empty folder `into`."""
