"""What is to be measured: variants of detectors on entities of data sets with seeds, and the plans.

PLANS is what each table and study is made of, and the one place to add another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdiffusion import baselines
from imdiffusion.settings import Scalar
from imdiffusion_bench.datasets import CONCATENATED, TSB_AD_M
from imdiffusion_bench.generator import Generated
from imdiffusion_bench.generator.config import Dials


@dataclass(frozen=True, slots=True)
class Variant:
    """A line of a table: its name there, the detector behind it, and settings over its preset.

    detector: a preset ("fast", "paper"), a baseline ("mahalanobis_30"), or of another package.
    """

    name: str
    detector: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Data sets x entities x variants x seeds, under one name.

    entities: for each data set the entities that count; a data set that is absent here: all.
    own: for each data set settings of its own, for variants of "paper" that do not set them;
    they hold for its concatenated form too.
    """

    name: str
    datasets: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...] = (0,)
    entities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)

    def resolved(self, variant: Variant, dataset: str) -> Variant:
        """The variant as this data set has it."""
        own = self.own.get(dataset) or self.own.get(dataset.removesuffix(CONCATENATED))
        if variant.detector != "paper" or not own:
            return variant
        return Variant(variant.name, variant.detector, {**own, **variant.settings})


SETS = ("SMD", "GCP", "ASD", "MSL", "SMAP")
# On which no default was chosen before 2026-11-30: other domains, some with times and real gaps.
FURTHER_SETS = (
    *("BATADAL", "Daphnet", "Genesis", "SKAB", "TEP"),
    *("DBSherlock", "IODA", "MSCloud", "Nezha"),
)
FOURTEEN = (*SETS, *FURTHER_SETS)
JOINED_SETS = ("MSL-concatenated", "SMAP-concatenated")  # as the publication has them
# The first three of each index: a rule that has not seen a result.
THREE = {
    "SMD": ("machine-1-2", "machine-1-3", "machine-1-4"),
    "GCP": ("service0", "service1", "service2"),
    "ASD": ("omi-1", "omi-2", "omi-3"),
    "MSL": ("C-1", "C-2", "D-14"),
    "SMAP": ("A-1", "A-2", "A-3"),
}
# The released code joins channels by their maximum on these, by their sum elsewhere.
PAPER_OWN: dict[str, dict[str, Scalar]] = {
    "SMD": {"reduce": "max"},
    "GCP": {"reduce": "max"},
    "PSM": {"reduce": "max"},
}
SLOW = ("lstm_ad", "matrix_profile")  # minutes an entity: a plan of their own
# What every row of the label-free tables promises, and from which rows: one row in a hundred is
# the least that training parts of a few hundred rows can show.
PROMISE: dict[str, Scalar] = {"alarm_rate": 0.01, "calibrate_on": "all"}
# One-liners have nothing to stop and nothing to hold out: with this they learn from every row.
EVERY_ROW: dict[str, Scalar] = {**PROMISE, "holdout": 0.0}
FAST, PAPER = Variant("fast", "fast", PROMISE), Variant("paper", "paper")
LINEAR = Variant("linear", "linear", PROMISE)
RANDOM = Variant("random", "random", PROMISE)
# What two CPU cores can train: the paper's network on patches, its training cut short. Every
# other constant is the paper's. The name in the tables says so.
CAPPED: dict[str, Scalar] = {
    "patch_length": 10,
    "max_steps": 600,
    "validate_every": 100,
    "patience": 0,
}
PAPER_CAPPED = Variant("paper, patches of 10, 600 steps", "paper", CAPPED)
# The ablations' base. After so few steps the paper's own constants leave a network that imputes
# nothing, on which every variant is the same (docs/log.md): so this one is small, sees z-scores
# and predicts the clean window, and its errors are read as `fast` reads them. What the claims are
# about is the paper's: attention over time and channels, unconditional, gratings of 4 bands.
SMALL: dict[str, Scalar] = {
    "denoiser": "imtransformer",
    "conditioning": "unconditional",
    "train_mask": "random",
    "mask": "grating",
    "bands": 4,
    "train_levels": "all",
    "patch_length": 10,
    "width": 32,
    "feedforward": 64,
    "layers": 2,
    "heads": 2,
    "batch_size": 12,
    "learning_rate": 3e-3,
    "max_steps": 150,
    "validate_every": 75,
    "estimate": "sample",
    "sampling_steps": 5,
    "ensemble": "mean",
    "ensemble_steps": 5,
    "error_scale": "spread,peak,level",
    "calibrate_on": "holdout",
}


