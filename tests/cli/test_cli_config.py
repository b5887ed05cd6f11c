"""`imdiffusion config`, `model` and `doctor`."""

from __future__ import annotations

import json
import tomllib

import pytest

from imdiffusion.cli import doctor
from imdiffusion.presets import PRESETS, schema


def test_schema_is_the_librarys(call):
    done = call("config", "schema")
    assert done.code == 0
    assert json.loads(done.out) == json.loads(json.dumps(schema()))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_show_prints_is_a_right_file(call, tmp_path, preset):
    file = tmp_path / "imdiffusion.toml"
    file.write_text(call("config", "show", "--preset", preset).out)
    given = tomllib.loads(file.read_text())
    assert {"preset", "seed", "device"} < set(given)
    assert given["window"] == PRESETS[preset].window
    done = call("config", "check", file)
    assert done.code == 0
    assert preset in done.out
    again = call("config", "show", "--config", file, "--json")
    assert json.loads(again.out) == given


def test_show_resolves_what_is_set(call):
    shown = json.loads(call("config", "show", "--set", "window=50", "--json").out)
    assert shown["window"] == 50
    assert shown["preset"] == "fast"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("windw = 50", "'window'"),
        ("smooth = '3,5'", "list"),
        ("seed = true", "seed"),
        ("preset = 'slow'", "'slow'"),
        ("preset = 3", "preset"),
        ("[training]\nseed = 1", "flat"),
        ("window == 50", "TOML"),
    ],
)
def test_check_refuses(call, tmp_path, text, told):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    done = call("config", "check", file)
    assert done.code == 4
    assert done.out == ""
    assert "bad.toml" in done.err
    assert told in done.err


def test_check_of_no_file(call, tmp_path):
    done = call("config", "check", tmp_path / "absent.toml")
    assert done.code == 4
    assert "config show" in done.err
    assert call("config", "check", tmp_path).code == 4


def test_model_show(call, model):
    done = call("model", "show", model, "--json")
    shown = json.loads(done.out)
    assert shown["sha256"] == "ok"
    assert shown["entities"][0]["channels"] == ["cpu", "memory", "disk", "net"]
    assert shown["config"]["settings"]["window"] == 20
    assert shown["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    promise = shown["entities"][0]["promise"]
    assert promise["promised"] == shown["config"]["settings"]["alarm_rate"]
    assert promise["rows"] > 0
    told = call("model", "show", model).out
    for word in (
        "cpu, memory, disk, net",
        "matches",
        "every 1 s",
        "window",
        "promised",
        "achieved",
    ):
        assert word in told


def test_doctor(call, monkeypatch):
    for name, small in (("TRAINED_ROWS", 250), ("SCORED_ROWS", 300), ("STEPS", 2)):
        monkeypatch.setattr(doctor, name, small)
    told = json.loads(call("doctor", "--json").out)
    assert told["packages"]["torch"]
    assert told["cores"] >= 1
    assert told["memory"]["total"] > 0
    assert told["speed"]["channels"] == 38
    assert told["speed"]["points_per_second"] > 1


def test_doctor_in_words(call):
    done = call("doctor", "--no-measure")
    assert done.code == 0
    for word in ("torch", "cores", "memory", "CUDA devices"):
        assert word in done.out
