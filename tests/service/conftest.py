"""Live states with a story, and the service over them on a real socket."""

from __future__ import annotations

import sys
from pathlib import Path

for room in ("stream", "report"):
    sys.path.append(str(Path(__file__).parents[1] / room))
