"""The kinds of absence: their codes, names, and words for an event."""

from __future__ import annotations

from imdiffusion.data.rhythm import in_words

NOTHING, MISSING, FROZEN, QUIET, LEFT_CONSTANT = range(5)
# Name and words of every kind, by its code.
KINDS: dict[int, tuple[str, str]] = {
    NOTHING: ("nothing", "as normal for"),
    MISSING: ("missing", "missing for"),
    FROZEN: ("frozen", "frozen at one value for"),
    QUIET: ("quiet", "far quieter than normal for"),
    LEFT_CONSTANT: ("left_constant", "away from its constant value for"),
}


def describe(kind: int, since_rows: int, period: float | None) -> str:
    """Words for an event: what a channel is, and for how long as of a row of it.

    since_rows: `since` of that row. period: seconds from row to row, None where unknown.

    >>> describe(MISSING, 33, 60.0)
    'missing for 34 rows (34 min)'
    """
    rows = since_rows + 1
    text = f"{KINDS[kind][1]} {rows} row{'' if rows == 1 else 's'}"
    return text if period is None else f"{text} ({in_words(rows * period)})"
