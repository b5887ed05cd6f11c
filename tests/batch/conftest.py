"""Three entities, and their models, fitted once."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_parts import TINY, services, statuses

from imdiffusion import batch


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return services(tmp_path_factory.mktemp("data") / "in", 3)


@pytest.fixture(scope="package")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of e0, e1 and e2; nobody writes into them."""
    out = tmp_path_factory.mktemp("fitted") / "models"
    found = batch.fit(data, out, jobs=1, threads=1, **TINY)
    assert statuses(found) == dict.fromkeys(("e0", "e1", "e2"), "done")
    return out
