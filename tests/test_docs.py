"""What the documents say is held true: their examples run, and what they name exists."""

from __future__ import annotations

import ast
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from functools import cache
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import imdiffusion
from imdiffusion import registry
from imdiffusion.cli import main
from imdiffusion.live.config.schema import SECTIONS
from imdiffusion.presets import PRESETS
from imdiffusion.settings import Settings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
METHOD = ROOT / "docs" / "method.md"
CONNECTORS = [ROOT / "docs" / name for name in ("connectors.md", "prometheus.md")]
DOCUMENTS = [
    README,
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# Written at the time and true of that time: what it names may be gone.
LIVING = [path for path in DOCUMENTS if path.name not in ("log.md", "CHANGELOG.md")]
BASES = ("", "src/imdiffusion", "packages/imdiffusion-bench/src")  # where a named file may lie
BLOCK = re.compile(r"(<!-- tested -->\n+)?```(\w*)\n(.*?)```", re.DOTALL)
KEYWORDS = {"preset", "seed", "device", "exclude", "checkpoint", "on_progress"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def inline(path: Path) -> list[str]:
    """Every piece of inline code of a document."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", path.read_text()))


def code(path: Path) -> list[str]:
    """Everything a document sets as code: its inline code, and the lines of its blocks."""
    blocks = BLOCK.finditer(path.read_text())
    return inline(path) + [line for block in blocks for line in block[3].splitlines()]


# -- the own-data example


def own_data(folder: Path) -> None:
    """train.csv, new.csv and new.parquet: three coupled channels, a fault at rows 300 to 330."""
    generator = np.random.default_rng(7)

    def table(rows: int, start: str) -> pd.DataFrame:
        phase = np.arange(rows) * (2 * np.pi / 120)
        load = 50 + 20 * np.sin(phase) + generator.normal(0, 2, rows)
        return pd.DataFrame(
            {
                "timestamp": pd.date_range(start, periods=rows, freq="1min", tz="UTC"),
                "cpu": load,
                "memory": 4 + 0.02 * load + generator.normal(0, 0.05, rows),
                "requests": 10 * load + generator.normal(0, 10, rows),
            }
        )

    table(1500, "2026-01-05").to_csv(folder / "train.csv", index=False)
    new = table(600, "2026-01-07")
    new.loc[300:330, "cpu"] = 99.0
    new.to_csv(folder / "new.csv", index=False)
    new.to_parquet(folder / "new.parquet", index=False)


# The examples run word for word, but for a minute less: every interpreter started there reads this.
SHORT_TRAINING = """
from dataclasses import replace
from imdiffusion.presets import PRESETS
small = {"max_epochs": 0, "max_steps": 4, "validate_every": 2, "width": 8, "feedforward": 8}
PRESETS["fast"] = replace(PRESETS["fast"], **small)
"""


def test_the_readme_is_short_and_its_examples_run(tmp_path):
    text = README.read_text()
    assert text.count("\n") <= 150
    tested = [(kind, body) for mark, kind, body in BLOCK.findall(text) if mark]
    assert {kind for kind, _ in tested} >= {"python", "sh"}, "mark the examples <!-- tested -->"
    own_data(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(SHORT_TRAINING)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for kind, body in tested:
        command = {"python": [sys.executable, "-c"], "sh": ["bash", "-euo", "pipefail", "-c"]}[kind]
        done = subprocess.run(
            [*command, body],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"


# -- what the documents name


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        if file.startswith(("https:", "http:", "mailto:")):
            continue
        there = path.parent / file if file else path
        assert there.exists(), f"{name_of(path)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), flags=re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{name_of(path)} links to {target}"


@cache
def definitions(file: Path) -> frozenset[str]:
    """Functions, classes, `Class.method`s and constants of a Python file."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{i.name}" for i in inner if isinstance(i, ast.FunctionDef)}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


@pytest.mark.parametrize("path", LIVING, ids=name_of)
def test_named_files_and_functions_exist(path):
    for snippet in code(path):
        for file, function in re.findall(r"([\w/.-]+\.py):([A-Za-z_][\w.]*)", snippet):
            there = next(p for base in BASES if (p := ROOT / base / file).exists())
            assert function in definitions(there), f"{name_of(path)}: {file}:{function}"
        if re.fullmatch(r"(src|tests|docs|benchmarks|examples|packages)/[a-z0-9_/.-]*", snippet):
            assert (ROOT / snippet).exists(), f"{name_of(path)}: {snippet}"


@pytest.mark.parametrize("path", LIVING, ids=name_of)
def test_named_settings_exist(path):
    known = {item.name for item in fields(Settings)} | KEYWORDS | {"key"}
    named = [name for text in inline(path) for name in re.findall(r"^([a-z_]+)=(?!=)\S+$", text)]
    for snippet in code(path):
        named += re.findall(r"--set (\w+)=", snippet)
        for call in re.findall(r"ImDiffusion\(([^()]*)\)", snippet):
            named += re.findall(r"(\w+)=", call)
    assert set(named) <= known


def test_every_choice_made_by_name_is_in_the_method():
    live = "".join(path.read_text() for path in CONNECTORS if path.exists())
    for table, members in registry.TABLES.items():
        text = live if table in ("sources", "sinks") else METHOD.read_text()
        text = (ROOT / "docs" / "many-entities.md").read_text() if table == "backends" else text
        for member in members:
            assert f"`{member}`" in text, f"{table}: {member} is missing in the docs"


def test_the_architecture_names_files_that_exist():
    for name in re.findall(r"`([a-z_/]+\.py)`", ARCHITECTURE.read_text()):
        assert any((ROOT / base / name).exists() for base in BASES), name


def test_every_public_name_is_in_the_glossary():
    text = (ROOT / "docs" / "glossary.md").read_text()
    public = [name for name in dir(imdiffusion.ImDiffusion) if not name.startswith("_")]
    public += [*set(imdiffusion.__all__) - {"__version__"}, *PRESETS]
    assert [name for name in public if f"`{name}`" not in text] == []
    tables = [table.removesuffix("s").replace("_", " ") for table in registry.TABLES]
    assert [word for word in tables if word not in text] == []
    assert [name for name in SECTIONS if f"`[{name}]`" not in text] == []


@pytest.mark.parametrize("path", LIVING, ids=name_of)
def test_named_make_verbs_exist(path):
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for snippet in code(path):
        for verb in re.findall(r"^make ([a-z-]+)", snippet):
            assert verb in phony[1].split(), f"{name_of(path)}: make {verb}"


@cache
def help_of(*verbs: str) -> str:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setenv("COLUMNS", "300")
        patch.setenv("NO_COLOR", "1")
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as end:
            main([*verbs, "--help"])
        signal.signal(signal.SIGTERM, before)
    assert not end.value.code, f"imdiffusion {' '.join(verbs)}"
    return out.getvalue()


@pytest.mark.parametrize("path", LIVING, ids=name_of)
def test_named_commands_and_options_exist(path):
    for snippet in code(path):
        command = re.match(r"(?:\$ )?imdiffusion ([a-z]+)\b([^|#>]*)", snippet)
        if not command:
            continue
        verbs, rest = [command[1]], command[2]
        inner = re.match(r" ([a-z]+)\b", rest)  # `imdiffusion config check FILE`
        if inner and verbs[0] in ("batch", "bench", "config", "model"):
            verbs.append(inner[1])
        text = help_of(*verbs)
        for option in re.findall(r"--[a-z][a-z-]*", rest):
            assert option in text, f"{name_of(path)}: {snippet}"


# -- what is written by a program, or complete


def test_the_settings_page_is_current():
    page = runpy.run_path(str(ROOT / "docs" / "settings.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text() == page, "run: make docs"
