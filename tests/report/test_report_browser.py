"""The report in a real browser: drawn, zoomed in step, driven by keys, silent, offline."""

import os
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from story import story

from imdiffusion.report.page import write_report

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

INSTANT = "{block: 'center', behavior: 'instant'}"
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
WINDOWS = """[...imdiffusion.live]
    .filter(chart => chart !== imdiffusion.state.overview)
    .map(chart => [chart.plot.scales.x.min, chart.plot.scales.x.max])"""


@pytest.fixture(name="told", scope="module")
def _told(tmp_path_factory):
    one = story(3600, 38)
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(
        path,
        [one.analysis],
        title="A made-up host, half an hour with faults",
        faults=one.faults,
        about={"preset": "fast", "seed": "0", "parameters": "123,456", "alarm rate": "0.001"},
    )
    return one, path


@pytest.fixture(name="pictures", scope="module")
def _pictures(tmp_path_factory) -> Path:
    """Where screenshots go: IMDIFFUSION_PICTURES, to look at them, else a passing folder."""
    named = os.environ.get("IMDIFFUSION_PICTURES")
    return Path(named) if named else tmp_path_factory.mktemp("pictures")


@pytest.fixture(name="browser")
def _browser():
    with Chromium(1400, 900) as browser:
        yield browser
        assert browser.trouble == []
        assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == []


def windows(browser: Chromium) -> list[list[float]]:
    found = browser.evaluate(WINDOWS)
    assert len(found) >= 5
    return found


def in_step(browser: Chromium) -> list[float]:
    """The window of x, when every chart on the screen shows the same."""
    first, *others = windows(browser)
    assert others == [first] * len(others)
    return first


def middle(box: dict[str, float]) -> float:
    return box["y"] + box["height"] / 2


def test_a_drag_in_any_chart_zooms_all_in_step_and_a_double_click_resets(told, browser):
    browser.open(told[1])
    whole = in_step(browser)
    assert whole[1] - whole[0] == pytest.approx(1800)
    for selector in ("#lanes .u-over", "#stack figure:nth-child(2) .u-over", "#overview .u-over"):
        browser.evaluate(f"document.querySelector('{selector}').scrollIntoView({INSTANT})")
        browser.settle()
        box = browser.box(selector)
        left, width = box["x"], box["width"]
        browser.drag(left + width * 0.25, left + width * 0.5, middle(box))
        lo, hi = in_step(browser)
        assert lo == pytest.approx(whole[0] + 450, abs=3)
        assert hi == pytest.approx(whole[0] + 900, abs=3)
        browser.click(left + width * 0.9, middle(box), times=2)
        assert in_step(browser) == whole


def test_a_chart_scrolled_to_later_shows_the_window_of_the_others(told, browser):
    browser.open(told[1])
    browser.press("ArrowRight")
    window = in_step(browser)
    drawn = browser.evaluate("imdiffusion.state.figures.filter(f => f.chart).length")
    assert drawn < 38
    browser.evaluate("window.scrollTo({top: 1e6, behavior: 'instant'})")
    browser.settle()
    assert browser.wait("imdiffusion.state.figures.at(-1).chart !== null")
    assert in_step(browser) == window
    browser.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    browser.wait("imdiffusion.state.figures.at(-1).chart === null")


def test_keys_walk_through_events_and_zoom(told, browser):
    browser.open(told[1])
    whole = in_step(browser)
    events = told[0].analysis.events
    browser.press("ArrowRight")
    assert browser.evaluate("imdiffusion.state.event") == 0
    first = in_step(browser)
    browser.press("ArrowRight")
    assert browser.evaluate("imdiffusion.state.event") == 1
    assert in_step(browser)[0] > first[0]
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.evaluate("imdiffusion.state.event") == len(events) - 1
    lo, hi = in_step(browser)
    browser.press("+")
    closer = in_step(browser)
    assert closer[1] - closer[0] == pytest.approx((hi - lo) / 2)
    browser.press("-")
    assert in_step(browser) == pytest.approx([lo, hi])
    browser.press("Escape")
    assert in_step(browser) == whole
    assert browser.evaluate("imdiffusion.state.event") is None


def test_an_event_card_zooms_to_its_event_and_orders_the_channels(told, browser):
    browser.open(told[1])
    events = told[0].analysis.events
    chosen = max(
        range(len(events)), key=lambda k: "disk_write_bytes_per_s" in events[k].channels[:2]
    )
    browser.evaluate(f"document.querySelectorAll('.card .open')[{chosen}].click()")
    browser.settle()
    lo, hi = in_step(browser)
    stamps = told[0].analysis.frame.timestamps
    start, end = (
        float((stamps[at] - stamps[0]) / np.timedelta64(1, "s")) + in_page_origin(browser)
        for at in (events[chosen].start, events[chosen].end - 1)
    )
    assert lo < start < end < hi
    names = browser.evaluate(
        "[...document.querySelectorAll('#stack .name')].map(n => n.textContent)"
    )
    assert names[:3] == list(events[chosen].channels[:3])
    current = browser.evaluate(
        "[...document.querySelectorAll('.card[aria-current]')].map(c => c.id)"
    )
    assert current == [f"event-{chosen + 1}"]
    assert browser.evaluate("location.hash") == f"#event-{chosen + 1}"


def in_page_origin(browser: Chromium) -> float:
    return browser.evaluate("imdiffusion.facts.entities[0].origin")


def test_a_link_to_an_event_opens_it(told, browser):
    browser.open(told[1], "#event-2")
    assert browser.evaluate("imdiffusion.state.event") == 1


