"""How the service and what it watches fare: readiness, and metrics beside the sink's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdiffusion.durations import MINUTE_NS, SECOND_NS
from imdiffusion.live.connection.exposition import Labels, family_text
from imdiffusion.live.service.serializers import Ready
from imdiffusion.live.store.queries import EntityNow, Reader

UNKNOWN = 5 * MINUTE_NS  # the interval of an entity of which only one row was seen
MOST = 100_000  # entities
DONE = frozenset({"rows", "sent"})  # counters of what went well; all others count what did not

ABOUT = {
    "imdiffusion_score_age_seconds": "Seconds from the newest scored row to now: the lag.",
    "imdiffusion_imputed_share": "Share of channels that the newest row did not observe.",
    "imdiffusion_entities": "Entities by state.",
    "imdiffusion_open_events": "Ongoing events.",
    "imdiffusion_done_total": "Rows scored, records sent; since the live state was created.",
    "imdiffusion_passed_over_total": "What was skipped, by reason; since the state was created.",
    "imdiffusion_model_age_seconds": "Seconds since the live model was fitted.",
    "imdiffusion_queue_depth": "What waits: for a sink, in a source (batches, rows), scores.",
    "imdiffusion_away": "Whether a source or a sink could not be reached last time.",
    "imdiffusion_state_bytes": "Bytes of the live state on the disk.",
    "imdiffusion_http_total": "What the HTTP service did, by kind and outcome.",
}


def readiness(entities: list[EntityNow], now: int, health: Mapping[str, Any]) -> Ready:
    """Whether any entity was scored within two of its own intervals, and can be written down."""
    fresh = sum(_is_fresh(one, now) for one in entities)
    stuck = str(health.get("stuck", ""))
    if stuck:
        why = "the live state cannot be written"
    elif not entities:
        why = "nothing was scored yet"
    elif not fresh:
        why = "the last score is older than two intervals"
    else:
        why = ""
    return Ready(ready=not why, why=why, entities=len(entities), fresh=fresh)


def _is_fresh(one: EntityNow, now: int) -> bool:
    """By when it was scored, not by the row's own time: a replay of the past is no silence."""
    return one.timestamp is not None and now - one.heard <= 2 * (one.interval or UNKNOWN)


def metrics_text(
    reader: Reader, now: int, health: Mapping[str, Any], tally: Mapping[tuple[str, str], int]
) -> str:
    """Metrics of the live state and the service, in Prometheus' text format."""
    entities = reader.entities(limit=MOST)
    ages = {
        _labels(entity=one.name): max(0, now - one.timestamp) / SECOND_NS
        for one in entities
        if one.timestamp is not None
    }
    states: dict[Labels, float] = {}
    for one in entities:
        key = _labels(state=one.state)
        states[key] = states.get(key, 0.0) + 1.0
    done, passed = _counters(reader)
    values: dict[str, tuple[str, dict[Labels, float]]] = {
        "imdiffusion_score_age_seconds": ("gauge", ages),
        "imdiffusion_imputed_share": (
            "gauge", {_labels(entity=name): part for name, part in reader.imputed().items()},
        ),
        "imdiffusion_entities": ("gauge", states),
        "imdiffusion_open_events": (
            "gauge", {(): float(sum(one.open_events for one in entities))},
        ),
        "imdiffusion_done_total": ("counter", done),
        "imdiffusion_passed_over_total": ("counter", passed),
        "imdiffusion_model_age_seconds": (
            "gauge",
            {
                _labels(entity=one.entity, detector=one.detector): max(0, now - one.made)
                / SECOND_NS
                for one in reader.models()
                if one.live
            },
        ),
        "imdiffusion_queue_depth": ("gauge", _queues(reader, health)),
        "imdiffusion_away": ("gauge", _away(health)),
        "imdiffusion_state_bytes": ("gauge", {(): float(reader.size())}),
        "imdiffusion_http_total": (
            "counter",
            {_labels(kind=kind, outcome=label): float(n) for (kind, label), n in tally.items()},
        ),
    }  # fmt: skip
    return "".join(
        family_text(name, kind, ABOUT[name], found) for name, (kind, found) in values.items()
    )


def _counters(reader: Reader) -> tuple[dict[Labels, float], dict[Labels, float]]:
    done: dict[Labels, float] = {}
    passed: dict[Labels, float] = {}
    for (name, label), count in reader.counters().items():
        if name in DONE:
            done[_labels(what=name, of=label)] = float(count)
        else:
            passed[_labels(reason=name, of=label)] = float(count)
    return done, passed


def _queues(reader: Reader, health: Mapping[str, Any]) -> dict[Labels, float]:
    depths = {_labels(queue=f"sink {name}"): float(n) for name, n in reader.waiting().items()}
    for name, facts in health.get("sources", {}).items():
        depths[_labels(queue=f"source {name}")] = float(facts["queued"])
        depths[_labels(queue=f"rows of source {name}")] = float(facts["rows"])
    if "pending" in health:
        depths[_labels(queue="checkpoint")] = float(health["pending"])
    return depths


def _away(health: Mapping[str, Any]) -> dict[Labels, float]:
    return {
        _labels(part=f"{kind} {name}"): float(facts["away"])
        for kind, group in (("source", "sources"), ("sink", "sinks"))
        for name, facts in health.get(group, {}).items()
    }


def _labels(**pairs: str) -> Labels:
    return tuple(pairs.items())
