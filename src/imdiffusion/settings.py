"""Every setting of the detector: its meaning, its type and its range.

`Settings` is the only place that lists them: the constructor's keywords, the TOML file, `--set
key=value`, `model/config.json` and `imdiffusion config schema` are all read from it. Constants of
the published method name their source: [code] is what the released research code does when it
runs, [paper] is arXiv 2307.00754. The defaults are theirs: the `paper` preset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.schema import Choices, Fields, field, fields_of

MOST_ROWS = 100_000  # that a window or a mean may span
NETWORK, MEMORY = "network", "memory"
# The views of the law come together: one law of patches, two masks. Each of the others may be left
# out.
LAW = ("forecast", "channel")
VIEWS = ((NETWORK,), LAW, (*LAW, MEMORY), (*LAW, NETWORK), (*LAW, MEMORY, NETWORK))


def _in(table: str) -> Choices:
    """The names in a table of the registry, to which other packages add theirs."""
    return partial(registry.names, table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Fields):
    """One value for every setting. Raises ConfigError for a wrong type, value or combination."""

    # -- data
    scale: str = field(
        "minmax",
        "scaler, fitted on training rows alone; robust = zscore of values cut to the usual range",
        choices=("minmax", "zscore", "robust"),
    )
    scale_factor: float = field(
        20.0, "factor after scaling; 20 keeps the noise small beside the signal [code]", low=1e-6
    )
    counters: str = field("level", "what only rises is read as", choices=("level", "rate"))
    compress: float = field(0.0, "units beyond which values are compressed; 0 = off", low=0)
    window: int = field(100, "rows in a window, L [paper]", low=2, high=100_000)
    stride: int = field(50, "rows between scored windows [code]; 0 = a window", low=0)
    train_stride: int = field(1, "rows between training windows [code]", low=1)
    # -- views
    views: tuple[str, ...] = field(
        (NETWORK,),
        "what is scored, joined by a mean of logs, in this order; memory and network may be left "
        "out, and network may be alone",
        choices=VIEWS[-1],
    )
    lags: int = field(
        10,
        "rows before its own that the view forecast reads, and on either side those that the "
        "denoisers gaussian and memory read; fewer of many channels",
        low=1,
    )
    scan: int = field(
        32, "longest window of rows that forecast and channel look for, a power of two", low=1
    )
    absence: bool = field(
        False, "a channel that stops, freezes or leaves its only value is an event"
    )
    changes: bool = field(
        False,
        "a flag or enumeration that changes, or does not, unlike the rest, or is in a state hardly "
        "ever seen with the others', is an event",
    )
    calendar: str = field(
        "off",
        "an hour unlike its time of day or of week is an event; auto = where training shows one",
        choices=("off", "auto"),
    )
    timezone: str = field("UTC", "zone whose clock the calendar goes by, as Europe/Berlin")
    country: str = field("", "country or region whose holidays it knows, as DE-BY; empty = none")
    # -- masks
    train_mask: str = field("random", "mask strategy in training [code]", choices=_in("masks"))
    mask: str = field("grating", "mask strategy in scoring [paper]", choices=_in("masks"))
    train_bands: int = field(10, "bands of a grating in training [code]", low=2)
    bands: int = field(4, "bands of a grating in scoring [code]", low=2)
    visible_share: float = field(
        0.3, "visible share of a random or block mask [code]", low=0.0, high=0.99
    )
    mask_groups: int = field(4, "groups that a channel mask hides one after another", low=2)
    subset_share: float = field(
        0.5, "share of channel_subset masks that hide a random part of the channels", low=0, high=1
    )
    block_length: int = field(10, "rows of one block of a block mask", low=1)
    horizon: int = field(10, "rows hidden at the end by the forecast mask", low=1)
    # -- diffusion
    schedule: str = field("quadratic", "noise schedule [code]", choices=_in("schedules"))
    diffusion_steps: int = field(50, "noise levels S [code]", low=1, high=10_000)
    beta_start: float = field(1e-4, "first noise variance [code]", low=1e-9, high=0.999)
    beta_end: float = field(0.5, "last noise variance [code]", low=1e-9, high=0.999)
    conditioning: str = field(
        "unconditional",
        "visible points are shown under forward noise, or clean beside the mask [paper]",
        choices=("unconditional", "conditional"),
    )
    prediction: str = field(
        "eps",
        "what the network predicts: the noise [code] or the clean window",
        choices=("eps", "x0"),
    )
    train_levels: str = field(
        "all",
        "noise levels it is trained on: all [code], or only those that the sampler visits",
        choices=("all", "visited"),
    )
    sampler: str = field("ddpm", "reverse process [code]", choices=_in("samplers"))
    sampling_steps: int = field(50, "steps of the reverse process", low=1)
    sampling_start: float = field(
        1.0, "share of the noise levels it starts at; below 1 skips the noisiest", low=0.0, high=1.0
    )
    # -- denoiser
    scope: str = field(
        "entity", "a network for each, or one that all share", choices=("entity", "shared")
    )
    entity_embedding: int = field(16, "width of an entity's vector in a shared network", low=1)
    denoiser: str = field(
        "imtransformer",
        "network; gaussian, memory, interpolation and visible_mean are fitted in closed form "
        "instead of trained, and what shapes or trains a network has no part in them",
        choices=_in("denoisers"),
    )
    patch_length: int = field(1, "rows the network joins into one token; 1 = paper", low=1)
    width: int = field(64, "residual channels [code]", low=1)
    layers: int = field(4, "residual blocks [code]", low=1)
    heads: int = field(8, "attention heads of imtransformer [code]", low=1)
    feedforward: int = field(64, "hidden units of a transformer layer [code]", low=1)
    dropout: float = field(0.1, "dropout of a transformer layer [code]", low=0.0, high=0.95)
    step_embedding: int = field(128, "width of the diffusion-step embedding [code]", low=2)
    time_embedding: int = field(128, "width of imtransformer's time embedding [code]", low=2)
    channel_embedding: int = field(
        16, "width of the channel embedding of imtransformer [code]", low=1
    )
    attention: str = field(
        "both",
        "attention over time, over channels, or both",
        choices=("both", "temporal", "spatial"),
    )
    # -- training
    learning_rate: float = field(1e-3, "Adam's step size [code]", low=1e-9, high=10)
    lr_schedule: str = field(
        "step", "course of the learning rate", choices=("constant", "step", "cosine")
    )
    lr_drops: tuple[int, ...] = field(
        (75, 90), "epochs after which `step` multiplies the rate by .1 [code]", low=0
    )
    weight_decay: float = field(1e-6, "Adam's L2 penalty [code]", low=0.0)
    batch_size: int = field(12, "windows in a training step [code]", low=1)
    max_epochs: int = field(500, "longest training in epochs; 0 = no limit [code]", low=0)
    max_steps: int = field(0, "longest training in steps; 0 = no limit", low=0)
    validate_every: int = field(0, "steps between held-out checks; 0 = once an epoch", low=0)
    patience: int = field(5, "checks without improvement before stopping; 0 = never", low=0)
    holdout: float = field(
        0.05, "share of rows at the end held out for stopping and thresholds", low=0.0, high=0.9
    )
    # -- error and score
    estimate: str = field(
        "sample",
        "what is compared with the seen value: the sample [code] or the predicted x0",
        choices=("sample", "x0"),
    )
    error: str = field("absolute", "error of one point", choices=("absolute", "squared"))
    detrend: tuple[int, ...] = field(
        (0,),
        "rows of the centred mean taken from the residual first, one or several; 0 = off",
        low=0,
        high=MOST_ROWS,
    )
    error_scale: tuple[str, ...] = field(
        ("none",),
        "what errors are divided by; of several the largest counts",
        choices=_in("error_scales"),
    )
    log_gain: float = field(
        0.0, "g of log(1 + g error) of a channel, before channels are joined; 0 = off", low=0.0
    )
    reduce: str = field(
        "sum",
        "joins channels: sum, or max (the code for SMD, GCP, PSM), mean or root mean square",
        choices=("sum", "max", "mean", "rms"),
    )
    ensemble: str = field("threshold", "joins diffusion steps [paper]", choices=_in("ensembles"))
    ensemble_steps: int = field(10, "late steps that are joined [code]", low=1)
    ensemble_every: int = field(3, "steps between them, counted from the end [code]", low=1)
    xi: float = field(0.5, "share of votes that must be exceeded; 0.5 = half", low=0.0, high=0.99)
    anomaly_share: float = field(
        0.02, "share of rows the last step flags under `rank` [code]", low=1e-6, high=0.5
    )
    smooth: tuple[int, ...] = field(
        (1,),
        "rows of the centred mean over the errors, one or several; 1 = off",
        low=1,
        high=MOST_ROWS,
    )
    threshold: str = field("pot", "rule for the label-free threshold", choices=_in("thresholds"))
    calibrate_on: str = field(
        "holdout", "rows the threshold is fitted on", choices=("holdout", "all")
    )
    alarm_rate: float = field(0.001, "expected share of normal rows above 1", low=1e-9, high=0.5)
    alarms_per_day: float = field(0.0, "events a day that set alarm_rate; 0 = off", low=0.0)
    # -- events
    merge_gap: int = field(5, "quiet rows inside one event", low=0)
    min_length: int = field(1, "rows an event needs", low=1)

    def __post_init__(self) -> None:
        Fields.__post_init__(self)
        _check_together(self)

    @property
    def networked(self) -> bool:
        """Whether a network is among the views."""
        return NETWORK in self.views

    @property
    def linear(self) -> bool:
        """Whether the views in closed form are among the views."""
        return self.views != (NETWORK,)

    @property
    def scan_widths(self) -> tuple[int, ...]:
        """1, 2, 4, ... up to `scan`."""
        return tuple(1 << power for power in range(self.scan.bit_length()))

    @property
    def reach(self) -> int:
        """Rows on either side of its own that a score reads beside those of its window."""
        return max(self.detrend) // 2 + max(self.smooth) // 2


SETTINGS = fields_of(Settings)


def _check_together(settings: Settings) -> None:
    """ConfigError for values that are right alone and cannot work together."""
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
    _check_views(settings)
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


def _check_views(settings: Settings) -> None:
    if settings.views not in VIEWS:
        raise ConfigError(
            f"views = {settings.views!r} cannot be scored together",
            remedy="Write " + ", or ".join(map(repr, map(list, VIEWS))) + ".",
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
            remedy="Use views=['forecast', 'channel'] or ['forecast', 'channel', 'network'].",
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
            remedy="Use views=('network',) with scope='shared'.",
        )
