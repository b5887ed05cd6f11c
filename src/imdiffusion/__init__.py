"""Anomaly detection for multivariate time series by diffusion imputation.

The whole public face is `ImDiffusion`; everything else is for those who look deeper:

    from imdiffusion import ImDiffusion
    detector = ImDiffusion(preset="fast", seed=0).fit(train)
    score = detector.decision_function(test)

Importing this package does not import torch: names load on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imdiffusion.data.files import read
    from imdiffusion.data.frame import Frame
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.results import Analysis
    from imdiffusion.scoring.event import Event

__version__ = "0.1.0"
__all__ = ["Analysis", "Event", "Frame", "ImDiffusion", "__version__", "read"]

_LAZY = {
    "Analysis": "imdiffusion.results",
    "Event": "imdiffusion.scoring.event",
    "Frame": "imdiffusion.data.frame",
    "ImDiffusion": "imdiffusion.detector",
    "read": "imdiffusion.data.files",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
