"""Alerts in the real Alertmanager: raised, grouped, kept alive, resolved; and its refusals."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime

import pytest
from live_records import event, score
from odd_server import Answer, OddServer
from programs import Alertmanager, wait_until

from imdiffusion.errors import ConfigError, ConnectionLost, UsageError
from imdiffusion.live.sinks.alertmanager import AlertmanagerSink, alert_text

REAL = pytest.mark.tool("prometheus-alertmanager")
START = int(time.time()) - 300


@pytest.fixture(name="notified")
def _notified():
    """An address that Alertmanager notifies, and what it was told."""
    with OddServer(lambda _: Answer()) as odd:
        yield odd


@pytest.fixture(name="alertmanager")
def _alertmanager(tmp_path, notified):
    with Alertmanager(tmp_path, hook=notified.url) as program:
        yield program


def opened(url: str, **options) -> AlertmanagerSink:
    sink = AlertmanagerSink(url=url, **options)
    sink.open()
    return sink


def told(notified: OddServer) -> list[tuple[str, tuple[str, ...]]]:
    """(status of the group, its events and theirs) of every notification."""
    found = []
    for asked in notified.asked:
        group = json.loads(asked.body)
        each = sorted(f"{one['labels']['event']} {one['status']}" for one in group["alerts"])
        found.append((group["status"], tuple(each)))
    return found


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@REAL
def test_an_event_is_an_alert_until_it_is_resolved(alertmanager, notified):
    page = "http://127.0.0.1:8000/{entity}#{event}"
    sink = opened(alertmanager.url, labels="team=ops", generator_url=page, channels=1)
    said = {"kinds": ("frozen", ""), "reason": "cpu frozen at one value for 9 rows"}
    sink.send([event(START, entity="web/1", **said), score(START)])
    sink.flush()
    (alert,) = alertmanager.alerts()
    assert alert["labels"] == {
        "alertname": "ImdiffusionAnomaly",
        "entity": "web/1",
        "detector": "fast",
        "severity": "warning",
        "event": "e1",
        "team": "ops",
    }
    assert alert["annotations"] == {
        "summary": "web/1 behaves unlike before: cpu frozen at one value for 9 rows",
        "channels": "cpu 70%",
        "seen": "cpu 95.5",
        "expected": "cpu 10",
        "kinds": "cpu frozen",
        "score": "3.25",
        "peak": f"{datetime.fromtimestamp(START, UTC):%Y-%m-%dT%H:%M:%S}.000Z",
        "status": "ongoing",
        "model": "m1",
    }
    assert alert["generatorURL"] == "http://127.0.0.1:8000/web%2F1#e1"
    assert seconds(alert["startsAt"]) == START
    assert 200 < seconds(alert["endsAt"]) - time.time() <= 300
    wait_until(lambda: told(notified) == [("firing", ("e1 firing",))], "the onset to be told")
    sink.send([event(START, START + 60, entity="web/1")])
    sink.flush()
    assert alertmanager.alerts() == []
    wait_until(lambda: told(notified)[1:] == [("resolved", ("e1 resolved",))], "the end to be told")
    assert sink.due == math.inf
    assert sink.refused == 0
    sink.close()


def test_an_alert_names_the_kinds_of_the_channels_it_names_and_of_an_old_event_none():
    old = alert_text(event(START), 2)
    assert (old["summary"], old["kinds"]) == ("web-1 behaves unlike before, mostly cpu", "")
    said = {"kinds": ("", "missing"), "reason": "cpu 95.5 where 10 was expected; memory missing"}
    told = alert_text(event(START, **said), 2)
    assert told["summary"] == f"web-1 behaves unlike before: {said['reason']}"
    assert told["kinds"] == "memory missing"


@REAL
def test_events_of_one_entity_are_grouped_and_end_one_by_one(alertmanager, notified):
    sink = opened(alertmanager.url)
    sink.send([event(START), event(START, id="e2"), event(START, id="e3", entity="other")])
    sink.flush()
    groups = {("firing", ("e1 firing", "e2 firing")), ("firing", ("e3 firing",))}
    wait_until(lambda: groups <= set(told(notified)), "both groups to be told")
    sink.send([event(START, START + 60)])
    sink.flush()
    assert [alert["labels"]["event"] for alert in alertmanager.alerts()] == ["e2", "e3"]
    sink.close()


@REAL
def test_an_ongoing_event_is_kept_alive_and_one_of_a_dead_detector_ends(alertmanager):
    sink = opened(alertmanager.url, hold=3.0)
    sink.send([event(START)])
    sink.flush()
    assert sink.due <= 1.5
    (first,) = alertmanager.alerts()

    def sent_again() -> list:
        sink.tick()
        return [one for one in alertmanager.alerts() if one["endsAt"] > first["endsAt"]]

    (alert,) = wait_until(sent_again, "the alert to be sent again")
    assert alert["startsAt"] == first["startsAt"]
    assert alert["fingerprint"] == first["fingerprint"]
    sink.close()  # and nobody speaks for it any more
    wait_until(lambda: alertmanager.alerts() == [], "the alert to end by itself")


@REAL
def test_another_detector_goes_on_with_the_same_alert(alertmanager):
    sink = opened(alertmanager.url)
    sink.send([event(START, detector="zscore")])
    sink.flush()
    sink.send([event(START, detector="fast", update=1, score=9.0)])
    sink.flush()
    (alert,) = alertmanager.alerts()
    assert alert["labels"]["detector"] == "zscore"
    assert alert["annotations"]["score"] == "9"
    sink.send([event(START, START + 9, detector="fast", update=2)])
    sink.flush()
    assert alertmanager.alerts() == []
    sink.close()


@REAL
def test_a_kill_of_alertmanager_costs_no_alert(alertmanager):
    sink = opened(alertmanager.url)
    alertmanager.kill()
    for _ in range(2):
        sink.send([event(START)])
        with pytest.raises(ConnectionLost, match="did not answer"):
            sink.flush()
    alertmanager.start()
    sink.send([event(START)])
    sink.flush()
    assert [alert["labels"]["event"] for alert in alertmanager.alerts()] == ["e1"]
    sink.close()


def test_a_poisonous_alert_does_not_block_those_beside_it():
    def picky(asked):
        return Answer(400 if b'"event": "e2"' in asked.body else 200)

    with OddServer(picky) as odd:
        sink = opened(odd.url)
        sink.send([event(START), event(START, id="e2"), event(START, id="e3")])
        sink.flush()
        assert sink.refused == 1
        taken = [json.loads(asked.body) for asked in odd.asked if picky(asked).status == 200]
        assert [one["labels"]["event"] for alerts in taken for one in alerts] == ["e1", "e3"]
        sink.close()


def test_only_the_newest_turn_of_an_event_goes_out():
    with OddServer(lambda _: Answer()) as odd:
        sink = opened(odd.url)
        turns = [event(START), event(START, update=1), event(START, START + 5, update=2)]
        sink.send(turns)
        sink.flush()
        (asked,) = odd.asked
        (alert,) = json.loads(asked.body)
        assert asked.path == "/api/v2/alerts"
        assert alert["annotations"]["status"] == "resolved"
        assert seconds(alert["endsAt"]) == START + 5
        assert sink.due == math.inf
        sink.close()


def test_an_old_turn_that_comes_again_raises_no_alert_anew():
    with OddServer(lambda _: Answer()) as odd:
        sink = opened(odd.url)
        for one in (event(START), event(START, START + 5), event(START)):
            sink.send([one])
            sink.flush()
        assert len(odd.asked) == 2
        assert sink.due == math.inf
        sink.close()


def test_a_refused_event_is_counted_and_not_kept_alive():
    with OddServer(lambda _: Answer(400, body=b"bad label")) as odd:
        sink = opened(odd.url)
        sink.send([event(START), event(START, id="e2")])
        sink.flush()
        sink.tick()
        assert sink.refused == 2
        assert len(odd.asked) == 3
        assert sink.due == math.inf
        sink.close()


@pytest.mark.parametrize(
    "options",
    [
        {"alertname": ""},
        {"severity": ""},
        {"hold": 0.0},
        {"hold": math.inf},
        {"channels": -1},
        {"labels": "entity=x"},
        {"labels": "a b=c"},
        {"generator_url": "javascript:alert(1)"},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError):
        AlertmanagerSink(url="http://127.0.0.1:1", **options)


def test_a_sink_that_is_not_open_says_so():
    sink = AlertmanagerSink(url="http://127.0.0.1:1")
    sink.send([event(START)])
    with pytest.raises(UsageError, match="not open"):
        sink.flush()
    sink.close()
