"""Settings: every field is checked, every preset is valid, every error says what to do."""

import json
from dataclasses import fields, replace

import pytest

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.presets import PRESETS, resolve, schema
from imdiffusion.settings import Settings


def test_paper_constants() -> None:
    # The published ones, written down here a second time on purpose (the paper, and what
    # the released code does when it runs).
    paper = PRESETS["paper"].to_dict()
    expected = {
        "window": 100, "stride": 50, "train_stride": 1, "scale": "minmax", "scale_factor": 20.0,
        "train_mask": "random", "visible_share": 0.3, "mask": "grating", "train_bands": 10,
        "bands": 4, "schedule": "quadratic", "diffusion_steps": 50, "beta_start": 1e-4,
        "beta_end": 0.5, "conditioning": "unconditional", "sampler": "ddpm", "sampling_steps": 50,
        "patch_length": 1, "width": 64, "layers": 4, "heads": 8, "feedforward": 64, "dropout": 0.1,
        "step_embedding": 128, "time_embedding": 128, "channel_embedding": 16,
        "learning_rate": 1e-3, "lr_drops": "75,90", "weight_decay": 1e-6, "batch_size": 12,
        "max_epochs": 500, "patience": 5, "holdout": 0.05, "estimate": "sample",
        "error": "absolute", "reduce": "sum", "ensemble": "threshold", "ensemble_steps": 10,
        "ensemble_every": 3, "xi": 0.5, "anomaly_share": 0.02, "alarm_rate": 0.001,
    }  # fmt: skip
    assert {key: paper[key] for key in expected} == expected


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid(name: str) -> None:
    assert resolve(name, {}) == PRESETS[name]


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_refuses_what_it_cannot_be(item) -> None:
    wrong = {"int": "word", "float": "word", "str": 3, "bool": 3}[str(item.type)]
    with pytest.raises(ConfigError, match=f"{item.name} = .* is not of type"):
        replace(PRESETS["fast"], **{item.name: wrong})
    meta = item.metadata
    if meta["low"] is not None:
        value = type(getattr(PRESETS["fast"], item.name))(meta["low"] - 1)
        with pytest.raises(ConfigError, match=f"{item.name} = .* out of range"):
            replace(PRESETS["fast"], **{item.name: value})
    if meta["table"] or meta["choices"]:
        with pytest.raises(ConfigError, match="none of its choices"):
            replace(PRESETS["fast"], **{item.name: "no such thing"})
    elif str(item.type) == "float":
        with pytest.raises(ConfigError, match="out of range"):
            replace(PRESETS["fast"], **{item.name: float("nan")})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 30, "heads": 8}, "not a multiple of heads"),
        ({"window": 105, "patch_length": 10}, "not a multiple of patch_length"),
        ({"stride": 200}, "longer than window"),
        ({"sampling_steps": 60}, "more than diffusion_steps"),
        ({"ensemble_steps": 3, "ensemble_every": 2}, "more than sampling_steps"),
        ({"beta_start": 0.6}, "above beta_end"),
        ({"max_steps": 0, "max_epochs": 0, "lr_schedule": "constant"}, "never end"),
        ({"max_steps": 0, "max_epochs": 0, "patience": 3}, "needs an end"),
        ({"lr_drops": "5,x"}, "not a list of epochs"),
    ],
)
def test_combinations_that_cannot_work(changes: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve("fast", changes)


def test_whole_numbers_serve_as_floats_and_none_as_the_preset() -> None:
    assert resolve("fast", {"compress": 2}).compress == 2.0
    assert resolve("fast", {"window": None}) == PRESETS["fast"]
    with pytest.raises(ConfigError, match="not of type int"):
        resolve("fast", {"window": True})


def test_schema_is_json_and_names_everything() -> None:
    found = json.loads(json.dumps(schema()))
    assert {f.name for f in fields(Settings)} | {"preset", "seed", "device"} == set(
        found["properties"]
    )
    assert found["properties"]["mask"]["enum"] == list(registry.names("masks"))
    assert found["properties"]["window"]["presets"]["paper"] == 100
