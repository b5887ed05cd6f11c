"""What an attacker at each door could do, tried: the chapters of docs/security.md, one by one."""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from live_story import START, rows
from served import CHANGE, READ, Client, served, story, trusting

from imdiffusion.errors import ConfigError
from imdiffusion.live.service.auth import Access
from imdiffusion.live.service.middleware import Limits, Pace

SAID = {"verdict": "confirmed"}
FEEDBACK = "/api/events/e1/feedback"
READING = (
    "/api/entities", "/api/scores?entity=db", "/api/lanes", "/api/series?entity=db", "/api/events",
    "/api/events/e1", "/api/feedback", "/api/models", "/api/stream", "/metrics", "/openapi.json",
)  # fmt: skip
CHANGING = ("/api/ingest", FEEDBACK, "/api/models/rollback", "/api/models/live")


def tokens(folder, *, read=READ, change=CHANGE, **options):
    for name, token in (("read", read), ("change", change)):
        if token:
            (folder / f"{name}-token").write_text(f"{token}\n")
            options[f"{name}_token_file"] = str(folder / f"{name}-token")
    return Access(**options)


@pytest.fixture(name="guarded")
def _guarded(tmp_path):
    with served(tmp_path, access=tokens(tmp_path)) as one:
        story(one.store)
        yield one


@pytest.fixture(name="alone", scope="module")
def _alone(tmp_path_factory):
    """A service without tokens, for tests that leave it as it was."""
    with served(tmp_path_factory.mktemp("alone")) as one:
        story(one.store)
        yield one


# -- the address


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "monitor.example"])
def test_another_address_than_loopback_demands_a_token(host, tmp_path, caplog):
    with pytest.raises(ConfigError, match="could read without a token"):
        Access(host=host).check()
    with pytest.raises(ConfigError, match="could read without a token"):
        tokens(tmp_path, read="", host=host).check()
    tokens(tmp_path, change="", host=host).check()
    assert caplog.text == ""
    Access(host=host, insecure=True).check()
    assert "INSECURE" in caplog.text
    assert "read and change without a token" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_none(host):
    Access(host=host).check()


@pytest.mark.parametrize("token", ["short", "has space in its midst", "umlaut-äöü-0123456789"])
def test_a_token_that_is_none_is_refused_without_being_told(tmp_path, token):
    with pytest.raises(ConfigError) as caught:
        tokens(tmp_path, read=token).check()
    assert token not in str(caught.value)
    with pytest.raises(ConfigError, match="are the same"):
        tokens(tmp_path, read=READ, change=READ).check()


# -- tokens and roles


def test_without_the_token_nothing_is_told_and_nothing_changed(guarded):
    for token in ("", "wrong", READ[:-1], READ + "x", READ.upper(), CHANGE[:-1]):
        client = guarded.client(token)
        for path in READING:
            answer = client.get(path)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert "db" not in answer.text
        for path in CHANGING:
            assert client.post(path, SAID).status == 401
    basic = guarded.client().get("/api/entities", Authorization=f"Basic {READ}")
    assert basic.status == 401
    assert guarded.client().get(f"/api/entities?token={READ}").status == 401
    assert guarded.client().get("/healthz").status == 200


def test_who_may_read_may_not_change(guarded):
    reader, changer = guarded.client(READ), guarded.client(CHANGE)
    assert reader.get("/api/entities").status == 200
    assert reader.get("/metrics").status == 200
    for path in CHANGING:
        assert reader.post(path, SAID).status == 403
    assert reader.get("/api/feedback").json["feedback"] == []
    assert guarded.source.read(0) is None
    assert changer.post(FEEDBACK, SAID).status == 201
    assert changer.get("/api/entities").status == 200


def test_nobody_changes_where_only_a_token_for_reading_is_there(tmp_path):
    with served(tmp_path, access=tokens(tmp_path, change="")) as one:
        answer = one.client(READ).post(FEEDBACK, SAID)
        assert (answer.status, answer.json["error"]) == (403, "changes are disabled")


def test_on_loopback_a_token_for_changing_alone_leaves_reading_open(tmp_path):
    with served(tmp_path, access=tokens(tmp_path, read="")) as one:
        assert one.client().get("/api/entities").status == 200
        assert one.client().post("/api/models/rollback", {"entity": "a"}).status == 403
        assert one.client(CHANGE).post("/api/models/rollback", {"entity": "a"}).status == 404


def test_an_exchanged_token_holds_at_once_and_an_absent_one_lets_nobody_in(guarded, tmp_path):
    place = tmp_path / "read-token"
    place.write_text("n" * 40)
    assert guarded.client(READ).get("/api/entities").status == 401
    assert guarded.client("n" * 40).get("/api/entities").status == 200
    place.unlink()
    for token in ("", "n" * 40, CHANGE):
        assert guarded.client(token).get("/api/entities").status == 503


# -- a browser that is misused


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a@127.0.0.1", ""])
def test_a_name_of_the_web_that_points_here_is_not_answered(alone, host):
    answer = alone.client().get("/api/entities", Host=host)
    assert answer.status in (400, 421)
    assert "db" not in answer.text


