"""From whatever a caller hands over to frames on a regular grid in the model's channel order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats
from imdiffusion.data.files import read, read_pieces
from imdiffusion.data.frame import Frame, concat, frame_from
from imdiffusion.data.grid import regularize
from imdiffusion.data.layout import FileOptions
from imdiffusion.data.tables import warn_of_labels
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.errors import DataError, DataWarning, UsageError

FIRST_ROWS = 64  # in which a channel that training had must have a value
MOST_NAMED = 8  # channels in a message
LEAST_SILENCE = 10  # rows without a value, to the end, that are told of
PIECE_ROWS = 8_192  # of a file in memory at a time, while it is scored


def open_input(x: Any, reading: FileOptions) -> tuple[dict[Any, Any], bool]:
    """The series of an input by entity, and whether they came as a dict.

    A path to a file of several entities counts as a dict. Raises DataError.
    """
    if isinstance(x, str | Path):
        pieces = _pieces(Path(x), reading)
        x = read(Path(x), reading) if pieces is None else pieces
    if isinstance(x, Mapping):
        if not x:
            raise DataError("the dict of series is empty", remedy="Give at least one entity.")
        if len({str(name) for name in x}) < len(x):
            raise DataError("two entities have the same name", remedy="Name each differently.")
        return dict(x), True
    return {getattr(x, "entity", None): x}, False


class _Pieces(Iterator[Frame]):
    """Frames of one file, read as they are asked for."""

    def __init__(self, first: Frame, rest: Iterator[Frame]) -> None:
        self.entity = first.entity
        self._frames = chain([first], rest)

    def __next__(self) -> Frame:
        return next(self._frames)


def _pieces(path: Path, reading: FileOptions) -> _Pieces | None:
    """The file as pieces, or None if it holds several entities and must be read whole."""
    pieces = read_pieces(path, rows=PIECE_ROWS, options=reading)
    try:
        return _Pieces(next(pieces), pieces)
    except UsageError:
        return None


def single_frame(x: Any, reading: FileOptions, *, entity: str | None) -> Frame:
    """The whole series as one frame on a regular grid, for fitting.

    Says with DataWarning which channels look like labels.
    """
    frame = concat(list(x)) if isinstance(x, _Pieces) else _frame(x, reading)
    warn_of_labels(frame.channels, frame.values, frame.observed)
    return regularize(replace(frame, entity=entity if entity is not None else frame.entity))


def scoring_frames(
    x: Any, reading: FileOptions, entity: Entity, *, name: str | None, ignore_extra: bool
) -> Iterator[Frame]:
    """The series as consecutive frames on a regular grid, channels in the model's order.

    name: what the caller calls the entity. Raises DataError for unknown channels unless
    `ignore_extra`. Says with DataWarning which channels are missing or reordered, when rows come at
    another period than in training, and which channels that training had have no value in the first
    rows: `FIRST_ROWS` of them, a window at least, or all there are; and at the end, which have been
    without a value for longer than is usual.
    """
    pieces = x if isinstance(x, _Pieces) else iter([_frame(x, reading)])
    channels = entity.channels
    silent = _Silent(entity.scaler.known, max(FIRST_ROWS, entity.settings.window), name)
    stopped = _Stopped(channels, entity.usual_gaps)
    first: Frame | None = None
    last: np.datetime64 | None = None
    rhythm = True  # decided once, on the first piece
    for piece in pieces:
        matched = _match(piece, channels, ignore_extra=ignore_extra, loud=first is None)
        stopped.push(matched.observed)
        if name is not None:
            matched = replace(matched, entity=name)
        silent.read(piece, matched)
        if first is None:
            first = matched
            _compare_period(matched, entity.period)
            even = regularize(matched)
            rhythm = even is not matched or _is_even(matched)
            yield even
        elif rhythm:  # one period for all pieces, and a gap may lie on their border
            yield regularize(matched, period=first.period, after=last)
        else:
            yield matched
        last = None if matched.timestamps is None else matched.timestamps[-1]
    stopped.say()
    silent.say()


class SeriesRows:
    """The scaled rows of a series that an entity scores, piece after piece, once.

    count: rows so far. keep: whether `frame` is wanted at the end.
    """

    def __init__(self, frames: Iterator[Frame], entity: Entity, *, keep: bool = False) -> None:
        self.count = 0
        self._entity, self._incoming = entity, frames
        self._own: list[Flags] = []
        self._frames: list[Frame] | None = [] if keep else None

    def __iter__(self) -> Iterator[Rows]:
        rates = self._entity.counters.reader()
        for raw in self._incoming:
            frame, origin = rates.push(raw), self.count
            self.count += len(frame)
            self._own.append(_own_rows(frame))
            if self._frames is not None:
                self._frames.append(frame)
            yield self._entity.rows(frame, origin=origin)

    @property
    def own(self) -> Flags:
        """Which of the rows so far (T,) are the caller's, and not put in for a gap."""
        return np.concatenate(self._own)

    @property
    def frame(self) -> Frame:
        """The rows so far as they were read, with rates for counters."""
        return concat(self._frames or [])


