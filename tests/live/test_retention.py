"""Rows around events stay when the details of quiet times go."""

import sqlite3

import pytest
from live_story import MINUTE, START, rows, turn

from imdiffusion.durations import DAY_NS
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import FAR, Reader
from imdiffusion.live.store.retention import MARGIN, MOST, Retention
from imdiffusion.live.store.schema import migrate

ROWS = 700


@pytest.fixture(name="store")
def _store(tmp_path):
    with Store(tmp_path / "live.db", retention=Retention(details=1, kept=10)) as store:
        store.write(rows(["web", "db"], 0, ROWS), now=START)
        yield store


def thin(store, days):
    for _ in range(12):
        store.thin(now=START + int(days * DAY_NS), rows=200)


def kept(store, entity):
    with Reader(store.path) as reader:
        found = reader.details(entity, 0, FAR, limit=10_000)
    return [int(time - START) // MINUTE for time in found.timestamps]


def test_rows_around_an_event_stay_with_their_cells(store):
    turns = [
        turn("e1", "web", 0, "ongoing", row=100),
        turn("e1", "web", 1, "resolved", row=100, end=105),
    ]
    store.write(Checkpoint(updates=turns), now=START)
    thin(store, 3)
    assert kept(store, "db") == []
    assert kept(store, "web") == list(range(100 - MARGIN, 105 + MARGIN))
    with Reader(store.path) as reader:
        cells = reader.details("web", START + 100 * MINUTE, START + 101 * MINUTE).cells
    assert cells[0, 1].tolist() == [103.0, 104.0, 105.0]
    thin(store, 12)
    assert kept(store, "web") == []


def test_of_a_long_event_the_beginning_and_the_peak_stay(store):
    from dataclasses import replace

    long = replace(turn("e1", "web", 0, "ongoing", row=100), peak=START + 600 * MINUTE)
    store.write(Checkpoint(updates=[long]), now=START)
    thin(store, 3)
    first = range(100 - MARGIN, 100 + MOST + MARGIN)
    assert kept(store, "web") == [*first, *range(600 - MARGIN, 600 + MARGIN)]


def test_only_what_is_old_moves_and_nothing_is_shown_twice(store):
    store.write(Checkpoint(updates=[turn("e1", "web", 0, "resolved", row=100, end=110)]), now=START)
    thin(store, 1 + 105 / 1440)
    assert kept(store, "web") == list(range(100 - MARGIN, ROWS))


def test_a_file_of_the_version_before_gets_the_table(tmp_path):
    path = tmp_path / "live.db"
    with sqlite3.connect(path, isolation_level=None) as old:
        migrate(old, START, to=2)
    old.close()
    with Store(path, retention=Retention(details=1)) as store:
        store.write(rows(["web"], 0, 10), now=START)
        assert kept(store, "web") == list(range(10))
