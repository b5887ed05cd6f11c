"""What a worker does with a task, whichever backend it works for: fit, or score, and write.

    python -m imdiffusion.batch.worker

is a worker process of the backend `local`. Torch is loaded only once there is something to compute:
what is whole, or cannot be read, is answered without.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion import __version__, presets
from imdiffusion.batch.pool import DONE, FAILED, FOUND, Answer, TaskMessage
from imdiffusion.batch.provenance import Receipt, digests, mark_of, read_receipt, write_receipt
from imdiffusion.data.atomic import atomic_folder
from imdiffusion.data.files import read
from imdiffusion.data.frame import Frame
from imdiffusion.data.layout import FileOptions
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, ImDiffusionError, ImDiffusionWarning, ModelError
from imdiffusion.results import event_table, score_table
from imdiffusion.workers import Message, serve

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion

SCORES, EVENTS = "scores.parquet", "events.parquet"
MANIFEST = "manifest.json"
UNFORESEEN = 3  # exit code of an error that is none of the library's


def reply(message: Message) -> Message:
    """The answer to a message: to an empty one the version, which says that the worker is ready."""
    return asdict(answer(TaskMessage(**message))) if message else {"ready": __version__}


def answer(task: TaskMessage) -> Answer:
    """Do a task, unless its result is there and was made of the same; never raises an error.

    Whatever goes wrong with this entity is its answer, and touches nothing of the next one's.
    """
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = _answer(task, began, caught)
        except ImDiffusionError as error:
            found = Answer(FAILED, str(error), error.exit_code)
        except Exception as error:  # noqa: BLE001 - named in the summary, with all that is known
            found = Answer(FAILED, f"{type(error).__name__}: {error}", UNFORESEEN)
    if found.status == FOUND:
        return found
    return replace(found, warnings=_texts(caught), seconds=time.monotonic() - began)


def _answer(task: TaskMessage, began: float, caught: list[warnings.WarningMessage]) -> Answer:
    mark = _mark(task)
    target, place = Path(task.target), Path(task.receipt)
    known = read_receipt(place)
    threads = task.threads if task.same_threads else None
    if known is not None and known.holds(mark, target, threads=threads):
        return Answer(FOUND, facts=known.facts, warnings=known.warnings, seconds=known.seconds)
    facts = COMPUTE[task.verb](task, _frame(task))
    took = time.monotonic() - began
    made = Receipt(mark, digests(target), facts, _texts(caught), took, threads=task.threads)
    write_receipt(place, made)
    return Answer(DONE, facts=facts)


def _mark(task: TaskMessage) -> str:
    """A digest of all that decides a result but the machine and its threads (see `Receipt`)."""
    facts: dict[str, Any] = {
        "verb": task.verb,
        "entity": task.entity,
        "reading": task.reading,
        "keywords": task.keywords,
        "exclude": task.exclude,
    }
    files = [Path(task.series)]
    if task.verb == "fit":
        facts["settings"] = presets.resolve(task.keywords["preset"], _overrides(task)).to_dict()
    else:
        if not Path(task.model, MANIFEST).is_file():
            raise ModelError(
                f"there is no model of {task.entity!r} at {task.model}",
                remedy="Fit it first: imdiffusion batch fit FOLDER --out MODELS.",
            )
        files.append(Path(task.model, MANIFEST))  # which says the sha256 of the other files
    return mark_of(facts, *files)


def _overrides(task: TaskMessage) -> dict[str, Any]:
    face = ("preset", "seed", "device")
    return {name: value for name, value in task.keywords.items() if name not in face}


def _frame(task: TaskMessage) -> Frame:
    """The rows of the entity. DataError for a file of several."""
    options = {**task.reading, "ignore_columns": tuple(task.reading["ignore_columns"])}
    found = read(task.series, FileOptions(**options))
    if isinstance(found, dict):
        if len(found) != 1:
            raise DataError(
                f"{task.series} holds {len(found)} entities",
                remedy="Put it beside the others, not in a folder of one entity.",
            )
        (found,) = found.values()
    return replace(found, entity=task.entity)


def _texts(caught: list[warnings.WarningMessage]) -> list[str]:
    """The library's warnings, each text once."""
    ours = (one for one in caught if issubclass(one.category, ImDiffusionWarning))
    return list(dict.fromkeys(str(one.message) for one in ours))


def _fit(task: TaskMessage, frame: Frame) -> dict[str, int]:
    import torch

    from imdiffusion.detector import ImDiffusion

    torch.set_num_threads(task.threads)
    state, target = Path(task.state), Path(task.target)
    detector = ImDiffusion(**task.keywords)
    detector.fit(frame, exclude=[(start, end) for start, end in task.exclude], checkpoint=state)
    # How long it took stands in the receipt: equal fits are to be equal bytes.
    history = detector.entity().history
    history.seconds = history.earlier_seconds = 0.0
    detector.save(target)
    shutil.rmtree(state, ignore_errors=True)
    return {"rows": len(frame), "channels": len(frame.channels)}


def _detect(task: TaskMessage, frame: Frame) -> dict[str, int]:
    import torch

    torch.set_num_threads(task.threads)
    manifest = Path(task.model, MANIFEST)
    detector = _detector(task.model, mark_of({}, manifest), task.keywords["device"])
    analysis = detector.analyze(frame, ignore_extra=task.keywords["ignore_extra"])
    scores = score_table([analysis])
    with atomic_folder(task.target, marker=SCORES) as draft:
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
    from imdiffusion.detector import ImDiffusion

    return ImDiffusion.load(folder, device=device)


COMPUTE: dict[str, Callable[[TaskMessage, Frame], dict[str, int]]] = {
    "fit": _fit,
    "detect": _detect,
}

if __name__ == "__main__":
    serve(lambda message, note: reply(message))
