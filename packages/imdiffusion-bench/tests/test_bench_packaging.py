"""The distribution: its wheel holds every file, its verb, and the version of the library."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import typer

import imdiffusion

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[1]
LEFT_BEHIND = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")


def test_the_verb_is_declared_and_is_a_typer_app():
    (point,) = (one for one in entry_points(group="imdiffusion.commands") if one.name == "bench")
    assert isinstance(point.load(), typer.Typer)


def test_library_and_benchmark_have_one_version():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["version"] == imdiffusion.__version__ == version("imdiffusion-bench")
    assert f"imdiffusion=={imdiffusion.__version__}" in project["dependencies"]


@pytest.mark.filterwarnings("ignore")
def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    shutil.copytree(PROJECT, tmp_path / "tree", ignore=LEFT_BEHIND)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist"]
    done = subprocess.run(build, cwd=tmp_path / "tree", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    package = PROJECT / "src" / "imdiffusion_bench"
    source = {
        f"imdiffusion_bench/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name for name in names if name.startswith("imdiffusion_bench/")} == source
    assert {"imdiffusion_bench/py.typed", "imdiffusion_bench/datasets/tsb_ad_m.json"} <= source
