"""Detectors of other packages: declared by an entry point, measured as baselines, checked."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import numpy as np
import pytest
from tiny_detectors import group, label_of, split

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion_bench import detectors
from imdiffusion_bench.measure import measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.testing import check_detector


class Distance:
    """The largest distance of a channel from its mean, in deviations."""

    memory_mib_ = 12.5

    def fit(self, x):
        self.versions_ = {"other": "1.2"}
        self.mean_, self.std_ = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
        return self

    def decision_function(self, x):
        far = np.abs(x - self.mean_) / self.std_
        empty = np.isnan(x).all(axis=1)
        return np.where(empty, np.nan, np.nanmax(np.where(empty[:, None], 0.0, far), axis=1))


class Drawn(Distance):
    def __init__(self, seed=0):
        self.seed = seed


@pytest.fixture(autouse=True)
def _declared(monkeypatch):
    kinds = {"distance": "Distance", "drawn_distance": "Drawn", "zscore": "Distance"}
    points = {
        name: (EntryPoint(name, f"test_bench_detectors_of_others:{kind}", "imdiffusion.detectors"),)
        for name, kind in kinds.items()
    }
    monkeypatch.setattr(registry, "_joined", lambda table: points if table == "detectors" else {})


def test_it_is_measured_with_a_threshold_of_its_own_and_says_where_it_ran():
    (run,) = measure(group(Variant("distance", "distance")), lambda: split(label_of()))
    assert run["status"] == "ok", run
    assert run["metrics"]["label_free"]["auc_pr"] > 0.9
    assert run["detector_versions"] == {"other": "1.2"}
    assert run["memory_mib"] == 12.5
    assert run["drawn"] is False
    assert detectors.drawn("drawn_distance")
    assert detectors.make("drawn_distance", {"threshold": "pot"}, seed=7).detector.seed == 7


def test_it_is_listed_and_has_the_settings_that_all_share():
    assert "distance" in detectors.names()
    assert detectors.description("distance") == "of the distribution (unknown)"
    assert set(detectors.settings_of("distance", {})) == set(detectors.SHARED_SETTINGS)
    with pytest.raises(ConfigError, match="unknown setting 'window'"):
        detectors.settings_of("distance", {"window": 5})


def test_the_contract_is_kept():
    for name in ("distance", "drawn_distance"):
        check_detector(name)


def test_one_that_has_the_name_of_ours_is_refused():
    assert detectors.names().count("zscore") == 1
    with pytest.raises(ConfigError, match="'zscore' is of more than one distribution: imdiffusion"):
        detectors.settings_of("zscore", {})
