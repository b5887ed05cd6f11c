"""The plan that the options of `imdiffusion bench run` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdiffusion.errors import ConfigError, UsageError
from imdiffusion.settings import Scalar

if TYPE_CHECKING:
    from imdiffusion_bench.plan import Plan, Variant


def asked_plan(
    name: str | None,
    sets: str | None,
    entities: str | None,
    rows: str | None,
    seeds: str | None,
    overrides: Sequence[str] | None,
    *,
    root: Path | None,
) -> Plan:
    """The plan of this name, with what the options say instead; without a name, the options alone.

    A row that the plan has stays as the plan has it, in all its variants.

    Raises UsageError for an option that says nothing or names no entity, ConfigError for an
    unknown plan or setting, DataError where data sets are to be looked up and are not in `root`.
    """
    from imdiffusion_bench.plan import Plan, Variant
    from imdiffusion_bench.plans import PAPER_OWN
    from imdiffusion_bench.plans import plan as named
    from imdiffusion_bench.runner import check_root

    if name is None and not (sets and rows):
        raise UsageError(
            "nothing to measure is named", remedy="Give a plan, or both --sets and --rows."
        )
    asked = Plan("own", (), ()) if name is None else named(name)
    variants, own = asked.variants, asked.own
    if rows is not None:
        variants = tuple(
            variant
            for row in words("--rows", rows)
            for variant in [one for one in asked.variants if one.row == row] or [Variant(row, row)]
        )
        own = own or PAPER_OWN
    plan = Plan(
        asked.name,
        asked.datasets if sets is None else _data_sets("--sets", sets),
        _with_settings(variants, overrides or ()),
        asked.seeds if seeds is None else seeds_of(seeds),
        asked.entities,
        own,
    )
    check_root(root, plan)
    return plan if entities is None else _only(plan, _data_sets("--entities", entities), root)


def words(option: str, text: str) -> tuple[str, ...]:
    """ "a, b,a" -> ("a", "b")."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise UsageError(f"{option} {text!r} names nothing", remedy="For instance A,B.")
    return found


def _data_sets(option: str, text: str) -> tuple[str, ...]:
    """As `words`, but "key=value" belongs to the generated set before it, as its name has it."""
    from imdiffusion_bench.sources import needs_folder

    found: list[str] = []
    for word in (word.strip() for word in text.split(",")):
        dial = "=" in word.partition(":")[0]
        if dial and found and ":" in found[-1] and not needs_folder(found[-1]):
            found[-1] += f",{word}"
        else:
            found.append(word)
    return tuple(dict.fromkeys(filter(None, found))) or words(option, text)


def seeds_of(text: str) -> tuple[int, ...]:
    """ "0-2,7" -> (0, 1, 2, 7)."""
    found: list[int] = []
    for word in words("--seeds", text):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or not (last if dash else first).isdecimal():
            raise UsageError(f"--seeds {text} is no list of seeds", remedy="For instance 0-2,7.")
        several = range(int(first), int(last or first) + 1)
        if not several:
            raise UsageError(
                f"--seeds {text}: there is no seed from {first} to {last}",
                remedy=f"Write {last}-{first}.",
            )
        found += several
    return tuple(dict.fromkeys(found))


def _with_settings(variants: Sequence[Variant], pairs: Sequence[str]) -> tuple[Variant, ...]:
    """Each variant with the settings that its row knows, and with a name that says so."""
    from imdiffusion.cli.keywords import assignments
    from imdiffusion_bench.detectors import settings_of
    from imdiffusion_bench.plan import Variant

    given: dict[str, Scalar] = assignments(pairs)
    known = {one.row: settings_of(one.row, {}) for one in variants} if given else {}
    for key, value in given.items():
        if not any(key in settings for settings in known.values()):
            settings_of(variants[0].row, {key: value})  # raises, and says what is near
    changed = []
    for one in variants:
        own = {key: value for key, value in given.items() if key in known[one.row]}
        name = ", ".join([one.name, *(f"{key}={value}" for key, value in own.items())])
        changed.append(Variant(name, one.row, {**one.settings, **own}))
    return tuple(changed)


def _only(plan: Plan, wanted: Sequence[str], root: Path | None) -> Plan:
    """The plan on these entities alone: "SET/ENTITY", or "ENTITY" of every set that has it."""
    from imdiffusion.registry import nearest
    from imdiffusion_bench.sources import open_source

    known = {name: open_source(name, root).entities() for name in plan.datasets}
    chosen: dict[str, list[str]] = {name: [] for name in known}
    for word in wanted:
        dataset, _, entity = word.rpartition("/")
        if dataset and dataset not in known:
            raise UsageError(
                f"--entities {word}: {dataset} is none of the data sets",
                remedy=f"They are {', '.join(known)}.",
            )
        places = [dataset] if dataset else list(known)
        there = [name for name in places if entity in known[name]]
        if not there:
            raise UsageError(
                f"--entities {word}: no such entity in {dataset or 'any of the data sets'}",
                remedy=nearest(entity, {one for name in places for one in known[name]}),
            )
        for name in there:
            chosen[name].append(entity)
    entities = {name: tuple(dict.fromkeys(found)) for name, found in chosen.items() if found}
    return replace(plan, datasets=tuple(entities), entities=entities)
