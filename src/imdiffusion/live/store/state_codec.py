"""The state of a live part as bytes: JSON facts and raw arrays, never pickle.

MARK, the checksum and the length of the head, the head (JSON: facts, and name, dtype and shape of
every array), the arrays one after another. It is written for every entity at every checkpoint, and
read for all of them at a start: an npz archive, which states of older versions are, takes ten times
as long.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from imdiffusion.arrays import Arrays
from imdiffusion.errors import ModelError

FORMAT = 1
FACTS = "facts"
MARK = b"imd2"
HEAD = struct.Struct("<4sII")  # the mark, CRC-32 of all that follows it, bytes of the head
PLAIN = frozenset("?bBhHiIlLqQefdmMU")  # kinds of cells that are bytes and nothing else


def pack(kind: str, facts: dict[str, Any], arrays: Arrays) -> bytes:
    """What `unpack` gives back, in one piece. kind: what it is the state of."""
    there = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    told = {"kind": kind, "format": FORMAT, **facts}
    head = json.dumps({"facts": told, "arrays": there}).encode()
    body = b"".join([head, *(array.tobytes() for array in arrays.values())])
    return HEAD.pack(MARK, zlib.crc32(body), len(head)) + body


def unpack(kind: str, state: bytes) -> tuple[dict[str, Any], Arrays]:
    """Facts and arrays; ModelError for bytes that are damaged, of a newer format, or of another."""
    try:
        facts, arrays = _read(state) if state.startswith(MARK) else _read_archive(state)
        found, version = facts["kind"], int(facts["format"])
    except (
        *(OSError, ValueError, KeyError, TypeError, EOFError),
        *(zipfile.BadZipFile, struct.error, OverflowError),
    ) as error:
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


def _read(state: bytes) -> tuple[dict[str, Any], Arrays]:
    _, checksum, length = HEAD.unpack_from(state)
    whole = memoryview(state)[HEAD.size :]
    if zlib.crc32(whole) != checksum:
        raise ValueError("it is damaged: its checksum does not match")
    head = json.loads(bytes(whole[:length]))
    arrays: Arrays = {}
    at = length
    for name, kind, shape in head["arrays"]:
        cells = np.dtype(kind)
        if cells.char not in PLAIN:
            raise ValueError(f"array {name} is of {kind}")
        # A copy: a view of one array would hold the bytes of all.
        arrays[name] = np.ndarray(shape, cells, buffer=whole, offset=at).copy()
        at += math.prod(shape) * cells.itemsize
    return head["facts"], arrays


def _read_archive(state: bytes) -> tuple[dict[str, Any], Arrays]:
    """As versions before this wrote it."""
    with np.load(io.BytesIO(state), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop(FACTS).tobytes()), arrays
