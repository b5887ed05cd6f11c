"""One run, one JSON line: what is in it, how lines are read, appended and packed; kept scores.

The runs of FILE.jsonl are those of FILE.jsonl.xz, where there is one, and then its own: `pack`
moves them there, and every reader of FILE.jsonl sees both.

A line holds these keys; `status` says which of the last two groups it has.

    schema     2; 1 had `row` for `detector`, and is read as well
    id         16 hex digits of the question: dataset, entity, variant, detector, seed, and
               the settings that are not at their default, limits of time apart
    plan       the plan it belongs to, such as "paper"
    dataset, entity
    variant    its name in the tables
    detector   what is behind it: "fast", "paper", "mahalanobis", ...
    seed       int
    drawn      whether the seed changes the numbers; where not, it is measured once, with seed 0
    settings   the detector's settings, all of them, resolved
    versions   {"python", "imdiffusion", "numpy", "torch", ...}: `provenance.PACKAGES`
    commit     of the checkout, with "+" where it was changed; null outside one
    host       {"cpu", "cores", "memory_gib", "gpu" (its name, or null where none is used)}
    device     "cpu" or "cuda"
    threads    of one tensor operation
    date       ISO 8601, UTC, to the second
    status     "ok" or "failed"

    ok:        rows {"train", "test"}, channels, anomalous_share (of the test rows)
               data: `split.digest_of` the values and labels; not in runs before 2026-11-30
               seconds {"fit", "score", "evaluate"}
               memory_mib: peak resident memory, on Linux since this variant began, elsewhere of
               all that the process ever did; of a detector with a process of its own, of that
               gpu_memory_mib: the largest sum of tensors on the GPU; null where none is used
               detector_versions {package: version}: of a detector's own process, where it has one
               fit_shared: true where the fit was done under another variant, `fit_of`, with the
               same training settings; seconds["fit"] is then that training's with this variant's
               own calibration (of before 2026-11-30 with the calibration of `fit_of` as well)
               warnings [text, ...]: the warnings of the library about the data
               metrics {protocol: {metric: float or null}}, protocols never mixed
               extra: what `ensembles.ensemble_curve` says; {} without diffusion steps
    failed:    stage: "load", "fit", "score", "keep" (of scores that were to be kept) or "evaluate";
               "process" where the worker died
               error {"type", "message"}; the type of "process" is "ProcessDied"

Beside the runs, where `--keep-scores` names a folder, `<id>.npz` holds what `Scores` holds of the
rows of the test part, in float32 (`step_errors` apart), the threshold of the score (above it a row
is in alarm), and the head of the run as JSON (`run`). `numpy.load` reads it, and runs no code.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import lzma
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from imdiffusion.data.atomic import atomic_path, check_writable
from imdiffusion.errors import DataError, DataWarning, OutputError, UsageError
from imdiffusion_bench.columns import HEADLINE
from imdiffusion_bench.split import Scores

SCHEMA = 2
DIGITS = 6  # significant ones of a metric that is packed
_RUNS, _PACKED = ".jsonl", ".xz"
Record = dict[str, Any]
NAMES = ("id", "plan", "dataset", "entity", "variant", "detector")  # text in every line
ENDS = {"ok": ("rows", "seconds", "metrics"), "failed": ("stage", "error")}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # some network file systems


def run_id(**question: Any) -> str:
    """16 hex digits of a question: the same question, the same digits."""
    text = json.dumps(question, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line and force it to disk: after a kill a file has whole lines and at most one torn.

    Non-finite numbers are written as null: "not defined", which no mean counts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(finite(record), allow_nan=False, separators=(",", ":"))
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        torn = False
        if end:
            file.seek(end - 1)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only call that appends to `path`, which need not exist; its folder is made.

    Held by an advisory lock on "<name>.lock" beside it, which a kill releases; where the file
    system has no locks, by nothing. Raises UsageError where another call holds it, OutputError
    where `path` cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            if not target.is_file():
                raise OutputError(
                    f"cannot write {path}: it is {'a folder' if target.is_dir() else 'no file'}",
                    remedy="Name a file; it need not exist.",
                )
            target.open("ab").close()
        check_writable(target)
        held, lock = _locked(target.with_name(target.name + ".lock"), path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            remedy="Name a file in a folder that you may write to.",
        ) from error
    with held:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path, path: Path) -> tuple[IO[str], Path]:
    """The lock file, open and locked; UsageError where another call holds it."""
    while True:
        file = lock.open("w", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, lock):
                return file, lock
        except BlockingIOError:
            file.close()
            raise UsageError(
                f"another call is writing to {path}",
                remedy="Wait for it, or give each shard an --out of its own: tables and pages "
                "read several files.",
            ) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return file, lock
            file.close()
            raise
        file.close()


def _is_at(file: IO[str], lock: Path) -> bool:
    """Whether the open file is still the one at this path: who held it before removes it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False


