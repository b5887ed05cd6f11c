"""`imdiffusion serve` as a process: files that grow, events to a webhook, kills, reloads, models"""

from __future__ import annotations

import json
import signal

import pytest
from live_far import (
    DETECTOR,
    Said,
    append,
    circle,
    get,
    hook,
    put,
    rows_of,
    scores,
    times,
    wait_for,
)
from tiny import ended

from imdiffusion.live.store.queries import Reader


def lines_of(folder, name):
    """A source of the lines of FOLDER/NAME.jsonl."""
    path = folder / f"{name}.jsonl"
    return f'[[source]]\ntype = "files"\nid = "{name}"\npath = "{path}"\npoll = 0.05\n'


def configure(folder, *more, fit=False, source="web"):
    """A configuration that watches FOLDER/SOURCE.jsonl and keeps its state in FOLDER/state."""
    path = folder / "imdiffusion.toml"
    text = [
        DETECTOR,
        lines_of(folder, source),
        f'[state]\npath = "{folder / "state"}"\ndetails = 1e5\nscores = 1e5\nevents = 1e5\n',
        "[stream]\nevery = 0.1\nstale_after = 1e9\n",
        # Against `linear` a network of this size, trained for a moment, does not win.
        'baseline = "mahalanobis"\n' if fit else "",
        f"[fit]\nenabled = {str(fit).lower()}\nrows = 400\n",
        "[serve]\nport = 0\n",
    ]
    path.write_text("\n".join([*text, *more]))
    return path


@pytest.fixture
def serve(start):
    """Start `serve`, wait until it serves; process, what it says, its address."""

    def serve(config, *words):
        process = start("-v", "serve", "--config", config, *words)
        said = Said(process.stderr)
        line = wait_for(lambda: said.has("Serving on"), process)
        return process, said, line.split()[2].rstrip(";")

    return serve


def ends(process, said):
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, said.rest()
    assert "Traceback" not in said.rest()


def test_a_growing_file_becomes_events_metrics_and_an_api(serve, tmp_path):
    values = circle(130)
    values[100:104, 0] += 30.0
    with hook() as far:
        sink = f'[[sink]]\ntype = "webhook"\nurl = "{far.address}"\n'
        process, said, address = serve(configure(tmp_path, sink))
        append(tmp_path / "web.jsonl", "web", values[:60])
        wait_for(lambda: len(scores(tmp_path / "state", "web")) == 60, process)
        append(tmp_path / "web.jsonl", "web", values[60:], first=60)
        wait_for(lambda: any(one["status"] == "resolved" for one in far.events), process)
        wait_for(lambda: len(scores(tmp_path / "state", "web")) == 130, process)
        text = get(f"{address}/metrics")
        assert 'imdiffusion_score{detector="linear",entity="web"' in text.replace(
            'entity="web",detector="linear"', 'detector="linear",entity="web"'
        )
        assert 'imdiffusion_done_total{what="rows",of="web"} 130' in text
        assert json.loads(get(f"{address}/readyz"))["ready"]
        assert get(f"{address}/").lstrip().lower().startswith("<!doctype html>")
        ends(process, said)
    onset = next(one for one in far.events if one["update"] == 0 and one["channels"][0] == "a")
    assert onset["start"] in times(100, 104)
    assert rows_of(scores(tmp_path / "state", "web")) == times(0, 130)


@pytest.mark.slow
def test_after_a_kill_it_goes_on_where_it_was(serve, tmp_path):
    values, config = circle(160), configure(tmp_path)
    append(tmp_path / "web.jsonl", "web", values[:80])
    process, _, _ = serve(config)
    wait_for(lambda: len(scores(tmp_path / "state", "web")) >= 40, process)
    process.kill()
    process.wait()
    append(tmp_path / "web.jsonl", "web", values[80:], first=80)
    process, said, _ = serve(config)
    wait_for(lambda: len(scores(tmp_path / "state", "web")) == 160, process)
    ends(process, said)
    found = scores(tmp_path / "state", "web")
    assert rows_of(found) == times(0, 160)
    assert [one.state for one in found[30:]].count("warming") == 0
    assert {one.detector for one in found} == {"linear"}


