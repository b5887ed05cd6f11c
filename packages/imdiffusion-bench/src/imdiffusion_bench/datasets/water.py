"""SWaT and WADI, the water plants of iTrust, from the files that its users are sent."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError
from imdiffusion_bench.datasets.layout import Part
from imdiffusion_bench.datasets.sheets import Sheet, open_sheet, trailing_empty
from imdiffusion_bench.datasets.sources import Official, find, single

_SWAT_LABEL = "Normal/Attack"
_SWAT_OTHER = ("Timestamp", _SWAT_LABEL, "Normal", "Attack")
_WADI_OTHER = ("Row", "Date", "Time")
_WADI_LABELS = ("attack lable", "attack label")  # the official file has the first
_AGAIN = "Copy or export both again from one release."


def read_swat(source: Path) -> Official:
    """SWaT (December 2015): SWaT_Dataset_Normal_v1.csv (or v0) and SWaT_Dataset_Attack_v0.csv.

    The header may stand below a line of process stages, names may have blanks around them, and
    the text may have semicolons and decimal commas. Labels are Normal, Attack or "A ttack".
    Raises DataError.
    """
    normal = ("SWaT_Dataset_Normal_v1.csv", "SWaT_Dataset_Normal_v0.csv")
    paths = [find(source, names, "SWaT") for names in (normal, ("SWaT_Dataset_Attack_v0.csv",))]
    train = open_sheet(paths[0], ("Timestamp",))
    test = open_sheet(paths[1], ("Timestamp", _SWAT_LABEL))
    channels = _shared_channels(train, test, _SWAT_OTHER)
    values = test.numbers(channels)
    texts = test.texts(_SWAT_LABEL)
    rows = len(values) - trailing_empty(values)
    label = _coded(texts[:rows], {"normal": 0, "attack": 1}, test.path)
    training = train.numbers(channels)
    training = training[: len(training) - trailing_empty(training)]
    return single(channels, Part("swat", training, values[:rows], label), paths)


def read_wadi(source: Path) -> Official:
    """WADI, release A2 (19 November 2019): WADI_14days_new.csv and WADI_attackdataLABLE.csv.

    Lines before the header, the recorder's path before a name and rows without values at the end
    are passed over; channels without one value in both parts are dropped. Raises DataError, also
    for the first release, whose labels are only in a document.
    """
    train_path = find(source, ("WADI_14days_new.csv", "WADI_14days.csv"), "WADI")
    labelled = ("WADI_attackdataLABLE.csv", "WADI_attackdataLABEL.csv", "WADI_attackdata.csv")
    test_path = find(source, labelled, "WADI")
    train, test = (open_sheet(path, _WADI_OTHER) for path in (train_path, test_path))
    named = [name for name in test.header if name.lower().startswith(_WADI_LABELS)]
    if not named:
        raise DataError(
            f"WADI: {test_path} has no labels (release A1 gives them in a document only)",
            remedy="Use release A2, with WADI_attackdataLABLE.csv.",
        )
    channels = _shared_channels(train, test, (*_WADI_OTHER, *named))
    training, values = train.numbers(channels), test.numbers(channels)
    training = training[: len(training) - trailing_empty(training)]
    rows = len(values) - trailing_empty(values)
    label = _coded(test.texts(named[0])[:rows], {"1": 0, "-1": 1}, test_path)
    empty = np.isnan(training).all(axis=0), np.isnan(values).all(axis=0)
    kept: NDArray[np.bool_] = np.logical_not(np.logical_and(*empty))
    part = Part("wadi", training[:, kept], values[:rows, kept], label)
    names = tuple(name for name, keep in zip(channels, kept, strict=True) if keep)
    return single(names, part, [train_path, test_path])


def _shared_channels(train: Sheet, test: Sheet, others: Collection[str]) -> tuple[str, ...]:
    """The columns of the training file that are channels; DataError unless the test file's too."""
    ours, theirs = (
        tuple(name for name in sheet.header if name and name not in others)
        for sheet in (train, test)
    )
    if not ours:
        raise DataError(f"{train.path} has no channel", remedy=_AGAIN)
    unshared = sorted(set(ours) ^ set(theirs))
    if unshared:
        raise DataError(
            f"{train.path} and {test.path.name} differ in their columns: {unshared[0]!r} is only "
            f"in {'the first' if unshared[0] in ours else 'the second'}",
            remedy=_AGAIN,
        )
    twice = [name for name in ours if ours.count(name) > 1 or theirs.count(name) > 1]
    if twice:
        raise DataError(
            f"the name {twice[0]!r} stands for two columns in {train.path} or {test.path.name}",
            remedy=_AGAIN,
        )
    return ours


def _coded(texts: list[str], codes: dict[str, int], path: Path) -> NDArray[np.int8]:
    """Labels (T,) of texts, in which neither case nor blanks count; DataError for any other."""
    label = np.empty(len(texts), np.int8)
    for row, text in enumerate(texts):
        code = codes.get("".join(text.split()).removesuffix(".0").lower())
        if code is None:
            raise DataError(
                f"{path}, row {row + 1}: the label is {text!r}, not {' or '.join(codes)}",
                remedy=_AGAIN,
            )
        label[row] = code
    return label
