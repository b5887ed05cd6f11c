"""The states of live parts as bytes: what goes in comes out, and nothing else is believed."""

import io
import json

import numpy as np
import pytest

from imdiffusion.errors import ModelError
from imdiffusion.live.store.state_codec import HEAD, pack, unpack

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


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array)


def test_what_goes_in_comes_out_and_may_be_written_to():
    facts, arrays = unpack("thing", pack("thing", FACTS, ARRAYS))
    assert facts == {"kind": "thing", "format": 1, **FACTS}
    same(arrays, ARRAYS)
    assert all(array.flags.writeable and array.flags.owndata for array in arrays.values())


def test_an_archive_of_an_older_version_is_read():
    file = io.BytesIO()
    text = json.dumps({"kind": "thing", "format": 1, **FACTS}).encode()
    np.savez(file, facts=np.frombuffer(text, np.uint8), **ARRAYS)
    facts, arrays = unpack("thing", file.getvalue())
    assert facts["channels"] == FACTS["channels"]
    same(arrays, ARRAYS)


def test_damage_anywhere_is_seen():
    state = pack("thing", FACTS, ARRAYS)
    for at in range(0, len(state), 7):
        torn = bytearray(state)
        torn[at] ^= 0x10
        with pytest.raises(ModelError, match="cannot be read"):
            unpack("thing", bytes(torn))
    for length in (0, 3, HEAD.size - 1, HEAD.size, len(state) // 2, len(state) - 1):
        with pytest.raises(ModelError, match="cannot be read"):
            unpack("thing", state[:length])


def test_another_kind_a_newer_format_and_objects_are_refused():
    with pytest.raises(ModelError, match="of a 'thing' in format 1, not of a 'part'"):
        unpack("part", pack("thing", {}, {}))
    with pytest.raises(ModelError, match="in format 9"):
        unpack("thing", pack("thing", {"format": 9}, {}))
    with pytest.raises(ModelError, match=r"array odd is of \|O"):
        unpack("thing", pack("thing", {}, {"odd": np.array([{}], object)}))
