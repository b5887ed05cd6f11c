"""What a worker does with an order, whichever backend it works for: fit, or score, and write.

Torch is loaded only once there is something to compute: what is whole, or cannot be read, is
answered without.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imdiffusion import presets
from imdiffusion.batch.messages import DONE, FAILED, FOUND, Answer, Order
from imdiffusion.batch.provenance import Receipt, digests, mark_of, read_receipt, write_receipt
from imdiffusion.data.atomic import atomic_folder
from imdiffusion.data.files import FileOptions, read
from imdiffusion.data.frame import Frame
from imdiffusion.data.writing import write_table
from imdiffusion.detector import ImDiffusion
from imdiffusion.errors import DataError, ImDiffusionError, ImDiffusionWarning, ModelError
from imdiffusion.results import event_table, score_table

SCORES, EVENTS = "scores.parquet", "events.parquet"
MANIFEST = "manifest.json"


def _fit(order: Order, frame: Frame) -> dict[str, int]:
    torch.set_num_threads(order.threads)
    state, target = Path(order.state), Path(order.target)
    detector = ImDiffusion(**order.keywords)
    detector.fit(frame, exclude=[(start, end) for start, end in order.exclude], checkpoint=state)
    # How long it took stands in the receipt: equal fits are to be equal bytes.
    history = detector.entity().history
    history.seconds = history.earlier_seconds = 0.0
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

MANIFEST = "manifest.json"
UNFORESEEN = 3  # exit code of an error that is none of the library's


def answer(order: Order) -> Answer:
    """Do an order, unless its result is there and was made of the same; never raises an error.

    Whatever goes wrong with this entity is its answer, and touches nothing of the next one's.
    """
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = _answer(order, began, heard)
        except ImDiffusionError as error:
            found = Answer(FAILED, str(error), error.exit_code)
        except Exception as error:  # noqa: BLE001 - named in the summary, with all that is known
            found = Answer(FAILED, f"{type(error).__name__}: {error}", UNFORESEEN)
    if found.status == FOUND:
        return found
    return replace(found, warnings=_said(heard), seconds=time.monotonic() - began)


def _answer(order: Order, began: float, heard: list[warnings.WarningMessage]) -> Answer:
    mark = _mark(order)
    target, place = Path(order.target), Path(order.receipt)
    known = read_receipt(place)
    threads = order.threads if order.asked else None
    if known is not None and known.holds(mark, target, threads=threads):
        return Answer(FOUND, facts=known.facts, warnings=known.warnings, seconds=known.seconds)
    frame = _frame(order)

    from imdiffusion.batch.task import COMPUTE

    facts = COMPUTE[order.verb](order, frame)
    took = time.monotonic() - began
    made = Receipt(mark, digests(target), facts, _said(heard), took, threads=order.threads)
    write_receipt(place, made)
    return Answer(DONE, facts=facts)


def _mark(order: Order) -> str:
    """All a result depends on but the machine and its number of threads (see `Receipt`)."""
    facts: dict[str, Any] = {
        "verb": order.verb,
        "entity": order.entity,
        "reading": order.reading,
        "keywords": order.keywords,
        "exclude": order.exclude,
    }
    files = [Path(order.series)]
    if order.verb == "fit":
        facts["settings"] = presets.resolve(order.keywords["preset"], _overrides(order)).to_dict()
    else:
        if not Path(order.model, MANIFEST).is_file():
            raise ModelError(
                f"there is no model of {order.entity!r} at {order.model}",
                remedy="Fit it first: imdiffusion batch fit FOLDER --out MODELS.",
            )
        files.append(Path(order.model, MANIFEST))  # which says the sha256 of the other files
    return mark_of(facts, *files)


def _overrides(order: Order) -> dict[str, Any]:
    face = ("preset", "seed", "device")
    return {name: value for name, value in order.keywords.items() if name not in face}


def _frame(order: Order) -> Frame:
    """The rows of the entity. DataError for a file of several."""
    options = {**order.reading, "ignore_columns": tuple(order.reading["ignore_columns"])}
    found = read(order.series, FileOptions(**options))
    if isinstance(found, dict):
        if len(found) != 1:
            raise DataError(
                f"{order.series} holds {len(found)} entities",
                remedy="Put it beside the others, not in a folder of one entity.",
            )
        (found,) = found.values()
    return replace(found, entity=order.entity)


def _said(heard: list[warnings.WarningMessage]) -> list[str]:
    """The library's warnings, each text once."""
    ours = (one for one in heard if issubclass(one.category, ImDiffusionWarning))
    return list(dict.fromkeys(str(one.message) for one in ours))
