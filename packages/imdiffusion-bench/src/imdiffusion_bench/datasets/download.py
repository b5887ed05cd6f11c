"""Download one file over HTTP: resumed after a cut, held to a size, checked before it has its name.

What has arrived stands in `<file>.part`, and beside it in `<file>.part.json` what the server said
of the whole: its ETag and size. The next call goes on from there with a Range request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from imdiffusion.errors import DataError, OutputError, UsageError
from imdiffusion_bench.datasets.checksums import sha256_of

OnBytes = Callable[[int], None]

_PIECE = 1 << 16
_ATTEMPTS = 5  # connections for one file, as long as each brings something
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_KEPT = "What has arrived is kept: call again to go on."


class _BrokenError(Exception):
    """The connection failed; what has arrived so far is good."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the server said of the whole file."""

    etag: str | None = None
    total: int | None = None


def download(
    url: str,
    target: Path,
    *,
    limit: int,
    sha256: str | None = None,
    timeout: float = 60.0,
    on_bytes: OnBytes | None = None,
) -> int:
    """Fetch `url` to `target` and return its size in bytes; a `target` already there is kept.

    limit: bytes that the file may have, by what the server declares and by what it sends.
    timeout: seconds without a byte. sha256: hex digits, None = not known, so not checked.
    on_bytes is called with the bytes that are there, after each piece.

    Raises DataError for an answer that is no file, a connection that fails or ends early, a file
    that is too large, was changed between two calls, or has another SHA-256 (what arrived is then
    deleted, as it is after a change; in all other cases it is kept for the next call); UsageError
    for another scheme than http and https; OutputError where the disk refuses.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url} is not an address of http or https", remedy="Give one.")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _receive_all(url, part, limit, timeout, on_bytes)
        done = target if target.exists() else part
        if sha256 is not None and sha256_of(done) != sha256:
            _discard(done)
            raise DataError(
                f"{url} is not the file that is known: its SHA-256 is another",
                remedy="It was deleted. Call again; if it stays so, the home has changed the file.",
            )
        size = done.stat().st_size
        if done is part:
            part.replace(target)
            _note_of(part).unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}",
            remedy="Free some space, or name another folder.",
        ) from error
    return size


def _receive_all(
    url: str, part: Path, limit: int, timeout: float, on_bytes: OnBytes | None
) -> None:
    """Fill `part` up, over several connections if each brings something."""
    for attempt in range(_ATTEMPTS):
        before = _size(part)
        try:
            _receive(url, part, limit, timeout, on_bytes)
        except _BrokenError as broken:
            if _size(part) > before and attempt < _ATTEMPTS - 1:
                continue
            raise DataError(f"{url} did not arrive: {broken}", remedy=_KEPT) from broken
        return


def _receive(url: str, part: Path, limit: int, timeout: float, on_bytes: OnBytes | None) -> None:
    """One connection: append to `part` what it lacks, or write it anew."""
    whole, offset = _read_note(part), _size(part)
    if whole is None:
        offset = 0  # nobody knows of what it is a part
    elif offset and whole.total == offset:
        return
    with _open(url, part, offset, whole, timeout) as response:
        start, now = _described(url, part, offset, response)
        if start and whole is not None and _differs(whole, now):
            raise _changed(url, part)
        if now.total is not None and now.total > limit:
            raise _too_large(url, f"{now.total:,} bytes", limit)
        with part.open("ab" if start else "wb") as file:
            # Only now: a note of the new file must never stand beside bytes of the old one.
            _note_of(part).write_text(json.dumps({"etag": now.etag, "total": now.total}))
            for piece in _pieces(response):
                if file.tell() + len(piece) > limit:
                    raise _too_large(url, "more bytes", limit)
                file.write(piece)
                if on_bytes is not None:
                    on_bytes(file.tell())
            held = file.tell()
    if now.total is not None and held < now.total:
        raise _BrokenError(f"the connection ended after {held:,} of {now.total:,} bytes")


def _open(url: str, part: Path, offset: int, whole: _Whole | None, timeout: float) -> HTTPResponse:
    headers = {"User-Agent": "imdiffusion", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if whole is not None and whole.etag and not whole.etag.startswith("W/"):
            headers["If-Range"] = whole.etag  # another file then comes whole, from its start
    try:
        request = Request(url, headers=headers)  # noqa: S310  the scheme was checked
        response: HTTPResponse = urlopen(request, timeout=timeout)  # noqa: S310
    except HTTPError as error:
        with error:
            if error.code == 416:
                raise _changed(url, part) from error
            raise DataError(
                f"{url}: the server answered {error.code} {error.reason}", remedy=_advice(error)
            ) from error
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _BrokenError(str(reason) or type(reason).__name__) from error
    return response


def _described(url: str, part: Path, offset: int, response: HTTPResponse) -> tuple[int, _Whole]:
    """Where in the file the body of an answer starts, and what is said of the whole file."""
    etag, length = response.headers.get("ETag"), response.headers.get("Content-Length")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DataError(
            f"{url} comes encoded as {encoding}, which was not asked for",
            remedy="Download it by hand, and import it.",
        )
    if response.status == 200:  # also where the server knows no ranges: from the start
        return 0, _Whole(etag, int(length) if length and length.isdigit() else None)
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status != 206 or found is None or not offset:
        raise DataError(
            f"{url}: the server answered {response.status} without a file",
            remedy="Download it by hand, and import it.",
        )
    if int(found[1]) != offset:
        raise _changed(url, part)
    return offset, _Whole(etag, None if found[2] == "*" else int(found[2]))


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(_PIECE)
        except (HTTPException, OSError) as error:
            raise _BrokenError(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


def _differs(before: _Whole, now: _Whole) -> bool:
    pairs = ((before.etag, now.etag), (before.total, now.total))
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _changed(url: str, part: Path) -> DataError:
    _discard(part)
    return DataError(
        f"{url} was changed since its first part was downloaded",
        remedy="That part was deleted. Call again to start anew.",
    )


def _too_large(url: str, size: str, limit: int) -> DataError:
    return DataError(
        f"{url} has {size}, and {limit:,} are left of what may be downloaded",
        remedy="Raise the limit, if that is what you expect.",
    )


def _advice(error: HTTPError) -> str:
    if error.code in (401, 403):
        return "It is not public there: ask its publisher, and import your copy."
    if error.code == 429 or error.code >= 500:
        return f"Try again later. {_KEPT}"
    return "The home may have moved it: find it by hand, and import your copy."


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> _Whole | None:
    """What was noted of the whole file; None where there is no note, or a torn one."""
    try:
        note = json.loads(_note_of(part).read_text())
        return _Whole(note["etag"], note["total"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
