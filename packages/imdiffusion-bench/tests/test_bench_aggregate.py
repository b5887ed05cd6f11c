"""Variants against their base over all data sets, and what joining steps brings."""

from __future__ import annotations

from typing import Any

import pytest

from imdiffusion.errors import DataError
from imdiffusion_bench.aggregate import against_base, steps_joined


def run(
    variant: str, dataset: str, entity: str, seed: int, value: float | None, **extra: Any
) -> dict[str, Any]:
    return {
        "status": "ok",
        "variant": variant,
        "dataset": dataset,
        "entity": entity,
        "seed": seed,
        "metrics": {"label_free": {"vus_pr": value, "add": value}},
        "extra": extra,
    }


def pairs(base: list[float], other: list[float]) -> list[dict[str, Any]]:
    """One entity a value, in two data sets that have entities of the same names."""
    made = []
    for at, (one, two) in enumerate(zip(base, other, strict=True)):
        where = ("A" if at % 2 else "B", f"e{at // 2}", 0)
        made += [run("base", *where, one), run("other", *where, two)]
    return made


def line(text: str, name: str) -> list[str]:
    found = next(row for row in text.splitlines() if row.startswith(f"| {name} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_variant_stands_beside_its_base_with_its_change_and_p() -> None:
    # Six entities, all better: the exact two-sided p is 2 / 2^6 = .031.
    runs = pairs([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.32, 0.44, 0.56, 0.68, 0.8])
    runs += [run("worse", "A", "e0", 0, 0.05)]
    text = against_base(runs, protocol="label_free", metric="vus_pr")
    other = line(text, "other")
    assert other[1:5] == ["0.350", "0.500", "+0.150", "6 of 6"]
    assert other[5:] == ["p = 0.031", "p = 0.062"]
    assert line(text, "worse")[1:5] == ["0.200", "0.050", "-0.150", "0 of 1"]
    assert text.index("| other |") < text.index("| worse |")
    less = against_base(runs, protocol="label_free", metric="add")
    assert line(less, "other")[4] == "0 of 6"
    assert less.index("| worse |") < less.index("| other |")


def test_only_what_both_have_is_compared() -> None:
    runs = [
        run("base", "A", "e", 0, 0.1),
        run("base", "A", "e", 1, 0.3),
        run("base", "A", "f", 0, 0.9),
        run("other", "A", "e", 1, 0.4),
        run("other", "A", "e", 2, 0.9),
        run("other", "B", "e", 1, 0.9),
        run("other", "A", "f", 0, None),
        {**run("other", "A", "f", 0, 0.1), "status": "failed"},
    ]
    text = against_base(runs, protocol="label_free", metric="vus_pr")
    assert line(text, "other")[1:5] == ["0.300", "0.400", "+0.100", "1 of 1"]
    with pytest.raises(DataError, match="'base'"):
        against_base(runs[3:], protocol="label_free", metric="vus_pr")


def test_the_curve_over_steps_and_how_alike_they_are() -> None:
    both = {"ensemble_sizes": [1, 2, 5], "step_correlation": 0.5}
    runs = [
        run("a", "A", "e", 0, 0.0, **both, ensemble_auc_pr=[0.1, 0.2, 0.4]),
        run("a", "A", "e", 1, 0.0, **both, ensemble_auc_pr=[0.3, 0.4, None]),
        run("one step", "A", "e", 0, 0.0, ensemble_sizes=[1], ensemble_auc_pr=[0.9]),
        run("none", "A", "e", 0, 0.0),
    ]
    text = steps_joined(runs)
    assert line(text, "a")[1:] == ["0.200", "0.300", "0.400", "0.500"]
    assert "one step" not in text
    assert "| none |" not in text
    assert steps_joined(runs[2:]) == ""