def there(path: Path) -> bool:
    """Whether a file of runs exists, packed or not."""
    return bool(_halves(path))


def files_in(folder: Path) -> list[Path]:
    """The files of runs in a folder, sorted by name; one that is packed by its name without .xz."""
    found = (path for path in folder.iterdir() if path.name.endswith((_RUNS, _RUNS + _PACKED)))
    return sorted({_plain(path) for path in found})


def pack(path: Path) -> Path:
    """Move the runs of FILE.jsonl into FILE.jsonl.xz, the latest line of each alone; its path.

    A document FILE.json, such as that of the behaviours, is packed as it is (`read_document`).

    The metric that ranks under a protocol keeps every digit, the others DIGITS significant ones:
    tables write three, and the rest are most of the bytes. Raises UsageError while a call writes to
    the file, and as `read` and `alone`.
    """
    plain = _plain(path)
    if plain.suffix != _RUNS:
        return _packed(plain, plain.read_bytes())
    with alone(plain):
        lines = [
            json.dumps(finite({**run, **_rounded(run)}), allow_nan=False, separators=(",", ":"))
            for run in read([plain])
        ]
        return _packed(plain, "".join(f"{line}\n" for line in lines).encode())


def _packed(plain: Path, text: bytes) -> Path:
    target = plain.with_name(plain.name + _PACKED)
    with atomic_path(target) as draft:
        draft.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    plain.unlink(missing_ok=True)
    return target


def read_document(path: Path) -> Any:
    """The JSON document in FILE, or in FILE.xz where it is packed; None where there is neither."""
    for half in reversed(_halves(path)):  # the unpacked one is the newer
        return json.loads(b"".join(_lines(half)))
    return None


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == _PACKED else path


def _halves(path: Path) -> list[Path]:
    """The packed and the unpacked part of a file of runs, as far as they are there."""
    plain = _plain(path)
    return [one for one in (plain.with_name(plain.name + _PACKED), plain) if one.exists()]


def _rounded(run: Record) -> Record:
    """What of a run is measured quality, to DIGITS significant digits; what ranks keeps all."""
    found: Record = {key: _to_digits(run[key]) for key in ("metrics", "extra") if key in run}
    for protocol, names in HEADLINE.items():
        values = run.get("metrics", {}).get(protocol, {})
        if names[0] in values:
            found["metrics"][protocol][names[0]] = values[names[0]]
    return found


