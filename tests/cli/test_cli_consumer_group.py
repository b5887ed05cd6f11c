"""Two `imdiffusion serve` in one consumer group: one is killed, the other goes on for it."""

from __future__ import annotations

import json
import math
import signal
import time

import pytest
from kafka_cluster import QUICK, cluster, fresh, make, put
from live_far import DETECTOR, MINUTE, START, Said, circle, scores, wait_for

pytestmark = pytest.mark.slow

ENTITIES = 4  # one in each partition of the mock's topics
FIRST, MOST = 40, 400  # rows of an entity at first, and at most until the group is shared out
MORE = 20  # rows after the kill


def configure(folder, name, servers, topic, group):
    """A member `name` of `group`, with its state in FOLDER/GROUP/NAME."""
    path = folder / f"{name}.toml"
    path.write_text(
        f"""{DETECTOR}
[[source]]
type = "kafka"
servers = "{servers}"
topics = ["{topic}"]
group = "{group}"
properties = "{folder / "quick"}"

[state]
path = "{folder / group / name}"
peers = "{folder / group}"
scores = 1e5
events = 1e5

[stream]
interval = 60
every = 0.1
stale_after = 1e9

[fit]
enabled = false

[serve]
port = 0
"""
    )
    return path


def rows(first, last):
    """Rows of each entity in turn, so that each partition has its own."""
    values = [circle(MOST + MORE, seed=number) for number in range(ENTITIES)]
    return [
        (
            f"e{number}",
            json.dumps(
                {"timestamp": (START + row * MINUTE) // 10**9}
                | dict(zip("abcd", values[number][row].tolist(), strict=True))
            ).encode(),
        )
        for row in range(first, last)
        for number in range(ENTITIES)
    ]


def told(folder, members):
    """What each entity's rows were said to be: {(entity, time): [(score, state), ...]}."""
    found = {}
    for member in members:
        for number in range(ENTITIES):
            for one in scores(folder / member, f"e{number}"):
                said = ("nan" if math.isnan(one.score) else one.score, one.state)
                found.setdefault((one.entity, one.timestamp), []).append(said)
    return found


def all_told(folder, members, count):
    """Whether every entity has a score of each of so many rows."""
    return lambda: len(told(folder, members)) == ENTITIES * count


def shared_out(servers, topic, folder, members, process):
    """Feed rows till each member speaks of its half alone; how many were fed of an entity."""
    fed = 0
    for count in range(FIRST, MOST, 5):
        put(servers, topic, rows(fed, count))
        wait_for(all_told(folder, members, count), process)
        fed, newest = count, START + (count - 1) * MINUTE
        shares = [
            {entity for entity, time in told(folder, [member]) if time == newest}
            for member in members
        ]
        # Two rounds more, so that the first rows are committed: the heir has not read them.
        if count >= FIRST + 10 and all(len(share) == ENTITIES // 2 for share in shares):
            return fed
        time.sleep(0.5)
    raise AssertionError("the group was never shared out")


def test_a_killed_member_s_entities_go_on_in_the_other_where_they_were(start, tmp_path):
    (tmp_path / "quick").write_text(QUICK)
    with cluster() as servers:
        topic = fresh("fleet")
        make(servers, topic)

        def member(name, group):
            (tmp_path / group).mkdir(exist_ok=True)
            config = configure(tmp_path, name, servers, topic, group)
            process = start("-v", "serve", "--config", config)
            said = Said(process.stderr)
            wait_for(lambda: said.has("Serving on"), process)
            return process, said

        first, _ = member("a", "pair")
        second, said = member("b", "pair")
        alone, _ = member("alone", "single")
        pair = ("pair/a", "pair/b")
        count = shared_out(servers, topic, tmp_path, pair, second)
        newest = START + (count - 1) * MINUTE
        firsts = {entity for entity, time in told(tmp_path, ["pair/a"]) if time == newest}
        first.send_signal(signal.SIGKILL)
        put(servers, topic, rows(count, count + MORE))
        wait_for(all_told(tmp_path, pair, count + MORE), second)
        wait_for(all_told(tmp_path, ["single/alone"], count + MORE), alone)
        # Every row has a score, one; and it is what a single process says that saw all rows.
        ours, theirs = told(tmp_path, pair), told(tmp_path, ["single/alone"])
        assert {place: set(one) for place, one in ours.items()} == {
            place: set(one) for place, one in theirs.items()
        }
        later = START + count * MINUTE
        moved = [one for (e, time), one in ours.items() if e in firsts and time >= later]
        assert len(moved) == len(firsts) * MORE
        assert {state for one in moved for _, state in one} == {"ready"}
        assert said.has("continues from the state of", "pair/a")
        for process in (second, alone):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
