"""Every choice that is made by name, as tables of "module:attribute" strings.

A table member loads on first use, so listing the names imports nothing. Another distribution adds a
member without touching this file by an entry point in the group `imdiffusion.<table>`, for instance

    [project.entry-points."imdiffusion.masks"]
    diagonal = "my_package.masks:diagonal"

Groups without a table here have members of other distributions alone: `imdiffusion.commands`, and
the benchmark's `imdiffusion.detectors` and `imdiffusion.metrics`. The contract of every table is in
`imdiffusion.testing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from imdiffusion.errors import ConfigError, ImDiffusionError
from imdiffusion.schema import one_of

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
        "relay": "imdiffusion.diffusion.denoisers.row_mlp:TwoStage",
        "gaussian": "imdiffusion.diffusion.denoisers.closed_form:Gaussian",
        "memory": "imdiffusion.diffusion.denoisers.closed_form:Memory",
        "interpolation": "imdiffusion.diffusion.denoisers.interpolation:Interpolation",
        "visible_mean": "imdiffusion.diffusion.denoisers.interpolation:VisibleMean",
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
NO_ATTENTION = frozenset(
    {"mixer", "rows", "relay", "gaussian", "memory", "interpolation", "visible_mean"}
)
# Denoisers that are fitted to the rows of one entity, without gradient steps.
CLOSED_FORM = frozenset({"gaussian", "memory", "interpolation", "visible_mean"})


@cache
def _joined(table: str) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of a table by name: of a sound installation, one each."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=f"imdiffusion.{table}"):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def names(table: str) -> tuple[str, ...]:
    """The names of a table's members, built-in ones first."""
    return tuple(dict.fromkeys((*TABLES.get(table, ()), *_joined(table))))


def load(table: str, name: str, *, taken: Iterable[str] = ()) -> Any:
    """The object behind `name`, which no other distribution may have `taken`.

    Raises ConfigError, with the nearest names, for one that there is not; and, with the name of the
    distribution, for an entry point that cannot be loaded or whose name another one has.
    """
    built_in, points = TABLES.get(table, {}), _joined(table).get(name, ())
    kind = table[:-1].replace("_", " ")
    if name not in built_in and not points:
        one_of(kind, name, names(table))
    owners = ["imdiffusion"] * (name in built_in or name in taken) + [_owner(one) for one in points]
    if len(owners) > 1:
        raise ConfigError(
            f"the {kind} {name!r} is of more than one distribution: {', '.join(owners)}",
            remedy=f"Uninstall {owners[-1]}, or have it give another name.",
        )
    if not points:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)
    try:
        return points[0].load()
    except ImDiffusionError:
        raise
    except Exception as error:  # whatever the import of a stranger's module raises
        raise ConfigError(
            f"the {kind} {name!r} of the distribution {owners[0]}, {points[0].value}, cannot be "
            f"imported: {type(error).__name__}: {error}",
            remedy=f"Mend or uninstall {owners[0]}.",
        ) from error


def origin(table: str, name: str) -> str:
    """The distribution that a member of a table comes from."""
    points = _joined(table).get(name)
    return _owner(points[0]) if points else "imdiffusion"


def _owner(point: EntryPoint) -> str:
    return "(unknown)" if point.dist is None else point.dist.name
