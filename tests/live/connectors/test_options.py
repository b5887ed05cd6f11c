"""Options of sources and sinks: checked, and written down."""

from __future__ import annotations

import inspect
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.http import HttpOptions
from imdiffusion.live.connection.options import load_sink, load_source, options_of
from imdiffusion.live.sources.files import FilesSource

PAGES = [Path(__file__).parents[3] / "docs" / name for name in ("connectors.md", "prometheus.md")]
# Options that everything has that speaks HTTP: in a table of their own.
SHARED = {item.name for item in fields(HttpOptions)}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("file", {}, r"unknown source 'file'\. Did you mean 'files'"),
        ("files", {"paht": "x"}, r"source 'files': unknown option 'paht'\. .*'path'"),
        ("files", {}, r"source 'files': the option path is missing\. Give path = "),
        ("files", {"path": "x", "poll": -1.0}, r"source 'files': poll is -1\.0"),
    ],
)
def test_a_wrong_option_is_met_with_what_is_right(name, options, said):
    with pytest.raises(ConfigError, match=said):
        load_source(name, options)


def test_right_options_build_what_is_asked_for():
    source = load_source("files", {"path": "rows.csv", "poll": 2})
    assert isinstance(source, FilesSource)
    assert source.poll == 2
    assert load_sink("stdout", {"takes": ["event", "score"]}).takes == {"event", "score"}
    with pytest.raises(ConfigError, match="unknown sink 'stdot'"):
        load_sink("stdot", {})


# -- the pages


def tables() -> dict[str, dict[str, str]]:
    """Of each section of the pages, its options with their defaults as they are written there."""
    text = "".join(page.read_text() for page in PAGES)
    found = re.findall(r"^#{2,3} (.*?)\n(.*?)(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    row = re.compile(r"^\| `(\w+)` \| ([^|]*) \|", flags=re.MULTILINE)
    return {
        title: dict(row.findall(section.partition("| option |")[2].partition("\n\n")[0]))
        for title, section in found
    }


def written(default: object) -> set[str]:
    if default is inspect.Parameter.empty:
        return {"needed"}
    default = list(default) if isinstance(default, tuple) else default
    return {"not served"} if default is None else {f"`{default!r}`"}


@pytest.mark.parametrize("table", ["sources", "sinks"])
def test_the_pages_have_every_option_with_its_default(table):
    pages = tables()
    for name in registry.names(table):
        title = f"{table[:-1].capitalize()} `{name}`"
        known = {option: one.default for option, one in options_of(table, name).items()}
        if known.keys() >= SHARED:
            known = {option: known[option] for option in known if option not in SHARED}
        assert list(pages[title]) == list(known), title
        for option, default in known.items():
            shown = pages[title][option].replace('"', "'")
            assert shown in written(default), f"{title}: {option}"


def test_the_shared_options_stand_once():
    shared = tables()["Options of all HTTP connectors"]
    known = options_of("sources", "prometheus")
    assert shared.keys() == SHARED
    for option, shown in shared.items():
        assert shown in written(known[option].default), option


def test_the_examples_of_the_pages_are_right():
    text = "".join(page.read_text() for page in PAGES)
    examples = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) >= 9
    for example in examples:
        for kind, load in (("source", load_source), ("sink", load_sink)):
            for table in tomllib.loads(example).get(kind, ()):
                load(table.pop("type"), table)
