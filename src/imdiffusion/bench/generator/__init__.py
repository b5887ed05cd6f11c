"""Series made to order: how hard the normal part is and what is wrong with it are dials."""

from imdiffusion.bench.generator.dials import KINDS, Dials
from imdiffusion.bench.generator.making import Generated, generate, open_generated

__all__ = ["KINDS", "Dials", "Generated", "generate", "open_generated"]
