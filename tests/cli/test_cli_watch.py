"""`imdiffusion watch` as a process, on this host; and what it shows"""

from __future__ import annotations

import io
import json
import math
import signal
from dataclasses import replace

import pytest
from live_far import TINY, Said, wait_for
from rich.console import Console
from tiny import ended

from imdiffusion.cli.live_view import Lines, Pane, bars, event_line
from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.schema import spelled

SECOND = 1_000_000_000
# A host under test is anything but steady: so many of its rows may be flagged.
LOOSE = {**TINY, "threshold": "quantile", "alarm_rate": 0.5, "max_steps": 30, "validate_every": 30}
SETTINGS = [word for key, value in LOOSE.items() for word in ("--set", f"{key}={spelled(value)}")]


def test_it_watches_this_host_until_a_fitted_model_speaks(start, tmp_path):
    process = start(
        *("watch", "--interval", 0.01, "--state", tmp_path, "--name", "here", "--json"),
        *("--fit-rows", 400, *SETTINGS),
    )
    said, _ = Said(process.stdout), Said(process.stderr)
    wait_for(lambda: said.has('"detector":"fast"'), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    said.rest()
    records = [json.loads(line) for line in said.lines]
    scores = [one for one in records if one["kind"] == "score"]
    assert {one["entity"] for one in records} == {"here"}
    assert [one["detector"] for one in scores[:300]] == ["linear"] * 300
    assert {one["state"] for one in scores[:300]} == {"warming"}
    times = [one["timestamp"] for one in scores]
    assert times == sorted(set(times))
    assert list((tmp_path / "models").glob("here-*/*/manifest.json"))


def test_it_says_lines_and_goes_on_over_a_restart(start, tmp_path):
    words = ("watch", "--interval", 0.05, "--state", tmp_path, "--no-fit", "--name", "here")
    done = ended(start(*words, "--rows", "--duration", "1s"))
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].endswith("here  warming with linear (first row)")
    assert all("no score  warming  linear" in line for line in lines[1:])
    assert len(lines) > 5
    process = start(*words)
    assert "kept in" in process.stderr.readline()
    other = ended(start(*words))
    assert other.code == 3
    assert "in use by another process" in other.err
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 0


def test_a_reader_that_goes_ends_it(start, tmp_path):
    process = start(
        *("watch", "--interval", 0.02, "--state", tmp_path, "--no-fit", "--json"),
    )
    assert json.loads(process.stdout.readline())["state"] == "warming"
    process.stdout.close()
    assert process.wait(60) == 141
    assert "Traceback" not in process.stderr.read()
    process.stdout = None


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--fit-rows", 100), 4, "window"),
        (("--set", "window=20", "--fit-rows", 100), 4, "compare"),
        (("--set", "windw=20"), 4, "'window'"),
        (("--refit", "soon"), 2, "--refit"),
        (("--state", "/proc/x"), 3, "/proc/x"),
        (("--interval", 0), 2, "interval"),
    ],
)
def test_wrong_options(call, tmp_path, words, code, told):
    state = () if "--state" in words else ("--state", tmp_path)
    done = call("watch", *state, "--duration", "1s", *words)
    assert done.code == code
    assert told in done.err


# -- what is shown


def score(value, *, row=0, state="ready", model="m", detector="fast"):
    return ScoreRecord("web", row * SECOND, "online", value, state, detector, model)


def event(status, *, update=0):
    return EventRecord(
        "e1", "web", status, update, 0, None if status == "ongoing" else SECOND, 0, 3.2, "fast",
        "m",
        ("cpu", "disk"), (0.8, 0.2), (1.0, 2.0), (9.0, math.nan),
    )  # fmt: skip


def test_a_line_says_the_reason_where_a_check_found_something():
    frozen = {"kinds": ("frozen", ""), "reason": "cpu frozen at one value for 9 rows"}
    line = event_line(replace(event("resolved", update=1), **frozen))
    assert "resolved, peak 3.20, fast: cpu frozen at one value for 9 rows" in line


def test_lines_say_what_changes_and_nothing_twice():
    lines = []
    sink = Lines(lines.append, rows=False, gone=lambda: None)
    sink.send([score(math.nan, state="warming", model="c", detector="zscore")])
    sink.send([score(0.5, row=1), score(0.5, row=1), score(0.6, row=2)])
    sink.send([event("ongoing"), event("ongoing", update=1), event("resolved", update=2)])
    assert lines == []
    sink.flush()
    sink.flush()
    first = "1970-01-01T00:00:00Z  web"
    cells = "peak 3.20, fast: cpu 80%, seen 9 (expected 1); disk 20%, seen nan (expected 2)"
    assert lines == [
        f"{first}  warming with zscore (first row)",
        "1970-01-01T00:00:01Z  web  ready with fast (was warming with zscore)",
        f"{first}  event e1 begins, {cells}",
        f"{first}  event e1 continues, {cells}",
        f"{first}  event e1 resolved, {cells}",
    ]
    assert event_line(event("expired", update=3)).startswith(f"{first}  event e1 expired")


def test_bars():
    assert bars([0.0, 1.0, 2.0, 9.0, math.nan]) == "▁▅██ "


def test_the_pane_draws_every_entity():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Pane(console, rows=False, gone=lambda: None) as pane:
        pane.send([score(1.7), event("ongoing")])
        pane.flush()
    shown = console.file.getvalue()
    for word in ("web", "ready", "fast", "1.70", "event e1 begins"):
        assert word in shown
