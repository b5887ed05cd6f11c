"""Series made to order: how hard the normal part is and what is wrong with it are dials."""

from imdiffusion_bench.generator.config import KINDS, Dials
from imdiffusion_bench.generator.generate import Generated, generate, open_generated

__all__ = ["KINDS", "Dials", "Generated", "generate", "open_generated"]
