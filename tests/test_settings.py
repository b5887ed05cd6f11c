"""Settings: every field is checked, every preset is valid, every error says what to do."""

import json

import pytest

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion.presets import PRESETS, resolve, schema
from imdiffusion.settings import SETTINGS


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
        "learning_rate": 1e-3, "lr_drops": [75, 90], "weight_decay": 1e-6, "batch_size": 12,
        "max_epochs": 500, "patience": 5, "holdout": 0.05, "estimate": "sample",
        "error": "absolute", "reduce": "sum", "ensemble": "threshold", "ensemble_steps": 10,
        "ensemble_every": 3, "xi": 0.5, "anomaly_share": 0.02, "alarm_rate": 0.001,
    }  # fmt: skip
    assert {key: paper[key] for key in expected} == expected


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_valid(name: str) -> None:
    assert resolve(name, {}) == PRESETS[name]


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
    ],
)
def test_combinations_that_cannot_work(changes: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        resolve("fast", changes)


def test_none_is_as_in_the_preset() -> None:
    assert resolve("fast", {"window": None}) == PRESETS["fast"]


def test_schema_is_json_and_names_everything() -> None:
    found = json.loads(json.dumps(schema()))
    assert {*SETTINGS, "preset", "seed", "device"} == set(found["properties"])
    assert found["properties"]["mask"]["enum"] == list(registry.names("masks"))
    assert found["properties"]["window"]["presets"]["paper"] == 100
