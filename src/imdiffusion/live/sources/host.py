"""The source `host`: the metrics of the machine it runs on."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.parquet_parts import Parts
from imdiffusion.schema import positive

_STAT = {
    "ctxt": "context_switches_per_s",
    "intr": "interrupts_per_s",
    "softirq": "soft_interrupts_per_s",
    "processes": "forks_per_s",
}
_STAT_GAUGES = {"procs_running": "threads_running", "procs_blocked": "threads_blocked"}
_VMSTAT = {
    "pgfault": "page_faults_minor_per_s",
    "pgmajfault": "page_faults_major_per_s",
}


@dataclass
class ProcReading:
    """One reading of ``/proc``.

    Attributes:
        gauges: Values that stand for themselves, by channel name.
        counters: Ever-growing totals, by the name of the rate made of them.
    """

    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)


def _read(path: Path) -> str:
    """Return the text of a ``/proc`` file, or "" where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _stat(text: str, out: ProcReading) -> None:
    for line in text.splitlines():
        # The "intr" line holds one number for each interrupt: split off two words only.
        words = line.split(maxsplit=2)
        if len(words) < 2:
            continue
        if words[0] in _STAT:
            out.counters[_STAT[words[0]]] = float(words[1])
        elif words[0] in _STAT_GAUGES:
            out.gauges[_STAT_GAUGES[words[0]]] = float(words[1])


def _sockstat(text: str, out: ProcReading) -> None:
    for line in text.splitlines():
        head, _, rest = line.partition(":")
        words = rest.split()
        pairs = dict(zip(words[0::2], words[1::2], strict=False))
        if head == "sockets" and "used" in pairs:
            out.gauges["sockets_used"] = float(pairs["used"])
        elif head == "TCP" and {"inuse", "tw"} <= pairs.keys():
            out.gauges["tcp_sockets_in_use"] = float(pairs["inuse"])
            out.gauges["tcp_sockets_time_wait"] = float(pairs["tw"])


def read_procfs(root: str | Path = "/proc") -> ProcReading:
    """Read the Linux-only gauges and counters.

    Args:
        root: Where ``/proc`` is mounted; a test may plant its own.

    Returns:
        What could be read. Gauges are counts (threads, sockets, descriptors)
        or bytes; counters are totals since boot in events.
    """
    base = Path(root)
    out = ProcReading()
    _stat(_read(base / "stat"), out)
    _sockstat(_read(base / "net" / "sockstat"), out)
    for line in _read(base / "vmstat").splitlines():
        name, _, value = line.partition(" ")
        if name in _VMSTAT:
            out.counters[_VMSTAT[name]] = float(value)
    for line in _read(base / "meminfo").splitlines():
        if line.startswith("Dirty:"):
            out.gauges["memory_dirty_bytes"] = float(line.split()[1]) * 1024.0
            break
    load = _read(base / "loadavg").split()
    if len(load) >= 4:
        out.gauges["threads"] = float(load[3].partition("/")[2])
    handles = _read(base / "sys" / "fs" / "file-nr").split()
    if len(handles) >= 2:
        out.gauges["file_descriptors_open"] = float(handles[0]) - float(handles[1])
    return out


# -- the metrics of this host as a live source, and a recorder to Parquet
#
# `HostSource` samples 25 to 45 channels (processor, memory, disk, network, scheduler) in a few
# milliseconds; `record` writes such samples to one Parquet file, crash safe and resumable.

_MAX_CORES = 8
_PART_SECONDS = 60.0
_CPU_KINDS = {
    "cpu_user_percent": ("user", "nice"),
    "cpu_system_percent": ("system",),
    "cpu_iowait_percent": ("iowait",),
    "cpu_irq_percent": ("irq", "softirq"),
    "cpu_steal_percent": ("steal",),
    "cpu_idle_percent": ("idle",),
}
_MEMORY = ("used", "available", "cached", "buffers", "shared")
_TIMED = frozenset(kind for kinds in _CPU_KINDS.values() for kind in kinds)
_LOOPBACK = ("lo", "lo0")


def _guarded(read: Callable[[], Any]) -> Any:
    """Call a psutil reader; None where this system does not offer it."""
    try:
        return read()
    except (OSError, RuntimeError, NotImplementedError, psutil.Error):
        return None


def _memory(gauges: dict[str, float], counters: dict[str, float]) -> None:
    memory = _guarded(psutil.virtual_memory)
    for kind in _MEMORY:
        if hasattr(memory, kind):
            gauges[f"memory_{kind}_bytes"] = float(getattr(memory, kind))
    swap = _guarded(psutil.swap_memory)
    if swap is not None:
        gauges["swap_used_bytes"] = float(swap.used)
        counters["swap_in_bytes_per_s"] = float(swap.sin)
        counters["swap_out_bytes_per_s"] = float(swap.sout)


