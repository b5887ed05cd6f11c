"""`imdiffusion bench`, as a user calls it: from data to tables."""

import contextlib
import io
import re
import signal
import sys

import pytest
from rich.console import Console
from tiny_data import write_set

from imdiffusion.cli import main
from imdiffusion.cli.terminal import Terminal
from imdiffusion_bench import detectors
from imdiffusion_bench.cli import watching
from imdiffusion_bench.plan import PLANS
from imdiffusion_bench.runner import State

ROWS = "random,zscore,moving_variance"


@pytest.fixture
def call(capfd, monkeypatch):
    """The command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("IMDIFFUSION_DATA", raising=False)

    def call(*words):
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                main(["bench", *map(str, words)])
        finally:
            signal.signal(signal.SIGTERM, before)
        return (end.value.code or 0, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A data folder, and the runs of three rows on its two entities, a spoilt third among them."""
    folder = tmp_path_factory.mktemp("bench")
    root = write_set(folder, entities=("machine-1-1", "machine-1-2", "spoilt"))
    (root / "SMD" / "spoilt" / "test.parquet").write_bytes(b"PAR1 cut short")
    out = folder / "runs.jsonl"
    words = ["bench", "run", "--sets", "SMD", "--detectors", ROWS, "--seeds", "0-1", "--data", root]
    before = signal.getsignal(signal.SIGTERM)
    told = io.StringIO()
    with pytest.raises(SystemExit) as end, contextlib.redirect_stderr(told):
        main([str(word) for word in (*words, "--out", out, "--threads", 1, "--device", "cpu")])
    signal.signal(signal.SIGTERM, before)
    assert end.value.code == 3
    assert "4 of 12 runs failed" in " ".join(told.getvalue().split())
    return root, out


def test_a_second_call_measures_nothing_and_says_so(call, measured):
    root, out = measured
    words = ("run", "--sets", "SMD", "--detectors", ROWS, "--seeds", "0-1", "--data", root)
    code, told, err = call(*words, "--out", out)
    assert code == 0
    assert told == ""
    assert "0 measured, 12 were there, 0 failed." in err


def test_a_terminal_shows_runs_done_and_failures(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    terminal, seen = Terminal(), io.StringIO()
    terminal.err = Console(file=seen, force_terminal=True, width=80)
    run = {"dataset": "SMD", "entity": "m", "variant": "fast", "status": "failed", "stage": "fit"}
    with watching(terminal) as watch:
        watch(State(asked=5, found=1), None)
        state = State(asked=5, found=1, done=1, failed=1)
        watch(state, {**run, "error": {"type": "DataError", "message": "too short"}})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.getvalue())
    assert "SMD m fast: fit failed: too short" in text
    assert re.search(r"2/4  .* runs/s  0:00:0\d left", text)  # one of five was there before


def test_what_is_generated_needs_no_folder_of_data(call, tmp_path):
    words = ("run", "small", "--detectors", "zscore", "--data", "nowhere", "--threads", "1")
    code, _, err = call(*words, "--out", tmp_path / "runs.jsonl")
    assert code == 0, err
    assert "1 measured" in err


def test_lines_cut_by_a_kill_are_told_beside_the_tables(call, measured, tmp_path):
    runs = tmp_path / "runs.jsonl"
    first, *rest = measured[1].read_text().splitlines(keepends=True)
    runs.write_text(first[:90] + "\n" + "".join(rest))
    code, out, err = call("tables", runs)
    assert code == 0
    assert out.startswith("##")
    assert err.startswith(f"warning: {runs}: 1 line was skipped")
    assert len(err.splitlines()) == 1
    runs.write_bytes(b"\x89PNG\r\n")
    for words in (("tables",), ("paper",), ("study", "gratings")):
        code, _, err = call(*words, runs)
        assert (code, len(err.splitlines())) == (3, 1)
        assert f"{runs}, line 1: not text" in err
    assert runs.read_bytes() == b"\x89PNG\r\n"


