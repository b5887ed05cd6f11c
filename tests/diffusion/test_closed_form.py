"""Denoisers in closed form, where networks stand: formulas by hand, fits, files, detectors."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from imdiffusion import ImDiffusion, registry
from imdiffusion.diffusion.denoisers import closed_form
from imdiffusion.diffusion.denoisers.closed_form import ClosedForm, Gaussian, Memory
from imdiffusion.diffusion.denoisers.memory import PatchMemory
from imdiffusion.diffusion.frozen import FrozenDenoiser
from imdiffusion.diffusion.networks import new_network
from imdiffusion.diffusion.schedule import quadratic
from imdiffusion.errors import ConfigError
from imdiffusion.presets import resolve

BOTH = pytest.mark.parametrize("denoiser", ["gaussian", "memory"])
WINDOW, LAGS = 20, 3
FAST = {"views": ("network",), "window": WINDOW, "patch_length": 5, "lags": LAGS, "mask_groups": 2,
        "detrend": (10,), "smooth": (1, 10), "sampling_steps": 1, "ensemble_steps": 1}  # fmt: skip
PAPER = {"window": WINDOW, "stride": 10, "lags": LAGS, "sampling_steps": 4, "ensemble_steps": 2,
         "ensemble_every": 1, "mask_groups": 2, "smooth": (1,), "horizon": 5}  # fmt: skip


def series(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Three channels that follow one slow cause, in units of their own."""
    generator = np.random.default_rng(seed)
    cause = np.sin(np.arange(rows) / 6.0) + 0.3 * generator.normal(size=rows)
    noise = 0.1 * generator.normal(size=(rows, 3))
    return (cause[:, None] * [1.0, -2.0, 5.0] + noise * [1.0, 2.0, 5.0]) + [0.0, 10.0, -3.0]


def fitted(kind, rows: np.ndarray, observed: np.ndarray, **options) -> ClosedForm:
    network = kind(WINDOW, rows.shape[1], lags=LAGS, **options)
    network.fit_rows(np.where(observed, rows, 0.0).astype(np.float32), observed)
    return network.eval()


def windows(rows: np.ndarray, count: int = 3) -> np.ndarray:
    return np.stack([rows[30 * b : 30 * b + WINDOW] for b in range(count)]).astype(np.float32)


def predicted(network: ClosedForm, x: np.ndarray, t: int, visible: np.ndarray) -> np.ndarray:
    steps = torch.full((len(x),), t)
    with torch.no_grad():
        out = network(torch.from_numpy(x), steps, torch.from_numpy(visible), steps % 2)
    return out.numpy()


def grating() -> np.ndarray:
    visible = np.zeros((3, WINDOW, 3), bool)
    visible[:, ::2] = True
    visible[1, 4, 0] = visible[2, 7:12] = False  # a missing value, and missing rows
    return visible


def law_by_hand(rows: np.ndarray, observed: np.ndarray):
    """Centre, spread, and the covariance of 2 LAGS + 1 standardised rows, in loops."""
    centre = np.array([rows[observed[:, k], k].mean() for k in range(3)])
    spread = np.array([rows[observed[:, k], k].std() for k in range(3)])
    unit = np.where(observed, (rows - centre) / spread, 0.0)
    lag = [
        np.array(
            [
                [sum(unit[h:, i] * unit[: len(unit) - h, j]) / len(unit) for j in range(3)]
                for i in range(3)
            ]
        )
        for h in range(2 * LAGS + 1)
    ]
    span = 2 * LAGS + 1
    whole = np.block(
        [[lag[a - b] if a >= b else lag[b - a].T for b in range(span)] for a in range(span)]
    )
    return centre, spread, whole


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("conditioning", ["conditional", "unconditional"])
def test_gaussian_under_a_grating_is_the_closed_form(prediction: str, conditioning: str) -> None:
    rows = series()
    whole = np.ones(rows.shape, bool)
    network = fitted(Gaussian, rows, whole, conditioning=conditioning, prediction=prediction)
    centre, spread, covariance = law_by_hand(rows, whole)
    x, visible, t = windows(rows), grating(), 9
    level = float(quadratic(50).alpha_bar[t])
    more = 0.0 if conditioning == "conditional" else (1 - level) / level
    scale = 1.0 if conditioning == "conditional" else np.sqrt(level)
    expected = np.empty(x.shape)
    for b in range(3):
        for row in range(WINDOW):
            seen = [
                (3 * (other - row + LAGS) + k, (x[b, other, k] / scale - centre[k]) / spread[k], k)
                for other in range(max(0, row - LAGS), min(WINDOW, row + LAGS + 1))
                for k in range(3)
                if visible[b, other, k]
            ]
            place = [one[0] for one in seen]
            noise = [closed_form.NOISE + more / spread[one[2]] ** 2 for one in seen]
            inner = covariance[np.ix_(place, place)] + np.diag(noise)
            across = covariance[3 * LAGS : 3 * LAGS + 3, place]
            mean = across @ np.linalg.solve(inner, [one[1] for one in seen]) if seen else 0.0
            expected[b, row] = centre + spread * mean
    if prediction == "eps":
        expected = (x - np.sqrt(level) * expected) / np.sqrt(1 - level)
    np.testing.assert_allclose(predicted(network, x, t, visible), expected, atol=2e-3)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_memory_is_that_of_numpy_at_any_noise(share: float) -> None:
    rows = series()
    observed = np.random.default_rng(1).random(rows.shape) < share
    network = fitted(Memory, rows, observed, prediction="x0")
    width, t = 2 * LAGS + 1, 9
    level = float(quadratic(50).alpha_bar[t])
    centre, spread = network.centre.numpy(), network.spread.numpy()
    unit = np.where(observed, (rows - centre) / spread, 0.0)
    own = PatchMemory.fit(unit, observed, width=width, most=len(network.patches))
    assert own.noise == pytest.approx(float(network.noise))
    x, visible = windows(rows), grating()
    # One noise for all channels: as the spreads would have it.
    network.spread.fill_(2.0)
    shown = np.pad((x / np.sqrt(level) - centre) / 2.0, ((0, 0), (LAGS, LAGS), (0, 0)))
    flags = np.pad(visible, ((0, 0), (LAGS, LAGS), (0, 0)))
    index = np.arange(WINDOW)[:, None] + np.arange(width)
    patches, seen = (part[:, index].reshape(-1, width, 3) for part in (shown, flags))
    mean, _ = own.condition(patches, seen, noise=(1 - level) / level / 4.0)
    expected = centre + 2.0 * mean[:, LAGS].reshape(x.shape)
    np.testing.assert_allclose(predicted(network, x, t, visible), expected, atol=5e-3)


