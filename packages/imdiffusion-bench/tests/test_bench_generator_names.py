"""Generated data sets by name: the same values always, what a name says, what is refused"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.errors import ConfigError, DataError
from imdiffusion_bench.generator import Generated, generate, open_generated
from imdiffusion_bench.generator.config import KINDS, Dials


def test_the_same_dials_and_seed_give_the_same_values_and_another_seed_others():
    one, same, other = (generate(seed=seed, missing=0.1) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.train.values, same.train.values)
    np.testing.assert_array_equal(one.test.values, same.test.values)
    assert one.truth.causes() == same.truth.causes()
    assert not np.allclose(one.train.values, other.train.values, equal_nan=True)
    label = one.truth.label()
    label[:] = True  # a caller's copy: the truth stays
    assert not one.truth.label().all()


def test_the_training_part_knows_nothing_of_the_anomalies():
    plain = generate(seed=7).train.values
    for dials in (
        {"anomaly": "coupling"},
        {"anomaly_share": 0.3, "anomaly_length": 7, "anomaly_size": 9.0},
        {"rows_test": 500},
        {"drift": 4.0},
    ):
        np.testing.assert_array_equal(generate(seed=7, **dials).train.values, plain)
    spoiled = generate(seed=7, contamination=0.1).train.values
    assert (spoiled != plain).any(axis=1).mean() == pytest.approx(0.1, abs=0.02)


def test_drift_moves_every_channel_of_the_test_part():
    still, moved = (generate(seed=0, drift=drift).test.values for drift in (0.0, 4.0))
    by = moved - still
    assert np.abs(by[0]).max() < 0.01
    assert np.abs(by[-1]) == pytest.approx(np.full(6, 4.0))
    assert np.abs(by[1499]) == pytest.approx(np.full(6, 2.0))


def test_values_of_a_name_do_not_change_from_version_to_version():
    # Records hold names alone: other values under a name would spoil every old table.
    split = open_generated("generated:").load("s0")
    assert split.train.values[0] == pytest.approx(
        [-1.2041387, 0.3395547, 0.4437112, -0.5965112, 0.1706578, -1.3659369], abs=1e-6
    )
    assert split.test.values[-1] == pytest.approx(
        [0.7573024, 1.4015272, -2.7514101, -1.2691471, -0.8121915, 0.4490443], abs=1e-6
    )
    starts = [cause.start for cause in split.truth.causes()]
    assert starts == [569, 838, 959, 1469, 1552, 1863, 2411, 2655]


@given(
    noise=st.floats(0, 10),
    kind=st.sampled_from(["spike", "mixed"]),
    rows=st.integers(50, 10**6),
    series=st.integers(1, 40),
)
def test_a_name_says_all_and_is_read_back(noise, kind, rows, series):
    made = Generated(Dials(noise=noise, anomaly=kind, rows_test=rows), series)
    assert open_generated(made.name) == made
    pairs = made.name.partition(":")[2].split(",")
    assert pairs == sorted(pairs)
    assert made.entities() == [f"s{seed}" for seed in range(series)]


def test_a_data_set_loads_its_series_by_seed():
    made = open_generated("generated:rows_test=200,anomaly=coupling,series=3")
    assert made.name == "generated:anomaly=coupling,rows_test=200,series=3"
    split = made.load("s2")
    assert (split.dataset, split.entity, split.test.entity) == (made.name, "s2", "s2")
    same = generate(seed=2, rows_test=200, anomaly="coupling")
    np.testing.assert_array_equal(split.test.values, same.test.values)
    assert Generated().name == "generated"
    assert open_generated("generated") == Generated()
    with pytest.raises(DataError, match=r"no entity 's3'.*s0 to s2"):
        made.load("s3")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("SMD", "not a generated data set"),
        ("generated:nois=0.1", "Did you mean 'noise'"),
        ("generated:noise=loud", "dial noise = 'loud' is not a number"),
        ("generated:noise", "no name=value pair"),
        ("generated:noise=1,noise=2", "comes twice"),
        ("generated:anomaly=frequency,seasonality=0", "there is no season"),
        ("generated:anomaly=coupling,coupling=0", "share nothing"),
        ("generated:anomaly=coupling,channels=1", "only one channel"),
        ("generated:coupling_kind=nonlinear,channels=2", "at least 3 channels"),
        ("generated:series=0", "series = 0"),
        ("generated:series=x", "not a number"),
    ],
)
def test_a_wrong_name_is_refused_with_what_to_do(name, says):
    with pytest.raises(ConfigError, match=says) as caught:
        open_generated(name)
    assert caught.value.remedy


def test_wrong_dials_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="Did you mean 'noise'"):
        generate(nose=0.1)
    with pytest.raises(ConfigError, match="no row between them"):
        generate(anomaly_share=0.5, anomaly_length=1, rows_test=100)
    assert "missing_season" not in Dials(seasonality=0.0).kinds()
    assert Dials().kinds() == KINDS
