"""`imdiffusion detect`, `impute` and `report`: what they print and what they write."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import time
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny import TINY, ended, series

from imdiffusion import ImDiffusion
from imdiffusion.data.files import read

LISTS = ["channels", "shares", "expected", "seen", "kinds"]
COLUMNS = ["start", "end", "peak", "duration", "score", *LISTS, "reason"]


def strictly(text: str):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("file", ["new.csv", "new.parquet"])
def test_json(call, model, data, file):
    done = call("detect", data / file, "--model", model, "--json")
    assert done.code == 0
    document = strictly(done.out)
    assert set(document) == {"events", "summary"}
    summary = document["summary"]
    assert set(summary) == {"entities", "rows", "scored", "anomalous", "events"}
    assert (summary["rows"], summary["scored"]) == (400, 400)
    assert summary["events"] == len(document["events"]) >= 1
    event = max(document["events"], key=lambda event: event["score"])
    assert list(event) == COLUMNS
    start, peak, end = (datetime.fromisoformat(event[n]) for n in ("start", "peak", "end"))
    assert event["start"].endswith("Z")
    assert start <= peak < end
    assert (end - start).total_seconds() == event["duration"]
    fault = [datetime.fromisoformat(f"2026-01-06T00:03:{s}Z") for s in ("20", "50")]
    assert start < fault[1]
    assert end > fault[0]
    assert event["channels"][0] == "cpu"
    assert sorted(event["channels"]) == ["cpu", "disk", "memory", "net"]
    assert math.isclose(sum(event["shares"]), 1, abs_tol=1e-6)
    assert event["score"] > 1


def test_missing_values_are_null(call, model, tmp_path):
    table = series(300, seed=1, fault=slice(100, 129))
    table.loc[90:140, "net"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    done = call("detect", tmp_path / "t.csv", "--model", model, "--json")
    event = max(strictly(done.out)["events"], key=lambda event: event["score"])
    assert event["seen"][event["channels"].index("net")] is None


def test_the_table_in_a_pipe_is_plain(call, model, data):
    done = call("detect", data / "new.csv", "--model", model)
    lines = done.out.splitlines()
    assert lines[0].split("  ")[0] == "start"
    assert lines[0].endswith("channels: share, seen (expected)")
    assert any("cpu" in line and "2026-01-06 00:03:" in line for line in lines[1:])
    assert "\x1b" not in done.out
    assert not set("│┃┏━") & set(done.out)
    assert "events in 400 rows" in done.err or "event in 400 rows" in done.err


def test_no_event_prints_nothing_on_stdout(call, data, tmp_path):
    words = (*TINY, "--set", "min_length=1000")
    assert call("fit", data / "train.csv", "--model", tmp_path / "m", *words).code == 0
    done = call("detect", data / "new.csv", "--model", tmp_path / "m", "--fail-on-anomaly")
    assert (done.code, done.out) == (0, "")
    assert "0 events" in done.err
    done = call("detect", data / "new.csv", "--model", tmp_path / "m", "--json")
    assert strictly(done.out)["events"] == []


def test_files_have_what_is_printed(call, model, data, tmp_path):
    outs = [tmp_path / f"events{suffix}" for suffix in (".csv", ".parquet", ".jsonl", ".csv.gz")]
    documents = [
        strictly(call("detect", data / "new.csv", "--model", model, "--json", "--out", out).out)
        for out in outs
    ]
    events = documents[0]["events"]
    assert all(document == documents[0] for document in documents)
    parquet = pq.read_table(outs[1])
    assert parquet.column_names == COLUMNS
    assert parquet["channels"].to_pylist() == [event["channels"] for event in events]
    assert str(parquet.schema.field("start").type).startswith("timestamp[ns")
    lines = [strictly(line) for line in outs[2].read_text().splitlines()]
    assert [line["channels"] for line in lines] == [event["channels"] for event in events]
    for flat in (pd.read_csv(outs[0]), pd.read_csv(outs[3])):
        for name in ("channels", "kinds"):
            assert [json.loads(cell) for cell in flat[name]] == parquet[name].to_pylist()
        assert np.allclose(flat["score"], [event["score"] for event in events])


def test_scores_are_the_detectors_own(call, model, data, tmp_path):
    done = call(
        "detect", data / "new.parquet", "--model", model, "--scores", tmp_path / "s.parquet"
    )
    assert done.code == 0
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["timestamp", "score", "alarm"]
    expected = ImDiffusion.load(model).decision_function(read(data / "new.parquet"))
    assert np.array_equal(table["score"].to_numpy(), expected)


def test_fail_on_anomaly(call, model, data):
    assert call("detect", data / "new.csv", "--model", model, "--fail-on-anomaly").code == 10
    assert call("detect", data / "new.csv", "--model", model).code == 0


def test_suffix_is_checked_first(call, model, data, tmp_path):
    done = call("detect", data / "new.csv", "--model", model, "--out", tmp_path / "events.xlsx")
    assert done.code == 2
    assert ".parquet" in done.err


# The rename waits: whoever kills now finds everything written, but not under its name.
STUCK = """
import sys, time
import imdiffusion.data.atomic as atomic
def wait(path):
    print("written", file=sys.stderr, flush=True)
    time.sleep(60)
