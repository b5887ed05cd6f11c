"""`imdiffusion detect` says what kind of absence or hour an event is: printed, JSON, in files."""

from __future__ import annotations

import kind_story
import pytest
from kind_story import FAULTS


@pytest.fixture(scope="module", name="place")
def _place(tmp_path_factory):
    """A model in closed form, and the rows with a fault of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    kind_story.fitted().save(folder / "model")
    kind_story.faulty().to_csv(folder / "new.csv", index=False)
    return folder


def test_the_table_says_it_in_the_place_of_the_channels_where_a_check_found_something(call, place):
    done = call("detect", place / "new.csv", "--model", place / "model")
    for _, _, kind, words in FAULTS:
        assert (words in done.out) == bool(kind)
    assert "load 100%: 3.2 (1.1)" in done.out


def test_the_report_says_it_in_the_card_of_the_event(call, place, tmp_path):
    page = tmp_path / "report.html"
    words = ("report", place / "new.csv", "--model", place / "model", "--out", page)
    assert call(*words).code == 0
    text = page.read_text(encoding="utf-8")
    for _, _, kind, said in FAULTS:
        assert (f'<p class="reason">{said}' in text) == bool(kind)
        assert not kind or f'<span class="kind">{kind.replace("_", " ")}</span>' in text
