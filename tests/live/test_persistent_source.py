"""A source over a change of the configuration: it goes on, or begins again where it must."""

from __future__ import annotations

import os

import pytest

from imdiffusion.live.sources.persistent import Kept
from imdiffusion.live.sources.stdin import StdinSource


def line(row):
    return b'{"timestamp": %d, "a": %d}\n' % (1_700_000_000 + row, row)


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def values(batch):
    return [] if batch is None else [v for frame in batch.frames for v in frame.values[:, 0]]


def test_nothing_of_a_pipe_is_lost(pipe):
    inner = StdinSource(descriptor=pipe[0], batch_rows=2)
    with Kept(inner) as source:
        source.open(None)
        os.write(pipe[1], b"".join(map(line, range(5))) + line(5)[:9])
        first = source.read(1.0)
        assert values(first) == [0, 1]
        source.close()
        source.open(first.offset)  # as the next engine does, which has scored what was read
        rest = values(source.read(1.0)) + values(source.read(1.0))
        os.write(pipe[1], line(5)[9:])
        assert rest + values(source.read(1.0)) == [2, 3, 4, 5]
        source.let_go()


def test_what_was_read_and_not_written_is_read_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(line, range(4))))
    with path.open("rb") as file:
        source = Kept(StdinSource(descriptor=file.fileno(), batch_rows=2))
        source.open(None)
        first = source.read(1.0)
        source.read(1.0)
        source.close()
        source.open(first.offset)
        assert values(source.read(1.0)) == [2, 3]


def test_a_lasting_source_always_goes_on(pipe):
    source = Kept(StdinSource(descriptor=pipe[0]), lasting=True)
    source.open(None)
    os.write(pipe[1], line(0) + line(1))
    source.read(1.0)
    source.close()
    source.open("other")
    os.write(pipe[1], line(2))
    assert values(source.read(1.0)) == [2]
