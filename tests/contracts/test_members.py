"""Every member of every table keeps its contract, and a member that breaks it is caught."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from broken_members import BROKEN
from rigs import RIGS, TOOLS

from imdiffusion import registry, testing
from imdiffusion.errors import ConfigError
from imdiffusion.testing import connectors

MEMBERS = [(table, name) for table in registry.TABLES for name in registry.TABLES[table]]


@pytest.mark.parametrize(("table", "name"), MEMBERS)
def test_member_keeps_its_contract(table: str, name: str) -> None:
    testing.CHECKS[table](name)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        pytest.param(*key, marks=[pytest.mark.tool(TOOLS[key])] if key in TOOLS else [])
        for key in RIGS
    ],
)
def test_a_source_or_sink_keeps_its_contract_against_its_far_side(table: str, name: str) -> None:
    with RIGS[table, name]() as rig:
        testing.CHECKS[table](name, rig)


def test_every_table_has_a_contract_and_every_source_and_sink_a_rig() -> None:
    assert set(testing.CHECKS) == set(registry.TABLES)
    live = {(table, name) for table, name in MEMBERS if table in ("sources", "sinks")}
    assert live == RIGS.keys(), "write one in tests/contracts/rigs.py"


@pytest.mark.parametrize(("table", "member", "said"), BROKEN)
def test_a_broken_member_is_caught(monkeypatch, table, member, said) -> None:
    monkeypatch.setitem(registry.TABLES[table], "files", f"broken_members:{member.__name__}")
    monkeypatch.setattr(connectors, "PATIENCE", 0.3)
    kind = table[:-1].replace("_", " ")
    with (
        RIGS.get((table, "files"), nullcontext)() as rig,
        pytest.raises(AssertionError, match=said) as caught,
    ):
        testing.CHECKS[table](*("files",) if rig is None else ("files", rig))
    assert str(caught.value).startswith(f"{kind} 'files'")


def test_every_kind_that_others_add_has_broken_members() -> None:
    assert {table for table, *_ in BROKEN} == set(testing.CHECKS) - {"backends"}


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown mask 'gratng'\. Did you mean 'grating'"):
        registry.load("masks", "gratng")
