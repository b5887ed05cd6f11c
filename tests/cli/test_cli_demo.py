"""`imdiffusion demo`: the whole job on the bundled recording, with a network of no size."""

from __future__ import annotations

import re

from tiny import TINY

from imdiffusion.data.files import recording


def test_the_recording_is_whole():
    real = recording()
    assert len(real.train.values) > 5_000
    assert real.train.channels == real.test.channels
    assert 25 <= len(real.train.channels) <= 45
    assert len(real.faults) >= 8
    assert len({fault.kind for fault in real.faults}) >= 5
    for fault in real.faults:
        assert real.test.timestamps[0] <= fault.start < fault.end <= real.test.timestamps[-1]
        assert set(fault.channels) <= set(real.test.channels)


def test_demo(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("demo", *TINY, "--set", "window=40", "--set", "stride=30")
    assert done.code == 0, done
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    faults = recording().faults
    for fault in faults:
        assert fault.kind in done.out
    found, total = re.search(r"Faults found: (\d+) of (\d+)", done.out).groups()
    assert int(total) == len(faults)
    assert int(found) == len(re.findall(r"  (?:after \d.*|at once)  ", done.out))
    assert "Training on" in done.err
    page = (tmp_path / "report.html").read_text()
    assert faults[0].kind in page
