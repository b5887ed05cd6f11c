"""Bad input is refused in one line that names what, where and the remedy, and leaves nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny import TINY, Done, ended, series


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(done: Done, code: int, *words: str) -> None:
    """Exit code, one error line with these words, no traceback, nothing on stdout."""
    assert done.code == code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    for word in words:
        assert word in errors[0], errors[0]
    assert errors[0].endswith((".", "?"))


def spoil_text(table: pd.DataFrame) -> pd.DataFrame:
    table = table.astype({"disk": object})
    table.loc[6, "disk"] = "lots"
    return table


def spoil_duplicate(table: pd.DataFrame) -> pd.DataFrame:
    table.loc[6, "timestamp"] = table.loc[5, "timestamp"]
    return table


def spoil_order(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[[0, 1, 2, 4, 3, *range(5, len(table))]]


TABLES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], tuple[str, ...]]] = {
    "text in a number": (spoil_text, ("bad.csv", "row 7", "'disk'", "lots")),
    "unsorted timestamps": (spoil_order, ("bad.csv", "row 5", "--sort")),
}


@pytest.mark.parametrize("verb", ["fit", "detect"])
@pytest.mark.parametrize("name", TABLES)
def test_bad_table(call, model, tmp_path, name, verb):
    spoil, words = TABLES[name]
    file = tmp_path / "bad.csv"
    spoil(series(120)).to_csv(file, index=False)
    before = contents(tmp_path)
    if verb == "fit":
        done = call("fit", file, "--model", tmp_path / "m", *TINY)
    else:
        done = call("detect", file, "--model", model, "--scores", tmp_path / "scores.csv")
    refused(done, 3, *words)
    assert contents(tmp_path) == before


def test_sort_accepts_what_it_says(call, model, tmp_path):
    for spoil in (spoil_duplicate, spoil_order):
        spoil(series(120)).to_csv(tmp_path / "t.csv", index=False)
        assert call("detect", tmp_path / "t.csv", "--model", model, "--sort").code == 0


def test_unknown_channels(call, model, tmp_path):
    series(120).assign(gpu=1.0).to_csv(tmp_path / "more.csv", index=False)
    refused(call("detect", tmp_path / "more.csv", "--model", model), 3, "'gpu'", "--ignore-extra")
    assert call("detect", tmp_path / "more.csv", "--model", model, "--ignore-extra").code == 0


def test_one_entity_in_two_files(call, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        series(60).to_csv(tmp_path / folder / "web.csv", index=False)
    done = call("fit", *tmp_path.rglob("web.csv"), "--model", tmp_path / "m", *TINY)
    refused(done, 3, "'web'")


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("verb", ["detect", "model"])
def test_bad_model(call, model, data, tmp_path, verb):
    copy = shutil.copytree(model, tmp_path / "m")
    alter(copy / "weights.safetensors")
    words = {
        "detect": ("detect", data / "new.csv", "--model", copy),
        "model": ("model", "show", copy),
    }
    refused(call(*words[verb]), 4, "weights.safetensors", "altered")


def test_no_model(call, data, tmp_path):
    done = call("detect", data / "new.csv", "--model", tmp_path / "m")
    refused(done, 4, str(tmp_path / "m"), "imdiffusion fit")


def test_unwritable_output_is_found_before_the_work(call, model, data, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("/proc/out.csv", tmp_path / "absent" / "out.csv", tmp_path / "file" / "out.csv"):
        done = call("detect", data / "new.csv", "--model", model, "--out", place)
        refused(done, 3, str(place))
    refused(call("fit", data / "train.csv", "--model", "/proc/m", *TINY), 3, "/proc/m")
    refused(call("fit", data / "train.csv", "--model", tmp_path / "file", *TINY), 3, "a file")
    refused(call("report", data / "new.csv", "--model", model, "--out", "/proc/r.html"), 3, "/proc")


def test_a_folder_that_is_no_model_is_not_replaced(call, data, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    refused(call("fit", data / "train.csv", "--model", tmp_path / "work", *TINY), 3, "work")
    assert contents(tmp_path) == {"work/thesis.txt": b"years"}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["fit", "detect", "impute"])
def test_full_disk(start, model, data, tmp_path, verb):
    words = {
        "fit": (data / "train.csv", "--model", tmp_path / "m", *TINY),
        "detect": (data / "new.csv", "--model", model, "--scores", tmp_path / "scores.csv"),
        "impute": (data / "new.csv", "--model", model, "--out", tmp_path / "all.parquet"),
    }[verb]
    # The kernel refuses to let a file grow beyond 4 KiB, as a full disk would.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    done = ended(start(verb, *words, before=full))
    refused(done, 3, str(words[2]) if verb == "fit" else str(words[-1]))
    assert not contents(tmp_path)


def test_standard_output_on_a_full_disk(start, light, data):
    with Path("/dev/full").open("w") as full:
        done = ended(start("detect", data / "new.csv", "--model", light, "--json", stdout=full))
    assert done.code == 3
    assert "error: cannot write" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("option", ["--out", "--scores"])
def test_an_input_is_never_replaced(call, model, data, tmp_path, option):
    path = tmp_path / "new.csv"
    path.write_bytes((data / "new.csv").read_bytes())
    done = call("detect", path, "--model", model, option, path)
    assert done.code == 2
    assert "is an input" in done.err
    assert path.read_bytes() == (data / "new.csv").read_bytes()


def test_what_is_accepted_is_said_in_one_warning(call, tmp_path):
    table = series(400).assign(disk=7.0)
    table.to_csv(tmp_path / "t.csv", index=False)
    table.drop(index=range(100, 110)).to_csv(tmp_path / "gap.csv", index=False)
    fit = call("fit", tmp_path / "t.csv", "--model", tmp_path / "m", *TINY)
    detect = call("detect", tmp_path / "gap.csv", "--model", tmp_path / "m", "--json")
    for done, words in ((fit, ("constant", "disk")), (detect, ("gap",))):
        assert done.code == 0, done
        warned = [line for line in done.err.splitlines() if line.startswith("warning: ")]
        assert any(all(word in line for word in words) for line in warned), done.err
        assert ".py" not in done.err
    assert json.loads(detect.out)["summary"]["rows"] == 390
