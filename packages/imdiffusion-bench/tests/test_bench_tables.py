"""Tables of runs: means worked out by hand, what is missing said, nothing mixed silently."""

import math

import pytest
from tiny_runs import failed, line_of, notes_of, only_block, run

from imdiffusion.errors import ConfigError, DataError
from imdiffusion_bench.columns import escaped
from imdiffusion_bench.published import PUBLISHED, PUBLISHED_MEANS, paper_table, published
from imdiffusion_bench.summary import protocols, summarise
from imdiffusion_bench.tables import markdown, overview


def test_the_mean_is_over_entities_of_means_over_seeds_and_the_std_over_seeds():
    # seeds 0, 1, 2 of e1: .2 .4 .6, of e2: .8 .8 .5
    values = {("e1", 0): 0.2, ("e1", 1): 0.4, ("e1", 2): 0.6}
    values |= {("e2", 0): 0.8, ("e2", 1): 0.8, ("e2", 2): 0.5}
    row = only_block([run("a", *key, vus_pr=v) for key, v in values.items()], "vus_pr").rows[0]
    measure = row.measures["vus_pr"]
    assert measure.by_entity == pytest.approx({"e1": 0.4, "e2": 0.7})
    assert measure.mean == pytest.approx(0.55)
    # means over entities by seed: .5, .6, .55; deviations -.05, .05, 0; variance .005 / 2
    assert measure.by_seed == pytest.approx({0: 0.5, 1: 0.6, 2: 0.55})
    assert measure.std == pytest.approx(0.05)


def test_an_entity_with_fewer_seeds_weighs_as_much_and_its_missing_seeds_leave_the_spread():
    runs = [run("a", "e1", s, vus_pr=v) for s, v in enumerate([0.0, 0.2, 1.0])]
    runs += [run("a", "e2", s, vus_pr=0.8) for s in (0, 1)]
    measure = only_block(runs, "vus_pr").rows[0].measures["vus_pr"]
    assert measure.mean == pytest.approx((0.4 + 0.8) / 2)
    assert set(measure.by_seed) == {0, 1}
    assert measure.std == pytest.approx(0.1 / math.sqrt(2))


def test_one_seed_has_no_spread():
    runs = [run("a", "e1", vus_pr=0.25), run("a", "e2", vus_pr=0.75)]
    assert math.isnan(only_block(runs, "vus_pr").rows[0].measures["vus_pr"].std)
    text = markdown(summarise(runs, protocol="label_free", metrics=["vus_pr"]))
    assert line_of(text, "a")[1] == "0.500"
    assert "±" not in text


def test_a_row_that_no_seed_changes_owes_no_seed_and_asks_for_none():
    runs = [run("a", e, s, vus_pr=0.5) for e in ("e1", "e2") for s in (3, 4)]
    runs += [run("z", e, 0, vus_pr=0.6) | {"drawn": False} for e in ("e1", "e2", "e3")]
    block = only_block(runs, "vus_pr")
    assert (block.seeds, block.entities) == ((3, 4), ("e1", "e2", "e3"))
    missing = {row.variant: row.missing for row in block.rows}
    assert missing == {"a": (("e3", 3), ("e3", 4)), "z": ()}
    alone = only_block(runs[4:], "vus_pr")
    assert (alone.seeds, alone.rows[0].missing) == ((0,), ())


