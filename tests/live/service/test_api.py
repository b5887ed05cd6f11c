"""Every route over a real socket, on a real live state."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from live_story import CHANNELS, MINUTE, START, rows, score_of, turn
from served import SPAN, follow, served, story

from imdiffusion.live.sinks.metrics import MetricsSink
from imdiffusion.live.store.inserts import Checkpoint, Standing, Told
from imdiffusion.live.store.queries import Reader
from imdiffusion.records import ScoreRecord


@pytest.fixture(name="one", scope="module")
def _one(tmp_path_factory):
    with served(tmp_path_factory.mktemp("api")) as one:
        story(one.store)
        yield one


@pytest.fixture(name="api")
def _api(one):
    return one.client()


def test_entities_are_told_as_they_stand_page_by_page(api):
    first = api.get("/api/entities?limit=1").json
    assert [one["name"] for one in first["entities"]] == ["db"]
    second = api.get(f"/api/entities?limit=1&after={first['next']}").json
    assert [one["name"] for one in second["entities"]] == ["web/1"]
    assert api.get("/api/entities").json["next"] is None
    assert [one["name"] for one in api.get("/api/entities?text=WEB").json["entities"]] == ["web/1"]
    found = first["entities"][0]
    assert found["time"] == "2023-11-14T23:19:00.000000000Z"
    assert found["score"] == pytest.approx(score_of(59))
    assert (found["state"], found["detector"], found["model"]) == ("ready", "zscore", "m1")
    assert (found["interval_seconds"], found["open_events"]) == (60.0, 1)
    assert found["lag_seconds"] > 0


def test_scores_go_on_where_a_page_ended(api):
    path, found = f"/api/scores?entity=web/1&{SPAN}&limit=25", []
    after = ""
    while after is not None:
        page = api.get(f"{path}&after={after}").json
        found += page["scores"]
        after = page["next"]
    assert len(found) == 60
    assert found[7]["score"] is None
    assert found[9]["score"] == pytest.approx(score_of(9))
    assert (found[9]["channels"], found[9]["shares"]) == (["disk", "cpu"], [0.75, 0.25])
    late = api.get(f"/api/scores?entity=web/1&{SPAN}&mode=offline").json["scores"]
    assert [one["mode"] for one in late] == ["offline"]
    assert api.get(f"/api/scores?entity=nobody&{SPAN}").json["scores"] == []


def test_lanes_lie_on_one_grid(api):
    found = api.get(f"/api/lanes?{SPAN}&buckets=12").json
    assert (found["buckets"], found["width"]) == (12, 300.0)
    assert found["start"] == START / 1e9
    lane = found["lanes"][1]
    assert lane["entity"] == "web/1"
    assert len(lane["scores"]) == 12
    assert lane["scores"][1] == pytest.approx(score_of(9))
    assert [one["entity"] for one in api.get(f"/api/lanes?{SPAN}&text=d").json["lanes"]] == ["db"]


def test_series_show_seen_and_expected_of_the_channels_asked_for(api):
    found = api.get(f"/api/series?entity=web/1&{SPAN}&channel=disk&channel=cpu&channel=no").json
    assert found["channels"] == ["disk", "cpu"]
    assert len(found["times"]) == 60
    assert found["seen"][0][:3] == [2.0, 3.0, 4.0]
    assert found["expected"][1][:3] == [3.0, 4.0, 5.0]
    assert found["lower"][1][0] == 6.0
    assert found["upper"][1][0] == 9.0
    assert not found["cut"]
    last = api.get(f"/api/series?entity=web/1&{SPAN}&rows=10").json
    assert last["cut"]
    assert last["times"] == found["times"][-10:]
    assert last["channels"] == ["cpu", "disk", "memory"]  # what departs most comes first
    assert last["parts"] == pytest.approx([0.5, 0.5, 0.0])
    assert last["seen"][2] == [None] * 10
    first = api.get(f"/api/series?entity=web/1&{SPAN}&top=1").json
    assert (first["channels"], first["of"]) == (["cpu"], 3)
    assert api.get(f"/api/series?entity=nobody&{SPAN}").json["channels"] == []


def test_events_are_filtered_and_paged(api):
    def ids(query):
        return [one["id"] for one in api.get(f"/api/events?{query}").json["events"]]

    assert ids("") == ["e2", "e1"]
    assert ids("status=ongoing") == ["e2"]
    assert ids("entity=web/1") == ["e1"]
    assert ids("text=DISK") == ["e2", "e1"]
    assert ids("text=nothing") == []
    assert ids("since=2023-11-14T23:00:00Z") == ["e2"]
    assert ids("until=2023-11-14T22:31:00Z") == ["e1"]
    first = api.get("/api/events?limit=1").json
    assert ids(f"limit=1&before={first['next']}") == ["e1"]


def test_an_event_is_explained(api):
    found = api.get("/api/events/e1").json
    assert found["event"]["status"] == "resolved"
    assert [one["update"] for one in found["updates"]] == [0, 1]
    assert found["event"]["channels"][0] == {
        "name": "disk", "share": 0.75, "seen": 2.0, "expected": 1.0, "kind": None,
    }  # fmt: skip
    assert found["event"]["reason"] == ""  # a turn from before there were kinds
    assert found["sure"] == {"score": 3.5, "rows": 4, "anomalous": 0, "state": "ready"}
    assert found["summary"] == (
        "web/1 lasted 4 min, at most 3.5 times the threshold. "
        "At the peak disk (75%) was 2, expected 1."
    )
    said = api.get("/api/events?statu=ongoing")
    assert said.status == 422
    assert "Did you mean 'status'?" in said.json["error"]
    missing = api.get("/api/events/e9")
    assert (missing.status, missing.json["error"]) == (404, "there is no event 'e9'")


def test_an_event_says_its_kind_and_is_found_by_it(one, api):
    told = replace(
        turn("e3", "web/2", 0, "resolved", row=20, end=54),
        kinds=("missing", ""),
        reason="disk missing for 34 rows (34 min)",
    )
    loud = ScoreRecord(
        "web/2", START + 20 * MINUTE, "online", 2.0, "ready", "zscore", "m1",
        ("disk", "cpu"), (0.75, 0.25), ("missing", ""),
    )  # fmt: skip
    one.store.write(Checkpoint(told=[Told(loud, CHANNELS)], updates=[told]), now=START + MINUTE)
    (listed,) = api.get("/api/events?text=missing").json["events"]
    assert listed["reason"] == "disk missing for 34 rows (34 min)"
    assert [part["kind"] for part in listed["channels"]] == ["missing", ""]
    assert api.get("/api/events/e3").json["summary"] == (
        "web/2 lasted 34 min, at most 3.5 times the threshold: disk missing for 34 rows (34 min). "
        "At the peak disk (75%) was 2, expected 1."
    )
    (score,) = api.get(f"/api/scores?entity=web/2&{SPAN}").json["scores"]
    assert score["kinds"] == ["missing", ""]
    with Reader(one.store.path) as reader:
        assert reader.event("e3") == [told]
        (again,) = reader.scores("web/2", 0, 2**62)
        assert again == loud


def test_feedback_is_kept_and_shown(one, api):
    for verdict in ("confirmed", "expected", "false_alarm", "new_normal", "not_resolved"):
        said = api.post(
            "/api/events/e1/feedback", {"verdict": verdict, "who": "ann", "text": "<b>"}
        )
        assert said.status == 201
        assert said.json["verdict"] == verdict
    assert [row["verdict"] for row in api.get("/api/feedback?event=e1").json["feedback"]][-1] == (
        "not_resolved"
    )
    assert api.get("/api/events/e1").json["feedback"][0]["text"] == "<b>"
    assert api.get("/api/events?entity=web/1").json["events"][0]["verdict"] == "not_resolved"
    assert api.post("/api/events/e9/feedback", {"verdict": "confirmed"}).status == 404
    assert api.post("/api/events/e1/feedback", {"verdict": "good"}).status == 422
    assert api.post("/api/events/e1/feedback", {"verdict": "confirmed", "x": 1}).status == 422


def test_models_are_listed_and_rolled_back_without_their_place(one, api):
    found = api.get("/api/models").json["models"]
    assert {row["digest"]: row["live"] for row in found} == {"m1": False, "m2": True}
    assert "secret" not in api.get("/api/models?entity=db").text
    assert api.post("/api/models/rollback", {"entity": "db"}).json["digest"] == "m1"
    done = api.post("/api/models/live", {"entity": "db", "digest": "m2", "reason": "better"})
    assert done.json == {"entity": "db", "digest": "m2"}
    assert api.post("/api/models/live", {"entity": "db", "digest": "m9"}).status == 404
    assert api.post("/api/models/rollback", {"entity": "nobody"}).status == 404


def test_rows_are_taken_wide_long_and_by_line(one, api):
    wide = [
        {"entity": "a", "timestamp": 1700000000 + n, "cpu": n, "memory": None} for n in range(3)
    ]
    said = api.post("/api/ingest", {"rows": wide})
    assert (said.status, said.json) == (202, {"rows": 3, "values": 3, "rejected": 0, "why": []})
    lines = [
        {"entity": "b", "timestamp": "2023-11-14T22:20:00Z", "channel": "cpu", "value": 1.5},
        {"entity": "b", "timestamp": "2023-11-14T22:20:00Z", "channel": "disk", "value": "x"},
    ]
    body = "\n".join([*map(json.dumps, lines), "no row"]).encode()
    said = api.post("/api/ingest", body, Content_Type="application/x-ndjson")
    assert (said.status, said.json["rows"], said.json["rejected"]) == (202, 1, 2)
    assert said.json["why"][0].startswith("line 2: channel 'disk'")
    batch = one.source.read(0)
    assert [(frame.entity, frame.channels, len(frame)) for frame in batch.frames] == [
        ("a", ("cpu", "memory"), 3), ("b", ("cpu",), 1),
    ]  # fmt: skip
    assert one.source.waiting == 0
    assert api.post("/api/ingest", {"rows": [{"entity": "a"}]}).status == 422
    assert api.post("/api/ingest", {"rows": []}).status == 422
    assert api.post("/api/ingest", b"{").status == 400


def test_health_metrics_and_readiness(tmp_path):
    sink = MetricsSink()
    facts = {"stuck": "", "pending": 7, "sources": {}, "sinks": {"out": {"away": True}}}
    facts["sources"]["files"] = {"queued": 2, "rows": 14, "away": False}
    with served(tmp_path, metrics=sink, health=lambda: facts) as one:
        api = one.client()
        assert api.get("/healthz").json == {"status": "alive"}
        ready = api.get("/readyz")
        assert (ready.status, ready.json["why"]) == (503, "nothing was scored yet")
        story(one.store)
        one.store.join("out", {"score"})
        one.store.write(rows(["db"], 60, 63), now=START)
        assert api.get("/readyz").json["why"] == "the last score is older than two intervals"
        now = time.time_ns()
        standing = Standing(10 * MINUTE, now, "ready", "sees 4 of 12 planted faults here")
        one.store.write(Checkpoint(standing={"db": standing}), now=now)
        (db, web) = api.get("/api/entities").json["entities"]
        assert (db["note"], web["note"]) == ("sees 4 of 12 planted faults here", "")
        ready = api.get("/readyz")
        assert (ready.status, ready.json) == (
            200, {"ready": True, "why": "", "entities": 2, "fresh": 1},
        )  # fmt: skip
        facts["stuck"] = "the live state /secret cannot be used"
        assert api.get("/readyz").json["why"] == "the live state cannot be written"
        sink.send([record for _, record in one.store.behind("out", limit=9)])
        found = api.get("/metrics")
        assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = found.text.splitlines()
        assert 'imdiffusion_passed_over_total{reason="rejected",of="files"} 3.0' in lines
        assert 'imdiffusion_done_total{what="rows",of="files"} 120.0' in lines
        assert 'imdiffusion_queue_depth{queue="sink out"} 3.0' in lines
        assert 'imdiffusion_queue_depth{queue="source files"} 2.0' in lines
        assert 'imdiffusion_queue_depth{queue="checkpoint"} 7.0' in lines
        assert 'imdiffusion_away{part="sink out"} 1.0' in lines
        assert 'imdiffusion_imputed_share{entity="db"} 0.3333333333333333' in lines
        assert "imdiffusion_open_events 2.0" not in lines
        assert "imdiffusion_open_events 1.0" in lines
        for name in ("score_age_seconds", "model_age_seconds", "score", "state_bytes"):
            assert f"# TYPE imdiffusion_{name} gauge" in lines
        assert 'imdiffusion_http_total{kind="answers",outcome="200"}' in found.text


def test_changes_are_told_as_they_become_true_and_the_stream_ends_with_the_service(tmp_path):
    with served(tmp_path) as one:
        story(one.store)
        with follow(one.client()) as told:
            kind, hello = next(told)
            assert (kind, hello["last"]) == ("hello", one.store.last())
            one.store.write(rows(["db"], 60, 61), now=START)
            kind, change = next(told)
            one.serving.stop()
            assert list(told) == []
        assert (kind, change["events"]) == ("change", [])
        entity, seconds, score, state, detector = change["scores"][0]
        assert (entity, seconds, state, detector) == ("db", START / 1e9 + 3600, "ready", "zscore")
        assert score == pytest.approx(score_of(60))


@pytest.mark.tool("promtool")
def test_promtool_has_nothing_against_the_metrics(tmp_path):
    with served(tmp_path, metrics=MetricsSink()) as one:
        story(one.store)
        text = one.client().get("/metrics").text
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("package", "module"),
    [("fastapi", "app"), ("pydantic", "serializers"), ("uvicorn", "server")],
)
def test_an_absent_package_is_an_error_that_names_the_extra(package, module):
    program = (
        f"import sys; sys.modules[{package!r}] = None; import imdiffusion.live.service.{module}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert f"the package '{package}' is not installed" in last
    assert "pip install 'imdiffusion[serve]'" in last


def test_the_service_needs_neither_torch_nor_a_detector():
    program = (
        "import sys, imdiffusion.live.service.app, imdiffusion.live.service.server;"
        "print(*{'torch', 'imdiffusion.detector'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
