"""The service over a real store on a real socket, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import contextmanager
from urllib.parse import urlsplit

from live_story import MINUTE, START, rows, told, turn

from imdiffusion.live.service.app import make_app
from imdiffusion.live.service.middleware import Limits
from imdiffusion.live.service.server import ServiceThread
from imdiffusion.live.sources.push import PushedSource
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store

SPAN = "since=2023-11-14T22:20:00Z&until=2023-11-14T23:20:00Z"  # the story's first hour
READ, CHANGE = "read-" + "r" * 32, "change-" + "c" * 32
FAST = Limits(rate=1e6, burst=1_000_000)


class Answer:
    """Status, headers by lower-case name, text."""

    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)


class Client:
    """Asks one service; each request on a connection of its own."""

    def __init__(self, address, *, token="", trust=None):
        self.address, self.token, self.trust = urlsplit(address), token, trust

    def connect(self):
        place = (self.address.hostname, self.address.port)
        if self.address.scheme == "https":
            return http.client.HTTPSConnection(*place, timeout=30, context=self.trust)
        return http.client.HTTPConnection(*place, timeout=30)

    def ask(self, method, path, body=None, **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = self.connect()
        try:
            connection.request(method, path, body, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, body, **headers):
        return self.ask("POST", path, body, **headers)


def story(store):
    """An hour of two hosts, an event that is over and one that goes on, two models."""
    store.write(rows(["db", "web/1"], 0, 60), now=START)
    store.write(
        Checkpoint(
            told=[told("web/1", 9, mode="offline")],
            updates=[
                turn("e1", "web/1", 0, "ongoing"),
                turn("e1", "web/1", 1, "resolved", end=14),
                turn("e2", "db", 0, "ongoing", row=50),
            ],
            counts={("rejected", "files"): 3, ("rows", "files"): 120},
        ),
        now=START + 60 * MINUTE,
    )
    for digest in ("m1", "m2"):
        store.add_model("db", digest, detector="fast", path="/secret/place", now=START)
        store.promote("db", digest, reason="fitted", now=START)


@contextmanager
def follow(client, path="/api/stream"):
    """The messages of a stream, as (event, data), without an end."""
    connection = client.connect()
    connection.request("GET", path, headers={"Authorization": f"Bearer {client.token}"})
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")

    def messages():
        facts = {}
        while line := response.readline().decode():
            if line == "\n":
                if "event" in facts:
                    yield facts["event"], json.loads(facts["data"])
                facts = {}
            else:
                name, _, value = line.rstrip("\n").partition(": ")
                facts[name] = value

    try:
        yield messages()
    finally:
        response.close()
        connection.close()


class Served:
    """What a test gets: the store, the source of pushed rows, the service and a client."""

    def __init__(self, folder, *, trust=None, certificate="", key="", most=2_000_000, **options):
        self.store = Store(folder / "live.db")
        self.source = PushedSource(most=most)
        options.setdefault("limits", FAST)
        try:
            self.app = make_app(self.store, ingest=self.source.push, **options)
            self.serving = ServiceThread(self.app, certificate=certificate, key=key)
        except BaseException:
            self.store.close()
            raise
        self.trust = trust

    def client(self, token=""):
        return Client(self.serving.address, token=token, trust=self.trust)


@contextmanager
def served(folder, **options):
    one = Served(folder, **options)
    try:
        with one.serving:
            yield one
    finally:
        one.store.close()


def trusting(certificate):
    return ssl.create_default_context(cafile=certificate)
