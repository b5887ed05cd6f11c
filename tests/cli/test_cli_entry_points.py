"""Verbs of other distributions: declared by an entry point, imported when called, not before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imdiffusion import registry
from imdiffusion.cli import main

VERB = """
import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Say what is weighed.")

@app.command()
def weigh(ctx: typer.Context, what: str) -> None:
    "Weigh it."
    ctx.obj.emit(f"{what} is light")

@app.command()
def fail() -> None:
    "Fail."
    from imdiffusion.errors import DataError
    raise DataError("no scales", remedy="Buy some.")
"""


@pytest.fixture(name="call")
def _call(tmp_path: Path):
    """The command line in a process that sees a distribution with the verb `scales`."""
    site = tmp_path / "site"
    (site / "scales-1.0.dist-info").mkdir(parents=True)
    (site / "scales_cli.py").write_text(VERB)
    facts = site / "scales-1.0.dist-info"
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: scales\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[imdiffusion.commands]\nscales = scales_cli:app\n")

    def call(*words: str, program: str = "") -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        code = f"import sys; from imdiffusion.cli import main{program}\nmain({list(words)!r})"
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "100"},
            capture_output=True,
            text=True,
        )

    return call


def test_a_verb_joins_with_its_help_its_output_and_its_errors(call):
    assert "Say what is weighed." in call("--help").stdout
    done = call("scales", "weigh", "a feather")
    assert (done.returncode, done.stdout) == (0, "a feather is light\n"), done.stderr
    done = call("scales", "fail")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: no scales. Buy some.\n"
    assert "weigh" in call("scales", "-h").stdout


def test_it_is_not_imported_for_other_verbs(call):
    told = "\nimport atexit; atexit.register(lambda: print('scales_cli' in sys.modules))"
    for words in (("--version",), ("config", "schema")):
        done = call(*words, program=told)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("False\n")
    assert call("scales", "weigh", "it", program=told).stdout.endswith("True\n")


def test_a_verb_whose_distribution_is_absent_names_it(monkeypatch, capsys):
    monkeypatch.setattr(registry, "_joined", lambda _: {})
    with pytest.raises(SystemExit) as end:
        main(["bench", "names"])
    assert end.value.code == 2
    assert "pip install imdiffusion-bench" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["scales"])
    assert end.value.code == 2
    assert "pip install" not in capsys.readouterr().err