def test_memory_recovers_a_training_row_from_what_is_around_it() -> None:
    rows = series()
    network = fitted(
        Memory, rows, np.ones(rows.shape, bool), conditioning="conditional", prediction="x0"
    )
    network.noise.fill_(1e-3)
    x = windows(rows)
    visible = np.ones(x.shape, bool)
    visible[:, 10, 1] = False
    shown = np.where(visible, x, 77.0)
    found = predicted(network, shown, 0, visible)
    np.testing.assert_allclose(found[~visible], x[~visible], atol=0.05)


@BOTH
def test_what_is_not_visible_is_not_looked_at(denoiser: str) -> None:
    rows = series()
    observed = np.random.default_rng(1).random(rows.shape) < 0.8
    kind = registry.load("denoisers", denoiser)
    network = fitted(kind, rows, observed, conditioning="conditional", prediction="x0")
    x, visible = windows(rows), grating()
    same = np.where(visible, x, 1e6).astype(np.float32)
    found = predicted(network, x, 3, visible)
    assert np.array_equal(found, predicted(network, same, 3, visible))
    assert np.array_equal(found, predicted(network, x, 40, visible))  # and clean values at any t
    # Nothing visible at all: the mean of what is normal.
    blind = predicted(network, x, 3, np.zeros_like(visible))
    assert np.isfinite(blind).all()
    usual = np.array([rows[observed[:, k], k].mean() for k in range(3)])
    np.testing.assert_allclose(blind - usual, np.zeros(x.shape), atol=0.5)


@BOTH
@pytest.mark.parametrize("channels", [1, 2, 40, 150])
def test_shapes_hang_on_settings_alone(denoiser: str, channels: int) -> None:
    given = resolve("fast", {"views": ("network",), "denoiser": denoiser, "window": 20, "lags": 10})
    network = new_network(given, channels, 1, None)
    before = {name: tensor.shape for name, tensor in network.state_dict().items()}
    rows = np.random.default_rng(0).normal(size=(30, channels)).astype(np.float32)
    network.fit_rows(rows, np.ones(rows.shape, bool))  # fewer rows than the memory has room for
    state = network.state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == before
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    filled = FrozenDenoiser(given, channels, state, device=torch.device("cpu"))
    x = torch.randn(2, 20, channels, generator=torch.Generator().manual_seed(0))
    parts = x, torch.tensor([0, 9]), x > 0, torch.tensor([0, 1])
    with torch.no_grad():
        out = filled(*parts)
        assert torch.equal(out, network(*parts))
    assert torch.isfinite(out).all()
    assert sum(tensor.numel() for tensor in state.values()) < 2_000_000


def test_solutions_are_those_of_the_law_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = closed_form._Solutions(most=400)
    monkeypatch.setattr(closed_form, "_solutions", kept)
    rows, whole = series(), np.ones((400, 3), bool)
    own = {"prediction": "x0", "conditioning": "conditional"}
    x, visible = windows(rows), grating()
    network = fitted(Gaussian, rows, whole, **own)
    first = predicted(network, x, 3, visible)
    assert kept.numbers <= 400 + 3 * network.size
    assert kept.numbers == sum(one.numel() for _, one in kept._found.values())
    kept.most = 1_000_000
    for _ in range(2):  # made again, then found
        assert np.array_equal(predicted(network, x, 3, visible), first)
    network.fit_rows(series(seed=5).astype(np.float32)[:, ::-1].copy(), whole)  # the same tensor
    second = predicted(network, x, 3, visible)
    other = fitted(Gaussian, series(seed=5)[:, ::-1].copy(), whole, **own)
    assert np.array_equal(second, predicted(other, x, 3, visible))
    assert not np.allclose(first, second)


