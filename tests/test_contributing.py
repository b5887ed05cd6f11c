"""What CONTRIBUTING.md shows is done: a distribution with a mask, a denoiser and a sink, used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import imdiffusion
from imdiffusion import registry

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"```(?:toml|python)\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL
)
TINY = (
    *("window=20", "stride=10", "patch_length=5", "width=8", "heads=2", "layers=1", "smooth=5"),
    *("diffusion_steps=8", "sampling_steps=3", "ensemble_steps=2", "batch_size=8", "detrend=0"),
    *("max_steps=20", "validate_every=10"),
)
MORE = ("views=network", "mask=diagonal", "denoiser=gru")
WITH = [word for pair in (*TINY, *MORE) for word in ("--set", pair)]


@pytest.fixture(name="project", scope="module")
def _project(tmp_path_factory):
    """The files of CONTRIBUTING.md in a folder, installed into its folder `site`."""
    folder = tmp_path_factory.mktemp("more")
    for name, text in BLOCKS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    words = ("--no-deps", "--no-build-isolation", "--no-index", "--target", folder / "site")
    done = python(folder, "-m", "pip", "install", "--quiet", *words, folder)
    assert done.returncode == 0, done.stderr
    table(folder / "train.csv", 300)
    return folder


def environment(folder):
    own = Path(imdiffusion.__file__).parents[1]
    return {
        **os.environ, "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{own}",
        "NO_COLOR": "1", "COLUMNS": "200",
    }  # fmt: skip


def python(folder, *words):
    """A fresh interpreter that sees what is installed in the folder's `site`."""
    words = [sys.executable, *map(str, words)]
    return subprocess.run(
        words, cwd=folder, env=environment(folder), capture_output=True, text=True
    )


def table(path, rows, fault=slice(0, 0)):
    """Two coupled channels, a row a second, far off in the rows of a fault."""
    time = np.datetime64("2026-01-05", "s") + np.arange(rows)
    load = np.sin(np.arange(rows) / 9) + np.random.default_rng(0).normal(0, 0.05, (2, rows))
    load[:, fault] += 40.0
    lines = [f"{t}Z,{a:.4f},{b:.4f}" for t, a, b in zip(time, *load, strict=True)]
    path.write_text("\n".join(["timestamp,cpu,memory", *lines]) + "\n")


def test_the_document_shows_one_file_a_member():
    assert [name for name, _ in BLOCKS] == [
        "pyproject.toml",
        *(f"src/imdiffusion_more/{name}.py" for name in ("diagonal", "gru", "folder")),
        "test_contracts.py",
    ]


@pytest.mark.slow
def test_its_contract_test_passes(project):
    done = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contracts.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.slow
def test_its_names_are_choices_everywhere(project):
    schema = json.loads(python(project, "-m", "imdiffusion", "config", "schema").stdout)
    assert "diagonal" in schema["properties"]["mask"]["enum"]
    assert "gru" in schema["properties"]["denoiser"]["enum"]
    (project / "fit.toml").write_text('mask = "diagonal"\ndenoiser = "gru"\n')
    done = python(project, "-m", "imdiffusion", "config", "check", "fit.toml")
    assert "fit.toml is right" in done.stdout, done.stderr
    words = ("fit", "train.csv", "--model", "no", "--set", "mask=diagnal")
    done = python(project, "-m", "imdiffusion", *words)
    assert done.returncode == 4
    assert "Did you mean 'diagonal'" in done.stderr


