"""Metrics by name, one file a family: how well scores and alarms agree with the truth.

Inputs are label bool (T,), score float64 (T,) or alarm bool (T,). A score of NaN means "no score":
it ranks below every other score and is never an alarm. A metric that is not defined is NaN, never
0; only F1 is 0, not NaN, where nothing is found, whatever the precision. No metric reads a
threshold from the labels unless its name begins with `best_`.

What a metric is called with stands in its family:
    ranking, range_based   (label, score)
    points, events,        (label, alarm), but best_f1 and best_point_adjusted_f1 (label, score)
      affiliation, delay
    delay_at_false_alarms  (label, score, *, per_day, period_s)
    channels               (channel_scores (T, K), causes)
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from imdiffusion.errors import ConfigError
from imdiffusion.registry import nearest

_HERE = "imdiffusion_bench.metrics"

METRICS: dict[str, str] = {
    "auc_pr": f"{_HERE}.ranking:auc_pr",
    "r_auc_pr": f"{_HERE}.range_based:r_auc_pr",
    "r_auc_roc": f"{_HERE}.range_based:r_auc_roc",
    "vus_pr": f"{_HERE}.range_based:vus_pr",
    "vus_roc": f"{_HERE}.range_based:vus_roc",
    "point": f"{_HERE}.points:point",
    "point_adjusted": f"{_HERE}.points:point_adjusted",
    "pa_k": f"{_HERE}.points:pa_k",
    "pa_k_auc": f"{_HERE}.points:pa_k_auc",
    "best_f1": f"{_HERE}.points:best_f1",
    "best_point_adjusted_f1": f"{_HERE}.points:best_point_adjusted_f1",
    "event": f"{_HERE}.events:event",
    "event_recall": f"{_HERE}.events:event_recall",
    "composite_f1": f"{_HERE}.events:composite_f1",
    "false_events": f"{_HERE}.events:false_events",
    "false_alarms_per_1000": f"{_HERE}.events:false_alarms_per_1000",
    "alarm_share_normal": f"{_HERE}.events:alarm_share_normal",
    "affiliation": f"{_HERE}.affiliation:affiliation",
    "add": f"{_HERE}.delay:add",
    "detected": f"{_HERE}.delay:detected",
    "delay_at_false_alarms": f"{_HERE}.delay:delay_at_false_alarms",
    "hit_top1": f"{_HERE}.channels:hit_top1",
    "hit_rate": f"{_HERE}.channels:hit_rate",
}


def load(name: str) -> Callable[..., Any]:
    """The function behind a metric's name; ConfigError with the nearest names if there is none."""
    if name not in METRICS:
        raise ConfigError(f"unknown metric {name!r}", remedy=nearest(name, METRICS))
    module, _, function = METRICS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
