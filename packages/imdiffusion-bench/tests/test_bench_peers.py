"""Peers: the face they share with baselines, and the environments they run in."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path

import numpy as np
import pytest
from imdiffusion_bench import peers
from imdiffusion_bench.peers import environment as environments
from imdiffusion_bench.peers import peer as peer_module
from tiny_peer import FAR, PYTHON, TEST, TRAIN

from imdiffusion.errors import ConfigError, DataError, NotFittedError, OutputError, UsageError

# The peers and their face


def test_the_table_of_peers():
    assert len(peers.names()) == 13
    assert {"tsb_ad:tran_ad", "timesead:omni_anomaly"} <= {*peers.names()}
    with pytest.raises(ConfigError, match="timesead:mad_gan"):
        peers.make("timesead:madgan")
    made = peers.make("tsb_ad:usad", seed=4, settings={"epochs": 2, "holdout": 0.2})
    assert (made.environment, made.method, made.seed, made.epochs) == ("tsb_ad", "usad", 4, 2)


@pytest.mark.parametrize("environment", environments.environments())
def test_every_method_of_the_table_is_one_of_its_worker(environment):
    path = Path(peer_module.__file__).parent / "workers" / f"{environment}.py"
    spec = importlib.util.spec_from_file_location(f"worker_{environment}", path)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    listed = {method for name, method in peers.PEERS.values() if name == environment}
    assert listed == {*worker.METHODS}
    if environment == "tsb_ad":
        # Windows of 3 of 6 rows start at rows 0 to 3; the package repeats the last one.
        raw = np.array([1.0, 2, 3, 4, 4, 4])
        np.testing.assert_array_equal(worker._placed(raw, 3, "last"), [1, 1, 1, 2, 3, 4])
        np.testing.assert_array_equal(worker._placed(raw, 3, "middle"), [1, 1, 2, 3, 4, 4])


def test_a_peer_has_the_face_of_a_baseline(monkeypatch, tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "tsb_ad.py").write_text(textwrap.dedent(FAR).replace("'far'", "'cnn'"))
    monkeypatch.setattr(peer_module, "__file__", str(tmp_path / "peer.py"))
    monkeypatch.setattr(peer_module, "environment", lambda name, home: PYTHON)
    model = peers.Peer("tsb_ad", "far")
    with pytest.raises(NotFittedError):
        model.decision_function(TEST)
    holed = TRAIN.copy()
    holed[3] = np.nan  # carries row 2: the mean becomes (28 / 6, 34 / 6)
    test = np.vstack([TEST, [[np.nan, np.nan]], [[50.0, np.nan]]])
    score = model.fit(holed).decision_function(test)
    far = np.array([28 / 6, 45 - 1 + 8 / 6, 45 - 1 + 8 / 6])
    np.testing.assert_allclose(score[[0, 2, 4]], far)
    assert np.isnan(score[3])
    assert model.versions_ == {"numpy": np.__version__}
    with pytest.raises(DataError, match="2 channels was handed 1"):
        model.decision_function(TEST[:, :1])
    model.process_.close()


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"window": -3}, {"timeout_s": 0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        peers.Peer("tsb_ad", "cnn", **wrong).fit(TRAIN)


# Environments


@pytest.fixture(name="lists")
def _lists(monkeypatch, tmp_path):
    """A folder of requirements of our own, and the commands that would be called."""
    folder, called = tmp_path / "lists", []
    folder.mkdir()
    (folder / "requirements-tiny.txt").write_text("# nothing\n")
    monkeypatch.setattr(environments, "_FOLDER", folder)
    real = environments._call

    def call(command, name):
        called.append(command)
        real([*command, "--without-pip"] if "venv" in command else [str(PYTHON), "-c", ""], name)

    monkeypatch.setattr(environments, "_call", call)
    return folder, called


def test_an_environment_is_made_once_and_anew_for_other_pins(lists, tmp_path):
    folder, called = lists
    home = tmp_path / "home"
    python = environments.environment("tiny", home)
    assert python.exists()
    assert environments.ready("tiny", home)
    assert len(called) == 2
    assert environments.environment("tiny", home) == python
    assert len(called) == 2
    (folder / "alone-tiny.txt").write_text("# another\n")
    assert not environments.ready("tiny", home)
    environments.environment("tiny", home)
    assert "--no-deps" in called[-1]


def test_an_interrupted_environment_is_made_again(lists, tmp_path):
    half = tmp_path / "home" / "tiny"
    half.mkdir(parents=True)
    (half / "left over").touch()
    environments.environment("tiny", tmp_path / "home")
    assert not (half / "left over").exists()


def test_what_pip_said_last_stands_in_the_error(monkeypatch, tmp_path):
    (tmp_path / "requirements-tiny.txt").write_text("./no-such-package-here\n")
    monkeypatch.setattr(environments, "_FOLDER", tmp_path)
    monkeypatch.setattr(
        environments, "_installs", lambda name: [["--no-index", "-r", str(tmp_path / "absent.txt")]]
    )
    monkeypatch.setattr(environments, "_pins", lambda name: "pins")
    with pytest.raises(UsageError, match=r"absent\.txt") as caught:
        environments.environment("tiny", tmp_path / "home")
    assert "'tiny'" in str(caught.value)
    assert not environments.ready("tiny", tmp_path / "home")


def test_an_unknown_environment_or_an_unwritable_home(tmp_path):
    with pytest.raises(ConfigError, match="timesead"):
        environments.environment("timesad", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="IMDIFFUSION_PEERS"):
        environments.environment("timesead", tmp_path / "file")


def test_the_home_of_environments(monkeypatch, tmp_path):
    monkeypatch.setenv("IMDIFFUSION_PEERS", str(tmp_path))
    assert environments.default_home() == tmp_path
    monkeypatch.delenv("IMDIFFUSION_PEERS")
    assert environments.default_home().parts[-3:] == (".cache", "imdiffusion", "peers")


@pytest.mark.parametrize("name", ["tsb_ad:lstm_ad", "tsb_ad:tran_ad", "timesead:gdn"])
def test_a_real_peer_scores(name):
    environment = peers.PEERS[name][0]
    if not environments.ready(environment, environments.default_home()):
        pytest.skip(f"needs the environment {environment!r}: see bench/peers/README.md")
    rng = np.random.default_rng(0)
    t = np.arange(1200)[:, None]
    x = np.sin(t / np.array([5.0, 7.0, 9.0])) + 0.1 * rng.standard_normal((1200, 3))
    test = x[600:].copy()
    test[400:420] += 3
    model = peers.make(name, settings={"epochs": 1, "steps": 3, "timeout_s": 300}).fit(x[:600])
    score = model.decision_function(test)
    assert score.shape == (600,)
    assert 400 <= score.argmax() < 420
    assert "torch" in model.versions_
    model.process_.close()
