"""Every member of every table keeps its contract."""

from collections.abc import Sequence

import pytest
from rigs import RIGS, TOOLS

from imdiffusion import registry, testing
from imdiffusion.errors import ConfigError
from imdiffusion.live.sinks.files import FilesSink
from imdiffusion.live.sources.files import FilesSource
from imdiffusion.records import Record
from imdiffusion.testing.rigs import SINK_RIGS, SOURCE_RIGS

MEMBERS = [(table, name) for table in registry.TABLES for name in registry.names(table)]


@pytest.mark.parametrize(("table", "name"), MEMBERS)
def test_member_keeps_its_contract(table: str, name: str) -> None:
    testing.check_member(table, name)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        pytest.param(*key, marks=[pytest.mark.tool(TOOLS[key])] if key in TOOLS else [])
        for key in RIGS
    ],
)
def test_a_source_or_sink_keeps_its_contract_against_its_far_side(table: str, name: str) -> None:
    check = {"sources": testing.check_source, "sinks": testing.check_sink}[table]
    with RIGS[table, name]() as rig:
        check(name, rig)


def test_every_source_and_sink_has_a_rig() -> None:
    built_in = {("sources", name) for name in SOURCE_RIGS} | {("sinks", name) for name in SINK_RIGS}
    live = {(table, name) for table, name in MEMBERS if table in ("sources", "sinks")}
    assert live == built_in | RIGS.keys(), "write one in tests/contracts/rigs.py"


class Forgetful(FilesSource):
    """Starts from its end, whatever the offset."""

    def open(self, offset: str | None) -> None:
        super().open(None)
        if offset is not None:
            while self.read(0.0) is not None:
                pass


class Doubling(FilesSink):
    """Writes what it is sent as often as it is sent."""

    def send(self, records: Sequence[Record]) -> None:
        super().send(records)
        self.flush()
        self._pending.clear()


@pytest.mark.parametrize(
    ("table", "made", "said"),
    [
        ("sources", Forgetful, "does not tell all"),
        ("sinks", Doubling, "records became"),
    ],
)
def test_a_broken_source_or_sink_is_caught(monkeypatch, table, made, said) -> None:
    monkeypatch.setattr("imdiffusion.testing.live._PATIENCE", 0.5)
    monkeypatch.setattr(registry, "load", lambda table, name: made)
    with pytest.raises(AssertionError, match=said):
        testing.check_member(table, "files")


def test_every_table_has_a_contract() -> None:
    assert set(testing.CHECKS) == set(registry.TABLES)


def test_a_broken_member_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    # The contract itself can fail: a "mask" that hides nothing, a schedule that does not fall.
    monkeypatch.setitem(registry.TABLES["masks"], "nothing", "numpy:ones")
    registry._members.cache_clear()
    try:
        with pytest.raises((AssertionError, TypeError)):
            testing.check_member("masks", "nothing")
    finally:
        monkeypatch.undo()
        registry._members.cache_clear()


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown mask 'gratng'\. Did you mean 'grating'"):
        registry.load("masks", "gratng")
