"""Streams, colours, bars, exit codes: the manners of the command."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest
from tiny import Done, ended

import imdiffusion
from imdiffusion.cli.app import app

VERBS = (
    "demo",
    "doctor",
    "record",
    "fit",
    "enroll",
    "detect",
    "impute",
    "report",
    "model",
    "config",
)
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


def on_a_terminal(start, *words: object, streams: tuple[str, ...], **variables: str) -> Done:
    """Run with these streams on a pseudo-terminal, which is drained while it runs."""
    leader, follower = pty.openpty()
    settings = "; ".join(f"os.environ[{k!r}] = {v!r}" for k, v in variables.items())
    process = start(
        *words,
        before=f"import os; os.environ['TERM'] = 'xterm'; {settings}",
        **dict.fromkeys(streams, follower),
    )
    os.close(follower)
    seen = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    out, err = process.communicate(timeout=60)
    text = seen.decode()
    return Done(
        process.returncode,
        text if "stdout" in streams else out,
        text if "stderr" in streams else err,
    )


def test_progress_is_drawn_on_a_terminal_only(start, call, light, data):
    words = ("detect", data / "new.csv", "--model", light, "--json")
    shown = on_a_terminal(start, *words, streams=("stderr",))
    assert shown.code == 0
    assert "score" in shown.err
    assert "points/s" in shown.err
    assert "400/400" in shown.err
    json.loads(shown.out)
    assert "points/s" not in call(*words).err


def test_quiet_draws_and_says_nothing(start, call, light, data):
    words = ("detect", data / "new.csv", "--model", light, "--json", "--quiet")
    assert on_a_terminal(start, *words, streams=("stderr",)).err == ""
    done = call(*words)
    assert done.err == ""
    assert json.loads(done.out)["events"]


def test_colour_on_a_terminal_but_not_under_no_color(start, tmp_path):
    words = ("detect", tmp_path / "absent.csv", "--model", tmp_path)
    bright = on_a_terminal(start, *words, streams=("stderr",))
    plain = on_a_terminal(start, *words, streams=("stderr",), NO_COLOR="1")
    assert bright.code == plain.code == 4
    assert COLOUR.search(bright.err)
    assert not COLOUR.search(plain.err)


def test_a_table_is_drawn_on_a_terminal(start, light, data):
    shown = on_a_terminal(start, "detect", data / "new.csv", "--model", light, streams=("stdout",))
    assert "━" in shown.out or "─" in shown.out
    assert "cpu" in shown.out


def test_a_reader_that_leaves_is_no_error(start, light, data):
    process = start("detect", data / "new.csv", "--model", light, "--json")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=60) == 141
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def test_verbose_says_more_wherever_it_stands(call, model, data):
    words = ("detect", data / "new.csv", "--model", model)
    usual = call(*words)
    for loud in (("-v", *words), (*words, "-v"), (*words, "--verbose")):
        done = call(*loud)
        assert done.code == 0
        assert done.out == usual.out
        assert len(done.err) >= len(usual.err)


def test_version(call):
    done = call("--version")
    assert (done.code, done.out) == (0, f"imdiffusion {imdiffusion.__version__}\n")


def test_no_verb_prints_help(call):
    done = call()
    assert done.code == 0
    assert done.err == ""
    for verb in VERBS:
        assert verb in done.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_screen(call, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    done = call(verb, "--help")
    assert done.code == 0
    assert len(done.out.splitlines()) <= 60


def options(command, path=()):
    """Every option of every verb, with the verb."""
    for name, verb in getattr(command, "commands", {}).items():
        yield from options(verb, (*path, name))
    if not hasattr(command, "commands"):
        for parameter in command.params:
            yield " ".join(path), parameter


def test_every_option_has_one_sentence_of_help():
    from typer.main import get_command

    found = list(options(get_command(app)))
    assert len(found) > 50
    for verb, parameter in found:
        text = parameter.help
        assert text, f"{verb} {parameter.name}"
        assert text[0].isupper(), f"{verb} {parameter.name}"
        assert text.endswith("."), f"{verb} {parameter.name}"


@pytest.mark.parametrize(
    "words", [("fitt",), ("fit",), ("fit", "x.csv"), ("detect", "--nope"), ("record",)]
)
def test_usage_errors_exit_with_2(call, words):
    done = call(*words)
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err


def test_a_bug_keeps_its_traceback(start, light, data):
    broken = (
        "import imdiffusion.data.files as files\n"
        "def read(*words): raise RuntimeError('a bug')\n"
        "files.read = read"
    )
    done = ended(start("detect", data / "new.csv", "--model", light, before=broken))
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.rstrip().endswith("RuntimeError: a bug")


LIGHT = """
import sys
from imdiffusion.cli import main
try:
    main(["--help"])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def test_help_does_not_load_the_heavy_things():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert "imdiffusion.cli.fit" in done.stderr.split()
    assert not {"torch", "pyarrow", "scipy", "pandas"} & set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["detect", "none.csv", "--model", "none"]])
def test_the_module_is_the_command(words, tmp_path):
    """What is said, where, and the exit code are those of the console script's function."""
    entry = "import sys; from imdiffusion.cli import main; sys.exit(main())"
    script, module = (
        subprocess.run([sys.executable, *how, *words], capture_output=True, text=True, cwd=tmp_path)
        for how in (["-c", entry], ["-m", "imdiffusion"])
    )
    assert (module.returncode, module.stdout) == (script.returncode, script.stdout)
    assert module.stderr == script.stderr
    assert "imdiffusion" in module.stdout + module.stderr
    assert module.returncode == (0 if words == ["--help"] else 4)
