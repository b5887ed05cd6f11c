"""Training: what it learns, where it stops, and that a kill costs nothing."""

import hashlib
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from imdiffusion import ImDiffusion
from imdiffusion.checkpoint import read_state
from imdiffusion.errors import ConvergenceWarning, DataWarning, ModelError
from imdiffusion.presets import resolve
from imdiffusion.progress import Progress
from imdiffusion.training import learning_rate

TINY = {
    "window": 20, "stride": 10, "patch_length": 5, "width": 8, "heads": 2, "layers": 1,
    "feedforward": 8, "step_embedding": 8, "time_embedding": 8, "channel_embedding": 4,
    "max_steps": 30, "validate_every": 10, "batch_size": 4, "dropout": 0.1,
    "smooth": (1,), "detrend": (0,), "learning_rate": 1e-3, "sampling_start": 0.5,
    "denoiser": "imtransformer", "conditioning": "unconditional", "prediction": "eps",
    "train_levels": "all", "sampling_steps": 4, "ensemble_steps": 2, "mask_groups": 2,
}  # fmt: skip


def series(rows: int = 300) -> np.ndarray:
    time_ = np.arange(rows)[:, None]
    noise = np.random.default_rng(0).normal(size=(rows, 3))
    return np.sin(time_ / np.array([5.0, 7.0, 11.0])) + 0.1 * noise


def weights(detector: ImDiffusion) -> str:
    digest = hashlib.sha256()
    for tensor in detector.entity().imputer.network.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(autouse=True)
def _quiet_convergence():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def test_same_seed_same_bits_and_global_rng_untouched() -> None:
    before = torch.random.get_rng_state()
    a = ImDiffusion(seed=3, **TINY).fit(series())
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(5)
    b = ImDiffusion(seed=3, **TINY).fit(series())
    c = ImDiffusion(seed=4, **TINY).fit(series())
    assert weights(a) == weights(b) != weights(c)
    assert np.array_equal(a.decision_function(series()), b.decision_function(series()))


@pytest.mark.parametrize("stop_at", [7, 10, 23])
def test_interrupted_and_resumed_training_ends_in_the_same_bits(
    tmp_path: Path, stop_at: int
) -> None:
    whole = ImDiffusion(**TINY).fit(series())

    def interrupt(progress: Progress) -> None:
        if progress.phase == "fit" and progress.done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImDiffusion(**TINY).fit(series(), checkpoint=tmp_path, on_progress=interrupt)
    steps: list[int] = []
    resumed = ImDiffusion(**TINY).fit(
        series(), checkpoint=tmp_path, on_progress=lambda p: steps.append(p.done)
    )
    assert min(steps) >= stop_at  # it really continued
    assert weights(resumed) == weights(whole)
    assert resumed.history_["holdout_rmse"] == whole.history_["holdout_rmse"]


KILLED = """
import sys, json, numpy as np
sys.path.insert(0, sys.argv[2])
import imdiffusion.training as training
from test_training import TINY, series
from imdiffusion import ImDiffusion
training.SAVE_SECONDS = 0.0
ImDiffusion(**{**TINY, "max_steps": 5000}).fit(
    series(), checkpoint=sys.argv[1], on_progress=lambda p: print(p.done, flush=True)
)
"""