# Whose labels may choose: the part that the network of the default was chosen on (docs/log.md).
DEVELOPMENT = {
    "SMD": tuple(f"machine-1-{number}" for number in range(2, 9)),
    "GCP": tuple(f"service{number}" for number in range(10)),
    "ASD": tuple(f"omi-{number}" for number in range(1, 5)),
}
SIX = {name: entities[:2] for name, entities in DEVELOPMENT.items()}


def _fast(name: str, **changed: Scalar) -> Variant:
    return Variant(name, "fast", {**PROMISE, **changed})


# A single step is the mixer's: a relay without a second stage.
COARSE: dict[str, Scalar] = {
    "sampling_steps": 1,
    "ensemble_steps": 1,
    "error_scale": "spread,peak,level",
    "batch_size": 16,
}


def _parts() -> tuple[Variant, ...]:
    """`fast` with one of its parts left out or put back, one at a time."""
    return (
        FAST,
        _fast("one step, coarse", **COARSE),
        _fast("without the view of ties", error_scale="spread,peak,level"),
        _fast("spread alone", error_scale="spread,tie"),
        _fast("without levels", error_scale="spread,peak,tie"),
        _fast("without peaks", error_scale="spread,level,tie"),
        _fast("slow parts left in", detrend="0"),
        _fast("one width, 30 rows", detrend="30", smooth="30"),
        _fast("without logarithm", log_gain=0.0),
        _fast("mean over channels", reduce="mean"),
        _fast("thresholds from held-out rows", calibrate_on="holdout"),
        _fast("trained on groups alone", train_mask="channel"),
    )


def _trade() -> tuple[Variant, ...]:
    """Quality against speed: steps, patches, width, depth, masks and length of training."""
    return (
        FAST,
        _fast("1 step, coarse", **COARSE),
        _fast("4 steps", sampling_steps=4, ensemble_steps=2),
        *(_fast(f"patches of {rows}", patch_length=rows) for rows in (1, 2, 10, 20)),
        *(_fast(f"width {width}", width=width, feedforward=2 * width) for width in (64, 256)),
        *(_fast(f"{layers} layers", layers=layers) for layers in (1, 6)),
        *(_fast(f"{groups} groups", mask_groups=groups) for groups in (2, 4, 10)),
        *(_fast(f"{steps} training steps", max_steps=steps) for steps in (100, 200, 1200)),
        _fast("windows overlap by half", stride=50),
    )


def _one_liners(settings: dict[str, Scalar] = PROMISE) -> tuple[Variant, ...]:
    return tuple(Variant(name, name, settings) for name in baselines.names() if name not in SLOW)


def claims(base: dict[str, Scalar], detector: str = "paper") -> tuple[Variant, ...]:
    """Each claim of the paper as variants of one base, one change at a time.

    The base imputes unconditionally, trained on random masks and scored under a grating of 4
    bands, and compares the sample: what the released code does. Those that change scoring alone
    share its fit. detector: the preset that `base` changes.
    """
    variants = [Variant("base", detector, base)]

    def vary(name: str, **changed: Scalar) -> None:
        variants.append(Variant(name, detector, {**base, **changed}))

    for bands in (2, 5, 10, 20):
        vary(f"grating, {bands} bands", bands=bands)
    vary("scored under random masks", mask="random")
    vary("scored under block masks", mask="block")
    vary("x0 instead of the sample", estimate="x0")
    if base.get("sampling_steps", 50) != 50:
        vary("50 steps", sampling_steps=50, ensemble_steps=50)
    if detector != "paper":
        vary("predicts the noise", prediction="eps")
    vary("trained on gratings", train_mask="grating")
    vary("forecasting", train_mask="forecast", mask="forecast")
    vary("reconstruction", train_mask="reconstruction", mask="reconstruction")
    vary("conditional", conditioning="conditional")
    vary("channel masks", train_mask="channel", mask="channel", mask_groups=2)
    vary("without temporal attention", attention="spatial")
    vary("without spatial attention", attention="temporal")
    return tuple(variants)


