"""Every setting of the detector: its meaning, its type and its range.

`Settings` is the only place that lists them: the constructor's keywords, the TOML file, `--set
key=value`, `model/config.json` and `imdiffusion config schema` are all read from it. Constants of
the published method name their source: [code] is what the released research code does when it
runs, [paper] is arXiv 2307.00754. The defaults are theirs: the `paper` preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from imdiffusion import registry
from imdiffusion.errors import ConfigError

TYPES = {"int": int, "float": float, "str": str, "bool": bool}
Scalar = str | int | float | bool
MOST_ROWS = 100_000  # that a window or a mean may span
NETWORK, MEMORY = "network", "memory"
# The views of the law come together: one law of patches, two masks. Each of the others may be left
# out.
LAW = ("forecast", "channel")
VIEWS = ((NETWORK,), LAW, (*LAW, MEMORY), (*LAW, NETWORK), (*LAW, MEMORY, NETWORK))


def _setting(
    default: Scalar,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    table: str = "",
) -> Any:
    return field(
        default=default,
        metadata={"meaning": meaning, "low": low, "high": high, "choices": choices, "table": table},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One value for every setting. Raises ConfigError for a wrong type, value or combination."""

    # -- data
    scale: str = _setting(
        "minmax",
        "scaler, fitted on training rows alone; robust = zscore of values cut to the usual range",
        choices=("minmax", "zscore", "robust"),
    )
    scale_factor: float = _setting(
        20.0, "factor after scaling; 20 keeps the noise small beside the signal [code]", low=1e-6
    )
    counters: str = _setting("level", "what only rises is read as", choices=("level", "rate"))
    compress: float = _setting(0.0, "units beyond which values are compressed; 0 = off", low=0)
    window: int = _setting(100, "rows in a window, L [paper]", low=2, high=100_000)
    stride: int = _setting(50, "rows between scored windows [code]; 0 = a window", low=0)
    train_stride: int = _setting(1, "rows between training windows [code]", low=1)
    # -- views
    views: str = _setting(
        "network",
        "what is scored, joined by a mean of logs: network, forecast, channel, memory, as in "
        "forecast,channel,memory,network; memory and network may be left out",
    )
    lags: int = _setting(
        10,
        "rows before its own that the view forecast reads, and on either side those that the "
        "denoisers gaussian and memory read; fewer of many channels",
        low=1,
    )
    scan: int = _setting(
        32, "longest window of rows that forecast and channel look for, a power of two", low=1
    )
    absence: bool = _setting(
        False, "a channel that stops, freezes or leaves its only value is an event"
    )
    changes: bool = _setting(
        False,
        "a flag or enumeration that changes, or does not, unlike the rest, or is in a state hardly "
        "ever seen with the others', is an event",
    )
    calendar: str = _setting(
        "off",
        "an hour unlike its time of day or of week is an event; auto = where training shows one",
        choices=("off", "auto"),
    )
    timezone: str = _setting("UTC", "time zone of the calendar, such as Europe/Berlin")
    country: str = _setting(
        "", "country or region of the calendar's holidays, such as DE-BY; empty = none"
    )
    # -- masks
    train_mask: str = _setting("random", "mask strategy in training [code]", table="masks")
    mask: str = _setting("grating", "mask strategy in scoring [paper]", table="masks")
    train_bands: int = _setting(10, "bands of a grating in training [code]", low=2)
    bands: int = _setting(4, "bands of a grating in scoring [code]", low=2)
    visible_share: float = _setting(
        0.3, "visible share of a random or block mask [code]", low=0.0, high=0.99
    )
    mask_groups: int = _setting(4, "groups that a channel mask hides one after another", low=2)
    subset_share: float = _setting(
        0.5, "share of channel_subset masks that hide a random part of the channels", low=0, high=1
    )
    block_length: int = _setting(10, "rows of one block of a block mask", low=1)
    horizon: int = _setting(10, "rows hidden at the end by the forecast mask", low=1)
    # -- diffusion
    schedule: str = _setting("quadratic", "noise schedule [code]", table="schedules")
    diffusion_steps: int = _setting(50, "noise levels S [code]", low=1, high=10_000)
    beta_start: float = _setting(1e-4, "first noise variance [code]", low=1e-9, high=0.999)
    beta_end: float = _setting(0.5, "last noise variance [code]", low=1e-9, high=0.999)
    conditioning: str = _setting(
        "unconditional",
        "visible points are shown under forward noise, or clean beside the mask [paper]",
        choices=("unconditional", "conditional"),
    )
    prediction: str = _setting(
        "eps",
        "what the network predicts: the noise [code] or the clean window",
        choices=("eps", "x0"),
    )
    train_levels: str = _setting(
        "all",
        "noise levels it is trained on: all [code], or only those that the sampler visits",
        choices=("all", "visited"),
    )
    sampler: str = _setting("ddpm", "reverse process [code]", table="samplers")
    sampling_steps: int = _setting(50, "steps of the reverse process", low=1)
    sampling_start: float = _setting(
        1.0, "share of the noise levels it starts at; below 1 skips the noisiest", low=0.0, high=1.0
    )
    # -- denoiser
    scope: str = _setting(
        "entity", "a network for each, or one that all share", choices=("entity", "shared")
    )
    entity_embedding: int = _setting(16, "width of an entity's vector in a shared network", low=1)
    denoiser: str = _setting(
        "imtransformer",
        "network; gaussian and memory are fitted in closed form instead of trained, and what "
        "shapes or trains a network has no part in them",
        table="denoisers",
    )
    patch_length: int = _setting(1, "rows the network joins into one token; 1 = paper", low=1)
    width: int = _setting(64, "residual channels [code]", low=1)
    layers: int = _setting(4, "residual blocks [code]", low=1)
    heads: int = _setting(8, "attention heads of imtransformer [code]", low=1)
    feedforward: int = _setting(64, "hidden units of a transformer layer [code]", low=1)
    dropout: float = _setting(0.1, "dropout of a transformer layer [code]", low=0.0, high=0.95)
    step_embedding: int = _setting(128, "width of the diffusion-step embedding [code]", low=2)
    time_embedding: int = _setting(128, "width of imtransformer's time embedding [code]", low=2)
    channel_embedding: int = _setting(
        16, "width of the channel embedding of imtransformer [code]", low=1
    )
    attention: str = _setting(
        "both",
        "attention over time, over channels, or both",
        choices=("both", "temporal", "spatial"),
    )
    # -- training
    learning_rate: float = _setting(1e-3, "Adam's step size [code]", low=1e-9, high=10)
    lr_schedule: str = _setting(
        "step", "course of the learning rate", choices=("constant", "step", "cosine")
    )
    lr_drops: str = _setting("75,90", "epochs after which `step` multiplies the rate by .1 [code]")
    weight_decay: float = _setting(1e-6, "Adam's L2 penalty [code]", low=0.0)
    batch_size: int = _setting(12, "windows in a training step [code]", low=1)
    max_epochs: int = _setting(500, "longest training in epochs; 0 = no limit [code]", low=0)
    max_steps: int = _setting(0, "longest training in steps; 0 = no limit", low=0)
    validate_every: int = _setting(0, "steps between held-out checks; 0 = once an epoch", low=0)
    patience: int = _setting(5, "checks without improvement before stopping; 0 = never", low=0)
    holdout: float = _setting(
        0.05, "share of rows at the end held out for stopping and thresholds", low=0.0, high=0.9
    )
    # -- error and score
    estimate: str = _setting(
        "sample",
        "what is compared with the seen value: the sample [code] or the predicted x0",
        choices=("sample", "x0"),
    )
    error: str = _setting("absolute", "error of one point", choices=("absolute", "squared"))
    detrend: str = _setting(
        "0", "rows of the centred mean taken from the residual first, as in 10,30; 0 = off"
    )
    error_scale: str = _setting(
        "none", "what errors are divided by; of several, as in spread,peak, the largest counts"
    )
    log_gain: float = _setting(
        0.0, "g of log(1 + g error) of a channel, before channels are joined; 0 = off", low=0.0
    )
    reduce: str = _setting(
        "sum",
        "joins channels: sum, or max (the code for SMD, GCP, PSM), mean or root mean square",
        choices=("sum", "max", "mean", "rms"),
    )
    ensemble: str = _setting("threshold", "joins diffusion steps [paper]", table="ensembles")
    ensemble_steps: int = _setting(10, "late steps that are joined [code]", low=1)
    ensemble_every: int = _setting(3, "steps between them, counted from the end [code]", low=1)
    xi: float = _setting(
        0.5, "share of votes that must be exceeded; 0.5 = half", low=0.0, high=0.99
    )
    anomaly_share: float = _setting(
        0.02, "share of rows the last step flags under `rank` [code]", low=1e-6, high=0.5
    )
    smooth: str = _setting(
        "1", "rows of the centred mean over the errors, one or several as in 10,30; 1 = off"
    )
    threshold: str = _setting("pot", "rule for the label-free threshold", table="thresholds")
    calibrate_on: str = _setting(
        "holdout", "rows the threshold is fitted on", choices=("holdout", "all")
    )
    alarm_rate: float = _setting(0.001, "expected share of normal rows above 1", low=1e-9, high=0.5)
    alarms_per_day: float = _setting(0.0, "events a day that set alarm_rate; 0 = off", low=0.0)
    # -- events
    merge_gap: int = _setting(5, "quiet rows inside one event", low=0)
    min_length: int = _setting(1, "rows an event needs", low=1)

    def __post_init__(self) -> None:
        _validate(self)

    def widths(self, name: str, *, least: int) -> tuple[int, ...]:
        """The whole numbers of a setting such as "10,30"; ConfigError for any other text."""
        text: str = getattr(self, name)
        words = text.replace(" ", "").split(",")
        if not all(word.isdigit() and least <= int(word) <= MOST_ROWS for word in words):
            raise ConfigError(
                f"{name} = {text!r} is no list of widths",
                remedy=f"Write whole numbers from {least} to {MOST_ROWS:,} with commas: 10,30.",
            )
        return tuple(int(word) for word in words)

    @property
    def networked(self) -> bool:
        """Whether a network is among the views."""
        return NETWORK in self.scored_views

    @property
    def linear(self) -> bool:
        """Whether the views in closed form are among the views."""
        return self.scored_views != (NETWORK,)

    @property
    def scored_views(self) -> tuple[str, ...]:
        """The names in `views`."""
        return tuple(self.views.replace(" ", "").split(","))

    @property
    def scan_widths(self) -> tuple[int, ...]:
        """1, 2, 4, ... up to `scan`."""
        return tuple(1 << power for power in range(self.scan.bit_length()))

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that `error_scale` names."""
        return tuple(self.error_scale.replace(" ", "").split(","))

    @property
    def reach(self) -> int:
        """Rows on either side of its own that a score reads beside those of its window."""
        return sum(max(self.widths(name, least=0)) // 2 for name in ("detrend", "smooth"))

    def to_dict(self) -> dict[str, Scalar]:
        """All settings as a flat dict, in the order of this class."""
        return asdict(self)


def _validate(settings: Settings) -> None:
    for item in fields(settings):
        check_value(item.name, getattr(settings, item.name), str(item.type), item.metadata)
    if settings.max_epochs == 0 and settings.max_steps == 0 and settings.patience == 0:
        raise ConfigError(
            "training would never end: max_epochs, max_steps and patience are all 0",
            remedy="Set one of them.",
        )
    for whole, part, why in (
        ("width", "heads", "Attention splits the width evenly over the heads."),
        ("window", "patch_length", "A window is cut into whole patches."),
    ):
        size, each = getattr(settings, whole), getattr(settings, part)
        if size % each:
            what = f"{whole} = {size} is not a multiple of {part} = {each}"
            raise ConfigError(what, remedy=why)
    if settings.attention != "both" and settings.denoiser in registry.NO_ATTENTION:
        raise ConfigError(
            f"attention = {settings.attention!r} makes the denoiser {settings.denoiser} leave "
            "out what it has not",
            remedy="It has no attention: leave attention at 'both', or use denoiser imtransformer.",
        )
    _validate_lists(settings)
    if settings.lr_schedule == "cosine" and not settings.max_epochs and not settings.max_steps:
        raise ConfigError(
            "lr_schedule = 'cosine' needs an end: max_epochs and max_steps are both 0",
            remedy="Set one of them, or lr_schedule = 'constant'.",
        )
    if settings.stride > settings.window:
        raise ConfigError(
            f"stride = {settings.stride} is longer than window = {settings.window}",
            remedy="Rows between the windows would get no score.",
        )
    if settings.sampling_steps > settings.diffusion_steps:
        raise ConfigError(
            f"sampling_steps = {settings.sampling_steps} is more than diffusion_steps = "
            f"{settings.diffusion_steps}",
            remedy="A sampler visits each noise level at most once.",
        )
    if (settings.ensemble_steps - 1) * settings.ensemble_every >= settings.sampling_steps:
        raise ConfigError(
            f"ensemble_steps = {settings.ensemble_steps}, ensemble_every = "
            f"{settings.ensemble_every} apart, are more than sampling_steps = "
            f"{settings.sampling_steps} has",
            remedy="Join fewer steps, or take more of them.",
        )
    if settings.beta_start > settings.beta_end:
        raise ConfigError(
            f"beta_start = {settings.beta_start} is above beta_end = {settings.beta_end}",
            remedy="Noise grows with the step.",
        )


def _validate_lists(settings: Settings) -> None:
    if settings.scored_views not in VIEWS:
        raise ConfigError(
            f"views = {settings.views!r} is none of its choices",
            remedy="Write " + ", or ".join(repr(",".join(views)) for views in VIEWS) + ".",
        )
    if settings.scan.bit_count() != 1 or settings.scan > MOST_ROWS:
        raise ConfigError(
            f"scan = {settings.scan} is no power of two up to {MOST_ROWS:,}",
            remedy="Write 1, 2, 4, 8, 16, 32, 64, ...",
        )
    beside = settings.absence or settings.changes or settings.calendar != "off"
    if beside and not settings.linear:
        raise ConfigError(
            "absence, changes and calendar need the views forecast and channel, which are not "
            "selected",
            remedy="Use views='forecast,channel' or views='forecast,channel,network'.",
        )
    if settings.denoiser in registry.CLOSED_FORM and settings.scope == "shared":
        raise ConfigError(
            f"denoiser = {settings.denoiser!r} is fitted to one entity's rows, and scope = "
            "'shared' has one network, which gets each window with its entity",
            remedy="Use scope='entity', or another denoiser.",
        )
    if settings.linear and settings.scope == "shared":
        raise ConfigError(
            f"views = {settings.views!r} are an entity's own, and scope = 'shared' shares a "
            "network",
            remedy="Use views='network' with scope='shared'.",
        )
    settings.widths("detrend", least=0)
    settings.widths("smooth", least=1)
    known = registry.names("error_scales")
    for rule in settings.rules:
        if rule not in known:
            raise ConfigError(
                f"error_scale = {settings.error_scale!r} names {rule!r}, which is no rule",
                remedy=registry.nearest(rule, known),
            )
    drops = settings.lr_drops.replace(",", " ").split()
    if not all(drop.isdigit() for drop in drops):
        raise ConfigError(
            f"lr_drops = {settings.lr_drops!r} is not a list of epochs",
            remedy='Write whole numbers with commas, for instance "75,90".',
        )


def check_value(name: str, value: Any, kind: str, meta: Mapping[str, Any]) -> None:
    """Raise ConfigError unless `value` has the type, the choices and the range of a setting."""
    wanted = TYPES[kind]
    if isinstance(value, bool) != (wanted is bool) or not isinstance(value, wanted):
        raise ConfigError(
            f"setting {name} = {value!r} is not of type {kind}", remedy=f"It is: {meta['meaning']}."
        )
    choices = meta["choices"] or (registry.names(meta["table"]) if meta["table"] else ())
    if choices and value not in choices:
        raise ConfigError(
            f"setting {name} = {value!r} is none of its choices",
            remedy=registry.nearest(str(value), choices),
        )
    low, high = meta["low"], meta["high"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        span = f"at least {low:g}" + ("" if high is None else f" and at most {high:g}")
        raise ConfigError(
            f"setting {name} = {value!r} is out of range", remedy=f"It must be {span}."
        )


def check_names(keys: Mapping[str, Any]) -> None:
    """Raise ConfigError, naming the nearest settings, for a key that is not a setting."""
    known = {item.name for item in fields(Settings)}
    for key in keys:
        if key not in known:
            raise ConfigError(f"unknown setting {key!r}", remedy=registry.nearest(key, known))
