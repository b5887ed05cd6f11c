"""Rows of a table that fit in a second, a series in memory for them, and its label."""

import numpy as np

from imdiffusion.data.frame import frame_from
from imdiffusion.schema import Value
from imdiffusion_bench.measure import Group
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.split import Split, Truth

TINY: dict[str, Value] = {
    "window": 20,
    "stride": 10,
    "patch_length": 5,
    "width": 8,
    "layers": 1,
    "heads": 2,
    "step_embedding": 8,
    "time_embedding": 8,
    "channel_embedding": 4,
    "feedforward": 8,
    "max_steps": 6,
    "validate_every": 3,
    "patience": 0,
    "batch_size": 4,
}
FAST = Variant("fast, tiny", "fast", TINY)
ZSCORE = Variant("zscore", "zscore")
ROWS = (Variant("isolation_forest", "isolation_forest"), Variant("random", "random"))


def split(label=None, rows=300):
    def raising():
        raise AssertionError("somebody read the labels")

    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(2, rows, 3))
    test[100:120] += 8
    truth = Truth(raising) if label is None else Truth(lambda: label)
    return Split("made", "one", frame_from(train), frame_from(test), truth)


def label_of(rows=300):
    label = np.zeros(rows, bool)
    label[100:120] = True
    return label


def group(*variants):
    return Group("p", "made", "one", 0, variants)
