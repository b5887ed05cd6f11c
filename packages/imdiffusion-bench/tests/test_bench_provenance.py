"""Where numbers come from: the commit that made them, and no other; versions; memory."""

import importlib.util
import mmap
import shutil
import subprocess
from importlib.metadata import version

import numpy as np
import pytest
import torch

from imdiffusion_bench import provenance


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.tool("git")
def test_a_commit_is_that_of_the_checkout_that_tracks_this_file(tmp_path):
    package = tmp_path / "somebodys" / "venv" / "package"
    package.mkdir(parents=True)
    shutil.copy(provenance.__file__, package / "provenance.py")
    spec = importlib.util.spec_from_file_location("copied", package / "provenance.py")
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    assert copied.commit() is None  # no checkout
    git(tmp_path, "init", "--quiet")
    assert copied.commit() is None  # one without a commit
    (tmp_path / "notes").write_text("somebody's")
    git(tmp_path, "add", "notes")
    git(tmp_path, "commit", "--quiet", "-m", "notes")
    assert copied.commit() is None  # somebody else's, with the package installed inside
    git(tmp_path, "add", str(package / "provenance.py"))
    git(tmp_path, "commit", "--quiet", "-m", "package")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert copied.commit() == head[:12]
    (tmp_path / "notes").write_text("changed")
    assert copied.commit() == f"{head[:12]}+"


def test_versions_are_those_that_are_installed():
    found = provenance.versions()
    assert found["numpy"] == np.__version__
    assert {"python", "imdiffusion", "torch", "pyarrow"} <= found.keys()
    assert all(found[name] == version(name) for name in found.keys() - {"python"})


def test_the_peak_of_memory_is_forgotten():
    if not provenance.forget_peak_memory():
        pytest.skip("this system keeps one peak for the whole process")
    before = provenance.peak_memory_mib()
    # Memory of its own, which no allocator has at hand or keeps afterwards.
    with mmap.mmap(-1, 2**26) as big:
        big.write(b"1" * 2**26)
        assert provenance.peak_memory_mib() > before + 40
    provenance.forget_peak_memory()
    assert provenance.peak_memory_mib() < before + 40


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_peak_of_a_gpu_is_forgotten():
    big = torch.zeros(2**24, device="cuda")
    assert provenance.peaks("cuda")["gpu_memory_mib"] >= 64
    del big
    provenance.forget_peak_memory("cuda")
    assert provenance.peaks("cuda")["gpu_memory_mib"] < 64
