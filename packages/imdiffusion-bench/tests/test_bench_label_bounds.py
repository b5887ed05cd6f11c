"""What labels allow, worked out by hand."""

import numpy as np
import pytest
from tiny_data import ANOMALY, write_set

from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.label_bounds import SLIPS, best_rows, hopeless, late, slipped, wider


def label(*spans, rows=20):
    marked = np.zeros(rows, bool)
    for start, end in spans:
        marked[start:end] = True
    return marked


def test_labels_slip_as_they_say():
    one = label((0, 3), (10, 12), (18, 20))
    assert np.array_equal(late(one, 2), label((2, 5), (12, 14)))
    assert np.array_equal(wider(one, 1), label((0, 4), (9, 13), (17, 20)))
    assert np.array_equal(wider(one, 4), label((0, 20)))
    assert np.array_equal(late(one, 0), one)
    assert np.array_equal(wider(one, 0), one)


def test_a_slipped_label_is_worth_what_its_overlap_is(tmp_path):
    source = open_source("SMD", write_set(tmp_path))
    found = slipped(source, source.entities())
    assert list(found) == list(SLIPS)
    # 30 rows of 400, 10 rows late: of 30 rows in alarm 20 are right, of the others 10.
    length = ANOMALY.stop - ANOMALY.start
    at, rest = 20 / length, 10 / length
    expected = at * at + rest * length / 400
    assert found["the label, 10 rows late"]["auc_pr"] == pytest.approx(expected)
    assert found["the label, 10 rows late"]["event_f1"] == 1.0
    assert found["the label, 30 rows late"]["event_f1"] == 0.0
    area = [found[f"the label, {rows} rows wider at both ends"]["vus_pr"] for rows in (10, 30, 100)]
    assert area == sorted(area, reverse=True)
    assert found["the label, 30 rows late"]["vus_pr"] < found["the label, 10 rows late"]["vus_pr"]


def run(row, entity, value, seed=0, status="ok"):
    facts = {"dataset": "SMD", "detector": row, "variant": row, "entity": entity, "seed": seed}
    return {**facts, "status": status, "metrics": {"label_free": {"vus_pr": value}}}


def test_the_best_of_all_rows_is_of_means_over_seeds():
    runs = [run("a", "x", 0.1), run("a", "x", 0.9, 1), run("b", "x", 0.6), run("b", "y", 0.19)]
    runs += [run("a", "y", None), {**run("c", "x", 1.0), "status": "failed"}]
    assert best_rows(runs, "vus_pr") == {"SMD": {"x": 0.6, "y": 0.19}}
    assert best_rows(runs, "vus_pr", without=("b",)) == {"SMD": {"x": pytest.approx(0.5)}}
    assert hopeless({"x": 0.6, "y": 0.19, "z": 0.1}) == ["z", "y"]
