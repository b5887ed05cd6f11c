"""Rows in a live state, the active they came through, and a tiny detector to fit on them"""

import sys
import time
from pathlib import Path

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.config.parser import parse
from imdiffusion.live.models.background_fits import Fitter
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.scorers.fitted import signed
from imdiffusion.live.store.inserts import SCORER, Checkpoint, Told
from imdiffusion.live.store.live_state import Store
from imdiffusion.records import ScoreRecord

NAMES = ("a", "b", "c", "d")
SECOND = 1_000_000_000
START = 1_700_000_400 * SECOND
TEXT = """
[detector]
window = 20
patch_length = 5
width = 16
layers = 1
feedforward = 32
step_embedding = 8
max_steps = {steps}
{detector}
validate_every = {steps}
batch_size = 16
learning_rate = 4e-3
detrend = [0]
smooth = [3]
mask_groups = 2
alarm_rate = 0.01
[[source]]
type = "host"
[state]
details = 1e5
[stream]
interval = 60
baseline = "{baseline}"
[fit]
rows = 400
{more}
"""


def configuration(*, steps=150, detector="", more="", baseline="mahalanobis") -> Configuration:
    return parse(TEXT.format(steps=steps, detector=detector, more=more, baseline=baseline))


def circle(rows):
    """Channels on a circle, whose phase walks: each alone says nothing of where the other is."""
    generator = np.random.default_rng(0)
    phase = np.cumsum(0.25 + 0.1 * generator.normal(size=rows))
    waves = [np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)]
    return np.column_stack(waves) + 0.02 * generator.normal(size=(rows, 4))


def frame(values, first=0):
    times = (START + (first + np.arange(len(values))) * 60 * SECOND).astype("datetime64[ns]")
    return Frame(values, np.ones(values.shape, bool), times, NAMES, "web")


def parts(folder, made, values):
    """Store, places, router that have read the rows, fitter."""
    places = Places(Path(folder))
    places.make()
    store = Store(places.live)
    router = ModelRouter(store, places, made)
    rows = frame(values)
    active = router.scorer_for(rows)
    active.push(rows)
    told = [
        Told(
            ScoreRecord("web", int(at), "online", 0.5, "ready", active.detector, active.model),
            NAMES,
            np.stack([row, row, row, row]).astype(np.float32),
        )
        for at, row in zip(rows.timestamps.astype(np.int64), values, strict=True)
    ]
    states = {("web", SCORER): signed(active)}
    store.write(Checkpoint(told=told, states=states), now=time.time_ns())
    return store, places, router, Fitter(store, places, made)


if __name__ == "__main__":  # fits, until it is killed; says the process that fits
    _, _, router, fitter = parts(sys.argv[1], configuration(steps=100_000), circle(420))
    fitter.tick(router.speaking())
    print(fitter._process.pid, flush=True)
    time.sleep(600)
