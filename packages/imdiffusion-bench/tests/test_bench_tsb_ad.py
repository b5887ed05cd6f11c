"""TSB-AD-M: its measure worked out by hand and slowly, its files rebuilt and read, its table."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import refused
from tiny_runs import failed, line_of, run

from imdiffusion.errors import DataError
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.datasets.tsb_ad import (
    NAME,
    TUNING,
    TsbAdM,
    known_files,
    train_rows_of,
)
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.metrics import segments
from imdiffusion_bench.metrics.range_based import vus_pr_period, window_of
from imdiffusion_bench.plan import EVERY_ROW, Plan, Variant
from imdiffusion_bench.published import TSB_AD_MEANS, tsb_ad_tables
from imdiffusion_bench.record import read
from imdiffusion_bench.runner import bench
from imdiffusion_bench.studies import named_plan

# Measure


def test_the_volume_of_five_rows_by_hand():
    label = np.array([0, 0, 1, 0, 0], bool)
    score = np.array([0.0, 3.0, 2.0, 1.0, 0.0])
    # Buffers 0 and 1 have no slope: row 1 first, then the right one, found at precision 1/2.
    assert vus_pr_period(label, score, 1) == pytest.approx(0.5)
    # Buffer 2: both neighbours count h = sqrt(1/2). Row 1 alone: recall h / (1 + h / 2) at
    # precision h; with row 2 recall 1 at precision (1 + h) / 2.
    h = np.sqrt(0.5)
    first = h / (1 + h / 2)
    area = first * h + (1 - first) * (1 + h) / 2
    assert vus_pr_period(label, score, 2) == pytest.approx((0.5 + 0.5 + area) / 3)


def test_rows_of_equal_score_enter_together_and_no_score_is_the_lowest():
    label = np.array([0, 1, 0, 0], bool)
    assert vus_pr_period(label, np.ones(4), 0) == pytest.approx(0.25)
    assert vus_pr_period(label, np.array([0.0, np.nan, 0.0, 0.0]), 0) == pytest.approx(0.25)
    assert vus_pr_period(label, np.array([np.nan, 0.0, np.nan, np.nan]), 0) == pytest.approx(1.0)
    with pytest.raises(DataError, match="no anomaly"):
        vus_pr_period(np.zeros(4, bool), np.ones(4), 0)


def slowly(label, score, window):
    """The definition, threshold by threshold and segment by segment."""
    rows, runs, areas = len(label), segments(label), []
    for size in range(window + 1):
        slope, soft = size // 2, label.astype(float)
        joined = [list(runs[0])]
        for start, end in runs[1:]:
            if joined[-1][1] - 1 + slope < start - slope:
                joined.append([start, end])
            joined[-1][1] = end
        for start, end in runs:
            for d in range(1, slope + 1):
                for row in (start - d, end - 1 + d):
                    if 0 <= row < rows:
                        soft[row] += np.sqrt(1 - d / size)
        soft = np.minimum(soft, 1)
        area, before = 0.0, 0.0
        for place in np.linspace(0, rows - 1, 250).astype(int):
            alarm = score >= -np.sort(-score)[place]
            true = (soft * alarm).sum()
            positives = label.sum() + (soft * alarm)[~label].sum() / 2
            met = np.mean([alarm[max(a - slope, 0) : b + slope].any() for a, b in joined])
            recall = min(true / positives, 1) * met
            area += (recall - before) * true / alarm.sum()
            before = recall
        areas.append(area)
    return np.mean(areas)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.booleans())
def test_the_volume_is_what_the_definition_gives(seed, window, ties):
    rng = np.random.default_rng(seed)
    label = rng.random(40) < 0.2
    label[rng.integers(40)] = True
    score = rng.integers(0, 5, 40).astype(float) if ties else rng.random(40)
    assert vus_pr_period(label, score, window) == pytest.approx(
        slowly(label, score, window), abs=1e-12
    )


def test_the_window_is_the_period_of_the_first_channel():
    t = np.arange(3000)
    assert window_of(np.sin(2 * np.pi * t / 50)) == 50
    assert window_of(5 + np.sin(2 * np.pi * t / 7)) == 7
    assert window_of(np.sin(2 * np.pi * t / 350)) == 125  # longer than a window may be
    assert window_of(np.sin(2 * np.pi * t / 4)) == 125  # and shorter
    assert window_of(np.ones(3000)) == 125
    assert window_of(t.astype(float)) == 125  # its autocorrelation only falls
    assert window_of(np.zeros(0)) == window_of(np.zeros(3)) == 125
    # What comes after 20,000 rows does not count.
    long = np.concatenate([np.sin(2 * np.pi * np.arange(20_000) / 40), np.zeros(9000)])
    assert window_of(long) == 40


# Files


def part(path, values, label=None):
    columns = {f"c{k}": column for k, column in enumerate(values.T)}
    if label is not None:
        columns["label"] = label
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def test_a_file_that_is_a_test_part_is_rebuilt_from_it(tmp_path):
    file = known_files()["002_MSL_id_1_Sensor_tr_500_1st_900"]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(file.rows, file.channels)).astype(np.float32)
    values[:, 0] += 9 * np.sin(2 * np.pi * np.arange(file.rows) / 25)
    label = np.zeros(file.rows, np.int8)
    label[900:950] = 1
    part(tmp_path / "MSL/S-2/train.parquet", np.zeros((30, file.channels), np.float32))
    part(tmp_path / "MSL/S-2/test.parquet", values, label)
    source = open_source(NAME, tmp_path)
    assert source.entities() == list(known_files())
    split = source.load(file.file)
    np.testing.assert_array_equal(split.train.values, values[:500])
    np.testing.assert_array_equal(split.test.values, values)
    np.testing.assert_array_equal(split.truth.label(), label == 1)
    assert (split.dataset, split.entity, split.tsb_ad_window) == (NAME, file.file, 25)
    refused(lambda: source.load("003_MSL_id_2_Sensor_tr_883_1st_1238"), "MSL", "P-11")
    part(tmp_path / "MSL/S-2/test.parquet", values[:-1], label[:-1])
    refused(lambda: source.load(file.file), "002_MSL", "1826", "1827")
    refused(lambda: source.load("002_MSL"), "'002_MSL'", "002_MSL_id_1")


def test_a_file_that_is_a_whole_set_has_the_training_part_before_it(tmp_path):
    file = known_files()["001_Genesis_id_1_Sensor_tr_4055_1st_15538"]
    values = np.random.default_rng(0).normal(size=(file.rows, file.channels)).astype(np.float32)
    label = np.zeros(file.rows, np.int8)
    label[15538:15550] = 1
    part(tmp_path / "Genesis/id_1/train.parquet", values[:4055])
    part(tmp_path / "Genesis/id_1/test.parquet", values[4055:], label[4055:])
    split = TsbAdM(tmp_path).load(file.file)
    np.testing.assert_array_equal(split.test.values, values)
    np.testing.assert_array_equal(split.train.values, values[:4055])
    assert np.flatnonzero(split.truth.label())[0] == 15538


def own_copy(folder, *names, rows=200):
    """Files of one's own: two channels of period 20, off in rows 100 to 109."""
    folder.mkdir()
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        x = np.sin(2 * np.pi * np.arange(rows)[:, None] / 20) + 0.1 * rng.normal(size=(rows, 2))
        x[100:110, 1] += 4
        lines = ["0,1,Label"]
        lines += [f"{a:.6f},{b:.6f},{int(100 <= t < 110)}" for t, (a, b) in enumerate(x)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


NAMES = ("019_SVDB_id_1_Medical_tr_60_1st_100", "200_CATSv2_id_9_Sensor_tr_50_1st_100")


def test_ones_own_files_are_entities_and_those_for_tuning_are_not(tmp_path):
    root = own_copy(tmp_path / "csv", *NAMES, "004_MSL_id_3_Sensor_tr_60_1st_100")
    (root / "notes_tr_1.csv").write_text("not a file of TSB-AD")
    source = open_source(NAME, root)
    assert source.entities() == list(NAMES)
    assert 4 in TUNING
    assert len(TUNING) == 20
    split = source.load(NAMES[1])
    assert (split.train.length, split.test.values.shape) == (50, (200, 2))
    assert split.test.channels == ("0", "1")
    assert split.tsb_ad_window == 20
    assert split.truth.label().sum() == 10
    path = root / f"{NAMES[0]}.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], ",0.5,0", *lines[3:]]))
    assert source.load(NAMES[0]).test.length == 200  # a row with a gap is dropped, as there
    assert source.load(NAMES[0]).truth.label().sum() == 10
    path.write_text("Label,0\n0,1.0\n")
    refused(lambda: source.load(NAMES[0]), NAMES[0], "end with '0'")
    path.write_text("\n".join(lines[:40]))
    refused(lambda: source.load(NAMES[0]), "60 training rows of 39")
    refused(lambda: TsbAdM(tmp_path / "nowhere").entities(), "nowhere")
    refused(lambda: train_rows_of("some file"), "some file", "NUMBER_SET")


def test_the_facts_of_the_files_agree_with_their_names():
    assert len(known_files()) == 48
    for name, file in known_files().items():
        assert train_rows_of(name) == file.train_rows < file.rows
        assert f"_{file.dataset}_id_" in name
        assert int(name[:3]) not in TUNING
        assert {"KMeansAD", "StreamVAE", "AxonAD", "CHARM_kNN"} < set(file.published)
        assert len(file.published) == 26
        assert all(0 <= value <= 1 for value in file.published.values())
        assert file.best == max(file.published.values())


def test_a_run_has_the_protocol_and_nobody_else_has(tmp_path):
    root = own_copy(tmp_path / "csv", *NAMES)
    split = open_source(NAME, root).load(NAMES[0])
    variant = Variant("zscore", "zscore", EVERY_ROW)
    (record,) = measure(Group("p", NAME, NAMES[0], 0, (variant,)), lambda: split)
    assert record["metrics"]["tsb_ad"]["vus_pr_period"] > 0.9
    assert record["rows"] == {"train": 60, "test": 200}
    other = [one for one in record["metrics"] if one != "tsb_ad"]
    assert other == ["label_free", "oracle", "paper"]


def test_one_call_measures_ones_own_copy(tmp_path):
    root = own_copy(tmp_path / "csv", *NAMES)
    out = tmp_path / "runs.jsonl"
    asked = Plan("tsb_ad_m", (NAME,), (Variant("random", "random"), Variant("zscore", "zscore")))
    state = bench(asked, out, root=root, device="cpu", threads=1)
    assert (state.done, state.failed) == (4, 0)
    text = tsb_ad_tables(read([out]))
    assert "all 2 files" in text
    assert "2 files are not the 180" in text
    assert float(line_of(text, "zscore")[1]) > 0.9


# Table


def judged(variant, file, value):
    return run(variant, file, dataset=NAME, tsb_ad={"vus_pr_period": value})


FIRST, SECOND = "001_Genesis_id_1_Sensor_tr_4055_1st_15538", "002_MSL_id_1_Sensor_tr_500_1st_900"


def test_the_table_stands_beside_what_was_published():
    # On both files the three best are CHARM_kNN .9304 and .9961, mean .96325; KMeansAD .8909 and
    # .9960, mean .94345; then StreamVAE .47990 and the others below .6.
    runs = [judged("a", FIRST, 0.95), judged("a", SECOND, 0.96), judged("b", FIRST, 0.5)]
    runs.append(failed("b", SECOND, dataset=NAME))
    text = tsb_ad_tables([*runs, run("a", "x", dataset="SMD", vus_pr=0.5)])
    assert "2 files beside the publication" in text
    assert "rank among 26 published and itself" in text
    assert line_of(text, "a") == ["a", "0.955", "2", "1", "0.950", "0.960"]
    assert line_of(text, "b") == ["b", "–", "–", "0", "0.500", "–"]
    kmeans = ["published KMeansAD", "0.943", "–", "0", "0.891", "0.996"]
    assert line_of(text, "published KMeansAD") == kmeans
    bound = ["best published on each file", "0.963", "–", "–", "0.930", "0.996"]
    assert line_of(text, bound[0]) == bound
    order = [text.index(f"| {name} |") for name in ("published CHARM_kNN", "a", "b")]
    assert order == sorted(order)
    with pytest.raises(DataError, match="no run is of the data set tsb_ad_m"):
        tsb_ad_tables(runs[:0])


def test_the_whole_180_stand_beside_the_published_means():
    files = [FIRST, *(f"{n:03d}_X_id_1_Y_tr_5_1st_9" for n in range(201, 380))]
    text = tsb_ad_tables([judged("a", name, 0.42) for name in files])
    above = sum(value > 0.42 for value in TSB_AD_MEANS.values())
    part = text[text.index("all 180 files") :]
    assert line_of(part, "a") == ["a", "0.420", str(above + 1), "180"]
    assert line_of(part, "published PCA") == ["published PCA", "0.310", "–", "180"]
    assert "are not the 180" not in part


def test_the_plan_has_one_data_set():
    assert named_plan(NAME).datasets == (NAME,)
    assert "fast" in {one.detector for one in named_plan(NAME).variants}


@pytest.mark.data
def test_rebuilt_files_give_what_tsb_ads_own_measure_gave(benchmark_data):
    """VUS-PR of two one-liners, as measured before by another program with TSB-AD's code."""
    from imdiffusion_bench.detectors import make, settings_of

    source = TsbAdM(benchmark_data)
    for file, mahalanobis, variance in (
        (FIRST, 0.0895, 0.0237),
        (SECOND, 0.9373, 0.0127),
        ("007_MSL_id_6_Sensor_tr_980_1st_3550", 0.6086, 0.1124),
        ("152_SMAP_id_9_Sensor_tr_2073_1st_5600", 0.1599, 0.0812),
    ):
        split = source.load(file)
        label = split.truth.label()
        for row, wanted in (("mahalanobis_30", mahalanobis), ("moving_variance", variance)):
            fitted = make(row, settings_of(row, EVERY_ROW), seed=0).fit(split.train)
            score = fitted.score(split.test).score
            assert vus_pr_period(label, score, split.tsb_ad_window) == pytest.approx(
                wanted, abs=2e-4
            )


@pytest.mark.data
def test_every_known_file_can_be_rebuilt(benchmark_data):
    source = TsbAdM(benchmark_data)
    for file in source.entities():
        split = source.load(file)
        first = int(file.rpartition("_")[2])
        label = split.truth.label()
        assert first in (np.flatnonzero(label)[0], first if label[first] else -1), file
