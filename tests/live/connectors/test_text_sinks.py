"""Records as JSON lines: on a descriptor, and in a file under kills, full disks and rotation."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from disk import file_size_limit
from records_made import START, event, few, score

from imdiffusion.errors import ConfigError, ConnectionLost, OutputError
from imdiffusion.live.connection.record_json import json_of, key_in, key_of, line_of
from imdiffusion.live.sinks.files import FilesSink
from imdiffusion.live.sinks.stdout import StdoutSink


def rows(*paths: Path) -> list[dict[str, object]]:
    """Every line, which has to be whole and strict JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [
        json.loads(line, parse_constant=refuse)
        for path in paths
        for line in path.read_text().splitlines()
    ]


def keys(*paths: Path) -> list[object]:
    return [key_in(row) for row in rows(*paths)]


# -- the text of a record


def test_a_record_as_json():
    row = json_of(event(0))
    assert next(iter(row)) == "kind"
    assert (row["peak"], row["peak_iso"]) == (START, "2023-11-14T22:13:20.123456789Z")
    assert (row["end"], row["end_iso"]) == (None, None)
    assert row["expected"] == [1.0, None]
    assert row["seen"] == [9.0, None]
    for record in few():
        line = line_of(record)
        assert line.count(b"\n") == 1
        assert key_in(json.loads(line)) == key_of(record)
    assert key_in({"kind": "score", "entity": "a"}) is None
    assert key_in({"a": 1}) is None


def test_a_lone_surrogate_is_still_valid_json():
    line = line_of(score(0, entity="caf\u00e9\ud800"))
    assert json.loads(line.decode("utf-8"))["entity"] == "caf\u00e9\ud800"


# -- stdout


def test_standard_output_of_a_process():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from records_made import few\n"
        "from imdiffusion.live.connection.options import load_sink\n"
        "sink = load_sink('stdout', {'takes': ['score']}); sink.open()\n"
        "sink.send(few()[:2]); sink.flush(); sink.send(few()[:2]); sink.flush(); sink.close()\n"
        "assert sink.takes == {'score'}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line)["score"] for line in done.stdout.splitlines()] == [0.5, None]


def test_a_slow_reader_gets_every_line_once_and_a_gone_one_is_said():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    sink = StdoutSink(descriptor=writing)
    sink.open()
    records = [score(i) for i in range(100)]
    sink.send(records)
    got = b""
    with pytest.raises(ConnectionLost, match="cannot be written"):
        sink.flush()
    while True:
        got += os.read(reading, 1000)
        sink.send(records)  # the caller sends again
        try:
            sink.flush()
        except ConnectionLost:
            continue
        break
    got += os.read(reading, 10_000)
    assert [key_in(json.loads(line)) for line in got.splitlines()] == list(map(key_of, records))
    os.close(reading)
    sink.send([score(500)])
    with pytest.raises(OutputError, match="the output is closed"):
        sink.flush()
    os.close(writing)
    with pytest.raises(ConfigError, match="descriptor 9999"):
        StdoutSink(descriptor=9999).open()


# -- files


def opened(path: Path, **options) -> FilesSink:
    sink = FilesSink(path=str(path), **options)
    sink.open()
    return sink


def test_a_record_is_written_once_over_restarts_within_the_window(tmp_path):
    path = tmp_path / "new" / "folder" / "out.jsonl"
    with opened(path) as sink:
        sink.send(few())
        assert path.read_bytes() == b""
        sink.flush()
        sink.send(few())
        sink.send([score(2), score(2)])
        sink.flush()
    wanted = [key_of(record) for record in [*few(), score(2)]]
    assert keys(path) == wanted
    with opened(path) as sink:
        sink.send([*few(), score(3)])
        sink.flush()
    assert keys(path) == [*wanted, key_of(score(3))]
    with opened(path, window=2) as sink:  # remembers the last two alone
        sink.send([score(3), score(2), score(0)])
        sink.flush()
    assert keys(path)[6:] == [key_of(score(0))]


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from records_made import score
from imdiffusion.live.sinks.files import FilesSink
sink = FilesSink(path=sys.argv[2], max_bytes=20_000)
sink.open()
for i in range(0, 10**9, 10):
    sink.send([score(j) for j in range(i, i + 10)])
    sink.flush()
    print(i + 10, flush=True)
