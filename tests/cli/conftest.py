"""A tiny model, data around it, and two ways to call the command: in this process, and as one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny import TINY, Done, series

from imdiffusion.cli import main


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on two threads, the more so on a busy machine."""
    threads, variable = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    torch.set_num_threads(threads)
    os.environ.pop("OMP_NUM_THREADS")
    if variable is not None:
        os.environ["OMP_NUM_THREADS"] = variable


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Done:
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                main([str(word) for word in words])
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        return Done(end.value.code or 0, out, err)

    return call


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """The command as a process of its own; `before` is Python that runs first."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: object, before: str = "", **options) -> subprocess.Popen[str]:
        program = f"{before}\nfrom imdiffusion.cli import main; main()"
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-c", program, *map(str, words)]
        process = subprocess.Popen(
            command, text=True, env={**os.environ, "COLUMNS": "200"}, **options
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.csv; new.csv with a fault at rows 200 to 229, and the same as new.parquet."""
    folder = tmp_path_factory.mktemp("data")
    series(600).to_csv(folder / "train.csv", index=False)
    new = series(400, seed=1, start="2026-01-06", fault=slice(200, 229))
    new.to_csv(folder / "new.csv", index=False)
    new.to_parquet(folder / "new.parquet", index=False)
    return folder


@pytest.fixture(scope="package")
def model(data: Path, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, fitted through the command once; no test writes into it."""
    return fitted(data, tmp_path_factory.mktemp("model") / "m", *TINY)


@pytest.fixture(scope="package")
def light(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a network: a process that reads it does not wait for torch."""
    return fitted(data, tmp_path_factory.mktemp("model") / "m", "--preset", "linear")


def fitted(data: Path, folder: Path, *words: str) -> Path:
    with pytest.raises(SystemExit) as end:
        main(["--quiet", "fit", str(data / "train.csv"), "--model", str(folder), *words])
    assert not end.value.code
    return folder
