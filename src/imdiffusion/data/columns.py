"""One column or one array of any accepted form -> floating numbers, NaN where missing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import narwhals as nw
import numpy as np

from imdiffusion.arrays import Flags, Reals
from imdiffusion.data.dialects import DATE
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError, DataWarning, UsageError

_ANYWHERE = Place()
_NUMBERS = (bool, int, float, Decimal, np.floating, np.integer, np.bool_)
IGNORE = "leave the column out with --ignore-column {name} (ignore_columns=[{name!r}])."


def numbers_of_series(series: nw.Series[Any], name: str, place: Place) -> Reals:
    """A narwhals series -> float32 as it is, anything else numeric as float64; null is NaN.

    Raises DataError naming the column and the row of the first value that is not a number.
    """
    kind = series.dtype
    if kind == nw.Float32 or kind == nw.Float64:
        return np.asarray(series.to_numpy())
    if kind == nw.Unknown and series.null_count() == len(series):  # Arrow's type of no value
        return np.full(len(series), np.nan)
    if isinstance(kind, nw.Decimal | nw.Object | nw.Unknown):
        return numbers_of_objects(series.to_list(), name, place)
    if kind.is_numeric() or kind == nw.Boolean:
        return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    filled = (~series.is_null()).to_numpy()
    if not filled.any():
        return np.full(len(series), np.nan)
    row = int(np.argmax(filled))
    raise not_a_number(series[row], name, place, row)


def numbers_of_objects(values: list[Any], name: str, place: Place) -> Reals:
    """Python numbers, booleans, decimals and None (or NA, NaT) -> float64 (T,)."""
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        if isinstance(value, _NUMBERS):
            numbers[row] = _as_float(value)
        elif value is None or type(value).__name__ in {"NAType", "NaTType"}:
            numbers[row] = math.nan
        else:
            raise not_a_number(value, name, place, row)
    return numbers


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308; infinities are refused by name later
        return math.inf


def not_a_number(value: Any, name: str, place: Place, row: int) -> DataError:
    """The error of a value that should have been a number."""
    shown = repr(value if isinstance(value, str) else str(value))
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    remedy = f"Correct it, leave it empty, or {IGNORE.format(name=name)}"
    if isinstance(value, str) and DATE.fullmatch(value.strip()):
        remedy = f"If it is the time, say so with --timestamp {name} (timestamp={name!r}). {remedy}"
    return DataError(place.says(f"{shown} is not a number", row=row, column=name), remedy=remedy)


def matrix_of_array(x: Any, place: Place) -> Reals:
    """An array (T, K), or (T,) for one channel -> (T, K); float32 and float64 without a copy.

    Raises DataError for another number of axes, and for values that are not numbers.
    """
    if isinstance(x, np.ma.MaskedArray):
        x = np.ma.filled(x.astype(np.float64), np.nan)
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            place.says(f"{type(x).__name__} cannot be read as an array: {error}"),
            remedy="Give an array (T, K), or a pandas, polars or pyarrow table.",
        ) from error
    if array.ndim == 1 and array.dtype.names is None:
        array = array[:, None]
    if array.ndim != 2:
        raise DataError(
            place.says(f"an array of shape {array.shape} is not a series"),
            remedy="Give an array (T, K): a row a time, a column a channel.",
        )
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "OU":
        matrix = np.empty(array.shape)
        for k in range(array.shape[1]):
            matrix[:, k] = numbers_of_objects(array[:, k].tolist(), f"c{k}", place)
        return matrix
    if array.dtype.kind in "fiub":
        return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    raise DataError(
        place.says(f"an array of {array.dtype} does not hold real numbers"),
        remedy="Give an array of floats, integers or booleans.",
    )


def check_finite(values: Reals, channels: tuple[str, ...], place: Place) -> Flags:
    """True where observed (not NaN), (T, K); raises DataError naming the first infinity."""
    observed = ~np.isnan(values)
    for start in range(0, len(values), 65536):  # a block at a time: no third mask of the whole
        block = np.isinf(values[start : start + 65536])
        if block.any():
            row, k = (int(at) for at in np.argwhere(block)[0])
            value = values[start + row, k]
            raise DataError(
                place.says(f"{value} is infinite", row=start + row, column=channels[k]),
                remedy="Replace infinities by NaN: that counts as missing.",
            )
    return observed


def check_channels(channels: tuple[str, ...], place: Place) -> None:
    """Raise DataError unless there are names and each stands once."""
    if not channels:
        raise no_numbers(place)
    for k, name in enumerate(channels):
        if name in channels[:k]:
            raise DataError(
                place.says("two columns have this name", column=name),
                remedy=f"Rename one of them, or {IGNORE.format(name=name)}",
            )


def check_rows(count: int) -> None:
    """Raise DataError for a table or array without rows."""
    if not count:
        raise DataError("there are no rows", remedy="Give data with rows.")


def no_numbers(place: Place, texts: Sequence[str] = ()) -> DataError:
    """The error of data without a channel; `texts` are columns that hold text instead."""
    held = f" ({', '.join(map(repr, texts))} hold text)" if texts else ""
    return DataError(
        place.says(f"there is no numeric column{held}"),
        remedy="Give at least one column of numbers beside the timestamps.",
    )


def chosen_columns(
    there: Sequence[str], chosen: Sequence[str] | None, left_out: Collection[str]
) -> list[str]:
    """The chosen columns of a table, or all that are not left out.

    Raises UsageError for a chosen column that is not there.
    """
    if chosen is None:
        return [name for name in there if name not in left_out]
    for name in chosen:
        if name not in there:
            raise UsageError(
                f"the table has no column {name!r}",
                remedy=f"Its columns are {', '.join(map(str, there))}.",
            )
    return list(chosen)


def check_ignored(ignored: Iterable[str], there: Iterable[str], place: Place = _ANYWHERE) -> None:
    """Warn with DataWarning of columns to leave out that are not there: perhaps a slip."""
    absent = [name for name in ignored if name not in set(there)]
    if absent:
        warnings.warn(
            place.says(f"there is no column {absent[0]!r} to leave out"), DataWarning, stacklevel=4
        )
