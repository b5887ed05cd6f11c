"""Long rows (time, channel, value) -> a matrix (T, K)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from imdiffusion.arrays import Instants, Ints, Reals
from imdiffusion.data.frame import Frame
from imdiffusion.data.place import Place
from imdiffusion.data.timestamps import text_of
from imdiffusion.errors import DataError, DataWarning


@dataclass(frozen=True, slots=True)
class LongRows:
    """N long rows: times datetime64[ns] (N,), channel numbers codes (N,), values (N,)."""

    times: Instants
    codes: Ints
    values: Reals

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: Ints | slice) -> LongRows:
        """Some of the rows."""
        return LongRows(self.times[rows], self.codes[rows], self.values[rows])

    def join(self, other: LongRows) -> LongRows:
        """These rows, then those."""
        return LongRows(
            np.concatenate([self.times, other.times]),
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.values, other.values]),
        )


def codes_of(column: pa.Array, place: Place, name: str) -> tuple[Ints, list[str]]:
    """Number the names in a column by first appearance; raises DataError where one is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = column.cast(pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = column.dictionary_encode()
    names = coded.dictionary.to_pylist()
    codes = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
    wrong = codes < 0
    if "" in names:
        wrong |= codes == names.index("")
    if wrong.any():
        raise DataError(
            place.says("the name is missing", row=int(np.argmax(wrong)), column=name),
            remedy="Name it in every row.",
        )
    return codes, names


def check_long(rows: LongRows, channels: list[str], *, place: Place, name: str) -> None:
    """Raise DataError unless each channel's timestamps strictly increase, row by row."""
    order = np.argsort(rows.codes, kind="stable")
    times, codes = rows.times[order], rows.codes[order]
    wrong = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] <= times[:-1]))
    if not wrong.size:
        return
    at = wrong[np.argmin(order[wrong + 1])]  # the first in the file
    before, after = int(order[at]), int(order[at + 1])
    channel, instant = channels[rows.codes[after]], text_of(rows.times[after])
    if rows.times[before] == rows.times[after]:
        what = f"duplicate timestamp {instant} of channel {channel!r}"
        remedy = "Remove one of the two, or keep the last of them with --sort (sort=True)."
    else:
        what = f"unsorted timestamps: {instant} of channel {channel!r} comes after a later one"
        remedy = "Sort the rows by time, or have them sorted with --sort (sort=True)."
    raise DataError(
        place.says(f"{what} in {place.row(before)}", row=after, column=name), remedy=remedy
    )


def pivot(rows: LongRows, channels: list[str], *, place: Place, keep_last: bool = False) -> Frame:
    """The frame of long rows: a row a distinct time; pairs that are absent are not observed.

    Of several values for one time and channel the last stays, with a DataWarning, if `keep_last`;
    else they raise DataError. An infinite value raises DataError.
    """
    infinite = np.isinf(rows.values)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(
            place.says(
                f"{rows.values[row]} is infinite", row=row, column=channels[rows.codes[row]]
            ),
            remedy="Replace infinities by NaN: that counts as missing.",
        )
    times, slot = np.unique(rows.times, return_inverse=True)
    cell = slot * len(channels) + rows.codes
    values: Reals = np.full((len(times), len(channels)), np.nan, dtype=rows.values.dtype)
    _check_pairs(cell, rows, channels, place=place, keep_last=keep_last)
    values.reshape(-1)[cell] = rows.values  # of equal cells numpy keeps the last
    return Frame(values, ~np.isnan(values), times, tuple(channels), kind="pyarrow")


def _check_pairs(
    cell: Ints, rows: LongRows, channels: list[str], *, place: Place, keep_last: bool
) -> None:
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(cell[order][1:] == cell[order][:-1])
    if not again.size:
        return
    before, after = int(order[again[0]]), int(order[again[0] + 1])
    what = (
        f"a second value for channel {channels[rows.codes[after]]!r} at "
        f"{text_of(rows.times[after])}, after {place.row(before)}"
    )
    if not keep_last:
        raise DataError(
            place.says(what, row=after),
            remedy="Remove one of the two, or keep the last of them with --sort (sort=True).",
        )
    warnings.warn(
        place.says(f"{len(again)} values are replaced by later ones; {what}", row=after),
        DataWarning,
        stacklevel=4,
    )


def long_pieces(
    chunks: Iterable[LongRows], size: int, channels: list[str], *, place: Place, name: str
) -> Iterator[Frame]:
    """Frames of `size` distinct times from long rows that arrive in chunks, in the order of time.

    Raises DataError where they are not in that order, or a pair (time, channel) stands twice.
    """
    held: LongRows | None = None
    for rows in chunks:
        held = rows if held is None else held.join(rows)
        back = np.flatnonzero(held.times[1:] < held.times[:-1])
        if back.size:
            raise DataError(
                place.says(
                    "unsorted timestamps: rows are not in the order of time, which reading in "
                    "pieces needs",
                    row=int(back[0]) + 1,
                    column=name,
                ),
                remedy="Sort the file by time, or read it whole (imdiffusion.read).",
            )
        changes = np.flatnonzero(held.times[1:] != held.times[:-1]) + 1
        while len(changes) >= size:
            cut = int(changes[size - 1])
            yield pivot(held.take(slice(0, cut)), channels, place=place)
            held, place = held.take(slice(cut, None)), place.shifted(cut)
            changes = changes[size:] - cut
    if held is not None and len(held):
        yield pivot(held, channels, place=place)
