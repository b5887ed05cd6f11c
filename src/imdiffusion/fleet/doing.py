"""What a worker does with an order, whichever engine it works for.

Torch is loaded only once there is something to compute: what is whole, or cannot be read, is
answered without.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from imdiffusion import presets
from imdiffusion.data.files import FileOptions, read
from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataError, ImDiffusionError, ImDiffusionWarning, ModelError
from imdiffusion.fleet.order import DONE, FAILED, FOUND, Answer, Order
from imdiffusion.fleet.receipt import Receipt, digests, mark_of, read_receipt, write_receipt

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

    from imdiffusion.fleet.computing import COMPUTE

    facts = COMPUTE[order.verb](order, frame)
    took = time.monotonic() - began
    made = Receipt(mark, digests(target), facts, _said(heard), took, threads=order.threads)
    write_receipt(place, made)
    return Answer(DONE, facts=facts)


def _mark(order: Order) -> str:
    """Everything the result hangs on but the machine and its number of threads (see `Receipt`)."""
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
                remedy="Fit it first: imdiffusion fit --fleet FOLDER --out MODELS.",
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
