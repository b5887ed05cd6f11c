"""Channels outside their band for long that no event names, and why."""

from __future__ import annotations

import numpy as np

from imdiffusion.scoring.event import Event, Unalarmed, find_unalarmed

BAND = np.ones((200, 2))


def event(start: int, end: int, shares: tuple[float, float]) -> Event:
    return Event(start, end, start, 2.0, ("a", "b"), shares, (0.0, 0.0), (1.0, 1.0))


def found(values, events=(), score=0.7, **more) -> list[Unalarmed]:
    return find_unalarmed(
        values, -BAND, BAND, np.full(200, score), list(events), ("a", "b"), **more
    )


def outside(rows: slice, channel: int = 1, value: float = -3.0) -> np.ndarray:
    values = np.zeros((200, 2))
    values[rows, channel] = value
    return values


def test_a_long_excursion_without_an_event_says_why() -> None:
    (one,) = found(outside(slice(60, 130)))
    assert (one.channel, one.start, one.end, one.side) == ("b", 60, 130, "below")
    assert one.outside == 1.0
    assert "reaches 0.7" in one.reason


def test_a_short_one_or_one_with_an_event_is_not_told() -> None:
    assert not found(outside(slice(60, 83)))
    assert not found(outside(slice(60, 130)), [event(70, 80, (0.4, 0.6))], score=1.4)


def test_an_event_about_another_channel_is_a_reason() -> None:
    (one,) = found(outside(slice(60, 130)), [event(70, 80, (0.99, 0.01))], score=1.4)
    assert "other channels" in one.reason
    (one,) = found(outside(slice(60, 130)), judged=np.array([True, False]))
    assert "two values" in one.reason


def test_most_of_the_rows_are_enough_and_missing_ones_are_not_outside() -> None:
    values = outside(slice(60, 130))
    values[60:130:7, 1] = 0.0
    (one,) = found(values)
    assert 0.8 < one.outside < 0.9
    values[:, 1] = np.where(values[:, 1] < 0, np.nan, values[:, 1])
    assert not found(values)