"""


def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path):
    path = tmp_path / "out.jsonl"
    safe = 0
    for flushes in (1, 7, 23):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(flushes + safe // 10):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        safe = max(safe, said, *map(int, writer.stdout.read().split()), 0)
        writer.stdout.close()
    opened(path).close()
    files = [*sorted(tmp_path.glob("out.0*.jsonl")), path]
    assert len(files) > 1
    assert all(file.stat().st_size <= 20_000 for file in files)
    found = keys(*files)
    assert len(found) == len(set(found))
    assert set(found) >= {key_of(score(i)) for i in range(safe)}


def test_a_torn_line_is_cut_off_and_counted(tmp_path):
    path = tmp_path / "out.jsonl"
    with opened(path) as sink:
        sink.send(few())
        sink.flush()
    whole = path.read_bytes()
    for torn in (b'{"ki', b'{"kind":"score","entity":"x' + b"y" * 100_000):
        path.write_bytes(whole + torn)
        with opened(path) as sink:
            assert sink.mended == len(torn)
            assert path.read_bytes() == whole
    path.write_bytes(b'{"kind":"sco')  # nothing but a torn line
    with opened(path) as sink:
        sink.send(few())
        sink.flush()
    assert path.read_bytes() == whole


def test_a_full_disk_leaves_whole_lines_and_the_rest_follows(tmp_path):
    path = tmp_path / "out.jsonl"
    with opened(path) as sink:
        sink.send([score(i) for i in range(10)])
        sink.flush()
        sink.send([score(i) for i in range(10, 30)])
        with file_size_limit(path.stat().st_size + 500):
            for _ in range(2):
                with pytest.raises(ConnectionLost, match="File too large"):
                    sink.flush()
            assert keys(path) == [key_of(score(i)) for i in range(10)]
        sink.send([score(i) for i in range(10, 30)])
        sink.flush()
    assert keys(path) == [key_of(score(i)) for i in range(30)]


def test_a_failed_fsync_is_written_again(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    with opened(path) as sink:
        sink.send(few())

        def fail(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(ConnectionLost, match="Input/output error"):
            sink.flush()
        assert path.read_bytes() == b""
        monkeypatch.undo()
        sink.flush()
    assert keys(path) == [key_of(record) for record in few()]


def test_files_are_set_aside_by_size_and_the_oldest_dropped(tmp_path):
    path = tmp_path / "out[1].jsonl"
    one = len(line_of(score(0)))
    with opened(path, max_bytes=3 * one, keep=2) as sink:
        for i in range(12):
            sink.send([score(i)])
            sink.flush()
    names = [p.name for p in sorted(tmp_path.iterdir())]
    assert names == ["out[1].000002.jsonl", "out[1].000003.jsonl", "out[1].jsonl"]
    files = [tmp_path / name for name in names]
    assert keys(*files) == [key_of(score(i)) for i in range(3, 12)]
    with opened(path, max_bytes=3 * one, keep=0, window=8) as sink:
        sink.send([score(i) for i in range(4, 12)])  # all remembered, over three files
        sink.flush()
        assert keys(*files) == [key_of(score(i)) for i in range(3, 12)]


def test_a_file_moved_away_is_followed_by_a_new_one(tmp_path):
    path = tmp_path / "out.jsonl"
    with opened(path) as sink:
        sink.send([score(0)])
        sink.flush()
        path.rename(tmp_path / "moved")
        sink.send([score(0), score(1)])
        sink.flush()
    assert keys(path) == [key_of(score(1))]


def test_what_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    with opened(path), pytest.raises(OutputError, match="another process writes to"):
        opened(path)
    opened(path).close()
    (tmp_path / "notes.txt").write_text("my notes")
    with pytest.raises(OutputError, match="something else than records"):
        opened(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "my notes"
    with pytest.raises(OutputError, match="cannot write"):
        opened(tmp_path / "notes.txt" / "out.jsonl")
    path.write_bytes(b'{"kind":"score"\n')
    with pytest.raises(OutputError, match="a damaged line"):
        opened(path)
    with pytest.raises(ConfigError, match=r"unknown kind of record 'scores'\. Did you mean"):
        FilesSink(path="x", takes=("scores",))
