"""The contract that every member of every table keeps: one check a kind, for built-in members and
for those of other distributions alike.

    from imdiffusion.testing import SinkRig, check_mask, check_sink
    check_mask("diagonal")
    check_sink("spool", SinkRig({"path": "records.jsonl"}, received))

A check raises AssertionError with a sentence that names the member, what was expected and what
came; ConfigError for a name that no distribution has, or that cannot be imported.
"""

from __future__ import annotations

from collections.abc import Callable

from imdiffusion.testing.backends import check_backend
from imdiffusion.testing.connectors import SinkRig, SourceRig, check_sink, check_source, keys_of
from imdiffusion.testing.imputing import check_denoiser, check_mask, check_sampler, check_schedule
from imdiffusion.testing.scoring import check_ensemble, check_error_scale, check_threshold

__all__ = [
    "CHECKS",
    "SinkRig",
    "SourceRig",
    "check_backend",
    "check_denoiser",
    "check_ensemble",
    "check_error_scale",
    "check_mask",
    "check_sampler",
    "check_schedule",
    "check_sink",
    "check_source",
    "check_threshold",
    "keys_of",
]

# Table -> its check.
CHECKS: dict[str, Callable[[str], None]] = {
    "backends": check_backend,
    "masks": check_mask,
    "schedules": check_schedule,
    "samplers": check_sampler,
    "denoisers": check_denoiser,
    "error_scales": check_error_scale,
    "ensembles": check_ensemble,
    "thresholds": check_threshold,
    "sources": check_source,
    "sinks": check_sink,
}
