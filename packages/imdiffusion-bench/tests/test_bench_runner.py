"""The runner: what a plan asks for, measured once each, whatever dies on the way."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from tiny_data import write_entity, write_set
from tiny_detectors import FAST, ROWS, TINY, ZSCORE

from imdiffusion.errors import ConfigError, DataError, DataWarning, UsageError
from imdiffusion.schema import spelled
from imdiffusion_bench import record
from imdiffusion_bench.detectors import names, settings_of
from imdiffusion_bench.measure import fit_key, question_id
from imdiffusion_bench.plan import PAPER_OWN, PLANS, Plan, Variant
from imdiffusion_bench.runner import bench, groups_of, work_folder
from imdiffusion_bench.studies import named_plan


def test_a_plan_is_measured_once_and_resumes(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    asked = Plan("p", ("SMD",), ROWS, seeds=(0, 1))
    first = bench(asked, out, root=root, jobs=2, threads=1, device="cpu")
    assert (first.asked, first.found, first.done, first.failed) == (8, 0, 8, 0)
    lines = out.read_text().splitlines()
    again = bench(asked, out, root=root, threads=1, device="cpu")
    assert (again.found, again.done) == (8, 0)
    assert out.read_text().splitlines() == lines
    # A line that a kill tore off is measured again, the others are not.
    out.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    healed = bench(asked, out, root=root, threads=1, device="cpu")
    assert (healed.found, healed.done) == (7, 1)
    with pytest.warns(DataWarning, match="1 line was skipped"):
        kept = {one["id"]: one for one in record.read([out])}
    torn = json.loads(lines[-1])
    assert len(kept) == 8
    assert kept[torn["id"]]["metrics"] == torn["metrics"]


def test_what_no_seed_changes_is_measured_once(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    asked = Plan("p", ("SMD",), (ZSCORE, *ROWS), seeds=(3, 4))
    assert bench(asked, out, root=root, threads=1, device="cpu").asked == 10
    seeds = [(one["variant"], one["drawn"], one["seed"]) for one in record.read([out])]
    assert [seed for seed in seeds if seed[0] == "zscore"] == [("zscore", False, 0)] * 2
    assert seeds.count(("random", True, 3)) == seeds.count(("random", True, 4)) == 2
    # The same question has the same id whatever other seeds it is asked with.
    other = bench(replace(asked, variants=(ZSCORE,), seeds=(7,)), out, root=root, device="cpu")
    assert (other.asked, other.found) == (2, 2)


def test_shards_are_disjoint_and_together_everything(tmp_path):
    root = write_set(tmp_path)
    asked = Plan("p", ("SMD",), ROWS, seeds=(0, 1))
    ids = []
    for part in (1, 2, 3):
        out = tmp_path / f"{part}.jsonl"
        bench(asked, out, root=root, shard=(part, 3), threads=1, device="cpu")
        ids += [one["id"] for one in record.read([out])]
    assert len(ids) == len(set(ids)) == 8


def test_bad_entities_fail_alone_and_say_why(tmp_path):
    rng = np.random.default_rng(1)
    train, test = rng.normal(size=(2, 300, 3)).astype(np.float32)
    good = np.zeros(300, np.int8)
    good[5:9] = 1
    root = write_set(tmp_path, entities=("good",))
    (root / "SMD" / "index.json").unlink()
    write_entity(root / "SMD" / "other-values", train, test, np.where(good, 7, 0).astype(np.int8))
    write_entity(root / "SMD" / "no-anomaly", train, test, np.zeros(300, np.int8))
    write_entity(root / "SMD" / "short", train[:9], test[:9], good[:9])
    write_entity(root / "SMD" / "no-split", train, test, good)
    (root / "SMD" / "no-split" / "test.parquet").unlink()
    write_entity(root / "SMD" / "no-train", train, test, good)
    (root / "SMD" / "no-train" / "train.parquet").unlink()
    (root / "SMD" / "torn").mkdir()
    (root / "SMD" / "torn" / "train.parquet").write_bytes(b"PAR1 not really")
    (root / "SMD" / "torn" / "test.parquet").write_bytes(b"PAR1 not really")
    out = tmp_path / "runs.jsonl"
    state = bench(Plan("p", ("SMD",), (FAST,)), out, root=root, threads=1, device="cpu")
    found = {one["entity"]: one for one in record.read([out])}
    assert (state.done, state.failed) == (1, 6)
    assert found["good"]["status"] == "ok"
    stages = {name: one.get("stage") for name, one in found.items()}
    assert stages == {
        "good": None,
        "other-values": "evaluate",
        "no-anomaly": "evaluate",
        "short": "fit",
        "no-split": "load",
        "no-train": "load",
        "torn": "load",
    }
    for name, words in {
        "other-values": "value 7",
        "no-anomaly": "no anomaly",
        "short": "fewer than a window",
        "no-split": "test.parquet",
        "no-train": "train.parquet",
    }.items():
        assert words in found[name]["error"]["message"], found[name]["error"]
        assert "metrics" not in found[name]


def test_a_worker_that_is_killed_is_a_failure_and_the_rest_goes_on(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    slow = Variant("slow", "fast", {**TINY, "max_steps": 100_000})
    killed = []

    def kill(state, _):
        if not killed and any(": fit" in doing for doing in state.doing.values()):
            for child in psutil.Process().children():
                if "imdiffusion_bench.workers" in child.cmdline():
                    killed.append(child.pid)
                    child.kill()

    asked = Plan("p", ("SMD",), (slow, ZSCORE), entities={"SMD": ("machine-1-1",)})
    state = bench(asked, out, root=root, threads=1, device="cpu", watch=kill)
    assert (state.done, state.failed) == (1, 1)
    found = {one["variant"]: one for one in record.read([out])}
    assert found["slow"]["stage"] == "process"
    assert "SIGKILL" in found["slow"]["error"]["message"]
    assert found["zscore"]["status"] == "ok"
    # Failures are not asked for again unless they are.
    assert bench(asked, out, root=root, device="cpu").found == 2
    asked = Plan("p", ("SMD",), (ZSCORE,), entities={"SMD": ("machine-1-1",)})
    assert bench(asked, out, root=root, device="cpu", retry_failed=True).found == 1


def test_a_call_interrupted_mid_fit_goes_on_where_it_was(tmp_path):
    root, out = write_set(tmp_path, entities=("machine-1-1",)), tmp_path / "runs.jsonl"
    # 400 steps of some milliseconds: reports come twice a second, so some fall inside the fit.
    asked = Plan("p", ("SMD",), (Variant("long", "fast", {**TINY, "max_steps": 400}),))
    seen = []

    def steps(state):
        for doing in state.doing.values():
            if ": fit " in doing:
                seen.append(int(doing.rpartition(" ")[2].partition("/")[0].replace(",", "")))

    def interrupt(state, _):
        steps(state)
        if seen and seen[-1] > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(asked, out, root=root, threads=1, device="cpu", watch=interrupt)
    assert not out.exists()
    assert list(work_folder(out).rglob("training.safetensors"))
    stopped = seen[-1]
    seen.clear()
    state = bench(asked, out, root=root, threads=1, device="cpu", watch=lambda s, _: steps(s))
    assert state.done == 1
    assert seen
    assert seen[0] >= stopped
    assert not work_folder(out).exists()


def test_a_worker_does_not_outlive_a_caller_that_was_killed(tmp_path):
    root = write_set(tmp_path, entities=("machine-1-1",))
    command = [sys.executable, "-m", "imdiffusion.cli", "bench", "run", "--sets", "SMD"]
    command += ["--detectors", "fast", "--data", str(root), "--out", str(tmp_path / "runs.jsonl")]
    for key, value in {**TINY, "max_steps": 100_000}.items():
        command += ["--set", f"{key}={spelled(value)}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    worker = psutil.Process(process.pid)
    while not (children := worker.children()):
        time.sleep(0.1)
        assert process.poll() is None
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_time_that_is_up_leaves_the_rest_for_the_next_call(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    slow = Variant("slow", "fast", {**TINY, "max_steps": 100_000})
    asked = Plan("p", ("SMD",), (slow,))
    state = bench(asked, out, root=root, threads=1, device="cpu", minutes=0.05)
    assert (state.done, state.failed, state.left) == (0, 0, 2)
    assert not out.exists()


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_of_known_rows_and_valid_settings(name):
    asked = named_plan(name)
    assert asked.name == name
    assert asked.variants
    for dataset in asked.datasets:
        for variant in asked.variants:
            one = asked.resolved(variant, dataset)
            assert settings_of(one.detector, one.settings)
            assert one.detector in names()
    assert len({one.name for one in asked.variants}) == len(asked.variants)
    keys = [
        settings_of(one.detector, one.settings) | {"detector": one.detector}
        for one in asked.variants
    ]
    assert all(keys.count(key) == 1 for key in keys), "two variants are the same"


def test_the_papers_own_settings_reach_only_its_rows():
    asked = named_plan("paper_three")
    paper, random = asked.variants
    assert asked.resolved(paper, "SMD").settings["reduce"] == PAPER_OWN["SMD"]["reduce"] == "max"
    assert "reduce" not in asked.resolved(paper, "MSL").settings
    assert asked.resolved(random, "SMD") == random
    # One series of all entities is the same data set; what a variant sets itself wins.
    assert asked.resolved(paper, "SMD-concatenated").settings["reduce"] == "max"
    assert asked.resolved(paper, "MSL-concatenated") == paper
    summed = replace(paper, settings={"reduce": "sum"})
    assert asked.resolved(summed, "SMD-concatenated").settings["reduce"] == "sum"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is here")
def test_a_device_that_is_not_here_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no CUDA GPU here"):
        bench(named_plan("small"), tmp_path / "runs.jsonl", device="cuda")
    assert not any(tmp_path.iterdir())


def test_only_the_states_of_a_calls_own_fits_are_removed(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    asked = Plan("p", ("SMD",), (FAST,), entities={"SMD": ("machine-1-1",)})
    mine = work_folder(out) / "SMD" / "machine-1-1" / "0" / fit_key(FAST)
    others = [
        work_folder(out) / "SMD" / "machine-1-1" / "0" / "of another plan",
        work_folder(out) / "SMD" / "machine-1-2" / "0" / fit_key(FAST),
        work_folder(out) / "MSL" / "C-1" / "3" / fit_key(FAST),
    ]
    empty = work_folder(out) / "SMD" / "machine-1-1" / "1"
    for folder in (mine, *others, empty):
        folder.mkdir(parents=True)
    for folder in (mine, *others):
        (folder / "left").write_text("by a call that was killed")
    bench(asked, out, root=root, threads=1, device="cpu")
    assert not mine.exists()
    assert all((folder / "left").exists() for folder in others)
    # The next call has the rest of the data set, and another one data sets of its own.
    bench(replace(asked, entities={}), out, root=root, threads=1, device="cpu")
    assert [folder.exists() for folder in others] == [True, False, True]
    assert not (work_folder(out) / "SMD" / "machine-1-2").exists()
    assert bench(replace(asked, seeds=(9,)), out, root=root, minutes=1e-6, device="cpu").left == 1
    assert others[0].exists()


def test_what_cannot_be_asked_for_is_refused_before_anything_runs(tmp_path):
    root, out = write_set(tmp_path), tmp_path / "runs.jsonl"
    fine = Plan("p", ("SMD",), ROWS)
    with pytest.raises(ConfigError, match="unknown detector 'zscor'"):
        bench(Plan("p", ("SMD",), (Variant("x", "zscor"),)), out, root=root)
    with pytest.raises(UsageError, match="no entity 'machine-9'"):
        groups_of(Plan("p", ("SMD",), ROWS, entities={"SMD": ("machine-9",)}), root)
    with pytest.raises(UsageError, match="shard 4/3"):
        bench(fine, out, root=root, shard=(4, 3))
    with pytest.raises(UsageError, match="jobs"):
        bench(fine, out, root=root, jobs=0)
    with pytest.raises(UsageError, match="threads = 0"):
        bench(fine, out, root=root, threads=0)
    for minutes in (0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="leave no time"):
            bench(fine, out, root=root, minutes=minutes)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        bench(fine, out, root=root, device="gpu")
    with pytest.raises(DataError, match="needs the folder"):
        bench(fine, out)
    with pytest.raises(ConfigError, match="unknown setting 'window'"):
        settings_of("zscore", {"window": 5})
    with pytest.raises(ConfigError, match="alarm_rate"):
        settings_of("zscore", {"alarm_rate": 7.0})
    assert not out.exists()


def test_what_was_measured_is_known_again_by_later_versions():
    """Golden ids: when this fails, every run that was ever kept would be measured again."""
    paper = Variant("paper", "paper", {"max_steps": 5})
    assert question_id("SMD", "machine-1-1", ZSCORE, 0) == "47be43eb3f5c49b9"
    assert question_id("SMD", "machine-1-1", paper, 0) == "dd01a2b12f679221"
    # A setting at its default is the same question as one that is not named, or not yet there.
    named = Variant("paper", "paper", {"max_steps": 5, "window": 100})
    assert question_id("SMD", "machine-1-1", named, 0) == "dd01a2b12f679221"
    others = [
        question_id("SMD", "machine-1-1", paper, 1),
        question_id("SMD", "machine-1-2", paper, 0),
        question_id("SMD", "machine-1-1", Variant("paper", "paper", {"max_steps": 6}), 0),
    ]
    assert len({"dd01a2b12f679221", *others}) == 4
