"""Results go out as tables of the caller's own kind."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from imdiffusion.data.frame import table_like
from imdiffusion.errors import UsageError

RESULT = {
    "entity": ["x", "x"],
    "start": np.array(["2024-01-31T12", "NaT"], "datetime64[ns]"),
    "score": np.array([1.5, np.nan], np.float32),
    "alarm": np.array([True, False]),
    "channels": [["a", "b"], []],
    "shares": [(0.75, 0.25), ()],
}


@pytest.mark.parametrize(
    ("kind", "native"),
    [
        ("numpy", pa.Table),
        ("pyarrow", pa.Table),
        ("pandas", pd.DataFrame),
        ("polars", pl.DataFrame),
    ],
)
def test_table_like(kind, native):
    table = table_like(kind, RESULT)
    assert isinstance(table, native)
    assert list(pa.table(table).column_names) == list(RESULT)
    cell = {"pandas": lambda: table["channels"].iloc[0]}.get(kind, lambda: pa.table(table)[
        "channels"][0].as_py())  # fmt: skip
    assert cell() == ["a", "b"]
    arrow = pa.table(table)
    assert str(arrow.schema.field("start").type.tz) == "UTC"
    assert arrow["start"].null_count == 1
    assert arrow["shares"].to_pylist()[0] == [0.75, 0.25]


@pytest.mark.parametrize("kind", ["numpy", "pandas", "polars"])
def test_an_empty_table_keeps_its_types(kind):
    types = {"channels": pa.list_(pa.string())}
    columns = {"start": np.array([], "datetime64[ns]"), "channels": []}
    table = table_like(kind, columns, types=types)
    assert len(table) == 0
    assert list(pa.table(table).column_names) == ["start", "channels"]
    assert pa.types.is_timestamp(pa.table(table).schema.field("start").type)


def test_an_unknown_kind_of_table():
    with pytest.raises(UsageError, match="unknown kind of table 'spark'"):
        table_like("spark", {})
