"""`imdiffusion fit`: settings, entities, and what an interruption leaves."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from tiny import TINY, ended, series

from imdiffusion.cli import main
from imdiffusion.cli.options import span
from imdiffusion.errors import UsageError

LONG = [*TINY, "--set", "max_steps=150"]
# State is saved often, so that a kill finds one in a training of seconds.
EAGER = "import imdiffusion.training; imdiffusion.training.SAVE_SECONDS = 0.1"


def wait_for_state(folder: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not list(folder.rglob("training.safetensors")):
        assert time.monotonic() < until, "no state was saved"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a fit that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "m"
    with pytest.raises(SystemExit) as end:
        main(["--quiet", "fit", str(data / "train.csv"), "--model", str(folder), *LONG])
    assert not end.value.code
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interrupted_fit_continues_to_the_same_bits(
    call, start, data, whole, tmp_path, number, code
):
    words = ("fit", data / "train.csv", "--model", tmp_path / "m", *LONG)
    process = start(*words, before=EAGER)
    wait_for_state(tmp_path / "m.resume")
    process.send_signal(number)
    done = ended(process)
    assert done.code == code
    assert "Traceback" not in done.err
    assert not (tmp_path / "m").exists()
    if code > 0:
        assert done.err.splitlines()[-1].startswith("interrupted: ")
        assert "the same command continues" in done.err
    again = call(*words)
    assert again.code == 0
    assert "Continuing the interrupted fit at step" in again.err
    assert not (tmp_path / "m.resume").exists()
    weights = [(model / "weights.safetensors").read_bytes() for model in (tmp_path / "m", whole)]
    assert weights[0] == weights[1]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_another_fit_does_not_continue(call, start, data, tmp_path):
    process = start("fit", data / "train.csv", "--model", tmp_path / "m", *LONG, before=EAGER)
    wait_for_state(tmp_path / "m.resume")
    process.kill()
    ended(process)
    words = ("fit", data / "train.csv", "--model", tmp_path / "m", *TINY)
    other = call(*words, "--seed", "1")
    assert other.code == 0
    assert "starting over" in other.err
    (tmp_path / "m.resume").mkdir()
    (tmp_path / "m.resume" / "training.safetensors").write_bytes(b"of a dead machine")
    assert call(*words, "--no-resume").code == 0
    assert not (tmp_path / "m.resume").exists()


def test_a_model_is_replaced_by_a_new_fit(call, data, tmp_path):
    words = ("fit", data / "train.csv", "--model", f"{tmp_path / 'm'}/", *TINY)
    assert call(*words).code == 0
    assert call(*words, "--seed", 7).code == 0
    assert json.loads((tmp_path / "m" / "config.json").read_text())["seed"] == 7


def test_settings_win_in_order(call, data, tmp_path):
    config = tmp_path / "my.toml"
    config.write_text('preset = "fast"\nseed = 5\nmerge_gap = 9\nalarm_rate = 0.01\n')
    done = call(
        *("fit", data / "train.csv", "--model", tmp_path / "m", *TINY),
        *("--config", config, "--set", "merge_gap=3", "--seed", 6),
    )
    assert done.code == 0, done
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    assert written["seed"] == 6
    assert written["settings"]["merge_gap"] == 3
    assert written["settings"]["alarm_rate"] == 0.01


def test_several_files_are_several_entities(call, tmp_path):
    for number, name in enumerate(("web", "shop")):
        series(200, seed=number).to_csv(tmp_path / f"{name}.csv.gz", index=False)
        series(100, seed=number + 5).to_json(
            tmp_path / f"{name}.jsonl", orient="records", lines=True, date_format="iso"
        )
    files = [tmp_path / f"{name}.csv.gz" for name in ("web", "shop")]
    done = call("fit", *files, "--model", tmp_path / "m", *TINY)
    assert done.code == 0, done
    shown = json.loads(call("model", "show", tmp_path / "m", "--json").out)
    assert [entity["name"] for entity in shown["entities"]] == ["web", "shop"]
    one = call("detect", tmp_path / "shop.jsonl", "--model", tmp_path / "m", "--json")
    assert one.code == 0, one
    assert json.loads(one.out)["summary"]["entities"] == 1
    series(100).to_csv(tmp_path / "stranger.csv", index=False)
    unknown = call("detect", tmp_path / "stranger.csv", "--model", tmp_path / "m")
    assert unknown.code == 3
    assert "'stranger'" in unknown.err
    assert "'web'" in unknown.err


def test_excluded_spans_reach_the_detector(call, data, tmp_path):
    words = ("fit", data / "train.csv", "--model", tmp_path / "m", *TINY)
    done = call(
        *words, "--exclude", "2026-01-05T00:01Z..2026-01-05T00:02Z", "--exclude", "300..320"
    )
    assert done.code == 0, done
    nothing = call(*words, "--exclude", "2027-01-01..2027-01-02")
    assert "covers no row" in nothing.err
    assert call(*words, "--exclude", "yesterday").code == 2


def test_span():
    assert span("10..20") == (10, 20)
    assert span("2026-01-05T10:00Z .. 2026-01-06") == ("2026-01-05T10:00Z", "2026-01-06")
    for text in ("10", "..", "10..", "..20"):
        with pytest.raises(UsageError, match=r"START\.\.END"):
            span(text)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--set", "windw=5"), 4, "'window'"),
        (("--set", "window=five"), 4, "whole number"),
        (("--set", "window=21"), 4, "patch_length"),
        (("--set", "window"), 2, "KEY=VALUE"),
        (("--preset", "fastest"), 4, "'fast'"),
        (("--seed", "-1"), 4, "seed"),
        (("--config", "absent.toml"), 4, "absent.toml"),
        (("--device", "tpu"), 2, "tpu"),
    ],
)
def test_bad_settings_are_refused_before_the_work(call, data, tmp_path, words, code, told):
    done = call("fit", data / "train.csv", "--model", tmp_path / "m", *TINY, *words)
    assert done.code == code
    assert told in done.err
    assert not list(tmp_path.iterdir())
