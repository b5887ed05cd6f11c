"""Interpretation labels: which channels an anomaly is in, line by line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import refused

from imdiffusion_bench.datasets import (
    FolderDataSet,
)
from imdiffusion_bench.datasets.folder import read_causes


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("3-2:1", "no segment"),
        ("2-2:1", "no segment"),
        ("0-11:1", "no segment"),
        ("0-1:0", "outside 1 to 3"),
        ("0-1:1,4", "outside 1 to 3"),
        ("0-1", "not of the form"),
        ("0-1:a", "not of the form"),
    ],
)
def test_a_bad_line_of_causes_is_named(tmp_path, line, word):
    path = tmp_path / "interpretation_label.txt"
    path.write_text(f"0-1:1\n{line}\n")
    refused(lambda: read_causes(path, "exclusive", 3, 10, "own x"), "own x", "line 2", word)


segments = st.tuples(st.integers(0, 8), st.integers(1, 2), st.sets(st.integers(1, 3), min_size=1))


@given(st.lists(segments, max_size=5), st.booleans())
def test_causes_come_back_as_they_were_written(tmp_path_factory, written, inclusive):
    path = tmp_path_factory.mktemp("causes") / "interpretation_label.txt"
    lines = [
        f"{start}-{start + size - inclusive}:{','.join(map(str, sorted(dims)))}"
        for start, size, dims in written
    ]
    path.write_text("\n".join(lines))
    found = read_causes(path, "inclusive" if inclusive else "exclusive", 3, 10, "own x")
    assert [(c.start, c.end, {k + 1 for k in c.channels}) for c in found] == [
        (start, start + size, dims) for start, size, dims in written
    ]


@pytest.mark.data
@pytest.mark.parametrize(("name", "equal"), [("SMD", 264), ("ASD", 75)])
def test_segments_of_causes_are_runs_of_the_label(benchmark_data, name, equal):
    dataset = FolderDataSet(benchmark_data, name)
    agreeing = 0
    for entity in dataset.entities():
        label = dataset.read_label(entity).astype(int)
        edges = np.diff(label, prepend=0, append=0)
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        runs = set(zip(starts.tolist(), ends.tolist(), strict=True))
        width = 38 if name == "SMD" else 19
        causes = dataset.read_causes(entity, width, len(label))
        agreeing += sum((cause.start, cause.end) in runs for cause in causes)
    assert agreeing == equal  # of 268 and of 77: the data's README
