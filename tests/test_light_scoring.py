"""Preset linear needs no torch: not to fit, score, save, load, detect, nor on the command line"""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from imdiffusion.data.writing import write_table

HEAVY = """
import sys
heavy = sorted(name for name in sys.modules if name.split(".")[0] == "torch")
assert not heavy, f"torch was imported, {len(heavy)} modules of it"
"""
LIBRARY = """
import numpy as np
from imdiffusion import ImDiffusion
from imdiffusion.online import online_runs
from imdiffusion.data.frame import Frame

rng = np.random.default_rng(0)
train, test = rng.normal(size=(400, 3)), rng.normal(size=(80, 3))
test[40:44, 1] += 15
detector = ImDiffusion("linear").fit(train)
score = detector.decision_function(test)
assert score[40:44].max() > 1
detector.save("model")
again = ImDiffusion.load("model")
assert np.array_equal(again.decision_function(test), score)
assert len(again.detect(test)["start"])
analysis = again.analyze(test)
assert again.predict(test).any()
assert again.channel_scores(test).shape == test.shape
entity = again.entity()
rows = entity.rows(Frame(test, np.ones(test.shape, bool), None, entity.channels))
(run,) = online_runs(entity, [rows])
assert len(run) == 80
"""
TABLE = """
import numpy as np
import pandas as pd
from imdiffusion import ImDiffusion

rng = np.random.default_rng(0)
times = pd.date_range("2026-03-02", periods=900, freq="15min")
frame = pd.DataFrame(rng.normal(size=(900, 2)), columns=["cpu", "load"])
frame.insert(0, "timestamp", times)
detector = ImDiffusion("linear").fit(frame[:700])
detector.detect(frame[700:])
"""
VERB = """
from imdiffusion.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (None, 0), end.code
"""


def light(code, folder):
    """Run code in a fresh interpreter, in a folder, and see that torch was left out."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code + HEAVY],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """train.csv, test.csv, and model/ as the command line has fitted it."""
    place = tmp_path_factory.mktemp("light")
    rng = np.random.default_rng(0)
    for name, rows in (("train", 500), ("test", 120)):
        values = rng.normal(size=(rows, 3))
        values[60:63, 1] += 15 * (name == "test")
        start = np.datetime64("2026-01-05T00:00:00", "ns")
        table = {"timestamp": start + np.arange(rows) * np.timedelta64(60, "s")}
        table |= {f"c{k}": values[:, k] for k in range(3)}
        write_table(pa.table(table), place / f"{name}.csv")
    arguments = ["--quiet", "fit", "train.csv", "--preset", "linear", "--model", "model"]
    light(VERB.format(arguments=arguments), place)
    return place


@pytest.mark.parametrize("code", [LIBRARY, TABLE], ids=["arrays", "table"])
def test_the_library_leaves_torch_out(code, tmp_path):
    light(code, tmp_path)


def test_fit_leaves_torch_out(folder):
    assert (folder / "model").is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "test.csv", "--model", "model", "--json"],
        ["report", "test.csv", "--model", "model", "--out", "report.html"],
        ["model", "show", "model"],
        ["--help"],
    ],
    ids=lambda words: words[0].strip("-"),
)
def test_the_verbs_leave_torch_out(arguments, folder):
    out = light(VERB.format(arguments=["--quiet", *arguments]), folder)
    if "--json" in arguments:
        assert '"c1"' in out  # it did find the fault


def test_the_check_itself_sees_torch(tmp_path):
    with pytest.raises(AssertionError, match="torch was imported"):
        light("import torch", tmp_path)
