"""Every member of every table keeps its contract."""

import pytest

from imdiffusion import registry, testing
from imdiffusion.errors import ConfigError

MEMBERS = [(table, name) for table in registry.TABLES for name in registry.names(table)]


@pytest.mark.parametrize(("table", "name"), MEMBERS)
def test_member_keeps_its_contract(table: str, name: str) -> None:
    testing.check_member(table, name)


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
