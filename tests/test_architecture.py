"""The walls of docs/architecture.md, held: layers, torch at the edge, no pickle, small files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imdiffusion

SRC = Path(__file__).parents[1] / "src"
FILES = sorted(SRC.rglob("*.py"))

# Room -> row of the table of layers: a file imports from its own room and from the rows above.
TABLE = (SRC.parent / "docs" / "architecture.md").read_text().partition("## Layers")[2]
ROWS = re.findall(r"^\| (`[^|]*`) \|", TABLE.partition("\n## ")[0], flags=re.MULTILINE)
LAYERS = {name: row for row, names in enumerate(ROWS) for name in re.findall(r"`([a-z_.]+)", names)}
# Sharper than the layers: who has never heard of whom.
STRANGERS = {
    "data": {"torch"},
    "masks": {"torch"},
    "diffusion": {"imdiffusion.data"},
    "scoring": {"torch"},
    "baselines": {"torch"},
    "report": {"torch"},
    "live.connection": {"torch", "imdiffusion.detector"},
    "live.sources": {"torch", "imdiffusion.detector"},
    "live.sinks": {"torch", "imdiffusion.detector"},
    "live.service": {"torch", "imdiffusion.detector"},
}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
OPTIONAL = {
    "matplotlib", "confluent_kafka", "cramjam", "fastapi", "pydantic", "uvicorn",
    "sklearn", "pyod", "ray", "holidays",
}  # fmt: skip


def room(module: str) -> str:
    """The first part of a module's name; of `live`, which has rooms of its own, two parts."""
    first, _, rest = module.removeprefix("imdiffusion").lstrip(".").partition(".")
    inner = rest.partition(".")[0]
    if first == "live" and (SRC / "imdiffusion" / first / inner / "__init__.py").exists() and inner:
        return f"{first}.{inner}"
    return first


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module a file imports, wherever in the file."""
    return tuple(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:  # `from imdiffusion import ImDiffusion` means its module
                whole = f"{node.module}.{alias.name}"
                lazy = imdiffusion._LAZY.get(alias.name, whole)
                yield lazy if node.module == "imdiffusion" else whole


def ids(path: Path) -> str:
    return str(path.relative_to(SRC / "imdiffusion"))


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_file_imports_only_from_the_layers_above_it(path):
    own = room(".".join(path.relative_to(SRC).with_suffix("").parts))
    if own in ("", "__init__"):
        return  # the package's face names everything, lazily
    assert own in LAYERS, f"room {own!r} has no row in the table of docs/architecture.md"
    for module in imports(path):
        if module.startswith("imdiffusion.") and (other := room(module)) in LAYERS:
            assert own == other or LAYERS[other] < LAYERS[own], f"{own} must not import {module}"
        for stranger in STRANGERS.get(own, ()):
            assert f"{module}.".find(f"{stranger}.") != 0, f"{own} must not know {module}"


def test_no_circle_of_files_imports_itself():
    modules = {".".join(path.relative_to(SRC).with_suffix("").parts): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    del modules["imdiffusion"]  # the package's face names everything, lazily
    graph = {
        name: {
            module if module in modules else module.rpartition(".")[0] for module in imports(path)
        }
        & modules.keys() - {name}
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # CycleError names the files


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_a_file_is_free_of_pickles_and_small(path):
    assert not PICKLES & {module.split(".")[0] for module in imports(path)}
    text = path.read_text()
    assert text.count("\n") < 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long"


def users() -> dict[str, set[str]]:
    """Every package that is neither ours nor Python's, with the files that import it."""
    found = defaultdict(set)
    for path in FILES:
        for module in imports(path):
            package = module.split(".")[0]
            if package != "imdiffusion" and package not in sys.stdlib_module_names:
                found[package].add(ids(path))
    return found


def test_each_optional_dependency_is_imported_in_one_file():
    assert {name: len(users()[name]) for name in OPTIONAL} == dict.fromkeys(OPTIONAL, 1)


def test_what_is_declared_is_imported_and_has_its_reason():
    project = tomllib.loads((SRC.parent / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", line)[0] for line in project["dependencies"]}
    assert users().keys() - OPTIONAL == declared
    reasons = (SRC.parent / "docs" / "architecture.md").read_text()
    for name in declared | OPTIONAL:
        assert re.search(rf"^\| {name}\b.*\| \w", reasons, flags=re.MULTILINE), name


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import imdiffusion", {"torch", "numpy", "pyarrow", "scipy"}),
        ("import imdiffusion.presets; imdiffusion.presets.schema()", {"torch", "numpy"}),
        ("from imdiffusion import read, Frame", {"torch"}),
        ("import imdiffusion.cli", {"torch", "scipy"}),
    ],
)
def test_a_light_import_stays_light(statement, absent):
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not absent & set(done.stdout.split())
