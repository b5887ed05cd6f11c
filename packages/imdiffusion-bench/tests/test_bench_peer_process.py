"""A peer's process trains and scores, fails in every way it can, and ends with its runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from imdiffusion_bench import detectors
from imdiffusion_bench.peers.run import call_peer
from tiny_peer import FAR, JOB, PYTHON, TEST, TRAIN

from imdiffusion.errors import DataError, UsageError


@pytest.fixture(name="call")
def _call(tmp_path):
    started = []

    def call(code, *, timeout_s=60.0, job=JOB, train=TRAIN, **more):
        worker = tmp_path / "worker.py"
        worker.write_text(textwrap.dedent(code))
        started.append(
            call_peer(PYTHON, worker, job, train, name="test:far", timeout_s=timeout_s, **more)
        )
        return started[-1]

    yield call
    for process in started:
        process.close()


def scoring(lines):
    """A worker that trains at once and scores with these lines."""
    return f"""
    import os, sys, time
    import numpy as np
    VERSIONS = ()
    def fit(train, job):
        def score(test):
            {lines}
        return score
    """


def test_a_worker_trains_once_and_scores_as_often_as_asked(call):
    process = call(FAR)
    assert process.versions == {"numpy": np.__version__}
    assert process.seconds > 0
    np.testing.assert_array_equal(process.score(TEST), [5, 0, 45])  # the mean is (5, 6)
    np.testing.assert_array_equal(process.score(TEST[:1]), [5])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_memory_of_a_worker_is_its_own(call):
    lines = "keep = np.ones(40_000_000); return test[:, 0] + keep[: len(test)]"
    process = call(scoring(lines))
    before = process.memory_mib
    process.score(TEST)
    assert process.memory_mib > before + 250  # 40 million numbers are 305 MiB
    process.close()
    assert np.isnan(process.memory_mib)


def test_a_closed_worker_is_gone_with_its_folder(call):
    process = call(FAR)
    folder, number = process._folder, process._process.pid
    assert folder.is_dir()
    process.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with pytest.raises(DataError, match="is over"):
        process.score(TEST)


def test_a_gpu_is_hidden_where_none_is_to_be_used(call, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    seen = scoring("return np.full(len(test), float(os.environ['CUDA_VISIBLE_DEVICES'] or -1))")
    assert call(seen).score(TEST)[0] == 3
    assert call(seen, gpu=False).score(TEST)[0] == -1
    for device in ("cpu", "cuda"):
        assert detectors.make("tsb_ad:cnn", {}, seed=0, device=device).detector.device == device


def test_the_process_ends_with_its_object(call, tmp_path):
    (tmp_path / "worker.py").write_text(textwrap.dedent(FAR))
    process = call_peer(PYTHON, tmp_path / "worker.py", JOB, TRAIN, name="x", timeout_s=60)
    folder, number = process._folder, process._process.pid
    del process
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="states are read from /proc")
def test_a_worker_in_training_ends_with_a_runner_that_was_killed(tmp_path):
    (tmp_path / "worker.py").write_text(
        "import os\nVERSIONS = ()\n"
        "def fit(train, job):\n"
        f"    open({str(tmp_path / 'number')!r}, 'w').write(f'{{os.getpid()}} ')\n"
        "    while True: pass\n"
    )
    runner = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from imdiffusion_bench.peers.run import call_peer\n"
        f"call_peer(Path(sys.executable), Path({str(tmp_path / 'worker.py')!r}), {JOB!r},\n"
        "          np.ones((6, 2)), name='x', timeout_s=600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    number = tmp_path / "number"
    with subprocess.Popen([sys.executable, "-c", runner], env=environment) as process:
        try:
            wait_until(lambda: number.is_file() and number.read_text().endswith(" "))
        finally:
            process.kill()
    worker = int(number.read_text())
    try:
        wait_until(lambda: not runs(worker))
    finally:
        if runs(worker):
            os.kill(worker, signal.SIGKILL)
    assert not list(tmp_path.glob("imdiffusion-peer-*"))


def runs(number):
    """Whether a process is there, other than as a zombie that nobody has asked for its end."""
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(holds, seconds=60.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.05)


def test_a_worker_that_fails_in_training_says_why(call):
    code = """
    VERSIONS = ()
    def fit(train, job):
        print("10%\\r50%\\rthe last of the bar")
        raise SystemExit(f"needs 100 rows, was given {len(train)}")
    """
    with pytest.raises(DataError, match=r"failed to train \(exit status 1\)") as caught:
        call(code)
    assert "needs 100 rows, was given 6" in str(caught.value)
    assert "test:far" in str(caught.value)
    assert "the last of the bar" in str(caught.value)
    assert "50%" not in str(caught.value)


def test_a_worker_that_fails_in_scoring_says_why_and_is_over(call):
    process = call(scoring("raise ValueError('a row too many')"))
    with pytest.raises(DataError, match="a row too many"):
        process.score(TEST)
    with pytest.raises(DataError, match="is over"):
        process.score(TEST)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("return np.zeros(2)", r"shape \(2,\)"),
        ("return np.zeros((3, 1))", r"shape \(3, 1\)"),
        ("return np.array([1, np.nan, np.inf])", "2 of 3 scores"),
        ("return np.arange(3)", "type int64"),
        ("return np.array(['a', 'b', 'c'])", "for 3 rows"),
        ("os._exit(0)", "failed to score .exit status 0"),
        ("os.kill(os.getpid(), 9)", "failed to score .exit status -9"),
        ("return np.array([{}, {}, {}], dtype=object)", "failed to score"),
    ],
)
def test_garbage_is_never_a_score(call, lines, told):
    process = call(scoring(lines))
    with pytest.raises(DataError, match=told):
        process.score(TEST)


def test_a_score_that_is_no_array_is_never_unpickled(call):
    code = """
    import sys, numpy as np
    VERSIONS = ()
    def fit(train, job):
        def score(test):
            folder = sys.argv[1]
            keep, np.save = np.save, lambda *a, **k: open(f"{folder}/score.npy", "wb").write(b"x")
            return test
        return score
    """
    with pytest.raises(DataError, match="no readable score"):
        call(code).score(TEST)


@pytest.mark.parametrize(
    "says", ["hello", "[1]", '{"versions": 3, "seconds": 1}', '{"seconds": 1}']
)
def test_garbage_instead_of_an_answer(call, says):
    code = f"""
    import os
    # The protocol has moved the pipe away from 1; find it, as a package with a fault might.
    VERSIONS = ()
    def fit(train, job):
        for number in range(3, 20):
            try:
                os.write(number, b'{says}\\n')
            except OSError:
                pass
        return None
    """
    with pytest.raises(DataError, match=r"answered with|something else"):
        call(code)


def test_a_slow_worker_is_ended_in_time(call):
    code = "import time\nVERSIONS = ()\ndef fit(train, job):\n    time.sleep(60)\n"
    with pytest.raises(DataError, match=r"longer than 0\.3 s to train") as caught:
        call(code, timeout_s=0.3)
    assert "timeout_s" in caught.value.remedy


def test_no_worker_at_all(call, tmp_path):
    with pytest.raises(DataError, match="SyntaxError"):
        call("def fit(:")


def test_an_interpreter_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UsageError, match=r"no-python: No such file"):
        call_peer(Path("no-python"), tmp_path / "w.py", JOB, TRAIN, name="x", timeout_s=1)
    assert not [*tmp_path.iterdir()]
