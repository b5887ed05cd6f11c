"""The benchmark data, in the folder that IMDIFFUSION_DATA names; tests that need it skip without.

`@pytest.mark.data`  the test reads that folder, through the fixture `benchmark_data`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data") and data_folder() is None:
        pytest.skip("needs the benchmark data: set IMDIFFUSION_DATA to its folder")


def data_folder() -> Path | None:
    folder = Path(os.environ.get("IMDIFFUSION_DATA") or "no such folder")
    return folder if folder.is_dir() else None


@pytest.fixture(name="benchmark_data")
def _benchmark_data() -> Path:
    """The benchmark data folder; for tests marked `data`."""
    folder = data_folder()
    assert folder is not None, "mark the test with pytest.mark.data"
    return folder
