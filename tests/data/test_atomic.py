"""Files appear whole or not at all, under real failures: limits, permissions, full devices."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from imdiffusion.data.atomic import atomic_folder, atomic_path, check_writable
from imdiffusion.errors import OutputError


def write_half(draft: Path, failure: type[BaseException]) -> None:
    draft.write_text("half")
    raise failure


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_at_the_end(tmp_path):
    target = tmp_path / "scores.csv.gz"
    with atomic_path(target) as draft:
        assert draft.parent == tmp_path
        assert draft.name.endswith("scores.csv.gz")
        draft.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["scores.csv.gz"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    target = tmp_path / "scores.csv"
    target.write_text("before")
    with pytest.raises(failure), atomic_path(target) as draft:
        write_half(draft, failure)
    assert target.read_text() == "before"
    assert names(tmp_path) == ["scores.csv"]


def test_an_oserror_inside_is_an_output_error_with_a_remedy(tmp_path):
    no_space = pytest.raises(OutputError, match=r"scores.csv: No space left.*Free some space")
    with no_space, atomic_path(tmp_path / "scores.csv"):
        Path("/dev/full").write_text("x")
    assert names(tmp_path) == []


def test_a_device_gets_what_was_written_and_stays(full_device):
    no_space = pytest.raises(OutputError, match=r"full.*Free some space")
    with no_space, atomic_path(full_device) as draft:
        assert draft.parent != full_device.parent
        draft.write_text("x")
    assert full_device.is_char_device()


def test_a_pipe_gets_what_was_written(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with subprocess.Popen(["cat", tmp_path / "pipe.csv"], stdout=subprocess.PIPE) as reader:
        with atomic_path(tmp_path / "pipe.csv") as draft:
            draft.write_text("whole")
        assert reader.communicate()[0] == b"whole"
    assert (tmp_path / "pipe.csv").is_fifo()


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path):
    (tmp_path / "real.txt").write_text("before")
    (tmp_path / "real.txt").chmod(0o640)
    (tmp_path / "link.txt").symlink_to("real.txt")
    with atomic_path(tmp_path / "link.txt") as draft:
        draft.write_text("after")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "after"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o640


def test_impossible_places_are_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    for place, remedy in [
        (tmp_path / "absent" / "x.csv", "Make its folder first"),
        (tmp_path / "file" / "x.csv", "Name a folder"),
        (tmp_path, "Name a file in it"),
    ]:
        with pytest.raises(OutputError, match=remedy), atomic_path(place):
            pytest.fail("the work must not start")


PROGRAM = """
import os, sys
from pathlib import Path
from imdiffusion.data.atomic import atomic_folder, atomic_path
from imdiffusion.errors import OutputError
{setup}
try:
    with {call} as draft:
        {body}
except OutputError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def program(call, body, *, setup="", **options):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call, body=body, setup=setup)],
        capture_output=True,
        text=True,
        **options,
    )


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def test_a_file_too_large_for_the_limit_leaves_nothing(tmp_path):
    done = program(
        "atomic_path('big.bin')", "draft.write_bytes(bytes(5000))", cwd=tmp_path,
        preexec_fn=small_files,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "cannot write big.bin" in done.stderr
    assert "ulimit" in done.stderr
    assert names(tmp_path) == []


def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    setup = "os.setuid(65534)" if os.getuid() == 0 else ""
    if not setup:
        tmp_path.chmod(0o555)
    for call in ("atomic_path", "atomic_folder"):
        done = program(f"{call}({str(tmp_path / 'x')!r})", "pass", setup=setup)
        assert done.returncode == 3, done.stderr
        assert "Permission denied. Write to a folder that you may write to." in done.stderr
    tmp_path.chmod(0o755)
    assert names(tmp_path) == []


def test_a_kill_leaves_nothing_under_the_final_name(tmp_path):
    done = program(
        "atomic_path('x.csv')", "draft.write_text('half'); os.kill(os.getpid(), 9)", cwd=tmp_path
    )
    assert done.returncode == -9
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a file system of 64 KiB")
def test_a_full_disk_leaves_nothing(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("mount is not allowed here: a full disk is tested by /dev/full alone")
    try:
        no_space = pytest.raises(OutputError, match=r"No space left.*Free some space")
        with no_space, atomic_path(tmp_path / "x.bin") as draft:
            draft.write_bytes(bytes(200_000))
        with no_space, atomic_folder(tmp_path / "model") as folder:
            (folder / "weights").write_bytes(bytes(200_000))
        assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_is_swapped_whole(tmp_path):
    target = tmp_path / "model"
    for text in ("first", "second"):
        with atomic_folder(target) as draft:
            (draft / "manifest.json").write_text(text)
            (draft / "deep").mkdir()
            (draft / "deep" / f"{text}.txt").write_text(text)
    assert (target / "manifest.json").read_text() == "second"
    assert names(target / "deep") == ["second.txt"]
    assert names(tmp_path) == ["model"]


def test_a_failure_leaves_the_old_folder(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as draft:
        (draft / "manifest.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as draft:
        write_half(draft / "manifest.json", KeyboardInterrupt)
    assert (target / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_swap_that_fails_half_way_is_undone(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as draft:
        (draft / "manifest.json").write_text("old")
    with pytest.raises(OutputError, match="No such file"), atomic_folder(target) as draft:
        draft.rmdir()  # the second rename finds nothing to move
    assert (target / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path):
    target = tmp_path / "home"
    target.mkdir()
    with atomic_folder(target) as draft:  # empty: nobody's
        (draft / "notes.txt").write_text("precious")
    with pytest.raises(OutputError, match="other things"), atomic_folder(target):
        pytest.fail("the work must not start")
    with atomic_folder(target, marker="notes.txt") as draft:
        (draft / "notes.txt").write_text("newer")
    assert (target / "notes.txt").read_text() == "newer"
    with pytest.raises(OutputError, match="it is a file"), atomic_folder(target / "notes.txt"):
        pytest.fail("the work must not start")


def test_check_writable(tmp_path):
    check_writable(tmp_path / "x")
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    assert names(tmp_path) == ["pipe"]
    with pytest.raises(OutputError, match="Make its folder first"):
        check_writable(tmp_path / "absent" / "x")
