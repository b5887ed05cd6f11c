"""Environments of peers: a venv each, with pinned packages, made on first use.

A venv cannot be renamed once made, so it is built under its final name and a marker is written
last: a folder without its marker was interrupted, or is of other pins, and is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import ConfigError, OutputError, UsageError
from imdiffusion.registry import nearest

_FOLDER = Path(__file__).parent
_MARKER = "complete"
_LINES = 12  # of pip's output, in an error


def default_home() -> Path:
    """Where environments live: the folder IMDIFFUSION_PEERS names, or one in the user's cache."""
    given = os.environ.get("IMDIFFUSION_PEERS")
    return Path(given) if given else Path.home() / ".cache" / "imdiffusion" / "peers"


def environments() -> tuple[str, ...]:
    """The names of environments that have a list of requirements."""
    return tuple(sorted(path.stem.partition("-")[2] for path in _FOLDER.glob("requirements-*.txt")))


def ready(name: str, home: Path) -> bool:
    """Whether the environment is there, whole and of today's pins."""
    marker = home / name / _MARKER
    return marker.is_file() and marker.read_text(encoding="utf-8") == _pins(name)


def environment(name: str, home: Path) -> Path:
    """The Python of this environment under `home`, made if it is not there: minutes, gigabytes.

    Raises ConfigError for an unknown name, OutputError where `home` cannot be written, UsageError
    with pip's last lines where the packages cannot be installed.
    """
    if name not in environments():
        raise ConfigError(f"unknown environment {name!r}", remedy=nearest(name, environments()))
    folder = home / name
    python = folder / "bin" / "python"
    with _locked(home, name):
        if not ready(name, home):
            shutil.rmtree(folder, ignore_errors=True)
            _call([sys.executable, "-m", "venv", str(folder)], name)
            for arguments in _installs(name):
                pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
                _call([*pip, *arguments], name)
            with atomic_path(folder / _MARKER) as draft:
                draft.write_text(_pins(name), encoding="utf-8")
    return python


def _installs(name: str) -> list[list[str]]:
    """What to hand to pip, in order: pins with their dependencies, then those without."""
    calls = [["-r", str(_FOLDER / f"requirements-{name}.txt")]]
    alone = _FOLDER / f"alone-{name}.txt"
    if alone.exists():
        calls.append(["--no-deps", "-r", str(alone)])
    return calls


def _pins(name: str) -> str:
    """A digest of what the environment is made of; other pins or another Python, another digest."""
    digest = hashlib.sha256(sys.version.encode())
    for arguments in _installs(name):
        digest.update(Path(arguments[-1]).read_bytes())
    return digest.hexdigest()


def _call(command: list[str], name: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-_LINES:])
        raise UsageError(
            f"the environment {name!r} of the peers cannot be made: {' '.join(command[1:4])} "
            f"ended with {done.returncode}:\n{last}",
            remedy="Look for a network, a package index or disk space that is missing.",
        )


@contextmanager
def _locked(home: Path, name: str) -> Iterator[None]:
    """One process at a time makes an environment; the others wait and find it made."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / f".{name}.lock").open("w")
    except OSError as error:
        raise OutputError(
            f"cannot write to {home}: {error.strerror}",
            remedy="Name another folder in IMDIFFUSION_PEERS.",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
