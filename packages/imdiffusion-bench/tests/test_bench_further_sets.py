"""Sets with times, gaps, columns beside the channels, entities of their own; each in a real run."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from tiny_data import refused
from tiny_detectors import TINY

from imdiffusion_bench.datasets import DATASETS, check, open_dataset
from imdiffusion_bench.detectors import make, settings_of
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.plan import EVERY_ROW, FOURTEEN, FURTHER_SETS, Variant
from imdiffusion_bench.studies import named_plan

HOUR = np.timedelta64(3600, "s")


def write(root, name, entity, *, channels=("a", "b"), rows=300, times=False, **beside):
    """Normal numbers with a tenth missing; rows 100 to 119 of the test part are off by 8."""
    rng = np.random.default_rng(len(entity))
    folder = root / name / entity
    folder.mkdir(parents=True)
    label = np.zeros(rows, np.int8)
    label[100:120] = 1
    for part in ("train", "test"):
        values = rng.normal(size=(rows, len(channels))).astype(np.float32)
        values[label == 1] += 8 * (part == "test")
        values[rng.random(values.shape) < 0.1] = np.nan
        columns = dict(zip(channels, values.T, strict=True))
        if times:
            start = np.datetime64("2026-01-01T00:00:00", "ns") + (part == "test") * rows * HOUR
            column = pa.array(start + np.arange(rows) * HOUR, pa.timestamp("ns", tz="UTC"))
            columns = {"timestamp": column, **columns}
        if part == "test":
            columns |= {"label": label, **beside}
        parquet.write_table(pa.table(columns), folder / f"{part}.parquet")
    return folder


def test_times_and_gaps_reach_the_detector_and_entities_have_channels_of_their_own(tmp_path):
    write(tmp_path, "MSCloud", "x", times=True)
    write(tmp_path, "MSCloud", "y", channels=("a", "c", "d"))
    dataset = open_dataset("MSCloud", tmp_path)
    split = dataset.load("x")
    assert split.train.timestamps[0] == np.datetime64("2026-01-01T00:00:00", "ns")
    assert split.test.timestamps[-1] - split.train.timestamps[0] == 599 * HOUR
    assert split.period_s == 3600.0  # nobody but the timestamps says so
    assert split.train.channels == ("a", "b")
    missing = np.isnan(split.test.values)
    assert 0.05 < missing.mean() < 0.15
    np.testing.assert_array_equal(split.test.observed, ~missing)
    assert dataset.load("y").train.channels == ("a", "c", "d")
    assert dataset.load("y").train.timestamps is None
    refused(lambda: open_dataset("MSCloud-concatenated", tmp_path).load("all"), "y has other")


def test_what_stands_beside_the_channels_is_never_one(tmp_path):
    leak = np.r_[np.zeros(100), 1.0, np.zeros(199)]
    write(tmp_path, "SKAB", "x", changepoint=leak)
    assert open_dataset("SKAB", tmp_path).load("x").test.channels == ("a", "b")
    write(tmp_path, "own", "x", changepoint=leak)  # of an unknown set it may be anything
    refused(lambda: open_dataset("own", tmp_path).load("x"), "own x", "has changepoint")


def test_what_has_no_test_part_or_no_anomaly_is_no_entity(tmp_path):
    for entity in ("x", "calm"):
        write(tmp_path, "TEP", entity)
    facts = {"train_rows": 300, "test_rows": 300}
    entities = [
        {"name": "only-train", "train_rows": 300},
        {"name": "x", **facts, "anomaly_rows": 20},
        {"name": "calm", **facts, "anomaly_rows": 0},
    ]
    index = tmp_path / "TEP" / "index.json"
    index.write_text(json.dumps({"entities": entities}))
    dataset = open_dataset("TEP", tmp_path)
    assert dataset.entities() == ["x"]
    assert dataset.recordings() == ["x", "calm"]
    assert dataset.load("calm").test.length == 300
    assert open_dataset("TEP-concatenated", tmp_path).load("all").test.length == 600
    refused(lambda: dataset.load("only-train"), "'only-train'")


@pytest.mark.parametrize(
    "row", ["forecast_s30", "channel_s30", "neighbours_32", "joined_logs", "kmeans", "fast"]
)
def test_a_row_scores_a_set_with_times_and_gaps(tmp_path, row):
    write(tmp_path, "IODA", "x", times=True)
    settings = TINY if row == "fast" else EVERY_ROW
    variant = Variant(row, row, settings)
    split = open_dataset("IODA", tmp_path).load("x")
    (record,) = measure(Group("p", "IODA", "x", 0, (variant,)), lambda: split)
    assert record["status"] == "ok", record
    metrics = record["metrics"]["label_free"]
    assert {"vus_pr", "vus_pr_10", "auc_pr"} <= set(metrics)
    if row != "fast":
        assert metrics["vus_pr_10"] > 0.3  # twenty rows of 300, and 8 deviations off


def test_without_a_tail_a_one_liner_learns_from_every_row(tmp_path):
    write(tmp_path, "IODA", "x")
    train = open_dataset("IODA", tmp_path).load("x").train
    settings = settings_of("zscore", {"holdout": 0.0})
    whole, cut = (
        make("zscore", settings_of("zscore", given), seed=0).fit(train)
        for given in (settings, {"holdout": 0.05})
    )
    assert whole.scaler_.centre == pytest.approx(np.nanmean(train.values, axis=0), rel=1e-5)
    assert cut.scaler_.centre == pytest.approx(np.nanmean(train.values[:200], axis=0), rel=1e-5)


def test_the_plan_of_fourteen_sets_has_the_one_liners_and_the_default():
    asked = named_plan("fourteen")
    assert asked.datasets == FOURTEEN
    rows = {one.detector for one in asked.variants}
    ours = {"fast", "linear"}
    assert {"forecast_s30", "channel_s30", "neighbours_32", "joined_logs", *ours} <= rows
    others = [dict(one.settings) for one in asked.variants if one.detector not in ours]
    assert {settings["holdout"] for settings in others} == {0.0}


@pytest.mark.data
@pytest.mark.parametrize("name", FURTHER_SETS)
def test_the_further_sets_are_read_as_their_index_says(benchmark_data, name):
    dataset = open_dataset(name, benchmark_data)
    index = json.loads((benchmark_data / name / "index.json").read_text())
    facts = {one["name"]: one for one in index["entities"] if one.get("anomaly_rows")}
    assert dataset.entities() == list(facts)
    assert len(facts) == DATASETS[name].entities
    for entity in {*list(facts)[:1], *list(facts)[-1:]}:
        split = dataset.load(entity)
        known = facts[entity]
        assert split.train.values.shape == (known["train_rows"], known["features"])
        assert split.test.values.shape == (known["test_rows"], known["features"])
        assert not {"label", "changepoint", "timestamp"} & set(split.test.channels)
        label = split.truth.label()
        assert label.sum() == known["anomaly_rows"]
        assert (np.diff(label.astype(int), prepend=0) == 1).sum() == known["anomaly_segments"]
        for part, share in (("train", "missing_train"), ("test", "missing_test")):
            missing = 1 - getattr(split, part).observed.mean()
            assert missing == pytest.approx(known.get(share, 0.0), abs=2e-4)
    timed = name in ("IODA", "MSCloud", "Nezha")
    assert (split.train.timestamps is not None) == timed
    assert (split.period_s is None) == (name == "Genesis")


@pytest.mark.data
def test_the_files_of_a_further_set_are_whole(benchmark_data):
    files = sum(path.is_file() for path in (benchmark_data / "IODA").rglob("*"))
    assert check(benchmark_data, "IODA") == files
