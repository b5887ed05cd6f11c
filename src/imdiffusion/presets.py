"""Presets: one row of settings each. To add one, add a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imdiffusion.devices import check_device
from imdiffusion.schema import Field, checked, one_of
from imdiffusion.settings import NETWORK, SETTINGS, Settings

PAPER = Settings()

PRESETS: dict[str, Settings] = {
    # Views in closed form alone: fitted in seconds, scored without torch.
    "linear": replace(
        PAPER,
        views=("forecast", "channel", "memory"),
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
        views=("forecast", "channel", "network"),
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
        detrend=(10, 30, 100),
        smooth=(10, 30, 100),
        error_scale=("spread", "peak", "level", "tie"),
        log_gain=1.0,
        reduce="rms",
        ensemble="largest",
        ensemble_steps=2,
        ensemble_every=1,
        calibrate_on="all",
    ),
}


# What else is given beside the settings.
FACE = {
    "preset": Field(
        name="preset", kind=str, default="fast", choices=tuple(PRESETS), meaning="a row of settings"
    ),
    "seed": Field(
        name="seed", kind=int, default=0, low=0, meaning="the same seed, the same scores"
    ),
    "device": Field(
        name="device",
        kind=str,
        default="auto",
        rule=check_device,
        meaning="where networks are computed",
    ),
}
KEYWORDS: Mapping[str, Field] = {**FACE, **SETTINGS}
USUAL = {name: item.default for name, item in FACE.items()}


def preset(name: str) -> Settings:
    """The row of settings called `name`; ConfigError with the nearest names if there is none."""
    return PRESETS[one_of("preset", name, PRESETS)]


def resolve(name: str, overrides: Mapping[str, Any]) -> Settings:
    """The preset's settings with `overrides` put over them; a value of None changes nothing.

    What entities share is a network: with scope = "shared" the preset's views are that alone.
    Raises ConfigError for an unknown preset or key, a wrong type, or a value out of range.
    """
    own = {key: value for key, value in overrides.items() if value is not None}
    given = checked(SETTINGS, own, "setting")
    if given.get("scope") == "shared":
        given.setdefault("views", (NETWORK,))
    if given.get("views") == (NETWORK,):
        given = {"absence": False, "changes": False, "calendar": "off", **given}
    return replace(preset(name), **given)


def resolve_keywords(given: Mapping[str, Any]) -> Settings:
    """The settings that keywords of `ImDiffusion` resolve to, all of them checked: ConfigError."""
    made = checked(KEYWORDS, {**USUAL, **given}, "setting")
    return resolve(made["preset"], {name: made[name] for name in made if name not in FACE})


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the flat settings table, with the value in each preset."""
    properties = {name: item.json_schema() for name, item in KEYWORDS.items()}
    rows = {name: row.to_dict() for name, row in PRESETS.items()}
    for name in SETTINGS:
        properties[name]["default"] = rows["fast"][name]
        properties[name]["presets"] = {preset: row[name] for preset, row in rows.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imdiffusion settings",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
