"""Data sets in folders: real ones and made-up ones, whose labels nobody reads before asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from tiny_data import refused

from imdiffusion.errors import ConfigError
from imdiffusion_bench.datasets import (
    DATASETS,
    FolderDataSet,
    Joined,
    available,
    check,
    listed,
    open_dataset,
)
from imdiffusion_bench.datasets.known import sha256_of
from imdiffusion_bench.split import Cause

LABEL = [0, 1, 1, 0]


def write(
    root: Path,
    entity: str,
    *,
    name: str = "own",
    start: float = 0.0,
    columns: tuple[str, ...] = ("a", "b"),
    test_columns: tuple[str, ...] | None = None,
    label: object = LABEL,
    rows: int = 3,
) -> Path:
    """A data set's entity of `rows` train and 4 test rows; its values count from `start`."""
    folder = root / name / entity
    folder.mkdir(parents=True)
    train = {c: np.arange(rows, dtype=np.float32) + start for c in columns}
    parquet.write_table(pa.table(train), folder / "train.parquet")
    test = {c: np.arange(4, dtype=np.float32) + start + 10 * k for k, c in enumerate(columns)}
    test = {c: test.get(c, np.zeros(4, np.float32)) for c in test_columns or columns}
    if label is not None:
        test["label"] = label
    parquet.write_table(pa.table(test), folder / "test.parquet")
    return folder


def test_an_entity_is_loaded_without_its_label(tmp_path):
    write(tmp_path, "x")
    split = FolderDataSet(tmp_path, "own").load("x")
    assert (split.dataset, split.entity, split.period_s) == ("own", "x", None)
    assert split.train.channels == split.test.channels == ("a", "b")
    assert split.train.entity == split.test.entity == "x"
    np.testing.assert_array_equal(split.train.values, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(split.test.values, [[0, 10], [1, 11], [2, 12], [3, 13]])
    assert split.train.values.dtype == np.float32
    assert split.truth.causes is None
    np.testing.assert_array_equal(split.truth.label(), np.array(LABEL, bool))


def test_the_label_is_read_when_asked_for_and_not_before(tmp_path):
    folder = write(tmp_path, "x", label=["no", "such", "label", "!"])
    split = FolderDataSet(tmp_path, "own").load("x")  # labels that cannot be read harm nobody
    refused(split.truth.label, "own x", "label")
    shutil.copy(write(tmp_path / "other", "x") / "test.parquet", folder / "test.parquet")
    assert split.truth.label().tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ([0, 0, 0, 0], "no anomaly"),
        ([0, 2, 0, 0], "value 2"),
        ([0.0, np.nan, 1.0, 0.0], "value nan"),
        (pa.array([0, None, 1, 0], pa.int8()), "value nan"),
        (None, "no column 'label'"),
    ],
)
def test_a_bad_label_is_refused_when_it_is_asked_for(tmp_path, label, word):
    write(tmp_path, "x", label=label)
    split = FolderDataSet(tmp_path, "own").load("x")
    refused(split.truth.label, "own x", word)


def test_labels_of_another_length_are_refused(tmp_path):
    write(tmp_path, "x")
    dataset = FolderDataSet(tmp_path, "own")
    split = dataset.load("x")
    table = parquet.read_table(tmp_path / "own/x/test.parquet")
    parquet.write_table(table.slice(0, 3), tmp_path / "own/x/test.parquet")
    refused(split.truth.label, "own x", "4 rows")


def test_booleans_and_floats_are_labels_too(tmp_path):
    for entity, label in (("x", [False, True, True, False]), ("y", [0.0, 1.0, 1.0, 0.0])):
        write(tmp_path, entity, label=label)
        truth = FolderDataSet(tmp_path, "own").load(entity).truth
        assert truth.label().tolist() == [False, True, True, False]