def test_a_row_over_fewer_entities_is_marked_stands_last_and_is_not_ranked():
    runs = [run("good", e, vus_pr=v) for e, v in (("e1", 0.2), ("e2", 0.4), ("e3", 0.3))]
    runs += [run("bad", e, vus_pr=0.1) for e in ("e1", "e2", "e3")]
    # `lucky` has the easy entity alone: its mean is the highest
    runs += [run("lucky", "e2", vus_pr=0.5), failed("lucky", "e1"), failed("lucky", "e3")]
    summary = summarise(runs, protocol="label_free", metrics=["vus_pr"])
    (block,) = summary.blocks
    assert [row.variant for row in block.ordered("vus_pr")] == ["good", "bad", "lucky"]
    assert [row.variant for row in block.comparable("vus_pr")] == ["good", "bad"]
    assert block.matrix("vus_pr").tolist() == [[0.2, 0.1], [0.4, 0.1], [0.3, 0.1]]
    assert block.common("vus_pr") == (("e2",), {"good": 0.4, "bad": 0.1, "lucky": 0.5})
    text = markdown(summary)
    assert line_of(text, "lucky")[1:4] == ["0.500†", "†", "1 of 3"]
    assert line_of(text, "good")[2] == "best"
    assert "lucky (1 of 3) in VUS-PR, buffer 100" in text
    assert "VUS-PR, buffer 100 on the one entity that all have: good 0.400" in text


def test_a_metric_undefined_on_one_entity_takes_the_row_from_that_metrics_rank_alone():
    runs = [run("a", e, vus_pr=0.5, add=2.0) for e in ("e1", "e2")]
    runs += [run("b", "e1", vus_pr=0.4, add=None), run("b", "e2", vus_pr=0.4, add=1.0)]
    block = only_block(runs, "vus_pr", "add")
    assert [row.variant for row in block.comparable("vus_pr")] == ["a", "b"]
    assert [row.variant for row in block.comparable("add")] == ["a"]


def test_rows_are_sorted_by_the_first_metric_and_less_delay_is_better():
    runs = [run(name, add=add, f1=f1) for name, add, f1 in (("a", 9.0, 0.9), ("b", 3.0, 0.1))]
    by_delay = only_block(runs, "add", "f1").ordered("add")
    assert [row.variant for row in by_delay] == ["b", "a"]
    by_f1 = only_block(runs, "f1", "add").ordered("f1")
    assert [row.variant for row in by_f1] == ["a", "b"]


def test_protocols_are_never_mixed():
    one = run(label_free={"vus_pr": 0.5, "f1": 0.1}, paper={"f1": 0.9, "f1_last": 0.8})
    assert protocols([one]) == {"label_free": ("vus_pr", "f1"), "paper": ("f1", "f1_last")}
    with pytest.raises(ConfigError, match="belongs to paper; protocols are never mixed"):
        summarise([one], protocol="label_free", metrics=["vus_pr", "f1_last"])
    with pytest.raises(ConfigError, match="label_free"):
        summarise([one], protocol="labelfree", metrics=["f1"])
    free = summarise([one], protocol="label_free", metrics=["f1"])
    assert line_of(markdown(free), "a")[1] == "0.100"
    assert "### SET, protocol `label_free`" in markdown(free)
    assert "paper" not in markdown(free)


def test_point_adjusted_numbers_need_a_random_row_that_went_well():
    runs = [run("a", paper={"f1": 0.9})]
    with pytest.raises(DataError, match="random") as caught:
        markdown(summarise(runs, protocol="paper", metrics=["f1"]))
    assert "SET" in caught.value.what
    with pytest.raises(DataError, match="random"):
        paper_table(runs)
    with pytest.raises(DataError, match="random"):
        paper_table([*runs, failed("random")])
    noise = run("noise", row="random", paper={"f1": 0.8})
    text = markdown(summarise([*runs, noise], protocol="paper", metrics=["f1"]))
    assert "A random row is in the table." in text


