"""A small benchmark folder in the official layout, with an anomaly anyone can see; refusals."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imdiffusion.errors import DataError

ANOMALY = slice(200, 230)


def write_set(root: Path, name: str = "SMD", entities=("machine-1-1", "machine-1-2"), rows=400):
    """`name` under root: K = 3 channels, the second shifted by 6 deviations in rows 200 to 229."""
    index = {"dataset": name, "columns": ["a", "b", "c"], "entities": []}
    for number, entity in enumerate(entities):
        rng = np.random.default_rng(number)
        train, test = rng.normal(size=(2, rows, 3)).astype(np.float32)
        label = np.zeros(rows, np.int8)
        label[ANOMALY] = 1
        test[ANOMALY, 1] += 6
        write_entity(root / name / entity, train, test, label)
        (root / name / entity / "interpretation_label.txt").write_text("200-230:2\n")
        index["entities"].append({"name": entity, "train_rows": rows, "test_rows": rows})
    (root / name / "index.json").write_text(json.dumps(index))
    return root


def write_entity(folder: Path, train, test, label):
    """train.parquet and test.parquet of one entity; label None leaves that column out."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [chr(ord("a") + k) for k in range(train.shape[1])]
    pq.write_table(pa.table(dict(zip(names, train.T, strict=True))), folder / "train.parquet")
    columns = dict(zip(names, test.T, strict=True))
    if label is not None:
        columns["label"] = label
    pq.write_table(pa.table(columns), folder / "test.parquet")


def refused(call, *words: str) -> None:
    """The call ends with a DataError that has a remedy and says these words."""
    with pytest.raises(DataError) as caught:
        call()
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)
