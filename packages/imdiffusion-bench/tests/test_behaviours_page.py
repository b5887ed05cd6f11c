"""docs/behaviours.md says what the code has, and takes the results of a run that is there."""

import json
import runpy
from pathlib import Path

import pytest

from imdiffusion_bench.behaviours import Question, SystemDials, document, run_behaviours

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def program():
    return runpy.run_path(str(DOCS / "behaviours.py"))


def test_the_page_is_current(program):
    text = program["PAGE"].read_text(encoding="utf-8")
    assert program["page"](text) == text, "run: python docs/behaviours.py"


def test_a_run_fills_the_results(program, tmp_path):
    question = Question(
        ("random",), ("swapped",), SystemDials(channels=2, rows_train=200, rows_test=200)
    )
    run = tmp_path / "run.json"
    run.write_text(json.dumps(document(question, list(run_behaviours(question)))))
    program["results"].__globals__["RUN"] = run
    text = program["results"]()
    assert "| swapped | 0 of 1 |" in text
    assert "### Found" in text
    assert program["COMMAND"] in text


def test_a_page_without_a_place_is_refused(program):
    with pytest.raises(SystemExit, match="scenarios"):
        program["page"]("# Behaviours\n")
