"""The public data sets that are known by name: homes, periods, and how segments are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SegmentEnd = Literal["exclusive", "inclusive"]


@dataclass(frozen=True, slots=True)
class Known:
    """What is said about a data set at its home.

    home         where it is published
    licence      as the home states it
    period_s     seconds between rows, None where the home does not say
    segment_end  whether the end of a segment in interpretation_label.txt belongs to it
    public       whether `fetch` knows the addresses of its files
    entities     how many it has where it is published, None where nobody counts
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
