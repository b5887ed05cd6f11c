"""Whole data sets from a server on loopback: fetched, checked, imported, taken up again."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest
from tiny_data import refused
from tiny_origin import Origin, serving

from imdiffusion.errors import ConfigError, DataWarning, OutputError, UsageError
from imdiffusion_bench.datasets import DATASETS, check, open_dataset
from imdiffusion_bench.datasets.fetch import HOMES, Home, fetch

# The package gives the function this name, so the module is asked for by its own.
MODULE = import_module("imdiffusion_bench.datasets.fetch")
FILES = {
    "/m/train/machine-1-1.txt": b"0.1,1\n0.2,1\n",
    "/m/test/machine-1-1.txt": b"0.3,1\n0.4,0\n",
    "/m/test_label/machine-1-1.txt": b"0\n1\n",
    "/m/interpretation_label/machine-1-1.txt": b"1-2:2\n",
}


@pytest.fixture(name="origin")
def _origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as origin:
        yield origin


@pytest.fixture(name="small")
def _small(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> Origin:
    """SMD with one machine, three of whose files have a checksum that is known."""
    origin.files = dict(FILES)
    names = tuple(name.removeprefix("/m/") for name in FILES)
    monkeypatch.setitem(HOMES, "SMD", Home(f"{origin.base}/m", names))
    sums = {
        name: hashlib.sha256(FILES[f"/m/{name}"]).hexdigest()
        for name in names
        if not name.startswith("test/")
    }
    monkeypatch.setattr(MODULE, "known_sums", {"SMD": sums}.__getitem__)
    return origin


def test_a_set_is_fetched_checked_and_imported(small, tmp_path):
    seen = []
    with pytest.warns(DataWarning, match="1 of its 4 files: unchecked"):
        folder = fetch("SMD", tmp_path, on_progress=seen.append)
    assert folder == tmp_path / "SMD"
    assert [step.done for step in seen] == [12, 24, 28, 34]  # bytes of the files so far
    assert {(step.phase, step.total) for step in seen} == {("fetch SMD", 0)}
    assert seen[2].info == {"file": 3, "of": 4}
    split = open_dataset("SMD", tmp_path).load("machine-1-1")
    np.testing.assert_array_equal(split.test.values, np.array([[0.3, 1], [0.4, 0]], np.float32))
    assert split.truth.label().tolist() == [False, True]
    assert check(tmp_path, "SMD") == 4
    index = json.loads((folder / "index.json").read_text())
    assert index["unchecked"] == ["test/machine-1-1.txt"]
    assert index["fetched_from"] == f"{small.base}/m"
    assert not (tmp_path / ".fetch/SMD").exists()
    with pytest.raises(OutputError, match="is there already"):
        fetch("SMD", tmp_path)


def test_machines_that_are_there_are_not_downloaded_again(small, tmp_path, monkeypatch):
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    other = {name.replace("1-1", "1-2"): text for name, text in FILES.items()}
    small.files.update(other)
    both = (*HOMES["SMD"].files, *(name.removeprefix("/m/") for name in other))
    monkeypatch.setitem(HOMES, "SMD", Home(f"{small.base}/m", both))
    small.asked.clear()
    with pytest.warns(DataWarning, match="4 of its 4 files: unchecked"):
        fetch("SMD", tmp_path)
    assert {path for path, _ in small.asked} == set(other)
    assert open_dataset("SMD", tmp_path).entities() == ["machine-1-1", "machine-1-2"]


def test_half_a_machine_of_an_earlier_call_is_no_matter_once_the_machine_is_there(
    small, tmp_path, monkeypatch
):
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    (tmp_path / ".fetch/SMD/train").mkdir(parents=True)
    (tmp_path / ".fetch/SMD/train/machine-1-1.txt").write_text("0.1,1\n")
    other = {name.replace("1-1", "1-2"): text for name, text in FILES.items()}
    small.files.update(other)
    both = (*HOMES["SMD"].files, *(name.removeprefix("/m/") for name in other))
    monkeypatch.setitem(HOMES, "SMD", Home(f"{small.base}/m", both))
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    assert open_dataset("SMD", tmp_path).entities() == ["machine-1-1", "machine-1-2"]


def test_a_fetch_goes_on_after_a_failure_with_what_it_has(small, tmp_path):
    label = small.files.pop("/m/test_label/machine-1-1.txt")
    refused(lambda: fetch("SMD", tmp_path), "test_label/machine-1-1.txt", "404")
    assert not (tmp_path / "SMD").exists()
    small.files["/m/test_label/machine-1-1.txt"] = label
    small.asked.clear()
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path, base=f"{small.base}/m/")
    assert [path for path, _ in small.asked] == list(FILES)[2:]


def test_a_bad_file_that_no_checksum_tells_is_fetched_anew(small, tmp_path):
    good, small.files["/m/test/machine-1-1.txt"] = FILES["/m/test/machine-1-1.txt"], b"<html>\n"
    refused(lambda: fetch("SMD", tmp_path), "test/machine-1-1.txt", "1 files", "call again")
    small.files["/m/test/machine-1-1.txt"] = good
    small.asked.clear()
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    assert [path for path, _ in small.asked] == ["/m/test/machine-1-1.txt"]


def test_a_mirror_with_other_bytes_is_refused(small, tmp_path):
    small.files |= {f"/mirror{name[2:]}": body for name, body in FILES.items()}
    small.files["/mirror/train/machine-1-1.txt"] = b"0.9,1\n0.2,1\n"
    refused(lambda: fetch("SMD", tmp_path, base=f"{small.base}/mirror"), "mirror", "SHA-256")
    assert not (tmp_path / "SMD").exists()


def test_the_limit_is_for_all_files_together(small, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "_MIB", 30)
    refused(lambda: fetch("SMD", tmp_path, limit_mib=1), "/interp", "6 bytes", "2 are left")
    with pytest.raises(UsageError, match="0 MiB"):
        fetch("SMD", tmp_path, limit_mib=0)


def test_two_fetches_of_one_set_do_not_mix(small, tmp_path):
    (tmp_path / ".fetch").mkdir()
    with (tmp_path / ".fetch/SMD.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="being fetched already"):
            fetch("SMD", tmp_path)
    assert small.asked == []


def test_sets_without_a_public_home_say_where_they_are(tmp_path):
    refused(lambda: fetch("SWaT", tmp_path), "SWaT", "iTrust", "import")
    refused(lambda: fetch("WADI", tmp_path), "WADI", "iTrust", "import")
    refused(lambda: fetch("GCP", tmp_path), "GCP", "JumpStarter", "convert")
    with pytest.raises(ConfigError, match="'SMD'"):
        fetch("SMDD", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_homes_name_every_file():
    assert len(HOMES["SMD"].files) == len(set(HOMES["SMD"].files)) == 28 * 4
    assert "test_label/machine-3-11.txt" in HOMES["SMD"].files
    assert set(HOMES) == {name for name, known in DATASETS.items() if known.public}
    assert HOMES["PSM"].files == ("train.csv", "test.csv", "test_label.csv")
    assert all(home.base.startswith("https://") for home in HOMES.values())
