"""The part of an order that computes: fit an entity's rows, or score them, and write the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from imdiffusion.data.atomic import atomic_folder
from imdiffusion.data.frame import Frame
from imdiffusion.data.writing import write_table
from imdiffusion.detector import ImDiffusion
from imdiffusion.fleet.order import Order
from imdiffusion.fleet.receipt import mark_of
from imdiffusion.results import event_table, score_table

SCORES, EVENTS = "scores.parquet", "events.parquet"
MANIFEST = "manifest.json"


def _fit(order: Order, frame: Frame) -> dict[str, int]:
    torch.set_num_threads(order.threads)
    state, target = Path(order.state), Path(order.target)
    detector = ImDiffusion(**order.keywords)
    detector.fit(frame, exclude=[(start, end) for start, end in order.exclude], checkpoint=state)
    for entity in detector._need_fit().values():
        # How long it took stands in the receipt: equal fits are to be equal bytes.
        entity.history.seconds = entity.history.earlier_seconds = 0.0
    detector.save(target)
    shutil.rmtree(state, ignore_errors=True)
    return {"rows": len(frame), "channels": len(frame.channels)}


def _detect(order: Order, frame: Frame) -> dict[str, int]:
    torch.set_num_threads(order.threads)
    manifest = Path(order.model, MANIFEST)
    detector = _detector(order.model, mark_of({}, manifest), order.keywords["device"])
    analysis = detector.analyze(frame, ignore_extra=order.keywords["ignore_extra"])
    scores = score_table([analysis])
    with atomic_folder(order.target, marker=SCORES) as draft:
        write_table(scores, draft / SCORES)
        write_table(event_table([analysis], "pyarrow"), draft / EVENTS)
    return {
        "rows": scores.num_rows,
        "scored": int(np.isfinite(scores["score"].to_numpy()).sum()),
        "anomalous": int(scores["alarm"].to_numpy().sum()),
        "events": len(analysis.events),
    }


@lru_cache(maxsize=1)  # of one model of many entities, which is loaded once a worker
def _detector(folder: str, mark: str, device: str) -> ImDiffusion:
    """The model, which `mark` tells from one that stood there before."""
    return ImDiffusion.load(folder, device=device)


COMPUTE: dict[str, Callable[[Order, Frame], dict[str, int]]] = {"fit": _fit, "detect": _detect}
