"""The generator: laws that hold, ties that break, exact shares, names that say it all"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from imdiffusion.errors import ConfigError
from imdiffusion_bench.generator import generate
from imdiffusion_bench.generator.config import KINDS

# Everything a channel has comes from what it shares, and no two channels correlate.
TIED = {
    "anomaly": "coupling",
    "coupling_kind": "nonlinear",
    "coupling": 1.0,
    "noise": 0.02,
    "seasonality": 0.0,
    "anomaly_length": 50,
}
LONG = {"rows_train": 12_000, "rows_test": 12_000}


def correlation(x, lag):
    """Correlation of each column with itself `lag` rows later."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    return (z[lag:] * z[:-lag]).mean(axis=0)


def smooth(x, width=30):
    return np.convolve(x, np.ones(width) / width, "same")


def simple_scores(train, test):
    """What needs no model: each a score of every row."""
    z = (test - train.mean(axis=0)) / train.std(axis=0)
    covariance = np.cov(((train - train.mean(axis=0)) / train.std(axis=0)).T)
    power, axes = np.linalg.eigh(covariance)  # ascending
    minor = axes[:, np.cumsum(power) <= 0.1 * power.sum() + power[0]]
    far = np.einsum("ti,ij,tj->t", z, np.linalg.inv(covariance), z)
    moving = np.mean([smooth(c**2) - smooth(c) ** 2 for c in z.T], axis=0)
    step = np.concatenate([[0.0], (np.diff(z, axis=0) ** 2).sum(axis=1)])
    rows = {
        "zscore": np.abs(z).mean(axis=1),
        "pca": ((z @ minor) ** 2).sum(axis=1),
        "mahalanobis": far,
        "squared_difference": step,
    }
    smoothed = {f"{name}_30": smooth(score) for name, score in rows.items()}
    one_channel = {f"channel_{k}": smooth(np.abs(c)) for k, c in enumerate(z.T)}
    return {**rows, **smoothed, **one_channel, "moving_variance": moving}


def season_residual(train, test, period):
    """What a regression on sines of the period and of its half leaves, squared and smoothed."""

    def sines(rows):
        angle = 2 * np.pi * np.arange(*rows)[:, None] / period
        return np.hstack(
            [np.ones_like(angle), *(f(n * angle) for f in (np.sin, np.cos) for n in (1, 2))]
        )

    rows = len(train)
    weights = np.linalg.lstsq(sines((0, rows)), train, rcond=None)[0]
    spread = (train - sines((0, rows)) @ weights).std(axis=0)
    left = (test - sines((rows, rows + len(test))) @ weights) / spread
    return smooth((left**2).max(axis=1), 10)