@pytest.mark.slow
def test_a_detector_is_fitted_with_it_and_its_events_reach_the_sink(project):
    done = python(project, "-m", "imdiffusion", "fit", "train.csv", "--model", "model", *WITH)
    assert done.returncode == 0, done.stderr
    table(project / "new.csv", 200, fault=slice(100, 110))
    (project / "live.toml").write_text(
        '[[source]]\ntype = "files"\npath = "new.csv"\npoll = 0.05\n[[model]]\nfolder = "model"\n'
        '[[sink]]\ntype = "folder"\npath = "events"\n[state]\npath = "state"\nscores = 1e5\n'
        "details = 1e5\nevents = 1e5\n[stream]\nevery = 0.05\n[fit]\nenabled = false\n"
    )
    words = [sys.executable, "-m", "imdiffusion", "serve", "--config", "live.toml", "--port", "0"]
    with subprocess.Popen(
        words, cwd=project, env=environment(project), stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 60
        while not list(project.glob("events/*.json")) and process.poll() is None:
            assert time.monotonic() < until, "no event came"
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 0, process.stderr.read()
    told = [json.loads(path.read_text()) for path in project.glob("events/*.json")]
    assert {one["detector"] for one in told} == {"fast"}
    assert all(one["start_iso"].startswith("2026-01-05T00:01:") for one in told)


@pytest.mark.slow
def test_a_denoiser_that_is_not_told_whose_window_it_sees_is_not_shared(project):
    code = (
        "import numpy as np; from imdiffusion import ImDiffusion\n"
        "x = np.random.default_rng(0).normal(size=(300, 2))\n"
        "ImDiffusion(denoiser='gru', scope='shared', window=20, width=8).fit({'a': x, 'b': x})"
    )
    done = python(project, "-c", code)
    assert "ConfigError: the denoiser 'gru' cannot be shared" in done.stderr


@pytest.fixture(name="broken")
def _broken(tmp_path):
    """A folder whose `site` has two distributions with entry points that cannot be used."""
    for name, points in {
        "imdiffusion-bad": "[imdiffusion.masks]\nabsent = nowhere:mask\nnameless = json:mask\n"
        "grating = json:loads\ntwice = json:loads\n[imdiffusion.sinks]\nabsent = nowhere:Sink\n"
        "[imdiffusion.commands]\nabsent = nowhere:app\n",
        "imdiffusion-worse": "[imdiffusion.masks]\ntwice = json:dumps\n",
    }.items():
        facts = tmp_path / "site" / f"{name.replace('-', '_')}-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(points)
    table(tmp_path / "train.csv", 300)
    return tmp_path


def test_an_entry_point_that_cannot_be_used_is_an_error_with_its_distribution(broken):
    told = {
        "absent": "of the distribution imdiffusion-bad, nowhere:mask, cannot be imported: Module",
        "nameless": "of the distribution imdiffusion-bad, json:mask, cannot be imported: Attribute",
        "twice": "is of more than one distribution: imdiffusion-bad, imdiffusion-worse",
        "grating": "is of more than one distribution: imdiffusion, imdiffusion-bad",
    }
    code = (
        f"from imdiffusion import registry\nfor name in {list(told)}:\n"
        "    try: registry.load('masks', name)\n    except ValueError as error: print(error)"
    )
    lines = python(broken, "-c", code).stdout.splitlines()
    for line, (name, said) in zip(lines, told.items(), strict=True):
        assert line.startswith(f"the mask {name!r} {said}")
        assert "ninstall imdiffusion-" in line
    words = ("fit", "train.csv", "--model", "m", "--set", "mask=absent", "--set", "views=network")
    done = python(broken, "-m", "imdiffusion", *words)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"error: the mask 'absent' {told['absent']}" in done.stderr
    assert not (broken / "m").exists()


def test_a_sink_or_verb_that_cannot_be_imported_is_named_too(broken):
    (broken / "live.toml").write_text('[[source]]\ntype = "host"\n[[sink]]\ntype = "absent"\n')
    for words, kind in (
        (("config", "check", "live.toml"), "sink"),
        (("absent",), "command"),
        (("--help",), "command"),
    ):
        done = python(broken, "-m", "imdiffusion", *words)
        assert done.returncode == 4
        assert f"the {kind} 'absent' of the distribution imdiffusion-bad" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_built_in_member_is_what_others_are_beside():
    assert registry.origin("masks", "grating") == "imdiffusion"
