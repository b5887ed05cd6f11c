"""The public face, end to end at tiny size: kinds of input, missing data, files, contracts."""

import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from test_training import TINY, series

import imdiffusion.series_imputer as imputer_module
from imdiffusion import ImDiffusion
from imdiffusion.data.writing import write_table
from imdiffusion.diffusion.networks import build
from imdiffusion.errors import (
    ConfigError,
    ConvergenceWarning,
    DataError,
    DataWarning,
    ModelError,
    NotFittedError,
)
from imdiffusion.presets import resolve

pytestmark = pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
SETTINGS = {**TINY, "alarm_rate": 0.01, "max_steps": 40, "learning_rate": 5e-3}
NAMES = ["cpu", "memory", "disk"]
START = np.datetime64("2026-01-01T00:00:00", "ns")


def anomalous() -> np.ndarray:
    test = series(200)
    test[100:110, 1] += 6.0
    return test


def times(rows: int) -> np.ndarray:
    return START + np.arange(rows) * np.timedelta64(60, "s")


def table(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"timestamp": times(len(values)), **dict(zip(NAMES, values.T, strict=True))}


@pytest.fixture(scope="module")
def fitted() -> ImDiffusion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**SETTINGS).fit(pd.DataFrame(table(series())))


@pytest.fixture(scope="module")
def plain() -> ImDiffusion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**SETTINGS).fit(series())


# -- the face


def test_scores_alarms_and_the_planted_anomaly(plain: ImDiffusion) -> None:
    score = plain.decision_function(anomalous())
    assert score.shape == (200,)
    assert score.dtype == np.float64
    assert 100 <= score.argmax() < 110
    assert score.max() > 1
    alarm = plain.predict(anomalous())
    assert set(np.unique(alarm)) <= {0, 1}
    assert np.array_equal(alarm, (score > 1).astype(int))
    events = plain.detect(anomalous())
    assert isinstance(events, pa.Table)
    peak = max(events.to_pylist(), key=lambda row: row["score"])
    assert peak["channels"][0] == "c1"
    assert peak["start"] <= 105 < peak["end"]
    assert sum(peak["shares"]) == pytest.approx(1.0)
    assert peak["shares"] == sorted(peak["shares"], reverse=True)
    assert peak["seen"][0] == pytest.approx(anomalous()[peak["peak"], 1])
    assert abs(peak["seen"][0] - peak["expected"][0]) > 2


def test_every_kind_of_table_gives_the_same_scores_and_its_own_kind_back(
    fitted: ImDiffusion,
) -> None:
    columns = table(anomalous())
    inputs = [pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)]
    scores = [fitted.decision_function(x) for x in inputs]
    assert np.allclose(scores[0], scores[1])
    assert np.allclose(scores[0], scores[2])
    for x in inputs:
        events, long = fitted.detect(x), fitted.impute(x)
        assert type(events) is type(x)
        assert type(long) is type(x)
        assert len(long) == 600
        assert list(long.columns if hasattr(long, "columns") and not isinstance(long, pa.Table)
                    else long.column_names) == [
            "timestamp", "channel", "value", "expected", "lower", "upper", "observed",
        ]  # fmt: skip
    indexed = pd.DataFrame(columns).set_index("timestamp")
    assert np.allclose(fitted.decision_function(indexed), scores[0])


def test_times_of_events_are_the_callers(fitted: ImDiffusion) -> None:
    events = fitted.detect(pd.DataFrame(table(anomalous())))
    row = events.loc[events["score"].idxmax()]
    assert row["start"] >= pd.Timestamp("2026-01-01T01:35:00Z")
    assert row["end"] <= pd.Timestamp("2026-01-01T02:00:00Z")
    assert row["duration"] == (row["end"] - row["start"]).total_seconds()


