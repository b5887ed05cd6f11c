"""Models that the configuration names: taken in, shared, refused when torn; the documented way."""

from __future__ import annotations

import re
import shutil
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fit_parts import START, circle, configuration, frame

from imdiffusion.cli import main
from imdiffusion.errors import ConvergenceWarning, ModelError
from imdiffusion.live.config.errors import ProblemsError
from imdiffusion.live.config.parser import parse, read_configuration
from imdiffusion.live.detection import Detection
from imdiffusion.live.dry_run import rehearse
from imdiffusion.live.models.pinned import NAMED, Places, copied
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader

FAR = 2**62
DOCUMENT = Path(__file__).parents[2] / "docs" / "live.md"


def fitted(seed):
    from imdiffusion import ImDiffusion

    keywords = {**configuration(steps=10).keywords, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**keywords).fit(replace(frame(circle(300)), entity=None))


@pytest.fixture(scope="module")
def detectors():
    return fitted(0), fitted(1)


def version(detector):
    entity = detector.entity()
    return EntityScorer(entity).model


def named(folder, more=""):
    made = configuration(more=f'[[model]]\nfolder = "{folder}"\nentities = "web*"\n{more}')
    return replace(made, stream=replace(made.stream, interval=60.0))


@contextmanager
def speaking(tmp_path, made):
    """ModelRouter over the live state of a folder."""
    places = Places(tmp_path / "state")
    places.make()
    with Store(places.live) as store:
        router = ModelRouter(store, places, made)
        yield router
        router.close()


def tear(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-40])


def test_many_entities_share_one_model_and_others_have_none(tmp_path, detectors):
    folder = tmp_path / "model"
    detectors[0].save(folder)
    with speaking(tmp_path, named(folder)) as router:
        rows = frame(circle(30))
        one, two, other = (
            router.scorer_for(replace(rows, entity=name)) for name in ("web-1", "web-2", "db")
        )
        assert one.model == two.model == version(detectors[0])
        assert one._scorer.entity is two._scorer.entity
        assert other.detector == "mahalanobis"
        assert list(router.to_fit()) == ["db"]
        arrived = [row for row in one.push(rows) if row.mode == "online"]
        assert [row.state for row in arrived] == ["warming"] * 19 + ["ready"] * 11
        assert router.follow(None) == []
    with Reader(tmp_path / "state" / "live.db") as reader:
        assert reader.promotions("web-1") == [(one.model, NAMED)]
        assert len(list((tmp_path / "state" / "models" / "given").iterdir())) == 1


def test_a_torn_folder_is_refused_and_the_last_good_one_serves(tmp_path, detectors, caplog):
    folder = tmp_path / "model"
    rows = replace(frame(circle(3)), entity="web")
    detectors[0].save(folder)
    with speaking(tmp_path, named(folder)) as router:
        assert router.scorer_for(rows).model == version(detectors[0])
    tear(folder)
    with speaking(tmp_path, named(folder)) as router:
        assert router.scorer_for(rows).model == version(detectors[0])
        assert "is refused" in caplog.text
        assert router._reader.counters()["models_refused", "web"] == 1
        assert router.scorer_for(replace(rows, entity="web-2")).detector == "mahalanobis"
        assert router._reader.counters()["models_refused", "web-2"] == 1
    shutil.rmtree(folder)
    detectors[1].save(folder)
    with speaking(tmp_path, named(folder)) as router:
        assert router.scorer_for(rows).model == version(detectors[1])
        router.store.roll_back("web", reason="by hand", now=time.time_ns())
    with speaking(tmp_path, named(folder)) as router:  # a person's word stands
        assert router.scorer_for(rows).model == version(detectors[0])
    detectors[0].save(folder)
    with speaking(tmp_path, named(folder)) as router:
        assert router.scorer_for(rows).model == version(detectors[0])
        assert [why for _, why in router._reader.promotions("web")] == [
            NAMED,
            "by hand",
            NAMED,
            NAMED,
        ]


