"""docs/results.py: pages from the runs that are there, whole or not at all, answers kept."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from imdiffusion.bench.plan import Variant
from imdiffusion.bench.plans import plan
from imdiffusion.bench.runner import bench
from imdiffusion.bench.studies import study
from imdiffusion.bench.tables import headline_tables
from imdiffusion.errors import OutputError

SCRIPT = Path(__file__).parents[2] / "docs" / "results.py"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Runs of the small plan and of a study, by their cheapest row."""
    folder = tmp_path_factory.mktemp("runs")
    for asked in (plan("small"), study("imbalance").plan):
        cheap = replace(asked, variants=(Variant("random", "random"),), seeds=(0,))
        name = asked.name.replace(":", "_")
        bench(cheap, folder / f"{name}.jsonl", threads=1, device="cpu")
    return folder


@pytest.fixture
def script(tmp_path, measured, monkeypatch):
    """The script, with folders of its own: one page of the small plan, and the studies."""
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "STUDIED", tmp_path / "studies")
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    for path in measured.iterdir():
        (tmp_path / "runs" / path.name).write_bytes(path.read_bytes())
    parts = (lambda records: headline_tables(records, protocol="label_free"),)
    pages = {"mine": ("Mine", ("small", "headline"), parts), "none": ("-", ("paper",), parts)}
    monkeypatch.setattr(module, "PAGES", pages)
    return module


def test_a_page_stands_as_long_as_its_runs_do(script, tmp_path):
    for name in ("none.md", "none.html", "by hand.md"):
        (tmp_path / name).write_text("old")
    script.write_results()
    text = (tmp_path / "mine.md").read_text()
    assert text.startswith("# Mine\n")
    assert "bench run small --out docs/results/runs/small.jsonl" in text
    assert "headline" not in text  # it was not measured
    assert "| random |" in text
    assert "Mine" in (tmp_path / "mine.html").read_text()
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert files == {"mine.md", "mine.html", "by hand.md"}
    script.runs_of("small").unlink()
    script.write_results()
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"by hand.md"}


def test_an_answer_written_by_hand_is_kept(script, tmp_path):
    script.write_studies()
    page, plot = (tmp_path / "studies" / f"imbalance.{kind}" for kind in ("md", "svg"))
    assert "## Answer\n\nNot written yet.\n" in page.read_text()
    assert "runs/study_imbalance.jsonl" in page.read_text()
    assert plot.read_text().startswith("<svg")
    page.write_text(page.read_text().replace("Not written yet.", "It does.\n\nMostly."))
    script.write_studies()
    assert "## Answer\n\nIt does.\n\nMostly.\n\n## Set-up\n" in page.read_text()
    script.runs_of("study:imbalance").unlink()
    script.write_studies()
    assert "Mostly." in page.read_text()


def test_what_cannot_be_written_leaves_the_old_page_whole(script, tmp_path, monkeypatch):
    script.write_results()
    script.write_studies()
    pages = [tmp_path / "mine.md", tmp_path / "studies" / "imbalance.svg"]
    before = [path.read_text() for path in pages]

    def cut(self, text, **_):
        self.write_bytes(text.encode()[:20])
        raise OSError("the disk is gone")

    monkeypatch.setattr(Path, "write_text", cut)
    for write in (script.write_results, script.write_studies):
        with pytest.raises(OutputError, match="the disk is gone"):
            write()
    assert [path.read_text() for path in pages] == before
