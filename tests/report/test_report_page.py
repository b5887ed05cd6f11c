"""The report as text: what it says, what it refuses, that nothing in it points outside."""

import dataclasses
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from story import story

from imdiffusion import wording
from imdiffusion.errors import OutputError, UsageError
from imdiffusion.promise.record import PromiseRecord
from imdiffusion.promise.report import promise_report
from imdiffusion.report import page
from imdiffusion.report.cards import Fault
from imdiffusion.report.page import overall_shares, write_report
from imdiffusion.scoring.event import Unalarmed
from imdiffusion.settings import Settings

EVIL = '</script><img src=x onerror="alert(1)">'


class Tags(HTMLParser):
    """All start tags with their attributes; what the parser believes to be elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.found


@pytest.fixture(name="told", scope="module")
def _told(tmp_path_factory):
    one = story(1200)
    path = write_report(
        tmp_path_factory.mktemp("page") / "report.html",
        [one.analysis],
        title="A made-up host",
        faults=one.faults,
        about={"preset": "fast", "parameters": "123,456"},
    )
    return one, path.read_text(encoding="utf-8")


def test_the_page_names_its_title_period_events_and_faults(told):
    one, text = told
    assert "<h1>A made-up host</h1>" in text
    assert "2026-01-05 09:58:00" in text
    assert text.count('class="card"') == len(one.analysis.events) > 3
    assert "during known fault: disk flood" in text
    assert "5 of 6" in text  # the sixth changes nothing that is measured
    assert "no event" in text
    assert "<dt>preset</dt><dd>fast</dd>" in text


def test_a_card_says_what_the_event_is_and_which_channel_is_of_which_kind(tmp_path):
    analysis = story(600).analysis
    (event, *others) = analysis.events
    kinds = ("left_constant", *[""] * (len(event.channels) - 1))
    reason = "<b>flag</b> away from its constant value for 3 rows (3 s)"
    told = replace(analysis, events=[replace(event, kinds=kinds, reason=reason), *others])
    path = write_report(tmp_path / "report.html", [told], title="kinds")
    text = path.read_text(encoding="utf-8")
    said = "&lt;b&gt;flag&lt;/b&gt; away from its constant value for 3 rows (3 s)"
    assert f'<p class="reason">{said}</p>' in text
    assert text.count('<span class="kind">left constant</span>') == 1
    assert text.count('<p class="reason">') == 1  # of the others the table says it all
    silent = replace(analysis, events=[replace(one, kinds=(), reason="") for one in [event]])
    path = write_report(tmp_path / "old.html", [silent], title="kinds")
    assert '<p class="reason">' not in path.read_text(encoding="utf-8")


def test_nothing_in_the_page_points_outside(told):
    _, text = told
    assert not re.findall(r"(?:https?:)?//[\w-]+\.\w+", re.sub(r"[A-Za-z0-9+/=]{80,}", "", text))
    for tag, attributes in tags(text):
        assert "src" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes)
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:,"))


def test_the_policy_forbids_everything_but_the_page_itself(told):
    _, text = told
    (policy,) = (
        attributes["content"]
        for tag, attributes in tags(text)
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_licence_of_the_charts_is_in_the_page(told):
    assert "Copyright (c) 2022 Leon Sorokin" in told[1]


def test_names_cannot_leave_their_place(tmp_path):
    names = (EVIL, "a&b", *(f"c{k}" for k in range(18)))
    one = story(600, names=names, entity=EVIL)
    stamps = one.analysis.frame.timestamps
    path = write_report(
        tmp_path / "evil.html",
        [one.analysis, story(600, entity="plain").analysis],
        title=EVIL,
        faults=[Fault(stamps[50], stamps[90], EVIL, EVIL, entity=EVIL)],
        about={EVIL: EVIL},
    )
    text = path.read_text(encoding="utf-8")
    found = [tag for tag, _ in tags(text)]
    assert "img" not in found
    assert EVIL not in text
    assert found.count("script") == 2 + 2 * (1 + 20)


def test_positions_serve_where_there_are_no_timestamps(tmp_path):
    one = story(600, timed=False)
    path = write_report(tmp_path / "p.html", [one.analysis], title="Rows", faults=one.faults)
    text = path.read_text(encoding="utf-8")
    assert "row 0 – row 600" in text
    assert "<time" not in text


def test_quiet_data_says_so(tmp_path):
    one = story(600).analysis
    quiet = type(one)(
        **{
            **{name: getattr(one, name) for name in one.__dataclass_fields__},
            "alarm": np.zeros(600, dtype=bool),
            "events": [],
        }
    )
    text = write_report(tmp_path / "q.html", [quiet], title="Quiet").read_text(encoding="utf-8")
    assert "No row scored above the threshold" in text
    assert overall_shares(quiet).sum() == pytest.approx(1)


def test_a_long_series_is_thinned_and_the_page_says_so(tmp_path, monkeypatch):
    one = story(6000)
    whole = write_report(tmp_path / "whole.html", [one.analysis], title="t")
    monkeypatch.setattr(page, "MOST_CELLS", 3000 * 20)
    thin = write_report(tmp_path / "thin.html", [one.analysis], title="t")
    assert "drawn as their lowest and highest value" in thin.read_text(encoding="utf-8")
    assert thin.stat().st_size < 0.75 * whole.stat().st_size


def test_the_same_input_writes_the_same_page(tmp_path):
    one = story(600)
    first, second = (
        write_report(tmp_path / f"{k}.html", [one.analysis], title="t").read_bytes() for k in "ab"
    )
    assert first == second


def test_bad_calls_are_refused_and_nothing_is_written(tmp_path):
    target = tmp_path / "report.html"
    timed, untimed = story(600), story(600, timed=False)
    stamp = timed.analysis.frame.timestamps[10]
    with pytest.raises(UsageError, match="no analysis"):
        write_report(target, [], title="t")
    with pytest.raises(UsageError, match="with and without timestamps"):
        write_report(target, [timed.analysis, untimed.analysis], title="t")
    at_a_time = Fault(stamp, stamp + np.timedelta64(1, "s"), "x")
    with pytest.raises(UsageError, match="no timestamps"):
        write_report(target, [untimed.analysis], title="t", faults=[at_a_time])
    with pytest.raises(UsageError, match="'elsewhere'"):
        write_report(
            target, [untimed.analysis], title="t", faults=[Fault(1, 2, "x", "", "elsewhere")]
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(OutputError):
        write_report(tmp_path / "no" / "report.html", [story(600).analysis], title="t")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12345, "12.3k"),
        (999.9, "1k"),
        (999960, "1M"),
        (-4.2e9, "−4.2G"),
        (0.0123, "0.0123"),
        (0.00012, "120µ"),
        (3.456e-5, "34.6µ"),
        (1e18, "1.00e+18"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
    ],
)
def test_numbers_are_for_people(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250 ms"),
        (12.5, "12.5 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3605, "1 h"),
        (3900, "1 h 05 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_for_people(seconds, text):
    assert wording.duration(seconds) == text


def test_the_page_says_what_was_promised_and_what_no_event_tells_of(tmp_path):
    one = story(1200, names=(EVIL, *(f"c{k}" for k in range(19)))).analysis
    rates = np.full(2880, np.inf)
    rates[100:130] = 0.001
    times = one.frame.timestamps[0].astype(np.int64) + 60 * 10**9 * np.arange(2880)
    record = PromiseRecord.of(rates, times, held=0)
    facts = {"name": None, "channels": ["a"], "alarm_rate": 0.01, **record.to_dict()}
    span = Unalarmed(EVIL, 10, 90, "above", 0.8, 0.5, "because <of>")
    told = dataclasses.replace(one, unalarmed=[span])
    path = write_report(
        tmp_path / "p.html", [told], title="t", promises=[promise_report(facts, Settings())]
    )
    text = path.read_text(encoding="utf-8")
    section = re.sub(r"<[^>]*>", " ", text.partition('id="promise"')[2].partition("</details>")[0])
    for word in ("1%", "2,880 rows", "0.5 events a day", "18%", "11:00 to 12:00", "Not known"):
        assert word in section, (word, section)
    assert f"{int(one.alarm.sum()) / 12:.2g}%" in section
    assert "because &lt;of&gt;" in text
    assert "80% above" in text
    assert EVIL not in text


def test_a_page_without_promises_has_no_such_section(told):
    assert 'id="promise"' not in told[1]
    assert 'id="unalarmed"' not in told[1]
