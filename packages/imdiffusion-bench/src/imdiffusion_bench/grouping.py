"""Which runs make one row of a table: those that are alike, and what they still owe."""

from __future__ import annotations

from imdiffusion.errors import DataError
from imdiffusion.settings import Settings
from imdiffusion_bench.detectors import LIMITS
from imdiffusion_bench.record import Record

DEFAULT = Settings().to_dict()


def asked_of(runs: list[Record]) -> list[tuple[str, int]]:
    """Every (entity, seed) that was asked for, in order of appearance.

    What no seed changes has a seed that nobody asked for: beside other runs it adds entities alone.
    """
    drawn = [run for run in runs if run.get("drawn", True)]
    seeds = dict.fromkeys(run["seed"] for run in drawn)
    seen = {run["entity"] for run in drawn}
    asked: dict[tuple[str, int], None] = {}
    for run in runs:
        whole = seeds and not run.get("drawn", True)
        if not whole:
            asked[run["entity"], run["seed"]] = None
        elif run["entity"] not in seen:
            asked |= dict.fromkeys((run["entity"], seed) for seed in seeds)
    return list(asked)


def expected(runs: list[Record], asked: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What this variant owes: all that was asked for, or one seed where seeds change nothing."""
    if runs[0].get("drawn", True):
        return asked
    only = runs[0]["seed"]
    return [(entity, only) for entity in dict.fromkeys(entity for entity, _ in asked)]


def check_alike(runs: list[Record]) -> None:
    """DataError where runs of one variant have different settings, or answer one question twice."""
    first = runs[0]
    seen: set[tuple[str, int]] = set()
    for run in runs:
        where = f"the variant {run['variant']!r} on {run['dataset']}"
        unlike = [key for key in first["settings"] | run["settings"] if not _agree(key, first, run)]
        if unlike or run["row"] != first["row"]:
            raise DataError(
                f"{where} has runs of different {', '.join(unlike) or 'detectors'}",
                remedy="Give them different names, or leave one of the files out.",
            )
        if (run["entity"], run["seed"]) in seen:
            raise DataError(
                f"{where} has two runs of entity {run['entity']} with seed {run['seed']}",
                remedy="Leave one of the files out.",
            )
        seen.add((run["entity"], run["seed"]))


def check_same_data(runs: list[Record]) -> None:
    """DataError where runs of one entity were made of different values or labels.

    Runs that do not say (of before 2026-11-30, or failed) agree with all.
    """
    said: dict[str, str] = {}
    for run in runs:
        digits = run.get("data")
        if digits is not None and said.setdefault(run["entity"], digits) != digits:
            raise DataError(
                f"{run['dataset']} {run['entity']}: runs of different data ({run['id']} is of "
                f"{digits}, others are of {said[run['entity']]})",
                remedy="Check the data folder (`imdiffusion bench check`), and measure again what "
                "was made of the wrong one.",
            )


def _agree(key: str, *runs: Record) -> bool:
    """Whether runs have the same value of a setting that asks for something. One that a run does
    not know came later, and was at its default then.
    """
    if key in LIMITS:
        return True
    found = {run["settings"].get(key, DEFAULT.get(key)) for run in runs} - {None}
    # Settings that came to take lists are text since: a width of 1 is "1".
    return len({str(value) for value in found}) < 2
