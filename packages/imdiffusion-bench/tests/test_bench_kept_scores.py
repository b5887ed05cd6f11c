"""Scores kept beside the runs: whole, readable without running code, and asked for once."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from tiny_data import ANOMALY, write_set
from tiny_detectors import FAST, ROWS, ZSCORE, group, label_of, split

from imdiffusion.errors import OutputError
from imdiffusion_bench import record
from imdiffusion_bench.measure import measure
from imdiffusion_bench.plan import Plan
from imdiffusion_bench.runner import bench
from imdiffusion_bench.split import Scores, Truth

ONE = {"SMD": ("machine-1-1",)}
HEAD = {"id": "0" * 16, "dataset": "SMD", "entity": "machine-1-1", "seed": 0}


def read(path):
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name] for name in held} | {"run": json.loads(str(held["run"]))}


def test_scores_of_every_kind_of_row_are_kept_and_are_those_that_were_judged(tmp_path):
    root, out, folder = write_set(tmp_path), tmp_path / "runs.jsonl", tmp_path / "a" / "scores"
    asked = Plan("p", ("SMD",), (FAST, ZSCORE, ROWS[1]), entities=ONE)
    state = bench(asked, out, root=root, threads=1, device="cpu", keep_scores=folder)
    assert (state.done, state.failed) == (3, 0)
    found = {one["run"]["variant"]: one for one in map(read, folder.iterdir())}
    assert len(found) == 3
    label = np.zeros(400, bool)
    label[ANOMALY] = True
    for run in record.read([out]):
        one = found[run["variant"]]
        assert read(record.scores_path(folder, run["id"]))["run"] == one["run"]
        assert all(run[key] == value for key, value in one["run"].items())
        assert one["score"].dtype == np.float32
        alarm = one["score"] > one["threshold"]
        share = run["metrics"]["label_free"]["alarm_share_normal"]
        assert alarm[~label].mean() == pytest.approx(share)
    fast, zscore = found["fast, tiny"], found["zscore"]
    for array in (fast["channel_scores"], fast["expected"]):
        assert array.shape == (400, 3)
    # In the data's units: an untrained network expects what is usual, between the rows' extremes.
    assert 0 < np.abs(fast["expected"]).max() < 8
    assert np.argmax(zscore["channel_scores"][ANOMALY].mean(axis=0)) == 1
    assert "expected" not in zscore
    assert "channel_scores" not in found["random"]


def test_scores_and_record_say_the_same_of_the_run_however_long_it_is_judged(tmp_path):
    def slow():
        time.sleep(1.1)  # dates are whole seconds
        return label_of()

    (run,) = measure(group(ZSCORE), lambda: replace(split(), truth=Truth(slow)), keep=tmp_path)
    (head,) = (read(path)["run"] for path in tmp_path.iterdir())
    assert {key: run[key] for key in head} == head


def test_a_run_whose_scores_are_not_there_is_measured_again(tmp_path):
    root, out, folder = write_set(tmp_path), tmp_path / "runs.jsonl", tmp_path / "scores"
    asked = Plan("p", ("SMD",), (ZSCORE,))
    bench(asked, out, root=root, threads=1, device="cpu")
    assert not folder.exists()
    call = {"root": root, "threads": 1, "device": "cpu", "keep_scores": folder}
    assert bench(asked, out, **call).done == 2
    assert bench(asked, out, **call).found == 2
    next(iter(folder.iterdir())).unlink()
    state = bench(asked, out, **call)
    assert (state.found, state.done) == (1, 1)
    assert len(list(record.read([out]))) == 2  # the latest line of each


def test_scores_that_cannot_be_kept_are_a_failure_that_says_so(tmp_path, monkeypatch):
    root, out, folder = write_set(tmp_path), tmp_path / "runs.jsonl", tmp_path / "scores"
    asked = Plan("p", ("SMD",), (ZSCORE,), entities=ONE)
    state = bench(asked, out, root=root, threads=1, device="cpu", keep_scores=folder)
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()  # nothing can be renamed to it
    (path / "in the way").touch()
    state = bench(asked, tmp_path / "b.jsonl", root=root, device="cpu", keep_scores=folder)
    assert (state.done, state.failed) == (0, 1)
    (run,) = record.read([tmp_path / "b.jsonl"])
    assert (run["stage"], run["error"]["type"]) == ("keep", "OutputError")
    assert [one.name for one in folder.iterdir()] == [path.name]  # no half-written file
    # A folder that is none is refused before anything is measured.
    with pytest.raises(OutputError, match="cannot keep scores"):
        bench(asked, tmp_path / "c.jsonl", root=root, device="cpu", keep_scores=out)
    assert not (tmp_path / "c.jsonl").exists()


def test_scores_are_read_by_numpy_without_running_code(tmp_path):
    path = record.keep_scores(tmp_path, HEAD, Scores(np.array([0.5, np.nan, 2.0])))
    assert path == record.scores_path(tmp_path, HEAD["id"])
    one = read(path)
    assert one["run"] == HEAD
    assert one["score"] == pytest.approx([0.5, np.nan, 2.0], nan_ok=True)
    assert "expected" not in one
