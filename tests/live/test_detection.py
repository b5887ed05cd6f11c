"""Detection over reloads: what takes over, what is refused, and that no row is lost by either."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from imdiffusion.errors import ConfigError, OutputError
from imdiffusion.live.config.parser import parse
from imdiffusion.live.detection import Detection
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.store.queries import Reader

START = 1_700_000_400
FAR = 2**62


def write(path, first, last, *, entity="web"):
    with path.open("a") as file:
        for row in range(first, last):
            cells = {"a": row % 5, "b": (row * 7) % 11}
            fact = {"entity": entity, "timestamp": START + row * 60, **cells}
            file.write(json.dumps(fact) + "\n")


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


class Watched:
    """A detection that runs in a thread on FOLDER/web.jsonl, and its configuration's text."""

    def __init__(self, folder):
        self.folder, self.state = folder, folder / "state"
        self.source = f'[[source]]\ntype = "files"\npath = "{folder}/web.jsonl"\npoll = 0.02\n'
        self.tail = (
            f'[state]\npath = "{self.state}"\nscores = 1e5\ndetails = 1e5\nevents = 1e5\n'
            "[stream]\nevery = 0.05\nstale_after = 1e9\n[fit]\nenabled = false\n"
        )
        self.text = self.source + self.tail
        self.stop, self.reload = threading.Event(), threading.Event()
        self.detection = Detection(self.read(), Places(self.state))
        self.failed = []

    def read(self):
        return parse(self.text)

    def run(self):
        try:
            self.detection.run(self.stop, reload=self.reload, reread=self.read)
        except BaseException as error:
            self.failed.append(error)
            raise

    def ask(self, text):
        self.text = text
        self.reload.set()
        wait_for(lambda: not self.reload.is_set())

    def times(self, entity="web"):
        with Reader(self.state / "live.db") as reader:
            return [one.timestamp // 10**9 for one in reader.scores(entity, 0, FAR)]

    def scored(self, rows, entity="web"):
        wait_for(lambda: self.failed or len(self.times(entity)) >= rows)
        assert self.times(entity) == [START + row * 60 for row in range(rows)]


@contextmanager
def watching(folder):
    watched = Watched(folder)
    thread = threading.Thread(target=watched.run)
    thread.start()
    try:
        yield watched
    finally:
        watched.stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not watched.failed


def test_rows_come_through_every_reload(tmp_path):
    path = tmp_path / "web.jsonl"
    write(path, 0, 20)
    with watching(tmp_path) as watched:
        watched.scored(20)
        for number in range(1, 5):
            write(path, 20 * number, 20 * number + 10)
            out = f'[[sink]]\ntype = "files"\npath = "{tmp_path}/out{number}.jsonl"\n'
            watched.ask(watched.source + out + watched.tail)
            write(path, 20 * number + 10, 20 * number + 20)
            watched.scored(20 * number + 20)
            wait_for(lambda: (tmp_path / f"out{number}.jsonl").exists())  # noqa: B023
    assert watched.detection.configuration == watched.read()


@pytest.mark.parametrize(
    "wrong",
    ["[[sink]]\n", "[fit]\nrowz = 3\n", "state = 3\n", "path = ["],
)
def test_what_is_wrong_is_refused_and_the_last_one_goes_on(tmp_path, wrong, caplog):
    path = tmp_path / "web.jsonl"
    write(path, 0, 20)
    with watching(tmp_path) as watched:
        good = watched.text
        watched.scored(20)
        watched.ask(wrong + good)
        wait_for(lambda: "the last valid configuration stays in use" in caplog.text)
        write(path, 20, 40)
        watched.scored(40)
    assert watched.detection.configuration == parse(good)


def test_a_sink_that_cannot_be_opened_is_refused_after_all(tmp_path, caplog):
    path = tmp_path / "web.jsonl"
    write(path, 0, 20)
    with watching(tmp_path) as watched, socket.create_server(("127.0.0.1", 0)) as taken:
        good = watched.text
        watched.scored(20)
        port = taken.getsockname()[1]
        watched.ask(f'{watched.source}[[sink]]\ntype = "metrics"\nport = {port}\n{watched.tail}')
        wait_for(lambda: "the last valid configuration stays in use" in caplog.text)
        write(path, 20, 40)
        watched.scored(40)
    assert watched.detection.configuration == parse(good)


def test_the_folder_cannot_change(tmp_path, caplog):
    write(tmp_path / "web.jsonl", 0, 20)
    with watching(tmp_path) as watched:
        watched.scored(20)
        watched.ask(watched.text.replace(str(watched.state), str(tmp_path / "other")))
        wait_for(lambda: "path cannot change" in caplog.text)
    assert not (tmp_path / "other").exists()


def test_other_rules_and_spans_hold_from_then_on(tmp_path):
    path = tmp_path / "web.jsonl"
    write(path, 0, 20)
    with watching(tmp_path) as watched:
        watched.scored(20)
        watched.ask(
            watched.text.replace("scores = 1e5", "scores = 9e4") + "[alerts]\nquiet = 5.0\n"
        )
        wait_for(lambda: watched.detection.configuration.alerts.quiet == 5.0)
        write(path, 20, 40)
        watched.scored(40)
        assert watched.detection.store._thinning.retention.scores == 9e4


def test_one_folder_has_one_detection(tmp_path):
    watched = Watched(tmp_path)
    with watched.detection.store, pytest.raises(OutputError, match="another process"):
        Detection(watched.read(), Places(watched.state))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="state folder"):
        Detection(watched.read(), Places(tmp_path / "file" / "state"))


def test_a_service_that_cannot_begin_ends_it_and_lets_the_folder_go(tmp_path):
    watched = Watched(tmp_path)

    @contextmanager
    def service(detection, configuration):
        raise ConfigError("no address")
        yield

    watched.detection.service = service
    with pytest.raises(ConfigError, match="no address"):
        watched.detection.run(watched.stop, reload=watched.reload)
    Detection(watched.read(), Places(watched.state)).store.close()
