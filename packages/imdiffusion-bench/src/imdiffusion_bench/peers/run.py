"""The process of a peer: started with training rows, asked for scores, ended with its object.

Rows and scores pass as npy files in a temporary folder, messages as JSON lines. What the method
prints goes to a log, whose last lines stand in the error if it fails. Every failure is an error:
a score that is short or not finite too.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError, UsageError

Floats = NDArray[np.float64]

_PROTOCOL = Path(__file__).parent / "workers" / "protocol.py"
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
_LINES = 12  # of the log, in an error


def call_peer(
    python: Path,
    worker: Path,
    job: Mapping[str, Any],
    train: Floats,
    *,
    name: str,
    timeout_s: float,
    gpu: bool = True,
) -> PeerProcess:
    """A process of `python` that has trained the job's method on `train` (T, K, finite).

    worker: a file with `fit(train, job) -> score(test) -> (T,)`; see workers/protocol.py. gpu:
    whether the process sees one; a method takes what it sees.
    Raises DataError where training fails or takes longer than `timeout_s`, UsageError where the
    process cannot be started.
    """
    folder = Path(tempfile.mkdtemp(prefix="imdiffusion-peer-"))
    try:
        np.save(folder / "train.npy", train, allow_pickle=False)
        (folder / "job.json").write_text(json.dumps(dict(job)), encoding="utf-8")
        return PeerProcess(python, worker, folder, name=name, timeout_s=timeout_s, gpu=gpu)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(
            f"the process of the peer {name} cannot be started with {python}: {error.strerror}",
            remedy="Remove the environment's folder, so that it is made again, or free disk space.",
        ) from error


class PeerProcess:
    """A trained method in another interpreter.

    versions: of the packages there, as it said itself; seconds: of its training.
    """

    def __init__(
        self,
        python: Path,
        worker: Path,
        folder: Path,
        *,
        name: str,
        timeout_s: float,
        gpu: bool,
    ) -> None:
        self.name, self.timeout_s, self._folder = name, timeout_s, folder
        with (folder / "log.txt").open("wb") as log:
            # Isolated (-I): neither this package nor the worker's neighbours can be imported.
            self._process = subprocess.Popen(
                [str(python), "-I", str(_PROTOCOL), str(folder), str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **({} if gpu else NO_GPU)},
            )
        self._questions = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)
        self._ended = weakref.finalize(self, _end, self._process, folder)
        self._heard = b""
        self.versions: dict[str, str] = {}
        self.seconds = 0.0
        try:
            self._trained(self._answer("train"))
        except BaseException:
            self.close()
            raise

    def score(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K), all finite. Raises DataError; the process is over then."""
        if not self._ended.alive:
            raise self._failed("is over, after an error or close", log=False)
        np.save(self._folder / "test.npy", x, allow_pickle=False)
        (self._folder / "score.npy").unlink(missing_ok=True)
        try:
            self._ask()
            self._answer("score")
            return self._read(len(x))
        except BaseException:
            self.close()
            raise

    @property
    def memory_mib(self) -> float:
        """Peak resident memory of the process so far; NaN once it is over, and off Linux."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return math.nan
        peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0]) / 1024 if peaks else math.nan

    def close(self) -> None:
        """End the process and remove its folder; what happens on its own with the object."""
        self._ended()

    def _trained(self, told: dict[str, Any]) -> None:
        try:
            self.versions = {str(key): str(value) for key, value in told["versions"].items()}
            self.seconds = float(told["seconds"])
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise self._failed("said something else than versions and seconds") from error

    def _ask(self) -> None:
        try:
            self._questions.write(b"score\n")
            self._questions.flush()
        except BrokenPipeError as error:
            raise self._failed("ended by itself") from error

    def _answer(self, what: str) -> dict[str, Any]:
        """The next line the worker says; DataError if it ends or is late."""
        until = time.monotonic() + self.timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._heard:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise self._failed(
                        f"took longer than {self.timeout_s:g} s to {what}",
                        remedy="Raise timeout_s, or lower epochs or steps.",
                    )
                piece = os.read(self._answers.fileno(), 65536)
                if not piece:
                    code = self._process.wait()
                    raise self._failed(f"failed to {what} (exit status {code})")
                self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            told = json.loads(line)
        except ValueError as error:
            raise self._failed(f"answered with what is no JSON: {line[:80]!r}") from error
        if not isinstance(told, dict):
            raise self._failed(f"answered with what is no JSON object: {line[:80]!r}")
        return told

    def _read(self, rows: int) -> Floats:
        try:
            score = np.load(self._folder / "score.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise self._failed("left no readable score") from error
        if score.shape != (rows,) or score.dtype.kind != "f":
            raise self._failed(
                f"left scores of shape {score.shape} and type {score.dtype} for {rows} rows"
            )
        wrong = np.count_nonzero(~np.isfinite(score))
        if wrong:
            raise self._failed(f"left {wrong} of {rows} scores that are no finite numbers")
        return np.asarray(score, np.float64)

    def _failed(self, what: str, *, remedy: str = "", log: bool = True) -> DataError:
        path = self._folder / "log.txt"
        text = path.read_bytes().decode(errors="replace") if log else ""
        # A progress bar rewrites its line: only its last state says anything.
        lines = [line.rpartition("\r")[2] for line in text.split("\n")]
        last = "\n".join([line for line in lines if line.strip()][-_LINES:])
        message = f"the peer {self.name} {what}" + (f"; it said last:\n{last}" if last else "")
        return DataError(message, remedy=remedy or "Leave this peer out for this series.")


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # it had died with a question unread
                pipe.close()
    shutil.rmtree(folder, ignore_errors=True)
