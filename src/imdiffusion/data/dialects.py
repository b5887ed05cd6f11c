"""How a CSV file is written: separator, decimal mark, and where its header stands.

Separators are the comma, the semicolon, the tab and the bar. Before the header there may be lines
of comment (#) and the line by which a spreadsheet names the separator (sep=;). The header itself
may be the last comment, as numpy writes it. Where the comma does not separate, it may be the
decimal mark: the first broken number of the file tells.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SEPARATORS = (",", ";", "\t", "|")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_BROKEN = re.compile(rb'(?:^|[;\t|])\s*"?[+-]?\d*([.,])\d+(?:[eE][+-]?\d+)?"?\s*(?=[;\t|\r\n]|$)')


@dataclass(frozen=True, slots=True)
class Dialect:
    """separator; skipped = lines before the header; names = the header, where a comment is it."""

    separator: str
    skipped: int
    names: tuple[str, ...] | None = None


def dialect_of(lines: Sequence[str]) -> Dialect:
    """The dialect that the first lines of a file show."""
    skipped, separator, comment = 0, None, ""
    for line in lines:
        text = line.rstrip("\r\n")
        named = _SEP_LINE.fullmatch(text)
        if named is not None and separator is None:
            separator = named[1]
        elif text.startswith("#"):
            comment = text.lstrip("#").strip()
        elif text.strip():
            break
        skipped += 1
    rest = [line for line in lines[skipped:] if line.strip()]
    if not rest:
        return Dialect(separator or ",", skipped)
    separator = separator or _separator(rest)
    first, names = fields(rest[0], separator), fields(comment, separator)
    if holds_values(first) and len(names) == len(first) and not holds_values(names):
        return Dialect(separator, skipped, tuple(names))
    return Dialect(separator, skipped)


def fields(line: str, separator: str) -> list[str]:
    """The fields of one line."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def holds_values(row: Sequence[str]) -> bool:
    """Whether a row holds nothing but numbers and dates: no header, unless it is 0, 1, 2, ..."""
    cells = [cell.strip() for cell in row if cell.strip()]
    if cells == [str(k) for k in range(len(cells))]:
        return False
    return all(NUMBER.fullmatch(cell) or DATE.fullmatch(cell) for cell in cells)


def decimal_mark(lines: Iterable[bytes], separator: str) -> str:
    """The decimal mark, by the first broken number of the file; "." where there is none."""
    if separator == ",":
        return "."
    for line in lines:
        found = _BROKEN.search(line)
        if found is not None:
            return found[1].decode()
    return "."


def _separator(lines: Sequence[str]) -> str:
    """The separator under which header and rows have as many fields, the comma first."""
    counts = {mark: len(fields(lines[0], mark)) for mark in SEPARATORS}
    several = [mark for mark in SEPARATORS if counts[mark] > 1]
    rows = lines[1:6]
    for mark in several:
        if all(abs(len(fields(row, mark)) - counts[mark]) <= 1 for row in rows):
            return mark
    return several[0] if several else ","
