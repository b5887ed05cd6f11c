"""What is said below a table: gaps, failures, caps, and what no number stands for."""

import math

import pytest
from tiny_runs import failed, line_of, notes_of, only_block, run

from imdiffusion_bench.summary import summarise
from imdiffusion_bench.tables import markdown


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_what_is_not_defined_is_counted_and_no_zero(nothing):
    runs = [run("a", "e1", 0, add=4.0), run("a", "e1", 1, add=nothing), run("a", "e2", 0, add=8.0)]
    block = only_block(runs, "add")
    measure = block.rows[0].measures["add"]
    assert (measure.mean, measure.undefined) == (6.0, 1)
    assert any("Not defined" in n and "1 of 3 runs of a" in n for n in notes_of(block, "add"))


def test_what_no_run_defines_is_said_once():
    runs = [run(v, e, vus_pr=0.5, hit_100=None) for v in "ab" for e in ("e1", "e2")]
    told = notes_of(only_block(runs, "vus_pr", "hit_100"), "vus_pr", "hit_100")
    assert "Not defined in any run: HitRate@100%." in told
    assert not any("in no mean" in one for one in told)


def test_missing_and_failed_runs_are_counted_and_named():
    runs = [run("a", e, s, vus_pr=0.5) for e in ("e1", "e2") for s in (0, 1)]
    runs += [run("b", "e1", 0, vus_pr=0.6), run("b", "e2", 1, vus_pr=0.6), failed("b", "e1", 1)]
    block = only_block(runs, "vus_pr")
    row = block.rows[1]
    assert (row.ok, len(row.failed), row.missing) == (2, 1, (("e2", 0),))
    told = " ".join(notes_of(block, "vus_pr"))
    assert "Missing: 1 of 4 runs of b (e2 seed 0)" in told
    assert "Failed: 1 of 4 runs of b: fit, MemoryError: out of memory (e1 seed 1)" in told
    assert "runs of a" not in told


def test_rows_that_lack_the_same_are_named_together():
    runs = [run("a", e, f1=0.5, add=2.0) for e in ("e1", "e2", "e3")]
    runs += [run(name, "e1", f1=0.4, add=3.0) for name in "bc"]
    told = notes_of(only_block(runs, "f1", "add"), "f1", "add")
    assert "Missing: 2 of 3 runs each of b; c (e2 seed 0; e3 seed 0)." in told
    assert "† over fewer entities, not ranked: b (1 of 3); c (1 of 3) in all columns." in told


def test_a_row_of_fewer_seeds_is_named_and_its_other_seeds_are_no_gaps():
    runs = [run("a", e, s, vus_pr=0.5) for e in ("e1", "e2") for s in (0, 1, 2)]
    runs += [run("b", e, 0, vus_pr=0.6) for e in ("e1", "e2")] + [run("c", "e1", 0, vus_pr=0.7)]
    runs += [run("d", "e1", 1, vus_pr=0.5), failed("d", "e2", 0), failed("d", "e1", 0)]
    told = " ".join(notes_of(only_block(runs, "vus_pr"), "vus_pr"))
    assert "Run with seed 0 alone: b; c." in told
    assert "Run with seeds 0–1 alone: d." in told
    assert "Missing: 1 of 2 runs of c (e2 seed 0)." in told
    assert "Missing: 1 of 4 runs of d (e2 seed 1)." in told
    assert "runs of b" not in told
    rows = {row.variant: row for row in only_block(runs, "vus_pr").rows}
    assert [len(rows[name].lacking) for name in "abcd"] == [0, 0, 1, 1]
    assert len(rows["b"].missing) == 4


def test_a_cap_on_training_is_said():
    capped = {"max_steps": 500, "max_epochs": 0}
    peer = {"steps": 1500, "epochs": 1}
    runs = [run("a", f1=0.5, settings=capped), run("b", f1=0.4), run("c", settings=peer)]
    told = notes_of(only_block([*runs, run("d", f1=0.3, settings=capped)], "f1"), "f1")
    assert "Trained for at most 500 steps: a; d." in told
    assert "Trained for at most 1,500 steps or 1 epoch: c." in told
    assert not any(": b" in one for one in told if "Trained" in one)


def test_entities_are_named_up_to_five():
    five = only_block([run("a", f"e{e}", f1=0.5) for e in range(5)], "f1")
    assert "Entities: e0, e1, e2, e3, e4. Seeds: 0." in notes_of(five, "f1")
    six = only_block([run("a", f"e{e}", f1=0.5) for e in range(6)], "f1")
    assert "Entities: 6. Seeds: 0." in notes_of(six, "f1")


def test_a_part_of_a_known_set_is_said_to_be_one():
    block = only_block([run("a", "service0", f1=0.5, dataset="GCP")], "f1")
    assert "Entities: service0 (1 of the 30 of GCP). Seeds: 0." in notes_of(block, "f1")
    text = markdown(
        summarise(
            [run("a", "service0", f1=0.5, dataset="GCP")],
            protocol="label_free",
            metrics=["f1"],
        )
    )
    assert line_of(text, "a")[3] == "1 of 30"
    whole = only_block([run("a", f"e{n}", f1=0.5, dataset="ASD") for n in range(12)], "f1")
    assert "Entities: 12. Seeds: 0." in notes_of(whole, "f1")
