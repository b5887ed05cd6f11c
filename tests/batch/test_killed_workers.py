"""Workers and calls that are killed: no entity is lost, none is done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_parts import TINY, kill, left, services, statuses, table, workers

from imdiffusion import batch
from imdiffusion.errors import ConfigError

pytestmark = pytest.mark.slow


def test_a_worker_that_dies_is_replaced_and_its_entity_is_not_lost(fitted, data, tmp_path):
    killed: list[int] = []

    def watch(one, step):
        if not killed:  # the others' worker is at work, or about to be
            killed.extend(process.pid for process in workers())
            for process in workers():
                kill(process)

    found = batch.fit(data, tmp_path / "models", jobs=1, threads=1, watch=watch, **TINY)
    assert killed
    assert set(statuses(found).values()) == {"done"}
    assert left(tmp_path / "models") == left(fitted)
    assert not workers()


def test_an_entity_whose_worker_always_dies_is_named(tmp_path, monkeypatch, data, fitted):
    # A file that a worker cannot outlive: reading it kills the process, as memory's end would.
    poison = services(tmp_path / "in", 3)
    table().to_csv(poison / "poison.csv", index=False)
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(batch.__file__).parents[2]}")
    found = batch.fit(poison, tmp_path / "models", jobs=1, threads=1, retries=1, **TINY)
    assert found.failed.keys() == {"poison"}
    assert "died 2 times" in found.failed["poison"]
    assert "SIGKILL" in found.failed["poison"]
    assert found.outcomes["poison"].answer.attempts == 2
    assert left(tmp_path / "models") == left(fitted)


DEADLY = """
import os, sys
def deadly(event, arguments):
    if event == "open" and str(arguments[0]).endswith("poison.csv"):
        os.kill(os.getpid(), 9)
if "imdiffusion.batch.worker" in " ".join(sys.orig_argv):
    sys.addaudithook(deadly)
"""


def test_workers_that_cannot_begin_end_the_call(tmp_path, monkeypatch, data):
    (tmp_path / "sitecustomize.py").write_text(
        'import sys\nif "imdiffusion.batch.worker" in sys.orig_argv: sys.exit("no room")\n'
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(batch.__file__).parents[2]}")
    with pytest.raises(ConfigError, match=r"3 workers in a row .* no room"):
        batch.fit(data, tmp_path / "models", jobs=1, threads=1, **TINY)


CALL = """
import json, sys
from imdiffusion import batch
batch.fit(sys.argv[1], sys.argv[2], jobs=1, threads=1,
          watch=lambda one, step: print(one.entity, flush=True),
          **json.loads(sys.argv[3]))
"""


def test_a_killed_call_leaves_no_orphan_and_the_next_goes_on(data, fitted, tmp_path):
    out = tmp_path / "models"
    words = [sys.executable, "-c", CALL, str(data), str(out), json.dumps(TINY)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    children = workers(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 60
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < until, "a worker outlives its call"
        time.sleep(0.02)
    (out / ".0123abcd.e9").mkdir()  # half a model, as a kill may leave it
    found = batch.fit(data, out, jobs=1, threads=1, **TINY)
    assert found.unused == []
    assert statuses(found)[first] == "found"
    assert not found.failed
    assert left(out) == left(fitted)
