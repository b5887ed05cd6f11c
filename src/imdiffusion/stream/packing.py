"""The state of a live part as bytes: an npz archive of arrays and JSON facts, never pickle."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import ModelError

Arrays = dict[str, NDArray[Any]]

FORMAT = 1
FACTS = "facts"


def pack(kind: str, facts: dict[str, Any], arrays: Arrays) -> bytes:
    """One archive of what `unpack` gives back. kind: what it is the state of."""
    text = json.dumps({"kind": kind, "format": FORMAT, **facts}).encode()
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=False, **{FACTS: np.frombuffer(text, np.uint8)}, **arrays)
        return file.getvalue()


def unpack(kind: str, state: bytes) -> tuple[dict[str, Any], Arrays]:
    """Facts and arrays; ModelError for bytes that are damaged, of a newer format, or of another."""
    try:
        with np.load(io.BytesIO(state), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays.pop(FACTS).tobytes())
        found, version = facts["kind"], int(facts["format"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the saved state of a {kind} cannot be read: {error}",
            remedy="Leave it out: the stream then starts afresh.",
        ) from error
    if found != kind or version > FORMAT:
        raise ModelError(
            f"a saved state is of a {found!r} in format {version}, not of a {kind!r} in format "
            f"{FORMAT}",
            remedy="Leave it out: the stream then starts afresh.",
        )
    return facts, arrays
