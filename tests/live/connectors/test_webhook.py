"""The webhook: what a receiver is sent, how it is signed, and what becomes of a bad answer."""

from __future__ import annotations

import hashlib
import hmac
import json
import math

import pytest
from live_records import event, score
from odd_server import Answer, OddServer

from imdiffusion.errors import ConfigError, ConnectionLost, UsageError
from imdiffusion.live.sinks.webhook import WebhookSink


def opened(url: str, **options) -> WebhookSink:
    sink = WebhookSink(url=url, **options)
    sink.open()
    return sink


def ids(asked) -> list[str]:
    return [record["id"] for record in json.loads(asked.body)]


def test_a_flush_is_one_list_of_whole_events():
    with OddServer(lambda _: Answer(204)) as odd:
        sink = opened(odd.url + "/hook?key=1")
        sink.flush()
        assert odd.asked == []
        first = event(1e9, seen=(95.5, math.nan), score=math.inf)
        sink.send([first, score(1e9), event(1e9, 1e9 + 60)])
        assert odd.asked == []
        sink.flush()
        sink.flush()
        sink.close()
        (asked,) = odd.asked
    assert (asked.method, asked.path) == ("POST", "/hook?key=1")
    assert asked.headers["content-type"] == "application/json"
    begun, resolved = json.loads(asked.body)
    assert (begun["kind"], begun["status"], begun["end"]) == ("event", "ongoing", None)
    assert begun["channels"] == ["cpu", "memory"]
    assert (begun["seen"], begun["score"]) == ([95.5, None], None)  # JSON has no NaN
    assert (resolved["status"], resolved["update"]) == ("resolved", 1)
    assert resolved["end"] == 1_000_000_060_000_000_000
    assert resolved["start_iso"] == "2001-09-09T01:46:40Z"
    assert begun["end_iso"] is None
    assert sink.refused == 0


def test_a_repetition_has_the_same_key_and_other_events_another():
    with OddServer(lambda _: Answer(503)) as odd:
        sink = opened(odd.url)
        for _ in range(2):
            sink.send([event(1e9)])
            with pytest.raises(ConnectionLost, match="answered 503"):
                sink.flush()
        odd.answer = lambda _: Answer()
        sink.flush()  # held still
        sink.send([event(1e9, 1e9 + 1)])
        sink.flush()
        sink.close()
    keys = [asked.headers["idempotency-key"] for asked in odd.asked]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert [ids(asked) for asked in odd.asked] == [["e1"]] * 4


def test_the_last_events_that_were_settled_are_not_posted_again():
    with OddServer(lambda asked: Answer(422 if "e2" in ids(asked) else 200)) as odd:
        sink = opened(odd.url, window=2)
        for number in (1, 2, 3):
            sink.send([event(1e9, id=f"e{number}")])
            sink.flush()
        sink.send([event(1e9, id=f"e{number}") for number in (2, 3)])
        sink.flush()
        assert [ids(asked) for asked in odd.asked] == [["e1"], ["e2"], ["e3"]]
        assert sink.refused == 1
        sink.send([event(1e9)])  # too long ago
        sink.flush()
        assert ids(odd.asked[-1]) == ["e1"]
        sink.close()


