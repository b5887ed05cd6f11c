"""HTTP as the connectors speak it: bounded in time and size, no redirect, no secret in an error."""

from __future__ import annotations

import base64
import itertools
import socket
import ssl
import subprocess
import threading

import pytest
from odd_server import Answer, OddServer

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.connection.http import Client, HttpOptions

SECRET = "s3cret-token"


def drip(odd: OddServer, piece: bytes = b"x"):
    """A piece every 50 ms until the test is over."""
    while not odd.over.wait(0.05):
        yield piece


@pytest.mark.parametrize(
    "answer",
    [
        Answer(raw=b"this is no HTTP\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 two hundred\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"),
        Answer(raw=b""),
    ],
)
def test_what_is_no_whole_answer_is_a_lost_connection(answer):
    with OddServer(lambda _: answer) as odd:
        client = Client(HttpOptions(url=odd.url))
        with pytest.raises(ConnectionLost, match="did not answer"):
            client.request(body=b"x")
        # and the same client goes on once the far side is well
        odd.answer = lambda _: Answer(body=b"well")
        assert client.request(body=b"x").body == b"well"
        client.close()


def test_refused_connections_and_unknown_hosts_are_lost_connections():
    with socket.socket() as taken:  # bound but not listening: refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match="refused"):
            Client(HttpOptions(url=url)).request()


def test_slow_answers_end_at_the_deadline_though_bytes_keep_coming():
    with OddServer(lambda _: Answer(pieces=drip(odd))) as odd:
        client = Client(HttpOptions(url=odd.url, timeout=0.3))
        with pytest.raises(ConnectionLost, match=r"no complete answer within 0\.3 s"):
            client.request()


def test_a_server_that_takes_a_request_and_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match="no complete answer"):
            Client(HttpOptions(url=url, timeout=0.3)).request(body=b"x" * 10_000_000)


def test_a_slow_head_ends_at_the_deadline_too():
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not over.wait(0.05):
                        connection.sendall(b"A")
                except ConnectionError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionLost, match="no complete answer"):
            Client(HttpOptions(url=url, timeout=0.3)).request()
        over.set()
        thread.join()


def test_endless_bodies_are_cut():
    with OddServer(lambda _: Answer(pieces=itertools.repeat(b"x" * 10_000))) as odd:
        client = Client(HttpOptions(url=odd.url), limit=100_000)
        reply = client.request()
        assert reply.cut
        assert len(reply.body) == 100_000
        odd.answer = lambda _: Answer(body=b"short")
        assert client.request().body == b"short"
        client.close()


def test_a_connection_is_kept_and_opened_again_once_the_far_side_has_closed_it():
    with OddServer(lambda _: Answer(body=b"1")) as odd:
        client = Client(HttpOptions(url=odd.url))
        for _ in range(3):
            client.request(body=b"x")
        assert odd.connections == 1
        # The server hangs up after this answer without saying so.
        odd.answer = lambda _: Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
        assert client.request(body=b"x").body == b"2"
        odd.answer = lambda _: Answer(body=b"3")
        assert client.request(body=b"x").body == b"3"
        assert odd.connections == 2
        client.close()


