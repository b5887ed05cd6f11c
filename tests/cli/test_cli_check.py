"""`imdiffusion config check`: what a live configuration names is looked at, nothing is touched."""

from __future__ import annotations

import socket

import pytest
from kafka_cluster import cluster, fresh, make, put, stored

KAFKA = '[[{table}]]\nid = "{id}"\ntype = "kafka"\nservers = "{servers}"\n{topic}\n'


@pytest.fixture(scope="module")
def servers():
    with cluster() as address:
        yield address


def nobody() -> str:
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def named(table, topic):
    return f'topics = ["{topic}"]' if table == "source" else f'topic = "{topic}"'


def checked(call, tmp_path, monkeypatch, text):
    monkeypatch.setattr("imdiffusion.cli.config.SECONDS", 5.0)
    file = tmp_path / "live.toml"
    file.write_text(text)
    done = call("config", "check", file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live.toml"]
    return done


def test_topics_that_are_there_and_are_not(call, tmp_path, monkeypatch, servers):
    there, absent = fresh("check"), fresh("check")
    make(servers, there)
    put(servers, there, [("web", b'{"timestamp": 1700000000, "cpu": 1}')])
    text = "".join(
        KAFKA.format(table=table, id=name, servers=servers, topic=named(table, topic))
        for table, name, topic in (
            ("source", "rows", there),
            ("source", "lost", absent),
            ("sink", "told", there),
        )
    )
    done = checked(call, tmp_path, monkeypatch, text)
    assert done.code == 0
    assert f"source rows: {servers} answers; topic '{there}' has 4 partitions" in done.out
    assert f"sink told: {servers} answers; topic '{there}' has 4 partitions" in done.out
    assert f"source lost: Kafka at {servers} has no topic '{absent}'" in done.err
    assert "is right: 2 sources (rows, lost); 1 sink, told; " in done.out
    assert "not there right now, which it waits for: lost" in done.out
    assert len(stored(servers, there)) == 1


def test_far_sides_that_are_away_are_said_and_are_no_mistake(call, tmp_path, monkeypatch):
    away = nobody()
    text = KAFKA.format(table="source", id="rows", servers=away, topic=named("source", "t"))
    text += f'[[sink]]\ntype = "webhook"\nurl = "http://{away}/"\n'
    done = checked(call, tmp_path, monkeypatch, text)
    assert done.code == 0
    assert f"source rows: Kafka at {away}" in done.err
    assert "sink webhook: " in done.err
    assert "which it waits for: rows, webhook" in done.out


def test_what_no_waiting_mends_is_refused(call, tmp_path, monkeypatch):
    text = KAFKA.format(table="source", id="rows", servers=nobody(), topic=named("source", "t"))
    text += 'properties = "/no/such/file"\n'
    text += '[[sink]]\ntype = "webhook"\nurl_env = "NO_SUCH_VARIABLE"\n'
    done = checked(call, tmp_path, monkeypatch, text)
    assert done.code == 4
    assert "source rows: /no/such/file cannot be read" in done.err
    assert "sink webhook: " in done.err
    assert "NO_SUCH_VARIABLE" in done.err
    assert "is right" not in done.out


def test_other_sources_are_looked_at_until_the_first_rows(call, tmp_path, monkeypatch):
    done = checked(
        call, tmp_path, monkeypatch, '[[source]]\ntype = "host"\n\n[[source]]\ntype = "stdin"\n'
    )
    assert done.code == 0
    assert "channels)" in done.out.partition("source host: ")[2].partition("\n")[0]
    assert "source stdin: JSON lines from descriptor 0; here it is " in done.out
    assert "nothing was read" in done.out


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        ('host = "0.0.0.0"', "anyone who reaches 0.0.0.0 could read without a token"),
        ('read_token_file = "absent"', "absent"),
        ('tls_certificate = "a.pem"\ntls_key = "b.pem"', "there is no file a.pem"),
    ],
)
def test_a_service_that_would_not_open_is_refused(call, tmp_path, monkeypatch, serve, said):
    text = f'[[source]]\ntype = "host"\n[serve]\n{serve}\n'
    done = checked(call, tmp_path, monkeypatch, text)
    assert done.code == 4
    assert "live.toml: [serve]: " in done.err
    assert said in done.err
    assert "is right" not in done.out
    rehearsed = call("serve", "--config", tmp_path / "live.toml", "--dry-run", "--seconds", "1")
    assert rehearsed.code == 4
    assert said in rehearsed.err


def test_a_folder_that_takes_no_file_is_said_whoever_asks(call, tmp_path, monkeypatch):
    sink = '[[sink]]\nid = "kept"\ntype = "files"\npath = "/proc/events.jsonl"\n'
    done = checked(call, tmp_path, monkeypatch, f'[[source]]\ntype = "host"\n{sink}')
    assert "sink kept: /proc cannot be written to: " in done.err
