"""JSON lines on standard input: a pipe, a file, a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rows_read import cells, drain, rejected

from imdiffusion.errors import ConfigError, SourceEnded
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.sources.stdin import StdinSource


def row(i: int) -> str:
    return f'{{"entity": "db", "timestamp": {1_700_000_000 + i}, "cpu": {i}}}\n'


def told(first: int, last: int) -> dict[tuple[str, int, str], float]:
    return {("db", (1_700_000_000 + i) * 10**9, "cpu"): float(i) for i in range(first, last)}


def to_the_end(source: StdinSource) -> list[Batch]:
    batches = []
    ended = False
    while not ended:
        try:
            batch = source.read(5.0)
        except SourceEnded:
            ended = True
        else:
            assert batch is not None
            batches.append(batch)
    with pytest.raises(SourceEnded, match="has ended after"):  # said again to whoever asks again
        source.read(0.0)
    return batches


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    ends = {reading, writing}

    def close(end: int) -> None:
        ends.discard(end)
        os.close(end)

    yield reading, writing, close
    for end in ends:
        os.close(end)


def test_lines_come_as_they_are_whole_and_the_end_is_said(pipe):
    reading, writing, close = pipe
    source = StdinSource(descriptor=reading)
    source.open(None)
    assert source.read(0.0) is None
    os.write(writing, (row(0) + row(1)[:9]).encode())
    first = source.read(5.0)
    assert cells([first]) == told(0, 1)
    assert source.read(0.0) is None
    os.write(writing, (row(1)[9:] + "\n" + row(2).rstrip("\n")).encode())
    assert cells([source.read(5.0)]) == told(1, 2)
    close(writing)
    rest = to_the_end(source)
    assert cells(rest) == told(2, 3)  # the last line, without an end
    assert rest[-1].offset == "4"  # a blank one was among them


def test_a_file_goes_on_after_its_offset_and_a_pipe_with_what_comes(tmp_path, pipe):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(map(row, range(20))))
    with path.open("rb") as file:
        source = StdinSource(descriptor=file.fileno(), batch_rows=6)
        source.open(None)
        batches = to_the_end(source)
        for done in range(1, len(batches) + 1):
            source.open(batches[done - 1].offset)
            assert cells([*batches[:done], *to_the_end(source)]) == told(0, 20)
        source.open("25")
        assert rejected(to_the_end(source)) == ["stdin: ended after 20 lines, before its offset"]
    reading, writing, close = pipe
    source = StdinSource(descriptor=reading)
    source.open("6")
    os.write(writing, row(6).encode())
    close(writing)
    assert cells(to_the_end(source)) == told(6, 7)


def test_bad_and_endless_lines_are_told_and_block_nothing(pipe):
    reading, writing, close = pipe
    source = StdinSource(descriptor=reading, max_line_bytes=500)
    source.open(None)
    batches = []
    for text in ("rubbish\n", "x" * 5000, "y" * 5000, "\n" + row(0)):
        os.write(writing, text.encode())
        batches += drain(source)
    close(writing)
    batches += to_the_end(source)
    assert cells(batches) == told(0, 1)
    said = rejected(batches)
    assert said[0].startswith("stdin, line 1: broken JSON")
    assert said[1:] == ["stdin, line 2: longer than 500 bytes"]


PROGRAM = """
import sys
from imdiffusion.live.connection.options import load_source
from imdiffusion.errors import SourceEnded
with load_source("stdin", {"name": "none"}) as source:
    source.open(None)
    try:
        while True:
            for frame in source.read(10.0).frames:
                print(frame.entity, *frame.values[:, 0])
    except SourceEnded:
        print("ended")
"""


def test_the_standard_input_of_a_process():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=row(0) + '{"timestamp": 5, "channel": "up", "value": 1}',
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split("\n")) == ["", "db 0.0", "ended", "none 1.0"]


def test_wrong_offsets_and_descriptors():
    with pytest.raises(ConfigError, match="offset '-1'"):
        StdinSource().open("-1")
    with pytest.raises(ConfigError, match="descriptor 9999"):
        StdinSource(descriptor=9999).open(None)


def test_a_look_says_what_it_is_and_reads_nothing(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, row(0).encode())
    os.close(writing)
    source = StdinSource(descriptor=reading)
    assert "a pipe" in source.look(0.0)
    assert cells(to_the_end(source)) == told(0, 1)
    os.close(reading)
    with pytest.raises(ConfigError, match="nothing can be read from descriptor"):
        source.look(0.0)
    (tmp_path / "rows.jsonl").write_text(row(0))
    with (tmp_path / "rows.jsonl").open() as file:
        assert "a file" in StdinSource(descriptor=file.fileno()).look(0.0)
    with Path(os.devnull).open() as file:
        assert "a device" in StdinSource(descriptor=file.fileno()).look(0.0)
    leader, follower = os.openpty()
    assert "a terminal" in StdinSource(descriptor=follower).look(0.0)
    os.close(leader)
    os.close(follower)
