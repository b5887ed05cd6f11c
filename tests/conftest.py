"""What the tests need from the machine, said loudly where it is absent.

`@pytest.mark.tool("chromium")`  a program from Debian's packages. Absent: skipped, with the
                                 command that installs it; under IMDIFFUSION_NO_SKIP=1 a failure.
`@pytest.mark.data`              the benchmark data, in the folder that IMDIFFUSION_DATA names.
                                 Absent: skipped, always, for a clone does not carry it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NO_SKIP = os.environ.get("IMDIFFUSION_NO_SKIP", "") not in ("", "0")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("tool"):
        for program in mark.args:
            if shutil.which(program) is None:
                reason = f"needs the program {program} (apt-get install {program})"
                if NO_SKIP:
                    pytest.fail(f"{reason}, and IMDIFFUSION_NO_SKIP is set", pytrace=False)
                pytest.skip(reason)
    if item.get_closest_marker("data") and data_folder() is None:
        pytest.skip("needs the benchmark data: set IMDIFFUSION_DATA to its folder")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.write_line(
            f"{skipped} skipped here; the reasons stand below", yellow=True, bold=True
        )


def data_folder() -> Path | None:
    folder = Path(os.environ.get("IMDIFFUSION_DATA") or "no such folder")
    return folder if folder.is_dir() else None


@pytest.fixture(name="benchmark_data")
def _benchmark_data() -> Path:
    """The benchmark data folder; for tests marked `data`."""
    folder = data_folder()
    assert folder is not None, "mark the test with pytest.mark.data"
    return folder
