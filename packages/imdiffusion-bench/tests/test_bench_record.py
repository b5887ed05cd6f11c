"""The file of runs: one call at a time writes it, and what is no run in it is told by line."""

import json
import os
import re
import subprocess
import sys
import warnings

import pytest
from tiny_data import write_set

from imdiffusion.errors import DataError, DataWarning, OutputError, UsageError
from imdiffusion_bench import record
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.runner import bench

ASKED = Plan("p", ("SMD",), (Variant("zscore", "zscore"), Variant("random", "random")))


def run(id_="a", **more):
    """A line as the runner writes it, as far as readers look at every line."""
    names = {name: name for name in record.NAMES}
    ends = {"status": "ok", "rows": {"train": 1, "test": 1}, "seconds": {}, "metrics": {}}
    return {"schema": record.SCHEMA, **names, "id": id_, "seed": 0, **ends, **more}


FAILED = {**run("c", status="failed", stage="fit", error={})}
del FAILED["metrics"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.jsonl"


def ids(*paths):
    return [one["id"] for one in record.read(paths)]


# -- one writer


def test_a_second_call_on_the_same_file_is_refused_at_once(tmp_path, path):
    root = write_set(tmp_path)
    told = []

    def again(state, found):
        if not told:
            with pytest.raises(UsageError, match="--out of its own") as refused:
                bench(ASKED, path, root=root, threads=1, device="cpu")
            told.append(str(refused.value))

    state = bench(ASKED, path, root=root, threads=1, device="cpu", watch=again)
    assert state.done == 4
    assert str(path) in told[0]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["SMD", "runs.jsonl"]


def test_another_process_is_kept_out_until_it_is_killed(tmp_path, path):
    hold = "import sys, time; from pathlib import Path; from imdiffusion_bench import record\n"
    hold += "with record.alone(Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    held = subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == "mine\n"
        (tmp_path / "other name").symlink_to(path)
        for name in (path, tmp_path / "other name"):
            with pytest.raises(UsageError, match="another call"), record.alone(name):
                pass
    finally:
        held.kill()
        held.communicate()
    with record.alone(path):
        pass
    assert not path.exists()  # nothing was measured
    assert not path.with_name("runs.jsonl.lock").exists()


def test_a_lock_that_its_holder_removed_holds_nobody(path, monkeypatch):
    """Between opening the lock file and locking it, who held it may end and remove it."""
    real, opened = os.fstat, []

    def fstat(number):
        if not opened:
            opened.append(number)
            path.with_name("runs.jsonl.lock").unlink()
        return real(number)

    monkeypatch.setattr(os, "fstat", fstat)
    with record.alone(path):
        monkeypatch.undo()
        assert opened
        with pytest.raises(UsageError), record.alone(path):
            pass


def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(tmp_path):
    root = write_set(tmp_path)
    (tmp_path / "file").write_text("")
    seen = []
    for out, words in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "runs.jsonl", "File exists|Not a directory"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(OutputError, match=words):
            bench(ASKED, out, root=root, watch=lambda *told: seen.append(told))
    assert not seen
    # A folder that is missing is made.
    assert bench(ASKED, tmp_path / "new" / "runs.jsonl", root=root, threads=1, device="cpu").done


# -- reading


def test_the_latest_line_of_an_id_counts(path):
    for line in (run("a", seed=1), run("b"), run("a", metrics={"x": float("nan")})):
        record.append(path, line)
    with pytest.warns(DataWarning, match="two answers"):
        found = list(record.read([path]))
    assert [one["id"] for one in found] == ["b", "a"]
    assert found[1]["metrics"] == {"x": None}


def test_two_answers_to_one_question_are_told(path):
    other = path.with_name("other.jsonl")
    for line in (run("a", metrics={"x": 0.5}), run("b"), FAILED):
        record.append(path, line)
    for line in (run("a", metrics={"x": 0.5}), run("b"), run("c", metrics={"x": 0.1})):
        record.append(other, line)
    assert ids(path, other) == ["a", "b", "c"]  # the same again, and what had failed before
    record.append(other, run("a", metrics={"x": 0.6}))
    with pytest.warns(DataWarning, match="1 runs have two answers .*entity, variant, seed 0"):
        assert ids(path, other) == ["b", "c", "a"]


def test_a_torn_last_line_is_normal(path):
    record.append(path, run("a"))
    with path.open("a") as file:
        file.write('{"schema": 1, "id": "torn')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(path) == ["a"]


def test_other_torn_lines_are_counted_in_one_warning_a_file(tmp_path, path):
    for id_ in "abc":
        record.append(path, run(id_))
        with path.open("a") as file:
            file.write('{"schema": 1, "id": "torn')
    other = tmp_path / "other.jsonl"
    record.append(other, run("d"))
    with other.open("ab") as file:
        file.write(b"\0" * 20 + b"\n\n")  # what a crash of the machine can leave
    with pytest.warns(DataWarning) as told:
        assert ids(path, other) == ["a", "b", "c", "d"]
    texts = [str(one.message) for one in told]
    assert len(texts) == 2
    assert re.search(r"runs\.jsonl: 2 lines were .*line 2", texts[0])
    assert re.search(r"other\.jsonl: 1 line was .*line 2", texts[1])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"PAR1\x00\xff\xfe", "line 2: not text"),
        (b"5", "line 2: not a run of schema 2"),
        (json.dumps({"schema": 99}).encode(), "line 2: not a run of schema 2"),
        (json.dumps({**run(), "id": None}).encode(), "line 2: .* 'id'"),
        (json.dumps({**run(), "id": []}).encode(), "line 2: .* 'id'"),
        (json.dumps({**run(), "status": "fine"}).encode(), "line 2: .* 'status'"),
        (json.dumps({**run(), "status": "failed"}).encode(), "line 2: .* 'stage' and 'error'"),
        (json.dumps({"schema": 2, "id": "x"}).encode(), "line 2: .* 'variant' .* 'status'"),
    ],
)
def test_what_is_no_run_is_told_by_file_and_line(path, line, told):
    record.append(path, run())
    with path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DataError, match=rf"runs\.jsonl, {told}"):
        list(record.read([path]))


