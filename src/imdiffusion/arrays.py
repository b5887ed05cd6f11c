"""Names of array types. Each user states shapes and units in its docstring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]  # of either precision: what a caller hands over
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Instants = NDArray[np.datetime64]
Arrays = dict[str, NDArray[Any]]  # by name: fitted or running state
