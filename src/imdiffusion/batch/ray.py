"""The backend `ray`: workers as actors on a Ray cluster, or on one that this process starts.

Actors hold nothing but code. Messages and answers are plain JSON; rows, models and scores are read
and written under paths that every node must share. Ray restarts and retries nothing here: what
becomes of a task whose actor died is decided in `pool.py`, as for every backend.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from imdiffusion.batch.folder import Series, file_name, split, write_part
from imdiffusion.batch.pool import TaskMessage, WorkerEvent
from imdiffusion.data.columns import Place
from imdiffusion.data.layout import FileOptions, codes_of, layout_of
from imdiffusion.data.parquet_source import ParquetSource
from imdiffusion.devices import core_count
from imdiffusion.errors import (
    ConfigError,
    ConnectionLost,
    DataError,
    MissingExtraError,
    UsageError,
)
from imdiffusion.workers import STDERR_QUOTED, Message

try:
    import ray
    import ray.exceptions
except ImportError as error:
    raise MissingExtraError("ray", extra="ray") from error

# A Parquet file of several entities from this many bytes on is split by Ray Data, on all nodes
# and beyond one's memory. Below, its start alone takes longer: see docs/log.md.
RAY_DATA_BYTES = 256 << 20
# Ours to decide only for a cluster that we start. Nothing is reported to Ray's makers, and a
# worker without a share of a GPU sees what the machine has, as with `local`.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
AUTH_MODE = "RAY_AUTH_MODE"


class _Actor:
    """A worker, which keeps nothing of one message for the next."""

    def reply(self, message: Message) -> Message:
        from imdiffusion.batch.worker import reply

        return reply(message)


class RayBackend:
    """Actors of `threads` CPUs and `gpus` GPUs each.

    where: "HOST:PORT" of a Ray client server; "" = the cluster that RAY_ADDRESS names or that runs
    on this machine, else one that is started here and ends with this call. A connection that this
    process has already is used, and left. ConnectionLost where there is no cluster.
    """

    def __init__(self, where: str, *, jobs: int | None, threads: int | None, gpus: float) -> None:
        self.threads = threads or 1
        self._ours = not ray.is_initialized()
        if gpus > 1 and gpus != int(gpus):
            raise UsageError(
                f"gpus = {gpus:g} is neither a fraction of one nor whole",
                remedy="Ray knows no other.",
            )
        self._before = {name: os.environ.get(name) for name in (*SETTINGS, AUTH_MODE)}
        try:
            if self._ours:
                _connect(where, cpus=(jobs or 0) * self.threads)
            self.slots = jobs or _room(self.threads, gpus)
        except BaseException:
            self.close()
            raise
        kind: Any = ray.remote(max_restarts=0, max_task_retries=0)(_Actor)
        self._kind = kind.options(num_cpus=self.threads, num_gpus=gpus)
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}  # call without an answer: its worker

    def start(self, worker: int) -> None:
        """Ask for an actor, which Ray starts where there is room, and for its version."""
        self._actors[worker] = self._kind.remote()
        self._send(worker, {})

    def submit(self, worker: int, task: TaskMessage) -> None:
        """Call the actor."""
        self._send(worker, asdict(task))

    def _send(self, worker: int, message: Message) -> None:
        self._pending[self._actors[worker].reply.remote(message)] = worker

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        """Results of calls, and actors that died."""
        if not self._pending:
            return []
        ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        more, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [self._event(one) for one in {*ready, *more}]

    def _event(self, call: Any) -> WorkerEvent:
        worker = self._pending.pop(call)
        try:
            return WorkerEvent.from_message(worker, ray.get(call))
        except ray.exceptions.RayError as error:
            self.stop(worker)  # one that is out of reach must not work on beside its successor
            words = " ".join(str(error).split())[:STDERR_QUOTED]
            return WorkerEvent(worker, ended=f"{type(error).__name__}: {words}")

    def stop(self, worker: int) -> None:
        """End the actor."""
        ray.kill(self._actors.pop(worker))

    def close(self) -> None:
        """End all actors, and leave the cluster if this call has joined it."""
        for actor in getattr(self, "_actors", {}).values():
            ray.kill(actor)
        if self._ours:
            ray.shutdown()
            _leave_as(self._before)

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        """By Ray Data where the file is Parquet and large, else as `local` does."""
        if not path.name.lower().endswith(".parquet") or path.stat().st_size < RAY_DATA_BYTES:
            return split(path, into, options)
        task: Any = ray.remote(num_cpus=0, max_retries=2)(_group)
        try:
            names = ray.get(task.remote(str(path), str(into), asdict(options)))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, DataError) else None
            raise cause or DataError(f"{path} cannot be split: {error.cause}") from error
        return [Series(name, into / f"{file_name(name)}.parquet") for name in names]


def _connect(where: str, *, cpus: int) -> None:
    """Join the cluster, or start one with room for at least so many CPUs."""
    settings: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    try:
        if where:
            ray.init(f"ray://{where}", logging_level=logging.WARNING)
            return
        if "RAY_ADDRESS" in os.environ:
            ray.init("auto", **settings)
            return
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        room = max(core_count(), cpus)
        with _unsaid("ray._private.authentication"):  # that it asks for a token, at each start
            ray.init("local", num_cpus=room, include_dashboard=False, **settings)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise ConnectionLost(
            f"there is no Ray cluster at {where or 'RAY_ADDRESS'}: {error}",
            remedy="Check the address (ray://HOST:10001), and that `ray start --head` runs there. "
            f"If it needs a token, set {AUTH_MODE}=token.",
        ) from error


@contextmanager
def _unsaid(name: str) -> Iterator[None]:
    """Without what a logger would warn of."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _leave_as(before: dict[str, str | None]) -> None:
    """Undo what joining a cluster switched on in this process, which may join another one.

    Ray makes its own clusters ask for a token, and the process that began one goes on asking those
    of a later cluster, that have none: there every actor would end before it began.
    """
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        from ray._raylet import (  # type: ignore[attr-defined]
            AuthenticationTokenLoader,
            Config,
        )
    except ImportError:  # a version that knows no tokens
        return
    Config.initialize("")  # reads the variables again
    AuthenticationTokenLoader.instance().reset_cache()


