"""Worker of the environment timesead: detectors of timesead 0.0.2, built as it builds them.

A window's score belongs to its last row, a prediction's to the row predicted; rows before the
first repeat its score, rows after the last that one.
"""

from __future__ import annotations

import copy
import importlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]

VERSIONS = ("timesead", "torch", "numpy")

_BATCH = 128
_EPOCHS = 70
_HELD_OUT = 0.25
_HORIZON = 3  # of lstm_prediction
_MSCRED = {"wins": (10, 30, 60), "seg_interval": 10, "h": 5}  # 60 + 4 x 10 rows
# Less than in the package (1,024 and 1,000), whose scoring takes days on a processor.
_SAMPLES = 4
_INVERSION_STEPS = 50

# window: rows that go in; axis: of the batch; range: rows go in scaled to [0, 1] over the training
# part, as a sigmoid or the method's paper has it; ahead: rows predicted; held: a part of training
# is held out, to keep the best epoch.
METHODS: dict[str, dict[str, Any]] = {
    "omni_anomaly": {"window": 100, "axis": 1, "range": False, "ahead": 0, "held": True},
    "beat_gan": {"window": 320, "axis": 0, "range": True, "ahead": 0, "held": False},
    "mad_gan": {"window": 120, "axis": 1, "range": True, "ahead": 0, "held": False},
    "mtad_gat": {"window": 100, "axis": 0, "range": True, "ahead": 1, "held": True},
    "gdn": {"window": 5, "axis": 0, "range": False, "ahead": 1, "held": True},
    "mscred": {"window": 100, "axis": 1, "range": False, "ahead": 0, "held": True},
    "lstm_prediction": {"window": 50, "axis": 1, "range": False, "ahead": _HORIZON, "held": True},
}


def fit(train: Floats, job: Mapping[str, Any]) -> Score:
    """Train on rows (T, K); what comes back scores rows (N, K) -> (N,)."""
    name = job["method"]
    method = {**METHODS[name], "name": name}
    method["window"] = _window(name, job["window"] or method["window"])
    torch.set_num_threads(job["threads"])
    torch.default_generator.manual_seed(job["seed"])
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(job["seed"])
    random.seed(job["seed"])
    low, span = _range(train) if method["range"] else (0.0, 1.0)
    rows = (train - low) / span
    cut = round(len(rows) * (1 - _HELD_OUT)) if method["held"] else len(rows)
    series, held_out = _pipeline(rows[:cut], method, target=True), None
    if method["held"]:
        held_out = _pipeline(rows[cut:], method, target=True)
    least = method["window"] + method["ahead"]
    if len(series) < 1 or (held_out is not None and len(held_out) < 2 * method["ahead"] + 2):
        raise SystemExit(
            f"{name} needs more than {least} rows in each part of training: {len(train)} rows were "
            f"given{', a quarter of them held out' if method['held'] else ''}"
        )
    if name == "beat_gan":
        series = _module("models.generative").WrapAugmentTransform(series, 0.05, 2)
    model, losses, trainer = _build(method, rows.shape[1])
    _train(model, losses, trainer, method, series, held_out, job)
    model.eval()
    detector = _detector(method, model, rows.shape[1], held_out, len(rows) - cut)

    def score(test: Floats) -> Floats:
        if len(test) < least + 2 * method["ahead"]:
            raise SystemExit(
                f"{len(test)} rows to score, {name} needs {least + 2 * method['ahead']}"
            )
        return _score(detector, method, (test - low) / span)

    return score


def _window(name: str, window: int) -> int:
    if name == "mscred" and window != METHODS[name]["window"]:
        raise SystemExit(f"mscred's windows have {METHODS[name]['window']} rows, not {window}")
    if name == "beat_gan" and window % 32:
        raise SystemExit(f"beat_gan halves a window five times: {window} is no multiple of 32")
    return window


