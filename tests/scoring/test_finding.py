"""What checks found in the channels of an event, and the sentence that says what it is"""

from __future__ import annotations

import math

import numpy as np

from imdiffusion.scoring.event import Finding, Findings, find_events, findings_of, sentence

GONE = Finding("missing", "missing for 5 rows (5 min)", lasting=True)
NAN = math.nan


def said(code: int, since: int, row: int) -> Finding:
    if code == 1:
        return Finding("missing", f"missing for {since + 1} rows", lasting=True)
    return Finding("unusual_hour", f"unusual for row {row}")


def checked(rows: int = 12) -> Findings:
    """Channel 0: an unusual hour in rows 2 to 4, then missing in 5 to 8; channel 2: an hour."""
    kind, since = np.zeros((rows, 3), np.int8), np.zeros((rows, 3), np.int32)
    kind[2:5, 0], kind[5:9, 0] = 16, 1
    since[5:9, 0] = range(3, 7)
    kind[6:8, 2] = 16
    return Findings(kind, since, said)


def test_what_lasts_is_told_as_of_its_last_row_and_the_rest_as_of_its_first():
    found = checked().within(0, 12)
    assert {k: one.words for k, one in found.items()} == {
        0: "missing for 7 rows",
        2: "unusual for row 6",
    }
    assert checked().within(0, 4) == {0: said(16, 0, 2)}
    assert checked().within(7, 8)[0].words == "missing for 6 rows"
    assert checked().within(9, 12) == {}


def test_a_later_row_of_a_kind_that_does_not_last_says_nothing_new():
    hour, later = Finding("unusual_hour", "for 12:00"), Finding("unusual_hour", "for 12:05")
    assert hour.then(later) is hour
    assert GONE.then(Finding("missing", "missing for 6 rows", lasting=True)).words.endswith(
        "6 rows"
    )
    assert hour.then(GONE) is GONE


def test_one_row_has_its_findings_by_channel():
    one = checked()
    found = findings_of(one.kind[6], one.since[6], lambda code, since: said(code, since, 6))
    assert found == {0: said(1, 4, 6), 2: said(16, 0, 6)}


def test_a_sentence_is_about_the_leading_channels_and_those_with_a_finding():
    names, shares = ["load", "cpu", "disk"], [0.6, 0.3, 0.1]
    cells = [3.2, NAN, 12345.678], [1.1, 40.0, 7.0]
    assert sentence(names, shares, {}, *cells) == "load 3.2 where 1.1 was expected"
    assert sentence(names, shares, {"disk": GONE}, *cells) == (
        "load 3.2 where 1.1 was expected; disk missing for 5 rows (5 min)"
    )
    even = sentence(names, [0.4, 0.35, 0.25], {}, *cells)
    assert even == "load 3.2 where 1.1 was expected; cpu not observed where 40 was expected"
    assert sentence(["load"], [1.0], {}, [3.2], [NAN]) == "load 3.2"


def test_channels_of_which_the_same_is_to_be_said_are_said_together():
    names = [f"c{k}" for k in range(6)]
    nothing = [NAN] * 6

    def gone(count):
        return sentence(names, [1 / 6] * 6, dict.fromkeys(names[:count], GONE), nothing, nothing)

    words = "missing for 5 rows (5 min)"
    assert gone(6) == f"all 6 channels {words}"
    assert gone(5) == f"c0, c1, c2 and 2 more {words}"
    assert gone(3) == f"c0, c1 and c2 {words}"
    alone = sentence(names[:2], [0.9, 0.1], dict.fromkeys(names[:2], GONE), [1.0] * 2, [1.0] * 2)
    assert alone == f"c0 and c1 {words}"


def test_a_sentence_has_three_clauses_at_most():
    names = [f"c{k}" for k in range(5)]
    found = {name: Finding("frozen", f"frozen for {k} rows") for k, name in enumerate(names)}
    text = sentence(names, [0.2] * 5, found, [1.0] * 5, [1.0] * 5)
    assert text == (
        "c0 frozen for 0 rows; c1 frozen for 1 rows; c2 frozen for 2 rows; 2 more channels"
    )


def test_an_event_has_the_kind_of_each_of_its_channels_in_their_order():
    score = np.array([0.0] * 5 + [2.0] * 4 + [0.0] * 3)
    parts = np.tile([1.0, 3.0, 2.0], (12, 1))
    values = np.where(np.arange(12)[:, None] >= 5, [NAN, 9.0, 5.0], 1.0)
    (event,) = find_events(
        score, parts, values, np.ones((12, 3)), ("cpu", "load", "orders"), findings=checked()
    )
    assert event.channels == ("load", "orders", "cpu")
    assert event.kinds == ("", "unusual_hour", "missing")
    assert event.reason == (
        "load 9 where 1 was expected; orders unusual for row 6; cpu missing for 7 rows"
    )
    (plain,) = find_events(score, parts, values, np.ones((12, 3)), ("cpu", "load", "orders"))
    assert plain.kinds == ("", "", "")
    assert plain.reason == "load 9 where 1 was expected"
