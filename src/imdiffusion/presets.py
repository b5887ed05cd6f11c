"""Presets: one row of settings each. To add one, add a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.settings import Scalar, Settings, check_names, check_value

__all__ = ["PRESETS", "Scalar", "Settings", "check_names", "preset", "resolve", "schema"]

PAPER = Settings()

PRESETS: dict[str, Settings] = {
    # Views in closed form alone: fitted in seconds, scored without torch.
    "linear": replace(
        PAPER,
        views="forecast,channel,memory",
        absence=True,
        changes=True,
        calendar="auto",
        scale="robust",
        scale_factor=1.0,
        counters="rate",
        calibrate_on="all",
    ),
    # Every constant of the released code.
    "paper": PAPER,
    # Chosen by measurement on 2 CPU cores: docs/log.md has the trials.
    "fast": replace(
        PAPER,
        views="forecast,channel,network",
        absence=True,
        changes=True,
        calendar="auto",
        scale="robust",
        scale_factor=1.0,
        counters="rate",
        compress=3.0,
        stride=0,
        train_mask="channel_subset",
        mask="channel",
        mask_groups=6,
        subset_share=0.2,
        # The network predicts the clean values from what the other channels show, first coarsely,
        # then sharply: two steps, each of which sees other faults.
        denoiser="relay",
        conditioning="conditional",
        prediction="x0",
        train_levels="visited",
        sampler="ddim",
        sampling_steps=2,
        patch_length=5,
        width=128,
        feedforward=256,
        layers=3,
        dropout=0.0,
        batch_size=32,  # half of them for each step
        learning_rate=2e-3,
        lr_schedule="cosine",
        max_epochs=0,
        max_steps=400,
        validate_every=100,
        patience=0,
        estimate="x0",
        # Errors of what does not drift, on several scales of time, in units of normal.
        error="squared",
        detrend="10,30,100",
        smooth="10,30,100",
        error_scale="spread,peak,level,tie",
        log_gain=1.0,
        reduce="rms",
        ensemble="largest",
        ensemble_steps=2,
        ensemble_every=1,
        calibrate_on="all",
    ),
}


def preset(name: str) -> Settings:
    """The row of settings called `name`; ConfigError with the nearest names if there is none."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}", remedy=registry.nearest(name, PRESETS))
    return PRESETS[name]


def resolve(name: str, overrides: Mapping[str, Any]) -> Settings:
    """The preset's settings with `overrides` put over them; a value of None changes nothing.

    What entities share is a network: with scope = "shared" the preset's views are that alone.
    Raises ConfigError for an unknown preset or key, a wrong type, or a value out of range.
    """
    check_names(overrides)
    kinds = {item.name: str(item.type) for item in fields(Settings)}
    given: dict[str, Any] = {
        key: _as_kind(value, kinds[key]) for key, value in overrides.items() if value is not None
    }
    if given.get("scope") == "shared":
        given.setdefault("views", "network")
    if given.get("views") == "network":
        given = {"absence": False, "changes": False, "calendar": "off", **given}
    return replace(preset(name), **given)


def check_setting(name: str, value: Any) -> None:
    """Raise ConfigError unless `value` alone is right for the setting `name`, which exists."""
    item = next(item for item in fields(Settings) if item.name == name)
    kind = str(item.type)
    check_value(name, _as_kind(value, kind), kind, item.metadata)


def _as_kind(value: Any, kind: str) -> Any:
    """A whole number where a float, or a list of whole numbers as text, is asked for."""
    if type(value) is int and kind in ("float", "str"):
        return float(value) if kind == "float" else str(value)
    return value


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the flat settings table, with the value in each preset."""
    json_type = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
    properties: dict[str, Any] = {}
    for item in fields(Settings):
        meta = item.metadata
        entry: dict[str, Any] = {
            "type": json_type[str(item.type)],
            "description": meta["meaning"],
            "default": getattr(PRESETS["fast"], item.name),
            "presets": {name: getattr(row, item.name) for name, row in PRESETS.items()},
        }
        choices = meta["choices"] or (registry.names(meta["table"]) if meta["table"] else ())
        if choices:
            entry["enum"] = list(choices)
        if meta["low"] is not None:
            entry["minimum"] = meta["low"]
        if meta["high"] is not None:
            entry["maximum"] = meta["high"]
        properties[item.name] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imdiffusion settings",
        "type": "object",
        "properties": {
            "preset": {"type": "string", "enum": list(PRESETS), "default": "fast"},
            "seed": {"type": "integer", "default": 0, "minimum": 0},
            "device": {"type": "string", "default": "auto"},
            **properties,
        },
        "additionalProperties": False,
    }