def _build(method: Mapping[str, Any], channels: int) -> tuple[Any, Any, Any]:
    """Model, losses and trainer class; sizes are those of the package's own experiments."""
    name, window = method["name"], method["window"]
    optim, loss = _module("optim.trainer"), _module("optim.loss")
    squared = loss.TorchLossWrapper(torch.nn.MSELoss())
    generative, prediction = _module("models.generative"), _module("models.prediction")
    if name == "omni_anomaly":
        return generative.OmniAnomaly(channels), generative.OmniAnomalyLoss(), optim.Trainer
    if name == "beat_gan":
        model = generative.BeatGANModel(channels, 32, 50, last_kernel_size=window // 32)
        losses = [generative.BeatGANDiscriminatorLoss(), generative.BeatGANGeneratorLoss(1.0)]
        return model, losses, optim.Trainer
    if name == "mad_gan":
        gan = _module("models.common")
        losses = [gan.GANDiscriminatorLoss(), gan.GANGeneratorLossMod()]
        return generative.MADGAN(channels), losses, generative.MADGANTrainer
    if name == "mtad_gat":
        other = _module("models.other.mtad_gat")
        return other.MTAD_GAT(channels, window), other.MTAD_GATLoss(), optim.Trainer
    if name == "gdn":
        return prediction.GDN(channels, window, topk=min(15, channels)), squared, optim.Trainer
    if name == "mscred":
        other = _module("models.reconstruction.mscred")
        model = other.MSCRED(channels, len(_MSCRED["wins"]))  # type: ignore[arg-type]
        return model, other.MSCREDLoss(), optim.Trainer
    return prediction.LSTMPrediction(channels, prediction_horizon=_HORIZON), squared, optim.Trainer


def _train(
    model: Any,
    losses: Any,
    trainer: Any,
    method: Mapping[str, Any],
    series: Any,
    held_out: Any,
    job: Mapping[str, Any],
) -> None:
    """Train with the package's trainer; the epoch that was best on held-out rows is kept."""
    most = min(len(series), (job["steps"] or len(series)) * _BATCH)
    sampler = torch.utils.data.RandomSampler(series, num_samples=most)
    loader = torch.utils.data.DataLoader(
        series, _BATCH, sampler=sampler, collate_fn=_collate(method), drop_last=most > _BATCH
    )
    ready = trainer(
        loader,
        [] if held_out is None else _loader(held_out, method),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [20], 0.1),
        device=_device(),
        batch_dimension=method["axis"],
    )
    best: dict[str, Any] = {}
    if held_out is not None:
        early = _module("optim.trainer").EarlyStoppingHook()

        def keep(trainer: Any, network: Any, optimizers: Any, epoch: int, metrics: Any) -> bool:
            goes_on = bool(early(trainer, network, optimizers, epoch, metrics))
            if early.best_epoch == epoch:
                best.update(copy.deepcopy(network.state_dict()))
            return goes_on

        ready.add_hook(keep)
    ready.train(model, losses, job["epochs"] or _EPOCHS, log_fn=lambda name, value: None)
    if best:
        model.load_state_dict(best)


def _detector(
    method: Mapping[str, Any], model: Any, channels: int, held_out: Any, rows: int
) -> Any:
    name = method["name"]
    generative, prediction = _module("models.generative"), _module("models.prediction")
    if name == "omni_anomaly":
        detector = generative.OmniAnomalyDetector(model, num_mc_samples=_SAMPLES)
    elif name == "beat_gan":
        detector = generative.BeatGANReconstructionAnomalyDetector(model)
    elif name == "mad_gan":
        detector = generative.MADGANAnomalyDetector(model, max_iter=_INVERSION_STEPS)
    elif name == "mtad_gat":
        detector = _module("models.other.mtad_gat").MTAD_GATAnomalyDetector(model)
    elif name == "mscred":
        # The squared error: the other one counts entries above a threshold that must be chosen.
        detector = _module("models.reconstruction.mscred").MSCREDAnomalyDetector(model)
    elif name == "gdn":
        detector = prediction.GDNAnomalyDetector(model, channels).to(_device())
        detector.fit(_loader(held_out, method))
    else:
        detector = prediction.LSTMPredictionAnomalyDetector(model, _HORIZON * channels)
        detector = detector.to(_device())
        detector.fit(_loader(held_out, method), **_lengths(method, rows))
    return detector.to(_device())


def _score(detector: Any, method: Mapping[str, Any], rows: Floats) -> Floats:
    loader = _loader(_pipeline(rows, method, target=False), method)
    further = _lengths(method, len(rows)) if method["name"] == "lstm_prediction" else {}
    raw = np.asarray(detector.get_labels_and_scores(loader, **further)[1], np.float64).ravel()
    # Of several predictions of a row, the first and last rows have fewer and get no score.
    first = method["window"] - 1 + method["ahead"]
    return np.pad(raw, (first, len(rows) - len(raw) - first), mode="edge")


def _lengths(method: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {"subseq_lengths": [rows], "window_size": method["window"] + method["ahead"]}


class _Series:
    """One series as the package's pipelines take it; its label is never looked at."""

    ndim = 2
    window_size = None

    def __init__(self, rows: Floats) -> None:
        self.seq_len, self.num_features = rows.shape
        self._item = (torch.tensor(rows, dtype=torch.float32),), (torch.zeros(len(rows)),)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self._item


def _pipeline(rows: Floats, method: Mapping[str, Any], *, target: bool) -> Any:
    """The package's windows over rows (T, K), with what is to be learned or without."""
    transforms = _module("data.transforms")
    source = transforms.DatasetSource(_Series(rows))
    if method["ahead"]:
        windows = transforms.PredictionTargetTransform(
            source, method["window"], method["ahead"], replace_labels=target
        )
        if method["name"] == "mtad_gat" and target:  # it reconstructs its input as well
            windows = transforms.ReconstructionTargetTransform(windows)
        return windows
    if method["name"] == "mscred":
        reconstruction = _module("models.reconstruction.mscred")
        windows = reconstruction.SignatureMatrixTransform(source, **_MSCRED)
    else:
        windows = transforms.WindowTransform(source, method["window"])
    if target:
        return transforms.ReconstructionTargetTransform(windows, replace_labels=True)
    return windows


def _loader(windows: Any, method: Mapping[str, Any]) -> Any:
    return torch.utils.data.DataLoader(windows, _BATCH, collate_fn=_collate(method))


def _collate(method: Mapping[str, Any]) -> Any:
    return _module("data.dataset").collate_fn(method["axis"])


def _range(train: Floats) -> tuple[Floats, Floats]:
    low, span = train.min(axis=0), np.ptp(train, axis=0)
    return low, np.where(span > 0, span, 1.0)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _module(name: str) -> Any:
    return importlib.import_module(f"timesead.{name}")