def test_tables_name_their_protocol_and_what_is_missing(call, measured):
    code, out, err = call("tables", measured[1])
    assert (code, err) == (0, "")
    assert "label_free" in out
    assert "oracle" not in out
    for row in ROWS.split(","):
        assert re.search(rf"^\| {row} ", out, re.MULTILINE)
    assert "spoilt" in out  # its failure is told, with its reason
    assert "parquet" in out.lower()


def test_every_protocol_has_tables_of_its_own(call, measured):
    for protocol in ("oracle", "paper"):
        code, out, _ = call("tables", measured[1], "--protocol", protocol)
        assert code == 0
        assert protocol in out
        assert "label_free" not in out
    code, _, err = call("tables", measured[1], "--protocol", "papers")
    assert code == 4
    assert "'paper'" in err


def test_domains_and_files_of_tsb_ad_have_tables_of_their_own(call, measured, tmp_path):
    root, _ = measured
    (root / "TEP").exists() or write_set(root, "TEP", entities=("fault01",))
    out = tmp_path / "two.jsonl"
    words = ("run", "--sets", "SMD,TEP", "--entities", "machine-1-1,fault01", "--detectors", ROWS)
    code, _, err = call(*words, "--data", root, "--out", out, "--threads", 1, "--device", "cpu")
    assert code == 0, err
    code, told, err = call("domains", out, "--metric", "auc_pr")
    assert (code, err) == (0, "")
    assert "### AUC-PR ↑, protocol `label_free`: a domain left out" in told
    assert "| servers |" in told
    assert "| industry |" in told
    code, told, _ = call("domains", out, "--among", "zscore")
    assert code == 0
    assert "| random |" not in told
    code, _, err = call("domains", out, "--among", "zscor")
    assert code == 4
    assert "'zscore'" in err
    code, _, err = call("tsb", out)
    assert code == 3
    assert "bench run tsb_ad_m" in " ".join(err.split())
    code, told, _ = call("names")
    assert code == 0
    for name in ("forecast_s30", "joined_logs", "vus_pr_10", "vus_pr_period"):
        assert name in told


def test_a_table_has_the_columns_that_are_asked_for(call, measured):
    asked = ("tables", measured[1], "--metrics", "delay_at_1_a_day, affiliation_f1,vus_roc")
    code, out, err = call(*asked)
    assert (code, err) == (0, "")
    (head,) = {line for line in out.splitlines() if line.startswith("| variant")}
    titles = [cell.strip() for cell in head.strip("|").split("|")][1:4]
    assert titles == [
        "delay at 1 false event a day (rows) ↓",
        "affiliation F1 ↑",
        "VUS-ROC, buffer 100 ↑",
    ]
    assert "VUS-PR" not in out
    for wrong, told in (("pa_k_f1", "it belongs to paper"), ("vuspr", "vus_pr"), (" ,", "nothing")):
        code, out, err = call("tables", measured[1], "--metrics", wrong)
        assert (code, out) == (2 if told == "nothing" else 4, "")
        assert told in err


def test_runs_are_packed_and_read_and_continued(call, measured, tmp_path):
    root, _ = measured
    runs = tmp_path / "runs.jsonl"
    runs.write_bytes(measured[1].read_bytes())
    _, before, _ = call("tables", runs)
    code, _, err = call("pack", runs)
    assert (code, err) == (0, f"{runs}.xz written.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.jsonl.xz"]
    for name in (runs, f"{runs}.xz"):
        assert call("tables", name)[1] == before
    words = ("run", "--sets", "SMD", "--detectors", ROWS, "--seeds", "0-1", "--data", root)
    _, _, err = call(*words, "--out", runs, "--threads", "1", "--device", "cpu")
    assert f"{runs}: 0 measured" in err


