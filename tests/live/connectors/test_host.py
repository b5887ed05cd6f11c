"""The live source of this host's metrics and its recorder, for real and quickly."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.errors import ConfigError, DataError, OutputError
from imdiffusion.live.sources import host as host
from imdiffusion.live.sources.host import HostSource, read_procfs, record

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")


def interrupt_at(row: int):
    def progress(rows: int, total: int | None) -> None:
        if rows == row:
            raise KeyboardInterrupt

    return progress


def test_channels_are_fixed_named_with_units_and_read_in_order():
    source = HostSource(0.1)
    first = source.sample()
    assert tuple(first) == source.channels
    assert len(set(source.channels)) == len(source.channels) >= 10
    assert {"cpu_user_percent", "load1", "memory_used_bytes", "processes"} <= set(first)
    assert all(name == name.lower() and " " not in name for name in source.channels)


@LINUX
def test_linux_has_the_kernel_extras():
    source = HostSource(0.1)
    wanted = {
        "context_switches_per_s",
        "forks_per_s",
        "threads",
        "sockets_used",
        "page_faults_minor_per_s",
        "file_descriptors_open",
        "memory_dirty_bytes",
        "disk_write_bytes_per_s",
        "lo_bytes_per_s",
    }
    assert wanted <= set(source.channels)
    assert len(source.channels) >= 25
    assert source.sample()["threads"] >= 1


def test_a_sample_is_cheap():
    source = HostSource(0.1)
    source.sample()
    costs = []
    for _ in range(20):
        start = time.perf_counter()
        source.sample()
        costs.append(time.perf_counter() - start)
    assert min(costs) < 0.005


def test_processor_shares_are_percent_of_the_time_gone_by():
    source = HostSource(0.1)
    end = time.monotonic() + 0.4
    while time.monotonic() < end:  # keep one core busy
        pass
    values = source.sample()
    kinds = [v for k, v in values.items() if k.startswith("cpu_") and k.endswith("_percent")]
    assert sum(kinds) == pytest.approx(100.0, abs=5.0)
    busiest = max(v for k, v in values.items() if k.endswith("_busy_percent") and k[3].isdigit())
    assert 20.0 < busiest <= 100.0


def plant(monkeypatch, totals, seconds):
    """Plant a counter that takes the values `totals`, read `seconds` apart."""
    step = iter(totals)
    clock = iter(np.arange(len(totals) + 1) * seconds)
    monkeypatch.setattr(host, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))

    def disk(counters):
        total = next(step)
        if total is not None:
            counters["disk_write_bytes_per_s"] = total

    monkeypatch.setattr(host, "_disk", disk)


def test_rates_are_steps_of_the_counter_per_second(monkeypatch):
    plant(monkeypatch, [1000.0, 1500.0, 1500.0, 2500.0], 0.5)
    source = HostSource(0.5)
    rates = [source.sample()["disk_write_bytes_per_s"] for _ in range(3)]
    assert rates == [1000.0, 0.0, 2000.0]


def test_a_counter_that_goes_backwards_or_away_is_nan(monkeypatch):
    plant(monkeypatch, [1000.0, 10.0, 20.0, None, 40.0, 50.0], 1.0)
    source = HostSource(1.0)
    rates = [source.sample()["disk_write_bytes_per_s"] for _ in range(5)]
    assert np.isnan([rates[0], rates[2], rates[3]]).all()
    assert [rates[1], rates[4]] == [10.0, 10.0]


def test_a_reader_that_the_system_lacks_is_left_out(monkeypatch):
    def absent(*_args, **_kwargs):
        raise NotImplementedError

    monkeypatch.setattr(psutil, "swap_memory", absent)
    monkeypatch.setattr(psutil, "disk_io_counters", absent)
    names = HostSource(0.1).channels
    assert not any(name.startswith(("swap_", "disk_")) for name in names)
    assert "memory_used_bytes" in names


def test_iterating_keeps_the_schedule():
    source = HostSource(0.05, 0.5)
    rows = list(source)
    assert 7 <= len(rows) <= 10  # a busy machine may come too late for a tick or two
    stamps = np.array([stamp for stamp, _ in rows])
    assert abs(np.median(np.diff(stamps)) / 1e9 - 0.05) < 0.02
    assert abs(stamps[-1] - time.time_ns()) < 5e9
    for _, values in rows:
        assert values.shape == (len(source.channels),)
        assert values.dtype == np.float64


def test_a_late_tick_is_skipped_and_never_doubled():
    stamps = []
    for stamp, _ in HostSource(0.1, 1.0):
        stamps.append(stamp / 1e9)
        if len(stamps) == 2:
            time.sleep(0.35)
    steps = np.diff(stamps)
    assert len(stamps) < 10
    assert (steps > 0.04).all()
    # After the delay the ticks are on the same grid as before it.
    phase = (np.array(stamps) - stamps[0]) / 0.1
    assert np.abs(phase - phase.round()).max() < 0.4
    assert round((stamps[-1] - stamps[0]) / 0.1) <= 9


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_interval_is_refused(interval):
    with pytest.raises(ConfigError, match="interval"):
        HostSource(interval)


def test_a_bad_duration_is_refused():
    with pytest.raises(ConfigError, match="duration"):
        HostSource(1.0, -1.0)


def test_recording_two_seconds(tmp_path):
    path = tmp_path / "host.parquet"
    seen = []
    rows = record(path, interval=0.1, duration=2.0, on_progress=lambda n, m: seen.append((n, m)))
    table = pq.read_table(path)
    assert rows == table.num_rows == 20
    assert seen == [(n, 20) for n in range(1, 21)]
    assert table.column_names == ["timestamp", *HostSource(0.1).channels]
    assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    assert {field.type for field in table.schema} == {pa.timestamp("ns", "UTC"), pa.float32()}
    stamps = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(stamps) > 0).all()
    assert np.isfinite(table["memory_used_bytes"].to_numpy()).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["host.parquet"]


def test_ctrl_c_keeps_the_rows_and_resume_goes_on(tmp_path):
    path = tmp_path / "host.parquet"
    assert record(path, interval=0.05, duration=1.0, on_progress=interrupt_at(6)) == 6
    before = pq.read_table(path)
    assert record(path, interval=0.05, duration=1.0, resume=True) == 20
    after = pq.read_table(path)
    assert after.slice(0, 6).equals(before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["host.parquet"]
    # A recording that is complete is left as it is.
    assert record(path, interval=0.05, duration=1.0, resume=True) == 20
    assert pq.read_table(path).equals(after)


def test_rows_are_safe_in_parts_and_a_crash_loses_no_part(tmp_path, monkeypatch):
    path = tmp_path / "host.parquet"
    monkeypatch.setattr(host, "_PART_SECONDS", 0.2)

    def crash(rows, total):
        if rows == 11:
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        record(path, interval=0.05, duration=1.0, on_progress=crash)
    folder = tmp_path / "host.parquet.parts"
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["part-00001.parquet", "part-00002.parquet"]
    assert sum(pq.read_metadata(folder / name).num_rows for name in names) == 8
    assert not path.exists()

    with pytest.raises(OutputError, match="interrupted recording"):
        record(path, interval=0.05, duration=1.0)
    (folder / "part-00003.parquet.tmp").write_bytes(b"half a part")
    assert record(path, interval=0.05, duration=1.0, resume=True) == 20
    assert not folder.exists()


def test_parts_of_another_host_are_refused(tmp_path):
    path = tmp_path / "host.parquet"
    pq.write_table(pa.table({"timestamp": [1], "other": [1.0]}), path)
    with pytest.raises(DataError, match="other channels"):
        record(path, interval=0.05, duration=0.1, resume=True)
    path.with_name("text").write_text("not Parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        record(path.with_name("text"), interval=0.05, duration=0.1, resume=True)
    # Both files are where and what they were.
    assert pq.read_table(path).column_names == ["timestamp", "other"]
    assert path.with_name("text").read_text() == "not Parquet"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_write_error_is_an_oserror(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError):
        record(tmp_path / "file" / "host.parquet", interval=0.05, duration=0.1)


def test_a_full_disk_keeps_the_parts(tmp_path, monkeypatch):
    path = tmp_path / "host.parquet"
    monkeypatch.setattr(host, "_PART_SECONDS", 0.2)
    real, calls = os.fsync, []

    def full(fd):
        calls.append(fd)
        if len(calls) > 2:  # the first part takes two: the file and its folder
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        record(path, interval=0.05, duration=1.0)
    monkeypatch.undo()
    kept = [p.name for p in (tmp_path / "host.parquet.parts").iterdir()]
    assert kept == ["part-00001.parquet"]
    assert record(path, interval=0.05, duration=0.5, resume=True) == 10


def test_a_planted_proc(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "sys" / "fs").mkdir(parents=True)
    (tmp_path / "stat").write_text(
        "cpu  1 2 3\nintr 900 1 2 3\nctxt 500\nprocesses 70\nprocs_running 3\nprocs_blocked 1\n"
        "softirq 800 1 2\n"
    )
    (tmp_path / "net" / "sockstat").write_text(
        "sockets: used 42\nTCP: inuse 7 orphan 0 tw 5 alloc 9 mem 1\nUDP: inuse 1 mem 0\n"
    )
    (tmp_path / "vmstat").write_text("nr_free_pages 5\npgfault 1000\npgmajfault 4\n")
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nDirty:    12 kB\n")
    (tmp_path / "loadavg").write_text("0.10 0.20 0.30 2/345 6789\n")
    (tmp_path / "sys" / "fs" / "file-nr").write_text("1300\t100\t9999\n")
    reading = read_procfs(tmp_path)
    assert reading.counters == {
        "interrupts_per_s": 900.0,
        "context_switches_per_s": 500.0,
        "forks_per_s": 70.0,
        "soft_interrupts_per_s": 800.0,
        "page_faults_minor_per_s": 1000.0,
        "page_faults_major_per_s": 4.0,
    }
    assert reading.gauges == {
        "threads_running": 3.0,
        "threads_blocked": 1.0,
        "sockets_used": 42.0,
        "tcp_sockets_in_use": 7.0,
        "tcp_sockets_time_wait": 5.0,
        "memory_dirty_bytes": 12 * 1024.0,
        "threads": 345.0,
        "file_descriptors_open": 1200.0,
    }


def test_an_absent_proc_reads_nothing(tmp_path):
    reading = read_procfs(tmp_path / "absent")
    assert reading.gauges == {}
    assert reading.counters == {}