def test_a_copy_that_was_altered_is_not_trusted(tmp_path, detectors):
    detectors[0].save(tmp_path / "model")
    place = tmp_path / "given"
    path = copied(tmp_path / "model", place)
    assert copied(tmp_path / "model", place) == path
    tear(path)
    with pytest.raises(ModelError):
        copied(tmp_path / "model", place)
    tear(tmp_path / "model")
    with pytest.raises(ModelError):
        copied(tmp_path / "model", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_which_entity_of_a_folder_is_meant(tmp_path, detectors):
    from imdiffusion import ImDiffusion

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        many = ImDiffusion(**configuration(steps=10).keywords).fit(
            {name: frame(circle(300)) for name in ("web-1", "web-2")}
        )
    many.save(tmp_path / "many")
    rows = frame(circle(3))
    with speaking(tmp_path, named(tmp_path / "many")) as router:
        found = [router.scorer_for(replace(rows, entity=f"web-{n}")).model for n in (1, 2, 3)]
        assert len({*found}) == 3
        assert router._active["web-3"].detector == "mahalanobis"
    with speaking(tmp_path, named(tmp_path / "many", 'of = "web-2"')) as router:
        assert router.scorer_for(replace(rows, entity="web-3")).model == found[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[model]]\n", "the folder is missing"),
        ("[[model]]\nfolder = 3\n", "is not text"),
        ('[[model]]\nfolder = "m"\nentity = "web"\n', "entities"),
        ('[[model]]\nfolder = "m"\nsource = "hots"\n', "host"),
        ('[model]\nfolder = "m"\n', "Write [[model]]"),
    ],
)
def test_what_is_wrong_is_said(text, told):
    with pytest.raises(ProblemsError) as error:
        parse('[[source]]\ntype = "host"\n' + text)
    assert told in "".join(map(str, error.value.problems))


def test_of_several_the_first_counts_and_only_for_its_source():
    text = '[[source]]\ntype = "host"\n' + "".join(
        f'[[model]]\nfolder = "{folder}"\n{more}\n'
        for folder, more in [("a", 'source = "host"\nentities = "w?b"'), ("b", ""), ("c", "")]
    )
    made = parse(text)
    assert made.model_for("web", "host").folder == "a"
    assert made.model_for("web", "http").folder == "b"
    assert made.model_for("db", "host").folder == "b"


# -- as documented


SETTINGS = [
    word
    for pair in (
        "window=20", "patch_length=5", "width=8", "heads=2", "layers=1", "feedforward=8",
        "step_embedding=8", "diffusion_steps=8", "sampling_steps=3", "ensemble_steps=2",
        "max_steps=10", "validate_every=10", "smooth=3", "detrend=0",
    )
    for word in ("--set", pair)
]  # fmt: skip


def table(first, rows, names=("a", "b", "c", "d")):
    times = START // 10**9 + 60 * np.arange(first, first + rows)
    cells = dict(zip(names, circle(600)[first : first + rows].T, strict=True))
    return pd.DataFrame({"timestamp": times, **cells})


def documented():
    section = DOCUMENT.read_text().partition("## A model that was fitted before")[2]
    blocks = re.findall(r"<!-- tested -->\n\n```(\w+)\n(.*?)```", section, re.DOTALL)
    return dict(blocks[:2])


def called(words):
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0


def test_the_documented_way_from_a_file_to_scores(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("imdiffusion.cli.config.SECONDS", 0.2)
    blocks = documented()
    Path("imdiffusion.toml").write_text(blocks["toml"])
    Path("metrics").mkdir()
    table(0, 400).to_csv("train.csv", index=False)
    table(400, 40).to_csv("metrics/web-1.csv", index=False)
    table(400, 40, ("a", "b", "c", "x")).to_csv("metrics/web-2.csv", index=False)
    fit, check = (line.split()[1:] for line in blocks["sh"].splitlines())
    assert called([*fit, *SETTINGS]) == 0
    capfd.readouterr()
    assert called(check) == 0
    out = capfd.readouterr().out
    assert "web-model is whole; channels: a, b, c, d" in out
    assert "web-1 has 4 of its 4 channels" in out
    assert "web-2 has 3 of its 4 channels, not d, and others: x" in out
    assert "1 model" in out
    made = read_configuration(Path("imdiffusion.toml"))
    found = {one.kind: one for one in rehearse(made, Places(Path("state")), seconds=0.2)}
    assert found["model"].reached
    assert "web-1 has 4 of its 4 channels" in found["model"].told
    assert not Path("state").exists()

    detection = Detection(made, Places(Path("state")))
    stop = threading.Event()
    thread = threading.Thread(target=detection.run, args=(stop,), kwargs={"reload": stop})
    thread.start()
    try:
        until = time.monotonic() + 60
        with Reader("state/live.db") as reader:
            while len(reader.scores("web-1", 0, FAR)) < 40 or not reader.scores("web-2", 0, FAR):
                assert time.monotonic() < until
                time.sleep(0.05)
            scores = reader.scores("web-1", 0, FAR)
            other = reader.entities(text="web-2")[0]
    finally:
        stop.set()
        thread.join(60)
    assert {one.detector for one in scores} == {"fast"}
    assert np.isfinite([one.score for one in scores[19:]]).all()
    assert (other.detector, other.model) == ("fast", scores[0].model)

    tear(Path("web-model"))
    assert called(check) == 4
    assert "manifest.json" in capfd.readouterr().err
    shutil.rmtree("web-model")
    table(0, 400, ("p", "q", "r", "s")).to_csv("train.csv", index=False)
    assert called([*fit, *SETTINGS]) == 0
    capfd.readouterr()
    assert called(check) == 4
    assert "web-1 has 0 of its 4 channels" in capfd.readouterr().err
