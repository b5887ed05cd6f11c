"""The recording that ships with the package: a real host under load, with injected faults.

`examples/recording` holds the programs that made it; `about` says on what machine and when.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from typing import Any

import numpy as np

from imdiffusion.data.files import read
from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataError


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault injected while recording: UTC times, what was run, which channels it should move."""

    start: np.datetime64
    end: np.datetime64
    kind: str
    description: str
    command: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Normal rows to train on, rows with faults to test on, the faults, facts on the machine."""

    train: Frame
    test: Frame
    faults: list[InjectedFault]
    about: dict[str, Any]


def recording() -> Recording:
    """Read the bundled recording; DataError if the installation lacks a file of it."""
    return Recording(
        train=_frame("train.parquet"),
        test=_frame("test.parquet"),
        faults=[_fault(label) for label in json.loads(_text("faults.json"))],
        about=json.loads(_text("about.json")),
    )


def _fault(label: dict[str, Any]) -> InjectedFault:
    return InjectedFault(
        start=_utc(label["start"]),
        end=_utc(label["end"]),
        kind=label["kind"],
        description=label["description"],
        command=label["command"],
        channels=tuple(label["channels"]),
    )


def _utc(text: str) -> np.datetime64:
    moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "ns")


def _frame(name: str) -> Frame:
    with as_file(files("imdiffusion") / "assets" / "recording" / name) as path:
        if not path.is_file():
            raise _absent(name)
        frame = read(path)
    if isinstance(frame, dict):
        raise DataError(f"{name} of the bundled recording holds several series")
    return frame


def _text(name: str) -> str:
    file = files("imdiffusion") / "assets" / "recording" / name
    if not file.is_file():
        raise _absent(name)
    return file.read_text(encoding="utf-8")


def _absent(name: str) -> DataError:
    return DataError(
        f"this installation lacks {name} of the bundled recording",
        remedy="Reinstall with: pip install --force-reinstall --no-deps imdiffusion.",
    )
