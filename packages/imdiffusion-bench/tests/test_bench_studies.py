"""Studies: runs that exist and share fits, tables worked out by hand, plots that are whole SVG"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from imdiffusion.errors import ConfigError, DataError
from imdiffusion_bench.detectors import make, settings_of
from imdiffusion_bench.generator import generate, open_generated
from imdiffusion_bench.measure import fit_key
from imdiffusion_bench.studies import STUDIES, cells, series, study

SIZES = [1, 2, 3, 5, 10, 20, 30, 50]
PROTOCOLS = ("label_free", "oracle", "paper")
METRICS = ("auc_pr", "f1", "vus_pr", "alarm_share_normal")


def record(dataset, variant, value, *, seed=0, **other):
    """A run in which every metric of every protocol has the same value."""
    return {
        "dataset": dataset,
        "variant": variant,
        "entity": "s0",
        "seed": seed,
        "status": "ok",
        "metrics": {protocol: dict.fromkeys(METRICS, value) for protocol in PROTOCOLS},
        "extra": {},
        **other,
    }


def all_records(asked, value=0.25):
    return [
        record(dataset, variant.name, value, seed=seed)
        for dataset in asked.datasets
        for variant in asked.variants
        for seed in asked.seeds
    ]


def cells_of(markdown, first):
    """The cells of the first row that begins with `first`, after it."""
    line = next(row for row in markdown.splitlines() if row.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_asks_for_runs_that_can_be_made(name):
    asked = study(name)
    assert asked.name == name
    assert asked.question.endswith("?")
    assert len(set(asked.datasets)) == len(asked.datasets)
    for dataset in asked.datasets:
        opened = open_generated(dataset)
        assert opened.name == dataset  # records are found by this very text
        assert opened.dials.rows_train == 3000
    assert len({variant.name for variant in asked.variants}) == len(asked.variants)
    for variant in asked.variants:
        settings_of(variant.detector, variant.settings)
    assert asked.plan.datasets == asked.datasets
    assert asked.plan.name == f"study:{name}"


@pytest.mark.parametrize(
    ("name", "fits"),
    [("complexity", 50), ("gratings", 72), ("imbalance", 18), ("ensembling", 8), ("variance", 30)],
)
def test_variants_share_fits_so_that_a_study_stays_small(name, fits):
    asked = study(name)
    networks = {fit_key(one) for one in asked.variants if one.detector in ("fast", "paper")}
    assert len(networks) * len(asked.datasets) * len(asked.seeds) == fits


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_tells_and_draws_its_runs_and_what_is_missing(name):
    asked = study(name)
    records = all_records(asked)
    records[0] |= {"status": "failed"}
    del records[0]["metrics"]
    told = asked.table(records)
    assert told.startswith(f"# {asked.question}\n")
    for heading in re.findall(r"^## .*(?:AUC|F1|VUS).*", told, flags=re.MULTILINE):
        named = re.findall("label-free|oracle|paper", heading)
        assert len(set(named)) == 1, heading  # one protocol a table
    assert "## What the numbers say" in told
    assert "## What they do not say" in told
    if name != "ensembling":  # its table is of errors of single steps
        assert "1 failed" in told
        assert "0.250" in told
    assert not re.search(r"\bnan\b", told)
    drawn = asked.plot(records)
    assert " ".join(drawn.get_suptitle().split()) == asked.question
    assert drawn.axes
    assert asked.plot(records[1:2]).axes  # a study that has only begun
    assert asked.table(records[1:2])


@pytest.mark.parametrize("name", STUDIES)
def test_records_of_something_else_are_no_study(name):
    with pytest.raises(DataError, match=f"no run of the study '{name}'"):
        study(name).table([record("SMD", "fast", 0.5)])


def test_an_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'gratings'"):
        study("grating")


def test_a_cell_is_mean_and_deviation_over_runs_and_counts_the_others():
    runs = [
        record("A", "x", 0.2, seed=0),
        record("A", "x", 0.4, seed=1),
        record("A", "x", 0.6, seed=2),
        record("A", "x", None, seed=3),
        {"dataset": "A", "variant": "x", "status": "failed"},
        record("A", "y", None),
        record("B", "x", 0.5),
    ]
    found = cells.cells(runs, cells.metric("oracle", "f1"))
    cell = found["A", "x"]
    assert (cell.mean, cell.std) == (pytest.approx(0.4), pytest.approx(0.2))
    assert str(cell) == "0.400 ± 0.200 (1 failed, 1 undefined)"
    assert str(found["A", "y"]) == "– (1 undefined)"  # never a zero
    assert str(found["B", "x"]) == "0.500"
    assert str(found["B", "y"]) == "–"
    assert math.isnan(found["B", "y"].mean)
    grid = found.grid("set", {"A": "a", "B": "b"}, {"x": "X", "y": "Y"}, turn=False)
    assert grid.splitlines()[0] == "| set | X | Y |"
    assert cells_of(grid, "b") == ["0.500", "–"]
    turned = found.grid("row", {"x": "X"}, {"B": "b", "A": "a"}, turn=True)
    assert cells_of(turned, "X")[0] == "0.500"
    assert cells.best({"a": 0.1, "b": math.nan, "c": 0.3}) == "c"
    assert cells.best({"b": math.nan}) == "–"


def test_a_protocol_is_never_read_for_another():
    one = record("A", "x", 0.1)
    one["metrics"]["paper"]["f1"] = 0.9
    assert cells.metric("paper", "f1")(one) == 0.9
    assert cells.metric("label_free", "f1")(one) == 0.1
    assert cells.metric("label_free", "f2")(one) is None
    assert cells.metric("nobody", "f1")(one) is None


def test_gratings_are_told_by_band_width_and_length():
    records = [
        record(series.of_length("level_shift", length), f"bands of {width} rows", value)
        for length in series.LENGTHS
        for width in series.WIDTHS
        for value in [0.9 if width >= length else 0.2]  # a band hides all of what it is as long as
    ]
    told = study("gratings").table(records)
    assert cells_of(told, "bands of 10 rows") == ["0.900"] * 3 + ["0.200"] * 3
    assert cells_of(told, "random points") == ["–"] * 6
    assert "level_shift of 20 rows" in told
    line = next(row for row in told.splitlines() if "level_shift of 20 rows" in row)
    assert "bands shorter than it 0.200, as long or longer 0.900" in line
    widths = [one.settings["bands"] for one in study("gratings").variants if "bands" in one.name]
    assert widths == [50, 25, 20, 10, 5, 2]


def test_imbalance_keeps_protocols_apart_and_the_random_row_in_sight():
    asked = study("imbalance")
    assert "random" in [one.detector for one in asked.variants]
    records = all_records(asked)
    for one in records:
        one["metrics"]["paper"]["f1"] = 0.875
    told = asked.table(records)
    parts = {part.partition("\n")[0]: part for part in told.split("\n## ")}
    paper = next(part for head, part in parts.items() if "paper protocol" in head)
    oracle = next(part for head, part in parts.items() if "oracle protocol" in head)
    assert cells_of(paper, "random") == ["0.875 ± 0.000"] * 6
    assert cells_of(oracle, "random") == ["0.250 ± 0.000"] * 6
    for share in series.SHARES:
        label = open_generated(series.of_share(share)).load("s0").truth.label()
        assert label.mean() == pytest.approx(share)


def test_ensembling_reads_the_curve_of_each_run():
    asked = study("ensembling")
    curve = [0.3, 0.4, 0.5, 0.6, 0.7, 0.6, 0.5, 0.4]
    records = all_records(asked)
    for one in records:
        one["extra"] = {
            "ensemble_sizes": SIZES,
            "ensemble_auc_pr": curve,
            "ensemble_voting": 0.55,
            "step_correlation": 0.8 if one["seed"] else 0.6,
        }
    short = {"ensemble_sizes": SIZES[:4], "ensemble_auc_pr": curve[:4], "step_correlation": None}
    told = asked.table(records)
    parts = {part.partition("\n")[0].partition(": ")[2]: part for part in told.split("\n## ")}
    short_one, long_one = asked.variants[0], asked.variants[3]
    assert (short_one.settings["sampling_steps"], long_one.settings["sampling_steps"]) == (20, 50)
    assert cells_of(parts[short_one.name], "0")[-3:] == ["–"] * 3  # sizes it has no steps for
    row = cells_of(parts[long_one.name], "0")
    assert row[0] == "0.700 ± 0.141"  # sqrt((.1^2 + .1^2) / 1)
    assert row[1:] == [f"{value:.3f} ± 0.000" for value in [*curve, 0.55]]
    assert "steps correlate 0.700; the best mean is over 10, +0.400 against the last alone" in told
    assert cells.last_steps(5)({"extra": short}) == 0.6
    assert cells.last_steps(10)({"extra": short}) is None
    assert cells.aside("step_correlation")({"extra": short}) is None
    assert cells.last_steps(1)({"extra": {}}) is None


def test_variance_compares_spreads():
    asked = study("variance")
    first, second = asked.variants[:2]
    dataset = asked.datasets[0]
    values = {first.name: [0.1, 0.2, 0.3, 0.4, 0.5], second.name: [0.2, 0.25, 0.3, 0.35, 0.4]}
    records = [
        record(dataset, variant, value, seed=seed)
        for variant, five in values.items()
        for seed, value in enumerate(five)
    ]
    told = asked.table(records)
    # the deviation of 1..5 is sqrt(2.5) = 1.581
    assert cells_of(told, first.name) == ["0.300 ± 0.158", "0.158", "1.00", "0.100", "0.500"]
    assert cells_of(told, second.name) == ["0.300 ± 0.079", "0.079", "0.50", "0.200", "0.400"]
    assert f"least spread {second.name} (0.079)" in told


def test_complexity_tells_the_change_from_low_to_high():
    low, high = (series.of_level("all kinds", "noise", level) for level in (0.02, 0.5))
    records = [record(low, "zscore", 0.75), record(high, "zscore", 0.5)]
    records += [
        record(series.of_kind("spike"), name, v) for name, v in [("fast", 0.6), ("pca_30", 0.9)]
    ]
    told = study("complexity").table(records)
    assert cells_of(told, "noise = 0.5")[5] == "0.500"
    line = next(row for row in told.splitlines() if row.startswith("- all kinds, noise from"))
    assert "zscore -0.250" in line
    assert "fast –" in line
    assert "- spike: best network fast 0.600, best baseline pca_30 0.900" in told


@pytest.mark.parametrize("name", ["gratings", "imbalance", "variance"])
def test_one_fit_serves_every_variant_of_its_group_for_real(name):
    asked = study(name)
    split = generate(rows_train=300, rows_test=150, anomaly_length=5)
    tiny = {"max_steps": 1, "width": 8, "layers": 1, "stride": 100}
    groups = {}
    for one in asked.variants:
        if one.detector == "fast":
            groups.setdefault(fit_key(one), []).append(one)
    variants = max(groups.values(), key=len)
    rows = [
        make(
            one.detector, settings_of(one.detector, {**one.settings, **tiny}), seed=0, device="cpu"
        )
        for one in variants
    ]
    with pytest.warns():  # a training of one step says that it is none
        rows[0].fit(split.train)
    scores = [rows[0].score(split.test)]
    for row in rows[1:]:
        scores.append(row.like(rows[0], split.train).score(split.test))
    for one in scores:
        assert one.score.shape == (150,)
        assert np.isfinite(one.score).all()
    assert len({one.score.tobytes() for one in scores}) == len(scores)  # no two the same
