"""Behaviours measured of real detectors: what each cheap one must see, and how near its edges."""

import json
import signal

import numpy as np
import pytest

from imdiffusion import ImDiffusion
from imdiffusion.cli import main
from imdiffusion.errors import ConfigError, DataError
from imdiffusion_bench.behaviours import Question, SystemDials, make_series, run_behaviours
from imdiffusion_bench.behaviours.measuring import fitter, settings_of
from imdiffusion_bench.behaviours.scenarios import TestPart

DIALS = SystemDials(channels=6, period_s=900, rows_train=1344, rows_test=672, size=4, length=24)
SEEDS = (0, 1)
# Detector -> what it must find, with the right channel first, and within how many rows of both
# edges offline and of the start online. A detector that should see more is one line more.
EXPECTED = {
    "mahalanobis": (("spike", "level_shift", "swapped", "unit_change", "two_faults_in_a_row"), 3),
    "squared_difference": (("swapped", "unit_change", "counter_reset"), 3),
}
TINY = {
    "window": 20, "width": 8, "feedforward": 8, "heads": 1, "layers": 1, "batch_size": 8,
    "max_steps": 4, "validate_every": 4, "detrend": (3,), "smooth": (3,),
}  # fmt: skip


def asked(detector, scenario):
    question = Question((detector,), (scenario,), DIALS, SEEDS)
    return list(run_behaviours(question))


@pytest.mark.parametrize(
    ("detector", "scenario", "rows"),
    [(name, one, rows) for name, (some, rows) in EXPECTED.items() for one in some],
)
def test_a_behaviour_is_found_in_the_right_channel_near_its_edges(detector, scenario, rows):
    records = asked(detector, scenario)
    assert len(records) == len(SEEDS)
    for record in records:
        assert record["status"] == "ok"
        for fault in record["faults"]:
            assert fault["found"] == fault["found_online"] == fault["channel_first"] == 1
            assert abs(fault["start_error"]) <= rows
            assert abs(fault["end_error"]) <= rows
            assert fault["delay_online"] <= rows


@pytest.mark.parametrize("detector", EXPECTED)
def test_a_clean_week_has_at_most_one_event_for_nothing(detector):
    for record in asked(detector, "clean"):
        assert record["faults"] == []
        assert record["outside"]["false_events_a_day"] <= 1 / 7
        assert record["outside"]["promised"] == 0.001
        assert record["outside"]["achieved_offline"] <= 0.003


def test_a_detector_gets_a_part_that_says_nothing_of_faults():
    series = make_series("swapped", DIALS)
    assert set(TestPart.__dataclass_fields__) == {"frame", "times", "positions", "period_s"}
    assert series.unlabelled.frame is series.test


@pytest.mark.parametrize("name", ["mahalanobis_30", "squared_difference", "moving_variance"])
def test_a_score_online_hangs_on_no_later_row(name):
    series = make_series("clean", DIALS)
    fitted = fitter(name, settings_of(name, {}), seed=0)(series.train)
    whole = fitted.verdict(series.unlabelled).online
    cut = TestPart(series.test.slice(0, 100), series.times, series.positions[:100], 900)
    early = fitted.verdict(cut).online
    assert early[:100] == pytest.approx(whole[:100], nan_ok=True)
    assert np.isnan(early[100:]).all()


@pytest.mark.filterwarnings("ignore::imdiffusion.errors.ImDiffusionWarning")
def test_a_preset_speaks_in_rows_of_the_whole_grid_where_rows_are_left_out():
    series = make_series("missing_rows", DIALS)
    detector = fitter("fast", settings_of("fast", TINY), seed=0, device="cpu")(series.train)
    said = detector.verdict(series.unlabelled)
    (gap,) = series.faults
    assert said.alarm.shape == said.online.shape == (DIALS.rows_test,)
    assert np.isnan(said.online[gap.start : gap.end]).all()
    assert np.isfinite(said.online[gap.start - 30 : gap.start]).all()
    own = ImDiffusion(preset="fast", seed=0, device="cpu", **TINY).fit(series.train)
    analysis = own.analyze(series.test)
    assert said.alarm.tolist() == analysis.alarm.tolist()  # gaps are put in by the library too
    assert [(one.start, one.end) for one in said.events] == [
        (one.start, one.end) for one in analysis.events
    ]
    assert said.promised == 0.001


