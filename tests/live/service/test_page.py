"""The page in a real browser, over a real service on a real live state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chromium import Chromium
from page_story import BAD, SHORT, Story
from served import CHANGE, READ, served

from imdiffusion.live.service.auth import Access
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.queries import Reader

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"
FIGURES = "imdiffusion.state.figures.map(f => f.name)"
SERIES = "imdiffusion.state.figures.length && imdiffusion.state.figures.every(f => f.chart)"
SPAN = "[imdiffusion.view.lo, imdiffusion.view.hi]"


@pytest.fixture(name="pictures", scope="module")
def _pictures(tmp_path_factory) -> Path:
    """Where screenshots go: IMDIFFUSION_PICTURES, to look at them, else a passing folder."""
    named = os.environ.get("IMDIFFUSION_PICTURES")
    return Path(named) if named else tmp_path_factory.mktemp("pictures")


@pytest.fixture(name="one")
def _one(tmp_path):
    with served(tmp_path) as one:
        one.story = Story()
        one.story.write(one.store)
        yield one


@pytest.fixture(name="browser", scope="module")
def _browser():
    with Chromium(1400, 900) as browser:
        yield browser


@pytest.fixture(autouse=True)
def _quiet(request):
    """No error in the console, and nothing asked for elsewhere."""
    if "browser" not in request.fixturenames:
        yield
        return
    browser = request.getfixturevalue("browser")
    browser.resize(1400, 900)
    browser.scheme("light")
    yield
    browser.call("Page.navigate", url="about:blank")
    troubles = [one for one in browser.trouble if "Failed to load resource" not in one]
    browser.trouble.clear()
    assert troubles == []
    asked = [one for one in browser.requests if not one.startswith(("http://127.", "data:"))]
    assert [one for one in asked if one != "about:blank"] == []


def visit(browser, one, link=""):
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=f"{one.serving.address}/{link}")
    browser.wait("window.imdiffusion?.state.drawn")
    browser.settle()


def click(browser, selector):
    browser.wait(f"document.querySelector({selector!r}) !== null")
    browser.evaluate(f"document.querySelector({selector!r}).click()")
    browser.settle()


def texts(browser, selector):
    return browser.evaluate(f"[...document.querySelectorAll({selector!r})].map(e => e.textContent)")


def choose(browser, selector, value):
    browser.evaluate(
        f"{{ const one = document.querySelector({selector!r}); one.value = {value!r};"
        "for (const kind of ['input', 'change']) one.dispatchEvent(new Event(kind)) }"
    )
    browser.settle()


def lane_names(browser):
    rows = "[...imdiffusion.lanes.rows].sort((a, b) => a[0] - b[0])"
    return browser.evaluate(f"{rows}.map(([, row]) => row.name.textContent)")


def test_the_first_view_shows_every_entity_and_the_events(one, browser, pictures):
    visit(browser, one)
    assert texts(browser, ".lane .name") == [f"host-{n}" for n in range(12)]
    assert browser.evaluate("document.querySelector('#lanes-count').textContent") == "12"
    assert texts(browser, ".card .open") == ["host-1", "host-0"]
    assert texts(browser, ".card .chip") == ["ongoing", "resolved"]
    assert texts(browser, ".card:nth-child(1) tbody th")[:2] == ["memory used", "net in"]
    lane = browser.evaluate("imdiffusion.entities.get('host-0').scores.filter(s => s > 1).length")
    assert lane == 12
    assert browser.evaluate("document.querySelector('#status-text').textContent") == "following"
    painted = browser.evaluate(
        "[...document.querySelector('.lane canvas').getContext('2d')"
        ".getImageData(0, 0, 800, 29).data].filter(v => v).length"
    )
    assert painted > 1000
    browser.screenshot(pictures / "live.png")


def test_names_are_text_never_markup(one, browser):
    one.store.write(Checkpoint(told=[_named(one.story, BAD)]), now=one.story.now)
    one.store.add_feedback("event-0", "expected", who=BAD, text=BAD, now=one.story.now)
    visit(browser, one, "#event=event-0")
    browser.wait(SERIES)
    assert BAD in texts(browser, ".chart .name")
    assert BAD in texts(browser, ".lane .name")
    browser.wait("document.querySelectorAll('.card .sure').length > 1")
    assert any(BAD in text for text in texts(browser, ".card .sure"))
    assert browser.evaluate("document.title") == "imdiffusion"
    assert browser.evaluate("document.querySelectorAll('img, iframe, script').length") == 2
    refused = "(() => { try { document.body.innerHTML = 'x' } catch (e) { return e.name } })()"
    assert browser.evaluate(refused) == "TypeError"
    browser.trouble.clear()  # the browser says that it refused


def _named(story, name):
    from dataclasses import replace

    told = story.told(0, 30)
    return replace(told, record=replace(told.record, entity=name))


def test_an_event_shows_its_channels_by_share_and_its_link_shows_it_again(one, browser, pictures):
    visit(browser, one)
    click(browser, ".card:nth-child(2) .open")
    browser.wait(SERIES)
    assert browser.evaluate(FIGURES)[:3] == ["memory used", "net in", "cpu user"]
    browser.wait("document.querySelector('.card .sure') !== null")
    sure = texts(browser, ".card[aria-current] .sure")[0]
    assert sure == "12 of 12 rows anomalous; fast, ready at the peak; model m1"
    lo, hi = browser.evaluate(SPAN)
    assert lo < one.story.time(20) / 1e9 < one.story.time(32) / 1e9 <= hi
    browser.settle()
    readout = texts(browser, ".chart .read")[0]
    assert readout.startswith("seen ")
    browser.screenshot(pictures / "event.png")
    link = browser.evaluate("location.hash")
    assert "event=event-0" in link
    visit(browser, one, link)
    browser.wait(SERIES)
    assert browser.evaluate(SPAN) == pytest.approx([lo, hi], abs=0.01)
    assert browser.evaluate("imdiffusion.state.entity") == "host-0"
    assert browser.evaluate(FIGURES)[:2] == ["memory used", "net in"]


def test_a_click_on_a_lane_shows_what_departs_and_a_drag_zooms(one, browser):
    visit(browser, one)
    box = browser.box(".lane:nth-child(1) .who")
    browser.click(box["x"] + 30, box["y"] + 10)
    browser.wait(SERIES)
    assert browser.evaluate("imdiffusion.state.entity") == "host-0"
    assert browser.evaluate(FIGURES)[:2] == ["memory used", "net in"]
    lo, hi = browser.evaluate(SPAN)
    box = browser.box(".lane:nth-child(2) canvas")
    middle = box["y"] + box["height"] / 2
    browser.drag(box["x"] + box["width"] * 0.25, box["x"] + box["width"] * 0.5, middle)
    browser.wait("!imdiffusion.state.live")
    near = browser.evaluate(SPAN)
    assert near == pytest.approx([lo + (hi - lo) * 0.25, lo + (hi - lo) * 0.5], abs=60)
    assert "since=" in browser.evaluate("location.hash")
    browser.press("l")
    assert browser.evaluate("imdiffusion.state.live") is True
    choose(browser, "#goto", "2026-01-05T10:00")
    middle = sum(browser.evaluate(SPAN)) / 2
    assert middle == pytest.approx(1_767_607_200, abs=1)


def test_feedback_goes_to_the_live_state(one, browser):
    visit(browser, one, "#event=event-1")
    click(browser, '[data-verdict="false_alarm"]')
    browser.wait("document.querySelector('.chip.said')?.textContent === 'False alarm'")
    pressed = "document.querySelector('[data-verdict=\"false_alarm\"]').ariaPressed"
    assert browser.evaluate(pressed) == "true"
    with Reader(one.store.path) as reader:
        assert [said.verdict for said in reader.feedback("event-1")] == ["false_alarm"]
    visit(browser, one)
    assert "False alarm" in texts(browser, ".card .chip")


def test_what_happens_is_shown_as_it_happens(one, browser):
    story = one.story
    visit(browser, one)
    click(browser, ".lane:nth-child(3)")
    story.arrive(one.store, 60, scores={2: 9.0, 3: 0.25})
    browser.wait("imdiffusion.entities.get('host-2').score === 9")
    browser.settle()
    assert texts(browser, ".lane .score")[2:4] == ["9", "0.25"]
    again = story.turn(2, range(60, 61), "ongoing")
    one.store.write(Checkpoint(updates=[again]), now=story.now)
    browser.wait("document.querySelectorAll('.card').length === 3")
    assert texts(browser, ".card .open")[0] == "host-2"
    over = [
        story.turn(1, SHORT, "resolved", update=1),
        story.turn(2, range(60, 62), "expired", update=1),
    ]
    one.store.write(Checkpoint(updates=over), now=story.now)
    browser.wait("document.querySelectorAll('.chip.ongoing').length === 0")
    assert texts(browser, ".card .chip") == ["expired", "resolved", "resolved"]
    new = _named(story, "host-new")
    one.store.write(Checkpoint(told=[new]), now=story.now)
    browser.wait("document.querySelector('#lanes-count').textContent === '13'")


def test_search_and_filters(one, browser):
    visit(browser, one)
    choose(browser, "#search", "host-1")
    browser.wait("document.querySelectorAll('.card').length === 1")
    assert lane_names(browser) == ["host-1", "host-10", "host-11"]
    assert texts(browser, ".card .open") == ["host-1"]
    choose(browser, "#search", "net in")  # a channel: the lanes of events that name it
    browser.wait("document.querySelectorAll('.card').length === 2")
    assert lane_names(browser) == ["host-0", "host-1"]
    choose(browser, "#search", "requests")  # a channel with a small share, which no card names
    browser.wait("document.querySelectorAll('.card').length === 2")
    choose(browser, "#search", "nothing of the kind")
    browser.wait("document.querySelectorAll('.card').length === 0")
    choose(browser, "#search", "")
    browser.wait("document.querySelectorAll('.card').length === 2")
    choose(browser, "#status-filter", "resolved")
    browser.wait("document.querySelectorAll('.card').length === 1")
    assert texts(browser, ".card .open") == ["host-0"]
    assert "status=resolved" in browser.evaluate("location.hash")
    choose(browser, "#status-filter", "expired")
    browser.wait("!document.querySelector('#no-events').hidden")
    choose(browser, "#status-filter", "")
    choose(browser, "#lane-order", "worst")
    order = "imdiffusion.lanes.names.slice(0, 2)"
    assert sorted(browser.evaluate(order)) == ["host-0", "host-1"]


def test_keys_do_all_of_it(one, browser):
    visit(browser, one)
    browser.press("ArrowLeft")
    browser.wait("imdiffusion.state.chosen === 'event-1'")
    browser.press("ArrowLeft")
    browser.wait("imdiffusion.state.chosen === 'event-0' && imdiffusion.state.entity === 'host-0'")
    browser.wait("!imdiffusion.state.live")
    lo, hi = browser.evaluate(SPAN)
    browser.press("-")
    wide = browser.evaluate(SPAN)
    assert wide[1] - wide[0] == pytest.approx(2 * (hi - lo))
    browser.press("Escape")
    assert browser.evaluate("imdiffusion.state.chosen") is None
    assert browser.evaluate("imdiffusion.state.live") is True
    browser.evaluate("document.querySelector('#lanes').focus()")
    first = browser.evaluate("imdiffusion.state.entity")
    browser.evaluate(
        "document.querySelector('#lanes').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))"
    )
    assert (first, browser.evaluate("imdiffusion.state.entity")) == ("host-0", "host-1")
    browser.press("/")
    assert browser.evaluate("document.activeElement.id") == "search"


def test_dark_and_on_a_phone(one, browser, pictures):
    visit(browser, one, "#event=event-0")
    browser.wait(SERIES)
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    browser.scheme("dark")
    browser.settle()
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != light
    browser.screenshot(pictures / "dark.png")
    click(browser, "#theme")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == light
    browser.resize(390, 844, scale=2)
    visit(browser, one, "#event=event-0")
    browser.wait(SERIES)
    assert browser.evaluate(SIDEWAYS) <= 0
    for selector in (".card", ".lane canvas", ".chart .u-over"):
        box = browser.box(selector)
        assert box["width"] > 250, selector
    wide = browser.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter(one => !one.closest("
        "'.cards') && one.getBoundingClientRect().right > 390).map(one => one.id)"
    )
    assert wide == []
    browser.screenshot(pictures / "phone.png")
    browser.evaluate("document.querySelector('#channels').scrollIntoView()")
    browser.settle()
    browser.screenshot(pictures / "phone-channels.png")


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(tmp_path, browser):
    for name, token in (("read", READ), ("change", CHANGE)):
        (tmp_path / name).write_text(token)
    access = Access(
        read_token_file=str(tmp_path / "read"), change_token_file=str(tmp_path / "change")
    )
    with served(tmp_path, access=access) as one:
        Story().write(one.store)
        browser.call("Page.navigate", url=f"{one.serving.address}/#event=event-0")
        browser.wait("document.querySelector('#ask')?.open")
        _give(browser, READ)
        browser.wait(SERIES)
        assert texts(browser, ".card .open") == ["host-1", "host-0"]
        click(browser, '[data-verdict="confirmed"]')
        browser.wait("document.querySelector('#ask').open")
        said = "This needs the token for changing."
        assert browser.evaluate("document.querySelector('#ask-wrong').textContent") == said
        _give(browser, CHANGE)
        click(browser, '[data-verdict="confirmed"]')
        browser.wait("document.querySelector('.chip.said') !== null")
        assert browser.evaluate("document.cookie + location.href").count(CHANGE) == 0
        assert browser.evaluate("localStorage.length") == 0
        assert not [address for address in browser.requests if READ in address]


def _give(browser, token):
    browser.evaluate(f"document.querySelector('#token').value = {token!r}")
    click(browser, "#ask-use")
    browser.wait("imdiffusion.state.drawn")


def test_six_hundred_entities_are_a_few_rows_of_the_page(tmp_path, browser, pictures):
    with served(tmp_path) as one:
        story = Story(600, 10, channels=[f"c{n}" for n in range(6)])
        story.write(one.store)
        visit(browser, one)
        assert browser.evaluate("document.querySelector('#lanes-count').textContent") == "600"
        assert browser.evaluate("document.querySelectorAll('.lane').length") < 60
        browser.evaluate("document.querySelector('#lanes').scrollTop = 1e6")
        browser.wait("[...document.querySelectorAll('.lane .name')]"
                     ".some(e => e.textContent === 'host-599')")  # fmt: skip
        assert browser.evaluate("document.querySelectorAll('.lane').length") < 60
        story.arrive(one.store, 10, scores=dict.fromkeys(range(600), 0.125))
        browser.wait("[...imdiffusion.entities.values()].every(e => e.score === 0.125)")
        browser.settle()
        assert set(texts(browser, ".lane:not([hidden]) .score")) == {"0.125"}
        browser.screenshot(pictures / "many.png")


def test_a_service_that_goes_away_is_said_and_found_again(tmp_path, browser):
    from imdiffusion.live.service.app import make_app
    from imdiffusion.live.service.server import ServiceThread

    with served(tmp_path) as one:
        Story().write(one.store)
        visit(browser, one)
        port = one.client().address.port
        one.serving.stop()
        browser.wait("document.querySelector('#status-text').textContent.startsWith('not conn')")
        with ServiceThread(make_app(one.store), port=port):
            one.store.write(Checkpoint(told=[_named(Story(), "late")]), now=Story().now)
            browser.wait("document.querySelector('#status-text').textContent === 'following'")
            browser.wait("imdiffusion.entities.has('late')")
