"""The figures that the paper published, as constants, and where they come from.

Source: ImDiffusion (Chen et al., PVLDB 17, 2023), the table of detection results: point-adjusted
precision, recall and F1 over six runs with the threshold chosen on test labels, R-AUC-PR beside
them. The delay (ADD) is published as a relative figure alone.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "ImDiffusion, PVLDB 2023: six runs, thresholds chosen on test labels, whole data sets"


@dataclass(frozen=True, slots=True)
class Published:
    """One data set's published figures: shares between 0 and 1."""

    precision: float
    recall: float
    f1: float
    f1_std: float
    r_auc_pr: float


PUBLISHED = {
    "SMD": Published(0.9520, 0.9509, 0.9488, 0.0039, 0.3821),
    "PSM": Published(0.9811, 0.9753, 0.9781, 0.0072, 0.4711),
    "SWaT": Published(0.8988, 0.8465, 0.8709, 0.0124, 0.1939),
    "SMAP": Published(0.8771, 0.9618, 0.9175, 0.0095, 0.1105),
    "MSL": Published(0.8930, 0.8638, 0.8779, 0.0152, 0.2381),
    "GCP": Published(0.9771, 0.9825, 0.9774, 0.0014, 0.3957),
}

# Means over the six data sets: F1, R-AUC-PR.
PUBLISHED_MEANS = {
    "ImDiffusion": (0.9284, 0.2986),
    "OmniAnomaly": (0.8887, 0.2377),
    "InterFusion": (0.8739, 0.1962),
    "TranAD": (0.8666, 0.2127),
    "BeatGAN": (0.8560, 0.2501),
    "MTAD-GAT": (0.8211, 0.2482),
    "MAD-GAN": (0.7978, 0.2250),
    "GDN": (0.7020, 0.1756),
    "LSTM-AD": (0.6907, 0.1809),
    "MSCRED": (0.6353, 0.2052),
    "Isolation Forest": (0.5369, 0.1099),
}

# Published on all entities joined to one series.
JOINED = frozenset({"MSL", "SMAP"})

# The ensemble against its last step alone, relative: F1 and detection delay.
ENSEMBLE_F1 = 0.0073
ENSEMBLE_ADD = -0.358


def published(dataset: str) -> Published | None:
    """The figures of a data set, also of its concatenated form; None where there are none."""
    return PUBLISHED.get(dataset.removesuffix("-concatenated"))
