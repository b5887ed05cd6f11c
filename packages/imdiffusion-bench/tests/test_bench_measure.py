"""One group of runs: labels out of reach, fits that are shared, and all that a run says."""

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_detectors import FAST, ROWS, TINY, ZSCORE, group, label_of, split

from imdiffusion import fitting
from imdiffusion_bench.measure import fit_key, measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.split import digest_of
from imdiffusion_bench.workers import group_from_dict, group_to_dict

MODULE = import_module("imdiffusion_bench.measure")


@pytest.mark.parametrize("variant", [FAST, Variant("paper, tiny", "paper", TINY), *ROWS, ZSCORE])
def test_labels_are_out_of_reach_until_fit_and_score_are_over(variant):
    (found,) = measure(group(variant), split)
    assert found["status"] == "failed"
    assert found["stage"] == "evaluate"  # so fit and score went through without a label
    assert found["error"] == {
        "type": "AssertionError",
        "message": "somebody read the labels",
    }
    assert "metrics" not in found


def test_scores_are_the_same_whatever_the_labels_say():
    one, other = (
        next(iter(measure(group(FAST), lambda truth=truth: split(truth))))
        for truth in (label_of(), np.roll(label_of(), 90))
    )
    assert one["metrics"] != other["metrics"]
    assert one["extra"]["step_correlation"] == other["extra"]["step_correlation"]


def test_variants_that_differ_in_scoring_share_a_fit_and_score_as_if_they_did_not():
    blocks = Variant("3 bands", "fast", {**TINY, "smooth": (5,), "mask": "grating", "bands": 3})
    assert fit_key(FAST) == fit_key(blocks)
    assert fit_key(FAST) != fit_key(Variant("wide", "fast", {**TINY, "width": 16}))
    first, second = measure(group(FAST, blocks), lambda: split(label_of()))
    assert (first["fit_shared"], second["fit_shared"]) == (False, True)
    assert second["settings"]["bands"] == 3
    assert first["metrics"] != second["metrics"]
    again, alone = measure(group(FAST, FAST), lambda: split(label_of()))
    assert alone["metrics"] == again["metrics"] == first["metrics"]
    # what is left to do has no say in the fit: its leader has, whose checks chose the weights
    left = replace(group(blocks), leader=FAST)
    (rest,) = measure(group_from_dict(group_to_dict(left)), lambda: split(label_of()))
    assert (rest["fit_shared"], rest["fit_of"]) == (True, FAST.name)
    assert rest["metrics"] == second["metrics"]


def test_a_borrowed_fit_costs_its_training_and_one_calibration(monkeypatch):
    clock, calibrated = [0.0], fitting.calibrate

    def calibrate(*what, **how):
        clock[0] += 1000.0
        return calibrated(*what, **how)

    monkeypatch.setattr(fitting, "calibrate", calibrate)
    # The training has a clock of its own, which goes on as it does.
    monkeypatch.setattr(MODULE, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    bands = Variant("3 bands", "fast", {**TINY, "mask": "grating", "bands": 3})
    own, borrowed = measure(group(FAST, bands), lambda: split(label_of()))
    assert clock == [2000.0]
    assert own["seconds"]["fit"] == 1000.0
    assert 1000.0 < borrowed["seconds"]["fit"] < 1900.0


def test_baselines_of_the_same_settings_stand_alone():
    first, second = (Variant(name, "zscore") for name in ("one", "two"))
    assert fit_key(first) != fit_key(second)


def test_a_planted_anomaly_is_found_and_random_is_at_its_floor():
    zscore, random = (
        measure(group(ROWS[0]), lambda: split(label_of())),
        measure(group(ROWS[1]), lambda: split(label_of())),
    )
    share = label_of().mean()
    assert next(zscore)["metrics"]["label_free"]["auc_pr"] > 0.95
    assert abs(next(random)["metrics"]["label_free"]["auc_pr"] - share) < 0.08


def test_a_run_says_all_that_its_number_hangs_on():
    (found,) = measure(group(FAST), lambda: split(label_of()))
    assert found["settings"]["max_steps"] == 6
    assert found["versions"]["torch"]
    assert found["versions"]["numpy"] == np.__version__
    assert found["host"]["cores"] >= 1
    assert found["device"] == "cpu"
    assert found["rows"] == {"train": 300, "test": 300}
    assert found["channels"] == 3
    assert found["anomalous_share"] == pytest.approx(20 / 300)
    assert found["seconds"]["fit"] > 0
    assert found["seconds"]["score"] > 0
    assert found["memory_mib"] > 30
    assert found["gpu_memory_mib"] is None
    assert set(found["metrics"]) == {"label_free", "oracle", "paper"}


def test_a_run_says_which_data_it_is_of():
    made = split(label_of())
    (found,) = measure(group(ZSCORE), lambda: made)
    assert found["data"] == digest_of(made, label_of())
    values = made.test.values.copy()
    values[0, 0] += 1
    changed = replace(made, test=replace(made.test, values=values))
    moved = replace(made, train=replace(made.train, channels=("x", "y", "z")))
    others = [digest_of(changed, label_of()), digest_of(moved, label_of())]
    assert len({found["data"], *others, digest_of(made, ~label_of())}) == 4
    gaps = np.full(3, np.nan)
    signed = [np.vstack([sign * gaps, values[1:]]) for sign in (1, -1)]
    unseen = [replace(made, test=replace(made.test, values=one)) for one in signed]
    assert digest_of(unseen[0], label_of()) == digest_of(unseen[1], label_of())
