"""Machines of SMD are added to those that one has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from imdiffusion.errors import DataError, OutputError
from imdiffusion_bench.datasets import check, import_official, open_dataset

ROWS = {"train": "0.1,1\n0.2,1\n", "test": "0.3,1\n0.4,1\n0.5,0\n", "test_label": "0\n1\n1\n"}


def official(folder: Path, *machines: str, **changed: str) -> Path:
    """A folder in the form of SMD's repository."""
    for machine in machines:
        for kind, text in {**ROWS, **changed}.items():
            path = folder / kind / f"{machine}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two machines and a licence, listed at the root as in a copy that somebody handed on."""
    out = tmp_path / "out"
    import_official("SMD", official(tmp_path / "first", "machine-1-2", "machine-2-1"), out)
    (out / "SMD/LICENSE").write_text("as it came")
    (out / "SMD/SHA256SUMS").rename(out / "own")
    lines = (out / "own").read_text().splitlines()
    listed = [line.replace("  ", "  SMD/", 1) for line in lines]
    (out / "SHA256SUMS").write_text("\n".join(listed) + "\n")
    (out / "own").unlink()
    return out


def test_absent_machines_join_those_that_are_there(root: Path, tmp_path: Path) -> None:
    before = files_of(root / "SMD")
    source = official(tmp_path / "second", "machine-1-1", "machine-1-10", "machine-1-2")
    # The machine that is there is not read again: another text of it changes nothing.
    official(source, "machine-1-2", train="9,9\n9,9\n")
    assert import_official("SMD", source, root) == root / "SMD"
    dataset = open_dataset("SMD", root)
    assert dataset.entities() == ["machine-1-1", "machine-1-2", "machine-1-10", "machine-2-1"]
    for name in dataset.entities():
        np.testing.assert_array_equal(
            dataset.load(name).train.values, np.array([[0.1, 1], [0.2, 1]], np.float32)
        )
    after = files_of(root / "SMD")
    assert {name: after[name] for name in before if name != "index.json"} == {
        name: text for name, text in before.items() if name != "index.json"
    }
    index = json.loads(after["index.json"])
    assert set(index["source_files"]) == {
        f"{kind}/machine-{number}.txt" for kind in ROWS for number in ("1-1", "1-10", "1-2", "2-1")
    }
    assert len(index["entities"]) == 4
    assert check(root, "SMD") == 4 * 2 + 2  # both parts of each, the index, the licence
    (root / "SMD/machine-2-1/test.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"machine-2-1/test\.parquet"):
        check(root, "SMD")


def test_what_is_there_whole_is_left_alone(root: Path, tmp_path: Path) -> None:
    before = files_of(root)
    source = official(tmp_path / "second", "machine-1-2")
    with pytest.raises(OutputError, match="already, with all of these entities"):
        import_official("SMD", source, root)
    assert files_of(root) == before


def test_damage_to_what_is_there_does_not_pass_into_a_new_list(root: Path, tmp_path: Path) -> None:
    (root / "SMD/machine-1-2/train.parquet").write_bytes(b"bad")
    before = files_of(root)
    with pytest.raises(DataError, match=r"machine-1-2/train\.parquet"):
        import_official("SMD", official(tmp_path / "second", "machine-1-1"), root)
    assert files_of(root) == before


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train": "1,2,3\n", "test": "1,2,3\n1,2,3\n1,2,3\n"}, "has 2 channels"),
        ({"test_label": "0\n1\n7\n"}, "row 3"),
    ],
)
def test_a_machine_that_does_not_fit_leaves_the_folder_as_it_was(
    root: Path, tmp_path: Path, changed: dict[str, str], words: str
) -> None:
    before = files_of(root)
    source = official(tmp_path / "second", "machine-1-1", **changed)
    with pytest.raises(DataError, match=words):
        import_official("SMD", source, root)
    assert files_of(root) == before


def test_files_are_copied_where_they_cannot_be_linked(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    import_official("SMD", official(tmp_path / "second", "machine-1-1"), root)
    assert check(root, "SMD") == 3 * 2 + 2


def test_an_index_of_names_alone_is_added_to(root: Path, tmp_path: Path) -> None:
    (root / "SHA256SUMS").unlink()
    (root / "SMD/index.json").write_text('{"entities": ["machine-2-1", "machine-1-2"]}')
    import_official("SMD", official(tmp_path / "second", "machine-1-1"), root)
    assert open_dataset("SMD", root).entities() == ["machine-1-1", "machine-1-2", "machine-2-1"]


def test_what_was_not_checked_stays_named(root: Path, tmp_path: Path) -> None:
    for at, machine in enumerate(("machine-1-1", "machine-1-3")):
        about = {"unchecked": [f"train/{machine}.txt"], "fetched_from": f"home {at}"}
        import_official("SMD", official(tmp_path / machine, machine), root, about=about)
    index = json.loads((root / "SMD/index.json").read_text())
    assert index["unchecked"] == ["train/machine-1-1.txt", "train/machine-1-3.txt"]
    assert index["fetched_from"] == "home 1"
