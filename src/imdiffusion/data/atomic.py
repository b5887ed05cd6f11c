"""Files and folders that appear under their final name whole, or not at all.

What is written goes under a temporary name in the same folder (".<random>.<name>"), is fsynced and
then renamed. If anything fails on the way, Ctrl-C included, the temporary is removed and what
stood under the final name before still stands there.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imdiffusion.errors import ImDiffusionError, OutputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffixes; it becomes `path` on success.

    The temporary exists, empty, on entry: a folder that cannot be written to is found before the
    work. A device or a pipe (/dev/stdout) gets a copy of what was written: a writer that cleans up
    after itself must never see, and so never remove, a device. Raises OutputError.
    """
    target = Path(os.path.realpath(path))
    if _is_stream(target):
        with _as_output_error(path), tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, Path(path).name)
            draft.touch()
            yield draft
            with draft.open("rb") as written, target.open("wb") as stream:
                shutil.copyfileobj(written, stream)
        return
    with _as_output_error(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        draft = _beside(target)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            yield draft
            if target.exists():
                shutil.copymode(target, draft)
            _sync(draft)
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str], *, marker: str = "manifest.json") -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it becomes `path` on success.

    A folder already there is replaced if it is empty or holds the file `marker`; any other may be
    other work, and is refused. Replacing takes two renames: a kill exactly between them
    leaves the old folder under its temporary name. Raises OutputError.
    """
    target = Path(os.path.realpath(path))
    with _as_output_error(path):
        _check_replaceable(target, marker)
        draft = _beside(target)
        draft.mkdir()
        try:
            yield draft
            for place, _, files in os.walk(draft, topdown=False):
                for name in files:
                    _sync(Path(place, name))
                _sync(Path(place))
            _swap(draft, target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _sync(target.parent)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OutputError now if a file or folder `path` could not be written later."""
    target = Path(os.path.realpath(path))
    with _as_output_error(path):
        if not _is_stream(target):
            draft = _beside(target)
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            draft.unlink()


def _beside(target: Path) -> Path:
    """A fresh name in the same folder; the end of the name stays, for writers look at it."""
    return target.with_name(f".{secrets.token_hex(4)}.{target.name[-200:]}")


def _is_stream(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except OSError:  # absent or out of reach: opening it will tell which
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _check_replaceable(target: Path, marker: str) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file")
    if any(target.iterdir()) and not (target / marker).is_file():
        raise OutputError(
            f"cannot write the folder {target}: it holds other things (and no {marker})",
            remedy="Name a new folder, or empty this one.",
        )


def _swap(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    aside = _beside(target)
    target.rename(aside)
    try:
        draft.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; its files are safe all the same.
        if not (is_folder and error.errno in _NO_FOLDER_SYNC):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _as_output_error(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, ImDiffusionError):
            raise
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {os.fspath(path)}: {reason}", remedy=_remedy(error)
        ) from error


def _remedy(error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return "Free some space, or write to another disk."
    if error.errno == errno.EFBIG:
        return "Raise the limit on file sizes (ulimit -f), or write less."
    if error.errno in _NO_ACCESS:
        return "Write to a folder that you may write to."
    if error.errno == errno.ENOENT:
        return "Make its folder first, or name one that exists."
    if error.errno == errno.EISDIR:
        return "Name a file in it."
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return "Name a folder."
    return "Write to another place."
