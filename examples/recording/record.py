"""Record this host under workload.py, without (train) and with (test) faults.

    python record.py train --out OUT --duration 1800
    python record.py test --out OUT --duration 900
    python record.py publish --out OUT --to ASSETS

A part that was interrupted goes on where it stopped when run again. The test
part takes up the workload's schedule where the train part left it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from imdiffusion.live.sources.host import record

HERE = Path(__file__).resolve().parent
BEFORE = 180.0  # the workload's schedule starts this long before the train part
TRAIN = 1800.0
DIGITS = 5
TOOLS = {
    "nginx": ["nginx", "-v"],
    "stress-ng": ["stress-ng", "--version"],
    "iperf3": ["iperf3", "--version"],
    "gzip": ["gzip", "--version"],
    "sort": ["sort", "--version"],
}


@contextlib.contextmanager
def running(script: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of the scripts beside this one; end it at the end."""
    process = subprocess.Popen([sys.executable, str(HERE / script), *options])
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def rows_so_far(path: Path) -> int:
    """Return how many rows an interrupted recording at `path` has."""
    files = sorted(path.with_name(path.name + ".parts").glob("part-*.parquet"))
    files = files or [p for p in [path] if p.exists()]
    return sum(pq.read_metadata(file).num_rows for file in files)


def progress(rows: int, total: int | None) -> None:
    """Print a line now and then."""
    if rows % 240 == 0:
        print(f"{rows} of {total} rows, load {os.getloadavg()[0]:.2f}", flush=True)


def part(args: argparse.Namespace) -> None:
    """Record one part, or go on with it."""
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    path, home = out / f"{args.part}.parquet", out / "home"
    done = rows_so_far(path) * args.interval
    position = BEFORE + done + (TRAIN if args.part == "test" else 0.0)
    if args.part == "train" and not done:
        with contextlib.suppress(OSError):  # start with an empty page cache, where allowed
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # to be on time; not its children
    with contextlib.ExitStack() as stack:
        offset = f"{position - args.warmup}"
        life = stack.enter_context(running("workload.py", "--dir", str(home), "--offset", offset))
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, life.pid, 0)
        time.sleep(args.warmup)
        if args.part == "test":
            options = ["--dir", str(home), "--out", str(out / "faults.json"), "--skip", f"{done}"]
            options += ["--pilot"] if args.pilot else []
            faults = stack.enter_context(running("faults.py", *options))
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, faults.pid, 0)
        rows = record(
            path,
            interval=args.interval,
            duration=args.duration,
            resume=True,
            on_progress=progress,
        )
        if life.poll() is not None:
            sys.exit("the workload ended before the recording did")
    print(f"{path.name}: {rows} rows")


# ---- publishing ----


def rounded(column: pa.ChunkedArray) -> pa.Array:
    """Round to a few significant digits, which compress better."""
    values = column.to_numpy().astype(np.float64)
    size = np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros_like(values)))
    scale = 10.0 ** (DIGITS - 1 - np.nan_to_num(size))
    return pa.array((np.round(values * scale) / scale).astype(np.float32))


def version(command: list[str]) -> str:
    """Return the version number a program prints."""
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"\d+(\.\d+)+", found.stdout + found.stderr)
    return match.group() if match else "unknown"


def about(tables: dict[str, pa.Table]) -> dict[str, object]:
    """Return the facts of the recording, without the host's name."""
    release = platform.freedesktop_os_release() if hasattr(os, "sched_getaffinity") else {}
    stamps = {name: table["timestamp"].to_numpy() for name, table in tables.items()}
    steps = np.diff(stamps["train"]).astype(np.int64) / 1e9
    tools = {name: version(command) for name, command in TOOLS.items() if shutil.which(command[0])}
    return {
        "title": "One host under a web and batch workload; ten faults injected in the test part",
        "date": str(stamps["train"][0])[:10],
        "interval_seconds": round(float(np.median(steps)), 4),
        "rows": {name: table.num_rows for name, table in tables.items()},
        "start": {name: f"{str(stamp[0])[:23]}Z" for name, stamp in stamps.items()},
        "end": {name: f"{str(stamp[-1])[:23]}Z" for name, stamp in stamps.items()},
        "channels": tables["train"].column_names[1:],
        "significant_digits": DIGITS,
        "host": {
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "swap_bytes": psutil.swap_memory().total,
            "architecture": platform.machine(),
            "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
            "os": release.get("PRETTY_NAME", platform.system()),
            "virtual_machine": True,
        },
        "versions": {
            "python": platform.python_version(),
            "psutil": psutil.__version__,
            "pyarrow": pa.__version__,
            "sqlite": sqlite3.sqlite_version,
            **tools,
        },
    }


def publish(args: argparse.Namespace) -> None:
    """Write the recording as it ships: rounded, compressed, with labels and facts."""
    args.to.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in ("train", "test"):
        table = pq.read_table(args.out / f"{name}.parquet")
        columns = [table["timestamp"], *(rounded(column) for column in table.columns[1:])]
        tables[name] = pa.Table.from_arrays(columns, names=table.column_names)
        pq.write_table(
            tables[name],
            args.to / f"{name}.parquet",
            compression="zstd",
            compression_level=19,
            row_group_size=len(table),
        )
    shutil.copyfile(args.out / "faults.json", args.to / "faults.json")
    facts = json.dumps(about(tables), indent=2) + "\n"
    (args.to / "about.json").write_text(facts, encoding="utf-8")


def main() -> None:
    """Record a part or publish the recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["train", "test", "publish"])
    parser.add_argument("--out", type=Path, required=True, help="directory of the raw recording")
    parser.add_argument("--interval", type=float, default=0.25)
    parser.add_argument("--duration", type=float, default=TRAIN, help="seconds")
    parser.add_argument("--warmup", type=float, default=60.0, help="seconds of workload before")
    parser.add_argument("--pilot", action="store_true", help="every fault, but short (180 s)")
    parser.add_argument("--to", type=Path, default=Path("recording"), help="publish to here")
    args = parser.parse_args()
    if args.part == "publish":
        publish(args)
    else:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        part(args)


if __name__ == "__main__":
    main()