def test_the_search_leaves_the_channels_that_match(told, browser):
    browser.open(told[1])
    browser.press("/")
    for letter in "DISK":
        browser.press(letter)
    shown = browser.evaluate(
        "imdiffusion.state.figures.filter(f => !f.root.hidden).map(f => f.name)"
    )
    assert shown
    assert all("disk" in name for name in shown)
    assert "of 38 channels" in browser.evaluate("document.getElementById('order').textContent")


def test_cards_can_be_sorted_by_score(told, browser):
    browser.open(told[1])
    browser.evaluate("document.getElementById('sort').value = 'score'")
    browser.evaluate("document.getElementById('sort').dispatchEvent(new Event('change'))")
    shown = browser.evaluate("[...document.querySelectorAll('.card')].map(c => c.dataset.event)")
    scores = [told[0].analysis.events[int(k)].score for k in shown]
    assert scores == sorted(scores, reverse=True)


def test_a_finger_zooms_sideways(told, browser):
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    browser.resize(390, 844)
    browser.open(told[1])
    browser.evaluate(f"document.querySelector('#lanes .u-over').scrollIntoView({INSTANT})")
    browser.settle()
    whole = in_step(browser)
    box = browser.box("#lanes .u-over")
    places = [box["x"] + box["width"] * part for part in (0.2, 0.3, 0.4, 0.5, 0.6)]
    for kind, x in [("touchStart", places[0]), *(("touchMove", x) for x in places[1:])]:
        point = {"x": x, "y": middle(box)}
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=[point])
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.settle()
    lo, hi = in_step(browser)
    assert hi - lo == pytest.approx(0.4 * (whole[1] - whole[0]), rel=0.1)


def test_the_page_shows_the_numbers_it_was_given(told, browser):
    browser.open(told[1])
    analysis = told[0].analysis
    at = [0, 17, 1023, 1024, 2001, 3599]
    figure = "imdiffusion.state.figures[0].chart"
    k = browser.evaluate("imdiffusion.state.figures[0].channel")
    for name, values in (("seen", analysis.frame.values), ("expected", analysis.expected)):
        shown = browser.evaluate(f"{at}.map(i => String({figure}.data.{name}.value(i)))")
        shown = np.array(shown, dtype=float)
        reach = np.nanmax(values[:, k]) - np.nanmin(values[:, k])
        np.testing.assert_allclose(shown, values[at, k], atol=reach / 4000)


def test_hostile_names_stay_names(tmp_path, browser):
    evil = '</script><img src=x onerror="window.pwned=1">'
    one = story(600, names=(evil, *(f"{evil}{k}" for k in range(19))), entity=evil)
    path = write_report(
        tmp_path / "evil.html",
        [one.analysis, story(600, entity="plain").analysis],
        title=evil,
        faults=one.faults,
        about={evil: evil},
    )
    browser.open(path)
    assert browser.evaluate("window.pwned === undefined && !document.querySelector('img')")
    assert evil in browser.evaluate("document.querySelector('#stack .name').textContent")
    assert browser.evaluate("document.title") == evil


def test_the_policy_stops_what_someone_might_add_later(told):
    with Chromium() as browser:
        browser.open(told[1])
        said = browser.evaluate(
            "fetch('http://127.0.0.1:9/').then(() => 'reached', error => error.message)"
        )
        browser.evaluate("document.body.append(document.createElement('p'))")
        browser.evaluate("document.querySelector('p').setAttribute('onclick', 'window.pwned = 1')")
        browser.evaluate("document.querySelector('p').click()")
        assert said == "Failed to fetch"
        assert browser.evaluate("window.pwned === undefined")
        assert any("Content Security Policy" in line for line in browser.trouble)
        assert not [one for one in browser.requests if "127.0.0.1" in one]


def test_positions_and_several_entities_work_too(tmp_path, browser):
    pair = [story(600, timed=False, entity=name, seed=k) for k, name in enumerate(("web", "db"))]
    path = write_report(
        tmp_path / "two.html", [one.analysis for one in pair], title="Two", faults=pair[0].faults
    )
    browser.open(path)
    assert browser.evaluate("document.querySelectorAll('#lanes figure').length") == 2
    browser.evaluate("document.querySelectorAll('#lanes button')[1].click()")
    browser.settle()
    assert browser.evaluate("imdiffusion.state.entity") == 1
    assert browser.evaluate("document.querySelectorAll('#stack figure').length") == 20
    assert "of db" in browser.evaluate("document.getElementById('order').textContent")
    assert "row 0 – 600" in browser.evaluate("document.getElementById('window').textContent")


def test_screenshots_in_light_in_dark_and_on_a_phone(told, browser, pictures):
    browser.open(told[1])
    browser.screenshot(pictures / "light.png")
    box = browser.box("#lanes .u-over")
    for _ in range(3):
        browser.press("ArrowRight")
    browser.mouse("mouseMoved", box["x"] + box["width"] * 0.5, middle(box))
    browser.settle()
    browser.screenshot(pictures / "event.png")
    browser.scheme("dark")
    browser.settle()
    browser.screenshot(pictures / "dark.png")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    browser.scheme("light")
    browser.resize(390, 844, scale=2)
    browser.settle()
    assert browser.evaluate(SIDEWAYS) <= 0, "the page scrolls sideways when the screen narrows"
    browser.open(told[1])
    browser.screenshot(pictures / "phone.png")
    assert browser.evaluate(SIDEWAYS) <= 0, "the page scrolls sideways on a phone"
    browser.evaluate("document.querySelectorAll('.card')[2].click()")
    browser.evaluate("document.getElementById('charts').scrollIntoView({behavior: 'instant'})")
    browser.settle()
    browser.screenshot(pictures / "phone-charts.png")
