"""The OpenAPI text, and a fuzzer that takes it by its word."""

from __future__ import annotations

import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from served import CHANGE, READ, Client, served, story

from imdiffusion.durations import DAY_NS
from imdiffusion.live.service.auth import Access
from imdiffusion.live.store.inserts import Checkpoint, Standing

ENDLESS = "/api/stream"  # a fuzzer would wait for its end; see test_api.py
ROUTES = {
    ("GET", "/api/entities"), ("GET", "/api/scores"), ("GET", "/api/lanes"), ("GET", "/api/series"),
    ("GET", "/api/events"), ("GET", "/api/events/{event}"), ("GET", "/api/feedback"),
    ("GET", "/api/models"), ("GET", "/api/stream"), ("GET", "/healthz"), ("GET", "/readyz"),
    ("GET", "/metrics"), ("POST", "/api/ingest"), ("POST", "/api/events/{event}/feedback"),
    ("POST", "/api/models/rollback"), ("POST", "/api/models/live"),
}  # fmt: skip


@pytest.fixture(name="one", scope="module")
def _one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openapi")
    for name, token in (("read", READ), ("change", CHANGE)):
        (folder / name).write_text(token)
    access = Access(read_token_file=str(folder / "read"), change_token_file=str(folder / "change"))
    with served(folder, access=access) as one:
        story(one.store)
        now = time.time_ns()
        one.store.write(Checkpoint(standing={"db": Standing(DAY_NS, now, "ready")}), now=now)
        yield one


def test_every_route_is_described(one):
    text = one.client(READ).get("/openapi.json").json
    found = {(m.upper(), path) for path, methods in text["paths"].items() for m in methods}
    assert found == ROUTES
    for path, methods in text["paths"].items():
        for operation in methods.values():
            assert operation["description"], path
    # The row model refers to nothing that is not there.
    assert "Rows" in text["components"]["schemas"]


def modes(path):
    """What is described; and where there is anything to say, what is not quite so."""
    yield schemathesis.GenerationMode.POSITIVE
    if path not in ("/healthz", "/readyz", "/metrics"):
        yield schemathesis.GenerationMode.NEGATIVE


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES - {("GET", ENDLESS)}))
def test_no_request_that_is_described_or_nearly_so_breaks_the_service(one, method, path):
    headers = {"Authorization": f"Bearer {CHANGE}"}
    schema = schemathesis.openapi.from_url(f"{one.serving.address}/openapi.json", headers=headers)
    # Rows are judged one by one: one may be as it should be and yet be of no use (all of it from
    # the year 3000), and one that is not is told as rejected beside others that are taken.
    rowwise = [positive_data_acceptance, negative_data_rejection]
    spared = rowwise if path == "/api/ingest" else []
    for mode in modes(path):
        strategy = schema[path][method].as_strategy(generation_mode=mode)

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def fuzz(case):
            case.call_and_validate(headers=headers, timeout=30, excluded_checks=spared)

        fuzz()


def test_the_service_lives_on(one):
    assert Client(one.serving.address).get("/healthz").status == 200
