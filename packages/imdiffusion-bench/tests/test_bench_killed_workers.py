"""Workers that die, are cut off or never start: what is lost, what is not, what is said."""

import threading
import time
from dataclasses import replace

import psutil
import pytest
from tiny_data import write_set
from tiny_detectors import TINY, ZSCORE

from imdiffusion import workers as core
from imdiffusion_bench import record, workers
from imdiffusion_bench.measure import Group, fit_key
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.runner import bench
from imdiffusion_bench.workers import GroupWorker

pytestmark = pytest.mark.slow

# One fit, scored in three ways.
FIRST, SECOND, THIRD = (
    Variant(name, "fast", {**TINY, "smooth": (smooth,)})
    for name, smooth in (("first", 1), ("second", 2), ("third", 3))
)
PCA = Variant("pca", "pca")


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path, entities=("machine-1-1",))


def worker(monkeypatch, before: str) -> None:
    """Have every worker run `before`, with the module of real workers at hand as `workers`."""
    program = (
        f"import os, sys, time\nfrom imdiffusion_bench import workers\n{before}\nworkers.main()"
    )
    monkeypatch.setattr(workers, "PROGRAM", ("-c", program))


def measured(root, out, *variants):
    """The state after a call, and its records by variant, in the order of the file."""
    state = bench(Plan("p", ("SMD",), variants), out, root=root, threads=1, device="cpu")
    return state, {one["variant"]: one for one in record.read([out])}


def test_a_death_fails_the_run_in_progress_alone(root, tmp_path, monkeypatch):
    assert len({fit_key(one) for one in (FIRST, SECOND, THIRD)}) == 1
    worker(
        monkeypatch,
        """
real = workers.measure
def measure(*words, **more):
    for record in real(*words, **more):
        if record["variant"] == "second":
            os.kill(os.getpid(), 9)
        yield record
workers.measure = measure""",
    )
    out = tmp_path / "runs.jsonl"
    state, found = measured(root, out, FIRST, SECOND, THIRD, ZSCORE)
    assert (state.done, state.failed, state.left) == (3, 1, 0)
    assert list(found) == ["first", "second", "third", "zscore"]
    assert {name: one["status"] for name, one in found.items()} == {
        "first": "ok",
        "second": "failed",
        "third": "ok",
        "zscore": "ok",
    }
    assert found["second"]["stage"] == "process"
    assert "SIGKILL" in found["second"]["error"]["message"]
    # The fit died with the worker; a new one stands under the same settings.
    assert found["third"]["fit_of"] == "first"


def test_an_answer_cut_short_is_a_death_and_no_more(root, tmp_path, monkeypatch):
    starts = tmp_path / "starts"
    worker(
        monkeypatch,
        f"open({str(starts)!r}, 'a').write('x')"
        """
import json
from imdiffusion import workers as core
real = core._write
def write(pipe, message):
    if message.get("record", {}).get("variant") == "zscore":
        pipe.write(json.dumps(message, default=float)[:200].encode())
        pipe.flush()
        os.kill(os.getpid(), 9)
    real(pipe, message)
core._write = write""",
    )
    state, found = measured(root, tmp_path / "runs.jsonl", ZSCORE, PCA)
    assert (state.done, state.failed) == (1, 1)
    assert "SIGKILL" in found["zscore"]["error"]["message"]
    assert found["pca"]["status"] == "ok"
    assert starts.read_text() == "xx"  # what was taken up is not tried again


@pytest.mark.parametrize(
    ("fate", "told"),
    [("sys.exit('no luck')", "exit code 1: no luck"), ("time.sleep(600)", "SIGKILL")],
)
def test_workers_that_never_take_up_a_group_do_not_try_for_ever(
    root, tmp_path, monkeypatch, fate, told
):
    starts, out = tmp_path / "starts", tmp_path / "runs.jsonl"
    ends = "os.close(0); os.close(1)"  # whatever is sent to it, now or before, nobody reads
    program = f"import os, sys, time\nopen({str(starts)!r}, 'a').write('x')\n{ends}\n{fate}"
    monkeypatch.setattr(workers, "PROGRAM", ("-c", program))
    monkeypatch.setattr(core, "GRACE", 1.0)
    state, found = measured(root, out, FIRST, SECOND)
    assert (state.done, state.failed, state.left) == (0, 2, 0)
    for one in found.values():
        assert one["stage"] == "process"
        assert told in one["error"]["message"]
    assert starts.read_text() == "x" * 4  # twice for each run


def test_a_worker_that_dies_before_it_takes_up_a_group_fails_nothing(root, tmp_path, monkeypatch):
    once = tmp_path / "once"
    worker(
        monkeypatch,
        f"""
if not os.path.exists({str(once)!r}):
    open({str(once)!r}, "w").close()
    os.kill(os.getpid(), 9)""",
    )
    state, found = measured(root, tmp_path / "runs.jsonl", FIRST, SECOND)
    assert once.exists()
    assert (state.done, state.failed, state.left) == (2, 0, 0)
    assert found["second"]["fit_shared"]


def children():
    return {one.pid for one in psutil.Process().children()}


def test_a_worker_that_died_while_idle_is_replaced(root, tmp_path):
    line = GroupWorker(root, "cpu", 1, tmp_path / "work", None)
    group = Group("p", "SMD", "machine-1-1", 0, (ZSCORE,))
    before = children()
    try:
        *_, first = line.measure(group)
        (idle,) = children() - before
        psutil.Process(idle).kill()
        psutil.wait_procs([psutil.Process(idle)], timeout=20)
        *_, second = line.measure(replace(group, variants=(PCA,)))
        assert line.began
        assert [one["status"] for one in (first, second)] == ["ok", "ok"]
    finally:
        line.stop()
        line.close()


def test_no_worker_is_started_once_all_was_stopped(root, tmp_path):
    line = GroupWorker(root, "cpu", 1, tmp_path / "work", None)
    before = children()
    line.stop()
    assert list(line.measure(Group("p", "SMD", "machine-1-1", 0, (ZSCORE,)))) == []
    assert children() == before
    line.close()


def test_what_was_answered_before_the_end_is_written_down(root, tmp_path):
    out, before = tmp_path / "runs.jsonl", set(threading.enumerate())
    asked = Plan("p", ("SMD",), (ZSCORE, PCA, Variant("random", "random")))

    def interrupt(state, run):
        if run is not None:
            while set(threading.enumerate()) - before:  # until all the others are measured too
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(asked, out, root=root, threads=1, device="cpu", watch=interrupt)
    assert [one["variant"] for one in record.read([out])] == ["zscore", "pca", "random"]
    assert bench(asked, out, root=root, threads=1, device="cpu").found == 3
