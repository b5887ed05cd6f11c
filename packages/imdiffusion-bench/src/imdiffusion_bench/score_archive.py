"""Scores kept beside the runs: one file a run, for a look at what was missed.

A file `<id of the run>.npz` holds what `Scores` holds of the rows of the test part, in float32
(`step_errors` apart, which have one row a step), and the run's head as JSON. It appears whole or
not at all, and is read without running any code out of it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.atomic import atomic_path, check_writable
from imdiffusion.errors import DataError, OutputError
from imdiffusion_bench.split import Scores

THRESHOLD = 1.0  # of every score in the benchmark: a row above it is in alarm
_SUFFIX = ".npz"
_AGAIN = "Measure it again with --keep-scores."


@dataclass(frozen=True, slots=True)
class Kept:
    """What a run said about T rows of the test part, K channels.

    run             the head of its record: id, dataset, entity, variant, row, seed, settings, ...
    score           float32 (T,), NaN = no score; above `threshold` a row is in alarm
    threshold       of the score
    channel_scores  float32 (T, K), each channel's part of the error; None where the row has none
    expected        float32 (T, K), what was imputed, in the data's units; None as before
    """

    run: Mapping[str, Any]
    score: NDArray[np.float32]
    threshold: float
    channel_scores: NDArray[np.float32] | None = None
    expected: NDArray[np.float32] | None = None

    @property
    def shares(self) -> NDArray[np.float32] | None:
        """Each channel's share of the error (T, K): rows add up to 1, or to 0 without an error."""
        if self.channel_scores is None:
            return None
        # An error without bounds outweighs all others, and leaves room to be added to another one.
        parts = np.clip(np.nan_to_num(self.channel_scores), 0.0, 1e30)
        whole = parts.sum(axis=1, keepdims=True)
        return np.asarray(parts / np.where(whole > 0, whole, 1.0), np.float32)


def kept_path(folder: Path, run_id: str) -> Path:
    """Where the scores of the run with this id are, or would be."""
    return folder / f"{run_id}{_SUFFIX}"


def check_folder(folder: Path) -> None:
    """Make the folder; OutputError where it, or a file in it, cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep scores in {folder}: {error.strerror}",
            remedy="Name a folder; it need not exist.",
        ) from error
    check_writable(kept_path(folder, "0"))


def keep(folder: Path, head: Mapping[str, Any], scores: Scores) -> Path:
    """Write the scores of the run that `head` describes; the path. Raises OutputError."""
    arrays: dict[str, Any] = {  # none of them of objects: nothing here is pickled
        "run": np.array(json.dumps(head, sort_keys=True)),
        "score": np.asarray(scores.score, np.float32),
        "threshold": np.array(THRESHOLD),
    }
    for name in ("channel_scores", "expected"):
        found = getattr(scores, name)
        if found is not None:
            arrays[name] = np.asarray(found, np.float32)
    target = kept_path(folder, str(head["id"]))
    with atomic_path(target) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return target


def load(path: Path) -> Kept:
    """What `keep` wrote; DataError for a file that is not there, or that it did not write."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            score = held["score"]
            channel_scores, expected = (held.get(name) for name in ("channel_scores", "expected"))
            return Kept(
                json.loads(str(held["run"])),
                score,
                float(held["threshold"]),
                channel_scores,
                expected,
            )
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no kept scores: {error}", remedy=_AGAIN) from error


def load_all(folder: Path) -> Iterator[Kept]:
    """Every run whose scores are in the folder, by id; DataError for a folder without any."""
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    paths = [path for path in paths if not path.name.startswith(".")]  # cut off by a kill
    if not paths:
        raise DataError(
            f"no scores are kept in {folder}",
            remedy="Run `imdiffusion bench run PLAN --keep-scores FOLDER` first.",
        )
    for path in paths:
        yield load(path)