@pytest.mark.parametrize("memory", ["ar", "oscillator"])
def test_a_coupling_anomaly_keeps_the_law_of_every_single_channel(memory):
    # every channel is hit half of the time, so that there are as many rows inside as outside
    split = generate(
        **TIED | {"anomaly_share": 0.5, "anomaly_length": 600, "channels_hit": 6, "noise": 0.0},
        rows_train=100,
        rows_test=60_000,
        temporal=0.8,
        temporal_kind=memory,
        seed=1,
    )
    x, label = split.test.values, split.truth.label()
    inside, outside = x[label], x[~label]
    shares = np.linspace(0.02, 0.98, 25)
    gap = np.quantile(inside, shares, axis=0) - np.quantile(outside, shares, axis=0)
    assert np.abs(gap).max() < 0.25  # about 3,000 independent rows: .02 at the median, .08 outside
    assert np.abs(gap).mean() < 0.06
    assert inside.var(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    for lag in (1, 2, 5, 10):  # few of the pairs of rows straddle an edge
        assert correlation(inside, lag) == pytest.approx(correlation(outside, lag), abs=0.08)


def test_no_two_channels_of_a_nonlinear_coupling_correlate_and_each_is_gaussian():
    split = generate(**TIED | {"noise": 0.0}, channels=5, temporal=0.0, rows_train=40_000, seed=3)
    x = split.train.values
    assert np.corrcoef(x.T) == pytest.approx(np.eye(5), abs=0.03)
    assert x.mean(axis=0) == pytest.approx(np.zeros(5), abs=0.03)
    # quantiles of the standard normal, from a printed table
    for share, quantile in {0.5: 0.0, 0.8413: 1.0, 0.9772: 2.0, 0.0228: -2.0}.items():
        assert np.quantile(x, share, axis=0) == pytest.approx(np.full(5, quantile), abs=0.06)
    # yet they are tied: double and triple angles of the first two
    radius, angle = np.hypot(x[:, 0], x[:, 1]), np.arctan2(x[:, 1], x[:, 0])
    wanted = [radius * np.sin(2 * angle), radius * np.cos(2 * angle), radius * np.sin(3 * angle)]
    assert x[:, 2:] == pytest.approx(np.stack(wanted, axis=1), abs=1e-9)


@pytest.mark.parametrize("temporal", [0.0, 0.9])
def test_only_who_knows_the_relation_sees_a_coupling_anomaly(temporal):
    best, oracle = {}, []
    for seed in range(3):
        split = generate(**TIED, temporal=temporal, seed=seed, channels=6)
        x, label = split.test.values, split.truth.label()
        for name, score in simple_scores(split.train.values, x).items():
            best.setdefault(name, []).append(average_precision_score(label, score))
        left = sum((c - 2 * a * b / np.hypot(a, b)) ** 2 for a, b, c in (x[:, :3].T, x[:, 3:].T))
        oracle.append(average_precision_score(label, smooth(left, 5)))
    assert min(oracle) > 0.95
    assert max(np.mean(values) for values in best.values()) < 0.30, best


def test_a_linear_coupling_is_seen_by_pca_alone():
    split = generate(**TIED | {"coupling_kind": "linear"}, temporal=0.9, channels=6, seed=0)
    label = split.truth.label()
    seen = {
        name: average_precision_score(label, score)
        for name, score in simple_scores(split.train.values, split.test.values).items()
    }
    assert seen["pca_30"] > 0.8
    assert seen["zscore"] < 0.30


@pytest.mark.parametrize(
    ("kind", "detector", "floor", "dials"),
    [
        ("spike", "mahalanobis", 0.9, {"anomaly_length": 1}),
        ("level_shift", "mahalanobis", 0.9, {}),
        ("trend", "mahalanobis", 0.5, {}),
        ("variance", "squared_difference_30", 0.6, {}),
        ("missing_season", "season", 0.7, {"seasonality": 0.9, "anomaly_length": 50}),
        ("frequency", "season", 0.8, {"seasonality": 0.9, "anomaly_length": 50}),
    ],
)
def test_each_other_kind_is_seen_by_a_simple_detector(kind, detector, floor, dials):
    split = generate(anomaly=kind, seed=2, **dials)
    train, test, label = split.train.values, split.test.values, split.truth.label()
    scores = simple_scores(train, test) | {"season": season_residual(train, test, 50)}
    assert average_precision_score(label, scores[detector]) > floor
    # and what is hit is what the causes say: the other channels hold the same values without it
    other = generate(anomaly="variance", anomaly_size=1.0, seed=2, **dials).test.values
    changed = ~np.isclose(test, other, rtol=0, atol=1e-12)
    told = np.zeros_like(changed)
    for cause in split.truth.causes():
        told[cause.start : cause.end, sorted(cause.channels)] = True
    assert not (changed & ~told).any()
    assert (changed & told).sum() > 0.9 * told.sum()


def test_the_season_stands_still_or_runs_three_times_as_fast():
    dials = {"seasonality": 1.0, "noise": 0.0, "coupling": 0.0, "anomaly_length": 40}
    still = generate(anomaly="missing_season", **dials)
    for cause in still.truth.causes():
        for k in cause.channels:
            assert np.ptp(still.test.values[cause.start : cause.end, k]) == 0
    fast = generate(anomaly="frequency", **dials)
    usual = fast.train.values
    cause = fast.truth.causes()[0]
    first = fast.train.length + cause.start
    for k in cause.channels:  # 3 x 40 rows of the season in 40; the season has a period of 50 rows
        rows = (first + 3 * np.arange(cause.end - cause.start)) % 50
        assert fast.test.values[cause.start : cause.end, k] == pytest.approx(usual[rows, k])


def test_the_parts_have_the_shares_that_the_dials_say():
    season = generate(**LONG, seasonality=1.0, noise=0.0, anomaly="spike").train.values
    assert season.var(axis=0) == pytest.approx(np.ones(6), rel=1e-3)
    assert season[50:] == pytest.approx(season[:-50])
    white = generate(**LONG, temporal=0.0, seasonality=0.0, noise=0.0, anomaly="spike").train.values
    assert white.var(axis=0) == pytest.approx(np.ones(6), abs=0.06)
    assert correlation(white, 1) == pytest.approx(np.zeros(6), abs=0.04)
    slow = generate(**LONG, temporal=0.9, seasonality=0.0, noise=0.0, anomaly="spike").train.values
    for lag in (1, 5):  # AR(1): the correlation at a lag is its power
        assert correlation(slow, lag) == pytest.approx(np.full(6, 0.9**lag), abs=0.12)
    noisy = generate(**LONG, temporal=0.0, seasonality=0.0, noise=2.0, anomaly="spike").train.values
    assert noisy.var(axis=0) == pytest.approx(np.full(6, 5.0), rel=0.06)
    # three channels share one factor: all of their variance, or half of it
    for share in (1.0, 0.5):
        tied = generate(
            **LONG, channels=3, coupling=share, temporal=0.0, seasonality=0.0, noise=0.0
        ).train.values
        above = np.abs(np.corrcoef(tied.T)[np.triu_indices(3, 1)])
        assert above == pytest.approx(np.full(3, share), abs=0.04)


def test_an_oscillator_swings():
    x = generate(
        **LONG, temporal=0.99, temporal_kind="oscillator", coupling=0.0, seasonality=0.0, noise=0.0,
        anomaly="spike",
    ).train.values  # fmt: skip
    power = np.abs(np.fft.rfft(x, axis=0)) ** 2
    period = 12_000 / power.argmax(axis=0)
    assert ((period > 9) & (period < 45)).all()
    assert len(set(np.round(period))) > 1
    assert x.var(axis=0) == pytest.approx(np.ones(6), abs=0.35)


@given(
    rows=st.integers(200, 900),
    share=st.floats(0.001, 0.5),
    length=st.integers(5, 120),
    seed=st.integers(0, 1000),
    contamination=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=30, deadline=None)
def test_shares_are_exact_and_anomalies_keep_a_distance(rows, share, length, seed, contamination):
    split = generate(
        rows_train=60, rows_test=rows, anomaly_share=share, anomaly_length=length, seed=seed,
        anomaly="spike", contamination=contamination, temporal=0.0,
    )  # fmt: skip
    label, causes = split.truth.label(), split.truth.causes()
    assert label.sum() == max(1, round(share * rows))
    assert sum(cause.end - cause.start for cause in causes) == label.sum()
    assert not label[0]
    assert not label[-1]
    for before, after in itertools.pairwise(causes):
        assert before.end < after.start
    if len(causes) > 1:
        lengths = [cause.end - cause.start for cause in causes]
        assert max(lengths) - min(lengths) <= 1
        assert length / 2 < np.mean(lengths) < 2 * length
    assert label.dtype == np.bool_


@given(
    channels=st.integers(1, 9),
    temporal=st.floats(0, 0.99),
    memory=st.sampled_from(["ar", "oscillator"]),
    coupling=st.floats(0, 1),
    tie=st.sampled_from(["linear", "nonlinear"]),
    noise=st.floats(0, 3),
    season=st.floats(0, 1),
    kind=st.sampled_from([*KINDS, "mixed"]),
    missing=st.sampled_from([0.0, 0.3]),
    hit=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_all_dials_give_finite_series_of_the_right_shape_or_say_why_not(
    channels, temporal, memory, coupling, tie, noise, season, kind, missing, hit, seed
):
    dials = {
        "rows_train": 80, "rows_test": 120, "channels": channels, "temporal": temporal,
        "temporal_kind": memory, "coupling": coupling, "coupling_kind": tie, "noise": noise,
        "seasonality": season, "anomaly": kind, "missing": missing, "channels_hit": hit,
        "drift": 1.0, "contamination": 0.1,
    }  # fmt: skip
    if (
        (tie == "nonlinear" and coupling > 0 and channels < 3)
        or (kind == "coupling" and (channels < 2 or coupling * (1 - season) == 0))
        or (kind in ("missing_season", "frequency") and season == 0)
    ):
        with pytest.raises(ConfigError) as caught:
            generate(**dials, seed=seed)
        assert caught.value.remedy
        return
    split = generate(**dials, seed=seed)
    assert split.train.values.shape == (80, channels)
    assert split.test.values.shape == (120, channels)
    assert split.train.channels == split.test.channels
    for frame in (split.train, split.test):
        assert np.isfinite(frame.values[frame.observed]).all()
        assert np.abs(frame.values[frame.observed]).max() < 60
        assert (~frame.observed).mean() == pytest.approx(missing, abs=0.3 if missing else 0)
    causes = split.truth.causes()
    assert {len(cause.channels) for cause in causes} == {min(hit, channels)}
    assert all(max(cause.channels) < channels for cause in causes)
    assert split.truth.label().shape == (120,)
