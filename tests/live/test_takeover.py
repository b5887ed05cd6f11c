"""What another process of a group left of an entity: the newest is taken, damage passed over."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.retention import PeerStates
from imdiffusion.saved_state import State


def leave(folder: Path, entity: str, state: State, *, now: int) -> None:
    """A process whose last checkpoint says this of an entity."""
    folder.mkdir(exist_ok=True)
    with closing(Store(folder / "live.db")) as store:
        store.write(Checkpoint(states={(entity, "scorer"): state}), now=now)


def test_the_newest_of_the_others_is_found(tmp_path, caplog):
    leave(tmp_path / "a", "web", State("old"), now=10)
    leave(tmp_path / "b", "web", State("new"), now=20)
    leave(tmp_path / "c", "web", State("own"), now=30)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "live.db").write_bytes(b"no database" * 100)
    peers = PeerStates(tmp_path, own=tmp_path / "c")
    found = peers.of("web")
    assert found is not None
    assert (found.states, found.recorded) == ({"scorer": State("new").to_bytes()}, 20)
    assert found.folder == tmp_path / "b"
    assert str(tmp_path / "d") in caplog.text
    assert peers.of("api") is None
    assert PeerStates(tmp_path / "absent", own=tmp_path).of("web") is None


@pytest.mark.parametrize(("recorded", "taken"), [(10, False), (15, False), (16, True)])
def test_what_is_as_new_here_is_kept(tmp_path, recorded, taken):
    with closing(Store(tmp_path / "live.db")) as store:
        states = {("web", "scorer"): State("mine"), ("web", "tracker"): State("mine")}
        store.write(Checkpoint(states=states), now=15)
        theirs = {"scorer": State("theirs").to_bytes()}
        assert store.adopt("web", theirs, recorded=recorded) is taken
        assert store.state("web", "scorer") == State("theirs" if taken else "mine")
        assert store.state("web", "tracker") == (None if taken else State("mine"))
        assert store.adopt("api", theirs, recorded=1)
