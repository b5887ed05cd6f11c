"""Disks that fail under live detection, for real: full, or refusing to be synced"""

import os
import subprocess
from contextlib import contextmanager

import pytest
from live_runs import check, child, story, told

pytestmark = pytest.mark.slow


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory):
    """What an undisturbed run tells."""
    folder = tmp_path_factory.mktemp("whole")
    story(folder)
    assert child(folder)
    return told(folder)


@pytest.mark.tool("strace")
@pytest.mark.parametrize("when", ["5+7", "12..15"])
def test_syncs_that_fail_lose_nothing(tmp_path, whole, when):
    story(tmp_path)
    assert not child(tmp_path, "ingest", 0)  # the state is begun
    trace = tmp_path / "trace"
    inject = f"inject=fsync,fdatasync:error=EIO:when={when}"
    strace = ["strace", "-f", "-q", "-o", trace, "-e", "trace=fsync,fdatasync", "-e", inject]
    assert child(tmp_path, before=strace)
    assert trace.read_text().count("INJECTED") >= 4
    assert child(tmp_path)  # what waited for a sink at the end
    check(tmp_path, whole)


@contextmanager
def small_disk(folder, size):
    """A file system of that size; skips where none may be mounted."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_it_and_room_lets_it_go_on(tmp_path, whole):
    with small_disk(tmp_path, "500k"):
        story(tmp_path)
        assert not child(tmp_path, until="nothing can be written")
        scores, _ = told(tmp_path, settled=False)
        assert 0 < len(scores) < len(whole[0])
        assert scores.items() <= whole[0].items()
        subprocess.run(["mount", "-o", "remount,size=8m", tmp_path], check=True)
        assert child(tmp_path)
        check(tmp_path, whole)