def test_a_kill_leaves_a_state_that_can_be_read(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 15:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    state = read_state(tmp_path / "0" / "training.safetensors")
    assert state is not None
    assert state[1]["step"] >= 10


def test_a_state_of_another_training_is_not_continued(tmp_path: Path) -> None:
    ImDiffusion(seed=1, **TINY).fit(series(), checkpoint=tmp_path)
    steps: list[int] = []
    other = ImDiffusion(seed=2, **TINY).fit(
        series(), checkpoint=tmp_path, on_progress=lambda p: steps.append(p.done)
    )
    assert min(steps) == 1
    assert weights(other) == weights(ImDiffusion(seed=2, **TINY).fit(series()))


def test_a_damaged_state_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "0" / "training.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="Delete it to restart"):
        ImDiffusion(**TINY).fit(series(), checkpoint=tmp_path)


def test_training_lowers_the_held_out_error() -> None:
    # The paper's embedding of steps learns slowly at first: 1,600 steps for 400 of another.
    changes = {"max_steps": 1600, "validate_every": 100, "dropout": 0.0, "learning_rate": 5e-3}
    detector = ImDiffusion(**{**TINY, **changes, "width": 16, "train_mask": "channel"})
    rmse = detector.fit(series(600)).history_["holdout_rmse"]
    assert len(rmse) == 16
    assert min(rmse) < 0.8 * rmse[0] or rmse[0] < 0.5


def test_patience_stops_early_and_keeps_the_best() -> None:
    settings = {**TINY, "max_steps": 5000, "validate_every": 5, "patience": 2,
                "learning_rate": 0.3, "lr_schedule": "constant"}  # fmt: skip
    history = ImDiffusion(**settings).fit(series()).history_
    assert history["converged"]
    best = history["step"].index(history["best_step"])
    assert history["holdout_rmse"][best] == min(history["holdout_rmse"])
    assert len(history["step"]) - 1 - best == 3  # more than `patience` checks without improvement


@pytest.mark.parametrize(("steps", "every"), [(20, 20), (40, 10), (400, 50)])
def test_ending_too_early_is_said(steps: int, every: int) -> None:
    settings = {**TINY, "max_steps": steps, "validate_every": every, "learning_rate": 3e-3}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = ImDiffusion(**settings).fit(series()).history_
    told = [w for w in caught if issubclass(w.category, ConvergenceWarning)]
    rmse = history["holdout_rmse"]
    half = len(rmse) // 2
    settled = half > 0 and min(rmse[half:]) >= 0.98 * min(rmse[:half])
    assert history["converged"] == settled
    assert bool(told) == (not settled)


def test_progress_is_logged_for_library_users(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="imdiffusion"):
        ImDiffusion(**TINY).fit(series())
    assert "held-out RMSE" in caplog.text
    assert "thresholds" in caplog.text


def test_a_large_holdout_leaves_a_window_to_train_on() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        ImDiffusion(**{**TINY, "holdout": 0.9}).fit(series(50))


def test_no_training_window_overlaps_the_held_out_tail() -> None:
    rows = series(200)
    changed = rows.copy()
    changed[-20:] += 0.3  # the held-out tail: one window of 20 rows (5 % would be 10)
    a, b = ImDiffusion(**TINY).fit(rows), ImDiffusion(**TINY).fit(changed)
    # Without early stopping the last weights are the same bits; only checks may differ.
    assert a.history_["loss"] == b.history_["loss"]
    assert a.history_["holdout_rmse"] != b.history_["holdout_rmse"]


@pytest.mark.filterwarnings("ignore:.*rows are few:imdiffusion.errors.DataWarning")
def test_too_few_rows_to_hold_out_is_said() -> None:
    with pytest.warns(DataWarning, match="fewer than two windows"):
        detector = ImDiffusion(**TINY).fit(series(30))
    assert np.isfinite(detector.decision_function(series(30))).all()


def test_learning_rate_golden() -> None:
    paper = resolve("paper", {})
    assert learning_rate(paper, 0, 74, 0) == 1e-3
    assert learning_rate(paper, 0, 75, 0) == pytest.approx(1e-4)
    assert learning_rate(paper, 0, 90, 0) == pytest.approx(1e-5)
    cosine = resolve("paper", {"lr_schedule": "cosine"})
    assert learning_rate(cosine, 0, 0, 100) == pytest.approx(1e-3 / 5)
    assert learning_rate(cosine, 5, 0, 100) == pytest.approx(1e-3)
    assert learning_rate(cosine, 99, 0, 100) < 1e-6


def test_masks_and_variants_train() -> None:
    for changes in (
        {"train_mask": "random"},
        {"train_mask": "grating", "mask": "grating"},
        {"train_mask": "mixed", "mask": "block"},
        {"conditioning": "conditional", "sampler": "ddpm", "sampling_steps": 10},
        {"attention": "temporal"},
        {"mask": "reconstruction"},
        {"denoiser": "mixer", "conditioning": "conditional", "prediction": "x0",
         "train_levels": "visited", "sampling_steps": 1, "sampling_start": 1.0,
         "ensemble_steps": 1, "stride": 0, "detrend": (5, 10), "smooth": (3, 10)},
    ):  # fmt: skip
        detector = ImDiffusion(**{**TINY, **changes, "max_steps": 10}).fit(series(120))
        assert np.isfinite(detector.decision_function(series(120))).all()


def test_forecasts_score_all_rows_but_the_first_history() -> None:
    settings = {
        **TINY,
        "mask": "forecast",
        "horizon": 5,
        "stride": 10,
        "max_steps": 10,
        "views": ("network",),
    }
    score = ImDiffusion(**settings).fit(series(120)).decision_function(series(120))
    assert np.isnan(score[:15]).all()
    assert np.isfinite(score[15:]).all()
