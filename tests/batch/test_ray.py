"""The backend `ray`, on a real cluster of two nodes: the same bits, and nothing lost in deaths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd
import psutil
import pytest
from batch_parts import TINY, left, services, table

from imdiffusion import __version__, batch
from imdiffusion.batch.folder import split
from imdiffusion.batch.pool import WorkerEvent
from imdiffusion.errors import ConfigError, UsageError

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from imdiffusion.batch import ray as ray_backend  # noqa: E402

# What Ray itself does and warns of in this process: files and processes it lets go of late.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU each, one with a GPU by name; this process is joined to it."""
    settings = {**ray_backend.SETTINGS, "RAY_AUTH_MODE": "disabled"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**node, "num_gpus": 1, "include_dashboard": False}
    )
    cluster.add_node(**node)
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value


def test_a_cluster_of_the_call_s_own_leaves_the_process_as_it_was():
    # Ray makes it ask for a token. Were that left on, no worker of the tests below would start.
    before = dict(os.environ)
    backend = ray_backend.RayBackend("", jobs=1, threads=1, gpus=0.0)
    backend.close()
    assert not ray.is_initialized()
    assert {k: os.environ.get(k) for k in before | os.environ if "RAY_" in k} == {
        k: v for k, v in before.items() if "RAY_" in k
    }


def test_ray_data_splits_as_one_process_does(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_backend, "RAY_DATA_BYTES", 0)
    whole = pd.concat([table(30, seed=n).assign(entity=f"e{n}") for n in range(3)])
    # Long: rows that share a time say by their order which channel is the first.
    whole = whole.melt(["timestamp", "entity"], var_name="channel", value_name="value")
    whole = whole.sort_values("timestamp", kind="stable")
    path = tmp_path / "all.parquet"
    whole.to_parquet(path, index=False, row_group_size=150)
    backend = ray_backend.RayBackend("", jobs=1, threads=1, gpus=0.0)
    parts = {}
    for name, divide in (("ray", backend.split), ("local", split)):
        into = tmp_path / name
        into.mkdir()
        made = divide(path, into, batch.run.FileOptions())
        parts[name] = {one.entity: one.path.read_bytes() for one in made}
        assert list(parts[name]) == ["e0", "e1", "e2"]
    assert parts["ray"] == parts["local"]


def test_workers_are_as_many_as_nodes_have_room_for(cluster):
    def slots(threads: int = 1, gpus: float = 0.0) -> int:
        backend = ray_backend.RayBackend("", jobs=None, threads=threads, gpus=gpus)
        backend.close()
        return backend.slots

    assert slots() == 2
    assert slots(gpus=0.25) == 1  # four fit into the GPU, one into the CPUs beside it
    for more in ({"threads": 2}, {"gpus": 2.0}):  # of no one node, though of both together
        with pytest.raises(ConfigError, match="no node of the Ray cluster has room"):
            slots(**more)
    with pytest.raises(UsageError, match=r"gpus = 1\.5"):
        slots(gpus=1.5)


def test_a_worker_has_its_share_of_a_gpu(cluster, tmp_path):
    with closing(ray_backend.RayBackend("", jobs=1, threads=1, gpus=0.25)) as backend:
        backend.start(0)
        assert [one.ready for one in events(backend)] == [__version__]
        until = time.monotonic() + 60
        while ray.available_resources()["GPU"] != 0.75:  # nodes report what they have in a while
            assert time.monotonic() < until, ray.available_resources()
            time.sleep(0.05)


def events(backend: ray_backend.RayBackend) -> Sequence[WorkerEvent]:
    """The first ones."""
    while not (found := backend.wait(1.0)):
        pass
    return found


def test_equal_bits_though_a_worker_and_a_node_die(cluster, tmp_path, fitted):
    data, out = services(tmp_path / "in", 4), tmp_path / "models"
    (data / "bad.csv").write_text("")
    ended: list[str] = []
    whole: dict[str, int] = {}

    def watch(one, step):
        ended.append(one.entity)
        if one.answer.status == "done":
            whole[one.entity] = inode(out, one.entity)
        if len(whole) == 1:
            for process in actors():
                os.kill(process.pid, signal.SIGKILL)
        if len(whole) == 2:
            cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    found = batch.fit(data, out, backend="ray", jobs=2, threads=1, retries=5, watch=watch, **TINY)
    names = [f"e{number}" for number in range(4)]
    assert sorted(ended) == ["bad", *names]
    assert found.failed.keys() == {"bad"}
    assert sum(one.answer.attempts for one in found.outcomes.values()) > 5  # some died
    assert {name: inode(out, name) for name in names} == whole  # none done twice
    ours = {name: bits for name, bits in left(out).items() if name.split("/")[0] in names[:3]}
    assert ours == left(fitted)
    assert ray.is_initialized()  # the connection was not the call's to end
    scored = batch.detect(data, out, tmp_path / "ray", backend="ray", jobs=1, threads=1)
    batch.detect(data, out, tmp_path / "local", backend="local", jobs=1, threads=1)
    assert scored.failed.keys() == {"bad"}
    assert left(tmp_path / "ray") == left(tmp_path / "local")


def inode(out: Path, entity: str) -> int:
    return (out / entity / "manifest.json").stat().st_ino


def actors() -> list[psutil.Process]:
    """The processes of all actors on all nodes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith("ray::_Actor"):
                found.append(process)
        except psutil.Error:  # it has ended since
            continue
    return found
