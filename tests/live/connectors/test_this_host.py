"""This host as a source of batches."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

from imdiffusion.errors import ConfigError
from imdiffusion.live.sources.host import HostSource, ThisHost


def test_rows_of_this_host_come_on_schedule():
    with ThisHost(interval=0.05) as source:
        source.open("1700000000000000000")
        assert source.read(0.0) is None  # the first is not due yet
        batches = [source.read(5.0) for _ in range(4)]
    stamps = [int(batch.offset) for batch in batches]
    assert stamps == sorted(set(stamps))
    for batch in batches:
        (frame,) = batch.frames
        assert frame.entity == socket.gethostname()
        assert frame.channels == HostSource(0.05).channels
        assert frame.timestamps.astype(int).tolist() == [int(batch.offset)]
        assert (frame.observed == ~np.isnan(frame.values)).all()
        assert frame.observed.any()


def test_samples_that_nobody_read_in_time_are_told():
    source = ThisHost(interval=0.02, name="me")
    source.open(None)
    source.read(5.0)
    time.sleep(0.1)
    batch = source.read(0.0)
    assert batch.frames[0].entity == "me"
    assert batch.rejected[0].startswith("me: ")
    assert batch.rejected[0].endswith(" samples missed, nothing read them")
    source.close()
    source.close()


def test_a_bad_interval_is_refused():
    with pytest.raises(ConfigError, match="interval is -1"):
        ThisHost(interval=-1)
