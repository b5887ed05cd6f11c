"""Many entities: each fitted or scored by itself, on one machine or on a Ray cluster.

from imdiffusion import fleet
fleet.fit("data/", "models/", on="local")
fleet.detect("data/", "models/", "results/", on="ray://head:10001")
"""

from imdiffusion.fleet.campaign import detect, fit
from imdiffusion.fleet.tally import Outcome, Summary

__all__ = ["Outcome", "Summary", "detect", "fit"]
