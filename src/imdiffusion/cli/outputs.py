"""Checks on output paths before hours of work, not after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imdiffusion.data.atomic import check_writable
from imdiffusion.errors import OutputError, UsageError

TABLES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")


def check_output(
    path: Path, suffixes: tuple[str, ...] = TABLES, *, inputs: Sequence[Path] = ()
) -> None:
    """Raise before the work if the file `path` cannot be written after it.

    Raises UsageError for a suffix that is not one of `suffixes` and for one of the `inputs`, which
    would be replaced; OutputError for a folder in its
    place or a folder around it that is missing or cannot be written to.
    """
    if not path.name.lower().endswith(suffixes):
        raise UsageError(
            f"{path} does not end in {' or '.join(suffixes)}",
            remedy="The suffix chooses the format.",
        )
    if path.resolve() in [one.resolve() for one in inputs]:
        raise UsageError(
            f"{path} is an input and would be replaced", remedy="Write to another file."
        )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder", remedy="Name a file in it.")
    check_writable(path)


def check_model_output(folder: Path) -> None:
    """Raise OutputError before training if a model cannot be saved as `folder` after it."""
    if folder.exists() and not (folder / "manifest.json").is_file():
        if not folder.is_dir():
            raise OutputError(
                f"cannot write the model {folder}: it is a file", remedy="Name a folder."
            )
        if any(folder.iterdir()):
            raise OutputError(
                f"cannot write the model {folder}: it holds other files",
                remedy="Name a new folder, or empty this one.",
            )
    check_writable(folder)