def _room(threads: int, gpus: float) -> int:
    """How many actors the cluster's nodes hold now. ConfigError where not one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    room = 0
    for node in nodes:
        cpus, all_gpus = node.get("CPU", 0.0), node.get("GPU", 0.0)
        room += int(min(cpus // threads, all_gpus / gpus + 1e-9 if gpus else cpus))
    if room < 1:
        most = [
            max((node.get(kind, 0.0) for node in nodes), default=0.0) for kind in ("CPU", "GPU")
        ]
        raise ConfigError(
            f"no node of the Ray cluster has room for a worker of {threads} CPUs and {gpus:g} "
            f"GPUs; the most that one has are {most[0]:g} and {most[1]:g}",
            remedy="Request fewer with --threads and --gpus.",
        )
    return room


def _group(path: str, into: str, options: dict[str, Any]) -> list[str]:
    """Group a Parquet file's rows by entity, and write a file each; names as they first appear."""
    import ray.data

    source = ParquetSource(Path(path))
    layout = layout_of(source, FileOptions(**options))
    column = str(layout.entity)
    names: dict[str, None] = {}
    place = Place(path)
    for table in source.tables([column], [column]):  # refuses a row without a name
        names |= dict.fromkeys(codes_of(table[column], place, column)[1])
        place = place.shifted(len(table))
    order = "row" + "_" * max(len(name) for name in layout.columns)  # a name that no column has
    groups, first = [], 0
    for number, rows in enumerate(source.groups()):
        groups.append({"group": number, "first": first})
        first += rows

    def read(asked: pa.Table) -> pa.Table:
        number, begin = asked["group"][0].as_py(), asked["first"][0].as_py()
        table = ParquetSource(Path(path)).group(number, layout.columns)
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].cast(pa.string()))
        return table.append_column(order, pa.array(range(begin, begin + len(table)), pa.int64()))

    def write(rows: pa.Table) -> pa.Table:
        entity = rows[column][0].as_py()
        write_part(rows.sort_by(order).drop_columns([column, order]), entity, Path(into))
        return pa.table({"entity": [entity]})

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    read_in: Any = ray.data.from_items(groups).map_batches(
        read, batch_size=1, batch_format="pyarrow"
    )
    # Ray would make 200 partitions by default, and a process for many of them.
    cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    partitions = max(1, min(len(names), 2 * int(cpus)))
    grouped = read_in.groupby(column, num_partitions=partitions)
    done = grouped.map_groups(write, batch_format="pyarrow").take_all()
    missing = names.keys() - {one["entity"] for one in done}
    if missing:
        raise DataError(f"{path}: the rows of {sorted(missing)[0]!r} were lost on their way")
    return list(names)
