"""Numbers, times and shares as people read them; report/page/format.js says it in JavaScript."""

from __future__ import annotations

import math

import numpy as np

_PREFIXES = {4: "T", 3: "G", 2: "M", 1: "k", 0: "", -2: "µ", -3: "n"}
_MINUS = "−"
NOTHING = "–"

Moment = np.datetime64 | int  # a time, or a row position where the data has no timestamps


def number(value: float) -> str:
    """Three significant digits with an SI prefix: 12345 is "12.3k"; NaN is a dash."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    rounded = float(f"{value:.3g}")
    size = abs(rounded)
    if rounded == 0:
        return "0"
    if 1e-3 <= size < 1e3:
        power = 0
    else:
        power = math.floor(round(math.log10(size), 9) / 3)
    if power == -1:  # below 0.001 comes micro: "0.12m" reads as metres or millions
        power = -2
    if power not in _PREFIXES:
        return f"{value:.2e}".replace("-", _MINUS)
    text = f"{rounded / 1000.0**power:.4g}"
    return text.replace("-", _MINUS) + _PREFIXES[power]


def count(value: int) -> str:
    """A whole number with thousands separated: 3600 is "3,600"."""
    return f"{value:,}"


def share(value: float) -> str:
    """A share of 1 in percent: 0.414 is "41%", 0.004 is "<1%"."""
    if math.isnan(value):
        return NOTHING
    if 0 < value < 0.01:
        return "<1%"
    return f"{value:.0%}"


def duration(seconds: float) -> str:
    """A span of time in its two largest units: 90.0 is "1 min 30 s"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for large, small, unit, part in ((60, 1, "min", "s"), (3600, 60, "h", "min")):
        if whole < large * (60 if unit == "min" else 24):
            first, second = divmod(whole // small, large // small)
            return f"{first} {unit} {second:02d} {part}" if second else f"{first} {unit}"
    days, hours = divmod(whole // 3600, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(value: Moment) -> str:
    """A time as "2026-01-05 10:00:00" (UTC), a position as "row 1,204"."""
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[s]")).replace("T", " ")
    return f"row {value:,}"


def iso(value: np.datetime64) -> str:
    """A time for machines: "2026-01-05T10:00:00Z"."""
    return f"{value.astype('datetime64[s]')}Z"
