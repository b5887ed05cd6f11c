"""Which entities a folder holds, and what a file of several becomes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from batch_parts import table

from imdiffusion import read
from imdiffusion.batch.folder import Series, distinct, file_name, find, split
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError

READING = FileOptions()


def test_one_file_or_one_folder_an_entity_and_what_is_passed_over(tmp_path):
    table().to_csv(tmp_path / "web.csv.gz", index=False)
    for name, files in {
        "m-1": ["train.parquet", "test.parquet"],
        "m-2": ["test.csv"],
        "m-3": ["train.csv", "train.parquet"],
        "notes": ["readme.md"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("")
    (tmp_path / "readme.md").write_text("")
    (tmp_path / ".hidden.csv").write_text("")
    found = find(tmp_path, "train", READING)
    assert {one.entity: one.path.name for one in found.series if not one.problem} == {
        "m-1": "train.parquet",
        "web": "web.csv.gz",
    }
    problems = {one.entity: one.problem for one in found.series if one.problem}
    assert problems.keys() == {"m-2", "m-3"}
    assert "no train file" in problems["m-2"]
    assert "are both" in problems["m-3"]
    assert found.passed.keys() == {"notes", "readme.md", ".hidden.csv"}
    assert [one.path.name for one in find(tmp_path, "test", READING).series if not one.problem] == [
        "test.parquet", "test.csv", "web.csv.gz",
    ]  # fmt: skip


def test_a_folder_without_entities_is_refused(tmp_path):
    with pytest.raises(DataError, match="no entity"):
        find(tmp_path, "train", READING)
    with pytest.raises(DataError, match="no folder"):
        find(tmp_path / "absent", "train", READING)


def test_an_entity_that_two_files_hold_has_a_problem():
    a, b = Series("web", Path("web.csv")), Series("web", Path("web.parquet"))
    other = Series("api", Path("api.csv"))
    api, web = distinct([a, other, b])
    assert api == other
    assert "web.csv and web.parquet both hold" in web.problem


def test_names_of_files_are_readable_and_never_two_entities():
    names = ["web", "a/b", "a%2Fb", "..", ".hidden", "é", "x" * 300, "x" * 301, "\udc80"]
    files = [file_name(name) for name in names]
    assert files[0] == "web"
    assert len(set(files)) == len(names)
    assert all(not name.startswith(".") and "/" not in name for name in files)
    assert max(map(len, files)) < 200


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_file_of_several_entities_becomes_one_file_each(tmp_path, suffix):
    names = ("b", "a/x", "c")
    parts = [table(30, seed=seed).assign(entity=name) for seed, name in enumerate(names)]
    whole = pd.concat(parts).sort_values("timestamp", kind="stable")
    path = tmp_path / f"all.{suffix}"
    if suffix == "csv":
        whole.to_csv(path, index=False)
    elif suffix == "parquet":
        whole.to_parquet(path, index=False, row_group_size=7)
    else:
        whole.to_json(path, orient="records", lines=True, date_format="iso")
    assert find(tmp_path, "train", READING).shared == [path]
    into = tmp_path / "parts"
    into.mkdir()
    made = split(path, into, READING)
    assert [one.entity for one in made] == list(names)
    expected = read(path)
    for one in made:
        frame = read(one.path)
        assert frame.values.tobytes() == expected[one.entity].values.tobytes()
        assert (frame.timestamps == expected[one.entity].timestamps).all()
        assert frame.channels == expected[one.entity].channels


def test_a_bad_cell_of_a_csv_file_is_one_entity_s_trouble(tmp_path):
    whole = pd.concat([table(9).assign(entity=name) for name in "ab"]).astype({"cpu": object})
    whole.iloc[2, whole.columns.get_loc("cpu")] = "lots"
    whole.to_csv(tmp_path / "all.csv", index=False)
    (tmp_path / "parts").mkdir()
    a, b = split(tmp_path / "all.csv", tmp_path / "parts", READING)
    assert len(read(b.path)) == 9
    with pytest.raises(DataError, match="lots"):
        read(a.path)
