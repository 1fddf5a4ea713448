"""Matrices from files: .csv with empty or NaN cells as unobserved, .npy, .npz."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

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
        what = "which is a folder" if checks.is_folder(source) else "which does not exist"
        raise FileNotFoundError(f"`path` must be a file, got {str(source)!r}, {what}. Check the name.")
    readers = {".csv": _read_csv, ".npy": _read_numpy, ".npz": _read_numpy}
    if source.suffix.lower() not in readers:
        raise _refusal(
            source, "end in .csv, .npy or .npz", "of another kind", "Save the matrix in one of these"
        )
    if source.stat().st_size == 0:
        raise _refusal(source, "hold a matrix", "which is empty", "Write the matrix to it")
    values, mask = readers[source.suffix.lower()](source)
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"`path` must hold real numbers, got {str(source)!r} of dtype {values.dtype}. Convert them first."
        )
    if values.ndim != 2 or values.size == 0:
        what = f"an array of shape {values.shape}"
        raise _refusal(source, "hold a matrix of real numbers", what, "Save one with two axes")
    values = np.array(values, dtype=np.float64)
    known = (
        ~np.isnan(values) if mask is None else checks.boolean_mask(mask, f"{source}[mask]", values.shape) == 1
    )
    if not known.any():
        raise _refusal(
            source, "hold at least one known entry", "where every cell is missing", "Fill some cells"
        )
    matrix = np.where(known, values, 0.0)
    if not np.isfinite(matrix).all():
        what = f"with the entry {matrix[~np.isfinite(matrix)][0]}"
        raise _refusal(source, "hold finite numbers", what, "Make such entries NaN")
    return matrix, known.astype(np.float64)


def _refusal(source: Path, rule: str, what: str, way_out: str) -> ValueError:
    return ValueError(f"`path` must {rule}, got {str(source)!r}, {what}. {way_out}.")


def _read_csv(source: Path) -> tuple[Array, None]:
    try:
        text = source.read_text(encoding="utf-8-sig")
        delimiter = next((sign for sign in ";\t" if sign in text), ",")
        rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refusal(
            source, "be a text file of cells", f"unreadable ({error})", "Save it as UTF-8 .csv"
        ) from error
    # A blank line is an unobserved cell where there is one column, and nothing where there are more.
    several = any(len(row) > 1 for row in rows)
    lines = [(n, row or [""]) for n, row in enumerate(rows, start=1) if row or not several]
    if len(lines) > 1 and all(cell.strip() and _number(cell) is None for cell in lines[0][1]):
        lines = lines[1:]
    if not any(cell.strip() for _, row in lines for cell in row):
        raise _refusal(source, "hold a matrix", "where every cell is missing", "Write the matrix to it")
    length = len(lines[0][1])
    for n, row in lines:
        if len(row) != length:
            what = f"with {len(row)} cells in line {n} after {length} in line {lines[0][0]}"
            raise _refusal(
                source, "have rows of equal length", what, "Leave unobserved cells empty between separators"
            )
        for column, cell in enumerate(row, start=1):
            if _number(cell) is None:
                what = f"with {cell.strip()[:40]!r} in line {n}, cell {column}"
                raise _refusal(
                    source, "hold numbers", what, "Leave unobserved cells empty, and write 0.5 for a half"
                )
    return np.array([[_number(cell) for cell in row] for _, row in lines], dtype=np.float64), None


def _number(cell: str) -> float | None:
    """Value of a cell, NaN where it is missing, None where it is no number."""
    text = cell.strip().lower()
    if text in MISSING:
        return float("nan")
    try:
        value = float(text)
        return None if "_" in text or math.isinf(value) else value
    except ValueError:
        return None


def _read_numpy(source: Path) -> tuple[Any, Any]:
    """The matrix of a .npy file, or ``target`` (or the only array) and ``mask`` of a .npz file."""
    try:
        with source.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"target": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:
        raise _refusal(
            source, "be a NumPy file of numbers", "which cannot be read", "Save it with np.save"
        ) from error
    if "target" not in arrays and len(arrays) != 1:
        raise _refusal(source, "hold an array named 'target'", f"with {sorted(arrays)}", "Rename the matrix")
    target = arrays["target"] if "target" in arrays else next(iter(arrays.values()))
    return target, arrays.get("mask") if "target" in arrays else None
