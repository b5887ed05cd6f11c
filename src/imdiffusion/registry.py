"""Every choice that is made by name, as tables of "module:attribute" strings.

A table member loads on first use, so listing the names imports nothing. A package adds a member
without touching this file through an entry point in the group `imdiffusion.<table>`, for instance

    [project.entry-points."imdiffusion.masks"]
    diagonal = "my_package.masks:diagonal"

The contract suite (`imdiffusion.testing`) runs over every member of every table.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from imdiffusion.errors import ConfigError

TABLES: dict[str, dict[str, str]] = {
    "masks": {
        "grating": "imdiffusion.masks:grating",
        "channel_grating": "imdiffusion.masks:channel_grating",
        "channel": "imdiffusion.masks:channel",
        "channel_subset": "imdiffusion.masks:channel_subset",
        "random": "imdiffusion.masks:random",
        "block": "imdiffusion.masks:block",
        "mixed": "imdiffusion.masks:mixed",
        "forecast": "imdiffusion.masks:forecast",
        "reconstruction": "imdiffusion.masks:reconstruction",
    },
    "schedules": {
        "quadratic": "imdiffusion.diffusion.schedule:quadratic",
        "linear": "imdiffusion.diffusion.schedule:linear",
        "cosine": "imdiffusion.diffusion.schedule:cosine",
    },
    "samplers": {
        "ddpm": "imdiffusion.diffusion.sampler:ddpm",
        "ddim": "imdiffusion.diffusion.sampler:ddim",
    },
    "denoisers": {
        "imtransformer": "imdiffusion.diffusion.denoisers.imtransformer:ImTransformer",
        "mixer": "imdiffusion.diffusion.denoisers.mixer:Mixer",
        "rows": "imdiffusion.diffusion.denoisers.row_mlp:RowMLP",
        "relay": "imdiffusion.diffusion.denoisers.two_stage:TwoStage",
        "gaussian": "imdiffusion.diffusion.denoisers.closed_form:Gaussian",
        "memory": "imdiffusion.diffusion.denoisers.closed_form:Memory",
    },
    "error_scales": {
        "none": "imdiffusion.scoring.units:none",
        "holdout": "imdiffusion.scoring.units:holdout",
        "spread": "imdiffusion.scoring.units:spread",
        "peak": "imdiffusion.scoring.units:peak",
        "level": "imdiffusion.scoring.units:level",
        "tie": "imdiffusion.scoring.units:tie",
    },
    "ensembles": {
        "mean": "imdiffusion.scoring.vote:MeanEnsemble",
        "largest": "imdiffusion.scoring.vote:LargestEnsemble",
        "threshold": "imdiffusion.scoring.vote:ThresholdVote",
        "rank": "imdiffusion.scoring.vote:RankVote",
    },
    "thresholds": {
        "quantile": "imdiffusion.scoring.threshold:quantile",
        "pot": "imdiffusion.scoring.threshold:peaks_over_threshold",
    },
    "sources": {
        "files": "imdiffusion.live.sources.files:FilesSource",
        "stdin": "imdiffusion.live.sources.stdin:StdinSource",
        "host": "imdiffusion.live.sources.host:ThisHost",
        "kafka": "imdiffusion.live.sources.kafka:KafkaSource",
        "prometheus": "imdiffusion.live.sources.prometheus:PrometheusSource",
    },
    "sinks": {
        "stdout": "imdiffusion.live.sinks.stdout:StdoutSink",
        "files": "imdiffusion.live.sinks.files:FilesSink",
        "sqlite": "imdiffusion.live.sinks.sqlite:SqliteSink",
        "kafka": "imdiffusion.live.sinks.kafka:KafkaSink",
        "remote_write": "imdiffusion.live.sinks.remote_write:RemoteWriteSink",
        "metrics": "imdiffusion.live.sinks.metrics:MetricsSink",
        "webhook": "imdiffusion.live.sinks.webhook:WebhookSink",
        "alertmanager": "imdiffusion.live.sinks.alertmanager:AlertmanagerSink",
    },
    "backends": {
        "local": "imdiffusion.batch.local:LocalBackend",
        "ray": "imdiffusion.batch.ray:RayBackend",
    },
}

# Masks whose targets do not cover the window: their uncovered points get no score.
PARTIAL_MASKS = frozenset({"forecast"})
# Denoisers of this package without attention, of which the setting `attention` could leave a part
# out; one of another package sees for itself.
NO_ATTENTION = frozenset({"mixer", "rows", "relay", "gaussian", "memory"})
# Denoisers that are fitted to the rows of one entity, without gradient steps.
CLOSED_FORM = frozenset({"gaussian", "memory"})


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`, as a phrase for an error's remedy."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(c) for c in close)}?"
    return f"Known: {', '.join(names)}."


@cache
def _members(table: str) -> dict[str, str]:
    members = dict(TABLES[table])
    for point in entry_points(group=f"imdiffusion.{table}"):
        members.setdefault(point.name, point.value)
    return members


def names(table: str) -> tuple[str, ...]:
    """The names of a table's members, built-in ones first."""
    return tuple(_members(table))


def load(table: str, name: str) -> Any:
    """The object behind `name`; ConfigError with the nearest names if there is none."""
    members = _members(table)
    if name not in members:
        raise ConfigError(f"unknown {table[:-1]} {name!r}", remedy=nearest(name, members))
    module, _, attribute = members[name].partition(":")
    return getattr(import_module(module), attribute)
