"""docs/behaviours.md says what the code has, and takes the results of a run that is there."""

import json
from pathlib import Path

import pytest

from imdiffusion.errors import DataError
from imdiffusion_bench.behaviours import Question, SystemDials, document, run_behaviours
from imdiffusion_bench.documents import BEHAVIOURS_COMMAND, write_behaviours
from imdiffusion_bench.record import pack

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "behaviours.md").write_bytes((DOCS / "behaviours.md").read_bytes())
    return tmp_path


def test_the_page_is_current(docs):
    for run in (DOCS / "results" / "runs").glob("behaviours.json*"):
        (docs / "results" / "runs" / run.name).write_bytes(run.read_bytes())
    write_behaviours(docs)
    assert (docs / "behaviours.md").read_text() == (DOCS / "behaviours.md").read_text(), (
        "run: imdiffusion bench document behaviours"
    )
    assert "<svg " in (docs / "results" / "behaviours.svg").read_text()


def test_a_run_fills_the_results(docs):
    question = Question(
        ("random",), ("swapped",), SystemDials(channels=2, rows_train=200, rows_test=200)
    )
    run = docs / "results" / "runs" / "behaviours.json"
    write_behaviours(docs)
    assert "Not measured yet." in (docs / "behaviours.md").read_text()
    run.write_text(json.dumps(document(question, list(run_behaviours(question)))))
    write_behaviours(docs)
    text = (docs / "behaviours.md").read_text()
    assert "| swapped | 0 of 1 |" in text
    assert "### Found" in text
    assert BEHAVIOURS_COMMAND in text
    pack(run)
    assert not run.exists()
    write_behaviours(docs)
    assert (docs / "behaviours.md").read_text() == text  # packed or not


def test_a_page_without_a_place_is_refused(docs):
    (docs / "behaviours.md").write_text("# Behaviours\n")
    with pytest.raises(DataError, match="scenarios"):
        write_behaviours(docs)