def _to_digits(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_digits(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_to_digits(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read(paths: Iterable[Path]) -> Iterator[Record]:
    """The runs of these files, the latest line of an id alone; a torn line is passed over.

    A DataWarning says how many ids have lines with different numbers.
    A torn line ends a file or stands where a kill cut it: its run is measured again. Of those
    that do not end a file a DataWarning says how many there are. Raises DataError, naming file
    and line, for what is no run of this schema, and for a file that cannot be read.
    """
    latest: dict[str, Record] = {}
    two: list[Record] = []
    for path in chain.from_iterable(_halves(one) or [one] for one in paths):
        for record in _runs_of(path):
            before = latest.pop(record["id"], record)
            both = [one for one in (before, record) if one["status"] == "ok"]
            if both[1:] and _rounded(both[0])["metrics"] != _rounded(both[1])["metrics"]:
                two.append(record)
            latest[record["id"]] = record
    if two:
        named = "{dataset} {entity}, {variant}, seed {seed}".format_map(two[0])
        warnings.warn(
            f"{len(two)} runs have two answers in these files (the first is {named}): the later "
            "line stands",
            DataWarning,
            stacklevel=3,
        )
    yield from latest.values()


def _runs_of(path: Path) -> list[Record]:
    """The runs of one file, line by line."""
    found: list[Record] = []
    torn: list[int] = []
    foreign = 0  # first line that no kill can have made out of one of ours
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{where}: not text", remedy="Name files that `imdiffusion bench run` wrote."
            ) from None
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except ValueError:  # no JSON, or a number of thousands of digits
            if line.endswith(b"\n"):
                torn.append(number)
            if not text.startswith(("{", "\0")):
                foreign = foreign or number
            continue
        found.append(_checked(record, where))
    if foreign and not found:
        raise DataError(
            f"{path}, line {foreign}: not a run, and no other line is one",
            remedy="Name files that `imdiffusion bench run` wrote.",
        )
    if torn:
        lines = "1 line was" if len(torn) == 1 else f"{len(torn)} lines were"
        warnings.warn(
            f"{path}: {lines} skipped, cut off by a kill (the first is line {torn[0]}); their "
            "runs are measured again",
            DataWarning,
            stacklevel=4,
        )
    return found


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with lzma.open(path) if path.suffix == _PACKED else path.open("rb") as file:
            yield from file
    except (lzma.LZMAError, EOFError) as error:
        raise DataError(
            f"{path} is damaged: {error}", remedy="Copy it again from where it was made."
        ) from error
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist", remedy="Run `imdiffusion bench run` first."
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", remedy="Name files, not folders."
        ) from error


def _checked(record: Any, where: str) -> Record:
    """The record, if it has what every reader of records takes for granted."""
    if isinstance(record, dict) and record.get("schema") == 1 and "row" in record:
        record["schema"], record["detector"] = SCHEMA, record.pop("row")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise DataError(
            f"{where}: not a run of schema {SCHEMA}",
            remedy="Read it with the version that wrote it, or leave it out.",
        )
    odd = [name for name in NAMES if not isinstance(record.get(name), str)]
    odd += [] if isinstance(record.get("seed"), int) else ["seed"]
    status = record.get("status")
    ends = ENDS.get(status) if isinstance(status, str) else None
    odd += ["status"] if ends is None else [name for name in ends if name not in record]
    if odd:
        raise DataError(
            f"{where}: a run without a proper {' and '.join(repr(name) for name in odd)}",
            remedy="Remove the line: the next `imdiffusion bench run` measures it again.",
        )
    return record


def finite(value: Any) -> Any:
    """The same as JSON can hold: None for numbers that are not finite, keys as text."""
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def scores_path(folder: Path, run_id: str) -> Path:
    """Where the scores of the run with this id are, or would be."""
    return folder / f"{run_id}.npz"


def check_scores_folder(folder: Path) -> None:
    """Make the folder; OutputError where it, or a file in it, cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep scores in {folder}: {error.strerror}",
            remedy="Name a folder; it need not exist.",
        ) from error
    check_writable(scores_path(folder, "0"))


def keep_scores(folder: Path, head: Mapping[str, Any], scores: Scores) -> Path:
    """Write the scores of the run that `head` describes, whole or not; the path. OutputError."""
    arrays: dict[str, Any] = {  # none of them of objects: nothing here is pickled
        "run": np.array(json.dumps(head, sort_keys=True)),
        "score": np.asarray(scores.score, np.float32),
        "threshold": np.array(1.0),
    }
    for name in ("channel_scores", "expected"):
        found = getattr(scores, name)
        if found is not None:
            arrays[name] = np.asarray(found, np.float32)
    target = scores_path(folder, str(head["id"]))
    with atomic_path(target) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return target
