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
    """

    home: str
    licence: str
    period_s: float | None = None
    segment_end: SegmentEnd = "exclusive"
    public: bool = False
    entities: int | None = None


_TELEMETRY = "github.com/khundman/telemanom (arrays also in github.com/imperial-qore/TranAD)"
_REQUEST = "iTrust, Singapore University of Technology and Design: only on request"

DATASETS: dict[str, Known] = {
    "SMD": Known(
        "github.com/NetManAIOps/OmniAnomaly, ServerMachineDataset",
        "MIT",
        60.0,
        public=True,
        entities=28,
    ),
    "PSM": Known("github.com/eBay/RANSynCoders, data", "CC BY 4.0", 60.0, public=True),
    "GCP": Known("github.com/NetManAIOps/JumpStarter, dataset/Dataset2", "MIT", 300.0, entities=30),
    "ASD": Known(
        "github.com/zhhlee/InterFusion, data/processed", "MIT", 300.0, "inclusive", entities=12
    ),
    "MSL": Known(_TELEMETRY, "BSD-style", entities=27),
    # Without channel P-2, which its list has twice, as the arrays in common use.
    "SMAP": Known(_TELEMETRY, "BSD-style", entities=53),
    "SWaT": Known(_REQUEST, "no redistribution", 1.0),
    "WADI": Known(_REQUEST, "no redistribution", 1.0),
}
