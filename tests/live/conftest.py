"""A tiny fitted detector for all tests of live detection."""

from __future__ import annotations

import pytest
from live_series import fit, series

from imdiffusion import ImDiffusion


@pytest.fixture(scope="session")
def detector() -> ImDiffusion:
    return fit(series(400))
