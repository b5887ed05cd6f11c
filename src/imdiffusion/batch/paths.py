"""Where a batch keeps things: one folder an entity, and what it needs to go on in one more.

OUT/NAME/                  the model, or scores.parquet and events.parquet
OUT/batch.json             the summary of the last call
OUT/.batch/receipts/       of what each result was made
OUT/.batch/fits/           fits that were cut off
OUT/.batch/parts/          files of several entities, taken apart, while a call is under way
OUT/.batch/lock            held by the call that writes here
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imdiffusion.batch.folder import file_name
from imdiffusion.batch.progress import SUMMARY
from imdiffusion.errors import OutputError, UsageError

OWN = ".batch"
_DRAFT = re.compile(r"\.[0-9a-f]{8}\..")  # what data/atomic.py names what is not whole yet


class Places:
    """The paths in an output folder."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.own = self.out / OWN
        self.parts = self.own / "parts"

    def target(self, entity: str) -> Path:
        """The folder of an entity's result."""
        return self.out / file_name(entity)

    def receipt(self, entity: str) -> Path:
        """What says of what it was made."""
        return self.own / "receipts" / f"{file_name(entity)}.json"

    def fit(self, entity: str) -> Path:
        """The folder of its fit, while it is under way."""
        return self.own / "fits" / file_name(entity)

    def unused(self, entities: Iterable[str]) -> list[str]:
        """Names of results that are of none of these entities."""
        known = {file_name(entity) for entity in entities} | {OWN, SUMMARY}
        return sorted(path.name for path in self.out.iterdir() if path.name not in known)

    def keeps_only(self, verb: str) -> None:
        """OutputError where the last summary is of another verb: its results are not to mix."""
        try:
            last = json.loads((self.out / SUMMARY).read_text(encoding="utf-8"))["verb"]
        except (OSError, ValueError, TypeError, KeyError):
            return  # none, or one that says nothing: each folder is still looked at
        if last != verb:
            raise OutputError(
                f"cannot write the batch {self.out}: it holds what {last!r} made",
                remedy="Name a new folder.",
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folders, and be the only call that writes here.

        Held by an advisory lock, which a kill releases. Raises OutputError where it cannot be
        written or holds other things, UsageError where another call holds it.
        """
        try:
            if self.out.is_dir() and not self.own.is_dir() and any(self.out.iterdir()):
                raise OutputError(
                    f"cannot write the batch {self.out}: it holds other things",
                    remedy="Name a new folder, or empty this one.",
                )
            for folder in (self.own / "receipts", self.own / "fits"):
                folder.mkdir(parents=True, exist_ok=True)
            lock = (self.own / "lock").open("ab")
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write the batch {self.out}: {error.strerror}",
                remedy="Name a folder that you may write to.",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"another call writes to {self.out}", remedy="Wait for it, or end it."
                ) from None
            for draft in self.out.iterdir():  # of a call that was killed
                if _DRAFT.match(draft.name):
                    shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
            try:
                yield
            finally:
                shutil.rmtree(self.parts, ignore_errors=True)
