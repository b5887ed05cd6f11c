"""What was seen and expected around events, kept when the details of other rows go.

An event is looked at again weeks later: a page then shows its rows as they were, though those of
quiet times are gone. Bounded for each event: MARGIN rows before it, its first MOST rows, MARGIN
rows after them, and as many around its peak.
"""

from __future__ import annotations

import sqlite3

MARGIN = 20  # rows before and after
MOST = 120  # rows of a long event, from its beginning
_INTERVAL = 60 * 1_000_000_000  # ns from row to row where that is not known
_FAR = 2**62

# Both look up an event's rows by the primary key; `least` spares events that are long dealt with.
_KEEP = """
INSERT OR IGNORE INTO kept
SELECT details.* FROM events
JOIN entities ON entities.name = events.entity
JOIN turns ON turns.id = events.id AND turns.turn = events.turn
JOIN details ON details.entity = entities.id AND details.timestamp >= {first}
    AND details.timestamp < {last}
WHERE entities.id = :entity AND details.timestamp < :cutoff
    AND coalesce(events.end, :far) >= :least - :margin * coalesce(entities.interval, :interval)
"""
_STEP = "coalesce(entities.interval, :interval)"
_PEAK = "json_extract(turns.record, '$.peak')"
_AROUND_START = _KEEP.format(
    first=f"events.start - :margin * {_STEP}",
    last=f"min(coalesce(events.end, :far), events.start + :most * {_STEP}) + :margin * {_STEP}",
)
_AROUND_PEAK = _KEEP.format(
    first=f"{_PEAK} - :margin * {_STEP}", last=f"{_PEAK} + :margin * {_STEP}"
)


def keep_around_events(connection: sqlite3.Connection, entity: int, cutoff: int) -> None:
    """Copy what is older than `cutoff` (ns) and near an event; the originals are about to go."""
    least = connection.execute(
        "SELECT min(timestamp) FROM details WHERE entity = ?", (entity,)
    ).fetchone()[0]
    if least is None or least >= cutoff:
        return
    values = {
        "entity": entity, "cutoff": cutoff, "least": least, "far": _FAR, "margin": MARGIN,
        "most": MOST, "interval": _INTERVAL,
    }  # fmt: skip
    connection.execute(_AROUND_START, values)
    connection.execute(_AROUND_PEAK, values)
