"""A line between visible rows, and their mean, as denoisers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers.interpolation import Interpolation, VisibleMean

KIND = {"conditioning": "conditional", "prediction": "x0"}


def predicted(kind: type[Interpolation] | type[VisibleMean], x: np.ndarray, seen: np.ndarray):
    denoiser = kind(x.shape[1], x.shape[2], **KIND)
    denoiser.fit_rows(x.reshape(-1, x.shape[2]), np.ones(x.reshape(-1, x.shape[2]).shape, bool))
    t = torch.zeros(len(x), dtype=torch.int64)
    found = denoiser(torch.from_numpy(x).float(), t, torch.from_numpy(seen), t)
    return found.numpy(), denoiser.centre.numpy()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_rows_are_those_of_numpys_interpolation(seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    x, seen = generator.normal(3, 2, (2, 12, 3)), generator.random((2, 12, 3)) < share
    line, centre = predicted(Interpolation, x, seen)
    mean, _ = predicted(VisibleMean, x, seen)
    rows = np.arange(12)
    for b in range(2):
        for k in range(3):
            own = seen[b, :, k]
            if own.any():
                wanted = np.interp(rows, rows[own], x[b, own, k])
                middle = np.full(12, x[b, own, k].mean())
            else:
                wanted = middle = np.full(12, centre[k])
            np.testing.assert_allclose(line[b, :, k], wanted, atol=1e-4)
            np.testing.assert_allclose(mean[b, :, k], middle, atol=1e-4)
