"""Files that grow, rotate, shrink and break while they are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_read import cells, drain, rejected

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.sources.files import FilesSource

START = 1_700_000_000
HEADER = "timestamp,cpu,memory\n"


def lines(first: int, last: int) -> str:
    return "".join(f"{START + i},{i},{i / 2}\n" for i in range(first, last))


def told(entity: str, first: int, last: int) -> dict[tuple[str, int, str], float]:
    return {
        (entity, (START + i) * 10**9, channel): value
        for i in range(first, last)
        for channel, value in (("cpu", float(i)), ("memory", i / 2))
    }


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def opened(path: Path, offset: str | None = None, **options) -> FilesSource:
    source = FilesSource(path=str(path), poll=0.01, **options)
    source.open(offset)
    return source


def test_a_file_that_grows_is_read_line_by_whole_line(tmp_path):
    path = tmp_path / "web.csv"
    path.write_text(HEADER[:5])
    source = opened(path)
    assert source.read(0.0) is None
    append(path, HEADER[5:] + lines(0, 3) + "17000")
    assert cells(drain(source)) == told("web", 0, 3)
    assert source.read(0.0) is None  # half a line waits for its end
    append(path, "00003,3,1.5\n")
    batch = source.read(5.0)
    assert cells([batch]) == told("web", 3, 4)
    assert batch.frames[0].channels == ("cpu", "memory")


def test_a_restart_from_an_offset_loses_and_doubles_nothing(tmp_path):
    path = tmp_path / "web.csv"
    path.write_text(HEADER + lines(0, 50))
    batches = drain(opened(path, batch_rows=7))
    assert len(batches) == 8
    for done in range(len(batches) + 1):
        offset = batches[done - 1].offset if done else None
        rest = drain(opened(path, offset, batch_rows=11))
        assert cells([*batches[:done], *rest]) == told("web", 0, 50)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=8),
    restarts=st.lists(st.booleans(), min_size=9, max_size=9),
    rows=st.integers(1, 9),
)
def test_any_growth_and_any_restart_give_the_same_rows(tmp_path_factory, cuts, restarts, rows):
    path = tmp_path_factory.mktemp("grow") / "web.csv"
    text = (HEADER + lines(0, 20)).encode()
    source, batches = opened(path, batch_rows=rows), []
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, stop, again in zip(borders, borders[1:], restarts, strict=False):
        with path.open("ab") as file:
            file.write(text[start:stop])
        batches += drain(source)
        if again:
            source = opened(path, batches[-1].offset if batches else None, batch_rows=rows)
    assert cells(batches) == told("web", 0, 20)
    assert rejected(batches) == []


WRITER = """
import os, sys, time
folder = sys.argv[1]
for i in range(3000):
    line = f'{{"entity":"e{i % 3}","timestamp":{1700000000 + i},"cpu":{i}}}\\n'.encode()
    with open(os.path.join(folder, "app.jsonl"), "ab", 0) as file:
        file.write(line[: i % 40])   # torn over two writes
        file.write(line[i % 40 :])
    if i % 1000 == 999 and i < 2999:
        os.rename(os.path.join(folder, "app.jsonl"), os.path.join(folder, f"app.jsonl.{i}"))
    if i in (999, 1000, 1999, 2000):   # a whole file between two looks would be lost, and told
        while not os.path.exists(os.path.join(folder, f"seen{i}")):
            time.sleep(0.01)
