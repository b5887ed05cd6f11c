"""Every detector and metric keeps its contract, and one that breaks it is caught."""

from __future__ import annotations

import numpy as np
import pytest

from imdiffusion import baselines, registry
from imdiffusion.baselines.simple import ZScore
from imdiffusion.errors import ConfigError
from imdiffusion_bench import columns, protocols
from imdiffusion_bench.metrics import auc_pr, check_lengths, points
from imdiffusion_bench.testing import check_detector, check_metric

SLOW = {"lstm_ad": pytest.mark.slow}
# Of causes, of a period in rows, of steps: no function of label and score alone.
OTHERS = {"hit_top1", "hit_100", "hit_150", "vus_pr_period", "xi", "share"} | {
    f"{metric}_{steps}" for metric in ("f1", "add") for steps in ("last", "fixed")
}
METRICS = [name for name, *_ in protocols.metric_names() if name not in OTHERS]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=SLOW.get(n, ())) for n in baselines.names() if n != "random"],
)
def test_a_detector_keeps_its_contract(name):
    check_detector(name)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_keeps_its_contract(name):
    check_metric(name)


def test_every_metric_has_a_title_that_no_other_distribution_can_take():
    assert METRICS
    assert {*METRICS, *OTHERS} <= columns.TITLES.keys() | columns.NEITHER


class Short(ZScore):
    def decision_function(self, x):
        return super().decision_function(x)[1:]


class Silent(ZScore):
    def decision_function(self, x):
        return np.full(len(x), np.nan)


class Fickle(ZScore):
    def decision_function(self, x):
        return super().decision_function(x) + np.random.default_rng().random(len(x))


class Global(ZScore):
    def decision_function(self, x):
        return super().decision_function(x) + 0 * np.random.rand()


class Blind(ZScore):
    def decision_function(self, x):
        return -super().decision_function(x)


class Filling(ZScore):
    def fit(self, x):
        x[np.isnan(x)] = 0.0
        return super().fit(x)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (Short, r"expected a score a row, \(300,\), got \(299,\)"),
        (Silent, "expected a finite score where a value was observed, got 299 others"),
        (Fickle, "expected the same scores from the same seed, got others"),
        (
            Global,
            r"expected no global generator to be touched, got another state of \['numpy.random'\]",
        ),
        (Blind, "expected the highest scores around the rows 200 to 210, got the top at row"),
        (Filling, "expected rows that are left as they are, got others"),
    ],
)
def test_a_broken_detector_is_caught(monkeypatch, member, said):
    monkeypatch.setitem(registry.TABLES, "detectors", {"bad": f"{__name__}:{member.__name__}"})
    with pytest.raises(AssertionError, match=f"detector 'bad': {said}"):
        check_detector("bad")


def test_chance_is_caught():
    with pytest.raises(AssertionError, match="the highest scores around the rows 200 to 210"):
        check_detector("random")


def sound(label, score):
    return auc_pr(label, score)


def of_alarm(label, alarm):
    return points.point(label, alarm).f1


def a_list(label, score):
    return [auc_pr(label, score)]


def percent(label, score):
    return 100 * auc_pr(label, score)


def against_it(label, score):
    return 1 - auc_pr(label, score)


def kind_to_ties(label, score):
    check_lengths(label, score)
    level = np.sort(np.nan_to_num(score, nan=-np.inf))[-label.sum()]
    return float((label & (score >= level)).sum() / label.sum())


def fickle(label, score):
    return auc_pr(label, score) - 1e-3 * np.random.default_rng().random()


def sorting(label, score):
    score.sort()
    return auc_pr(label, score)


def missing_first(label, score):
    return auc_pr(label, np.nan_to_num(score, nan=9.0))


def lenient(label, score):
    return auc_pr(label, score) if label.any() else 1.0


def odd_names(truth, score):
    return auc_pr(truth, score)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (a_list, "expected a number, got list"),
        (percent, "expected a number from 0 on to 1, got 100.0"),
        (against_it, "expected a perfect score to be better than 0.8"),
        (kind_to_ties, "expected a constant score to be below 1.0, got 1.0"),
        (fickle, "again for the same score, got"),
        (sorting, "expected no error, got ValueError: sort array is read-only"),
        (missing_first, "where NaN ranks lowest and is no alarm, got"),
        (lenient, "expected DataError for 0 anomalies in 300 rows, got 1.0"),
        (odd_names, r"expected the parameters label, and score or alarm, got \['truth', 'score'\]"),
    ],
)
def test_a_broken_metric_is_caught(monkeypatch, member, said):
    monkeypatch.setitem(registry.TABLES, "metrics", {"bad": f"{__name__}:{member.__name__}"})
    with pytest.raises(AssertionError, match=f"metric 'bad': .*{said}"):
        check_metric("bad")


def test_sound_ones_of_other_distributions_are_measured_without_labels(monkeypatch):
    members = {"sound": f"{__name__}:sound", "of_alarm": f"{__name__}:of_alarm"}
    monkeypatch.setitem(registry.TABLES, "metrics", members)
    for name in members:
        check_metric(name)
    label = np.arange(40) > 30
    found = protocols.label_free(label, np.sin(np.arange(40.0)) * 3, period_s=None)
    assert found["sound"] == found["auc_pr"]
    assert found["of_alarm"] == found["f1"]
    assert ("sound", "sound ↑", "label_free") in protocols.metric_names()


def test_a_name_that_no_distribution_has_is_met_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown metric 'auc'\. Did you mean 'auc_pr'"):
        check_metric("auc")
    with pytest.raises(ConfigError, match=r"unknown detector 'zscor'\. Did you mean 'zscore'"):
        check_detector("zscor")