def test_a_file_of_something_else_is_refused(tmp_path, path):
    path.write_text("\n# Notes\n\n- nothing measured\n")
    with pytest.raises(DataError, match="line 2: not a run"):
        ids(path)
    # Nor is anything appended to it.
    with pytest.raises(DataError, match="line 2: not a run"):
        bench(ASKED, path, root=write_set(tmp_path), threads=1, device="cpu")
    assert path.read_text().endswith("measured\n")
    with pytest.raises(DataError, match="does not exist"):
        ids(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=f"cannot read {tmp_path}: Is a directory"):
        ids(tmp_path)


def test_packed_runs_are_read_before_the_others_and_keep_six_digits(path):
    values = {"auc_pr": 0.123456789, "vus_pr": 0.123456789}  # the second one ranks
    first = {**run(), "metrics": {"label_free": values}, "extra": {}}
    record.append(path, first)
    packed = record.pack(path)
    assert packed.name == "runs.jsonl.xz"
    assert not path.exists()
    assert record.there(path)
    assert record.files_in(path.parent) == [path]
    (again,) = record.read([path])
    assert again["metrics"] == {"label_free": {"auc_pr": 0.123457, "vus_pr": 0.123456789}}
    record.append(path, {**first, "id": "f" * 16})
    assert [one["id"] for one in record.read([packed])] == [first["id"], "f" * 16]
    record.append(path, first)  # measured again, with the same numbers: no second answer
    assert len(list(record.read([path]))) == 2
    record.pack(path)
    assert len(list(record.read([path]))) == 2
    packed.write_bytes(packed.read_bytes()[:-40] + b"0" * 40)
    with pytest.raises(DataError, match="damaged"):
        list(record.read([path]))


def test_runs_of_schema_1_are_read_as_those_of_today(path):
    old = {**run(), "schema": 1, "row": "fast"}
    del old["detector"]
    record.append(path, old)
    (found,) = record.read([path])
    assert (found["schema"], found["detector"]) == (record.SCHEMA, "fast")
    assert "row" not in found
