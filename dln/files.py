"""Matrices from files: .csv with empty or NaN cells as unobserved, .npy, .npz."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from . import checks
from .typing import Array

__all__ = ["read_matrix"]

MISSING = ("", "nan", "na", "n/a", "null", "none")


def read_matrix(path: str | Path) -> tuple[Array, Array]:
    """Matrix of a file and the mask of its known entries; unknown ones are 0 in the matrix.

    A .csv file has one row a line, its cells separated by commas, semicolons or tabs; a first line without any number
    is taken for a header. A .npz file holds the matrix as ``target`` (or as its only array) and optionally ``mask``.

    Parameters
    ----------
    path : str or Path
        File ending in .csv, .npy or .npz.

    Returns
    -------
    matrix, mask : ndarray, shape (n_L, n_0)
        The values and 1 where they are known.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, ragged, holds something other than numbers, or knows no entry; the message names file,
        line and cell.
    """
    source = checks.path(path, "path")
    if not checks.is_file(source):
        raise FileNotFoundError(
            f"`path` must be a file, got {str(source)!r}, which does not exist. Check the name."
        )
    readers = {".csv": _read_csv, ".npy": _read_npy, ".npz": _read_npz}
    if source.suffix.lower() not in readers:
        raise ValueError(
            f"`path` must end in .csv, .npy or .npz, got {str(source)!r}. Save the matrix in one of these."
        )
    if source.stat().st_size == 0:
        raise ValueError(f"`path` must hold a matrix, got {str(source)!r}, which is empty.")
    values, mask = readers[source.suffix.lower()](source)
    values = checks.array(values, str(source), ndim=2, finite=False)
    known = (
        ~np.isnan(values) if mask is None else checks.boolean_mask(mask, f"{source}[mask]", values.shape) == 1
    )
    if not known.any():
        raise ValueError(
            f"`path` must hold at least one known entry, got {str(source)!r}, where every cell is missing."
        )
    matrix = checks.array(np.where(known, values, 0.0), str(source))
    return matrix, known.astype(np.float64)


def _read_csv(source: Path) -> tuple[Array, None]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`path` must be a text file, got {str(source)!r} ({error}). Save it as UTF-8 .csv."
        ) from error
    delimiter = max(",;\t", key=text.count)
    lines = [
        (n, row) for n, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1) if row
    ]
    if not lines:
        raise ValueError(f"`path` must hold a matrix, got {str(source)!r}, which has no rows.")
    if len(lines) > 1 and all(cell.strip() and _number(cell) is None for cell in lines[0][1]):
        lines = lines[1:]
    length = len(lines[0][1])
    for n, row in lines:
        if len(row) != length:
            raise ValueError(
                f"`path` must have rows of equal length, got {len(row)} cells in line {n} of {str(source)!r} after "
                f"{length} in line {lines[0][0]}. Leave unobserved cells empty but keep their separators."
            )
        for column, cell in enumerate(row, start=1):
            if _number(cell) is None:
                raise ValueError(
                    f"`path` must hold numbers, got {cell.strip()!r} in line {n}, cell {column} of {str(source)!r}. "
                    "Leave unobserved cells empty."
                )
    return np.array([[_number(cell) for cell in row] for _, row in lines], dtype=np.float64), None


def _number(cell: str) -> float | None:
    """Value of a cell, NaN where it is missing, None where it is no number."""
    if cell.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        return None


def _read_npy(source: Path) -> tuple[Array, None]:
    return _load(source), None


def _read_npz(source: Path) -> tuple[Array, Array | None]:
    file = _load(source)
    if "target" not in file and len(file) != 1:
        raise ValueError(
            f"`path` must hold an array named 'target', got {sorted(file)} in {str(source)!r}. Rename it."
        )
    target = file["target"] if "target" in file else next(iter(file.values()))
    return target, file.get("mask") if "target" in file else None


def _load(source: Path):  # type: ignore[no-untyped-def]
    try:
        loaded = np.load(source, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:
        raise ValueError(f"`path` must be a NumPy file of numbers, got {str(source)!r} ({error}).") from error
