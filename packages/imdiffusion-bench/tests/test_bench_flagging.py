"""Rules for alarms, by hand; and the page that is made of kept scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.errors import UsageError
from imdiffusion_bench.flagging import (
    ACHIEVED,
    PROMISED,
    RULES,
    achieved,
    collect,
    joined,
    judge,
    mean_f1,
    median_share,
    write_flagging,
)
from imdiffusion_bench.score_archive import Kept

SCORE = np.array([0.0, 2.0, 0.5, 1.1, 0.0, 0.0, 1.05, 0.0])
LABEL = np.array([0, 1, 1, 1, 0, 0, 0, 0], bool)


def kept_run(score, *, seed=0, threshold=1.0, variant="v"):
    head = {"variant": variant, "dataset": "SMD", "entity": "a", "seed": seed, "commit": "c"}
    return Kept(head, np.asarray(score, np.float32), threshold)


def test_joined_closes_gaps_and_drops_what_stays_low():
    assert np.flatnonzero(joined(0)(SCORE, LABEL)).tolist() == [1, 3, 6]
    assert np.flatnonzero(joined(1)(SCORE, LABEL)).tolist() == [1, 2, 3, 6]
    assert np.flatnonzero(joined(2)(SCORE, LABEL)).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(joined(1, 1.2)(SCORE, LABEL)).tolist() == [1, 2, 3]
    assert np.flatnonzero(joined(0, 1.08)(SCORE, LABEL)).tolist() == [1, 3]


def test_events_of_each_rule_are_counted():
    found = judge(kept_run(SCORE), LABEL)
    # Two of three runs are right, the one labelled run is found: 2 (2/3) 1 / (2/3 + 1).
    assert found.f1[PROMISED] == pytest.approx(0.8)
    assert found.f1["joined over 5 rows"] == 1.0
    assert found.share == pytest.approx(1 / 5)
    assert list(found.f1) == list(RULES)


@given(
    st.lists(st.floats(0, 100, allow_nan=False), min_size=2, max_size=300),
    st.sampled_from([0.01, 0.1, 0.5]),
)
def test_achieved_is_never_more_than_the_share(values, share):
    score, label = np.array(values), np.zeros(len(values), bool)
    label[0] = True
    alarm = achieved(share)(score, label)
    assert alarm[~label].mean() <= share + 1e-12


def test_thresholds_and_missing_scores_are_read():
    halved = kept_run(SCORE / 2, threshold=0.5)
    assert judge(halved, LABEL).f1 == judge(kept_run(SCORE), LABEL).f1
    holed = SCORE.copy()
    holed[[1, 6]] = np.nan, np.inf
    found = judge(kept_run(holed), LABEL)
    assert found.f1[PROMISED] == pytest.approx(2 * 0.5 / 1.5)  # row 3 right, row 6 not
    assert found.f1[ACHIEVED] == 0.0  # nothing lies above an infinite normal row


def test_the_lowest_seed_counts_and_means_are_over_entities():
    quiet = np.zeros(8)
    found = collect([kept_run(quiet, seed=1), kept_run(SCORE, seed=0)], lambda *_: LABEL)
    assert collect([kept_run(SCORE), kept_run(quiet, seed=1)], lambda *_: LABEL) == found
    assert mean_f1(found["v"]["SMD"], PROMISED) == pytest.approx(0.8)
    assert median_share(found["v"]["SMD"]) == pytest.approx(0.2)


def test_the_page_asks_for_folders_and_data(tmp_path):
    for folders, root in (([], tmp_path), ([tmp_path], None)):
        with pytest.raises(UsageError, match="folders of kept scores"):
            write_flagging(tmp_path, folders, root)
