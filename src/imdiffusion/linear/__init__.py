"""The closed-form views of an entity: rows in, scores online and offline out. No torch.

    rows -> residual of each view -> evidence of each channel -> dense and sparse join over channels
         -> scan over widths -> one score a view, and the sparse evidence beside them

Two views are the masks of one Gaussian law (`diffusion.denoisers.gaussian`): `forecast` hides the
newest row, `channel` hides each channel of a row in turn. Residuals look back alone, so a row's
evidence is known when it arrives; offline waits for the windows of the scan that contain it.
`memory` is the distance of the newest patch of rows to the nearest normal one
(`diffusion.denoisers.nearest`), a score as it is; offline waits for the patches that contain a
row.
"""

from __future__ import annotations

from imdiffusion.linear.stream import LinearRun, LinearStream
from imdiffusion.linear.views import MEMORY_ROWS, LinearFit, LinearViews

__all__ = ["MEMORY_ROWS", "LinearFit", "LinearRun", "LinearStream", "LinearViews"]
