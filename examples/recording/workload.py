"""The normal life of the recorded host: a small web shop and its batch jobs.

nginx serves files and passes ``/api/`` to a small Python service with an
SQLite database; an asyncio client loads it at a rate that varies smoothly with
time; batch jobs compress, rotate, back up and analyse. Everything is a function
of the seed and of the position in the schedule (``--offset``), so a later part
of the recording continues an earlier one. Loopback only; SIGTERM ends it.

    python workload.py --dir DIR [--offset SECONDS] [--seed 7]

SIGUSR1 starts and SIGUSR2 ends a traffic surge (see faults.py).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

WEB, API = 18080, 18081
BASE_RATE = 900.0  # requests a second
FAST_S, SLOW_S = 300.0, 700.0  # the two periods of the load
HORIZON_S = 14_400
MAX_IN_FLIGHT = 160
TIMEOUT_S = 2.0
CACHE = Path("/dev/shm/recording-cache")  # Linux
SMALL, MEDIUM, LARGE = 1_200, 24_000, 300_000

NGINX = """
daemon off;
user root;
worker_processes 2;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log access.log;
  keepalive_requests 100000;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
  uwsgi_temp_path tmp; scgi_temp_path tmp;
  gzip on; gzip_min_length 1000; gzip_types text/plain;
  keepalive_timeout 10s;
  upstream api {{ server 127.0.0.1:{api}; keepalive 2; keepalive_timeout 5s; }}
  server {{
    listen 127.0.0.1:{web};
    root www;
    location /api/ {{
      proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""


def prepare(home: Path) -> None:
    """Make the files of the web server, the batch input and the database, once."""
    www = home / "www"
    if (home / "ready").exists():
        return
    for folder in (www, home / "tmp", home / "batch"):
        folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(1)
    for size in (SMALL, MEDIUM, LARGE):
        for i in range(40):
            (www / f"{size}-{i}.bin").write_bytes(rng.randbytes(size))
    words = [rng.randbytes(4).hex() for _ in range(5_000)]
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(1_400_000)]
    (home / "batch" / "input.txt").write_text("\n".join(lines), encoding="ascii")
    with contextlib.closing(sqlite3.connect(home / "shop.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item INTEGER, note TEXT)")
        rows = [(rng.randrange(500), rng.randbytes(60).hex()) for _ in range(120_000)]
        db.executemany("INSERT INTO orders (item, note) VALUES (?, ?)", rows)
        db.execute("CREATE INDEX by_item ON orders (item)")
        db.commit()
    (home / "nginx.conf").write_text(NGINX.format(api=API, web=WEB), encoding="ascii")
    (home / "ready").touch()


def rates(seed: int) -> list[float]:
    """Requests a second for every second of the schedule."""
    rng = random.Random(seed)
    noise, out = 0.0, []
    for t in range(HORIZON_S):
        noise = 0.95 * noise + rng.gauss(0.0, 0.025)
        wave = 0.5 * math.sin(2 * math.pi * t / FAST_S)
        slow = 0.25 * math.sin(2 * math.pi * t / SLOW_S + 1.0)
        out.append(BASE_RATE * max(0.1, 1.0 + wave + slow + noise))
    return out


# ---- the Python service behind nginx ----


async def serve_api(home: Path) -> None:
    """Answer GET /api/item/N from the database, and POST /api/order by a commit."""
    db = sqlite3.connect(home / "shop.db")
    db.execute("PRAGMA synchronous=FULL")

    def answer(method: str, target: str) -> bytes:
        item = int(target.rsplit("/", 1)[-1]) % 500
        if method == "POST":
            db.execute("INSERT INTO orders (item, note) VALUES (?, ?)", (item, "x" * 120))
            db.execute("DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)")
            db.commit()
            return b"{}"
        rows = db.execute("SELECT note FROM orders WHERE item = ? LIMIT 240", (item,)).fetchall()
        return repr([sum(map(ord, note)) for (note,) in rows]).encode()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split()
                body = answer(method, target)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", API)
    await server.serve_forever()


# ---- the load ----


class Load:
    """An open-loop client: Poisson arrivals, kept-alive connections, bounded in flight."""

    def __init__(self, seed: int, offset: float) -> None:
        self.rates, self.offset = rates(seed), offset
        self.rng = random.Random(seed * 1_000_003 + int(offset))
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.in_flight, self.surge = 0, False

    def pick(self) -> tuple[str, str]:
        """Draw a request: mostly small files, some larger, some from the service."""
        u, i = self.rng.random(), self.rng.randrange(40)
        if self.surge and self.rng.random() < 0.5:
            return "GET", f"/{SMALL}-{i}.bin"
        if u < 0.45:
            return "GET", f"/{SMALL}-{i}.bin"
        if u < 0.70:
            return "GET", f"/{MEDIUM}-{i}.bin"
        if u < 0.76:
            return "GET", f"/{LARGE}-{i}.bin"
        if u < 0.97:
            return "GET", f"/api/item/{self.rng.randrange(500)}"
        return "POST", f"/api/order/{self.rng.randrange(500)}"

    async def fetch(self, method: str, target: str, fresh: bool) -> None:
        """Send one request and read the whole answer."""
        if self.idle and not fresh:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", WEB)
        try:
            writer.write(f"{method} {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
        except BaseException:
            writer.close()
            raise
        if fresh or len(self.idle) > 12:
            writer.close()
        else:
            self.idle.append((reader, writer))

    async def request(self) -> None:
        """Run one request; errors and timeouts are part of life."""
        self.in_flight += 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self.fetch(*self.pick(), fresh=self.rng.random() < 0.1)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, StopIteration):
            pass
        finally:
            self.in_flight -= 1

    async def run(self) -> None:
        """Send requests for ever at the rate of the schedule."""
        loop = asyncio.get_running_loop()
        start = due = loop.time()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            second = int(self.offset + due - start) % HORIZON_S
            rate = self.rates[second] * (2.0 if self.surge else 1.0)
            due = max(due + self.rng.expovariate(rate), loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.in_flight < MAX_IN_FLIGHT:
                task = asyncio.create_task(self.request())
                tasks.add(task)
                task.add_done_callback(tasks.discard)


async def load(seed: int, offset: float) -> None:
    """Run the load; SIGUSR1 and SIGUSR2 begin and end a surge."""
    client, loop = Load(seed, offset), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: setattr(client, "surge", True))
    loop.add_signal_handler(signal.SIGUSR2, lambda: setattr(client, "surge", False))
    await client.run()


# ---- batch jobs, each its own process ----


def uncache(path: Path) -> None:
    """Ask the kernel to forget the file's pages, so that reading it reads the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def compress(home: Path) -> None:
    """Gzip and sort the input file."""
    batch = home / "batch"
    uncache(batch / "input.txt")
    with (batch / "input.gz").open("wb") as out:
        subprocess.run(["gzip", "-6", "-c", str(batch / "input.txt")], stdout=out, check=True)
    with (batch / "sorted.txt").open("wb") as out:
        env = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
        command = ["sort", "--parallel=1", str(batch / "input.txt")]
        subprocess.run(command, stdout=out, env=env, check=True)


def rotate(home: Path) -> None:
    """Rotate the access log and back the database up, with fsync."""
    old = home / "access.log.1"
    if (home / "access.log").exists():
        (home / "access.log").replace(old)
        os.kill(int((home / "nginx.pid").read_text()), signal.SIGUSR1)
        subprocess.run(["gzip", "-f", old], check=True)
    copy = home / "backup.db"
    with (
        contextlib.closing(sqlite3.connect(home / "shop.db")) as db,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        db.backup(target, pages=2_000, sleep=0.05)
    with copy.open("rb+") as file:
        os.fsync(file.fileno())
    uncache(copy)


def analyse(home: Path) -> None:
    """Count the words of the input and their quantiles in memory."""
    counts: dict[str, int] = {}
    kept = []
    with (home / "batch" / "input.txt").open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            words = line.split()
            if number < 50_000:
                kept.append(sorted(words))
            for word in words:
                counts[word] = counts.get(word, 0) + 1
    kept.sort()
    top = sorted(counts.items(), key=lambda pair: -pair[1])[:100]
    (home / "batch" / "report.txt").write_text(f"{len(kept)} {top}", encoding="ascii")


def health(_: Path) -> None:
    """What a monitoring agent does: a few short programs, and a cache in shared memory."""
    CACHE.write_bytes(b"x" * random.randrange(1_000_000, 8_000_000))
    for command in (["df", "/"], ["ls", "/etc"], ["uname", "-r"]):
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


JOBS = {  # name: (function, period in seconds, first at)
    "compress": (compress, 60.0, 20.0),
    "rotate": (rotate, 90.0, 50.0),
    "analyse": (analyse, 45.0, 5.0),
    "health": (health, 10.0, 3.0),
}


async def every(name: str, home: Path, seed: int, offset: float) -> None:
    """Run a job at its period, each time a little early or late (drawn from the seed)."""
    _, period, first = JOBS[name]
    loop = asyncio.get_running_loop()
    start = loop.time() - offset
    number = max(0, math.ceil((offset - first) / period))
    while True:
        late = random.Random(f"{seed}/{name}/{number}").uniform(-1.5, 1.5)
        await asyncio.sleep(max(0.0, start + first + number * period + late - loop.time()))
        me = [sys.executable, __file__, "--dir", str(home), "--job", name]
        process = await asyncio.create_subprocess_exec(*me)
        await process.wait()
        number = max(number + 1, math.ceil((loop.time() - start - first) / period))


async def life(home: Path, seed: int, offset: float) -> None:
    """Start the server, the service, the load and the jobs; stop them all at SIGTERM."""
    prepare(home)
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    for sign in (signal.SIGUSR1, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(sign, lambda: None)
    me = [sys.executable, __file__, "--dir", str(home)]
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    commands = [
        [nginx, "-p", f"{home}/", "-c", f"{home}/nginx.conf"],
        [*me, "--job", "api"],
        [*me, "--job", "load", "--seed", str(seed), "--offset", str(offset)],
    ]
    children = []
    for command in commands:
        children.append(await asyncio.create_subprocess_exec(*command, cwd=home))
        await asyncio.sleep(0.5)
    (home / "load.pid").write_text(str(children[-1].pid))
    jobs = [asyncio.create_task(every(name, home, seed, offset)) for name in JOBS]
    ends = [asyncio.create_task(child.wait()) for child in children]
    await asyncio.wait([*ends, asyncio.create_task(stop.wait())], return_when="FIRST_COMPLETED")
    for task in jobs:
        task.cancel()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGCONT)
            child.terminate()
    await asyncio.gather(*ends)
    CACHE.unlink(missing_ok=True)
    if not stop.is_set():
        sys.exit("a part of the workload ended by itself")


def main() -> None:
    """Run the whole workload, or one job of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="scratch directory")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--offset", type=float, default=0.0, help="position in the schedule, s")
    parser.add_argument("--job", choices=[*JOBS, "api", "load"], help="run one part (internal)")
    args = parser.parse_args()
    home = args.dir.resolve()
    with contextlib.suppress(KeyboardInterrupt):
        if args.job is None:
            home.mkdir(parents=True, exist_ok=True)
            asyncio.run(life(home, args.seed, args.offset))
        elif args.job == "api":
            asyncio.run(serve_api(home))
        elif args.job == "load":
            asyncio.run(load(args.seed, args.offset))
        else:
            JOBS[args.job][0](home)


if __name__ == "__main__":
    main()
