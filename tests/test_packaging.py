"""The sdist and the wheel, built for real, and the wheel installed and used where no source is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import imdiffusion

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MEGABYTE = 1 << 20
OURS = {"imdiffusion", "imdiffusion-bench"}  # one repository, one version: no pin
LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "shared", "report.html", "demo-model"
)


def call(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(name="dist", scope="module")
def _dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "tree", ignore=LEFT_BEHIND)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist"]
    call(*build, cwd=folder / "tree")
    return folder / "dist"


@pytest.fixture(name="wheel", scope="module")
def _wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    (name,) = (name for name in members(wheel) if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = ROOT / "src" / "imdiffusion"
    source = {
        f"imdiffusion/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert {name for name in members(wheel) if name.startswith("imdiffusion/")} == source
    assert "imdiffusion/py.typed" in source
    assert "imdiffusion/report/vendor/uPlot.iife.min.js" in source
    assert any(name.startswith("imdiffusion/assets/") for name in source)
    assert wheel.stat().st_size < 5 * MEGABYTE


def test_the_metadata_states_licence_and_python(wheel):
    said = metadata(wheel)
    assert said["License-Expression"] == "Apache-2.0"  # PEP 639
    assert "License ::" not in str(said.get_all("Classifier"))
    for name in said.get_all("License-File"):
        assert any(path.endswith(f".dist-info/licenses/{name}") for path in members(wheel))
    assert [name for name in said.get_all("License-File") if "uplot" in name]
    assert said["Requires-Python"] == ">=3.11"
    assert said["Version"] == imdiffusion.__version__


def test_the_sdist_holds_what_its_tests_need(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt"):
        assert name in names
    assert {"tests/test_packaging.py", "docs/method.md", "benchmarks/import_time.py"} <= names
    assert sdist.stat().st_size < 5 * MEGABYTE


def test_the_installed_wheel_works_without_the_source(wheel, tmp_path):
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    call(*pip, "--target", target, wheel, cwd=tmp_path)
    program = (
        "import imdiffusion, imdiffusion.detector as d, importlib.resources as r;"
        "print(imdiffusion.__file__); print(d.__file__);"
        "print(*(f.name for f in (r.files('imdiffusion') / 'assets' / 'recording').iterdir()))"
    )
    said = call(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(target))
    package, detector, assets = said.splitlines()
    assert Path(package).is_relative_to(target)
    assert Path(detector).is_relative_to(target)
    assert ".parquet" in assets
    version = call(
        target / "bin" / "imdiffusion", "--version", cwd=tmp_path, PYTHONPATH=str(target)
    )
    assert imdiffusion.__version__ in version


def test_every_requirement_is_pinned_for_a_fresh_machine(wheel):
    pins = {
        line.partition("==")[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = metadata(wheel).get_all("Requires-Dist")
    names = {re.split(r"[;>\[]", text)[0].strip().lower() for text in wanted} - OURS
    assert names - pins == set()