def test_two_runs_of_one_question_or_with_other_settings_are_refused():
    ask = {"protocol": "label_free", "metrics": ["f1"]}
    with pytest.raises(DataError, match="two runs of entity e1 with seed 0"):
        summarise([run(f1=0.1), run(f1=0.2)], **ask)
    two = [run(f1=0.1, settings={"max_steps": n}, seed=n) for n in (5, 6)]
    with pytest.raises(DataError, match="different max_steps"):
        summarise(two, **ask)
    with pytest.raises(DataError, match="different detectors"):
        summarise([run(f1=0.1), run(f1=0.1, seed=1, row="other")], **ask)
    widths = [run(f1=0.1, settings={"smooth": w}, seed=n) for n, w in enumerate((1, "1"))]
    summarise(widths, **ask)  # a setting that came to take lists is the same in either spelling
    # A setting that came later was at its default before.
    before = run(f1=0.1, settings={"width": 64})
    summarise([before, run(f1=0.1, settings={"width": 64, "subset_share": 0.5}, seed=1)], **ask)
    summarise([before, run(f1=0.1, settings={"width": 64, "smooth": "1"}, seed=1)], **ask)
    with pytest.raises(DataError, match="different subset_share"):
        summarise([before, run(f1=0.1, settings={"width": 64, "subset_share": 0.2}, seed=1)], **ask)
    # How long an answer might take was no part of the question.
    summarise([run(f1=0.1, settings={"timeout_s": n}, seed=n) for n in (5, 6)], **ask)
    with pytest.raises(DataError, match="no runs"):
        summarise([], **ask)
    with pytest.raises(ConfigError, match="no metric"):
        summarise([run(f1=0.1)], protocol="label_free", metrics=[])


def test_runs_of_one_entity_on_different_data_are_refused():
    ask = {"protocol": "label_free", "metrics": ["f1"]}
    one, two = (run(f1=0.1, seed=seed) | {"data": "a"} for seed in (0, 1))
    older = run("b", f1=0.1)  # of before runs said it
    other = run("b", "e2", f1=0.1) | {"data": "b"}
    summarise([one, two, older, other], **ask)
    with pytest.raises(DataError, match="SET e1: runs of different data"):
        summarise([one, two | {"data": "b", "id": "second"}], **ask)


def test_costs_are_means_a_run_speed_is_of_all_rows_and_memory_the_peak():
    runs = [run("a", "e1", f1=0.5), run("a", "e2", f1=0.5, settings={})]
    runs[1] |= {"seconds": {"fit": 30.0, "score": 8.0}, "memory_mib": 300.0}
    runs[1]["rows"] = {"train": 1, "test": 4000}
    row = only_block(runs, "f1").rows[0]
    assert (row.fit_s, row.score_s, row.memory_mib) == (20.0, 5.0, 300.0)
    assert row.rows_per_second == 500.0


def test_few_entities_have_no_test_and_many_have_marks():
    few = [run(v, f"e{e}", f1=0.5) for v in "ab" for e in range(5)]
    assert any("too few entities" in note for note in notes_of(only_block(few, "f1"), "f1"))
    many = [run("a", f"e{e}", f1=0.5 + e / 100) for e in range(8)]
    many += [run("b", f"e{e}", f1=0.49 + e / 100 + 0.02 * (e % 2)) for e in range(8)]
    many += [run("c", f"e{e}", f1=0.1) for e in range(8)]
    text = markdown(summarise(many, protocol="label_free", metrics=["f1"]))
    marks = {name: line_of(text, name)[2] for name in "abc"}
    assert sorted(marks.values()) == ["", "best", "≈"]
    assert marks["c"] == ""
    assert "8 entities" in text


def test_a_search_for_a_threshold_has_no_other_name_in_older_runs():
    old = run("peer", label_free={}, paper={"f1": 0.7, "xi": None})
    voted = run("fast", label_free={}, paper={"f1": 0.4, "xi": 3.0, "f1_threshold": 0.6})
    before = run("paper", label_free={}, paper={"f1": 0.5, "xi": 2.0})
    block = only_block([old, voted, before], "f1_threshold", protocol="paper")
    means = {row.variant: row.measures["f1_threshold"].mean for row in block.rows}
    assert (means["peer"], means["fast"]) == (0.7, 0.6)
    assert math.isnan(means["paper"])


