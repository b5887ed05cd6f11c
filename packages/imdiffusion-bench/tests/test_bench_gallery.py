"""What was missed and what was raised for nothing, against cases worked out by hand."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_data import write_set

from imdiffusion.data.frame import frame_from
from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench import gallery, score_archive
from imdiffusion_bench.gallery import false_alarms, missed, worst
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.plots import CasePlot, Channel, case_figure, save_plot, thinned
from imdiffusion_bench.runner import bench
from imdiffusion_bench.score_archive import Kept
from imdiffusion_bench.split import Scores, Split, Truth

ROWS = 1000


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
    case_figure(drawn(60, score=np.full(60, np.inf)))


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
        "channels": (Channel("cpu & co", "40% of the error", seen, seen * 0.5),),
        "score": np.where(label, 3.0, 0.0),
        "threshold": 1.0,
        "label": label,
    }
    return CasePlot(**{**given, **changed})


def test_a_case_is_whole_svg_small_and_keeps_extremes(tmp_path):
    text = save_plot(case_figure(drawn(60)), tmp_path / "a.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "a &lt;b&gt;" in text
    assert "cpu &amp; co, seen and expected (40% of the error)" in text
    assert "<script" not in text
    again = save_plot(case_figure(drawn(60)), tmp_path / "b.svg").read_text()
    assert again == text  # the same numbers, the same file
    # A spike of one row among thousands is still there.
    long = np.zeros(20_000)
    long[12_345] = 1.0
    assert 12_345 in thinned(long)
    assert len(thinned(long)) <= 360
    assert thinned(long[:300]).tolist() == list(range(300))
    spiky = Channel("a", "", long, None)
    figure = case_figure(drawn(20_000, channels=(spiky,) * 3))
    assert len(save_plot(figure, tmp_path / "c.svg").read_text()) < 90_000
    with pytest.raises(DataError, match="differ in length"):
        case_figure(drawn(60, label=np.zeros(3, bool)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Kept scores of two machines; the row stands in for the default, and finds nothing."""
    folder = tmp_path_factory.mktemp("kept")
    asked = Plan("headline", ("SMD",), (Variant("fast", "random"),))
    call = {"root": write_set(folder), "threads": 1, "device": "cpu"}
    bench(asked, folder / "runs.jsonl", keep_scores=folder / "scores", **call)
    return folder


def test_the_gallery_is_written_and_keeps_what_was_written_by_hand(folder, tmp_path):
    page = tmp_path / "studies" / "gallery.md"
    found = gallery.collect_cases(folder / "scores", folder)
    assert (found.events, found.judged) == (2, 2)
    gallery.write_gallery(tmp_path, [folder / "scores"], folder)
    text = page.read_text()
    assert f"Of 2 events {len(found.missed)} have no row in alarm" in text
    cases = gallery.chosen(found)
    assert cases, "two machines under random scores, and nothing is wrong"
    for name, case in cases:
        assert f"(gallery/{name}.svg)" in text
        assert case.title in (page.parent / "gallery" / f"{name}.svg").read_text()
    assert text.count(gallery.NOT_SEEN) == len(cases)
    one = gallery.heading(cases[0][1])
    assert one in text
    page.write_text(text.replace(gallery.NOT_SEEN, "It is small.\n\nVery.", 1))
    (page.parent / "gallery" / "missed_SMD_7.svg").write_text("of an earlier page")
    gallery.write_gallery(tmp_path, [folder / "scores"], folder)
    assert "It is small.\n\nVery." in page.read_text()
    assert not (page.parent / "gallery" / "missed_SMD_7.svg").exists()
    # Another score is another case: what was said of the old one is not said of it.
    louder = replace(cases[0][1], peak=cases[0][1].peak * 0.5)
    assert gallery.heading(louder) != one


def test_the_gallery_asks_for_what_it_needs(folder, tmp_path):
    with pytest.raises(UsageError, match="one folder"):
        gallery.write_gallery(tmp_path, [], folder)
    with pytest.raises(DataError, match="no scores are kept"):
        gallery.collect_cases(folder, folder)
    first = next(score_archive.load_all(folder / "scores"))

    def also(**changed):
        scores = Scores(first.score)
        return score_archive.keep(
            folder / "scores", {**first.run, "id": "f" * 16, **changed}, scores
        )

    again = also(seed=7)  # one entity of another seed does not stand against two of this one
    found = gallery.collect_cases(folder / "scores", folder)
    assert (found.seed, found.judged) == (0, 2)
    also(variant="fast, otherwise")
    assert gallery.collect_cases(folder / "scores", folder).judged == 2
    also()
    with pytest.raises(DataError, match="holds two runs of SMD"):
        gallery.collect_cases(folder / "scores", folder)
    again.unlink()
    score_archive.keep(tmp_path, {**first.run, "variant": "another"}, Scores(first.score))
    with pytest.raises(DataError, match="no run of 'fast'"):
        gallery.collect_cases(tmp_path, folder)