def _disk(counters: dict[str, float]) -> None:
    disk = _guarded(lambda: psutil.disk_io_counters(nowrap=False))
    if disk is None:
        return
    counters["disk_read_ops_per_s"] = float(disk.read_count)
    counters["disk_write_ops_per_s"] = float(disk.write_count)
    counters["disk_read_bytes_per_s"] = float(disk.read_bytes)
    counters["disk_write_bytes_per_s"] = float(disk.write_bytes)
    if hasattr(disk, "busy_time"):  # milliseconds: a tenth of it is percent of a second
        counters["disk_busy_percent"] = float(disk.busy_time) / 10.0


def _network(counters: dict[str, float]) -> None:
    nics = _guarded(lambda: psutil.net_io_counters(pernic=True, nowrap=False))
    if not nics:
        return
    lo = [nic for name, nic in nics.items() if name in _LOOPBACK]
    others = [nic for name, nic in nics.items() if name not in _LOOPBACK]
    counters["lo_bytes_per_s"] = float(sum(n.bytes_recv for n in lo))
    counters["lo_packets_per_s"] = float(sum(n.packets_recv for n in lo))
    counters["net_recv_bytes_per_s"] = float(sum(n.bytes_recv for n in others))
    counters["net_sent_bytes_per_s"] = float(sum(n.bytes_sent for n in others))
    counters["net_recv_packets_per_s"] = float(sum(n.packets_recv for n in others))
    counters["net_sent_packets_per_s"] = float(sum(n.packets_sent for n in others))
    counters["net_errors_per_s"] = float(sum(n.errin + n.errout for n in others))
    counters["net_drops_per_s"] = float(sum(n.dropin + n.dropout for n in others))


def _scheduler(gauges: dict[str, float], counters: dict[str, float]) -> None:
    load = _guarded(os.getloadavg)
    if load is not None:
        gauges["load1"] = float(load[0])
    pids = _guarded(psutil.pids)
    if pids is not None:
        gauges["processes"] = float(len(pids))
    if sys.platform.startswith("linux"):
        proc = read_procfs()
        gauges.update(proc.gauges)
        counters.update(proc.counters)
        return
    stats = _guarded(psutil.cpu_stats)
    if stats is not None:
        counters["context_switches_per_s"] = float(stats.ctx_switches)
        counters["interrupts_per_s"] = float(stats.interrupts)


def _cpu_times() -> list[dict[str, float]]:
    """Return one mapping for each core: seconds by kind since boot."""
    cores = _guarded(lambda: psutil.cpu_times(percpu=True)) or []
    return [dict(core._asdict()) for core in cores]


def _percent(now: dict[str, float], before: dict[str, float], kinds: tuple[str, ...]) -> float:
    """Return the share of `kinds` in the time between two readings; NaN if one went back."""
    steps = {kind: now[kind] - before.get(kind, math.nan) for kind in _TIMED & now.keys()}
    total = sum(step for step in steps.values() if step > 0)
    wanted = [steps[kind] for kind in kinds if kind in steps]
    if total <= 0 or not wanted or not all(step >= 0 for step in wanted):
        return math.nan
    return 100.0 * sum(wanted) / total


def _processor(now: list[dict[str, float]], before: list[dict[str, float]]) -> dict[str, float]:
    """Return the percent channels: all cores by kind, then each core's busy share."""
    if not now or len(now) != len(before):
        return {}
    all_now, all_before = ({k: sum(core[k] for core in c) for k in c[0]} for c in (now, before))
    out = {
        name: _percent(all_now, all_before, kinds)
        for name, kinds in _CPU_KINDS.items()
        if any(kind in all_now for kind in kinds)
    }
    for i, (core, earlier) in enumerate(zip(now, before, strict=True)):
        if i < _MAX_CORES:
            idle = ("idle", "iowait") if "iowait" in core else ("idle",)
            out[f"cpu{i}_busy_percent"] = 100.0 - _percent(core, earlier, idle)
    return out


