"""Options of sources and sinks: checked, and written down."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal

import pytest

from imdiffusion import registry
from imdiffusion.connectors.files_source import FilesSource
from imdiffusion.connectors.options import load_sink, load_source, options_of, takes_of
from imdiffusion.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "connectors.md"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("file", {}, r"unknown source 'file'\. Did you mean 'files'"),
        ("files", {"paht": "x"}, r"unknown option 'paht' of the source 'files'\. .*'path'"),
        ("files", {}, r"the source 'files' needs the option 'path'\. Give path = "),
        ("files", {"path": 3}, r"option 'path' of the source 'files' is 3\. Give text"),
        ("files", {"path": "x", "poll": "1"}, r"option 'poll' .* is '1'\. Give a number"),
        ("files", {"path": "x", "poll": True}, r"option 'poll' .* is True\. Give a number"),
        ("files", {"path": "x", "batch_rows": 1.5}, r"is 1\.5\. Give a whole number"),
        ("files", {"path": "x", "poll": float("nan")}, r"source 'files': poll is nan"),
        ("kafka", {"servers": "x", "topic": "t", "start": "late"}, r"is 'late'\. .*'latest'"),
    ],
)
def test_a_wrong_option_is_met_with_what_is_right(name, options, said):
    with pytest.raises(ConfigError, match=said):
        load_source(name, options)


def test_right_options_build_what_is_asked_for():
    source = load_source("files", {"path": "rows.csv", "poll": 2})
    assert isinstance(source, FilesSource)
    assert source.poll == 2
    assert load_sink("stdout", {"takes": " event ,score"}).takes == {"event", "score"}
    with pytest.raises(ConfigError, match="unknown sink 'stdot'"):
        load_sink("stdot", {})
    for text in ("", " , ", "events"):
        with pytest.raises(ConfigError, match="takes"):
            takes_of(text)


class Typed:
    def __init__(
        self, *, flag: bool = False, name: str | None = None, way: Literal["a", "b"] = "a"
    ) -> None:
        self.given = (flag, name, way)


def test_flags_choices_and_what_may_be_left_out(monkeypatch):
    monkeypatch.setattr(registry, "load", lambda table, name: Typed)
    assert load_source("typed", {"flag": True, "name": "n", "way": "b"}).given == (True, "n", "b")
    for options in ({"flag": 1}, {"name": 1}, {"way": "c"}, {"name": False}):
        with pytest.raises(ConfigError, match=f"option '{next(iter(options))}'"):
            load_source("typed", options)


# -- the page


def sections() -> dict[str, str]:
    text = PAGE.read_text()
    return dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL))


def test_the_page_has_every_option_of_what_it_describes():
    described = 0
    for title, text in sections().items():
        found = re.fullmatch(r"(Source|Sink) `(\w+)`", title)
        if found is None:
            continue
        described += 1
        listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
        known = options_of(f"{found[1].lower()}s", found[2])
        assert listed == list(known), title
        for option, (_, default) in known.items():
            row = re.search(rf"^\| `{option}` \| ([^|]*) \|", text, flags=re.MULTILINE)
            shown = "needed" if not isinstance(default, str | int | float) else f"`{default!r}`"
            assert row[1].replace('"', "'") == shown, f"{title}: {option}"
    assert described == 8


def test_the_examples_of_the_page_are_right():
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(examples) >= 8
    for example in examples:
        for kind, load in (("source", load_source), ("sink", load_sink)):
            for table in tomllib.loads(example).get(kind, ()):
                load(table.pop("type"), table)
