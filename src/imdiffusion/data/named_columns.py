"""What the name of a column tells without an option for it: it holds the time, or labels.

A column called Time, ts, date or the like is the time where its values agree: text that is no
number, dates, or numbers that lie between 2000 and 2100 as epoch time. One that merely has such a
name, as a response time, stays a channel. What is decided is always said.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.data.columns import IGNORE
from imdiffusion.data.dialects import NUMBER
from imdiffusion.data.epochs import SHEET_DAYS, are_days_as_numbers, plausible_epoch
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError, DataWarning

USUAL = "timestamp"  # the name of the time that needs no saying
# Letters and digits of a name, lower case: "@timestamp", "Date Time" and "event_time" are found.
TIME_NAMES = frozenset(
    (
        *("time", "times", "ts", "date", "dates", "datetime", "timestamp", "timestamps", "ds"),
        *("epoch", "epochtime", "epochseconds", "epochms", "unix", "unixtime", "unixtimestamp"),
        *("utc", "utctime", "timeutc", "dateutc", "datetimeutc", "timestamputc", "eventtime"),
        *("timems", "timens", "timestampms", "timestampns", "localtime", "recordedat"),
        *("createdat", "measuredat", "readat"),
    )
)
LABEL_NAMES = frozenset(
    (
        *("label", "labels", "anomaly", "isanomaly", "anomalous", "isanomalous", "outlier"),
        *("isoutlier", "attack", "isattack", "target", "groundtruth", "gt", "class", "fault"),
        *("isfault", "isattacked", "changepoint", "anomalylabel", "attacklabel"),
    )
)
SAMPLE = 1_000  # rows that tell what a column holds
_SHUFFLED = 0.25  # share of steps back in time above which numbers are in no order
_WORDS = {word for one in ("true", "false") for word in (one, one.title(), one.upper())}
_LABELS = {-1.0, 0.0, 1.0}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

Column = Any  # a pyarrow array


def find_time(
    columns: Iterable[str],
    sample: Callable[[str], Column],
    *,
    dated: Collection[str] = (),
    sort: bool = False,
    place: Place,
) -> str | None:
    """The column that holds the time, of those without an option; None for none.

    sample: the first rows of a column. dated: columns whose own type is a date or time. sort: rows
    may stand in any order. Says with DataWarning which one it is; DataError where two could be.
    """
    found: dict[str, str] = {}
    for name in columns:
        if name in dated:
            found[name] = "dates"
        elif _plain(name) in TIME_NAMES:
            held = _held(name, sample(name))
            if held.endswith("epoch") and not sort and _is_shuffled(sample(name)):
                how = f"--timestamp {name} --sort"
                _warn_of_channel(name, f"{held}, out of order", place, how)
            elif held:
                found[name] = held
    if not found:
        return None
    first, *others = found
    if others:
        both = " and ".join(f"{name!r} ({held})" for name, held in found.items())
        raise DataError(
            place.says(f"any of the columns {both} could be the time"),
            remedy=f"Name the one, for instance --timestamp {first} (timestamp={first!r}), and "
            f"leave out the others (--ignore-column {others[0]}); if they are parts of one time, "
            "join them in one column.",
        )
    warnings.warn(
        place.says(
            f"column {first!r} is read as the time ({found[first]}). Say so with --timestamp "
            f"{first} (timestamp={first!r}), or {IGNORE.format(name=first)}"
        ),
        DataWarning,
        stacklevel=4,
    )
    return first


def warn_of_times(columns: Iterable[str], sample: Callable[[str], Column], *, place: Place) -> None:
    """Say with DataWarning which columns hold epoch time, though another one is the time."""
    for name in columns:
        if _plain(name) in TIME_NAMES:
            held = _held(name, sample(name))
            if held.endswith("epoch"):
                _warn_of_channel(name, held, place)


def warn_of_labels(channels: Iterable[str], values: Reals, observed: Flags) -> None:
    """Say with DataWarning which channels of values (T, K) look like labels: 0/1, by their name."""
    for k, name in enumerate(channels):
        if _plain(name) not in LABEL_NAMES or not observed[:, k].any():
            continue
        if set(np.unique(values[observed[:, k], k]).tolist()) <= _LABELS:
            warnings.warn(
                f"the 0/1 column {name!r} is read as a channel. If it holds labels, "
                f"{IGNORE.format(name=name)}",
                DataWarning,
                stacklevel=4,
            )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _held(name: str, column: Column) -> str:
    """What of a time a column holds, for messages; "" where it holds none."""
    column = _without_empty(column)
    if not len(column):
        return ""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return "dates"
    numbers = _numbers(column)
    if numbers is None:
        is_text = pa.types.is_string(column.type) and not set(column.to_pylist()) <= _WORDS
        return "times as text" if is_text else ""
    if are_days_as_numbers(numbers):
        return "dates as numbers"
    unit = plausible_epoch(numbers)
    if unit is not None:
        return f"{_UNITS[unit]} since the epoch"
    low, high = SHEET_DAYS
    days = bool(((numbers >= low) & (numbers < high)).all())
    rising = len(numbers) > 1 and bool((np.diff(numbers) >= 0).all() and numbers[-1] > numbers[0])
    told = "date" in name.lower() or "stamp" in name.lower() or bool((numbers % 1).any())
    return "days of a spreadsheet" if days and rising and told else ""


def _is_shuffled(column: Column) -> bool:
    numbers = _numbers(_without_empty(column))
    back = np.diff(numbers if numbers is not None else np.empty(0)) < 0
    return bool(len(back) and back.mean() > _SHUFFLED)


def _without_empty(column: Column) -> Column:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        column = column.filter(pc.fill_null(pc.not_equal(column, ""), False))
    return column.drop_null()


def _numbers(column: Column) -> Floats | None:
    """A column of numbers, or of text that holds nothing else, as float64; None for others."""
    kind = column.type
    if pa.types.is_string(kind):
        texts = column.to_pylist()
        if not all(NUMBER.fullmatch(text) for text in texts):
            return None
        numbers = np.array([float(text) for text in texts])
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
    else:
        return None
    found: Floats = numbers[np.isfinite(numbers)]
    return found


def _warn_of_channel(name: str, held: str, place: Place, otherwise: str = "") -> None:
    remedy = IGNORE.format(name=name)
    if otherwise:
        remedy = f"read it as the time with {otherwise}, or {remedy}"
    warnings.warn(
        place.says(
            f"column {name!r} looks like {held}, and is read as a channel. To change that, {remedy}"
        ),
        DataWarning,
        stacklevel=5,
    )