def test_names_of_our_own_and_addresses_are_answered(tmp_path):
    with served(tmp_path, access=Access(hosts=("monitor.example", "other.example"))) as one:
        for host in ("monitor.example:80", "OTHER.example", "localhost:1", "127.0.0.1", "[::1]:9"):
            assert one.client().get("/healthz", Host=host).status == 200
        assert one.client().get("/healthz", Host="third.example").status == 421


def test_a_page_of_another_origin_cannot_change_anything(alone):
    client = alone.client()
    own = f"http://{client.address.netloc}"
    before = client.get("/api/feedback").json["feedback"]
    for origin in ("http://evil.example", "null", "https://127.0.0.1:1", f"{own}.evil.example"):
        assert client.post(FEEDBACK, SAID, Origin=origin).status == 403
    for site in ("cross-site", "same-site"):
        assert client.post(FEEDBACK, SAID, Sec_Fetch_Site=site).status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert client.post(FEEDBACK, SAID, Content_Type=kind).status == 415
    asked = client.ask("OPTIONS", FEEDBACK, Origin="http://evil.example")
    assert asked.status == 405
    assert not [name for name in asked.headers if name.startswith("access-control")]
    assert client.get("/api/feedback").json["feedback"] == before
    assert client.post(FEEDBACK, SAID, Origin=own, Sec_Fetch_Site="same-origin").status == 201


def test_no_answer_sets_a_cookie_and_all_forbid_foreign_content(alone):
    for path in ("/", "/static/live.js", "/api/entities", "/api/nothing", "/metrics"):
        headers = alone.client().get(path).headers
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"


# -- too much


