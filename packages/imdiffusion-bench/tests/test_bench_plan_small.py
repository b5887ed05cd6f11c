"""The small suite: is what the benchmark says believable where the truth is known?"""

import pytest

from imdiffusion_bench import record
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.detectors import names
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.runner import bench
from imdiffusion_bench.split import Split, Truth
from imdiffusion_bench.studies import named_plan


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The plan `small`, through the runner, as `imdiffusion bench run small` does it."""
    out = tmp_path_factory.mktemp("small") / "runs.jsonl"
    state = bench(named_plan("small"), out, jobs=1, threads=1, device="cpu")
    assert (state.done, state.failed, state.left) == (5, 0, 0)
    return {one["variant"]: one for one in record.read([out])}


def test_random_scores_are_at_their_floor(runs):
    random = runs["random"]
    share = random["anomalous_share"]
    assert random["metrics"]["label_free"]["auc_pr"] == pytest.approx(share, abs=0.05)
    # ... and the paper's protocol flatters them: why no table under it goes without this row.
    assert random["metrics"]["paper"]["f1"] > 2 * random["metrics"]["oracle"]["f1"]


def test_a_planted_level_shift_is_found(runs):
    floor = runs["random"]["metrics"]["label_free"]["vus_pr"]
    found = {name: one["metrics"]["label_free"]["vus_pr"] for name, one in runs.items()}
    assert found["mahalanobis_30"] > floor + 0.3
    assert found["fast, tiny"] > floor


def test_a_leak_of_labels_is_caught():
    """Labels that raise when read: every detector fits and scores, and only judging fails."""
    (name,) = named_plan("small").datasets
    whole = open_source(name, None).load("s0")

    def refuse():
        raise PermissionError("labels are not for detectors")

    sealed = Split(whole.dataset, whole.entity, whole.train, whole.test, Truth(refuse))
    tiny = dict(named_plan("small").variants[0].settings) | {"max_steps": 2, "validate_every": 2}
    for row in ("fast", "zscore", "mahalanobis_30", "kmeans", "isolation_forest"):
        variant = Variant(row, row, tiny if row == "fast" else {})
        group = Group("small", sealed.dataset, sealed.entity, 0, (variant,))
        (found,) = measure(group, lambda: sealed)
        assert (found["status"], found["stage"]) == ("failed", "evaluate")
        assert found["error"]["type"] == "PermissionError"
        assert row in names()