def test_redirects_are_not_followed_and_carry_no_secret_away(monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    with OddServer(lambda _: Answer()) as other, OddServer(lambda _: moved) as odd:
        moved = Answer(307, headers={"Location": other.url})
        client = Client(HttpOptions(url=odd.url, token_env="TOKEN"))
        with pytest.raises(ConnectionLost, match="answered 307"):
            client.settle(client.request(body=b"x"))
        client.close()
    assert other.asked == []


def test_secrets_come_from_environment_or_file_and_are_in_no_error(monkeypatch, tmp_path):
    def echo(asked):  # a server that repeats what it was sent
        return Answer(401, body=f"no entry for {asked.headers['authorization']}".encode())

    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("PASSWORD", "hunter2")
    with OddServer(echo) as odd:
        for options in ({"token_file": str(file)}, {"user": "me", "password_env": "PASSWORD"}):
            client = Client(HttpOptions(url=odd.url, **options))
            with pytest.raises(ConnectionLost) as caught:
                client.settle(client.request())
            sent = odd.asked[-1].headers["authorization"]
            for secret in (SECRET, "hunter2", sent.split()[1]):
                assert secret not in str(caught.value)
            assert "answered 401: no entry for" in str(caught.value)
            client.close()
        assert odd.asked[0].headers["authorization"] == f"Bearer {SECRET}"
        assert base64.b64decode(odd.asked[1].headers["authorization"][6:]) == b"me:hunter2"
        # exchanged while running: the next request has the new one
        file.write_text("another")
        client = Client(HttpOptions(url=odd.url, token_file=str(file)))
        client.request()
        assert odd.asked[-1].headers["authorization"] == "Bearer another"
        file.unlink()  # away for a moment, while it is exchanged
        with pytest.raises(ConnectionLost, match="cannot read the file"):
            client.request()
        file.write_text("third")
        client.request()
        assert odd.asked[-1].headers["authorization"] == "Bearer third"
        client.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"url": "ftp://host"}, "not a usable address"),
        ({"url": "http://"}, "not a usable address"),
        ({"url": "http://host:port"}, "not a usable address"),
        ({"url": "http://host/\r\nX: y"}, "not a usable address"),
        ({"url": f"http://me:{SECRET}@host"}, "holds a user or a password"),
        ({"timeout": 0.0}, "timeout is .*above zero"),
        ({"timeout": float("nan")}, "timeout is .*above zero"),
        ({"token_env": "ABSENT"}, "environment variable ABSENT.* is not set"),
        ({"token_env": "EMPTY"}, "is empty"),
        ({"token_env": "LINES"}, "no HTTP header can hold"),
        ({"token_env": "TOKEN", "token_file": "f"}, "both given"),
        ({"token_env": "TOKEN", "user": "me"}, "a token and a user are both given"),
        ({"user": "a:b"}, "colon"),
        ({"token_file": "no such file"}, "cannot read the file no such file"),
        ({"token_file": "binary"}, "no UTF-8 text"),
        ({"token_file": "/dev/zero"}, "longer than 64 KiB"),
        ({"url": "https://host", "ca_file": "no such file"}, "cannot use ca_file no such file"),
        ({"url": "https://host", "ca_file": "binary"}, "cannot use ca_file binary"),
    ],
)
def test_options_that_cannot_be_are_refused_without_the_secret(
    options, text, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff" + SECRET.encode())
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("EMPTY", " \n")
    monkeypatch.setenv("LINES", f"{SECRET}\r\nX-Evil: 1")
    with pytest.raises(ConfigError, match=text) as caught:
        Client(HttpOptions(**{"url": "http://127.0.0.1:1", **options})).check()
    told = [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not any(SECRET in each for each in told)


@pytest.mark.parametrize("header", ["30", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_pause_that_was_asked_for_is_kept(header):
    busy = Answer(429, headers={"Retry-After": header})
    with OddServer(lambda _: busy) as odd:
        client = Client(HttpOptions(url=odd.url))
        with pytest.raises(ConnectionLost, match="answered 429"):
            client.settle(client.request())
        for _ in range(3):
            with pytest.raises(ConnectionLost, match="requested a pause"):
                client.request()
        assert len(odd.asked) == 1
        client.close()


@pytest.mark.parametrize("header", ["", "soon", "-5", "nan", "Wed, 21 Oct 1999 07:28:00 GMT"])
def test_a_pause_that_is_none_is_not_kept(header):
    with OddServer(lambda _: Answer(503, headers={"Retry-After": header})) as odd:
        client = Client(HttpOptions(url=odd.url))
        for _ in range(2):
            assert client.request().status == 503
        client.close()


@pytest.mark.tool("openssl")
def test_certificates_are_checked_and_a_ca_of_ones_own_can_be_trusted(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate), "-days", "2"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*make, "-nodes", *files, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with OddServer(lambda _: Answer(body=b"safe"), tls=context) as odd:
        with pytest.raises(ConnectionLost, match="certificate is not trusted"):
            Client(HttpOptions(url=odd.url)).request()
        client = Client(HttpOptions(url=odd.url, ca_file=str(certificate)))
        assert client.request().body == b"safe"
        assert client.request().body == b"safe"
        client.close()
