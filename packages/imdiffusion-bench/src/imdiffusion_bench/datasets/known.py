"""The public data sets that are known by name, the SHA-256 of files, and `check`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from imdiffusion.errors import DataError

SegmentEnd = Literal["exclusive", "inclusive"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is said about a data set at its home.

    home         where it is published
    licence      as the home states it
    period_s     seconds between rows, None where the home does not say
    segment_end  whether the end of a segment in interpretation_label.txt belongs to it
    public       whether `fetch` knows the addresses of its files
    entities     how many it has where it is published, None where not counted
    domain       what kind of thing was measured, one of `domains.DOMAINS`; "" = not said
    beside       columns of the files that are neither channels nor the label
    """

    home: str
    licence: str
    period_s: float | None = None
    segment_end: SegmentEnd = "exclusive"
    public: bool = False
    entities: int | None = None
    domain: str = ""
    beside: tuple[str, ...] = ()


_TELEMETRY = "github.com/khundman/telemanom (arrays also in github.com/imperial-qore/TranAD)"
_REQUEST = "iTrust, Singapore University of Technology and Design: only on request"

_TSB_AD = "github.com/TheDatumOrg/TSB-AD, TSB-AD-M file"
_CURATED = "Apache-2.0 (of the curation)"
_UNSTATED = "none stated there"

DATASETS: dict[str, Known] = {
    "SMD": Known(
        "github.com/NetManAIOps/OmniAnomaly, ServerMachineDataset",
        "MIT",
        60.0,
        public=True,
        entities=28,
        domain="servers",
    ),
    "PSM": Known(
        "github.com/eBay/RANSynCoders, data", "CC BY 4.0", 60.0, public=True, domain="servers"
    ),
    "GCP": Known(
        "github.com/NetManAIOps/JumpStarter, dataset/Dataset2",
        "MIT",
        300.0,
        entities=30,
        domain="servers",
    ),
    "ASD": Known(
        "github.com/zhhlee/InterFusion, data/processed",
        "MIT",
        300.0,
        "inclusive",
        entities=12,
        domain="servers",
    ),
    "MSL": Known(_TELEMETRY, "BSD-style", entities=27, domain="spacecraft"),
    # Without channel P-2, which its list has twice, as the arrays in common use.
    "SMAP": Known(_TELEMETRY, "BSD-style", entities=53, domain="spacecraft"),
    "SWaT": Known(_REQUEST, "no redistribution", 1.0, domain="industry"),
    "WADI": Known(_REQUEST, "no redistribution", 1.0, domain="industry"),
    "BATADAL": Known(
        "github.com/rtaormina/aeed, data", _UNSTATED, 3600.0, entities=2, domain="industry"
    ),
    "Genesis": Known(f"{_TSB_AD} 001", _CURATED, entities=1, domain="industry"),
    # Its 35th recording is free of anomalies: training rows without a test part.
    "SKAB": Known(
        "github.com/waico/SKAB, data",
        "GPL-3.0",
        1.0,
        entities=34,
        domain="industry",
        beside=("changepoint",),
    ),
    # The 22nd recording has no fault.
    "TEP": Known(
        "github.com/camaramm/tennessee-eastman-profBraatz",
        "permissive, University of Illinois",
        180.0,
        entities=21,
        domain="industry",
    ),
    "DBSherlock": Known(
        "github.com/dongyoungy/dbsherlock-reproducibility, datasets",
        _UNSTATED,
        1.0,
        entities=10,
        domain="databases",
    ),
    "Daphnet": Known(f"{_TSB_AD} 018", _CURATED, 1 / 64, entities=1, domain="human"),
    "IODA": Known(
        "github.com/mohid-hasan/anomaly_detection",
        _UNSTATED,
        300.0,
        entities=3,
        domain="network and cloud",
    ),
    # Rows an hour or a minute apart: an entity's timestamps say which.
    "MSCloud": Known(
        "github.com/microsoft/cloud-monitoring-dataset, data",
        "MIT",
        entities=5,
        domain="network and cloud",
    ),
    "Nezha": Known(
        "github.com/IntelligentDDS/Nezha, rca_data",
        "MIT",
        60.0,
        entities=2,
        domain="network and cloud",
    ),
}


SUMS = "SHA256SUMS"
_DIGITS = 64


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex digits; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sums(name: str) -> dict[str, str]:
    """SHA-256 of the files at the home of data set `name`, as far as they are known.

    Those of SMD were made from the values published as float32, printed with six decimals: byte
    for byte the text at the home (compared there by the hashes of git).
    """
    text = (files("imdiffusion_bench.datasets") / "checksums.json").read_text(encoding="utf-8")
    sums: dict[str, dict[str, str]] = json.loads(text)
    return sums.get(name, {})


def check(root: Path, name: str) -> int:
    """Hold the files of a data set against SHA256SUMS; the number of files checked.

    The list is `root/name/SHA256SUMS` (written by an import) or else the lines of
    `root/SHA256SUMS` that start with the name. 0 = there is no list, or none of its lines is
    about this set: nothing was checked. Raises DataError naming the first file that is absent or
    differs, and for a list that cannot be read.
    """
    root = Path(root)
    wanted = _wanted(root, name)
    for path, digits in wanted.items():
        _hold(path, digits, root, name)
    return len(wanted)


def check_file(root: Path, name: str, path: Path) -> None:
    """Hold one file of a data set against the same list, where it lists this file.

    Raises DataError where the file differs or cannot be read, and for a list that cannot be.
    """
    digits = _wanted(root, name).get(path)
    if digits is not None:
        _hold(path, digits, root, name)


def _wanted(root: Path, name: str) -> dict[Path, str]:
    """File -> digits, of the files of one data set."""
    own = root / name / SUMS
    return _listed(own, own.parent) or {
        path: digits
        for path, digits in _listed(root / SUMS, root).items()
        if path.is_relative_to(root / name)
    }


def _hold(path: Path, digits: str, root: Path, name: str) -> None:
    shown = path.relative_to(root)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise DataError(
            f"the data set {name} is not whole: {shown} cannot be read ({error.strerror})",
            remedy="Fetch, import or copy it again.",
        ) from error
    if found != digits:
        raise DataError(
            f"the data set {name} was changed or damaged: {shown} has another SHA-256 "
            f"({found[:12]}...) than its list says ({digits[:12]}...)",
            remedy="Fetch, import or copy it again; if the change is intended, correct the list.",
        )


def listed(root: Path) -> list[str]:
    """The data sets that `root/SHA256SUMS` lists, sorted, whether they are there or not."""
    root = Path(root)
    found = (path.relative_to(root).parts for path in _listed(root / SUMS, root))
    return sorted({parts[0] for parts in found if len(parts) > 1})


def _listed(path: Path, folder: Path) -> dict[Path, str]:
    """File -> digits, of a list in the form of sha256sum; empty where there is no list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", remedy="Copy it again, or remove it."
        ) from error
    wanted = {}
    for number, line in enumerate(lines, start=1):
        digits, _, name = line.partition(" ")
        name = name[1:]  # a blank, or * for files that were read as bytes
        if len(digits) != _DIGITS or not set(digits) <= set("0123456789abcdef") or not name:
            raise DataError(
                f"{path}, line {number}: not a line of sha256sum",
                remedy="Copy the list again, or remove it.",
            )
        wanted[folder / name] = digits
    return wanted
