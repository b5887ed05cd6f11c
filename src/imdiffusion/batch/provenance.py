"""Receipts: of what a result was made, and what it was made into, so that nothing is done twice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdiffusion import __version__
from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """mark: a digest of all that decides a result but threads. files: sha256 of each it became.

    threads: of one tensor operation, 0 = unknown. It decides the last bits of sums.
    """

    mark: str
    files: dict[str, str]
    facts: dict[str, int]
    warnings: list[str]
    seconds: float
    threads: int = 0

    def holds(self, mark: str, folder: Path, *, threads: int | None = None) -> bool:
        """Whether the folder still is what was made, and was made of what `mark` says.

        threads: with so many, None = with any number.
        """
        if threads is not None and threads != self.threads:
            return False
        return self.mark == mark and self.files == digests(folder)


def mark_of(facts: dict[str, Any], *files: Path) -> str:
    """A digest of JSON facts, of files' contents and of this version. DataError: no such file."""
    whole = {"format": FORMAT, "version": __version__, **facts}
    whole["files"] = [digest_of(path) for path in files]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """sha256 of a file. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}",
            remedy="Every worker must see it under this path.",
        ) from error


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file of a folder by name; empty where there is no such folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: digest_of(path) for path in files if path.is_file()}


def read_receipt(path: Path) -> Receipt | None:
    """The receipt, or None where there is none that can be read: then the work is done again."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Receipt(**facts)
    except (OSError, ValueError, TypeError):  # absent, damaged, or of another version
        return None


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write it whole. Raises OutputError."""
    facts = {name: getattr(receipt, name) for name in Receipt.__slots__}
    with atomic_path(path) as draft:
        draft.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
