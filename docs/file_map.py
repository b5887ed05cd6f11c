"""Brings the file map in docs/architecture.md up to date: `python docs/file_map.py`.

A Python file is described by the first sentence of its docstring, a JavaScript file by its first
line, a benchmark's result by its name, and any other file by what the map already says. A new one
that is neither gets "?", which the tests do not accept.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("architecture.md")
HEADING = "## File map"
LINE = re.compile(r"^([\w./-]+)  +(\S.*)$", flags=re.MULTILINE)


def files() -> list[str]:
    """Every file of the project: known to git, or new and not ignored."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(name for name in listed.stdout.splitlines() if (ROOT / name).exists())


def updated(page: str) -> str:
    """The page with a map of the files that exist now."""
    head, _, section = page.partition(HEADING)
    before, _, rest = section.partition("```text\n")
    old, _, after = rest.partition("```")
    said = dict(LINE.findall(old))
    lines = [f"{name}  {_sentence(name) or said.get(name, '?')}" for name in files()]
    return "".join([head, HEADING, before, "```text\n", "\n".join(lines), "\n```", after])


def _sentence(name: str) -> str:
    if name.startswith("docs/results/runs/"):
        return f"The runs of the plan `{Path(name).name.partition('.')[0]}`, a JSON line each"
    if name.startswith("docs/studies/gallery/"):
        return "A case of docs/studies/gallery.md"
    if name == "docs/results/README.md":
        return "The list of results and studies"
    if re.match(r"docs/(results|studies)/\w+\.(md|svg)$", name):
        kind = {"md": "tables", "svg": "plot"}[name.rpartition(".")[2]]
        return f"The {kind} of `{Path(name).stem}`, written by `imdiffusion bench document`"
    maker = f"{Path(name).stem}.py"
    if name.startswith("benchmarks/results/") and (ROOT / "benchmarks" / maker).exists():
        return f"What {maker} measured last, with machine and commit"
    if name.endswith(".js"):
        comment = re.match(r"// (.*)", (ROOT / name).read_text())
        return comment[1].rstrip(".") if comment else ""
    if not name.endswith(".py"):
        return ""
    text = ast.get_docstring(ast.parse((ROOT / name).read_text())) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z)`])\. (?=[A-Z`])", first)[0].rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
