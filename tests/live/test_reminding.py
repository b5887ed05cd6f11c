"""Far sides that forget: they are told again while an event lasts, and after every restart."""

from __future__ import annotations

import json
import time

from live_parts import LineSource, write_rows
from odd_server import Answer, OddServer
from test_engine import Live

from imdiffusion.live.sinks.alertmanager import AlertmanagerSink
from imdiffusion.live.sinks.metrics import MetricsSink

PATIENCE = 60.0  # seconds; a busy machine is slow, not broken


def statuses(odd: OddServer) -> list[str]:
    return [json.loads(asked.body)[0]["annotations"]["status"] for asked in odd.asked]


def turn_until(one: Live, done) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        one.clock.move(0.01)
        one.engine.once()
        time.sleep(0.01)


def test_an_alert_is_kept_alive_while_nothing_comes_and_over_a_restart(tmp_path):
    write_rows(tmp_path / "rows", ["web"], 32)
    with OddServer(lambda _: Answer()) as odd:

        def engine() -> Live:
            sink = AlertmanagerSink(url=odd.url, hold=1.0)
            return Live(tmp_path, {"files": LineSource(tmp_path / "rows")}, {"alerts": sink})

        one = engine()
        turn_until(one, lambda: len(odd.asked) >= 3)  # the onset, and twice that it lasts
        (event,) = one.reader.events()
        assert event.status == "ongoing"
        one.close()
        before = len(odd.asked)
        odd.answer = lambda _: Answer(503)
        again = engine()
        turn_until(again, lambda: len(odd.asked) > before)
        assert again.engine.health()["sinks"]["alerts"]["away"]
        odd.answer = lambda _: Answer()
        turn_until(again, lambda: len(odd.asked) > before + 2)
        assert not again.engine.health()["sinks"]["alerts"]["away"]
        assert set(statuses(odd)) == {"ongoing"}
        write_rows(tmp_path / "rows", ["web"], 60, first=32)
        turn_until(again, lambda: statuses(odd)[-1] == "resolved")
        count = len(odd.asked)
        again.settle()
        assert len(odd.asked) == count
        assert {json.loads(asked.body)[0]["labels"]["event"] for asked in odd.asked} == {event.id}
        again.close()


def test_what_is_ongoing_is_shown_after_a_restart_and_not_counted_again(tmp_path):
    write_rows(tmp_path / "rows", ["web"], 32)

    def engine() -> tuple[Live, MetricsSink]:
        sink = MetricsSink()
        return Live(tmp_path, {"files": LineSource(tmp_path / "rows")}, {"metrics": sink}), sink

    one, sink = engine()
    one.settle()
    assert 'imdiffusion_event_active{entity="web"} 1.0' in sink.text()
    assert 'imdiffusion_events_total{entity="web"} 1.0' in sink.text()
    one.close()
    again, sink = engine()
    again.settle()
    assert 'imdiffusion_event_active{entity="web"} 1.0' in sink.text()
    assert "imdiffusion_events_total{" not in sink.text()
    write_rows(tmp_path / "rows", ["web"], 60, first=32)
    again.settle()
    assert 'imdiffusion_event_active{entity="web"} 0.0' in sink.text()
    again.close()
