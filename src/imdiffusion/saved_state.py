"""What an object that reads a stream goes on from: the one type for it, and its bytes.

Every object that takes a series in pieces has the same pair of verbs:

    to_state() -> State                      everything it goes on from, between two pushes
    from_state(state, like) -> itself        one that goes on from there; like: a fresh one, set up
                                             the same way, whose settings and fitted parts it takes

A state is JSON facts, numpy arrays and the states of the object's own parts. Its bytes: MARK, the
checksum and the length of the head, the head (JSON: facts, and name, dtype and shape of every array
of the whole tree), the arrays one after another; never pickle. They are written for every entity at
every checkpoint, and read for all of them at a start: an npz archive takes ten times as long.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import ModelError

NamedArrays = Mapping[str, NDArray[Any]]
Cell = TypeVar("Cell", bound=np.generic)

MARK = b"imd3"  # its digit is the version of these bytes
HEAD = struct.Struct("<4sII")  # the mark, CRC-32 of all that follows it, bytes of the head
PLAIN = frozenset("?bBhHiIlLqQefdmMU")  # kinds of cells that are bytes and nothing else
REMEDY = "Leave it out: the stream then starts afresh."


@dataclass(frozen=True, slots=True)
class State:
    """The state of an object of some `kind`, in the layout `version` of that kind.

    facts: what JSON can say. parts: states of the object's own parts, by name. An array may be the
    object's own one: what reads a state takes copies.
    """

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: NamedArrays = field(default_factory=dict)
    parts: Mapping[str, State] = field(default_factory=dict)
    version: int = 1

    # -- reading; ModelError for what does not fit

    def check(self, kind: str, version: int = 1) -> Self:
        """This state, if it is of that kind and version."""
        if (self.kind, self.version) != (kind, version):
            raise ModelError(
                f"a saved state is of a {self.kind!r} in version {self.version}, not of a {kind!r} "
                f"in version {version}",
                remedy=REMEDY,
            )
        return self

    def fact(self, name: str) -> Any:
        """The fact of that name."""
        return self._found(self.facts, name)

    def part(self, name: str) -> State:
        """The state of the part of that name."""
        found: State = self._found(self.parts, name)
        return found

    def array(
        self, name: str, dtype: type[Cell], shape: tuple[int, ...] | None = None
    ) -> NDArray[Cell]:
        """A copy of the array of that name; shape: the one it must have."""
        found = self._found(self.arrays, name)
        if shape is not None and found.shape != shape:
            raise ModelError(
                f"the saved state of a {self.kind} has {name!r} of shape {found.shape}, where the "
                f"model has {shape}",
                remedy=REMEDY,
            )
        return np.array(found, dtype)

    def like(self, own: NamedArrays) -> dict[str, NDArray[Any]]:
        """Copies of the arrays that have the names, shapes and types of these."""
        return {name: self.array(name, one.dtype.type, one.shape) for name, one in own.items()}

    def _found(self, table: Mapping[str, Any], name: str) -> Any:
        if name not in table:
            raise ModelError(
                f"the saved state of a {self.kind} has no {name!r}: it is of another version of "
                "imdiffusion, or of another model",
                remedy=REMEDY,
            )
        return table[name]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        own = sum(array.nbytes for array in self.arrays.values())
        return own + sum(part.nbytes for part in self.parts.values())

    # -- bytes

    def to_bytes(self) -> bytes:
        """What `from_bytes` gives back, in one piece."""
        cells: list[bytes] = []
        head = json.dumps(self._head(cells)).encode()
        body = b"".join([head, *cells])
        return HEAD.pack(MARK, zlib.crc32(body), len(head)) + body

    def _head(self, cells: list[bytes]) -> list[Any]:
        cells += [array.tobytes() for array in self.arrays.values()]
        there = [(name, array.dtype.str, array.shape) for name, array in self.arrays.items()]
        parts = {name: part._head(cells) for name, part in self.parts.items()}
        return [self.kind, self.version, self.facts, there, parts]

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The state that `to_bytes` wrote; ModelError for what is damaged, or was written by
        another version of imdiffusion.
        """
        if data[:3] == MARK[:3] and data[3:4].isdigit() and data[3:4] != MARK[3:]:
            raise ModelError(
                "a saved state is of another version of imdiffusion "
                f"({data[:4].decode(errors='replace')}, this one reads {MARK.decode()})",
                remedy=REMEDY,
            )
        try:
            mark, checksum, length = HEAD.unpack_from(data)
            body = memoryview(data)[HEAD.size :]
            if mark != MARK or zlib.crc32(body) != checksum:
                raise ValueError("it is damaged: its checksum does not match")
            found, end = cls._read(json.loads(bytes(body[:length])), body, length)
            if end != len(body):
                raise ValueError(f"{len(body) - end} bytes belong to no array")
        except (ValueError, TypeError, struct.error, OverflowError) as error:
            raise ModelError(f"a saved state cannot be read: {error}", remedy=REMEDY) from error
        return found

    @classmethod
    def _read(cls, head: list[Any], body: memoryview, at: int) -> tuple[State, int]:
        """The state that a head describes, whose arrays begin at `at`; where they end."""
        kind, version, facts, there, heads = head
        arrays: dict[str, NDArray[Any]] = {}
        for name, code, shape in there:
            cells = np.dtype(code)
            if cells.char not in PLAIN:
                raise ValueError(f"array {name} is of {code}")
            arrays[name] = np.ndarray(shape, cells, buffer=body, offset=at)
            at += math.prod(shape) * cells.itemsize
        parts: dict[str, State] = {}
        for name, one in heads.items():
            parts[name], at = cls._read(one, body, at)
        return cls(str(kind), facts, arrays, parts, int(version)), at
