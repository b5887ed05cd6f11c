"""How a contract is held: in one block a member, which ends with a sentence where it is broken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch


class Expect(Protocol):
    """Raises AssertionError with what was expected of the member, and what came, unless `holds`."""

    def __call__(self, holds: object, expected: str, came: object) -> None: ...  # noqa: D102


@contextmanager
def contract(member: str, *, may_draw: bool = False) -> Iterator[Expect]:
    """A block in which a member, "mask 'diagonal'", keeps its contract.

    It raises AssertionError alone: an error of the member is a broken contract as well. So is a
    draw from a global generator, or a seed for one, unless it `may_draw`, as clients of far sides
    do for their pauses.
    """

    def expect(holds: object, expected: str, came: object) -> None:
        if not holds:
            raise AssertionError(f"{member}: expected {expected}, got {came}")

    before = _generators()
    try:
        yield expect
    except Exception as error:
        if isinstance(error, AssertionError) and str(error).startswith(f"{member}: "):
            raise
        what = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{member}: expected no error, got {what}") from error
    after = _generators()
    drawn = [name for name in before if before[name] != after[name]]
    expect(may_draw or not drawn, "no global generator to be touched", f"another state of {drawn}")


def _generators() -> dict[str, object]:
    """The state of every global generator, by its module."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  looked at, not drawn from
    return {
        "random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tobytes(), *rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
