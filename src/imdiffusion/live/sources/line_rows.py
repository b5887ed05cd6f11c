"""The lines of one growing file as rows: JSON objects, or CSV under the file's header."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.data.csv_source import MISSING
from imdiffusion.errors import DataError
from imdiffusion.live.sources.growing_file import Lines, first_line
from imdiffusion.live.sources.text_rows import Gathering, RowForm


@dataclass(slots=True)
class Sheet:
    """Reads the lines of one file: `name` for messages, `entity` for rows that name none."""

    name: str
    entity: str
    form: RowForm
    max_line_bytes: int
    columns: tuple[str, ...] | None = None  # of CSV, once the header was read
    header_line: int = 0  # its number; 0 = not among the lines yet to come

    def gather(self, path: Path, found: Lines, rows: Gathering) -> None:
        """Add each line to `rows`; what is no row is rejected there. Raises OSError."""
        if not self.name.lower().endswith(".csv"):
            for number, line in found.lines:
                if line.strip():
                    rows.add_json(line, f"{self.name}, line {number}", self.entity)
            return
        if self.columns is None and (found.lines or found.too_long):
            self.columns = self._header(path, rows)
        columns = self.columns
        passed_over = 0
        for number, line in found.lines:
            if number == self.header_line or not line.strip():
                continue
            if not columns:
                passed_over += 1
                continue
            where = f"{self.name}, line {number}"
            try:
                cells = _cells(line)
                if len(cells) != len(columns):
                    raise DataError(f"{len(cells)} values under a header of {len(columns)} names")
            except DataError as error:
                rows.count += 1
                rows.reject(where, str(error))
                continue
            rows.add(self._row(columns, cells), where, self.entity)
        if passed_over:
            rows.count += passed_over
            rows.reject(self.name, f"{passed_over} lines skipped: its header is not one")

    def _row(self, columns: tuple[str, ...], cells: list[str]) -> dict[str, object]:
        row: dict[str, object] = dict(zip(columns, cells, strict=True))
        for name in (self.form.entity, self.form.timestamp):
            if str(row.get(name, "")).strip() in MISSING:
                row[name] = None
        return row

    def _header(self, path: Path, rows: Gathering) -> tuple[str, ...]:
        """The names of the columns; () if the first line has none, which is reported."""
        self.header_line, line = first_line(path, self.max_line_bytes)
        try:
            if len(line) > self.max_line_bytes:
                raise DataError(f"longer than {self.max_line_bytes} bytes")
            names = tuple(cell.strip() for cell in _cells(line.removeprefix(b"\xef\xbb\xbf")))
            _check_header(names, self.form)
        except DataError as error:
            rows.reject(f"{self.name}, header", str(error))
            return ()
        return names


def _check_header(names: tuple[str, ...], form: RowForm) -> None:
    if form.timestamp not in names:
        raise DataError(f"there is no column {form.timestamp!r}")
    used = [name for name in names if name not in form.ignore]
    for index, name in enumerate(used):
        if not name:
            raise DataError("a column has no name")
        if name in used[:index]:
            raise DataError(f"two columns have the name {name!r}")


def _cells(line: bytes) -> list[str]:
    """One line of CSV; DataError if it is not UTF-8 or ends within quotes."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason})") from error
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}") from error
