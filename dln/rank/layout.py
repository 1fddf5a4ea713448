"""Where the matrices of a network stand in one flat vector, and arrays that grow by rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array

__all__ = ["Layout", "Rows", "each"]


class Layout:
    """Matrices of given shapes, row by row from their offsets on in a flat vector."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], offsets: Any = None) -> None:
        self.shapes = list(shapes)
        self.sizes = np.array([rows * columns for rows, columns in shapes], dtype=np.int64)
        before = np.append(0, np.cumsum(self.sizes)[:-1])
        given = before if offsets is None else each(offsets, "offsets", len(self.shapes))
        self.offsets = np.array([checks.integer(n, "offsets", least=0) for n in given], dtype=np.int64)
        ends = self.offsets + self.sizes
        if (self.offsets[1:] < ends[:-1]).any():
            raise ValueError(
                f"`offsets` must leave room for each matrix, got {offsets}. Count their entries."
            )
        self.places = [
            (slice(start, end), shape) for start, end, shape in zip(self.offsets, ends, shapes, strict=True)
        ]
        self.length = int(ends[-1])

    def matrices(self, flat: Array) -> list[Array]:
        """The matrices as views into a flat vector."""
        return [flat[where].reshape(shape) for where, shape in self.places]

    def flat(self, value: Any, name: str) -> Array:
        """A flat float64 vector, itself if it is one, from one matrix or one pair of factors for each layer."""
        if isinstance(value, np.ndarray) and value.ndim == 1:
            if value.size < self.length:
                raise ValueError(
                    f"`{name}` must hold at least {self.length} numbers, got shape {value.shape}. Give `offsets`."
                )
            flat = value[: self.length]
            plain = flat.dtype == np.float64 and flat.flags.c_contiguous and flat.flags.writeable
            return flat if plain else np.array(flat, dtype=np.float64)
        if not isinstance(value, (Sequence, np.ndarray)) or len(value) != len(self.shapes):
            raise ValueError(
                f"`{name}` must hold {len(self.shapes)} matrices, got {type(value).__name__} of other length. "
                "Give one for each layer."
            )
        flat = np.zeros(self.length)
        for l, (W, (where, shape)) in enumerate(zip(value, self.places, strict=True)):
            M = W[0].T @ W[1] if isinstance(W, tuple) else np.asarray(W)
            if M.shape != shape:
                raise ValueError(
                    f"`{name}[{l}]` must have shape {shape}, got {M.shape}. Keep the order of the start."
                )
            flat[where] = M.ravel()
        return flat


class Rows:
    """An array that grows by rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._array, self._count = np.zeros((64, *shape)), 0

    @property
    def rows(self) -> Array:
        """All rows so far."""
        return self._array[: self._count]

    def give_back(self, rows: int) -> None:
        """Forget the last rows."""
        self._count -= rows

    def restore(self, rows: Array) -> None:
        """Hold these rows and no others."""
        self._count = 0
        self.next(len(rows))[...] = rows

    def next(self, rows: int | None = None) -> Array:
        """The next row, or rows, to be filled."""
        begin = self._count
        self._count += 1 if rows is None else rows
        while self._count > len(self._array):
            self._array = np.concatenate([self._array, np.zeros_like(self._array)])
        return self._array[begin] if rows is None else self._array[begin : self._count]


def each(value: Any, name: str, count: int) -> list[Any]:
    """One value for each layer."""
    if isinstance(value, str) or not isinstance(value, (Sequence, np.ndarray)):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"`{name}` must have one entry for each of the {count} layers, got {len(value)}. Or give one for all."
        )
    return list(value)
