"""How numbers and headings of tables are written."""

import math

import pytest
from test_bench_tables import run

from imdiffusion.errors import ConfigError
from imdiffusion_bench import columns
from imdiffusion_bench.summary import headline
from imdiffusion_bench.tables import headline_tables


def test_numbers_are_written_as_people_read_them():
    assert columns.numbers((2, 0, 1, 5)) == "0–2, 5"
    assert columns.amount(1234567.0) == "1,230,000"
    assert columns.amount(0.01234) == "0.012"
    assert columns.amount(math.nan) == "–"
    assert columns.heading("add") == "ADD (rows) ↓"
    assert columns.heading("share") == "share"
    assert columns.mean_and_std("f1", 0.4126, 0.01) == "0.413 ± 0.010"
    assert columns.mean_and_std("add", 1234.56, math.nan) == "1,234.6"


def test_headline_tables_have_the_usual_metrics_that_were_measured():
    one = run(oracle={"f1": 0.5, "precision": 0.4}, label_free={"auc_pr": 0.3, "hit_100": 1.0})
    assert headline([one]) == {"label_free": ("auc_pr",), "oracle": ("f1",)}
    text = headline_tables([one], protocol="label_free")
    assert "| variant | AUC-PR ↑ | ≈ |" in text
    assert "All data sets" not in text
    both = headline_tables([one, {**one, "dataset": "B"}], protocol="label_free")
    assert "| variant | SET | B | mean |" in both
    with pytest.raises(ConfigError, match="no run has the protocol 'paper'"):
        headline_tables([one], protocol="paper")
    odd = run(mine={"x": 0.5})
    assert headline([odd]) == {"mine": ("x",)}