def test_few_rows_are_told_with_more_noise() -> None:
    generator = np.random.default_rng(0)
    few = generator.normal(size=(60, 3))
    network = fitted(Gaussian, few, np.ones(few.shape, bool))
    assert float(network.noise) == pytest.approx(closed_form.NOISES[-1])  # nothing to tell
    many = fitted(Gaussian, series(), np.ones((400, 3), bool))
    assert float(many.noise) == pytest.approx(closed_form.NOISE)


# -- through the detector


@BOTH
@pytest.mark.parametrize(
    ("preset", "masks"),
    [
        ("paper", ("grating", "channel_grating", "reconstruction", "forecast")),
        ("fast", ("channel", "channel_subset", "forecast", "random", "block", "mixed")),
    ],
)
def test_any_mask_in_either_design(denoiser: str, preset: str, masks: tuple[str, ...]) -> None:
    rows = series(100)
    rows[50, 1] = rows[60:64, 2] = np.nan
    for mask in masks:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it never warns that it ended too early
            own = {"paper": PAPER, "fast": FAST}[preset]
            detector = ImDiffusion(preset, denoiser=denoiser, mask=mask, **own).fit(rows)
        _check(detector)


def _check(detector: ImDiffusion) -> None:
    history = detector.history_
    assert (history["step"], history["best_step"], history["converged"]) == ([1], 1, True)
    assert 0 < history["holdout_rmse"][0] < np.inf
    assert 0 < history["loss"][0] < np.inf
    assert detector.num_parameters_ == 0
    score = detector.decision_function(series(60, seed=1))
    assert np.isfinite(score[WINDOW:]).all()


@BOTH
@pytest.mark.parametrize(
    ("preset", "own"),
    [("paper", {**PAPER, "mask": "channel", "estimate": "x0"}), ("fast", FAST)],
)
def test_a_broken_tie_is_found_in_its_channel(denoiser: str, preset: str, own: dict) -> None:
    detector = ImDiffusion(preset, denoiser=denoiser, **own).fit(series(600))
    test = series(220, seed=1)
    good = test.copy()
    test[150:165, 2] += 8.0
    found = detector.analyze(test)
    event = max(found.events, key=lambda event: event.score)
    assert event.start < 165
    assert event.end > 150
    assert event.channels[0] == found.frame.channels[2]
    # The expected value is what the fault hides, and the band is around it.
    expected = found.expected[150:165, 2]
    assert np.abs(expected - good[150:165, 2]).mean() < 3.0
    low, high = found.lower[150:165, 2], found.upper[150:165, 2]
    assert (low < expected).all()
    assert (expected < high).all()
    assert (test[150:165, 2] > high).mean() > 0.5


@BOTH
def test_a_model_folder_says_the_same(denoiser: str, tmp_path: Path) -> None:
    detector = ImDiffusion("fast", denoiser=denoiser, **FAST).fit(series(200))
    detector.save(tmp_path / "model")
    read = ImDiffusion.load(tmp_path / "model")
    assert read.settings_.denoiser == denoiser
    assert read.history_ == detector.history_
    test = series(100, seed=1)
    assert np.array_equal(read.decision_function(test), detector.decision_function(test))


@BOTH
def test_a_fit_that_was_done_is_not_done_again(
    denoiser: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, times = registry.load("denoisers", denoiser), []
    once = kind.fit_rows

    def counted(self, values, observed) -> None:
        times.append(len(values))
        once(self, values, observed)

    monkeypatch.setattr(kind, "fit_rows", counted)
    whole = ImDiffusion("fast", denoiser=denoiser, **FAST).fit(series(200), checkpoint=tmp_path)
    again = ImDiffusion("fast", denoiser=denoiser, **FAST).fit(series(200), checkpoint=tmp_path)
    assert len(times) == 1
    test = series(100, seed=1)
    assert np.array_equal(whole.decision_function(test), again.decision_function(test))
    ImDiffusion("fast", denoiser=denoiser, **FAST).fit(series(200, seed=3), checkpoint=tmp_path)
    assert len(times) == 2  # other rows, another fit


@BOTH
def test_what_has_no_meaning_is_refused(denoiser: str) -> None:
    with pytest.raises(ConfigError, match="It has no attention"):
        resolve("paper", {"denoiser": denoiser, "attention": "temporal"})
    with pytest.raises(ConfigError, match="fitted to one entity's rows"):
        resolve("fast", {"denoiser": denoiser, "scope": "shared"})


def test_another_class_says_what_it_lacks() -> None:
    network = ClosedForm(WINDOW, 2)
    with pytest.raises(NotImplementedError):
        network.fit_rows(np.zeros((30, 2), np.float32), np.ones((30, 2), bool))
