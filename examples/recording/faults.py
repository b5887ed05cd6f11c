"""Inject real faults into the recorded host, one after the other, and label them.

    python faults.py --dir DIR --out faults.json [--skip SECONDS] [--pilot]

DIR is the scratch directory of a running workload.py. Every fault is bounded in
time and size, stays on the loopback interface and ends by itself. The labels
are the wall-clock times just before a fault is started and just after the last
of its processes has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PORT = 18090


@dataclass(frozen=True)
class Fault:
    """One planned fault: when, how long, what is run and what it should move."""

    kind: str
    at: float
    seconds: int
    command: str  # {s} is replaced by the seconds; "self KIND" runs this script
    description: str
    channels: tuple[str, ...]


CPU = ("cpu_user_percent", "cpu_idle_percent")
PLAN = (
    Fault(
        "cpu_hog",
        72.0,
        25,
        "stress-ng --cpu 2 --timeout {s}s",
        "Two processes computed without a pause and took all the processor time left.",
        (*CPU, "cpu0_busy_percent", "cpu1_busy_percent", "threads_running", "load1"),
    ),
    Fault(
        "memory_pressure",
        151.0,
        26,
        "stress-ng --vm 1 --vm-bytes 4g --vm-populate --timeout {s}s",
        "One process mapped 4 GiB of memory, and wrote and checked it over and over.",
        (
            "memory_used_bytes",
            "memory_available_bytes",
            "page_faults_minor_per_s",
            "cpu_system_percent",
        ),
    ),
    Fault(
        "web_stall",
        233.0,
        20,
        "self stall --seconds {s}",
        "The web server was stopped (SIGSTOP) and continued: its clients waited in vain.",
        ("lo_bytes_per_s", "lo_packets_per_s", "tcp_sockets_in_use", "context_switches_per_s"),
    ),
    Fault(
        "disk_flood",
        305.0,
        30,
        "stress-ng --hdd 1 --hdd-bytes 512m --hdd-opts fsync,wr-seq --timeout {s}s",
        "One process wrote a 512 MiB file with fsync over and over.",
        (
            "disk_write_bytes_per_s",
            "disk_write_ops_per_s",
            "disk_busy_percent",
            "cpu_iowait_percent",
            "threads_blocked",
        ),
    ),
    Fault(
        "fork_storm",
        391.0,
        16,
        "stress-ng --fork 1 --timeout {s}s",
        "One process started children that ended at once, as fast as it could.",
        ("forks_per_s", "page_faults_minor_per_s", "cpu_system_percent"),
    ),
    Fault(
        "memory_leak",
        452.0,
        38,
        "self leak --seconds {s}",
        "A Python process leaked memory at 24 MiB a second.",
        ("memory_used_bytes", "memory_available_bytes"),
    ),
    Fault(
        "network_flood",
        547.0,
        22,
        "self flood --seconds {s}",
        "iperf3 sent two streams of 600 Mbit/s each over the loopback interface.",
        ("lo_bytes_per_s", "lo_packets_per_s", "soft_interrupts_per_s", "cpu_system_percent"),
    ),
    Fault(
        "descriptor_leak",
        622.0,
        28,
        "self descriptors --seconds {s}",
        "A Python process opened 150 files and sockets a second and closed none.",
        ("file_descriptors_open", "sockets_used"),
    ),
    Fault(
        "switch_storm",
        702.0,
        16,
        "stress-ng --switch 1 --timeout {s}s",
        "Two processes handed a message to and fro over a pipe as fast as they could.",
        ("context_switches_per_s", "cpu_system_percent", "interrupts_per_s"),
    ),
    Fault(
        "traffic_surge",
        772.0,
        36,
        "self surge --seconds {s}",
        "Clients sent twice as many requests, half of them for small files.",
        (
            "lo_packets_per_s",
            "tcp_sockets_time_wait",
            "context_switches_per_s",
            "soft_interrupts_per_s",
        ),
    ),
)


# ---- faults of our own ----


def stall(home: Path, seconds: float) -> None:
    """Stop nginx and all its workers, and let them go on afterwards."""
    master = int((home / "nginx.pid").read_text())
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    pids = [master, *map(int, children)]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def leak(_: Path, seconds: float) -> None:
    """Allocate 24 MiB a second, and touch it."""
    kept, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        kept.append(os.urandom(64) * (6 * 2**14))
        time.sleep(0.25)


def flood(_: Path, seconds: float) -> None:
    """Run an iperf3 server for one test, and its client, on 127.0.0.1."""
    base = ["iperf3", "-p", str(PORT)]
    server = subprocess.Popen([*base, "-s", "-1", "-B", "127.0.0.1"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        client = [*base, "-c", "127.0.0.1", "-t", str(int(seconds)), "-b", "600M", "-P", "2"]
        subprocess.run(client, stdout=subprocess.DEVNULL, check=True, timeout=seconds + 20)
    finally:
        server.terminate()
        server.wait()


def descriptors(home: Path, seconds: float) -> None:
    """Open files and sockets by turns, 150 a second."""
    import socket

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_000), hard))
    kept: list[object] = []
    start = time.monotonic()
    with contextlib.suppress(OSError):
        while (now := time.monotonic() - start) < seconds:
            while len(kept) < 150 * now:
                kept.append((home / "nginx.conf").open("rb"))
                kept.append(socket.socket())
            time.sleep(0.1)


def surge(home: Path, seconds: float) -> None:
    """Ask the load of workload.py for a surge."""
    pid = int((home / "load.pid").read_text())
    try:
        os.kill(pid, signal.SIGUSR1)
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGUSR2)


OWN = {"stall": stall, "leak": leak, "flood": flood, "descriptors": descriptors, "surge": surge}


# ---- running and labelling ----


def now() -> str:
    """Return the time in ISO 8601, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def inject(fault: Fault, home: Path, seconds: int) -> dict[str, object]:
    """Run one fault to its end and return its label."""
    command = fault.command.format(s=seconds)
    words = shlex.split(command)
    if words[0] == "self":
        command = f"python faults.py {command}"
        words = [sys.executable, str(Path(__file__).resolve()), "--dir", str(home), *words]
    start = now()
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        process = subprocess.Popen(words, cwd=scratch, stdout=subprocess.DEVNULL)
        try:
            code = process.wait(timeout=seconds + 15)
        except BaseException:
            process.terminate()
            process.wait(timeout=10)
            raise
        end = now()
    if code != 0:
        print(f"{fault.kind}: exit status {code}", file=sys.stderr)
    return {
        "start": start,
        "end": end,
        "kind": fault.kind,
        "description": fault.description,
        "command": command,
        "channels": list(fault.channels),
    }


def main() -> None:
    """Inject the plan, or run one fault of our own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="workload.py's directory")
    parser.add_argument("--out", type=Path, help="labels, rewritten after each fault")
    parser.add_argument("--skip", type=float, default=0.0, help="seconds of the plan gone by")
    parser.add_argument("--pilot", action="store_true", help="a short run of every fault")
    sub = parser.add_subparsers(dest="own")
    own = sub.add_parser("self", help="run one fault (internal)")
    own.add_argument("name", choices=OWN)
    own.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.own:
        OWN[args.name](args.dir, args.seconds)
        return
    labels = json.loads(args.out.read_text()) if args.skip and args.out.exists() else []
    begin = time.monotonic() - args.skip
    for i, fault in enumerate(PLAN):
        at, seconds = (20.0 + 16 * i, 8) if args.pilot else (fault.at, fault.seconds)
        if at < args.skip:
            continue
        time.sleep(max(0.0, begin + at - time.monotonic()))
        labels.append(inject(fault, args.dir.resolve(), seconds))
        args.out.write_text(json.dumps(labels, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
