"""Official files of PSM, SMD, SWaT and WADI, in the forms that people have, become data sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from tiny_data import refused

from imdiffusion.errors import ConfigError, OutputError
from imdiffusion_bench.datasets import OFFICIAL, check, import_official, open_dataset
from imdiffusion_bench.datasets.known import known_sums
from imdiffusion_bench.split import Cause

NAN = np.nan


def put(folder: Path, **texts: str) -> Path:
    """Files of a folder; names are given with __ for a slash and _DOT_ for a dot."""
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


PSM = {
    "train_DOT_csv": "timestamp_(min),feature_0,feature_1\n0.0,0.5,1\n1.0,,2\n2.0,1e-1,3\n",
    "test_DOT_csv": "timestamp_(min),feature_0,feature_1\n3,7,8\n4,,9\n",
    "test_label_DOT_csv": "timestamp_(min),label\n3,0\n4,1\n",
}


def test_psm_loses_its_minutes_and_keeps_its_gaps(tmp_path):
    folder = import_official("PSM", put(tmp_path / "in", **PSM), tmp_path / "out")
    assert folder == tmp_path / "out/PSM"
    split = open_dataset("PSM", tmp_path / "out").load("psm")
    assert split.train.channels == ("feature_0", "feature_1")
    np.testing.assert_array_equal(
        split.train.values, np.array([[0.5, 1], [NAN, 2], [0.1, 3]], np.float32)
    )
    assert split.train.observed.tolist() == [[True, True], [False, True], [True, True]]
    np.testing.assert_array_equal(split.test.values, [[7, 8], [NAN, 9]])
    assert split.truth.label().tolist() == [False, True]
    assert split.truth.causes is None
    assert split.period_s == 60.0


def test_what_is_written_has_the_layout_and_its_checksums(tmp_path):
    folder = import_official("PSM", put(tmp_path / "in", **PSM), tmp_path / "out")
    schema = parquet.read_schema(folder / "psm/test.parquet")
    assert [str(field.type) for field in schema] == ["float", "float", "int8"]
    assert schema.names[-1] == "label"
    column = parquet.ParquetFile(folder / "psm/test.parquet").metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    index = json.loads((folder / "index.json").read_text())
    assert index["columns"] == ["feature_0", "feature_1"]
    assert index["entities"] == [
        {
            "name": "psm",
            "train_rows": 3,
            "features": 2,
            "test_rows": 2,
            "anomaly_rows": 1,
            "anomaly_segments": 1,
        }
    ]
    digits = hashlib.sha256(PSM["train_DOT_csv"].encode()).hexdigest()
    assert index["source_files"]["train.csv"] == digits
    assert check(tmp_path / "out", "PSM") == 3  # index, train, test
    (folder / "psm/train.parquet").write_bytes(b"changed")
    refused(lambda: check(tmp_path / "out", "PSM"), "PSM/psm/train.parquet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_label_DOT_csv": "timestamp_(min),label\n3,0\n5,1\n"}, ["minutes differ"]),
        ({"test_label_DOT_csv": "timestamp_(min),label\n3,0\n4,2\n"}, ["PSM psm", "row 2"]),
        ({"test_label_DOT_csv": "timestamp_(min),label\n3,0\n4,\n"}, ["PSM psm", "row 2"]),
        ({"test_label_DOT_csv": "timestamp_(min),truth\n3,0\n4,1\n"}, ["'label'"]),
        ({"test_DOT_csv": "timestamp_(min),feature_0\n3,7\n4,7\n"}, ["test.csv", "columns"]),
        ({"train_DOT_csv": "minute,feature_0,feature_1\n0,1,2\n"}, ["train.csv", "header"]),
        ({"train_DOT_csv": "timestamp_(min),feature_0,feature_1\n"}, ["train part has no rows"]),
        ({"train_DOT_csv": "timestamp_(min),feature_0,feature_1\n0,x,2\n"}, ["train.csv", "'x'"]),
        ({"train_DOT_csv": "timestamp_(min),feature_0,feature_1\n0,1\n"}, ["train.csv", "2"]),
        ({"train_DOT_csv": "timestamp_(min),feature_0,feature_1\n0,1,inf\n"}, ["infinite"]),
        ({"train_DOT_csv": "timestamp_(min),feature_0,feature_1\n0,1,1e39\n"}, ["infinite"]),
    ],
)
def test_bad_psm_files_are_refused_and_nothing_is_left(tmp_path, change, words):
    source = put(tmp_path / "in", **(PSM | change))
    refused(lambda: import_official("PSM", source, tmp_path / "out"), *words)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path):
    source = put(tmp_path / "in", **PSM)
    mine = put(tmp_path / "out/PSM", mine_DOT_txt="years of work")
    with pytest.raises(OutputError, match="is there already"):
        import_official("PSM", source, tmp_path / "out")
    assert [path.name for path in mine.iterdir()] == ["mine.txt"]


def test_unknown_sets_and_absent_sources_are_refused(tmp_path):
    assert set(OFFICIAL) == {"PSM", "SMD", "SWaT", "WADI"}
    with pytest.raises(ConfigError, match="'SWaT'"):
        import_official("SWAT2", tmp_path, tmp_path / "out")
    refused(lambda: import_official("PSM", tmp_path / "nowhere", tmp_path / "out"), "nowhere")
    refused(lambda: import_official("PSM", put(tmp_path / "e"), tmp_path / "out"), "no folder")
    (tmp_path / "in").mkdir()
    refused(lambda: import_official("PSM", tmp_path / "in", tmp_path / "out"), "no train.csv")


def machine(name: str, label: str = "0\n1\n1\n", train: str = "0.1,1\n0.2,1\n") -> dict[str, str]:
    return {
        f"train__{name}_DOT_txt": train,
        f"test__{name}_DOT_txt": "0.3,1\n0.4,1\n0.5,0\n",
        f"test_label__{name}_DOT_txt": label,
    }


@pytest.mark.parametrize("top", ["", "ServerMachineDataset"])
def test_smd_takes_the_machines_that_are_there(tmp_path, top):
    files = machine("machine-3-10") | machine("machine-3-2")
    put(tmp_path / "in" / top, **files, interpretation_label__machine_3_2="")
    (tmp_path / "in" / top / "interpretation_label/machine-3-2.txt").write_text("1-3:2\n")
    import_official("SMD", tmp_path / "in", tmp_path / "out")
    dataset = open_dataset("SMD", tmp_path / "out")
    assert dataset.entities() == ["machine-3-2", "machine-3-10"]
    split = dataset.load("machine-3-2")
    assert split.test.channels == ("f00", "f01")
    np.testing.assert_array_equal(
        split.test.values, np.array([[0.3, 1], [0.4, 1], [0.5, 0]], np.float32)
    )
    assert split.truth.label().tolist() == [False, True, True]
    assert split.truth.causes() == [Cause(1, 3, frozenset({1}))]
    assert split.period_s == 60.0
    assert dataset.load("machine-3-10").truth.causes is None


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"test_label__machine-1-1_DOT_txt": "0\n1\n"}, ["SMD machine-1-1", "2 labels for 3"]),
        ({"test_label__machine-1-1_DOT_txt": "0\n1\n3\n"}, ["SMD machine-1-1", "row 3"]),
        ({"train__machine-1-1_DOT_txt": ""}, ["machine-1-1.txt is empty"]),
        ({"test__machine-1-1_DOT_txt": "1\n2\n3\n"}, ["machine-1-1.txt", "1 columns, not 2"]),
        ({"train__machine-1-2_DOT_txt": "1,2\n"}, ["SMD machine-1-2 is not whole", "test/"]),
        ({"test__machine-1-1_DOT_txt": "1,a\n"}, ["machine-1-1.txt", "'a'"]),
    ],
)
def test_bad_smd_files_are_refused_and_nothing_is_left(tmp_path, files, words):
    source = put(tmp_path / "in", **(machine("machine-1-1") | files))
    refused(lambda: import_official("SMD", source, tmp_path / "out"), *words)
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "nothing").mkdir()
    refused(lambda: import_official("SMD", tmp_path / "nothing", tmp_path / "out"), "machine-")


SWAT_PLAIN = {
    "SWaT_Dataset_Normal_v1_DOT_csv": " Timestamp,FIT101, MV101,Normal/Attack\n"
    " 22/12/2015 4:00:00 PM,0.5,1,Normal\n 22/12/2015 4:00:01 PM,0.25,2,Normal\n",
    "SWaT_Dataset_Attack_v0_DOT_csv": " Timestamp,FIT101, MV101,Normal/Attack\n"
    " 28/12/2015 10:00:00 AM,1.5,1,Normal\n 28/12/2015 10:00:01 AM,2,2,Attack\n"
    " 28/12/2015 10:00:02 AM,2.5,2,A ttack\n",
}
SWAT_EXPORTED = {  # from the spreadsheet: process stages above, semicolons, decimal commas, a tail
    "Physical__SWaT_Dataset_Normal_v1_DOT_csv": "\ufeff;P1;P1;\n Timestamp;FIT101;MV101;"
    "Normal/Attack\n 22/12/2015 4:00:00 PM;0,5;1;Normal\n 22/12/2015 4:00:01 PM;0,25;2;Normal\n",
    "Physical__SwaT_Dataset_Attack_v0_DOT_csv": ";P1;P1;\n Timestamp; MV101 ;FIT101;"
    "Normal/Attack\nx;1;1,5;Normal\nx;2;2;Attack\nx;2;2,5;A ttack \n;;;\n",
}


@pytest.mark.parametrize("files", [SWAT_PLAIN, SWAT_EXPORTED])
def test_swat_in_both_forms_gives_the_same(tmp_path, files):
    import_official("SWaT", put(tmp_path / "in", **files), tmp_path / "out")
    split = open_dataset("SWaT", tmp_path / "out").load("swat")
    assert split.train.channels == ("FIT101", "MV101")
    np.testing.assert_array_equal(split.train.values, [[0.5, 1], [0.25, 2]])
    np.testing.assert_array_equal(split.test.values, [[1.5, 1], [2, 2], [2.5, 2]])
    assert split.truth.label().tolist() == [False, True, True]
    assert split.period_s == 1.0


def test_bad_swat_files_are_refused(tmp_path):
    attack = "SWaT_Dataset_Attack_v0_DOT_csv"
    for number, (change, words) in enumerate(
        [
            ({attack: SWAT_PLAIN[attack].replace("A ttack", "Atack")}, ["row 3", "'Atack'"]),
            ({attack: SWAT_PLAIN[attack].replace("FIT101", "FIT102")}, ["FIT10"]),
            ({attack: SWAT_PLAIN[attack].replace("MV101", "FIT101")}, ["MV101"]),
            ({attack: SWAT_PLAIN[attack].replace("Normal/Attack", "x")}, ["Normal/Attack"]),
            ({f"copy__{attack}": SWAT_PLAIN[attack]}, ["twice"]),
        ]
    ):
        source = put(tmp_path / str(number), **(SWAT_PLAIN | change))
        refused(lambda s=source: import_official("SWaT", s, tmp_path / "out"), *words)
    source = put(tmp_path / "sheet", **{attack: SWAT_PLAIN[attack]})
    (source / "SWaT_Dataset_Normal_v1.xlsx").touch()
    refused(lambda: import_official("SWaT", source, tmp_path / "out"), "spreadsheet", ".csv")


RECORDER = r"\\WIN-25J4RO10SBF\LOG_DATA\SUTD_WADI\LOG_DATA" + "\\"
WADI = {
    "WADI_14days_new_DOT_csv": "Row,Date,Time,1_AIT_001_PV,2_LS_001_AL,1_MV_001_STATUS\n"
    "1,9/25/2017,00:00.0,171.155,,1\n2,9/25/2017,00:01.0,,,1\n",
    "WADI_attackdataLABLE_DOT_csv": ",,,,,,\n"
    'Row ,Date ,Time,1_AIT_001_PV,2_LS_001_AL,1_MV_001_STATUS,"Attack LABLE (1:No Attack, '
    '-1:Attack)"\n1,10/9/17,00:00.0,164.21,,1,1\n2,10/9/17,00:01.0,164.5,,1,-1\n'
    "3,,,,,,\n4,,,,,,\n",
}
WADI_OLD = {
    "WADI_14days_DOT_csv": "a log\n\nof a plant\nAll columns\nRow,Date,Time,"
    + ",".join(RECORDER + name for name in ("1_AIT_001_PV", "2_LS_001_AL", "1_MV_001_STATUS"))
    + "\n1,9/25/2017,00:00.0,171.155,,1\n2,9/25/2017,00:01.0,,,1\n",
}


@pytest.mark.parametrize("train", ["WADI_14days_new_DOT_csv", "WADI_14days_DOT_csv"])
def test_wadi_drops_what_is_empty_and_turns_its_labels(tmp_path, train):
    files = {train: (WADI | WADI_OLD)[train]}
    files["WADI_attackdataLABLE_DOT_csv"] = WADI["WADI_attackdataLABLE_DOT_csv"]
    import_official("WADI", put(tmp_path / "in", **files), tmp_path / "out")
    split = open_dataset("WADI", tmp_path / "out").load("wadi")
    assert split.train.channels == ("1_AIT_001_PV", "1_MV_001_STATUS")
    np.testing.assert_array_equal(
        split.train.values, np.array([[171.155, 1], [NAN, 1]], np.float32)
    )
    np.testing.assert_array_equal(
        split.test.values, np.array([[164.21, 1], [164.5, 1]], np.float32)
    )
    assert split.truth.label().tolist() == [False, True]


def test_wadi_without_labels_asks_for_the_release_that_has_them(tmp_path):
    text = "Row,Date,Time,1_AIT_001_PV,2_LS_001_AL,1_MV_001_STATUS\n1,x,y,1,,1\n"
    source = put(tmp_path / "in", **WADI_OLD, WADI_attackdata_DOT_csv=text)
    refused(lambda: import_official("WADI", source, tmp_path / "out"), "release A2")
    assert not (tmp_path / "out/WADI").exists()


def test_wadi_with_a_label_missing_in_a_row_of_values_is_refused(tmp_path):
    name = "WADI_attackdataLABLE_DOT_csv"
    changed = WADI | {name: WADI[name].replace("164.5,,1,-1", "164.5,,1,")}
    refused(
        lambda: import_official("WADI", put(tmp_path / "in", **changed), tmp_path / "out"),
        "row 2",
        "''",
    )


@pytest.mark.data
def test_the_official_text_of_an_smd_machine_gives_the_public_arrays(benchmark_data, tmp_path):
    name, sums = "machine-1-6", known_sums("SMD")
    assert len(sums) == 4 * 19
    folder = benchmark_data / "SMD" / name
    public = {part: parquet.read_table(folder / f"{part}.parquet") for part in ("train", "test")}
    label = public["test"]["label"].to_pylist()
    texts = {"test_label": "".join(f"{value}\n" for value in label)}
    texts["interpretation_label"] = (folder / "interpretation_label.txt").read_text()
    for part, table in public.items():
        columns = [table[c].to_pylist() for c in table.column_names if c != "label"]
        form = ",".join(["%.6f"] * len(columns)) + "\n"
        texts[part] = "".join(form % row for row in zip(*columns, strict=True))
    for kind, text in texts.items():
        put(tmp_path / "in", **{f"{kind}__{name}_DOT_txt": text})
        assert hashlib.sha256(text.encode()).hexdigest() == sums[f"{kind}/{name}.txt"]
    import_official("SMD", tmp_path / "in", tmp_path / "out")
    ours, theirs = (open_dataset("SMD", r).load(name) for r in (tmp_path / "out", benchmark_data))
    np.testing.assert_array_equal(ours.train.values, theirs.train.values)
    np.testing.assert_array_equal(ours.test.values, theirs.test.values)
    assert ours.train.values.dtype == theirs.train.values.dtype == np.float32
    np.testing.assert_array_equal(ours.truth.label(), theirs.truth.label())
    assert ours.truth.causes() == theirs.truth.causes()
