"""States as bytes: what goes in comes out, and nothing else is believed."""

import numpy as np
import pytest

from imdiffusion.errors import ModelError
from imdiffusion.saved_state import HEAD, State

FACTS = {"channels": ["a", "ü"], "period": None, "count": 2**40}
ARRAYS = {
    "rows": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(6.0).reshape(2, 3).T,  # not contiguous
    "none": np.empty((0, 5)),
    "one": np.array(7),
    "seen": np.array([True, False]),
    "times": np.array(["2026-11-24T00:00"], "datetime64[ns]"),
    "odd": np.array([np.nan, np.inf, -0.0]),
    "names": np.array(["x", "longer"]),
}
INNER = State("inner", {"at": 3}, {"rows": np.arange(5)}, version=2)
STATE = State("thing", FACTS, ARRAYS, {"first": INNER, "last": State("empty", parts={"x": INNER})})


def same(found, expected):
    assert (found.kind, found.version) == (expected.kind, expected.version)
    assert found.facts == expected.facts
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        one = found.arrays[name]
        assert (one.dtype, one.shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(one, array)
    assert found.parts.keys() == expected.parts.keys()
    for name, part in expected.parts.items():
        same(found.parts[name], part)


def test_what_goes_in_comes_out():
    found = State.from_bytes(STATE.to_bytes())
    same(found, STATE)
    assert found.nbytes == STATE.nbytes == sum(a.nbytes for a in ARRAYS.values()) + 2 * 40


def test_what_is_read_may_be_written_to_and_is_of_its_own():
    for state in (STATE, State.from_bytes(STATE.to_bytes())):
        rows = state.array("rows", np.float32, (3, 4))
        rows += 1
        assert rows.flags.owndata
        assert state.array("rows", np.float32)[0, 0] == 0


def test_damage_anywhere_is_seen():
    data = STATE.to_bytes()
    for at in range(0, len(data), 7):
        torn = bytearray(data)
        torn[at] ^= 0x10
        with pytest.raises(ModelError, match="cannot be read"):
            State.from_bytes(bytes(torn))
    for length in (0, 3, HEAD.size - 1, HEAD.size, len(data) // 2, len(data) - 1):
        with pytest.raises(ModelError, match="cannot be read"):
            State.from_bytes(data[:length])


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ModelError, match=r"of another version of imdiffusion \(imd2.* reads imd3"):
        State.from_bytes(b"imd2" + STATE.to_bytes()[4:])
    with pytest.raises(ModelError, match="'thing' in version 1, not of a 'part' in version 1"):
        STATE.check("part")
    with pytest.raises(ModelError, match="'inner' in version 2, not of a 'inner' in version 1"):
        STATE.part("first").check("inner")
    with pytest.raises(ModelError, match=r"of shape \(3, 4\), where the model has \(4, 3\)"):
        STATE.array("rows", np.float32, (4, 3))
    with pytest.raises(ModelError, match="of a thing has no 'gone'"):
        STATE.like({"gone": np.empty(3)})
    for read in (STATE.fact, STATE.part):
        with pytest.raises(ModelError, match="of a thing has no 'gone'"):
            read("gone")
    with pytest.raises(ModelError, match=r"array odd is of \|O"):
        State.from_bytes(State("thing", {}, {"odd": np.array([{}], object)}).to_bytes())