class HostSource:
    """The metrics of this host, sampled on a drift-free schedule.

    Iterating yields ``(timestamp_ns, values)``: nanoseconds since the epoch
    (UTC) and a float64 array of shape ``(len(channels),)`` in the order and
    the units of the channel names. Rates are made from counters since the
    previous sample; a value that cannot be read, or whose counter went
    backwards, is NaN. Channels are fixed when the source is made.

    Attributes:
        interval: Seconds between two samples.
        duration: Seconds to iterate for; None for ever.

    Raises:
        ConfigError: (a ValueError) `interval` is not positive or `duration` is negative.
    """

    def __init__(self, interval: float = 0.5, duration: float | None = None) -> None:
        if not (math.isfinite(interval) and interval > 0):
            raise ConfigError(f"interval must be a positive number of seconds, got {interval}")
        if duration is not None and not duration >= 0:
            raise ConfigError(f"duration must not be negative, got {duration}")
        self.interval = float(interval)
        self.duration = duration
        self._clock, self._counters, self._cpu = 0.0, dict[str, float](), _cpu_times()
        self._channels: tuple[str, ...] = ()
        cpu = tuple(_processor(self._cpu, self._cpu))
        self._channels = cpu + tuple(name for name in self._read() if name not in cpu)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the values of a row, in order: snake_case, with the unit."""
        return self._channels

    @property
    def ticks(self) -> int | None:
        """How many rows an iteration has at most; None for ever."""
        return None if self.duration is None else round(self.duration / self.interval)

    def _read(self) -> dict[str, float]:
        """Read everything once and remember the counters for the next call."""
        gauges: dict[str, float] = {}
        counters: dict[str, float] = {}
        cpu, clock = _cpu_times(), time.monotonic()
        values = _processor(cpu, self._cpu)
        _scheduler(gauges, counters)
        _memory(gauges, counters)
        _disk(counters)
        _network(counters)
        seconds = clock - self._clock
        for name, total in counters.items():
            step = total - self._counters.get(name, math.nan)
            values[name] = step / seconds if step >= 0 and seconds > 0 else math.nan
        self._clock, self._counters, self._cpu = clock, counters, cpu
        return gauges | values

    def sample(self) -> dict[str, float]:
        """Read every channel now.

        Returns:
            One value for each name of `channels`, in that order; rates are
            per second since the previous call, NaN where there is none.
        """
        values = self._read()
        return {name: values.get(name, math.nan) for name in self._channels}

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(timestamp_ns, values)``; a tick that comes too late is skipped."""
        ticks = self.ticks
        self.sample()
        start, tick = time.monotonic(), 0
        while ticks is None or tick < ticks:
            tick = max(tick + 1, math.ceil((time.monotonic() - start) / self.interval))
            if ticks is not None and tick > ticks:
                return
            time.sleep(max(0.0, start + tick * self.interval - time.monotonic()))
            stamp = time.time_ns()
            yield stamp, np.fromiter(self.sample().values(), np.float64, len(self._channels))


def record(
    path: str | os.PathLike[str],
    *,
    interval: float,
    duration: float | None,
    resume: bool = False,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Record this host to a Parquet file, crash safe and resumable.

    Rows are saved about every minute as parts beside `path` (in
    ``<path>.parts``) and joined into `path` at the end, or at Ctrl-C. The file
    has a ``timestamp`` column (nanoseconds, UTC) and one float32 column for
    each channel of `HostSource`.

    Args:
        path: The file to write; one that exists is replaced unless resuming.
        interval: Seconds between two rows.
        duration: Length in seconds, which is ``round(duration / interval)``
            rows in all, those of an interrupted run included; None records
            until Ctrl-C.
        resume: Continue an interrupted recording at `path`, if there is one.
        on_progress: Called after each row with the rows so far and in all.

    Returns:
        Rows in the final file.

    Raises:
        ConfigError: (a ValueError) `interval` or `duration` is out of range.
        DataError: (a ValueError) What is to be resumed has other channels.
        OutputError: (an OSError) An interrupted recording is there and
            `resume` is not set.
        OSError: Writing failed; the parts written so far are kept.
    """
    source = HostSource(interval)
    total = None if duration is None else HostSource(interval, duration).ticks
    parts = Parts(Path(path), source.channels, resume=resume)
    try:
        if total is None or parts.written < total:
            for stamp, values in source:
                rows = parts.add(stamp, values)
                if on_progress is not None:
                    on_progress(rows, total)
                if parts.pending * interval >= _PART_SECONDS:
                    parts.flush()
                if rows == total:
                    break
    except KeyboardInterrupt:
        pass
    return parts.merge()


class ThisHost(Closing):
    """Samples of `HostSource`, a row each, of the entity `name` (the host's own name if empty).

    interval: seconds between two rows, on a schedule that does not drift. The offset is the last
    row's timestamp, in ns: a host has no past to go back to, so it starts with now whatever the
    offset, and rows that were not read in time are missing, which is reported.
    """

    def __init__(self, *, interval: float = 1.0, name: str = "") -> None:
        positive(interval=interval)
        self.interval, self.name = interval, name
        self._source: HostSource | None = None
        self._entity = ""
        self._start, self._tick = 0.0, 0

    def open(self, offset: str | None) -> None:
        """Start now; the first row comes after one interval."""
        self._source = HostSource(self.interval)
        self._entity = self.name or socket.gethostname()
        self._start, self._tick = time.monotonic(), 0

    def read(self, timeout: float) -> Batch | None:
        """The next row when its time has come; None if that is not within `timeout` seconds."""
        if self._source is None:
            self.open(None)
            return self.read(timeout)
        now = (time.monotonic() - self._start) / self.interval
        due = max(self._tick + 1, math.floor(now))  # of several that are over, the latest
        wait = (due - now) * self.interval
        if wait > timeout:
            time.sleep(timeout)
            return None
        time.sleep(max(0.0, wait))
        missed, self._tick = due - self._tick - 1, due
        values = np.fromiter(self._source.sample().values(), np.float64)[None]
        instant = time.time_ns()
        said = (f"{self._entity}: {missed} samples missed, nothing read them",) if missed else ()
        frame = Frame(
            values,
            ~np.isnan(values),
            np.array([instant], dtype=np.int64).view("datetime64[ns]"),
            self._source.channels,
            entity=self._entity,
        )
        return Batch((frame,), str(instant), said)

    def commit(self, offset: str) -> None:
        """Nothing to do: a host forgets at once."""

    def close(self) -> None:
        """Let go of the sampler."""
        self._source = None
