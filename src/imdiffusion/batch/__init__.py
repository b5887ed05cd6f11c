"""Many entities: each fitted or scored by itself, on one machine or on a Ray cluster.

from imdiffusion import batch
batch.fit("data/", "models/", backend="local")
batch.detect("data/", "models/", "results/", backend="ray://head:10001")
"""

from imdiffusion.batch.run import Outcome, Summary, detect, fit

__all__ = ["Outcome", "Summary", "detect", "fit"]