def test_the_overview_averages_over_data_sets_only_what_is_whole():
    runs = [run("a", dataset="X", f1=0.2), run("a", dataset="Y", f1=0.6)]
    runs += [run("b", dataset="X", f1=0.9), run("b", dataset="Y", entity="e9", f1=0.9)]
    found = overview(summarise(runs, protocol="label_free", metrics=["f1"]))
    assert found.head == ("variant", "X", "Y", "mean")
    assert {line[0]: line[1:] for line in found.lines} == {
        "a": ("0.200", "0.600†", "–"),
        "b": ("0.900", "0.900†", "–"),
    }
    whole = overview(summarise(runs[:3], protocol="label_free", metrics=["f1"]))
    assert whole.lines[0] == ("a", "0.200", "0.600", "0.400")
    assert whole.lines[1] == ("b", "0.900", "–", "–")


def test_names_cannot_break_a_table():
    name = "a|b\n<script>`x`*[y](z)\x00\u202e"
    text = markdown(summarise([run(name, f1=0.5)], protocol="label_free", metrics=["f1"]))
    (line,) = [one for one in text.splitlines() if one.startswith("| a")]
    assert line.startswith("| a\\|b &lt;script&gt;\\`x\\`\\*\\[y\\](z)�� |")
    assert escaped("x_1 50 %") == "x_1 50 %"


def test_the_papers_figures_stand_beside_ours():
    paper = {"precision": 0.9, "recall": 0.8, "r_auc_pr": 0.3, "add": 6.0, "add_last": 8.0}
    runs = [run("a", f"e{e}", s, dataset="SMD", paper={**paper, "f1": f1, "f1_last": 0.8})
            for e in range(2) for s, f1 in enumerate([0.8, 0.9])]  # fmt: skip
    runs += [run("random", f"e{e}", s, dataset="SMD", paper={**paper, "f1": 0.7})
             for e in range(2) for s in range(2)]  # fmt: skip
    text = paper_table(runs)
    assert line_of(text, "published ImDiffusion")[1:6] == [
        "0.9520",
        "0.9509",
        "0.9488",
        "0.0039",
        "0.3821",
    ]
    assert line_of(text, "a")[1:7] == ["0.900", "0.800", "0.850", "0.071", "0.300", "6.0"]
    assert "F1 +6.25% (published +0.73%), ADD -25.00% (published -35.80%)" in text
    noise = [one["metrics"]["paper"] for one in runs if one["variant"] == "random"]
    for metrics in noise:
        metrics["f1_last"] = metrics["add_last"] = None  # as of a row without steps
    assert "Not defined" not in paper_table(runs)
    assert "random, ensemble" not in paper_table(runs)
    other = paper_table([{**one, "dataset": "ASD"} for one in runs])
    assert "no figures for this data set" in other


def test_an_ensemble_is_not_set_against_other_entities():
    runs = [run("random", e, paper={"f1": 0.8, "f1_last": 0.4}) for e in ("e1", "e2")]
    assert "ensemble against its last step: F1 +100.00%" in paper_table(runs)
    runs[1]["metrics"]["paper"]["f1_last"] = None
    assert "ensemble against" not in paper_table(runs)


def test_the_published_figures_agree_with_each_other():
    mean_f1 = sum(one.f1 for one in PUBLISHED.values()) / len(PUBLISHED)
    mean_area = sum(one.r_auc_pr for one in PUBLISHED.values()) / len(PUBLISHED)
    assert (mean_f1, mean_area) == pytest.approx(PUBLISHED_MEANS["ImDiffusion"], abs=6e-5)
    assert published("SMAP-concatenated") == PUBLISHED["SMAP"]
    assert published("ASD") is None


def test_runs_that_all_failed_still_make_a_table():
    text = markdown(summarise([failed("a")], protocol="label_free", metrics=["f1"]))
    assert line_of(text, "a")[1] == "–"
    assert "Failed: 1 of 1 runs of a" in text
