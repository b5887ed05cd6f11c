"""`imdiffusion record`: really records this host, and continues."""

from __future__ import annotations

import signal
import time

import pyarrow.parquet as pq
import pytest
from tiny import ended

from imdiffusion.cli.record import parse_duration
from imdiffusion.errors import UsageError


def test_record_and_resume(call, tmp_path):
    out = tmp_path / "host.parquet"
    done = call("record", "--out", out, "--interval", "0.05", "--duration", "0.5s")
    assert done.code == 0, done
    assert done.out == ""
    assert pq.read_metadata(out).num_rows == 10
    done = call("record", "--out", out, "--interval", "0.05", "--duration", "1s", "--resume")
    assert pq.read_metadata(out).num_rows == 20
    assert [path.name for path in tmp_path.iterdir()] == ["host.parquet"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
def test_an_interrupted_recording_is_whole(start, tmp_path, number, code):
    out = tmp_path / "host.parquet"
    process = start("record", "--out", out, "--interval", "0.05", "--duration", "1h")
    until = time.monotonic() + 30
    while not (tmp_path / "host.parquet.parts").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    done = ended(process)
    assert done.code == code
    assert "--resume continues" in done.err
    assert pq.read_metadata(out).num_rows >= 1


def test_duration():
    assert parse_duration("90") == parse_duration("90s") == parse_duration("1m30s") == 90
    assert parse_duration("1h") == 3600
    assert parse_duration("0.5d") == 43_200
    for text in ("", "h", "1w", "1h x", "-5s", "0"):
        with pytest.raises(UsageError, match="--duration"):
            parse_duration(text)


def test_bad_options(call, tmp_path):
    assert call("record", "--out", tmp_path / "host.csv", "--duration", "1s").code == 2
    assert call("record", "--out", "/proc/host.parquet", "--duration", "1s").code == 3
    words = ("record", "--out", tmp_path / "host.parquet", "--duration", "1s")
    assert call(*words, "--interval", "0").code == 2
