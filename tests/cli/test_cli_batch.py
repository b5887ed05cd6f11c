"""`batch fit` and `batch detect`: options, lines, exit codes."""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest
from tiny import TINY, ended, series


@pytest.fixture
def services(tmp_path):
    folder = tmp_path / "services"
    for number, name in enumerate(("web", "api")):
        (folder / name).mkdir(parents=True)
        series(300, seed=number).to_csv(folder / name / "train.csv", index=False)
        new = series(200, seed=9, start="2026-01-06", fault=slice(100, 120))
        new.to_parquet(folder / name / "test.parquet", index=False)
    return folder


def test_a_folder_is_fitted_and_scored_and_one_failure_is_told(call, services, tmp_path):
    (services / "notes.txt").write_text("")
    fit = ("batch", "fit", services, "--out", tmp_path / "m", "--jobs", 1, "--preset", "linear")
    done = call(*fit)
    assert done.code == 0, done
    assert done.out == ""
    assert "2 entities: 2 done, 0 were there, 0 failed. notes.txt skipped." in done.err
    shown = json.loads(call("model", "show", tmp_path / "m" / "web", "--json").out)
    assert [entity["name"] for entity in shown["entities"]] == ["web"]
    assert "0 done, 2 were there" in call(*fit).err
    (services / "api" / "test.parquet").write_bytes(b"cut")
    words = ("--models", tmp_path / "m", "--out", tmp_path / "r", "--jobs", 1)
    scored = call("batch", "detect", services, *words, "--json")
    assert scored.code == 3
    summary = json.loads(scored.out)
    assert (summary["done"], summary["failed"]) == (1, 1)
    assert summary["totals"]["rows"] == 200
    assert "api" in summary["failures"]
    assert "warning: api: " in scored.err
    assert "1 of 2 entities failed" in scored.err
    assert (tmp_path / "r" / "web" / "scores.parquet").is_file()
    assert summary == json.loads((tmp_path / "r" / "batch.json").read_text())
    (services / "api" / "test.parquet").unlink()
    (services / "api" / "train.csv").unlink()
    found = call("batch", "detect", services, *words, "--fail-on-anomaly")
    assert found.code == (10 if summary["totals"]["events"] else 0)


@pytest.mark.slow
def test_an_interrupted_batch_goes_on(call, start, services, tmp_path):
    words = ("batch", "fit", services, "--out", tmp_path / "m", "--jobs", 1, *TINY)
    process = start(*words)
    until = time.monotonic() + 90
    while not list((tmp_path / "m").glob(".batch/receipts/[aw]*.json")):
        assert time.monotonic() < until, "nothing is done"
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert done.code == 130
    assert done.err.splitlines()[-1].startswith("interrupted: ")
    assert "the same command continues" in done.err
    assert not [child for child in children if child.is_running()]
    again = call(*words)
    assert again.code == 0
    assert "1 done, 1 were there" in again.err or "0 done, 2 were there" in again.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("fit", "--model", "m"), "FILE"),
        (("fit", "a.csv"), "--model"),
        (("fit", "a.csv", "--model", "m", "--out", "o"), "--out"),
        (("fit", "a.csv", "--model", "m", "--jobs", "2"), "--jobs"),
        (("detect", "a.csv", "--model", "m", "--backend", "ray"), "--backend"),
        (("batch", "fit", "f"), "--out"),
        (("batch", "fit", "f", "--out", "m", "--model", "m"), "--model"),
        (("batch", "detect", "f", "--models", "m"), "--out"),
        (("batch", "detect", "f", "--models", "m", "--out", "o", "--scores", "s.csv"), "--scores"),
    ],
)
def test_options_that_would_do_nothing_are_refused(call, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    done = call(*words)
    assert done.code == 2
    assert told in done.err
    assert not list(tmp_path.iterdir())
