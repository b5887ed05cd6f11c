"""`imdiffusion bench import`, `fetch` and `check`, as a user calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imdiffusion.cli import main

Call = Callable[..., tuple[int, str, str]]

PSM = {
    "train.csv": "timestamp_(min),feature_0,feature_1\n0.0,0.5,1\n1.0,,2\n2.0,1e-1,3\n",
    "test.csv": "timestamp_(min),feature_0,feature_1\n3,7,8\n4,,9\n",
    "test_label.csv": "timestamp_(min),label\n3,0\n4,1\n",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are no output of a test."""


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.delenv("IMDIFFUSION_DATA", raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main(["bench", *map(str, words)])
        code = end.value.code or 0
        assert isinstance(code, int)
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def official(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    folder.mkdir()
    for name, text in PSM.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def address(official: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(official)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_import_writes_a_folder_that_check_verifies(
    call: Call, official: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    code, _, told = call("import", "PSM", official, "--data", root)
    assert code == 0
    assert f"{root / 'PSM'} written" in told
    code, out, _ = call("check", "--data", root)
    assert code == 0
    assert out.split()[-2:] == ["PSM", "3"]
    code, _, told = call("import", "PSM", official, "--data", root)
    assert code != 0
    assert "is there already" in told
    code, _, told = call("import", "PSM", official)
    assert code != 0
    assert "--data FOLDER" in told


def test_fetch_brings_the_files_from_a_server_and_says_what_went_wrong(
    call: Call, official: Path, address: str, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    (official / "test_label.csv").rename(tmp_path / "kept.csv")
    code, _, told = call("fetch", "PSM", "--data", root, "--base", address)
    assert code != 0
    assert "test_label.csv" in told
    assert "404" in told
    (tmp_path / "kept.csv").rename(official / "test_label.csv")
    code, _, told = call("fetch", "PSM", "--data", root, "--base", address)
    assert code == 0
    assert f"{root / 'PSM'} written" in told
    assert "3 of its 3 files: unchecked" in told
    (root / "PSM/psm/test.parquet").write_bytes(b"damaged")
    code, _, told = call("check", "--data", root)
    assert code != 0
    assert "PSM/psm/test.parquet" in told
