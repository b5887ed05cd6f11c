"""Seconds that an import adds to a fresh interpreter. Goal: `import imdiffusion` under 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

import ledger

GOAL = 0.3
STATEMENTS = (
    "import imdiffusion",
    "from imdiffusion import read",
    "import imdiffusion.cli",
    "from imdiffusion import ImDiffusion",
)


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that executes `statement`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def loads_torch(statement: str) -> bool:
    """Whether the statement imports torch."""
    program = f"{statement}\nimport sys; sys.exit('torch' in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", program], check=False).returncode)


def main() -> None:
    """Measure every statement, alternating with an empty program, and keep the medians."""
    small = ledger.small()
    rows: list[dict[str, Any]] = []
    for statement in STATEMENTS:
        added = [seconds(statement) - seconds("pass") for _ in range(1 if small else 15)]
        rows.append(
            {
                "statement": statement,
                "median_s": round(statistics.median(added), 4),
                "worst_s": round(max(added), 4),
                "imports_torch": loads_torch(statement),
            }
        )
    ledger.keep("import_time", rows, small=small)
    if not small and (rows[0]["median_s"] > GOAL or rows[0]["imports_torch"]):
        sys.exit(f"goal missed: `{STATEMENTS[0]}` is to take under {GOAL} s, without torch")


if __name__ == "__main__":
    main()