def test_reload_keeps_the_last_good_configuration_and_takes_a_right_one(serve, tmp_path):
    values, config = circle(120), configure(tmp_path)
    append(tmp_path / "web.jsonl", "web", values[:40])
    process, said, address = serve(config)
    wait_for(lambda: len(scores(tmp_path / "state", "web")) == 40, process)
    good = config.read_text()
    config.write_text(good.replace("poll", "pol") + "\n[fitt]\n")
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: said.has("refused, the last valid"), process)
    assert said.has("[[source]] 1 pol", "'poll'")
    assert said.has("[fitt]", "'fit'")
    append(tmp_path / "web.jsonl", "web", values[40:80], first=40)
    wait_for(lambda: len(scores(tmp_path / "state", "web")) == 80, process)
    config.write_text(good + lines_of(tmp_path, "db"))
    append(tmp_path / "db.jsonl", "db", circle(30, seed=1))
    process.send_signal(signal.SIGHUP)
    append(tmp_path / "web.jsonl", "web", values[80:], first=80)
    wait_for(lambda: said.has("the new configuration holds"), process)
    wait_for(lambda: len(scores(tmp_path / "state", "db")) == 30, process)
    wait_for(lambda: len(scores(tmp_path / "state", "web")) == 120, process)
    assert json.loads(get(f"{address}/readyz"))["entities"] == 2
    ends(process, said)
    assert rows_of(scores(tmp_path / "state", "web")) == times(0, 120)
    assert not said.has("is read no more")


@pytest.mark.slow
def test_a_model_that_wins_takes_over_and_a_torn_one_is_refused(serve, tmp_path):
    values, config = circle(520), configure(tmp_path, fit=True)
    append(tmp_path / "web.jsonl", "web", values[:420])
    process, said, _ = serve(config)
    state = tmp_path / "state"

    def live():
        with Reader(state / "live.db") as reader:
            return [one for one in reader.models("web") if one.live]

    (model,) = wait_for(live, process)
    wait_for(lambda: said.has("another model scores web"), process)
    append(tmp_path / "web.jsonl", "web", values[420:470], first=420)
    wait_for(lambda: len(scores(state, "web")) == 470, process)
    ends(process, said)
    found = scores(state, "web")
    assert rows_of(found) == times(0, 470)
    assert {one.detector for one in found[:400]} == {"mahalanobis"}
    assert {(one.detector, one.model, one.state) for one in found[420:]} == {
        ("fast", model.digest, "ready")
    }
    verdict = json.loads(next(state.glob("fits/*/verdict.json")).read_text())
    assert verdict["won"]
    challenger, incumbent = (verdict["verdict"][name] for name in ("challenger", "incumbent"))
    assert challenger["found"] > incumbent["found"]

    weights = state / model.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    process, said, _ = serve(config)
    append(tmp_path / "web.jsonl", "web", values[470:], first=470)
    wait_for(lambda: len(scores(state, "web")) == 520, process)
    ends(process, said)
    assert said.has(model.digest, "is refused", "weights.safetensors")
    assert {one.detector for one in scores(state, "web")[470:]} == {"mahalanobis"}


def test_a_dry_run_says_what_would_happen_and_writes_nothing(start, tmp_path):
    append(tmp_path / "web.jsonl", "web", circle(30))
    with hook() as far:
        config = configure(tmp_path, f'[[sink]]\ntype = "webhook"\nurl = "{far.address}"\n')
        words = ("serve", "--config", config, "--dry-run", "--seconds", "0.5", "--json")
        done = ended(start(*words))
    assert done.code == 0, done
    source, sink = json.loads(done.out)
    assert (source["reached"], source["rows"]) == (True, 30)
    assert source["entities"] == {"web": ["a", "b", "c", "d"]}
    assert sink["reached"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imdiffusion.toml", "web.jsonl"]
    done = ended(start(*words[:-1]))  # the far side has gone
    assert done.code == 3
    assert "NOT reached" in done.out
    assert "webhook" in done.err


def test_a_wrong_configuration_is_refused_at_once(call, tmp_path):
    config = configure(tmp_path)
    config.write_text(config.read_text().replace("poll", "pol"))
    done = call("serve", "--config", config)
    assert done.code == 4
    assert "line 20, [[source]] 1 pol" in done.err
    assert "'poll'" in done.err
    assert not (tmp_path / "state").exists()
    config = configure(tmp_path)
    done = call("serve", "--config", config, "--host", "0.0.0.0")
    assert done.code == 4
    assert "token" in done.err


def test_reload_moves_the_service_and_takes_pushed_rows_there(serve, tmp_path):
    config = configure(tmp_path)
    append(tmp_path / "web.jsonl", "web", circle(20))
    process, said, before = serve(config)
    config.write_text(config.read_text() + 'hosts = ["watch.example"]\n')
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: said.has("the new configuration holds"), process)
    serving = [line for line in said.lines if line.startswith("Serving on")]
    address = serving[-1].split()[2].rstrip(";")
    assert len(serving) == 2
    assert address != before
    rows = [{"entity": "db", "timestamp": 1_700_000_400 + 60 * n, "a": n} for n in range(12)]
    assert put(f"{address}/api/ingest", {"rows": rows}) == 202
    wait_for(lambda: len(scores(tmp_path / "state", "db")) == 12, process)
    with pytest.raises(OSError, match="refused"):
        get(f"{before}/healthz")
    ends(process, said)
