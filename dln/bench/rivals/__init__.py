"""The methods that are compared: each a name, the packages it needs, and an adapter of at most twenty lines.

An adapter takes a `Job` and returns `solve(rtol)`, which gives back a `Solution`. All that is prepared once
(compilation, buffers) belongs in the adapter, all that a user pays for each run in `solve`. Packages are
imported inside the adapters: one that is missing leaves its methods out, and nothing else. The count of
calls in `job.data` is set back before each solve.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterable, Sequence

from . import native, own, python, tensors
from .base import LIMIT, LONGEST, MAX_STEPS, Job, Method, Solution

__all__ = ["ALL", "LIMIT", "LONGEST", "MAX_STEPS", "Job", "Method", "Solution", "choose", "collect"]

ALL: dict[str, Method] = {m.name: m for m in (*own.ALL, *python.ALL, *native.ALL, *tensors.ALL)}


def collect(files: Iterable[str] = ()) -> dict[str, Method]:
    """`ALL`, together with the lists or mappings named `ALL` in the given Python files."""
    methods = dict(ALL)
    for file in files:
        try:
            added = runpy.run_path(file)["ALL"]
        except KeyError:
            raise ValueError(
                f"`--also` must be a Python file with a list `ALL` of methods, got {file!r}. Add the list."
            ) from None
        methods.update({m.name: m for m in (added.values() if isinstance(added, dict) else added)})
    return methods


def choose(methods: dict[str, Method], wanted: Sequence[str] | None) -> list[Method]:
    """The methods with the given names, or of the given packages; ValueError for an unknown name."""
    if wanted is None:
        return list(methods.values())
    known = sorted({*methods, *(m.package for m in methods.values())})
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"`--methods` must be among {', '.join(known)}, got {name!r}. Choose known names."
            )
    return [m for m in methods.values() if m.name in wanted or m.package in wanted]
