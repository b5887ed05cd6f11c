"""What is measured of a verdict, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from imdiffusion.errors import UsageError
from imdiffusion_bench.behaviours.measuring import (
    GRACE,
    Question,
    Reported,
    Verdict,
    alarms,
    document,
    measure_faults,
    measure_outside,
)
from imdiffusion_bench.behaviours.table import by_both, panels, plot, tables
from imdiffusion_bench.plots import save_plot
from imdiffusion_bench.split import Cause

ROWS = 1000
FAULT = Cause(400, 440, frozenset({2}))


def verdict(*events, online=(), promised=0.001):
    """Events, whose rows are in alarm offline, and rows in alarm online."""
    alarm, score = np.zeros(ROWS, bool), np.full(ROWS, 0.5)
    score[:99] = np.nan
    for one in events:
        alarm[one.start : one.end] = True
    score[list(online)] = 1.5
    return Verdict(alarm, score, events, promised)


def of_fault(said, fault=FAULT, channels=5):
    (found,) = measure_faults(said, [fault], channels)
    return found


def test_an_event_inside_the_fault():
    found = of_fault(verdict(Reported(405, 430, 3.0, (2, 0)), online=range(407, 420)))
    assert (found.found, found.found_online) == (1, 1)
    assert (found.delay_offline, found.delay_online) == (5, 7)
    assert (found.start_error, found.end_error) == (5, -10)
    assert found.channel_first == 1


def test_an_event_that_reaches_over_both_edges_is_too_early_and_not_late():
    found = of_fault(verdict(Reported(385, 452, 3.0, (0, 2)), online=[390]))
    assert (found.start_error, found.end_error, found.delay_offline) == (-15, 12, 0)
    assert (found.found_online, found.channel_first) == (0, 0)
    assert math.isnan(found.delay_online)


def test_of_several_events_the_outer_edges_and_the_channels_of_the_strongest_count():
    events = (
        Reported(402, 404, 1.2, (0,)),
        Reported(410, 412, 9.0, (2,)),
        Reported(436, 445, 2.0, (1,)),
    )
    found = of_fault(verdict(*events))
    assert (found.start_error, found.end_error, found.channel_first) == (2, 5, 1)


def test_an_event_that_only_touches_a_fault_has_not_found_it():
    found = of_fault(verdict(Reported(390, 400, 3.0, (2,)), Reported(440, 450, 3.0, (2,))))
    assert (found.found, found.found_online) == (0, 0)
    rest = (found.delay_offline, found.start_error, found.end_error, found.channel_first)
    assert all(math.isnan(one) for one in rest)


def test_online_the_rows_just_after_a_fault_are_still_about_it():
    assert of_fault(verdict(online=[440 + GRACE - 1])).delay_online == 40 + GRACE - 1
    assert of_fault(verdict(online=[440 + GRACE])).found_online == 0


def test_no_channel_is_right_where_none_is_named_or_all_are_at_fault():
    assert math.isnan(of_fault(verdict(Reported(400, 410, 2.0))).channel_first)
    everywhere = Cause(400, 440, frozenset(range(5)))
    assert math.isnan(of_fault(verdict(Reported(400, 410, 2.0, (3,))), everywhere).channel_first)


def test_one_event_over_two_faults_counts_for_both_with_its_errors():
    second = Cause(490, 500, frozenset({1}))
    one, two = measure_faults(verdict(Reported(400, 500, 5.0, (2,))), [FAULT, second], 5)
    assert (one.end_error, two.start_error) == (60, -90)
    assert (one.channel_first, two.channel_first) == (1, 0)


def test_outside_counts_events_a_day_and_shares_of_rows():
    events = (
        Reported(100, 110, 2.0),  # false
        Reported(395, 401, 2.0),  # meets the fault
        Reported(440 + GRACE - 1, 470, 2.0),  # begins in the rows after it
        Reported(440 + GRACE, 440 + GRACE + 1, 2.0),  # false
        Reported(900, 904, 2.0),  # false
    )
    said = verdict(*events, online=[200, 410, 441], promised=0.01)
    found = measure_outside(said, [FAULT], period_s=60)
    outside = ROWS - 40 - GRACE
    assert found.false_events_a_day == pytest.approx(3 / (outside * 60 / 86_400))
    # Rows 450 to 469 are in alarm outside, five before the fault, ten and four elsewhere.
    assert found.achieved_offline == pytest.approx((10 + 5 + 20 + 4) / outside)
    assert found.achieved_online == pytest.approx(1 / (outside - 99))  # 99 rows have no score
    assert found.promised == 0.01


def test_without_a_fault_every_event_is_false():
    found = measure_outside(
        verdict(Reported(100, 110, 2.0), Reported(300, 301, 2.0)), [], period_s=86.4
    )
    assert found.false_events_a_day == pytest.approx(2.0)


def test_a_row_without_a_score_is_not_in_alarm():
    assert alarms(np.array([np.nan, 1.0, 1.01, np.inf])).tolist() == [False, False, True, True]


# -- from records to what is read


def record(detector, scenario, *faults, status="ok", **more):
    head = {"detector": detector, "scenario": scenario, "seed": 0, "status": status}
    if status != "ok":
        return {**head, **more}
    outside = dict.fromkeys(("false_events_a_day", "achieved_offline", "achieved_online"), 0.25)
    return {
        **head,
        "faults": list(faults),
        "outside": {**outside, "promised": 0.001},
        "warnings": ["a gap"] if scenario == "clean" else [],
        "fit_s": 1.5,
    }


def fault(found, delay, start, end, first):
    return {
        "found": found,
        "found_online": float(delay is not None),
        "delay_offline": delay,
        "delay_online": delay,
        "start_error": start,
        "end_error": end,
        "channel_first": first,
    }


MISSED = fault(0.0, None, None, None, None)
RECORDS = [
    record("fast", "spike", fault(1.0, 2.0, -4.0, 1.0, 1.0)),
    record("fast", "spike", fault(1.0, 4.0, 2.0, 8.0, 0.0)),
    record("fast", "spike", MISSED),
    record("fast", "clean"),
    record("fast", "lag", status="impossible", why="lag cannot exist: one channel. Set more."),
    record("random", "spike", MISSED),
    record(
        "random", "clean", status="failed", stage="fit", error={"type": "E", "message": "a\nb < c"}
    ),
]


def whole(records=RECORDS, detectors=("fast", "random")):
    return {**document(Question(tuple(detectors)), records)}


def test_cells_are_medians_over_the_faults_that_have_a_value():
    cell = by_both(RECORDS)["fast", "spike"]
    assert cell.count("found") == (2, 3)
    assert cell.count("channel_first") == (1, 2)
    assert cell.median("delay_online") == 3
    assert cell.median("start_error") == -1
    assert cell.worst_edge() == 6  # of 4 and 8
    assert cell.outside("false_events_a_day") == 0.25


def test_tables_say_what_was_found_and_what_was_not_measured():
    text = tables(whole())
    assert "| spike | 2 of 3 | 0 of 1 |" in text
    assert "| lag | – | – |" in text
    assert "| `fast` | 2 of 3 | 1 of 2 | 3 | 3 | 6 | 0.25 | 0.10 % | 25.00 % | 25.00 %" in text
    assert "- lag cannot exist: one channel. Set more." in text
    assert "- `random`, clean, seed 0: fit failed: E: a b < c" in text
    assert "- `fast`, clean: a gap" in text


def test_a_document_is_plain_json():
    records = [{**RECORDS[0], "faults": [fault(1.0, math.nan, 0.0, math.inf, 1.0)]}]
    plain = json.loads(json.dumps(whole(records), allow_nan=False))
    assert plain["records"][0]["faults"][0]["delay_online"] is None


def test_the_plot_has_a_mark_a_detector_and_one_for_what_was_missed(tmp_path):
    delay, edge, outside = panels(whole())
    (scenario,) = delay.values["fast"]
    assert delay.values["fast"][scenario] == 3  # the median of 2 and 4
    for panel in (delay, edge):
        assert panel.missed["fast", scenario] == 1
        assert panel.missed["random", scenario] == 1
    assert outside.missed is None
    text = save_plot(plot(whole()), tmp_path / "b.svg").read_text()
    assert "<svg " in text
    assert ">Behaviours<" in text
    assert scenario in text
    assert save_plot(plot(whole()), tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="neither"):
        save_plot(plot(whole()), tmp_path / "b.html")
