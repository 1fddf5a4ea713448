"""The house: what each floor may import, what importing the library loads, what is public, what the linters say."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import dln

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dln"

# A module may import those on lower floors, and its own package.
FLOORS = (
    {"typing", "progress"},
    {"core", "checks"},
    {"network", "costs", "inits", "method", "files", "scaling"},
    {"problem", "critical", "schatten", "rank", "symmetries"},
    {"trajectory"},
    {"form", "backends"},
    {"watch"},
    {"flow", "descent"},
    {"data", "exact", "landscape", "nonlinear", "saddles"},
    {"infinite"},
    {"regimes", "theorems"},
    {"plotting"},
    {"experiments", "doctor", "bench"},
    {"cli"},
)
# Imports inside functions that look upwards: a door that is opened only when someone asks.
DOORS = {
    ("trajectory", "plotting"),
    ("trajectory", "flow"),
    ("trajectory", "form"),
    ("trajectory", "exact"),
    ("flow", "exact"),
    ("costs", "core"),
}
HOMES = {
    "numba": {"core", "bench"},
    "llvmlite": {"core"},
    "sympy": {"theorems"},
    "matplotlib": {"plotting", "experiments", "bench"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path):
    """Name of the module or package directly below dln."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """(units of dln, packages of others) that a file imports anywhere but for type checking."""
    depth = len(path.relative_to(PACKAGE).parts)
    own, foreign = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = (node.module or "").split(".")
            if node.level == depth:
                own |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            foreign.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            foreign |= {alias.name.split(".")[0] for alias in node.names}
    return own, foreign


def floor(name):
    return next(i for i, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_and_heavy_packages_stay_at_home(path):
    here = unit(path)
    if here == "__init__":
        return
    own, foreign = imports(path)
    for other in own - {here}:
        if other in {"__version__"}:
            continue
        assert floor(other) < floor(here) or (here, other) in DOORS, f"{here} may not import {other}"
    for package, homes in HOMES.items():
        if package in foreign:
            type_only = package == "matplotlib" and here == "trajectory"
            assert here in homes or type_only, f"{here} may not import {package}"


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_dln_loads_numpy_at_most():
    heavy = {"numba", "llvmlite", "scipy", "sympy", "matplotlib", "rich", "pandas", "xarray"}
    assert not heavy & loaded_after("import dln")
    assert not heavy & loaded_after(
        "import dln; dln.costs.FullyObserved([[1.0]]); dln.inits.ALL; dln.methods"
    )
    assert not {"numpy", *heavy} & loaded_after("import dln.cli")


def test_public_names_resolve_and_do_not_hide_behind_modules():
    for name in dln.__all__:
        assert getattr(dln, name) is not None
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if path.is_dir()
    }
    functions = {name for name, home in dln._HOME.items() if name != home}
    assert not functions & modules
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dln.nothing  # noqa: B018
    source = (PACKAGE / "__init__.py").read_text()
    for name in dln._HOME:
        assert f" as {name}\n" in source  # what type checkers see is what there is


def test_public_functions_are_documented_and_typed():
    for name in dln.__all__:
        thing = getattr(dln, name)
        if callable(thing):
            assert thing.__doc__
            assert thing.__doc__.strip()
            if not isinstance(thing, type):
                hints = typing.get_type_hints(thing, vars(importlib.import_module(thing.__module__)))
                assert "return" in hints


CODE = ("dln", "tests", "benchmarks", "examples")
LINTERS = (("ruff", "check", *CODE), ("ruff", "format", "--check", *CODE), ("mypy",))


@pytest.mark.parametrize("command", LINTERS, ids=lambda command: " ".join(command[:2]))
def test_linters(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
