"""One file from a server that cuts, lies and stalls."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_data import refused
from tiny_origin import BODY, Origin, serving

from imdiffusion.errors import OutputError, UsageError
from imdiffusion_bench.datasets.fetch import download

DIGITS = hashlib.sha256(BODY).hexdigest()
LIMIT = 1 << 20


@pytest.fixture(name="origin")
def _origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as origin:
        yield origin


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Path:
    return tmp_path / "drafts" / "file"


def get(origin: Origin, target: Path, **options: object) -> int:
    options = {"limit": LIMIT, "timeout": 5.0} | options
    return download(f"{origin.base}/file", target, **options)


def test_a_file_arrives_whole_and_is_not_asked_for_again(origin, target):
    assert get(origin, target, sha256=DIGITS) == len(BODY)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert get(origin, target, sha256=DIGITS) == len(BODY)
    assert origin.asked == [("/file", None)]


def test_a_cut_connection_is_an_error_that_leaves_nothing_half(origin, target):
    origin.cuts = [1000]
    refused(lambda: get(origin, target), "/file did not arrive", "Call again")
    assert list(target.parent.iterdir()) == []
    assert get(origin, target, sha256=DIGITS) == len(BODY)


def test_a_body_without_a_length_arrives(origin, target):
    origin.length = False
    get(origin, target, sha256=DIGITS)
    assert target.read_bytes() == BODY


def test_a_corrupt_body_is_deleted(origin, target):
    origin.files["/file"] = b"!" + BODY[1:]
    refused(lambda: get(origin, target, sha256=DIGITS), "/file", "SHA-256", "deleted")
    assert list(target.parent.iterdir()) == []
    origin.files["/file"] = BODY
    get(origin, target, sha256=DIGITS)
    target.write_bytes(b"changed on the disk")
    get(origin, target, sha256=DIGITS)
    assert target.read_bytes() == BODY


def test_what_is_too_large_is_not_read(origin, target):
    refused(lambda: get(origin, target, limit=len(BODY) - 1), "153,600 bytes", "153,599", "limit")
    origin.length = False
    refused(lambda: get(origin, target, limit=70_000), "more bytes", "70,000")
    assert list(target.parent.iterdir()) == []
    origin.length = True
    assert get(origin, target, limit=len(BODY)) == len(BODY)


@pytest.mark.parametrize(
    ("status", "word"), [(404, "moved"), (403, "publisher"), (429, "later"), (503, "later")]
)
def test_an_answer_of_failure_is_named(origin, target, status, word):
    origin.status = status
    refused(lambda: get(origin, target), "/file", str(status), word)


def test_a_silent_server_is_given_up(origin, target):
    origin.stalls, origin.cuts = True, [1000]
    refused(lambda: get(origin, target, timeout=0.2), "did not arrive", "timed out")


def test_no_server_is_an_error(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port that nobody listens on
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        refused(lambda: download(address, target, limit=LIMIT), "did not arrive", "refused")


def test_other_schemes_and_folders_that_cannot_be_written_are_refused(origin, target, tmp_path):
    with pytest.raises(UsageError, match="https"):
        download("file:///etc/hosts", target, limit=LIMIT)
    (tmp_path / "drafts").write_text("in the way")
    with pytest.raises(OutputError, match="drafts"):
        get(origin, target)
