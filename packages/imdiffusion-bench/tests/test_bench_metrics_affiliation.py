"""Affiliation precision and recall: the paper's worked example, and integration by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion_bench.metrics.events import affiliation


def rows(length: int, *spans: tuple[int, int]) -> np.ndarray:
    flags = np.zeros(length, bool)
    for start, end in spans:
        flags[start:end] = True
    return flags


def by_integration(label: np.ndarray, alarm: np.ndarray, fine: int = 200) -> tuple[float, float]:
    """The definition on a fine grid: the probability over X is a count over the same grid."""
    x = (np.arange(len(label) * fine) + 0.5) / fine
    true, predicted = np.repeat(label, fine), np.repeat(alarm, fine)
    edge = np.flatnonzero(np.diff(np.concatenate([[0], label.astype(int), [0]])))
    segments = edge.reshape(-1, 2)
    cuts = [(a[1] + b[0]) / 2 for a, b in itertools.pairwise(segments)]
    bounds = [0.0, *cuts, float(len(label))]
    precisions, recalls = [], []
    for (start, end), low, high in zip(segments, bounds, bounds[1:], strict=False):
        zone = (x > low) & (x < high)
        draws = x[zone]
        inside, said = x[zone & true], x[zone & predicted]
        if not said.size:
            recalls.append(0.0)
            continue
        far = np.sort(np.maximum(np.maximum(start - draws, draws - end), 0.0))
        here = np.maximum(np.maximum(start - said, said - end), 0.0)
        precisions.append(np.mean(1.0 - np.searchsorted(far, here, side="left") / len(far)))
        near = np.array([np.min(np.abs(said - y)) for y in inside])
        lone = [np.mean(np.abs(draws - y) >= d - 1e-9) for y, d in zip(inside, near, strict=True)]
        recalls.append(np.mean(lone))
    return (float(np.mean(precisions)) if precisions else float("nan")), float(np.mean(recalls))


def test_the_example_of_the_paper() -> None:
    # Minutes of three hours. For the second segment alone the authors give .672222 and .944444;
    # as one zone it runs from half-way to its neighbours, minute 30 to 120.
    label = rows(90, (20, 40))
    alarm = rows(90, (10, 30), (85, 90))
    precision, recall, _ = affiliation(label, alarm)
    assert precision == pytest.approx(0.672222222)
    assert recall == pytest.approx(0.944444444)


def test_the_example_of_the_paper_in_all_its_zones() -> None:
    label = rows(180, (0, 10), (50, 70), (170, 175))
    said = [(5, 6), (7, 10), (11, 12), (40, 60), (115, 130), (135, 140), (165, 170)]
    found = affiliation(label, rows(180, *said))
    # the first zone ends at minute 30, the third begins at 120
    alone = [
        affiliation(rows(30, (0, 10)), rows(30, *said[:3])),
        affiliation(rows(90, (20, 40)), rows(90, (10, 30), (85, 90))),
        affiliation(rows(60, (50, 55)), rows(60, (0, 10), (15, 20), (45, 50))),
    ]
    assert found.precision == pytest.approx(np.mean([one.precision for one in alone]))
    assert found.recall == pytest.approx(np.mean([one.recall for one in alone]))
    # by hand: 4 of 5 minutes inside; of the one outside, at distance 1 to 2, (20 - 1.5) / 30
    assert alone[0].precision == pytest.approx((4 + 18.5 / 30) / 5)


def test_by_hand() -> None:
    label = rows(10, (4, 6))
    assert affiliation(label, label) == pytest.approx((1, 1, 1))
    # row 3: distance 0 to 1, on average .5 below 4 and above 6: (3.5 + 3.5) / 10
    assert affiliation(label, rows(10, (3, 4))).precision == pytest.approx(0.7)
    # y in [4, 6), prediction [3, 4) at distance d = y - 4: (4 + d - d) + (6 - d - d), over 10:
    # mean of 10 - 2 d for d from 0 to 2 is 8 -> .8
    assert affiliation(label, rows(10, (3, 4))).recall == pytest.approx(0.8)


def test_a_zone_without_prediction_has_recall_zero_and_no_precision() -> None:
    label = rows(20, (4, 6), (14, 16))
    precision, recall, f1 = affiliation(label, rows(20, (4, 6)))
    assert (precision, recall) == pytest.approx((1.0, 0.5))
    assert f1 == pytest.approx(2 / 3)
    nothing = affiliation(label, rows(20))
    assert np.isnan(nothing.precision)
    assert (nothing.recall, nothing.f1) == (0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=14))
def test_against_integration(pairs: list[tuple[bool, bool]]) -> None:
    label, alarm = (np.array(one) for one in zip(*pairs, strict=True))
    label[len(label) // 2] = True
    expected = by_integration(label, alarm)
    assert affiliation(label, alarm)[:2] == pytest.approx(expected, abs=0.02, nan_ok=True)


def test_random_alarms_get_two_thirds() -> None:
    rng = np.random.default_rng(0)
    label = rows(5_000, (1_000, 1_100), (3_000, 3_200))
    found = affiliation(label, rng.random(5_000) < 0.05)
    assert found.f1 == pytest.approx(0.67, abs=0.05)
