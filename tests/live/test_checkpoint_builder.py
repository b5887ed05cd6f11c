"""States of entities for a checkpoint: all of them, and never all of them at once"""

from live_parts import ZScorer

from imdiffusion.live.engine.entity_state import CheckpointBuilder, EntityState
from imdiffusion.live.events.open_event import EventRules


class Counting(ZScorer):
    """A scorer that counts how many states were made of it."""

    made = 0

    def to_state(self):
        Counting.made += 1
        return super().to_state()


def test_states_are_made_one_after_the_other_as_they_are_written():
    watched, pending = {}, CheckpointBuilder()
    for name in ("web", "db", "cache"):
        watched[name] = EntityState(name, EventRules(), offline=False, now=0.0)
        watched[name].speak(Counting(name))
    for name in ("db", "web"):
        pending.changed(name)
    states = pending.checkpoint(watched).states
    Counting.made = 0
    each = iter(states.items())
    assert [next(each)[0], next(each)[0]] == [("db", "tracker"), ("db", "scorer")]
    assert Counting.made == 1
    assert [key for key, _ in each] == [("web", "tracker"), ("web", "scorer")]
    assert Counting.made == 2
    expected = {**watched["db"].to_states(), **watched["web"].to_states()}
    assert {key: one.to_bytes() for key, one in states.items()} == {
        key: one.to_bytes() for key, one in expected.items()
    }
    assert len(states) == len(list(states)) == 4
