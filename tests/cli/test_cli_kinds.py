"""`imdiffusion detect` says what kind of absence or hour an event is: printed, JSON, in files."""

from __future__ import annotations

import json

import kind_story
import pandas as pd
import pytest
from kind_story import FAULTS, START, STEP


@pytest.fixture(scope="module", name="place")
def _place(tmp_path_factory):
    """A model in closed form, and the rows with a fault of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    kind_story.fitted().save(folder / "model")
    kind_story.faulty().to_csv(folder / "new.csv", index=False)
    return folder


def met(events: list[dict]) -> list[dict]:
    """The event of each fault, in their order."""
    found = []
    for start, end, _, _ in FAULTS:
        lo, hi = (
            pd.Timestamp(START, tz="UTC") + row * pd.Timedelta(STEP, "min") for row in (start, end)
        )
        (own,) = [
            one
            for one in events
            if pd.Timestamp(one["start"]) < hi and lo < pd.Timestamp(one["end"])
        ]
        found.append(own)
    return found


def test_json_names_the_kind_of_each_channel_and_says_why(call, place):
    done = call("detect", place / "new.csv", "--model", place / "model", "--json")
    assert done.code == 0
    for event, (_, _, kind, words) in zip(met(json.loads(done.out)["events"]), FAULTS, strict=True):
        assert event["kinds"][0] == kind
        assert event["reason"].startswith(words)
        assert len(event["kinds"]) == len(event["channels"])


def test_the_table_says_it_in_the_place_of_the_channels_where_a_check_found_something(call, place):
    done = call("detect", place / "new.csv", "--model", place / "model")
    for _, _, kind, words in FAULTS:
        assert (words in done.out) == bool(kind)
    assert "load 100%: 3.2 (1.1)" in done.out


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_files_of_events_have_kinds_and_reason(call, place, tmp_path, suffix):
    path = tmp_path / f"events{suffix}"
    assert call("detect", place / "new.csv", "--model", place / "model", "-o", path).code == 0
    if suffix == ".csv":
        table = pd.read_csv(path)
        table["kinds"] = table["kinds"].map(json.loads)
    else:
        table = pd.read_parquet(path) if suffix == ".parquet" else pd.read_json(path, lines=True)
    for event, (_, _, kind, words) in zip(met(table.to_dict("records")), FAULTS, strict=True):
        assert next(iter(event["kinds"])) == kind
        assert event["reason"].startswith(words)


def test_the_report_says_it_in_the_card_of_the_event(call, place, tmp_path):
    page = tmp_path / "report.html"
    words = ("report", place / "new.csv", "--model", place / "model", "--out", page)
    assert call(*words).code == 0
    text = page.read_text(encoding="utf-8")
    for _, _, kind, said in FAULTS:
        assert (f'<p class="reason">{said}' in text) == bool(kind)
        assert not kind or f'<span class="kind">{kind.replace("_", " ")}</span>' in text
