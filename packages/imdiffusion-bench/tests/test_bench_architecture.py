"""The walls of the benchmark: no circle, small files, the library's command line and nothing of its
live part; and `import imdiffusion` knows nothing of it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imdiffusion_bench

PACKAGE = Path(imdiffusion_bench.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
FILES = sorted(PACKAGE.rglob("*.py"))
LIVE = ("live", "batch", "report")  # what no measurement needs
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_no_circle_of_files_imports_itself():
    modules = {module_of(path): path for path in FILES}
    del modules["imdiffusion_bench"]  # the package's face names everything, lazily
    graph = {
        name: {one if one in modules else one.rpartition(".")[0] for one in imports(path)}
        & modules.keys() - {name}
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # CycleError names the files


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_file_is_small_and_knows_no_pickle_and_nothing_live(path):
    text = path.read_text()
    assert text.count("\n") < 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long"
    known = imports(path)
    assert not PICKLES & {name.split(".")[0] for name in known}
    assert not [name for name in known for room in LIVE if name.startswith(f"imdiffusion.{room}")]


def test_what_is_declared_is_imported_and_the_reverse():
    declared = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    names = {line.partition(">")[0].partition("=")[0].strip() for line in declared}
    own = {"imdiffusion", "imdiffusion_bench"}
    used = {name.split(".")[0] for path in FILES for name in imports(path)}
    used -= {*sys.stdlib_module_names, *own}
    indirect = {"scikit-learn", "pyod"}  # the library's baselines import them
    assert used == names - indirect - {"imdiffusion"}


def test_the_library_is_imported_without_it():
    program = "import sys, imdiffusion, imdiffusion.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "imdiffusion_bench" not in done.stdout