def test_scikit_learn_contract(plain: ImDiffusion) -> None:
    detector = ImDiffusion("paper", seed=7, window=50, stride=25)
    twin = clone(detector)
    assert twin.get_params() == detector.get_params()
    assert twin.get_params()["window"] == 50
    assert twin.set_params(window=40, seed=8).get_params()["window"] == 40
    assert twin.set_params(window=None).get_params()["window"] is None
    assert plain.n_features_in_ == 3
    assert plain.channels_ == ("c0", "c1", "c2")
    assert plain.threshold_[0] > 0
    with pytest.raises(ConfigError, match="Did you mean 'window'"):
        ImDiffusion(windw=3)
    with pytest.raises(ConfigError, match="unknown setting 'sedd'"):
        detector.set_params(sedd=1)
    with pytest.raises(ConfigError, match="out of range"):
        ImDiffusion(window=-1).fit(series())
    with pytest.raises(ConfigError, match=r"unknown preset 'fst'.*'fast'"):
        ImDiffusion("fst").fit(series())
    with pytest.raises(ConfigError, match="seed = -1 is out of range"):
        ImDiffusion(seed=-1).fit(series())
    with pytest.raises(NotFittedError, match="Call fit"):
        ImDiffusion().predict(series())


def test_the_paper_preset_runs_with_its_own_network() -> None:
    network = build(resolve("paper", {}), 38)
    assert sum(weight.numel() for weight in network.parameters()) == 446_817
    train = np.random.default_rng(0).normal(size=(230, 4))
    detector = ImDiffusion("paper", max_steps=1, sampling_steps=3, ensemble_steps=1).fit(train)
    assert detector.num_parameters_ == 446_817 - 34 * 16  # a row of embedding for each channel
    assert detector.settings_.learning_rate == 1e-3
    assert detector.step_errors(train).shape == (3, 230)
    assert np.isfinite(detector.decision_function(train)).all()


def test_step_errors_and_channel_scores_have_their_shapes(plain: ImDiffusion) -> None:
    assert plain.step_errors(anomalous()).shape == (plain.settings_.sampling_steps, 200)
    channel = plain.channel_scores(anomalous())
    assert channel.shape == (200, 3)
    assert channel[100:110].sum(axis=0).argmax() == 1


@pytest.mark.parametrize(
    ("ensemble", "reduce"), [("mean", "max"), ("threshold", "sum"), ("rank", "mean")]
)
def test_every_ensemble_and_reduction_finds_the_planted_anomaly(ensemble, reduce) -> None:
    settings = {**SETTINGS, "ensemble": ensemble, "reduce": reduce, "anomaly_share": 0.05}
    score = ImDiffusion(**settings).fit(series()).decision_function(anomalous())
    assert 100 <= score.argmax() < 110
    assert score.max() > 1


def test_alarm_rate_moves_the_threshold() -> None:
    train = series(1_000)
    often = ImDiffusion(**{**SETTINGS, "alarm_rate": 0.2, "threshold": "quantile"}).fit(train)
    rarely = ImDiffusion(**{**SETTINGS, "alarm_rate": 0.001, "threshold": "pot"}).fit(train)
    assert often.threshold_[0] < rarely.threshold_[0]
    assert often.predict(train).mean() > rarely.predict(train).mean()


def test_a_threshold_from_all_rows_knows_what_the_last_ones_do_not() -> None:
    # Wild in the middle of training, calm at its end: the last rows alone promise too much.
    train = series(600)
    train[200:300] += 3 * np.random.default_rng(2).normal(size=(100, 3))
    held, whole = (
        ImDiffusion(
            **{**SETTINGS, "calibrate_on": rows, "error_scale": ("none",), "views": ("network",)}
        ).fit(train)
        for rows in ("holdout", "all")
    )
    assert whole.threshold_[0] > 1.2 * held.threshold_[0]
    assert whole.predict(train).mean() == pytest.approx(0.01, abs=0.005)
    assert held.predict(train).mean() > 0.03


# -- independence of how it was computed


def test_kept_errors_do_not_keep_the_channels_in_memory(plain: ImDiffusion) -> None:
    entity = plain.entity()
    run = next(entity.score_runs([entity.rows(plain.analyze(series(100)).frame)]))
    assert run.errors.flags.owndata


@pytest.fixture(scope="module")
def fleet() -> ImDiffusion:
    """Two entities scored as `fast` does it: several scales of time, three views."""
    scales = {"detrend": (5, 10), "smooth": (3, 10), "error_scale": ("spread", "peak", "level")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**{**SETTINGS, **scales, "max_steps": 20}).fit(
            {"a": series(), "b": 2 * series()[::-1].copy()}
        )