def _causes() -> Plan:
    """What keeps the capped runs of `paper` from the published figures: one difference at a time.

    On one entity of the set whose published R-AUC-PR is furthest above what its capped runs reach:
    half an hour on one core.
    """

    def capped(patch_length: int, steps: int) -> Variant:
        changed = {"patch_length": patch_length, "max_steps": steps, "validate_every": steps // 6}
        name = f"paper, patches of {patch_length}, {steps} steps"
        return Variant(name, "paper", {**CAPPED, **changed})

    variants = (
        *(capped(10, steps) for steps in (150, 600, 2400)),
        *(capped(rows, 600) for rows in (5, 20)),
        RANDOM,
    )
    return Plan("causes", ("GCP",), variants, (0,), {"GCP": THREE["GCP"][:1]}, PAPER_OWN)


def _small() -> Plan:
    """Minutes on two cores: does the plumbing hold?"""
    dials = "generated:anomaly=level_shift,channels=4,rows_test=900,rows_train=900"
    tiny: dict[str, Scalar] = {"width": 16, "layers": 1, "max_steps": 20, "validate_every": 10}
    rows = ("random", "zscore", "mahalanobis_30", "moving_variance")
    variants = (Variant("fast, tiny", "fast", tiny), *(Variant(row, row) for row in rows))
    return Plan("small", (dials,), variants)


# Long enough that ten anomalies of 50 rows are in each test part.
_KIND_ALWAYS: dict[str, Any] = {"anomaly_length": 50, "rows_train": 10_000, "rows_test": 10_000}
# Nothing but ties between channels makes the signal beside the season, so that a tie can break.
_KIND_TIED: dict[str, Any] = {"anomaly": "coupling", "coupling": 1.0}
KIND_DIALS: dict[str, dict[str, Any]] = {
    "spike": {"anomaly": "spike"},
    "level shift": {"anomaly": "level_shift"},
    "trend": {"anomaly": "trend"},
    "variance": {"anomaly": "variance"},
    "missing season, .3 of the variance": {"anomaly": "missing_season"},
    "missing season, .7 of the variance": {"anomaly": "missing_season", "seasonality": 0.7},
    "linear ties broken": {**_KIND_TIED, "coupling_kind": "linear"},
    "non-linear ties broken": {**_KIND_TIED, "coupling_kind": "nonlinear"},
    # The set that the relay was chosen on: a third of the rows in either part.
    "the same, 3,000 rows": {
        **_KIND_TIED,
        "coupling_kind": "nonlinear",
        "rows_train": 3000,
        "rows_test": 3000,
    },
}
# Title -> the data set, whose name says all its dials.
KINDS = {
    title: Generated(Dials(**{**_KIND_ALWAYS, **dials})).name for title, dials in KIND_DIALS.items()
}


PLANS: dict[str, Callable[[], Plan]] = {
    "small": _small,
    "one_liners": lambda: Plan("one_liners", SETS, _one_liners(), seeds=(0, 1, 2, 3, 4)),
    "fourteen": lambda: Plan("fourteen", FOURTEEN, (*_one_liners(EVERY_ROW), LINEAR, FAST)),
    "tsb_ad_m": lambda: Plan("tsb_ad_m", (TSB_AD_M,), (*_one_liners(EVERY_ROW), LINEAR, FAST)),
    "kinds": lambda: Plan("kinds", tuple(KINDS.values()), (FAST, LINEAR, *_one_liners()), (0, 1)),
    "headline": lambda: Plan("headline", SETS, (FAST,), seeds=(0, 1, 2, 3, 4)),
    "headline_three": lambda: Plan("headline_three", SETS, (FAST,), (0, 1, 2), THREE),
    "parts": lambda: Plan("parts", tuple(DEVELOPMENT), (*_parts(), RANDOM), (0, 1), DEVELOPMENT),
    "trade": lambda: Plan("trade", tuple(SIX), (*_trade(), RANDOM), (0,), SIX),
    "paper": lambda: Plan("paper", SETS, (PAPER, RANDOM), tuple(range(6)), own=PAPER_OWN),
    "paper_three": lambda: Plan(
        "paper_three", SETS, (PAPER_CAPPED, RANDOM), (0, 1, 2), THREE, PAPER_OWN
    ),
    "causes": _causes,
    "concatenated": lambda: Plan("concatenated", JOINED_SETS, (FAST, RANDOM), (0, 1, 2)),
    "ablations": lambda: Plan(
        "ablations", SETS, (*claims({}), RANDOM), tuple(range(6)), own=PAPER_OWN
    ),
    "ablations_three": lambda: Plan(
        "ablations_three", SETS, (*claims(SMALL, "fast"), RANDOM), (0, 1, 2), THREE
    ),
    "slow": lambda: Plan("slow", SETS, _slow(), tuple(range(6))),
}


def _slow() -> tuple[Variant, ...]:
    return tuple(Variant(name, name, PROMISE) for name in SLOW)
