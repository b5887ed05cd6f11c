"""What was missed and what was raised for nothing, against cases worked out by hand."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from imdiffusion_bench.failures import false_alarms, missed, worst
from imdiffusion_bench.page.strips import MOST_POINTS, Strip, Strips, strips
from tiny_data import write_set

from imdiffusion.data.frame import frame_from
from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench import score_archive
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.runner import bench
from imdiffusion_bench.score_archive import Kept
from imdiffusion_bench.split import Scores, Split, Truth

ROWS = 1000
SCRIPT = Path(__file__).parents[3] / "docs" / "gallery.py"


def split(label=(), **values):
    """1,000 rows, channels a and b: rows of +1 and -1 in turn, but where `values` says else."""
    test = np.tile([[1.0, -1.0], [-1.0, 1.0]], (ROWS // 2, 1))
    for name, (start, end, value) in values.items():
        test[start:end, "ab".index(name)] = value
    marked = np.zeros(ROWS, bool)
    for start, end in label:
        marked[start:end] = True
    frame = frame_from(test)
    return Split("made", "one", frame, frame, Truth(lambda: marked))


def scored(*spans, channel_scores=None):
    """A score of .2, but over each (start, end, score)."""
    score = np.full(ROWS, 0.2, np.float32)
    for start, end, value in spans:
        score[start:end] = value
    return Kept({"id": "x"}, score, 1.0, channel_scores)


def test_an_event_is_missed_when_none_of_its_rows_is_in_alarm():
    labels = [(100, 110), (300, 310), (500, 504)]
    data = split(labels, a=(100, 110, 5.0), b=(500, 504, -9.0))
    run = scored((305, 306, 1.5), (100, 110, 0.6), (500, 504, 0.9), (111, 120, 8.0))
    first, second = missed(run, data)
    # Normal rows of either channel have mean 0 and deviation 1.
    assert (first.start, first.end, first.channels) == (100, 110, (0,))
    assert (first.peak, first.departure) == (pytest.approx(0.6), pytest.approx(5, rel=0.01))
    assert first.weight == pytest.approx(5 * 0.4, rel=0.01)
    assert (second.start, second.channels) == (500, (1,))
    assert second.weight == pytest.approx(9 * 0.1, rel=0.01)
    assert first.title == "made one, rows 100 to 109"
    assert missed(scored(*((start, end, 2.0) for start, end in labels)), data) == []


def test_an_alarm_near_a_label_is_not_held_against_anyone():
    data = split([(500, 510)], b=(700, 710, 4.0))
    # 99 rows before the label, 100 rows after it, and two that are one with the gap between them.
    run = scored((390, 401, 9.0), (610, 620, 3.0), (700, 710, 2.0), (0, 5, 4.0), (103, 105, 1.2))
    far, near = false_alarms(run, data)
    assert (far.start, far.end, far.distance, far.weight) == (0, 105, 395, pytest.approx(4.0))
    assert (near.start, near.end, near.distance) == (610, 710, 100)
    assert near.channels == (1,)
    assert false_alarms(scored(), data) == []


def test_channels_are_those_with_the_largest_share_of_the_error():
    parts = np.zeros((ROWS, 2), np.float32)
    parts[:, 0], parts[300:320] = 1.0, (1.0, 3.0)
    (case,) = false_alarms(
        scored((300, 320, 2.0), channel_scores=parts), split([(900, 901)], a=(300, 320, 7.0))
    )
    assert case.channels == (1, 0)
    # Of a missed event the channel that departs comes first, whatever the shares say.
    (case,) = missed(scored(channel_scores=parts), split([(300, 320)], a=(300, 320, 7.0)))
    assert case.channels == (0, 1)


def test_a_channel_that_never_moves_and_rows_without_a_value_or_score_are_no_numbers_made_up():
    data = split([(100, 110), (200, 210)])
    values = data.test.values.copy()
    values[:, 1] = 3.0
    values[100:105, 1] = 4.0  # moves in the event alone: measured by all its rows
    values[200:210] = np.nan
    data = replace(data, test=frame_from(values))
    run = scored()
    run.score[200:210] = np.nan
    first, second = missed(run, data)
    assert first.channels == (1,)
    assert first.departure == pytest.approx(0.5 / np.sqrt(5 / 990), rel=0.02)
    assert (second.peak, second.departure, second.weight) == (0, 0, 0)
    with pytest.raises(DataError, match="of 10 rows, its label is of 1000"):
        missed(replace(run, score=run.score[:10]), data)


def test_a_score_without_bounds_is_the_worst_and_is_drawn():
    parts = np.ones((ROWS, 2), np.float32)
    parts[300:310, 1] = np.inf
    run = scored((300, 310, np.inf), channel_scores=parts)
    (case,) = false_alarms(run, split([(900, 901)]))
    assert (case.peak, case.channels) == (np.inf, (1, 0))
    assert run.shares[305] == pytest.approx([0, 1])
    text = strips(drawn(60, score=np.full(60, np.inf)))
    assert "nan" not in text
    assert "inf" not in text


def test_the_worst_are_of_different_entities():
    (case,) = missed(scored(), split([(100, 110)], a=(100, 110, 5.0)))
    cases = [
        replace(case, entity=entity, weight=w)
        for entity, w in zip("aabc", (3, 5, 4, 1), strict=True)
    ]
    found = worst(cases, 2)
    assert [(one.entity, one.weight) for one in found] == [("a", 5), ("b", 4)]
    assert len(worst(cases, 9)) == 3


def drawn(rows, **changed):
    row = np.arange(rows, dtype=float)
    seen = np.sin(row / 7)
    seen[3] = np.nan
    label = (row >= 10) & (row < 20)
    given = {
        "title": "a <b>",
        "first": 500,
        "channels": (Strip("cpu & co", "40% of the error", seen, seen * 0.5),),
        "score": np.where(label, 3.0, 0.0),
        "threshold": 1.0,
        "label": label,
    }
    return Strips(**{**given, **changed})


def test_strips_are_whole_svg_small_and_keep_extremes():
    text = strips(drawn(60))
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "a &lt;b&gt;" in text
    assert "<script" not in text
    assert text.count('class="label"') == 2  # in either strip
    assert text.count('class="alarm"') == 1
    seen = re.search(r'class="seen" d="([^"]*)"', text)[1]
    assert seen.count("M") == 2  # broken where there is no value
    # A spike of one row among thousands is still there.
    long = np.zeros(20_000)
    long[12_345] = 1.0
    spiky = Strip("a", "", long, None)
    text = strips(drawn(20_000, channels=(spiky,) * 3))
    assert len(text) < 60_000
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", text.partition('"seen"')[2])]
    assert min(heights) < max(heights) - 70
    assert text.count("L") < 5 * MOST_POINTS
    with pytest.raises(DataError, match="differ in length"):
        strips(drawn(60, label=np.zeros(3, bool)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Kept scores of two machines; the row stands in for the default, and finds nothing."""
    folder = tmp_path_factory.mktemp("kept")
    asked = Plan("headline", ("SMD",), (Variant("fast", "random"),))
    call = {"root": write_set(folder), "threads": 1, "device": "cpu"}
    bench(asked, folder / "runs.jsonl", keep_scores=folder / "scores", **call)
    return folder


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("gallery", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gallery", module)  # its dataclass looks for itself there
    spec.loader.exec_module(module)
    return module


def test_the_gallery_is_written_and_keeps_what_was_written_by_hand(script, folder, tmp_path):
    page = tmp_path / "studies" / "gallery.md"
    found = script.collect(folder / "scores", folder)
    assert (found.events, found.judged) == (2, 2)
    script.write(found, page, "scores")
    text = page.read_text()
    assert f"Of 2 events {len(found.missed)} have no row in alarm" in text
    cases = script.chosen(found)
    assert cases, "two machines under random scores, and nothing is wrong"
    for name, case in cases:
        assert f"(gallery/{name}.svg)" in text
        plot = (page.parent / "gallery" / f"{name}.svg").read_text()
        assert case.title in ElementTree.fromstring(plot)[0].text
    assert text.count(script.NOT_SEEN) == len(cases)
    one = script.heading(cases[0][1])
    assert one in text
    page.write_text(text.replace(script.NOT_SEEN, "It is small.\n\nVery.", 1))
    (page.parent / "gallery" / "missed_SMD_7.svg").write_text("of an earlier page")
    script.write(found, page, "scores")
    assert "It is small.\n\nVery." in page.read_text()
    assert not (page.parent / "gallery" / "missed_SMD_7.svg").exists()
    # Another score is another case: what was said of the old one is not said of it.
    louder = replace(cases[0][1], peak=cases[0][1].peak * 0.5)
    assert script.heading(louder) != one


def test_the_gallery_asks_for_what_it_needs(script, folder, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        script.main([])
    with pytest.raises(DataError, match="no scores are kept"):
        script.collect(folder, folder)
    first = next(score_archive.load_all(folder / "scores"))

    def also(**changed):
        scores = Scores(first.score)
        return score_archive.keep(
            folder / "scores", {**first.run, "id": "f" * 16, **changed}, scores
        )

    again = also(seed=7)  # one entity of another seed does not stand against two of this one
    found = script.collect(folder / "scores", folder)
    assert (found.seed, found.judged) == (0, 2)
    also(variant="fast, otherwise")
    assert script.collect(folder / "scores", folder).judged == 2
    also()
    with pytest.raises(DataError, match="holds two runs of SMD"):
        script.collect(folder / "scores", folder)
    again.unlink()
    score_archive.keep(tmp_path, {**first.run, "variant": "another"}, Scores(first.score))
    with pytest.raises(DataError, match="no run of 'fast'"):
        script.collect(tmp_path, folder)
