"""Where data came from, for messages that a person can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from imdiffusion.arrays import Ints


@dataclass(frozen=True, slots=True)
class Place:
    """The source of a run of rows. Rows are counted from 0 in code, from 1 in messages."""

    source: str = ""  # a file; empty for a table or an array
    first: int = 0  # row of the source where the run starts
    rows: Ints | None = None  # rows of the source, where they are not in one piece
    line_of: Callable[[int], int | None] | None = None  # row of the source -> line of the file

    def row(self, index: int) -> str:
        """Row `index` of the run: "row 7", or "row 7 (line 8)" for a file of lines."""
        number = self.first + (index if self.rows is None else int(self.rows[index]))
        line = None if self.line_of is None else self.line_of(number)
        return f"row {number + 1}" if line is None else f"row {number + 1} (line {line})"

    def says(self, what: str, *, row: int | None = None, column: str | None = None) -> str:
        """ "train.csv, row 7 (line 8), column 'cpu': what"."""
        parts = [self.source] if self.source else []
        if row is not None:
            parts.append(self.row(row))
        if column is not None:
            parts.append(f"column {column!r}")
        return f"{', '.join(parts)}: {what}" if parts else what

    def shifted(self, rows: int) -> Place:
        """The run that starts `rows` rows later."""
        return replace(self, first=self.first + rows)

    def chosen(self, rows: Ints) -> Place:
        """The run made of these rows of this one."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])