def test_plans_are_listed(call):
    code, out, _ = call("plans")
    assert code == 0
    for name in (*PLANS, "study:gratings"):
        assert re.search(rf"^{name} ", out, re.MULTILINE)


def test_rows_and_metrics_are_listed_by_name(call):
    code, said, _ = call("names")
    assert code == 0
    listed = {line.split()[0] for line in said.splitlines() if line.strip()}
    assert {*detectors.names()} <= listed
    assert {"vus_pr", "f1_threshold", "hit_top1"} <= listed
    assert "pa_k_f1 " in said
    assert "label_free, oracle, paper" in said


def test_a_study_prints_its_table_and_draws(call, tmp_path):
    runs, plot = tmp_path / "runs.jsonl", tmp_path / "plot.svg"
    rows = ("--detectors", "random", "--seeds", "0")
    code, _, err = call("run", "study:imbalance", *rows, "--out", runs, "--threads", 1)
    assert code == 0, err
    code, out, _ = call("study", "imbalance", runs, "--plot", plot)
    assert code == 0
    numbers = re.search(r"^\| random \|(.*)\|$", out, re.MULTILINE)[1].split("|")
    assert float(numbers[-1]) == pytest.approx(0.3, abs=0.05)  # 30 % anomalous: random ranks so
    assert "<svg " in plot.read_text()
    code, _, err = call("study", "gratings", runs, "--plot", tmp_path / "none.svg")
    assert code == 3
    assert "no run of the study 'gratings'" in err
    assert not (tmp_path / "none.svg").exists()


def test_checksums_are_verified(call, measured):
    root, _ = measured
    code, out, _ = call("check", "--data", root)
    assert code == 0
    assert re.search(r"^SMD +0$", out, re.MULTILINE)  # no list of checksums is there
    try:
        (root / "SHA256SUMS").write_text(f"{'0' * 64}  MSL/x/train.parquet\n")
        code, _, err = call("check", "--data", root)
        assert (code, "MSL is not whole" in err) == (3, True)
    finally:
        (root / "SHA256SUMS").unlink()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("run",), 2, "nothing to measure is named"),
        (("run", "one_linears"), 4, "Did you mean 'one_liners'"),
        (("run", "one_liners", "--data", "nowhere"), 3, "nowhere does not exist"),
        (("run", "one_liners"), 3, "IMDIFFUSION_DATA"),
        (("run", "small", "--shard", "3"), 2, "--shard 3"),
        (("run", "small", "--seeds", "x"), 2, "--seeds x"),
        (("run", "small", "--seeds", "5-2"), 2, "Write 2-5."),
        (("run", "small", "--detectors", ","), 2, "--detectors ',' names nothing"),
        (("run", "small", "--entities", "s2"), 2, "--entities s2: no such entity"),
        (("run", "small", "--threads", "0"), 2, "threads = 0"),
        (("run", "small", "--minutes", "0"), 2, "minutes = 0"),
        (("run", "small", "--out", "."), 3, "it is a folder"),
        (("run", "small", "--set", "windw=5"), 4, "unknown setting 'windw'"),
        (("run", "--sets", "generated", "--detectors", "fst"), 4, "unknown detector 'fst'"),
        (("tables", "nothing.jsonl"), 3, "nothing.jsonl does not exist"),
        (("study", "gratngs", "nothing.jsonl"), 4, "Did you mean 'gratings'"),
        (("import", "PSM", "nowhere"), 2, "IMDIFFUSION_DATA"),
        (("import", "PSN", ".", "--data", "d"), 4, "PSM"),
        (("fetch", "SWaT", "--data", "d"), 3, "iTrust"),
        (("check",), 2, "IMDIFFUSION_DATA"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(call, tmp_path, monkeypatch, words, code, told):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(*words)
    assert (found, out) == (code, ""), err
    assert told in err
    assert len(err.strip().splitlines()) == 1, err
    assert {path.name for path in tmp_path.iterdir()} <= {"d"}
