"""Two `imdiffusion serve` in one consumer group: one is killed, the other goes on for it."""

from __future__ import annotations

import json
import math
import signal

from kafka_cluster import QUICK, cluster, fresh, make, put
from live_far import DETECTOR, MINUTE, START, Said, circle, scores, wait_for

ENTITIES = 4  # one in each partition of the mock's topics
ROWS, MORE = 40, 20


def configure(folder, name, servers, topic, group):
    """A member `name` of `group`, with its state in FOLDER/GROUP/NAME."""
    path = folder / f"{name}.toml"
    path.write_text(
        f"""{DETECTOR}
[[source]]
type = "kafka"
servers = "{servers}"
topic = "{topic}"
group = "{group}"
properties = "{folder / "quick"}"

[state]
path = "{folder / group / name}"
peers = "{folder / group}"
scores = 1e5
events = 1e5

[stream]
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
    values = [circle(ROWS + MORE, seed=number) for number in range(ENTITIES)]
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

        def all_told(members, count):
            return lambda: len(told(tmp_path, members)) == ENTITIES * count

        first, _ = member("a", "pair")
        second, said = member("b", "pair")
        alone, _ = member("alone", "single")
        pair = ("pair/a", "pair/b")
        put(servers, topic, rows(0, ROWS))
        wait_for(all_told(pair, ROWS), second)
        firsts = {entity for entity, _ in told(tmp_path, ["pair/a"])}
        assert firsts, "the first member has no share"
        first.send_signal(signal.SIGKILL)
        put(servers, topic, rows(ROWS, ROWS + MORE))
        wait_for(all_told(pair, ROWS + MORE), second)
        wait_for(all_told(["single/alone"], ROWS + MORE), alone)
        # Every row has a score, one; and it is what a single process says that saw all rows.
        ours, theirs = told(tmp_path, pair), told(tmp_path, ["single/alone"])
        assert {place: set(one) for place, one in ours.items()} == {
            place: set(one) for place, one in theirs.items()
        }
        later = START + ROWS * MINUTE
        moved = [one for (e, time), one in ours.items() if e in firsts and time >= later]
        assert len(moved) == len(firsts) * MORE
        assert {state for one in moved for _, state in one} == {"ready"}
        assert said.has("goes on where", "pair/a")
        for process in (second, alone):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