def test_what_is_missing_or_wrong_is_named_with_data_set_and_entity(tmp_path):
    for entity in ("whole", "no-test", "other", "more", "empty", "torn"):
        extra = {"other": ("a", "c"), "more": ("a", "b", "label_2")}.get(entity)
        write(tmp_path, entity, test_columns=extra, rows=0 if entity == "empty" else 3)
    (tmp_path / "own/no-test/test.parquet").unlink()
    (tmp_path / "own/torn/test.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "own/no-train").mkdir()
    index = [{"name": n} for n in ("no-train", "whole", "no-test", "other", "more", "empty")]
    dataset = FolderDataSet(tmp_path, "own")
    assert dataset.entities() == ["empty", "more", "no-test", "other", "torn", "whole"]
    refused(lambda: dataset.load("torn"), "own torn", "test.parquet")
    (tmp_path / "own/index.json").write_text(json.dumps({"entities": index}))
    refused(lambda: dataset.load("no-train"), "own no-train", "no train part")
    refused(lambda: dataset.load("no-test"), "own no-test", "no test part")
    refused(lambda: dataset.load("other"), "own other", "lacks b", "has c")
    refused(lambda: dataset.load("more"), "own more", "has label_2")
    refused(lambda: dataset.load("empty"), "own empty", "train part has no rows")
    refused(lambda: dataset.load("whol"), "'whol'", "'whole'")
    refused(lambda: FolderDataSet(tmp_path, "absent"), "absent", "no folder")


def test_test_columns_in_another_order_are_put_in_the_order_of_the_train_part(tmp_path):
    write(tmp_path, "x", test_columns=("b", "a"))
    test = FolderDataSet(tmp_path, "own").load("x").test
    assert test.channels == ("a", "b")
    np.testing.assert_array_equal(test.values[0], [0, 10])


def test_columns_named_entity_and_value_are_channels_and_timestamp_is_time(tmp_path):
    folder = write(tmp_path, "x", columns=("entity", "value"))
    for file in ("train", "test"):
        table = parquet.read_table(folder / f"{file}.parquet")
        seconds = np.arange(len(table)) * 30
        times = pa.array(seconds.astype("datetime64[s]"))
        table = table.append_column("timestamp", times)
        parquet.write_table(table, folder / f"{file}.parquet")
    split = FolderDataSet(tmp_path, "own").load("x")
    assert split.train.channels == ("entity", "value")
    assert split.period_s == 30.0
    assert len(split.truth.label()) == 4


def test_the_index_gives_order_period_and_the_meaning_of_segments(tmp_path):
    for entity in ("x", "y"):
        (write(tmp_path, entity) / "interpretation_label.txt").write_text("1-2:2\n\n")
    index = {"entities": ["y", "x"], "period_s": 10, "segment_end": "inclusive"}
    path = tmp_path / "own/index.json"
    path.write_text(json.dumps(index))
    dataset = FolderDataSet(tmp_path, "own")
    assert dataset.entities() == ["y", "x"]
    split = dataset.load("x")
    assert split.period_s == 10.0
    assert split.truth.causes() == [Cause(1, 3, frozenset({1}))]
    path.write_text(json.dumps(index | {"segment_end": "half"}))
    refused(split.truth.causes, "own", "'half'")
    path.write_text(json.dumps(index | {"period_s": "10"}))
    refused(lambda: dataset.load("x"), "own", "period_s is '10'")
    for bad, word in (
        ("{", "cannot be read"),
        ("[]", "not an index"),
        ('{"entities": [{"name": "../../x"}]}', "not the name"),
        ('{"entities": []}', "no entity"),
    ):
        path.write_text(bad)
        refused(dataset.entities, word)


def test_joined_is_the_parts_one_after_the_other_with_lazy_truth(tmp_path):
    (write(tmp_path, "x") / "interpretation_label.txt").write_text("1-3:1\n")
    normal = write(tmp_path, "y", start=100.0, label=[0, 0, 0, 0])  # allowed: x has anomalies
    (normal / "interpretation_label.txt").write_text("0-2:1,2")
    joined = open_dataset("own-concatenated", tmp_path)
    assert isinstance(joined, Joined)
    assert joined.name == "own-concatenated"
    assert joined.entities() == ["all"]
    split = joined.load("all")
    assert (split.dataset, split.entity) == ("own-concatenated", "all")
    assert split.train.values[:, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert split.test.values[:, 1].tolist() == [10, 11, 12, 13, 110, 111, 112, 113]
    assert split.train.entity == split.test.entity == "all"
    assert split.truth.label().tolist() == [False, True, True] + [False] * 5
    assert split.truth.causes() == [
        Cause(1, 3, frozenset({0})),
        Cause(4, 6, frozenset({0, 1})),
    ]
    write(tmp_path / "b", "x", label=[5, 5, 5, 5], name="own")
    shutil.copy(tmp_path / "b/own/x/test.parquet", normal / "test.parquet")
    refused(joined.load("all").truth.label, "own y", "value 5")
    refused(lambda: joined.load("x"), "'x'")


def test_joined_refuses_parts_that_do_not_fit(tmp_path):
    write(tmp_path, "x")
    write(tmp_path, "y", columns=("a", "c"))
    refused(lambda: open_dataset("own-concatenated", tmp_path).load("all"), "y has other", "x")


def test_joined_labels_that_even_out_in_length_are_refused(tmp_path):
    for entity in ("x", "y"):
        write(tmp_path, entity)
    split = open_dataset("own-concatenated", tmp_path).load("all")
    for entity, rows in (("x", 3), ("y", 5)):
        table = pa.table({"a": np.zeros(rows), "label": np.ones(rows, np.int8)})
        parquet.write_table(table, tmp_path / f"own/{entity}/test.parquet")
    refused(split.truth.label, "own x", "4 rows")


def test_sets_are_listed_and_opened_by_name(tmp_path):
    write(tmp_path, "x")
    write(tmp_path, "y", name=".fetch")
    (tmp_path / "empty").mkdir()
    assert available(tmp_path) == ["own"]
    assert open_dataset("own", tmp_path).entities() == ["x"]
    with pytest.raises(ConfigError, match="'SMD'"):
        open_dataset("SDM", tmp_path)
    refused(lambda: open_dataset("SWaT", tmp_path), "SWaT", "iTrust")
    refused(lambda: open_dataset("own", tmp_path / "nowhere"), "nowhere")


def test_checksums_find_what_was_changed_or_lost(tmp_path):
    path = write(tmp_path, "x") / "train.parquet"
    assert check(tmp_path, "own") == 0  # there is no list
    line = f"{sha256_of(path)}  own/x/train.parquet\n"
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  owner/file\n{line}")
    assert check(tmp_path, "own") == 1
    assert check(tmp_path, "absent") == 0
    assert listed(tmp_path) == ["own", "owner"]
    held = path.read_bytes()
    path.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    refused(lambda: check(tmp_path, "own"), "own/x/train.parquet", "SHA-256")
    path.unlink()
    refused(lambda: check(tmp_path, "own"), "own/x/train.parquet", "cannot be read")
    (tmp_path / "SHA256SUMS").write_text(f"{line}nonsense\n")
    refused(lambda: check(tmp_path, "own"), "SHA256SUMS, line 2")


def test_an_entity_that_is_not_what_its_list_says_is_refused_and_the_others_load(tmp_path):
    paths = [write(tmp_path, name) / "test.parquet" for name in ("x", "y", "unlisted")]
    sums = [f"{sha256_of(path)}  own/{path.parent.name}/test.parquet\n" for path in paths[:2]]
    (tmp_path / "SHA256SUMS").write_text("".join(sums))
    other = write(tmp_path, "z", start=9.0) / "test.parquet"
    shutil.copyfile(other, paths[0])  # whole, and another entity's values
    opened = open_dataset("own", tmp_path)
    refused(lambda: opened.load("x"), "own/x/test.parquet", "another SHA-256")
    assert opened.load("y").test.length == 4
    assert opened.load("unlisted").test.length == 4


@pytest.mark.parametrize("changed", ["index.json", "x/interpretation_label.txt"])
def test_what_stands_beside_the_values_is_held_against_the_list_too(tmp_path, changed):
    (write(tmp_path, "x") / "interpretation_label.txt").write_text("1-2:1\n")
    index = tmp_path / "own" / "index.json"
    index.write_text('{"entities": [{"name": "x"}], "period_s": 60}')
    path = tmp_path / "own" / changed
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_of(path)}  own/{changed}\n")
    opened = open_dataset("own", tmp_path)
    assert [cause.channels for cause in opened.read_causes("x", 2, 4)] == [{0}]
    assert opened.load("x").period_s == 60
    path.write_text(path.read_text().replace("60", "30").replace(":1", ":2"))
    asked = opened.entities if changed == "index.json" else lambda: opened.read_causes("x", 2, 4)
    refused(asked, f"own/{changed}", "another SHA-256")


@pytest.mark.data
def test_the_public_sets_are_read_as_their_index_says(benchmark_data):
    assert set(available(benchmark_data)) >= {"SMD", "GCP", "ASD", "MSL", "SMAP"}
    for name, entity, causes in (
        ("SMD", "machine-3-10", True),
        ("GCP", "service3", False),
        ("ASD", "omi-12", True),
        ("MSL", "C-1", False),
    ):
        dataset = open_dataset(name, benchmark_data)
        index = json.loads((benchmark_data / name / "index.json").read_text())
        assert dataset.entities() == [one["name"] for one in index["entities"]]
        (facts,) = (one for one in index["entities"] if one["name"] == entity)
        split = dataset.load(entity)
        assert split.train.length == facts["train_rows"]
        assert split.test.values.shape == (facts["test_rows"], facts["features"])
        assert split.test.channels == tuple(index["columns"])
        assert split.period_s == DATASETS[name].period_s
        label = split.truth.label()
        assert label.sum() == facts["anomaly_rows"]
        assert (np.diff(label.astype(int), prepend=0) == 1).sum() == facts["anomaly_segments"]
        assert (split.truth.causes is not None) == causes


@pytest.mark.data
def test_msl_concatenated_has_the_published_size(benchmark_data):
    split = open_dataset("MSL-concatenated", benchmark_data).load("all")
    assert split.train.values.shape == (58317, 55)
    assert split.test.values.shape == (73729, 55)
    assert split.truth.label().mean() == pytest.approx(0.1053, abs=5e-5)


@pytest.mark.data
def test_the_public_files_are_whole(benchmark_data):
    files = sum(path.is_file() for path in (benchmark_data / "ASD").rglob("*"))
    assert check(benchmark_data, "ASD") == files
