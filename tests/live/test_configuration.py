"""`imdiffusion.toml`: what is right passes, what is wrong is said whole, with lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdiffusion.errors import ConfigError
from imdiffusion.live.config.errors import ProblemsError
from imdiffusion.live.config.parser import parse, read_configuration
from imdiffusion.live.config.schema import SECTIONS
from imdiffusion.schema import fields_of

ROOT = Path(__file__).parents[2]
HOST = '[[source]]\ntype = "host"\n'


def problems(text):
    with pytest.raises(ProblemsError) as caught:
        parse(text)
    return [str(problem) for problem in caught.value.problems]


def test_the_example_is_right_and_says_what_it_says():
    found = read_configuration(ROOT / "examples" / "imdiffusion.toml")
    assert [one.id for one in found.sources] == ["host", "web"]
    assert [one.type for one in found.sinks] == ["webhook", "files"]
    assert found.keywords["alarms_per_day"] == found.settings.alarms_per_day == 2.0
    assert found.alerts.quiet == 600.0
    assert found.state.details == 2.0
    assert found.stream.offline is False


def test_nothing_but_a_source_is_needed():
    found = parse(HOST)
    assert found.keywords["preset"] == "fast"
    assert found.settings.merge_gap == found.alerts.merge_gap
    assert found.sources[0].source() is not found.sources[0].source()


def test_everything_wrong_is_said_at_once_with_its_line():
    said = problems(
        "[detector]\nwindw = 3\nseed = -1\nlayers = 'x'\nwindow = 1\n"
        "[[source]]\ntype = 'hots'\n"
        "[[source]]\ntype = 'host'\nintervall = 3\n"
        "[[source]]\ntype = 'host'\ninterval = -3\n"
        "[[sink]]\ntype = 'webhook'\n"
        "[fit]\nrows = 3.5\nrefti = 1\nnice = 40\n[srve]\nx = 1\n"
    )
    expected = [
        ("line 2, [detector] windw", "'window'"),
        ("line 3, [detector] seed", "at least 0"),
        ("line 4, [detector] layers", "whole number"),
        ("line 5, [detector] window", "from 2 to"),
        ("line 7, [[source]] 1 type", "'host'"),
        ("line 10, [[source]] 2 intervall", "'interval'"),
        ("line 13, [[source]] 3 interval", "above zero"),
        ("line 15, [[sink]] 1 type", "url"),
        ("line 17, [fit] rows", "whole number"),
        ("line 18, [fit] refti", "'refit'"),
        ("line 19, [fit] nice", "from 0 to 19"),
        ("line 20, [srve]", "'serve'"),
    ]
    assert len(said) == len(expected), said
    for line, (place, word) in zip(said, expected, strict=True):
        assert line.startswith(place + ":"), line
        assert word in line


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no source"),
        ("x = ", "TOML"),
        ("source = 3\n", "[[source]]"),
        ("[source]\ntype = 'host'\n", "[[source]]"),
        (HOST + HOST, "id"),
        (HOST + "id = ''\n", "no id"),
        (HOST + "id = 'http'\n", "is taken"),
        (HOST + "[fit]\nrows = 50\n", "too few"),
        (HOST + "[fit]\nmost_rows = 400\n", "less than rows"),
        (HOST + "[serve]\ntls_key = 'k.pem'\n", "together"),
        (HOST + "[detector]\nwindow = 99\n", "patch_length"),
        (HOST + "[detector]\npreset = 'slow'\n", "'slow'"),
    ],
)
def test_what_is_refused(text, word):
    said = problems(text)
    assert len(said) == 1
    assert word in said[0]


def test_two_of_a_type_with_ids():
    found = parse(HOST + "id = 'a'\n" + HOST + "id = 'b'\n")
    assert [one.id for one in found.sources] == ["a", "b"]


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_configuration(tmp_path / "absent.toml")


def test_every_key_is_documented():
    page = (ROOT / "docs" / "live.md").read_text()
    for name, kind in SECTIONS.items():
        assert f"`[{name}]`" in page, name
        for key in fields_of(kind):
            assert f"| `{key}` |" in page, f"[{name}] {key}"
