"""Two commits, the same programs, one run: what became faster, as ratios.

    python benchmarks/compare.py BASE [PROGRAM ...]      or: make bench-compare BASE=v0.1.0

Both commits are checked out beside each other and take turns, so that a noisy machine is as noisy
for one as for the other. A ratio is the median over the rounds of HEAD's number by BASE's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ledger

ROOT = Path(__file__).parent.parent
PROGRAMS = ("detection", "latency")
Row = dict[str, Any]


def git(*words: str) -> str:
    """What git says; CalledProcessError with its own words where it fails."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True)
    return done.stdout.decode().strip()


def measured(tree: Path, program: str) -> list[Row] | None:
    """The rows of one program in one checkout; None, said aloud, where it measures nothing."""
    script = tree / "benchmarks" / f"{program}.py"
    if not script.exists():
        print(f"{program}: not in {tree.name}")
        return None
    result = tree / "benchmarks" / "results" / f"{program}.json"
    result.unlink(missing_ok=True)  # what was committed there is no measurement of this run
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    subprocess.run([sys.executable, str(script)], check=True, env=environment, capture_output=True)
    if not result.exists():
        print(f"{program}: measured nothing in {tree.name}")
        return None
    rows: list[Row] = json.loads(result.read_text(encoding="utf-8"))["rows"]
    return rows


def name_of(row: Row) -> str:
    """What a row is about: its words."""
    return ", ".join(str(value) for value in row.values() if isinstance(value, str))


def ratios(base: list[list[Row]], head: list[list[Row]]) -> list[Row]:
    """One row a number that both have: BASE, HEAD (medians), and the median of their ratios."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for before, after in zip(base, head, strict=True):
        old = {name_of(row): row for row in before}
        for row in after:
            for column, value in row.items():
                other: Any = old.get(name_of(row), {}).get(column)
                if all(type(one) in (int, float) for one in (value, other)):
                    found.setdefault((name_of(row), column), []).append((other, value))
    return [
        {
            "what": what,
            "number": column,
            "base": round(statistics.median(old for old, _ in pairs), 4),
            "head": round(statistics.median(new for _, new in pairs), 4),
            "ratio": round(statistics.median(new / old if old else 1.0 for old, new in pairs), 3),
        }
        for (what, column), pairs in found.items()
    ]


def main() -> None:
    """Check both commits out, let them take turns, print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="commit to compare HEAD with")
    parser.add_argument("programs", nargs="*", default=PROGRAMS, help="names of benchmarks")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"base": Path(folder) / "base", "head": Path(folder) / "head"}
        try:
            for name, commit in (("base", asked.base), ("head", "HEAD")):
                git("worktree", "add", "--detach", str(trees[name]), git("rev-parse", commit))
            for program in asked.programs:
                kept: dict[str, list[list[Row]]] = {"base": [], "head": []}
                for _ in range(asked.rounds):
                    rows = {name: measured(tree, program) for name, tree in trees.items()}
                    for name, found in rows.items():
                        if found is not None:
                            kept[name].append(found)
                if kept["base"] and kept["head"]:
                    ledger.keep(program, ratios(kept["base"], kept["head"]), small=True)
        finally:
            for tree in trees.values():
                subprocess.run(
                    ["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)],
                    check=False,  # it may not have come to be
                    capture_output=True,
                )


if __name__ == "__main__":
    main()
