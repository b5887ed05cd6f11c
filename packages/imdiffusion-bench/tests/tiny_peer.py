"""A peer's worker of our own, small enough to be worked out by hand."""

import sys
from pathlib import Path

import numpy as np

PYTHON = Path(sys.executable)
JOB = {"method": "far", "seed": 1, "epochs": None, "steps": None, "window": None, "threads": 1}
TRAIN = np.arange(12.0).reshape(6, 2)
TEST = np.array([[0.0, 1.0], [5.0, 6.0], [50.0, 6.0]])

# Distance from the training mean; it prints as packages do, and looks at what it may not import.
FAR = """
    import sys
    import numpy as np

    VERSIONS = ("numpy",)

    def fit(train, job):
        print("a package prints what it likes")
        print("imdiffusion" in sys.modules, file=sys.stderr)
        assert job["method"] == "far" and job["steps"] is None
        mean = train.mean(axis=0)
        return lambda test: np.abs(test - mean).max(axis=1)
"""