"""


def test_a_writer_that_rotates_at_full_speed_is_followed(tmp_path):
    append(tmp_path / "app.jsonl", "")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    try:
        source, batches, rows = opened(tmp_path / "app.jsonl"), [], 0
        while rows < 3000:
            batch = source.read(20.0)
            assert batch is not None, f"{rows} rows came"
            batches.append(batch)
            rows += sum(map(len, batch.frames))
            for i in (999, 1000, 1999, 2000):  # read so far: let the writer go on
                if rows > i:
                    (tmp_path / f"seen{i}").touch()
            if len(batches) % 3 == 0:
                source = opened(tmp_path / "app.jsonl", batch.offset)
    finally:
        writer.kill()
        writer.wait()
    found = cells(batches)
    assert found == {(f"e{i % 3}", (START + i) * 10**9, "cpu"): float(i) for i in range(3000)}
    assert rejected(batches) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("way", ["rename", "copytruncate"])
def test_the_rest_of_a_rotated_file_is_read_before_the_new_one(tmp_path, way, restart):
    path = tmp_path / "web.csv"
    path.write_text(HEADER + lines(0, 10))
    source = opened(path)
    batches = drain(source)
    append(path, lines(10, 15) + f"{START + 15},15,7.5")  # the last one without its end
    if way == "rename":
        path.rename(tmp_path / "web.csv.1")
    else:
        shutil.copy(path, tmp_path / "web.csv.1")
        os.truncate(path, 0)
    if restart:
        source = opened(path, batches[-1].offset)
    batches += drain(source)
    append(path, HEADER + lines(16, 30))
    batches += drain(source)
    assert cells(batches) == told("web", 0, 30)
    assert rejected(batches) == []
    assert drain(opened(path, batches[-1].offset)) == []


@pytest.mark.parametrize("length", [3, 10, 200])
def test_a_replaced_file_is_read_from_its_beginning_and_the_lost_rest_told(tmp_path, length):
    path = tmp_path / "web.csv"
    path.write_text(HEADER + lines(0, 10))
    batches = drain(opened(path))
    append(path, lines(10, 12))
    path.unlink()
    path.write_text(HEADER + lines(100, 100 + length))
    after = drain(opened(path, batches[-1].offset))
    assert cells(after) == told("web", 100, 100 + length)
    assert len(rejected(after)) == 1
    assert "replaced or truncated; read up to byte" in rejected(after)[0]


def test_files_rotated_unseen_in_between_are_named(tmp_path):
    path = tmp_path / "web.csv"
    path.write_text(HEADER + lines(0, 10))
    offset = drain(opened(path))[-1].offset
    for name, first, changed in (("web.csv.2", 0, 1), ("web.csv.1", 10, 2), ("web.csv", 20, 3)):
        (tmp_path / name).write_text(HEADER + lines(first, first + 10))
        os.utime(tmp_path / name, ns=(changed * 10**9, changed * 10**9))
    batches = drain(opened(path, offset))
    assert cells(batches) == told("web", 20, 30)
    assert rejected(batches) == ["web.csv.1: written after web.csv.2 and before web.csv, not read"]


def test_a_folder_new_files_renamed_files_and_removed_ones(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + lines(0, 5))
    (tmp_path / ".b.csv").write_text("a draft")
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "old.csv.gz").write_text("packed")
    source = opened(tmp_path)
    batches = drain(source)
    assert cells(batches) == told("a", 0, 5)
    assert rejected(batches) == ["old.csv.gz: skipped: a file of that suffix does not grow"]
    (tmp_path / "c.csv").write_text(HEADER + lines(0, 2))
    (tmp_path / "a.csv").rename(tmp_path / "0.csv")
    append(tmp_path / "0.csv", lines(5, 6))
    more = drain(source)
    assert cells(more) == told("0", 5, 6) | told("c", 0, 2)
    append(tmp_path / "c.csv", lines(2, 3))
    (tmp_path / "0.csv").unlink()  # all of it was read
    assert rejected(drain(source)) == []
    (tmp_path / "c.csv").unlink()
    assert [b.frames for b in drain(opened(tmp_path, more[-1].offset))] == [()]


def test_many_files_take_turns(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(HEADER + lines(0, 40))
    source = opened(tmp_path, batch_rows=10)
    batches = [source.read(0.0) for _ in range(4)]
    assert {frame.entity for batch in batches for frame in batch.frames} == {"a", "b", "c"}
    assert cells([*batches, *drain(source)]) == {
        key: value for name in "abc" for key, value in told(name, 0, 40).items()
    }


BAD = [
    (b'{"timestamp": 1700000000, "cpu"', "broken JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b"[1, 2]", "not a JSON object"),
    (b'{"timestamp": 1700000000, "cpu": "\xff"}', "not UTF-8"),
    (b'{"cpu": 1}', "the timestamp is missing"),
    (b'{"timestamp": "yesterday", "cpu": 1}', "'yesterday' is not a timestamp"),
    (b'{"timestamp": 1700000000}', "no channel"),
    (b'{"timestamp": 1700000000, "cpu": "fast"}', "channel 'cpu': 'fast' is not a number"),
    (b'{"timestamp": 1700000000, "cpu": Infinity}', "channel 'cpu': the value is infinite"),
    (b'{"timestamp": 1700000000, "cpu": 1' + b"0" * 400 + b"}", "the value is infinite"),
    (b'{"timestamp": 1700000000, "cpu": {"a": 1}}', "is not a number"),
    (b'{"timestamp": 1700000000, "\\ud800": 1}', "a lone surrogate"),
    (b'{"entity": "", "timestamp": 1700000000, "cpu": 1}', "the entity is '', not a name"),
    (b'{"entity": [], "timestamp": 1700000000, "cpu": 1}', "the entity is [], not a name"),
    (b'{"timestamp": 1700000000, "channel": null, "value": 1}', "the channel is None"),
    (b'{"timestamp": 1700000000, "cpu": ' + b" " * 200_000 + b"1}", "longer than 150000 bytes"),
]


@pytest.mark.parametrize(("line", "why"), BAD, ids=[why for _, why in BAD])
def test_a_poisonous_line_is_told_and_blocks_none_after_it(tmp_path, line, why):
    path = tmp_path / "app.jsonl"
    good = b'{"timestamp": %d, "cpu": 1}\n'
    path.write_bytes(good % START + line + b"\n" + good % (START + 1))
    batches = drain(opened(path, max_line_bytes=150_000))
    assert cells(batches).keys() == {
        ("app", START * 10**9, "cpu"),
        ("app", (START + 1) * 10**9, "cpu"),
    }
    assert len(rejected(batches)) == 1
    assert rejected(batches)[0].startswith("app.jsonl, line 2: ")
    assert why in rejected(batches)[0]


def test_a_line_without_an_end_is_never_held_whole(tmp_path):
    path = tmp_path / "app.jsonl"
    path.write_bytes(b"x" * 3_000_000)
    source = opened(path, max_line_bytes=1000)
    batches = drain(source)
    assert rejected(batches) == ["app.jsonl, line 1: longer than 1000 bytes"]
    source = opened(path, batches[-1].offset, max_line_bytes=1000)
    append(path, 'xx\n{"timestamp": 1700000000, "cpu": 1}\n')
    batches = drain(source)
    assert len(cells(batches)) == 1
    assert rejected(batches) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"1700000001,1", "2 values under a header of 3 names"),
        (b'1700000001,"1,2', "broken CSV"),
        (b"1700000001,\xff,2", "not UTF-8"),
        (b"1700000001,1_0,2", "channel 'cpu': '1_0' is not a number"),
        (b"1700000001,inf,2", "channel 'cpu': the value is infinite"),
        (b",1,2", "the timestamp is missing"),
    ],
)
def test_a_bad_line_of_csv(tmp_path, line, why):
    path = tmp_path / "web.csv"
    path.write_bytes(HEADER.encode() + line + b"\n" + lines(5, 6).encode())
    batches = drain(opened(path))
    assert told("web", 5, 6).items() <= cells(batches).items()
    (said,) = rejected(batches)
    assert said.startswith("web.csv, line 2: ")
    assert why in said


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("1700000000,1,2", "no column 'timestamp'"),
        ("timestamp,cpu,cpu", "two columns have the name"),
        ("timestamp,cpu,", "a column has no name"),
    ],
)
def test_a_file_without_a_header_is_told_and_its_lines_are_counted(tmp_path, header, why):
    (tmp_path / "bad.csv").write_text(header + "\n" + lines(0, 4))
    (tmp_path / "good.csv").write_text(HEADER + lines(0, 1))
    batches = drain(opened(tmp_path))
    assert cells(batches) == told("good", 0, 1)
    said = rejected(batches)
    assert why in said[0]
    assert said[1] == "bad.csv: 4 lines skipped: its header is not one"


def test_long_rows_missing_values_and_entities(tmp_path):
    (tmp_path / "long.csv").write_text(
        "entity,timestamp,channel,value\n"
        "db1,2024-01-31T12:00:00Z,cpu,1\n"
        "db1,2024-01-31T13:00:00+01:00,memory,\n"
        "db2,2024-01-31T12:00:00Z,cpu,true\n"
        ",2024-01-31T12:00:00.5Z,cpu,3\n"
    )
    (tmp_path / "wide.jsonl").write_text(
        '{"host": "h", "entity": 7, "timestamp": 1706702400, "cpu": null, "up": true}\n'
    )
    (batch,) = drain(opened(tmp_path, ignore=("host",)))
    noon = 1706702400 * 10**9
    assert cells([batch]) == {
        ("db1", noon, "cpu"): 1.0,
        ("db2", noon, "cpu"): 1.0,
        ("long", noon + 500_000_000, "cpu"): 3.0,
        ("7", noon, "up"): 1.0,
    }
    frames = {frame.entity: frame for frame in batch.frames}
    assert frames["db1"].channels == ("cpu", "memory")
    assert frames["7"].channels == ("cpu", "up")
    assert batch.rejected == ()


def test_rows_of_one_time_are_one_and_a_contradiction_is_told(tmp_path):
    path = tmp_path / "app.jsonl"
    path.write_text(
        '{"timestamp": 20, "cpu": 2}\n{"timestamp": 10, "cpu": 1}\n'
        '{"timestamp": 10, "cpu": 1, "up": 1}\n{"timestamp": 20, "cpu": null}\n'
        '{"timestamp": 20, "cpu": 3}\n'
    )
    batches = drain(opened(path))
    assert cells(batches) == {
        ("app", 10 * 10**9, "cpu"): 1.0,
        ("app", 10 * 10**9, "up"): 1.0,
        ("app", 20 * 10**9, "cpu"): 3.0,
    }
    assert rejected(batches) == ["app.jsonl, line 5: 'cpu' was 2 at the same time; now 3"]


def test_what_is_not_there_is_a_lost_connection_and_comes_back(tmp_path):
    for path in (tmp_path / "late.csv", tmp_path / "folder"):
        source = opened(path)
        with pytest.raises(ConnectionLost, match="cannot be read"):
            source.read(0.0)
        if path.suffix:
            path.write_text(HEADER + lines(0, 1))
        else:
            path.mkdir()
            (path / "late.csv").write_text(HEADER + lines(0, 1))
        assert cells(drain(source)) == told("late", 0, 1)


def test_one_file_out_of_reach_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.csv").mkdir()  # opening it fails, for root as well
    (tmp_path / "b.csv").write_text(HEADER + lines(0, 1))
    batches = drain(opened(tmp_path))
    assert cells(batches) == told("b", 0, 1)
    assert rejected(batches) == ["a.csv: cannot be read: Is a directory"]


def test_wrong_paths_options_and_offsets_are_configuration_errors(tmp_path):
    (tmp_path / "data.txt").write_text("x")
    with pytest.raises(ConfigError, match="no suffix of a file that grows"):
        opened(tmp_path / "data.txt").read(0.0)
    with pytest.raises(ConfigError, match="poll is 0"):
        FilesSource(path="x", poll=0)
    with pytest.raises(ConfigError, match="unknown unit 'sec'"):
        FilesSource(path="x", unit="sec")
    for offset in ("7", "{}", "rubbish", '{"files": {"a": 1}}'):
        with pytest.raises(ConfigError, match="is not one of the source"):
            opened(tmp_path, offset)
