"""One file from a server that cuts, lies, ignores ranges and changes what it has."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from imdiffusion_bench.datasets.download import download
from tiny_data import refused
from tiny_origin import BODY, Origin, serving

from imdiffusion.errors import OutputError, UsageError

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


def part_of(target: Path) -> Path:
    return target.with_name("file.part")


def test_a_file_arrives_whole_and_is_not_asked_for_again(origin, target):
    assert get(origin, target, sha256=DIGITS) == len(BODY)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert get(origin, target, sha256=DIGITS) == len(BODY)
    assert origin.asked == [("/file", None)]


def test_a_cut_connection_is_taken_up_where_it_ended(origin, target):
    origin.cuts = [1000, 5000]
    assert get(origin, target, sha256=DIGITS) == len(BODY)
    assert [wanted for _, wanted in origin.asked] == [None, "bytes=1000-", "bytes=6000-"]
    assert target.read_bytes() == BODY


def test_a_cut_that_stays_is_an_error_and_the_next_call_goes_on(origin, target):
    origin.cuts = [1000, 0]
    refused(lambda: get(origin, target), "/file did not arrive", "1,000 of 153,600", "kept")
    assert part_of(target).read_bytes() == BODY[:1000]
    assert not target.exists()
    get(origin, target, sha256=DIGITS)
    assert origin.asked[-1] == ("/file", "bytes=1000-")
    assert target.read_bytes() == BODY


def test_connections_are_not_made_without_end(origin, target):
    origin.cuts = [10] * 100
    refused(lambda: get(origin, target), "50 of 153,600")
    assert len(origin.asked) == 5


def test_a_server_without_ranges_is_started_again(origin, target):
    origin.ranges = False
    origin.cuts = [1000]
    get(origin, target, sha256=DIGITS)
    assert [wanted for _, wanted in origin.asked] == [None, "bytes=1000-"]
    assert target.read_bytes() == BODY


def test_a_body_without_a_length_arrives(origin, target):
    origin.length = False
    get(origin, target, sha256=DIGITS)
    assert target.read_bytes() == BODY


def test_a_changed_file_is_not_joined_to_the_old_part(origin, target):
    origin.cuts = [1000, 0]
    refused(lambda: get(origin, target), "did not arrive")
    other = bytes(reversed(BODY))
    origin.files["/file"], origin.etag = other, '"two"'
    get(origin, target)  # If-Range: the server itself sends the new file whole
    assert target.read_bytes() == other


@pytest.mark.parametrize(("etag", "body"), [('"two"', BODY), (None, BODY + b"more")])
def test_a_change_that_the_server_does_not_mind_is_an_error(origin, target, etag, body):
    origin.if_range = False
    origin.etag = etag and '"one"'
    origin.cuts = [1000, 0]
    refused(lambda: get(origin, target), "did not arrive")
    origin.files["/file"], origin.etag = body, etag
    refused(lambda: get(origin, target), "/file was changed")
    assert list(target.parent.iterdir()) == []  # its part is of no use
    get(origin, target)
    assert target.read_bytes() == body


def test_a_file_that_became_shorter_is_an_error(origin, target):
    origin.cuts, origin.etag = [1000, 0], None
    refused(lambda: get(origin, target), "did not arrive")
    origin.files["/file"] = b"short"
    refused(lambda: get(origin, target), "/file was changed")
    assert not part_of(target).exists()


def test_a_part_of_which_nothing_is_noted_is_not_trusted(origin, target):
    target.parent.mkdir()
    part_of(target).write_bytes(b"of another time")
    get(origin, target, sha256=DIGITS)
    assert target.read_bytes() == BODY
    assert origin.asked == [("/file", None)]


def test_a_whole_part_is_not_downloaded_again(origin, target):
    target.parent.mkdir()
    part_of(target).write_bytes(BODY)
    note = {"etag": None, "total": len(BODY)}
    target.with_name("file.part.json").write_text(json.dumps(note))
    get(origin, target, sha256=DIGITS)
    assert origin.asked == []
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_corrupt_body_is_deleted(origin, target):
    origin.files["/file"] = b"!" + BODY[1:]
    refused(lambda: get(origin, target, sha256=DIGITS), "/file", "SHA-256", "deleted")
    assert list(target.parent.iterdir()) == []
    origin.files["/file"] = BODY
    get(origin, target, sha256=DIGITS)
    target.write_bytes(b"changed on the disk")
    refused(lambda: get(origin, target, sha256=DIGITS), "SHA-256")


def test_what_is_declared_too_large_is_not_read(origin, target):
    refused(lambda: get(origin, target, limit=len(BODY) - 1), "153,600 bytes", "153,599", "limit")
    assert not part_of(target).exists()
    assert get(origin, target, limit=len(BODY)) == len(BODY)


def test_what_is_too_large_without_a_declaration_is_stopped(origin, target):
    origin.length = False
    refused(lambda: get(origin, target, limit=70_000), "more bytes", "70,000")
    assert part_of(target).stat().st_size <= 70_000


@pytest.mark.parametrize(
    ("status", "word"), [(404, "moved"), (403, "publisher"), (429, "later"), (503, "later")]
)
def test_an_answer_of_failure_is_named_and_the_part_stays(origin, target, status, word):
    origin.cuts = [1000, 0]
    refused(lambda: get(origin, target), "did not arrive")
    origin.status = status
    refused(lambda: get(origin, target), "/file", str(status), word)
    assert part_of(target).read_bytes() == BODY[:1000]


def test_a_silent_server_is_given_up(origin, target):
    origin.stalls, origin.cuts = True, [1000, 0]
    refused(lambda: get(origin, target, timeout=0.2), "did not arrive", "timed out")
    assert part_of(target).read_bytes() == BODY[:1000]


def test_no_server_is_an_error(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port that nobody listens on
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        refused(lambda: download(address, target, limit=LIMIT), "did not arrive", "refused")


def test_an_encoded_body_is_refused(origin, target):
    origin.headers["Content-Encoding"] = "gzip"
    refused(lambda: get(origin, target), "gzip")


def test_other_schemes_and_folders_that_cannot_be_written_are_refused(origin, target, tmp_path):
    with pytest.raises(UsageError, match="https"):
        download("file:///etc/hosts", target, limit=LIMIT)
    (tmp_path / "drafts").write_text("in the way")
    with pytest.raises(OutputError, match="drafts"):
        get(origin, target)