def test_the_signature_can_be_checked_with_the_secret_alone(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("käse\n")
    monkeypatch.setenv("HOOK", "set below")
    with OddServer(lambda _: Answer()) as odd:
        monkeypatch.setenv("HOOK", odd.url + "/services/T0/secret")
        sink = WebhookSink(url_env="HOOK", secret_file=str(tmp_path / "secret"))
        sink.open()
        sink.send([event(1e9)])
        (tmp_path / "secret").rename(tmp_path / "away")
        with pytest.raises(ConnectionLost, match="cannot read the file"):
            sink.flush()
        (tmp_path / "away").rename(tmp_path / "secret")
        sink.flush()
        sink.close()
        (asked,) = odd.asked
    assert asked.path == "/services/T0/secret"
    text = asked.headers["x-imdiffusion-timestamp"].encode() + b"." + asked.body
    expected = hmac.new("käse".encode(), text, hashlib.sha256).hexdigest()
    assert asked.headers["x-imdiffusion-signature"] == f"sha256={expected}"
    assert "käse" not in repr(sink)


def test_a_secret_address_is_in_no_error():
    with OddServer(lambda _: Answer(500)) as odd:
        sink = opened(odd.url + "/services/T0/sesame?key=sesame")
        sink.send([event(1e9)])
        with pytest.raises(ConnectionLost) as caught:
            sink.flush()
        sink.close()
    assert "sesame" not in str(caught.value) + repr(sink)


def test_a_poisonous_event_does_not_block_those_beside_it():
    def picky(asked):
        return Answer(422 if "e13" in ids(asked) else 200)

    with OddServer(picky) as odd:
        sink = opened(odd.url, batch=8)
        sink.send([event(1e9, id=f"e{number}") for number in range(40)])
        sink.flush()
        taken = [id_ for asked in odd.asked if "e13" not in ids(asked) for id_ in ids(asked)]
        assert taken == [f"e{number}" for number in range(40) if number != 13]
        assert sink.refused == 1
        sink.send([event(1e9 + 9, id="e40")])
        sink.flush()
        assert ids(odd.asked[-1]) == ["e40"]
        sink.close()


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 408, 425, 429, 500, 503])
def test_what_a_person_or_time_can_mend_drops_nothing(status):
    with OddServer(lambda _: Answer(status, headers={"Location": "http://127.0.0.1:1/"})) as odd:
        sink = opened(odd.url)
        sink.send([event(1e9)])
        with pytest.raises(ConnectionLost, match=f"answered {status}"):
            sink.flush()
        odd.answer = lambda _: Answer()
        sink.flush()
        assert ids(odd.asked[-1]) == ["e1"]
        assert sink.refused == 0
        sink.close()


@pytest.mark.parametrize("status", [400, 409, 410, 413, 422])
def test_what_is_refused_for_good_is_counted_once(status):
    with OddServer(lambda _: Answer(status)) as odd:
        sink = opened(odd.url)
        sink.send([event(1e9), event(1e9, id="e2")])
        sink.flush()
        sink.flush()
        assert sink.refused == 2
        assert [ids(asked) for asked in odd.asked] == [["e1", "e2"], ["e1"], ["e2"]]
        sink.close()


def test_what_waits_for_a_far_side_that_is_away_is_bounded():
    with OddServer(lambda _: Answer(500)) as odd:
        sink = opened(odd.url)
        sink._outbox._most = 3
        with pytest.raises(ConnectionLost, match="3 items wait"):
            sink.send([event(1e9, id=f"e{number}") for number in range(5)])
        odd.answer = lambda _: Answer()
        sink.flush()
        sink.send([event(1e9, id=f"e{number}") for number in range(3, 5)])
        sink.flush()
        assert [ids(asked) for asked in odd.asked] == [["e0", "e1", "e2"], ["e3", "e4"]]
        sink.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "one of url"),
        ({"url": "http://h", "url_env": "X"}, "one of url"),
        ({"url": "file:///etc/passwd"}, "not a usable address"),
        ({"url": "http://h", "batch": 0}, "batch is out of range"),
        ({"url": "http://h", "window": 0}, "window is 0"),
        ({"url": "http://h", "secret_env": "ABSENT"}, "ABSENT.* is not set"),
        ({"url_env": "WRONG"}, "not a usable address"),
    ],
)
def test_options_that_cannot_be_are_refused(options, text, monkeypatch):
    monkeypatch.setenv("WRONG", "sesame")
    with pytest.raises(ConfigError, match=text) as caught:
        WebhookSink(**options).open()
    assert "sesame" not in str(caught.value)


def test_a_sink_that_is_not_open_says_so():
    sink = WebhookSink(url="http://127.0.0.1:1")
    sink.send([event(1e9)])
    with pytest.raises(UsageError, match="not open"):
        sink.flush()
    sink.close()
