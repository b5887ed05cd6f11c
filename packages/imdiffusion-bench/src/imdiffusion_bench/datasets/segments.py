"""Files of anomalous segments with the channels that caused them: "start-end:d1,d2" a line."""

from __future__ import annotations

import re
from pathlib import Path

from imdiffusion.errors import DataError
from imdiffusion_bench.datasets.known import SegmentEnd
from imdiffusion_bench.split import Cause

_LINE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*:\s*(\d+(?:\s*,\s*\d+)*)\s*,?\s*")


def read_causes(path: Path, end: SegmentEnd, width: int, rows: int, where: str) -> list[Cause]:
    """The segments of a file, in its order; channels count from 1 there and from 0 here.

    end: whether the last row of a segment belongs to it ("inclusive", as in ASD) or not
    ("exclusive", as in SMD). Raises DataError, naming `where` and the line, for a line of another
    form, a segment without rows or outside the `rows` rows, and a channel outside 1 to `width`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: {path} cannot be read: {error}", remedy="Copy the data set again."
        ) from error
    causes = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        wrong = "not of the form start-end:d1,d2"
        if found is not None:
            start, stop = int(found[1]), int(found[2]) + (end == "inclusive")
            channels = frozenset(int(text) - 1 for text in found[3].split(","))
            if not start < stop <= rows:
                wrong = f"no segment within {rows} rows"
            elif min(channels) < 0 or max(channels) >= width:
                wrong = f"a channel outside 1 to {width}"
            else:
                causes.append(Cause(start, stop, channels))
                continue
        raise DataError(
            f"{where}: {path.name}, line {number}: {line.strip()[:60]!r} is {wrong}",
            remedy="Correct the line, or remove the file: it is optional.",
        )
    return causes