class _Stopped:
    """Which channels have a value in some row of a series and then none to its end."""

    def __init__(self, channels: Sequence[str], gaps: Floats) -> None:
        self._channels, self._least = channels, np.fmax(gaps, LEAST_SILENCE)
        self._rows = 0
        self._since = np.zeros(len(channels), np.int64)  # the row after the last with a value

    def push(self, observed: Flags) -> None:
        """The next rows."""
        last = len(observed) - observed[::-1].argmax(axis=0)
        self._since = np.where(observed.any(axis=0), self._rows + last, self._since)
        self._rows += len(observed)

    def say(self) -> None:
        """The series has ended: warn of what has stopped, if anything has."""
        gone = (self._since > 0) & (self._rows - self._since > self._least)
        found = [f"{self._channels[k]!r} since row {self._since[k] + 1}" for k in gone.nonzero()[0]]
        if found:
            more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
            warnings.warn(
                f"{len(found)} of {len(self._channels)} channels have no value to the end of these "
                f"{self._rows} rows: {', '.join(found[:MOST_NAMED])}{more}",
                DataWarning,
                stacklevel=3,
            )


class _Silent:
    """Which channels that training had have no value in the first rows of a series: said once.

    A channel whose column is absent has been told of, with the columns.
    """

    def __init__(self, known: Flags, rows: int, entity: str | None) -> None:
        self._silent, self._left = known.copy(), rows
        self._where = "" if entity is None else f" of entity {entity!r}"
        self._names: list[str] = []
        self._rows = 0

    def read(self, piece: Frame, matched: Frame) -> None:
        """The next rows, as they came and with the model's channels."""
        if self._left <= 0:
            return
        if not self._rows and piece.kind != "numpy":
            columns = set(piece.channels)
            self._silent &= [name in columns for name in matched.channels]
        first = matched.observed[: self._left]
        self._silent &= ~first.any(axis=0)
        self._names = [matched.channels[k] for k in np.flatnonzero(self._silent)]
        self._rows, self._left = self._rows + len(first), self._left - len(first)
        if self._left <= 0:
            self.say()

    def say(self) -> None:
        """Warn of what is silent, if anything is; the series has ended, or enough has been read."""
        if self._names:
            one = len(self._names) == 1
            warnings.warn(
                f"{_some(self._names)}, which training had, {'has' if one else 'have'} no value in "
                f"the first {self._rows} rows that are scored{self._where}: "
                f"{'it is' if one else 'they are'} scored as missing, so what happens to "
                f"{'it' if one else 'them'} is not seen, and other channels are told without "
                f"{'it' if one else 'them'}. Mend the source, or fit again without",
                DataWarning,
                stacklevel=3,
            )
        self._names = []


def _is_even(frame: Frame) -> bool:
    """Whether no step between neighbours is nearer to another number of periods than to one."""
    if frame.timestamps is None or frame.period is None:
        return True
    return bool((np.diff(frame.timestamps) < 1.5 * frame.period).all())


def _frame(x: Any, reading: FileOptions) -> Frame:
    if isinstance(x, Frame):
        return x
    return frame_from(
        x, timestamp=reading.timestamp, ignore_columns=reading.ignore_columns, sort=reading.sort
    )


def _match(frame: Frame, channels: Sequence[str], *, ignore_extra: bool, loud: bool) -> Frame:
    """The frame with the model's channels in the model's order."""
    if frame.channels == tuple(channels):
        return frame
    if frame.kind == "numpy":
        if len(frame.channels) != len(channels):
            raise DataError(
                f"the array has {len(frame.channels)} columns, the model {len(channels)} channels",
                remedy="Give the columns of the training data, or a table with column names.",
            )
        return replace(frame, channels=tuple(channels))
    known = [name for name in frame.channels if name in set(channels)]
    extra = [name for name in frame.channels if name not in set(channels)]
    if not known:
        raise DataError(
            f"none of the model's channels is in the data; it has {_some(frame.channels)}",
            remedy=f"The model knows {_some(channels)}.",
        )
    if extra and not ignore_extra:
        raise DataError(
            f"the data has channels the model does not know: {_some(extra)}",
            remedy="Leave them out, or ignore them with --ignore-extra (ignore_extra=True).",
        )
    missing = [name for name in channels if name not in set(known)]
    if loud and missing:
        warnings.warn(
            f"{len(missing)} of {len(channels)} channels are missing and count as unobserved: "
            f"{_some(missing)}",
            DataWarning,
            stacklevel=2,
        )
    elif loud and known != [name for name in channels if name in set(known)]:
        warnings.warn(
            "channels are in another order than in training; they were put back in order",
            DataWarning,
            stacklevel=2,
        )
    return frame.select(channels)


def _some(names: Sequence[str], most: int = MOST_NAMED) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def _compare_period(frame: Frame, trained: np.timedelta64 | None) -> None:
    now = frame.period
    if now is None or trained is None or int(trained.astype("timedelta64[ns]").astype(int)) == 0:
        return
    ratio = now / trained
    if not 0.9 < ratio < 1.1:
        seconds = [float(p / np.timedelta64(1, "ns")) / 1e9 for p in (now, trained)]
        warnings.warn(
            f"rows come every {seconds[0]:g} s, but every {seconds[1]:g} s in training",
            DataWarning,
            stacklevel=2,
        )


def _own_rows(frame: Frame) -> Flags:
    if frame.rows is None:
        return np.ones(len(frame.values), dtype=bool)
    return np.asarray(frame.rows >= 0)


def too_short(rows: int, window: int) -> DataError:
    """The error for a series that no window fits into."""
    return DataError(
        f"the data to score has {rows} rows, fewer than a window ({window} rows)",
        remedy="Give more rows.",
    )