def test_a_fit_is_shared_by_scenarios_of_one_training_part(monkeypatch):
    fits = []

    class Quiet:
        def verdict(self, part):
            raise DataError("nothing to say", remedy="Ask another.")

    def counted(name, settings, *, seed, device):
        return lambda train: fits.append(seed) or Quiet()

    monkeypatch.setattr("imdiffusion_bench.behaviours.measuring.fitter", counted)
    scenarios = ("clean", "spike", "silent", "absurd_training_value", "weekend_as_weekday")
    dials = SystemDials(channels=2, period_s=900, rows_train=200, rows_test=400, season="daily")
    records = list(run_behaviours(Question(("random",), scenarios, dials, (0, 5))))
    assert fits == [0, 0, 5, 5]
    assert [one["status"] for one in records[:5]] == ["failed"] * 4 + ["impossible"]
    assert records[0]["error"]["message"] == "nothing to say. Ask another."
    assert records[0]["stage"] == "score"


def test_paper_is_capped_and_settings_that_none_has_are_refused():
    assert settings_of("paper", {})["max_steps"] > 0
    assert settings_of("paper", {"max_steps": 7})["max_steps"] == 7
    assert settings_of("random", {})["calibrate_on"] == "all"
    with pytest.raises(ConfigError, match="unknown setting 'width'"):
        settings_of("random", {"width": 3})
    with pytest.raises(ConfigError, match=r"unknown detector 'mahalanobs'.*mahalanobis"):
        settings_of("mahalanobs", {})


# -- the command


@pytest.fixture
def call(capfd):
    """The command in this process: (exit code, stdout, stderr)."""

    def call(*words):
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                main(["bench", "behaviours", *map(str, words)])
        finally:
            signal.signal(signal.SIGTERM, before)
        return (end.value.code or 0, *capfd.readouterr())

    return call


SMALL = ("--dials", "channels=3,period_s=1800,rows_train=300,rows_test=300,length=10")


def test_the_command_prints_tables_and_draws(call, tmp_path):
    out = tmp_path / "b.svg"
    words = ("--detectors", "random,zscore", "--scenarios", "swapped,clean", "--seeds", "0-1")
    code, told, err = call(*words, *SMALL, "--plot", out, "--set", "alarm_rate=0.01")
    assert code == 0
    assert "| swapped |" in told
    assert "1.00 %" in told  # the promise
    assert "written" in err
    assert "<svg " in out.read_text()


def test_the_command_prints_json(call):
    words = ("--detectors", "random", "--scenarios", "spike,weekend_as_weekday", "--json")
    code, told, _ = call(*words, *SMALL)
    assert code == 0
    document = json.loads(told)
    assert [one["status"] for one in document["records"]] == ["ok", "impossible"]
    assert document["dials"]["channels"] == 3
    assert document["settings"]["random"]["calibrate_on"] == "all"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--scenarios", "frozn"), 4, "frozen"),
        (("--detectors", "fats"), 4, "fast"),
        (("--dials", "chanels=3"), 4, "channels"),
        (("--detectors", "random", "--set", "window=9"), 4, "window"),
        (("--seeds", "x"), 2, "no list of seeds"),
        (("--plot", "b.html"), 2, ".svg"),
    ],
)
def test_what_the_command_cannot_do_it_says_before_it_begins(call, words, code, told):
    found, out, err = call(*words)
    assert found == code
    assert out == ""
    assert told in err
