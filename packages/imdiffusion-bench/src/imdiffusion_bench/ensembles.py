"""What joining diffusion steps brings: ranking by the last n steps, and how alike steps are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion_bench.metrics.ranking import auc_pr
from imdiffusion_bench.protocols import steps as voting

SIZES = (1, 2, 3, 5, 10, 20, 30, 50)


def ensemble_curve(step_errors: NDArray[np.float32], label: NDArray[np.bool_]) -> dict[str, Any]:
    """AUC-PR of the mean error over the last n steps, and the correlation between steps.

    step_errors (S, T), the last step last; label (T,). Each step's errors are divided by their
    mean first, so that an early, noisier step does not outweigh the late ones. Rows that any step
    left without an error are not looked at. `ensemble_voting`: the AUC-PR of the mean over the ten
    steps that vote in the released code, every third from the last. `step_correlation`: mean
    Pearson correlation of the last step with each other step of the last ten.
    """
    known = ~np.isnan(step_errors).any(axis=0)
    errors, truth = step_errors[:, known].astype(np.float64), label[known]
    steps, voters = len(errors), voting(len(errors))
    sizes = [size for size in SIZES if size <= steps]
    level = errors.mean(axis=1, keepdims=True)
    relative = errors / np.where(level > 0, level, 1.0)
    curve = [
        auc_pr(truth, relative[-size:].mean(axis=0)) if truth.any() else None for size in sizes
    ]
    joined = auc_pr(truth, relative[voters].mean(axis=0)) if truth.any() else None
    late = errors[-10:]
    correlation = None
    if len(late) > 1 and (late.std(axis=1) > 0).all():
        correlation = float(np.corrcoef(late)[-1, :-1].mean())
    return {
        "ensemble_sizes": sizes,
        "ensemble_auc_pr": curve,
        "ensemble_voting": joined,
        "step_correlation": correlation,
    }
