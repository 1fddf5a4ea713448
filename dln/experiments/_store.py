"""Finished cases of an experiment on disk, by which an interrupted run is taken up again.

A case is a dataclass of plain values, and so is its result, which may hold arrays too. Each has a file of its own,
named by everything that determines the result: the function, the case, the sources of the library and the versions of
what they call. A case that was computed by other code is computed again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..nonlinear import checkpoint

__all__ = ["Store"]

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Store:
    """The finished cases of one experiment in an output folder."""

    output: Path
    experiment: str

    def get(self, function: Callable[..., Any], case: Any) -> tuple[Any, ...]:
        """(result,), or () where the case is not finished, or its file cannot be read."""
        settings = _settings(function, case)
        path = self._path(settings)
        try:
            arrays = checkpoint.load(path, settings) if path.parent.is_dir() else None
            return () if arrays is None else (_decoded(json.loads(str(arrays.pop("result"))), arrays),)
        except (ValueError, KeyError):
            return ()

    def put(self, function: Callable[..., Any], case: Any, result: Any) -> None:
        """Write a result: all of it or nothing, whenever the process dies."""
        settings, arrays = _settings(function, case), dict[str, Any]()
        text = json.dumps(_encoded(result, arrays))
        path = self._path(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, settings, arrays | {"result": np.array(text)})

    def _path(self, settings: Mapping[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
        return self.output / f"{self.experiment}-cases" / f"{name}.npz"


def _settings(function: Callable[..., Any], case: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    settings = {
        "function": f"{function.__module__}.{function.__qualname__}",
        "case": _encoded(case, arrays),
        "code": _code(),
    }
    if arrays:
        raise TypeError(
            f"`case` must hold plain values, got {case!r} with arrays. Name what they are made from."
        )
    return settings


@cache
def _code() -> str:
    """Hash of the library's sources, and of the versions of Python and of the packages that compute."""
    versions = [
        platform.python_version(),
        *(importlib.import_module(name).__version__ for name in ("numpy", "scipy")),
    ]
    digest = hashlib.sha256(" ".join(versions).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def _encoded(value: Any, arrays: dict[str, Any]) -> Any:
    """What JSON can hold of a value, with the arrays put aside; numbers come back to the last bit."""
    if isinstance(value, np.ndarray):
        arrays[f"array{len(arrays)}"] = value
        return {"array": f"array{len(arrays) - 1}"}
    if is_dataclass(value) and not isinstance(value, type):
        inside = {field.name: _encoded(getattr(value, field.name), arrays) for field in fields(value)}
        return {"class": [type(value).__module__, type(value).__qualname__], "fields": inside}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_encoded(entry, arrays) for entry in value]}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"`value` must be made of numbers, texts, lists, arrays and dataclasses, got {value!r}.")


def _decoded(value: Any, arrays: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "class" in value:
        module, name = value["class"]
        if module.split(".")[0] != __name__.split(".")[0]:
            raise ValueError(
                f"`result` must be of a class of this library, got {module}.{name}. Delete the file."
            )
        kind = getattr(importlib.import_module(module), name)
        return kind(**{name: _decoded(entry, arrays) for name, entry in value["fields"].items()})
    [(kind, entries)] = value.items()
    return {"list": list, "tuple": tuple}[kind](_decoded(entry, arrays) for entry in entries)