def test_a_body_that_is_too_long_is_refused_with_and_without_its_length(tmp_path):
    with served(tmp_path, limits=Limits(body=1000, rate=1e6, burst=10**6)) as one:
        client = one.client()
        assert client.post("/api/ingest", b" " * 1001).status == 413
        connection = client.connect()
        chunks = (b" " * 400 for _ in range(3))
        connection.request(
            "POST", "/api/ingest", chunks, {"Content-Type": "application/json"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
        connection.close()
        assert client.post("/api/ingest", b" " * 1000).status == 400


def test_who_has_no_token_gets_nothing_of_his_body_read(guarded):
    place = (guarded.client().address.hostname, guarded.client().address.port)
    with socket.create_connection(place, timeout=30) as raw:
        raw.sendall(
            b"POST /api/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000\r\n\r\n"
        )
        assert raw.recv(12) == b"HTTP/1.1 401"


def test_a_body_that_does_not_come_is_given_up(tmp_path):
    with served(tmp_path, limits=Limits(patience=0.2, rate=1e6, burst=10**6)) as one:
        place = (one.client().address.hostname, one.client().address.port)
        with socket.create_connection(place, timeout=30) as raw:
            raw.sendall(
                b"POST /api/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                b"Content-Type: application/json\r\n\r\n{"
            )
            assert raw.recv(12) == b"HTTP/1.1 408"
        assert one.client().post("/api/ingest", b"{").status == 400  # nothing of it is held on to


def test_bodies_that_are_too_much_together_are_put_off(tmp_path):
    with served(tmp_path, limits=Limits(held=1000, rate=1e6, burst=10**6)) as one:
        answer = one.client().post("/api/ingest", b" " * 1001)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        # What was read is let go of, whether it was refused or not.
        assert [one.client().post("/api/ingest", b" " * 900).status for _ in range(3)] == [400] * 3


def test_an_address_that_asks_too_fast_is_slowed_down(tmp_path):
    with served(tmp_path, limits=Limits(rate=0.001, burst=3)) as one:
        answers = [one.client().get("/healthz") for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert int(answers[-1].headers["retry-after"]) > 100


def test_the_pace_of_an_address_recovers_and_what_is_remembered_is_bounded():
    seconds = [0.0]
    pace = Pace(2.0, 1, clock=lambda: seconds[0])
    assert pace.wait("192.0.2.1") == 0.0
    assert pace.wait("192.0.2.1") == 0.5
    assert pace.wait("192.0.2.2") == 0.0
    assert pace.wait("2001:db8:1:2:3:4:5:6") == 0.0
    assert pace.wait("2001:db8:1:2::9") == 0.5  # another address of the same network
    seconds[0] += 0.5
    assert pace.wait("192.0.2.1") == 0.0
    for number in range(11_000):
        pace.wait(f"10.0.{number // 256}.{number % 256}")
    assert len(pace._callers) == 10_000


def test_rows_of_too_many_entities_or_channels_are_passed_over_and_told(tmp_path):
    limits = Limits(entities=3, channels=4, rate=1e6, burst=10**6)
    with served(tmp_path, limits=limits) as one:
        one.store.write(rows(["db", "web"], 0, 1), now=START)
        sent = [
            {"entity": name, "timestamp": 1_700_000_000, "a": 1} for name in ("db", "x", "y", "z")
        ]
        sent.append({"entity": "web", "timestamp": 1_700_000_000, **dict.fromkeys("abcde", 1)})
        said = one.client().post("/api/ingest", {"rows": sent}).json
        assert (said["rows"], said["rejected"]) == (2, 3)
        assert any("more than 3 entities" in why for why in said["why"])
        assert any("more than 4 channels" in why for why in said["why"])
        assert {frame.entity for frame in one.source.read(0).frames} == {"db", "x"}


def test_a_full_queue_is_said_and_drained(tmp_path):
    with served(tmp_path, most=10) as one:
        row = {"entity": "a", "timestamp": 1_700_000_000, **{f"c{n}": n for n in range(8)}}
        assert one.client().post("/api/ingest", {"rows": [row]}).status == 202
        answer = one.client().post("/api/ingest", {"rows": [row]})
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert len(one.source.read(0).frames) == 1
        assert one.client().post("/api/ingest", {"rows": [row]}).status == 202


def test_followers_are_counted(tmp_path):
    with served(tmp_path, limits=Limits(streams=1, rate=1e6, burst=10**6)) as one:
        story(one.store)
        connection = one.client().connect()
        connection.request("GET", "/api/stream")
        first = connection.getresponse()
        assert first.readline().startswith(b"id:")
        assert one.client().get("/api/stream").status == 503
        first.close()
        connection.close()


# -- what is sent


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"rows": [' * 50_000, b"\xff\xfe", b"null", b'{"rows": {"a": 1}}', b"1e999"],
)
def test_rubbish_is_refused_and_harms_nobody(alone, body):
    assert alone.client().post("/api/ingest", body).status in (400, 422)
    assert alone.client().get("/healthz").status == 200


@pytest.mark.parametrize("name", ["\ud800", "\x00", "a\nlevel=ERROR b", "x" * 2000, "</script>"])
def test_odd_names_break_nothing(alone, name):
    row = {"entity": name, "timestamp": 1_700_000_000, name: 1}
    assert alone.client().post("/api/ingest", {"rows": [row]}).status in (202, 422)
    text = {"verdict": "confirmed", "text": name, "who": name[:100]}
    assert alone.client().post(FEEDBACK, text).status in (201, 422)
    assert alone.client().post("/api/models/rollback", {"entity": name}).status in (404, 422)
    assert alone.client().get("/api/events/e1").status == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%5capp.py", "/static//etc/passwd",
     "/static/%00", "/../../etc/passwd", "/static/live.db", "/api/events/..%2f..%2flive.db"],
)  # fmt: skip
def test_no_request_reaches_the_file_system(alone, path):
    assert alone.client().get(path).status in (404, 422)


def test_nothing_says_where_files_lie(tmp_path):
    with served(tmp_path) as one:
        story(one.store)
        one.store.close()
        for name in ("live.db", "live.db-wal"):
            place = one.store.path.with_name(name)
            if place.exists():
                place.write_bytes(b"rubbish" * 1000)
        answer = one.client().get("/api/entities")
        assert answer.status == 503
        assert str(tmp_path) not in answer.text


# -- secrets


def test_no_secret_is_in_any_log_or_answer(guarded, caplog):
    caplog.set_level(logging.DEBUG)
    told = []
    for token in (READ, CHANGE, "guess-" + "g" * 20):
        client = guarded.client(token)
        told += [client.get(path) for path in (*READING[:8], "/metrics", "/openapi.json", "/x")]
        told += [client.post(path, {"rows": 1}) for path in CHANGING]
    whole = caplog.text + "".join(answer.text + json.dumps(answer.headers) for answer in told)
    for secret in (READ, CHANGE, "guess-"):
        assert secret not in whole


# -- the wire


@pytest.fixture(name="certificate", scope="module")
def _certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.tool("openssl")
def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path, certificate, caplog):
    trust = trusting(certificate[0])
    with served(tmp_path, trust=trust, certificate=certificate[0], key=certificate[1]) as one:
        assert one.serving.address.startswith("https://")
        assert one.client().get("/healthz").status == 200
        plain = Client(one.serving.address.replace("https", "http"))
        with pytest.raises(OSError):
            plain.get("/healthz")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            Client(one.serving.address, trust=old).get("/healthz")


@pytest.mark.tool("openssl")
def test_a_certificate_that_is_none_is_refused_plainly(tmp_path, certificate):
    other = tmp_path / "other.pem"
    other.write_text("no key")
    for pair in (
        (certificate[0], ""),
        (certificate[0], "no such file"),
        (certificate[0], str(other)),
    ):
        with pytest.raises(ConfigError), served(tmp_path, certificate=pair[0], key=pair[1]):
            pass


def test_an_address_that_is_taken_is_a_plain_error(alone, tmp_path):
    from imdiffusion.live.service.server import ServiceThread

    with pytest.raises(ConfigError, match="cannot listen"):
        ServiceThread(alone.app, port=alone.client().address.port)


def test_every_door_of_the_document_has_its_test():
    root = Path(__file__).parents[3]
    named = set(re.findall(r"`(test_[a-z_]+)`", (root / "docs" / "security.md").read_text()))
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert len(named) > 15
    assert named - set(re.findall(r"^def (test_\w+)", here, flags=re.MULTILINE)) == set()