@settings(max_examples=8, deadline=None)
@given(
    batch=st.integers(1, 3_000),
    cuts=st.lists(st.integers(1, 90), max_size=6),
    flip=st.booleans(),
    missing=st.booleans(),
)
def test_scores_hang_on_rows_alone_not_on_batch_pieces_order_or_company(
    fleet: ImDiffusion, batch: int, cuts: list[int], flip: bool, missing: bool
) -> None:
    test = anomalous()
    if missing:
        test[30:60, 0], test[120] = np.nan, np.nan
    whole = fleet.decision_function({"a": test, "b": test})
    others = {"b": test, "a": test} if flip else {"a": test}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imputer_module, "BATCH_TOKENS", batch)
        found = fleet.decision_function(others)["a"]
        entity = fleet.entity("a")
        rows = entity.rows(fleet.analyze({"a": test})["a"].frame)
        edges = np.unique(np.clip(np.cumsum([0, *cuts, 200]), 0, 200))
        pieces = [rows.slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
        runs = [run.errors for run in entity.score_runs(pieces)]
    sharded = entity.score(np.concatenate(runs, axis=1))
    for one in (found, sharded):
        assert np.array_equal(np.isnan(one), np.isnan(whole["a"]))
        apart = np.abs(one - whole["a"])
        assert np.nanmax(apart - 1e-4 * np.maximum(1, np.abs(whole["a"]))) <= 0


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_a_path_is_scored_like_the_table_in_it(
    fitted: ImDiffusion, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"test{suffix}"
    write_table(pa.table(table(anomalous())), path)
    expected = fitted.decision_function(pa.table(table(anomalous())))
    found = fitted.decision_function(path)
    assert (np.abs(found - expected) <= 1e-4 * np.maximum(1, expected)).all()
    assert np.array_equal(fitted.predict(str(path)), (expected > 1).astype(int))


def test_pieces_with_gaps_on_their_borders_score_like_the_whole(
    fitted: ImDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imdiffusion.inputs as inputs

    columns = pa.table(table(anomalous()))
    gappy = pa.concat_tables([columns.slice(0, 64), columns.slice(70)])
    path = tmp_path / "gappy.parquet"
    write_table(gappy, path)
    with pytest.warns(DataWarning):
        whole = fitted.decision_function(gappy)
    monkeypatch.setattr(inputs, "PIECE_ROWS", 64)
    with pytest.warns(DataWarning):
        pieces = fitted.decision_function(path)
    assert len(whole) == 194
    assert (np.abs(whole - pieces) <= 1e-4 * np.maximum(1, whole)).all()


# -- missing data


def test_missing_values_are_unobserved_and_never_stop_it(plain: ImDiffusion) -> None:
    test = anomalous()
    test[20:60:3, 0] = np.nan
    test[150, :] = np.nan
    score = plain.decision_function(test)
    assert np.flatnonzero(np.isnan(score)).tolist() == [150]
    assert plain.predict(test)[150] == 0
    assert 100 <= np.nanargmax(score) < 110
    long = plain.impute(test).to_pandas()
    assert (~long["observed"]).sum() == np.isnan(test).sum()
    assert long["expected"].notna().all()
    assert (long["lower"] <= long["upper"]).all()
    assert long.loc[~long["observed"], "value"].isna().all()


def test_a_missing_value_is_imputed_from_the_rest_and_its_own_value_plays_no_part(
    plain: ImDiffusion,
) -> None:
    test = series(100)
    hidden = test.copy()
    hidden[40:45, 0] = np.nan
    frame = plain.analyze(hidden).frame
    assert not frame.observed[40:45, 0].any()
    filled = replace(frame, values=np.where(frame.observed, frame.values, 1e6))
    alike = (plain.impute(one).to_pandas()["expected"] for one in (frame, filled))
    assert np.array_equal(*alike)
    a = plain.impute(hidden).to_pandas()
    assert np.isfinite(a["expected"]).all()
    assert a["expected"].abs().max() < 100


def test_a_whole_channel_may_be_absent(fitted: ImDiffusion) -> None:
    columns = table(anomalous())
    del columns["disk"]
    with pytest.warns(DataWarning, match="1 of 3 channels are missing.*'disk'"):
        score = fitted.decision_function(pd.DataFrame(columns))
    assert np.isfinite(score).all()
    assert 100 <= score.argmax() < 110


def test_channels_in_another_order_are_put_back(fitted: ImDiffusion) -> None:
    frame = pd.DataFrame(table(anomalous()))
    with pytest.warns(DataWarning, match="another order"):
        found = fitted.decision_function(frame[["disk", "timestamp", "cpu", "memory"]])
    assert np.allclose(found, fitted.decision_function(frame))


def test_unknown_channels_are_refused_unless_ignored(fitted: ImDiffusion) -> None:
    frame = pd.DataFrame(table(anomalous()))
    wider = frame.assign(gpu=1.0)
    with pytest.raises(DataError, match=r"'gpu'.*ignore_extra"):
        fitted.decision_function(wider)
    found = fitted.decision_function(wider, ignore_extra=True)
    assert np.allclose(found, fitted.decision_function(frame))
    with pytest.raises(DataError, match="none of the model's channels"):
        fitted.decision_function(pd.DataFrame({"x": [1.0] * 50}), ignore_extra=True)
    with pytest.raises(DataError, match="2 columns, the model 3 channels"):
        fitted.decision_function(anomalous()[:, :2])


def test_gaps_in_time_become_unobserved_rows(fitted: ImDiffusion) -> None:
    frame = pd.DataFrame(table(anomalous())).drop(index=range(30, 35))
    with pytest.warns(DataWarning):
        analysis = fitted.analyze(frame)
    assert len(analysis.frame) == 200
    assert not analysis.frame.observed[30:35].any()
    with pytest.warns(DataWarning):
        assert len(fitted.decision_function(frame)) == 195
    with pytest.warns(DataWarning):
        assert len(fitted.impute(frame)) == 195 * 3


def test_what_moves_where_nothing_ever_moved_has_a_finite_score() -> None:
    tiny = {"window": 20, "width": 8, "feedforward": 8, "layers": 1, "mask_groups": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (DataWarning, ConvergenceWarning))
        detector = ImDiffusion(**tiny, max_steps=20, validate_every=10).fit(np.full((300, 3), 2.0))
    later = np.full((500, 3), 2.0)
    later[300:320, 1] = 1e12
    score = detector.decision_function(later)
    assert np.isfinite(score.astype(np.float32)).all()  # as it is kept
    assert score[300:320].min() > 1.0 > score[:100].max()


def test_excluded_spans_play_no_part() -> None:
    clean, dirty = series(), series()
    dirty[50:60] = 1e4
    with_spans = ImDiffusion(**SETTINGS).fit(dirty, exclude=[(50, 60)])
    absent = clean.copy()
    absent[50:60] = np.nan
    reference = ImDiffusion(**SETTINGS).fit(absent)
    test = anomalous()
    assert np.array_equal(with_spans.decision_function(test), reference.decision_function(test))


# -- values that no network was made for


def test_too_few_rows(plain: ImDiffusion) -> None:
    with pytest.raises(DataError, match="10 rows, fewer than a window"):
        ImDiffusion(**SETTINGS).fit(series(10))
    for method in (plain.decision_function, plain.step_errors, plain.detect):
        with pytest.raises(DataError, match="10 rows, fewer than a window"):
            method(series(10))


def test_one_huge_value_neither_hides_nor_invents_anomalies() -> None:
    detector = ImDiffusion(**{**SETTINGS, "smooth": (10,)}).fit(series())
    without = detector.decision_function(anomalous())
    for size in (1e9, 1e11, 1e40):
        spiked = anomalous()
        spiked[30, 0] = size
        score = detector.decision_function(spiked)
        assert np.isfinite(score).all()
        assert score[30] > 1
        assert np.allclose(without[70:], score[70:], rtol=1e-4)  # beyond its window and the mean


@pytest.mark.parametrize(("span", "part"), [((0, 285), "training"), ((280, 300), "held-out")])
def test_excluding_a_whole_part_is_refused_before_the_training(span, part) -> None:
    steps: list[int] = []
    with pytest.raises(DataError, match=f"no value is observed in the .* {part} rows"):
        ImDiffusion(**SETTINGS).fit(
            series(), exclude=[span], on_progress=lambda p: steps.append(p.done)
        )
    assert not steps


def test_huge_units_can_be_fitted_and_saved(plain: ImDiffusion, tmp_path: Path) -> None:
    big = series() * np.array([1e200, 1.0, 1e-50])
    detector = ImDiffusion(**SETTINGS).fit(big)
    detector.save(tmp_path / "m")
    small = plain.decision_function(series())
    assert np.allclose(detector.decision_function(big), small, rtol=0.05)


# -- several entities


def test_a_dict_fits_independent_detectors_and_gives_a_dict_back() -> None:
    data = {"a": series(), "b": series()[:, ::-1] * 5}
    detector = ImDiffusion(**SETTINGS).fit(data)
    assert detector.entities_ == ("a", "b")
    scores = detector.decision_function({"b": data["b"], "a": data["a"]})
    assert set(scores) == {"a", "b"}
    alone = ImDiffusion(**SETTINGS).fit({"b": data["b"]})
    assert np.array_equal(alone.decision_function({"b": data["b"]})["b"], scores["b"])
    assert set(detector.threshold_) == {"a", "b"}
    numbered = ImDiffusion(**{**SETTINGS, "max_steps": 1}).fit({1: series()})
    assert set(numbered.decision_function({1: series()})) == {1}
    with pytest.raises(DataError, match="same name"):
        detector.fit({1: series(), "1": series()})
    with pytest.raises(DataError, match="no entity 'c'"):
        detector.decision_function({"c": series()})


# -- files


def test_saved_and_loaded_it_scores_the_same(fitted: ImDiffusion, tmp_path: Path) -> None:
    frame = pd.DataFrame(table(anomalous()))
    fitted.save(tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {"config.json", "manifest.json", "weights.safetensors"}
    loaded = ImDiffusion.load(tmp_path / "model")
    assert loaded.get_params() == {**fitted.get_params(), "device": "auto"}
    assert np.array_equal(loaded.decision_function(frame), fitted.decision_function(frame))
    assert loaded.history_ == fitted.history_
    fitted.save(tmp_path / "model")  # replacing an older model
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_saved_is_what_was_fitted(tmp_path: Path) -> None:
    detector = ImDiffusion(**SETTINGS).fit(series())
    score = detector.decision_function(anomalous())
    detector.set_params(seed=7, preset="paper", window=40)
    detector.save(tmp_path / "m")
    loaded = ImDiffusion.load(tmp_path / "m")
    assert (loaded.seed, loaded.preset) == (0, "fast")
    assert np.array_equal(loaded.decision_function(anomalous()), score)


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "weights.safetensors"])
def test_a_missing_or_altered_model_file_is_refused(
    fitted: ImDiffusion, tmp_path: Path, name: str
) -> None:
    fitted.save(tmp_path / "m")
    path = tmp_path / "m" / name
    content = bytearray(path.read_bytes())
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    content[digits[len(digits) // 2]] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} was altered"):
        ImDiffusion.load(tmp_path / "m")
    path.unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        ImDiffusion.load(tmp_path / "m")


def test_a_newer_format_is_refused(fitted: ImDiffusion, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ModelError, match=r"format 99.*Upgrade"):
        ImDiffusion.load(tmp_path / "m")
    with pytest.raises(ModelError, match="no model folder"):
        ImDiffusion.load(tmp_path / "nowhere")


def test_a_fitted_entity_is_had_by_its_name() -> None:
    train = series()
    with pytest.raises(NotFittedError, match="not fitted"):
        ImDiffusion("linear").entity()
    alone = ImDiffusion("linear").fit(train)
    assert alone.entity() is alone.entity(None)
    with pytest.raises(DataError, match="has no entity 'web'"):
        alone.entity("web")
    both = ImDiffusion("linear").fit({"web": train, "db": train})
    assert both.entity("db").channels == both.channels_
    for name in (None, "cache"):
        with pytest.raises(DataError, match="It knows: 'web', 'db'"):
            both.entity(name)
