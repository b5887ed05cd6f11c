"""A batch on this machine: each entity by itself, once, whatever breaks or dies."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from batch_parts import TINY, left, services, statuses, table

from imdiffusion import ImDiffusion, batch
from imdiffusion.batch.folder import OutputFolder
from imdiffusion.errors import ConfigError, DataError, OutputError, UsageError

pytestmark = pytest.mark.slow


def test_an_entity_s_model_and_scores_are_those_of_the_detector(data, fitted, tmp_path):
    found = batch.detect(data, fitted, tmp_path / "out", jobs=1, threads=1)
    assert not found.failed
    assert found.total("rows") == 3 * 160
    frame = pd.read_parquet(data / "e1.parquet")
    model = ImDiffusion.load(fitted / "e1")
    assert model.entities_ == ("e1",)
    scores = pd.read_parquet(tmp_path / "out" / "e1" / "scores.parquet")
    assert scores["score"].to_numpy().tobytes() == model.decision_function(frame).tobytes()
    assert list(scores) == ["entity", "timestamp", "score", "alarm"]
    assert (tmp_path / "out" / "e1" / "events.parquet").is_file()


def test_a_broken_entity_is_named_and_leaves_every_other_s_bits(data, fitted, tmp_path):
    mixed = services(tmp_path / "in", 3)
    (mixed / "cut.parquet").write_bytes((data / "e0.parquet").read_bytes()[:900])
    table().assign(cpu=np.nan, disk=np.nan, net=np.nan).to_csv(mixed / "nan.csv", index=False)
    table(8).to_csv(mixed / "short.csv", index=False)
    (mixed / "notes.txt").write_text("")
    found = batch.fit(mixed, tmp_path / "models", jobs=1, threads=1, **TINY)
    assert found.failed.keys() == {"cut", "nan", "short"}
    assert "truncated" in found.failed["cut"]
    assert found.passed == {"notes.txt": "not a file of a known form"}
    assert found.exit_code == 3
    assert left(tmp_path / "models") == left(fitted)
    written = json.loads((tmp_path / "models" / "batch.json").read_text())
    assert (written["done"], written["found"], written["failed"]) == (3, 0, 3)
    assert written["failures"] == found.failed
    # Scoring: an entity with other channels, and one that has no model.
    table().rename(columns={"cpu": "gpu"}).to_parquet(mixed / "e1.parquet", index=False)
    scored = batch.detect(mixed, tmp_path / "models", tmp_path / "mixed", jobs=1, threads=1)
    assert scored.failed.keys() == {"cut", "e1", "nan", "short"}
    assert "'gpu'" in scored.failed["e1"]
    assert "no model" in scored.failed["nan"]
    batch.detect(data, fitted, tmp_path / "whole", jobs=1, threads=1)
    others = {name: bits for name, bits in left(tmp_path / "whole").items() if "e1" not in name}
    assert left(tmp_path / "mixed") == others


def test_what_is_whole_is_not_done_again_and_what_changed_is(tmp_path):
    data, out = services(tmp_path / "in", 3), tmp_path / "models"
    batch.fit(data, out, jobs=1, threads=1, **TINY)
    before = {name: (out / name / "manifest.json").stat().st_ino for name in ("e0", "e1", "e2")}
    again = batch.fit(data, out, jobs=1, threads=1, **TINY)
    assert set(statuses(again).values()) == {"found"}
    assert before == {name: (out / name / "manifest.json").stat().st_ino for name in before}
    table(seed=9).to_parquet(data / "e0.parquet", index=False)
    weights = out / "e1" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (data / "e2.parquet").unlink()
    table(seed=7).to_csv(data / "e3.csv", index=False)
    changed = batch.fit(data, out, jobs=1, threads=1, **TINY)
    assert statuses(changed) == {"e0": "done", "e1": "done", "e3": "done"}
    assert changed.unused == ["e2"]
    assert set(
        statuses(batch.fit(data, out, jobs=1, threads=1, **{**TINY, "smooth": (3,)})).values()
    ) == {"done"}


def test_a_number_of_threads_that_is_asked_for_is_kept(data, fitted, tmp_path):
    def call(threads: int | None) -> dict[str, str]:
        return statuses(batch.detect(data, fitted, tmp_path, jobs=1, threads=threads))

    assert set(call(1).values()) == {"done"}
    receipts = list((tmp_path / ".batch" / "receipts").iterdir())
    assert {json.loads(path.read_text())["threads"] for path in receipts} == {1}
    assert json.loads((tmp_path / "batch.json").read_text())["threads"] == 1
    assert set(call(1).values()) == {"found"}
    assert set(call(None).values()) == {"found"}  # no number is as good as any
    assert set(call(2).values()) == {"done"}
    # Receipts that do not say it are of an unknown number.
    facts = json.loads(receipts[0].read_text())
    assert facts.pop("threads") == 2
    receipts[0].write_text(json.dumps(facts))
    assert set(call(None).values()) == {"found"}
    assert sorted(call(2).values()) == ["done", "found", "found"]


def test_files_of_several_entities_are_split(data, fitted, tmp_path):
    parts = [pd.read_parquet(data / f"e{n}.parquet").assign(entity=f"e{n}") for n in range(3)]
    pd.concat(parts).to_parquet(tmp_path / "all.parquet", index=False)
    found = batch.fit(tmp_path / "all.parquet", tmp_path / "models", jobs=1, threads=1, **TINY)
    assert not found.failed
    assert left(tmp_path / "models") == left(fitted)
    assert not (tmp_path / "models" / ".batch" / "parts").exists()
    again = batch.fit(tmp_path / "all.parquet", tmp_path / "models", jobs=1, threads=1, **TINY)
    assert set(statuses(again).values()) == {"found"}


def test_one_model_folder_scores_all(data, tmp_path):
    frames = {f"e{n}": pd.read_parquet(data / f"e{n}.parquet") for n in range(3)}
    ImDiffusion(**TINY).fit(frames).save(tmp_path / "one")
    found = batch.detect(data, tmp_path / "one", tmp_path / "out", jobs=1, threads=1)
    assert set(statuses(found).values()) == {"done"}


def test_two_calls_do_not_write_to_one_folder(data, tmp_path):
    with OutputFolder(tmp_path / "out").lock(), pytest.raises(UsageError, match="another call"):
        batch.fit(data, tmp_path / "out", jobs=1, threads=1, **TINY)


def test_scores_do_not_go_among_models(data, fitted, tmp_path):
    before = left(fitted), (fitted / "batch.json").read_bytes()
    with pytest.raises(UsageError, match="into the models"):
        batch.detect(data, fitted, fitted, jobs=1, threads=1)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(OutputError, match="it holds what 'fit' made"):
        batch.detect(data, other, fitted, jobs=1, threads=1)
    assert (left(fitted), (fitted / "batch.json").read_bytes()) == before


def test_what_cannot_work_is_refused_before_the_work(data, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(OutputError, match="other things"):
        batch.fit(data, tmp_path / "full", **TINY)
    with pytest.raises(ConfigError, match="'window'"):
        batch.fit(data, tmp_path / "out", windw=5)
    with pytest.raises(ConfigError, match="unknown backend"):
        batch.fit(data, tmp_path / "out", backend="rey", **TINY)
    with pytest.raises(UsageError, match="jobs = 0"):
        batch.fit(data, tmp_path / "out", jobs=0, **TINY)
    with pytest.raises(UsageError, match="gpus = nan"):
        batch.fit(data, tmp_path / "out", gpus=float("nan"), **TINY)
    with pytest.raises(UsageError, match="'ray://' names no host"):
        batch.fit(data, tmp_path / "out", backend="ray://", **TINY)
    with pytest.raises(DataError, match="no folder"):
        batch.fit(tmp_path / "absent", tmp_path / "out", **TINY)
    assert not (tmp_path / "out").exists()
