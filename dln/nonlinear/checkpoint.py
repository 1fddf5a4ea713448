"""A training run on disk: written whole or not at all, and taken up again only by the run that it belongs to."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks

__all__ = ["load", "save"]

Arrays = Mapping[str, Any]


def save(path: Path, settings: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file that is either the old one or the new one, whenever the process dies."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, settings=np.array(json.dumps(settings)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load(path: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arrays of an earlier run with the same settings; None where there is no file yet.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of another run; the message names the first setting that differs.
    """
    if not checks.is_file(path):
        if not checks.is_folder(path.parent) or checks.is_folder(path):
            raise ValueError(
                f"`checkpoint` must name a file in a folder that exists, got {str(path)!r}. Make it."
            )
        return None
    try:
        with path.open("rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
        saved = json.loads(str(arrays.pop("settings")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`checkpoint` must be a file of an earlier run, got {str(path)!r}, which cannot be read. "
            "Delete it or give another name."
        ) from error
    for name in sorted({*saved, *settings}):
        if saved.get(name) != settings.get(name):
            raise ValueError(
                f"`checkpoint` must belong to this run, got {str(path)!r}, which has {name} {saved.get(name)!r} where "
                f"this run has {settings.get(name)!r}. Give another name, or the same arguments."
            )
    return arrays
