"""`imdiffusion fit --set scope=shared` and `enroll`: who joins, who is left out, what stays"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import TINY, ended, series

from imdiffusion import ImDiffusion
from imdiffusion.cli import main

FLEET = [*TINY, "--set", "scope=shared"]


def files(folder: Path, **rows: int) -> list[Path]:
    """A file a name with so many rows, each of another seed."""
    folder.mkdir(exist_ok=True)
    for number, (name, count) in enumerate(rows.items()):
        series(count, seed=len(name) + number).to_csv(folder / f"{name}.csv", index=False)
    return [folder / f"{name}.csv" for name in rows]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A fleet of web and api; nobody writes into it."""
    folder = tmp_path_factory.mktemp("fleet")
    train = files(folder / "train", web=200, api=200)
    with pytest.raises(SystemExit) as end:
        main(["--quiet", "fit", *map(str, train), "--model", str(folder / "m"), *FLEET])
    assert not end.value.code
    return folder / "m"


@pytest.fixture
def mine(fleet: Path, tmp_path: Path) -> Path:
    """A copy of the fleet that a test may change."""
    return Path(shutil.copytree(fleet, tmp_path / "mine"))


def bits(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_entities_join_a_fleet_and_nobody_else_moves(call, fleet, mine, tmp_path):
    new, again = files(tmp_path / "data", disk=150, web=90)
    before = ImDiffusion.load(fleet)
    done = call("enroll", new, again, "--model", mine, "--json")
    assert done.code == 0, done
    assert json.loads(done.out) == {
        "model": str(mine),
        "enrolled": ["disk"],
        "calibrated_anew": ["web"],
        "failures": {},
        "entities": 3,
    }
    assert "1 enrolled, 1 calibrated again; now 3 entities, 4 channels." in done.err
    after = ImDiffusion.load(mine)
    assert after.entities_ == ("web", "api", "disk")
    rows = {"api": series(100, seed=9)}
    assert np.array_equal(*(one.decision_function(rows)["api"] for one in (before, after)))
    expected = before.enroll({"disk": pd.read_csv(new, parse_dates=["timestamp"])})
    later = {"disk": series(100, seed=8)}
    assert np.array_equal(*(one.decision_function(later)["disk"] for one in (expected, after)))
    scored = call("detect", new, "--model", mine, "--json")
    assert scored.code == 0
    assert "new to this shared model" not in scored.err


def test_out_leaves_the_model_as_it_is(call, fleet, tmp_path):
    before = bits(fleet)
    (new,) = files(tmp_path / "data", disk=150)
    done = call("enroll", new, "--model", fleet, "--out", tmp_path / "larger")
    assert done.code == 0, done
    assert done.out == ""
    assert bits(fleet) == before
    assert ImDiffusion.load(tmp_path / "larger").entities_ == ("web", "api", "disk")


def test_an_entity_column_and_a_span(call, mine, tmp_path):
    table = pd.concat([series(150, seed=n).assign(host=f"h{n}") for n in range(2)])
    table.to_parquet(tmp_path / "all.parquet", index=False)
    words = ("--entity-column", "host", "--exclude", "0..30", "--model", mine)
    done = call("enroll", tmp_path / "all.parquet", *words)
    assert done.code == 0, done
    assert ImDiffusion.load(mine).entities_ == ("web", "api", "h0", "h1")


def test_who_cannot_join_is_told_and_the_others_do(call, mine, tmp_path):
    good, short = files(tmp_path / "data", disk=150, short=15)
    (tmp_path / "empty.csv").write_text("")
    other = series(150).rename(columns={"cpu": "gpu"})
    other.to_csv(tmp_path / "other.csv", index=False)
    three = (tmp_path / "empty.csv", short, tmp_path / "other.csv")
    done = call("enroll", good, *three, "--model", mine, "--json")
    assert done.code == 3
    told = json.loads(done.out)
    assert told["enrolled"] == ["disk"]
    assert told["failures"].keys() == {str(tmp_path / "empty.csv"), "short", "other"}
    assert "has 'gpu' and lacks 'cpu'" in told["failures"]["other"]
    assert done.err.splitlines()[-1] == "error: 3 of 4 entities failed, see above."
    assert "fewer than a window" in done.err
    before = bits(mine)
    nobody = call("enroll", *three, "--model", mine)
    assert nobody.code == 3
    assert "none of the 2 entities can be enrolled" in nobody.err
    assert bits(mine) == before


def test_a_fit_of_a_fleet_goes_on_without_who_cannot_be_fitted(call, fleet, tmp_path):
    good = files(tmp_path / "data", web=200, api=200)
    nan = series(200).assign(cpu=np.nan, memory=np.nan, disk=np.nan, net=np.nan)
    nan.to_csv(tmp_path / "nan.csv", index=False)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    bad = (tmp_path / "nan.csv", tmp_path / "cut.parquet")
    done = call("fit", bad[0], *good, bad[1], "--model", tmp_path / "m", *FLEET)
    assert done.code == 3
    assert f"warning: {bad[1]} is left out: " in done.err
    assert "warning: entity 'nan' is left out and not fitted: no value" in done.err
    assert done.err.splitlines()[-1] == "error: 2 of 4 entities failed, see above."
    weights = [bits(folder)["weights.safetensors"] for folder in (fleet, tmp_path / "m")]
    assert weights[0] == weights[1]
    nobody = call("fit", *bad, "--model", tmp_path / "none", *FLEET)
    assert nobody.code == 3
    assert "no value of entity 'nan'" in nobody.err
    assert not (tmp_path / "none").exists()


def test_what_enroll_refuses(call, model, fleet, mine, data, tmp_path):
    (new,) = files(tmp_path / "data", disk=150)
    alone = call("enroll", new, "--model", model)
    assert alone.code == 4
    assert "is no shared model" in alone.err
    assert "scope=shared" in alone.err
    absent = call("enroll", new, "--model", tmp_path / "absent")
    assert absent.code == 4
    assert "no model folder" in absent.err
    other = call("enroll", new, "--model", fleet, "--out", tmp_path / "data")
    assert other.code == 3
    assert "holds other files" in other.err
    before = bits(mine)
    held = os.open(mine, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    second = call("enroll", new, "--model", mine)
    os.close(held)
    assert second.code == 2
    assert "another call adds to" in second.err
    assert bits(mine) == before


@pytest.mark.slow
def test_a_killed_enroll_leaves_the_model_whole(start, call, mine, tmp_path):
    (new,) = files(tmp_path / "data", disk=150)
    before = bits(mine)
    # At the last moment: the draft is written, and not yet in its place.
    kill = "import os, imdiffusion.data.atomic as a; a._swap = lambda *_: os.kill(os.getpid(), 9)"
    process = start("enroll", new, "--model", mine, before=kill)
    assert ended(process).code == -9
    assert bits(mine) == before
    assert call("enroll", new, "--model", mine).code == 0
    assert ImDiffusion.load(mine).entities_ == ("web", "api", "disk")