atomic._sync = wait
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_leaves_nothing_under_the_final_name(start, model, data, tmp_path, number):
    out = tmp_path / "scores.csv"
    process = start("detect", data / "new.csv", "--model", model, "--scores", out, before=STUCK)
    until = time.monotonic() + 60
    while process.stderr.readline() != "written\n":
        assert time.monotonic() < until
    for _ in range(5):  # an interrupt that meets a destructor is lost: a person presses again
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=8)
            break
    codes = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
    assert ended(process).code == codes[number]
    assert not out.exists()
    if number != signal.SIGKILL:
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_impute(call, model, tmp_path, suffix):
    table = series(120, seed=4)
    table.loc[50:59, "memory"] = np.nan
    table.to_csv(tmp_path / "gaps.csv", index=False)
    out = tmp_path / f"filled{suffix}"
    done = call("impute", tmp_path / "gaps.csv", "--model", model, "--out", out)
    assert done.code == 0, done
    assert done.out == ""
    reader = {".csv": pd.read_csv, ".parquet": pd.read_parquet}.get(suffix)
    filled = reader(out) if reader else pd.read_json(out, lines=True)
    assert list(filled.columns) == [
        *("timestamp", "channel", "value", "expected", "lower", "upper", "observed")
    ]
    assert len(filled) == 120 * 4
    missing = filled[~filled["observed"].astype(bool)]
    assert set(missing["channel"]) == {"memory"}
    assert len(missing) == 10
    assert missing["value"].isna().all()
    assert missing["expected"].between(missing["lower"], missing["upper"]).all()


def test_report(call, model, data, tmp_path):
    done = call("report", data / "new.csv", "--model", model, "--out", tmp_path / "r.html")
    assert done.code == 0, done
    page = (tmp_path / "r.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "new.csv" in page
    assert call("report", data / "new.csv", "--model", model, "--out", "r.pdf").code == 2


def test_long_files_and_entity_columns(call, tmp_path):
    tables = [series(200, seed=seed).assign(entity=name) for seed, name in enumerate(("a", "b"))]
    long = pd.concat(tables).melt(["entity", "timestamp"], var_name="channel")
    long.to_parquet(tmp_path / "long.parquet")
    done = call("fit", tmp_path / "long.parquet", "--model", tmp_path / "m", *TINY)
    assert done.code == 0, done
    done = call(
        *("detect", tmp_path / "long.parquet", "--model", tmp_path / "m", "--json"),
        *("--scores", tmp_path / "s.csv"),
    )
    assert strictly(done.out)["summary"]["entities"] == 2
    assert set(pd.read_csv(tmp_path / "s.csv")["entity"]) == {"a", "b"}


def test_names_of_columns_are_options(call, model, tmp_path):
    table = series(120).rename(columns={"timestamp": "ts"}).assign(host="web-1")
    table["ts"] = table["ts"].dt.as_unit("s").astype("int64")
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ("detect", tmp_path / "t.csv", "--model", model, "--json")
    done = call(*words, "--timestamp", "ts", "--ignore-column", "host", "--unit", "s")
    assert done.code == 0, done
    assert strictly(done.out)["summary"]["rows"] == 120
    assert call(*words, "--timestamp", "ts").code == 3


def test_output_into_the_current_folder(start, light, data, tmp_path):
    done = ended(start("report", data / "new.csv", "--model", light, cwd=tmp_path))
    assert done.code == 0, done
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
