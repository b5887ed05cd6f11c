"""Downloads from a real server on loopback: it cuts, lies, ignores ranges, changes its files."""

from __future__ import annotations

import fcntl
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from imdiffusion.bench.datasets import DATASETS, check, open_dataset
from imdiffusion.bench.datasets.download import download
from imdiffusion.bench.datasets.fetch import HOMES, Home, fetch
from imdiffusion.errors import ConfigError, DataError, DataWarning, OutputError, UsageError

# The package gives the function this name, so the module is asked for by its own.
MODULE = import_module("imdiffusion.bench.datasets.fetch")
BODY = bytes(range(256)) * 600  # 153,600 bytes
DIGITS = hashlib.sha256(BODY).hexdigest()
LIMIT = 1 << 20


class Origin(ThreadingHTTPServer):
    """Serves `files`; what is wrong with it is set by the test.

    cuts: of each of the next answers, the bytes after which the connection is closed.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {"/file": BODY}
        self.etag: str | None = '"one"'
        self.ranges = True
        self.if_range = True
        self.length = True
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.cuts: list[int] = []
        self.stall = threading.Event()
        self.stalls = False
        self.asked: list[tuple[str, str | None]] = []  # path and Range of each request

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        origin, wanted = self.server, self.headers.get("Range")
        origin.asked.append((self.path, wanted))
        body = origin.files.get(self.path)
        if body is None or origin.status is not None:
            self.send_error(origin.status or 404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        stale = origin.if_range and self.headers.get("If-Range") not in (None, origin.etag)
        if not origin.ranges or stale:
            start = 0
        if start >= len(body) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if origin.length:
            self.send_header("Content-Length", str(len(body) - start))
        if origin.etag is not None:
            self.send_header("ETag", origin.etag)
        for name, value in origin.headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body[start:]
        if origin.cuts:
            sent = sent[: origin.cuts.pop(0)]
        self.wfile.write(sent)
        self.wfile.flush()
        if origin.stalls:
            origin.stall.wait(10)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture(name="origin")
def _origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Origin() as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield origin
        origin.stall.set()
        origin.shutdown()
        thread.join()


@pytest.fixture(name="target")
def _target(tmp_path: Path) -> Path:
    return tmp_path / "drafts" / "file"


def get(origin: Origin, target: Path, **options: object) -> int:
    options = {"limit": LIMIT, "timeout": 5.0} | options
    return download(f"{origin.base}/file", target, **options)


def refused(call, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)


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


FILES = {
    "/m/train/machine-1-1.txt": b"0.1,1\n0.2,1\n",
    "/m/test/machine-1-1.txt": b"0.3,1\n0.4,0\n",
    "/m/test_label/machine-1-1.txt": b"0\n1\n",
    "/m/interpretation_label/machine-1-1.txt": b"1-2:2\n",
}


@pytest.fixture(name="small")
def _small(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> Origin:
    """SMD with one machine, three of whose files have a checksum that is known."""
    origin.files = dict(FILES)
    names = tuple(name.removeprefix("/m/") for name in FILES)
    monkeypatch.setitem(HOMES, "SMD", Home(f"{origin.base}/m", names))
    sums = {
        name: hashlib.sha256(FILES[f"/m/{name}"]).hexdigest()
        for name in names
        if not name.startswith("test/")
    }
    monkeypatch.setattr(MODULE, "known_sums", {"SMD": sums}.__getitem__)
    return origin


def test_a_set_is_fetched_checked_and_imported(small, tmp_path):
    seen = []
    with pytest.warns(DataWarning, match="1 of its 4 files: unchecked"):
        folder = fetch("SMD", tmp_path, on_progress=seen.append)
    assert folder == tmp_path / "SMD"
    assert [step.done for step in seen] == [12, 24, 28, 34]  # bytes of the files so far
    assert {(step.phase, step.total) for step in seen} == {("fetch SMD", 0)}
    assert seen[2].info == {"file": 3, "of": 4}
    split = open_dataset("SMD", tmp_path).load("machine-1-1")
    np.testing.assert_array_equal(split.test.values, np.array([[0.3, 1], [0.4, 0]], np.float32))
    assert split.truth.label().tolist() == [False, True]
    assert check(tmp_path, "SMD") == 4
    index = json.loads((folder / "index.json").read_text())
    assert index["unchecked"] == ["test/machine-1-1.txt"]
    assert index["fetched_from"] == f"{small.base}/m"
    assert not (tmp_path / ".fetch/SMD").exists()
    with pytest.raises(OutputError, match="is there already"):
        fetch("SMD", tmp_path)


def test_machines_that_are_there_are_not_downloaded_again(small, tmp_path, monkeypatch):
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    other = {name.replace("1-1", "1-2"): text for name, text in FILES.items()}
    small.files.update(other)
    both = (*HOMES["SMD"].files, *(name.removeprefix("/m/") for name in other))
    monkeypatch.setitem(HOMES, "SMD", Home(f"{small.base}/m", both))
    small.asked.clear()
    with pytest.warns(DataWarning, match="4 of its 4 files: unchecked"):
        fetch("SMD", tmp_path)
    assert {path for path, _ in small.asked} == set(other)
    assert open_dataset("SMD", tmp_path).entities() == ["machine-1-1", "machine-1-2"]


def test_half_a_machine_of_an_earlier_call_is_no_matter_once_the_machine_is_there(
    small, tmp_path, monkeypatch
):
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    (tmp_path / ".fetch/SMD/train").mkdir(parents=True)
    (tmp_path / ".fetch/SMD/train/machine-1-1.txt").write_text("0.1,1\n")
    other = {name.replace("1-1", "1-2"): text for name, text in FILES.items()}
    small.files.update(other)
    both = (*HOMES["SMD"].files, *(name.removeprefix("/m/") for name in other))
    monkeypatch.setitem(HOMES, "SMD", Home(f"{small.base}/m", both))
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    assert open_dataset("SMD", tmp_path).entities() == ["machine-1-1", "machine-1-2"]


def test_a_fetch_goes_on_after_a_failure_with_what_it_has(small, tmp_path):
    label = small.files.pop("/m/test_label/machine-1-1.txt")
    refused(lambda: fetch("SMD", tmp_path), "test_label/machine-1-1.txt", "404")
    assert not (tmp_path / "SMD").exists()
    small.files["/m/test_label/machine-1-1.txt"] = label
    small.asked.clear()
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path, base=f"{small.base}/m/")
    assert [path for path, _ in small.asked] == list(FILES)[2:]


def test_a_bad_file_that_no_checksum_tells_is_fetched_anew(small, tmp_path):
    good, small.files["/m/test/machine-1-1.txt"] = FILES["/m/test/machine-1-1.txt"], b"<html>\n"
    refused(lambda: fetch("SMD", tmp_path), "test/machine-1-1.txt", "1 files", "call again")
    small.files["/m/test/machine-1-1.txt"] = good
    small.asked.clear()
    with pytest.warns(DataWarning, match="unchecked"):
        fetch("SMD", tmp_path)
    assert [path for path, _ in small.asked] == ["/m/test/machine-1-1.txt"]


def test_a_mirror_with_other_bytes_is_refused(small, tmp_path):
    small.files |= {f"/mirror{name[2:]}": body for name, body in FILES.items()}
    small.files["/mirror/train/machine-1-1.txt"] = b"0.9,1\n0.2,1\n"
    refused(lambda: fetch("SMD", tmp_path, base=f"{small.base}/mirror"), "mirror", "SHA-256")
    assert not (tmp_path / "SMD").exists()


def test_the_limit_is_for_all_files_together(small, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "_MIB", 30)
    refused(lambda: fetch("SMD", tmp_path, limit_mib=1), "/interp", "6 bytes", "2 are left")
    with pytest.raises(UsageError, match="0 MiB"):
        fetch("SMD", tmp_path, limit_mib=0)


def test_two_fetches_of_one_set_do_not_mix(small, tmp_path):
    (tmp_path / ".fetch").mkdir()
    with (tmp_path / ".fetch/SMD.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="being fetched already"):
            fetch("SMD", tmp_path)
    assert small.asked == []


def test_sets_without_a_public_home_say_where_they_are(tmp_path):
    refused(lambda: fetch("SWaT", tmp_path), "SWaT", "iTrust", "import")
    refused(lambda: fetch("WADI", tmp_path), "WADI", "iTrust", "import")
    refused(lambda: fetch("GCP", tmp_path), "GCP", "JumpStarter", "convert")
    with pytest.raises(ConfigError, match="'SMD'"):
        fetch("SMDD", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_homes_name_every_file():
    assert len(HOMES["SMD"].files) == len(set(HOMES["SMD"].files)) == 28 * 4
    assert "test_label/machine-3-11.txt" in HOMES["SMD"].files
    assert set(HOMES) == {name for name, known in DATASETS.items() if known.public}
    assert HOMES["PSM"].files == ("train.csv", "test.csv", "test_label.csv")
    assert all(home.base.startswith("https://") for home in HOMES.values())
