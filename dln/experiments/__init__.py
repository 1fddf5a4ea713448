"""Experiments of the command line: one module each, found by listing this folder (but for names that begin with _).

A module has `TITLE`, `options(parser)` that adds its command-line options, and `run(options) -> Outcome`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .. import checks

__all__ = ["MAIN", "Outcome", "load", "names"]

MAIN = "saddle-to-saddle"


@dataclass(frozen=True)
class Outcome:
    """What an experiment gives back: a table, a figure, and numbers for machines."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    parameters: Mapping[str, Any]
    success: bool = True
    figures: Mapping[str, Any] = field(default_factory=dict)


def names() -> tuple[str, ...]:
    """Names of all experiments, the main one first."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    found = sorted(name.replace("_", "-") for name in modules if not name.startswith("_"))
    return tuple(sorted(found, key=lambda name: name != MAIN))


def load(name: str) -> ModuleType:
    """Module of an experiment."""
    checks.one_of(name, "experiment", names())
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)
