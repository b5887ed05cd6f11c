"""The metrics of this host as a live source, and a recorder to Parquet.

`HostSource` samples 25 to 45 channels (processor, memory, disk, network,
scheduler) in a few milliseconds; `record` writes such samples to one Parquet
file, crash safe and resumable.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from imdiffusion.errors import ConfigError
from imdiffusion.live.sources.parquet_parts import Parts
from imdiffusion.live.sources.procfs import read_procfs

__all__ = ["HostSource", "record"]

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
