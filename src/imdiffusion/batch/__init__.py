"""Many entities: each fitted or scored by itself, on one machine or on a Ray cluster.

from imdiffusion import batch
batch.fit("data/", "models/", on="local")
batch.detect("data/", "models/", "results/", on="ray://head:10001")
"""

from imdiffusion.batch.progress import Outcome, Summary
from imdiffusion.batch.run import detect, fit

__all__ = ["Outcome", "Summary", "detect", "fit"]
