"""Cheap readings from Linux's ``/proc`` that `psutil` does not offer.

One call of `read_procfs` opens six small files and parses a few lines of
each; it never walks the processes. On any other system, or where a file cannot
be read, the affected names are left out and the caller reports NaN for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ProcReading", "read_procfs"]

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
