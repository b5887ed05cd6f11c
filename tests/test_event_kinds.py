"""Events say which kind of absence or hour they are, in every table that they are handed out as."""

from __future__ import annotations

import warnings

import kind_story
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from kind_story import FAULTS, NAMES

from imdiffusion import ImDiffusion, checks, presets
from imdiffusion.checks import FURTHER, CheckStream, RowChecks
from imdiffusion.data.windows import Rows
from imdiffusion.errors import DataWarning
from imdiffusion.results import Analysis, event_table
from imdiffusion.scoring.absence_fit import KINDS, MISSING
from imdiffusion.scoring.changes import KINDS as CHANGED
from imdiffusion.wording import number


@pytest.fixture(scope="module", name="detector")
def _detector() -> ImDiffusion:
    return kind_story.fitted()


@pytest.fixture(scope="module", name="analysis")
def _analysis(detector: ImDiffusion) -> Analysis:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of the gap
        found = detector.analyze(kind_story.faulty())
    assert isinstance(found, Analysis)
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=[kind or "value" for _, _, kind, _ in FAULTS])
def test_every_fault_is_an_event_that_says_what_it_is(analysis: Analysis, fault) -> None:
    start, end, kind, words = fault
    (event,) = [one for one in analysis.events if one.start < end and start < one.end]
    assert event.end == end
    assert 0 <= event.start - start <= 5  # an absence is news after some rows
    assert event.kinds[0] == kind
    assert event.reason.startswith(words)
    assert len(event.kinds) == len(NAMES)


def test_rows_that_stop_coming_are_about_every_channel(analysis: Analysis) -> None:
    silent = analysis.events[-1]
    assert silent.kinds == ("missing",) * 5
    assert silent.shares == pytest.approx((0.2,) * 5)
    assert np.isnan(silent.seen).all()


def test_rows_without_a_value_are_news_of_channels_whose_own_gaps_are_none() -> None:
    rng = np.random.default_rng(0)
    observed = rng.uniform(size=(4_000, 8)) > 0.6
    observed[3_900:3_908] = False  # in a row, of which each channel misses more now and then
    values = np.where(observed, rng.normal(size=observed.shape), 0.0).astype(np.float32)
    rows = Rows(values, observed, np.arange(4_000, dtype=np.int64), None)
    settings = presets.resolve("linear", {"calendar": "off"})
    fitted, _ = RowChecks.fit(rows.slice(0, 3_000), settings, rate=0.001)
    run = CheckStream(fitted, rate=0.001).push(rows)
    silent = np.flatnonzero((run.kind == MISSING).all(axis=1))
    assert silent[-1] == 3_907
    assert 3_900 < silent[0] < 3_907
    assert (run.since[silent] == (silent - 3_900)[:, None]).all()
    assert (run.score[silent] > 1).all()
    assert not (run.kind[3_000:3_890] == MISSING).any()


def test_where_a_view_alone_spoke_no_kind_is_named(analysis: Analysis) -> None:
    at = FAULTS[2][0]
    (event,) = [one for one in analysis.events if one.start == at]
    assert event.kinds == ("",) * 5
    load = analysis.frame.channels.index("load")
    expected = analysis.expected[at, load]
    assert event.reason == f"load 3.2 where {number(expected)} was expected"


@pytest.mark.parametrize("kind", ["numpy", "pandas", "polars", "pyarrow"])
def test_kinds_and_reason_are_columns_of_every_kind_of_table(analysis: Analysis, kind: str) -> None:
    table = event_table([analysis], kind)
    if isinstance(table, pd.DataFrame):
        kinds, reasons = [list(one) for one in table["kinds"]], list(table["reason"])
    else:
        assert isinstance(table, pl.DataFrame if kind == "polars" else pa.Table)
        lists = (table[name] for name in ("kinds", "reason"))
        kinds, reasons = (one.to_list() if kind == "polars" else one.to_pylist() for one in lists)
    assert kinds == [list(one.kinds) for one in analysis.events]
    assert reasons == [one.reason for one in analysis.events]


def test_a_model_without_checks_names_no_kind() -> None:
    plain = kind_story.fitted(8, absence=False, calendar="off")
    found = plain.analyze(kind_story.shop(3, 1).assign(load=3.2))
    assert found.events
    assert {kind for one in found.events for kind in one.kinds} == {""}


def test_an_hour_is_described_by_the_calendar_where_its_time_is_known(detector) -> None:
    entity = detector.entity()
    saturday = np.datetime64("2026-01-10T12:00")
    found = entity.checks.finding(checks.HOURS, 0, time=saturday, period=600.0)
    assert (found.kind, found.words, found.lasting) == (
        "unusual_hour", "unusual for a Saturday", False,
    )  # fmt: skip
    blind = RowChecks().finding(checks.HOURS, 0, time=None, period=None)
    assert blind.words == "unusual for its time"
    assert RowChecks().finding(MISSING, 33, time=None, period=60.0).words == (
        "missing for 34 rows (34 min)"
    )


def test_every_code_of_a_check_has_a_name_of_its_own() -> None:
    assert {checks.HOURS, *KINDS, *CHANGED} <= {*KINDS, *FURTHER}
    names = [name for name, _ in (*KINDS.values(), *FURTHER.values())]
    assert len(names) == len(set(names))
    assert not set(KINDS) & set(FURTHER)


def test_any_cut_of_the_rows_gives_the_same_findings(detector: ImDiffusion) -> None:
    entity = detector.entity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        frame = detector.analyze(kind_story.faulty()).frame
    rows = entity.rows(frame)

    def found(step: int) -> tuple[np.ndarray, np.ndarray]:
        pieces = (rows.slice(start, start + step) for start in range(0, len(frame), step))
        runs = list(entity.score_runs(pieces))
        kind, since = ([getattr(run, name) for run in runs] for name in ("kind", "since"))
        return np.concatenate(kind), np.concatenate(since)

    whole = found(len(frame))
    assert (whole[1][whole[0] == 0] == 0).all()
    missing = np.flatnonzero(whole[0][:, NAMES.index("latency")] == MISSING)
    start, end = FAULTS[0][:2]
    told = missing[missing < end + 1]
    assert (whole[1][told, NAMES.index("latency")] == told - start).all()
    for one, other in zip(whole, found(37), strict=True):
        assert np.array_equal(one, other)
