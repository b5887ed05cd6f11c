"""Numbers as time: seconds, milliseconds, microseconds or nanoseconds since 1970.

The unit follows from the magnitude unless it is given: below 1e10 (the year 2286) s, below 1e13 ms,
below 1e16 us, else ns. It has to be the same in every row. Two kinds of numbers are refused rather
than read as hours of 1970: days of a spreadsheet (46023 is 2026-01-01 in Excel) and whatever else
would lie before March 1973. Numbers that begin near zero are time elapsed, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imdiffusion.arrays import Floats, Instants
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError

NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SMALLEST = {"ns": 1e16, "us": 1e13, "ms": 1e10}  # of a magnitude, by unit
EARLIEST = 1e8  # s, March 1973: what is earlier is no epoch number of seconds
ELAPSED = 1e3  # s: a column that begins below counts from its own beginning
SHEET_DAYS = (18_264.0, 73_051.0)  # 1950-01-01 and 2100-01-01 as a spreadsheet counts days
_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_ISO = "Write ISO 8601 (2024-01-31T12:00:00Z)"
_UNIT = "name their unit: --unit s, ms, us or ns."


@dataclass(frozen=True, slots=True)
class Counted:
    """How numbers count: in which unit, and whether from their own beginning, not from 1970."""

    unit: str
    elapsed: bool = False


def instants_of(
    column: Any, *, place: Place, name: str, unit: str, before: Counted | None = None
) -> tuple[Instants, Counted]:
    """Epoch numbers of a pyarrow column (T,) as datetime64[ns] (T,), and how they count.

    unit: "auto", or what the caller says. before: how the rows before these counted, where they
    are of one column. Raises DataError naming the row of a number that is no time.
    """
    if pa.types.is_integer(column.type):
        try:
            numbers = column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid as error:
            raise too_distant(place, name, None) from error
    else:
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(
            place.says(f"{str(numbers[row])!r} is not a timestamp", row=row, column=name),
            remedy=f"{_ISO}, or epoch numbers in s, ms, us or ns.",
        )
    size = np.abs(numbers.astype(np.float64))
    counted = Counted(unit) if unit != "auto" else _one_unit(numbers, size, place, name, before)
    scale = NANOSECONDS[counted.unit]
    distant = size * scale >= 2.0**63
    if distant.any():
        raise too_distant(place, name, int(np.argmax(distant)))
    if numbers.dtype == np.int64:
        return (numbers * scale).view("datetime64[ns]"), counted
    # A float holds 1700000000.1 s only to some 200 ns: digits beyond that are noise, not time.
    spacing = float(np.spacing(size.max(initial=0.0))) * scale
    digit = 10 ** max(0, int(np.ceil(np.log10(max(spacing, 1e-9)))))
    whole = np.floor(numbers)
    part = np.round((numbers - whole) * scale / digit).astype(np.int64) * digit
    return (whole.astype(np.int64) * scale + part).view("datetime64[ns]"), counted


def unit_of(size: float) -> str:
    """The unit that a number of this magnitude is in."""
    return next((unit for unit, least in SMALLEST.items() if size >= least), "s")


def are_days_as_numbers(numbers: Floats) -> bool:
    """Whether all numbers are dates written without marks, as 20240131."""
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    return bool(
        np.all((year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12))
        and np.all((day >= 1) & (day <= 31) & (numbers % 1 == 0))
    )


def plausible_epoch(numbers: Floats) -> str | None:
    """The unit in which all of these numbers lie in the years 2000 to 2100; None for no unit."""
    low, high = float(numbers.min(initial=np.inf)), float(numbers.max(initial=-np.inf))
    for unit, scale in NANOSECONDS.items():
        if low * scale >= 946_684_800e9 and high * scale < 4_102_444_800e9:
            return unit
    return None


def _one_unit(
    numbers: NDArray[Any],
    size: Floats,
    place: Place,
    name: str,
    before: Counted | None,
) -> Counted:
    """The one way in which all numbers count; DataError where it changes, or for no time at all."""
    if not len(size):
        return before or Counted("s")
    units = list(NANOSECONDS)
    steps = np.searchsorted(sorted(SMALLEST.values()), size, side="right")  # position in `units`
    early = size < EARLIEST
    if before is None:
        elapsed = bool(size.min() < ELAPSED and early.all())
        if early.all() and not elapsed:
            raise _early(numbers, size, place, name)
        before = Counted(units[int(steps[0])], elapsed)
    other = (steps != units.index(before.unit)) | (early != before.elapsed)
    if other.any():
        row = int(np.argmax(other))
        here = "seconds elapsed" if early[row] else f"{_WORDS[units[int(steps[row])]]} since 1970"
        there = "elapsed" if before.elapsed else "since 1970"
        raise DataError(
            place.says(
                f"{numbers[row]} looks like {here}, but other rows like {_WORDS[before.unit]} "
                f"{there}",
                row=row,
                column=name,
            ),
            remedy=f"Write all rows in one unit; if they are, {_UNIT}",
        )
    return before


def _early(numbers: NDArray[Any], size: Floats, place: Place, name: str) -> DataError:
    low, high = SHEET_DAYS
    shown = f"{float(numbers[0]):.10g}"
    if bool(((size >= low) & (size < high)).all()):
        day = np.datetime64("1899-12-30") + int(size[0])
        return DataError(
            place.says(
                f"{shown} looks like a day of a spreadsheet ({day}), not like epoch seconds",
                row=0,
                column=name,
            ),
            remedy=f"{_ISO}: format the column as a date before the export "
            "(pandas: to_datetime(column, unit='D', origin='1899-12-30')). If they are seconds "
            "of 1970, say so: --unit s.",
        )
    if are_days_as_numbers(size):
        return DataError(
            place.says(f"{shown} looks like a date, not like epoch seconds", row=0, column=name),
            remedy=f"{_ISO} (pandas: to_datetime(column, format='%Y%m%d')).",
        )
    day = np.datetime64(int(size[0]), "s").astype("datetime64[D]")
    return DataError(
        place.says(f"{shown} would be {day} as epoch seconds", row=0, column=name),
        remedy=f"{_ISO}, or epoch numbers; if these are right, {_UNIT} If it is no time, leave "
        f"the column out: --ignore-column {name} (ignore_columns=[{name!r}]).",
    )


def too_distant(place: Place, name: str, row: int | None) -> DataError:
    """The error of a timestamp that 64 bits of nanoseconds do not hold."""
    return DataError(
        place.says("a timestamp is outside the years 1678 to 2261", row=row, column=name),
        remedy="Correct it; for epoch numbers, name their unit: --unit s, ms, us or ns.",
    )
