"""The door: every public function hands its input to these checks before any computing starts.

Each error names the argument, the rule, the value that came and the way out. What passes is a float64, C-contiguous
copy, so that integers, float32, Fortran order, strides, read-only arrays and nested lists give one and the same answer.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .typing import RNG, Array

__all__ = [
    "array",
    "boolean_mask",
    "chain",
    "fits",
    "flag",
    "generator",
    "integer",
    "layers",
    "nonnegative",
    "number",
    "is_file",
    "is_folder",
    "one_of",
    "path",
    "positive",
    "time_span",
    "widths",
]


def array(
    value: Any,
    name: str,
    *,
    ndim: int | None = None,
    shape: tuple[int, ...] | None = None,
    finite: bool = True,
    mapped: bool = False,
) -> Array:
    """float64 C-contiguous copy of a real array, with its number of axes, shape and finiteness checked.

    With `mapped`, a memory map of such numbers is not copied but read where it lies.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"`{name}` must be a plain array, got a masked one. Use its .filled() or MatrixCompletion."
        )
    try:
        raw = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a rectangular array, got ragged rows. Give rows of equal length."
        ) from error
    if raw.dtype.kind not in "biuf":
        hint = (
            "Give its real part or its modulus." if raw.dtype.kind == "c" else "Convert it to float64 first."
        )
        what = (
            f"dtype {raw.dtype}" if isinstance(value, np.ndarray) else f"{_brief(value)} of dtype {raw.dtype}"
        )
        raise TypeError(f"`{name}` must be an array of real numbers, got {what}. {hint}")
    if raw.size == 0:
        raise ValueError(
            f"`{name}` must not be empty, got shape {raw.shape}. Every axis needs at least one entry."
        )
    if ndim is not None and raw.ndim != ndim:
        raise ValueError(
            f"`{name}` must have {ndim} {'axis' if ndim == 1 else 'axes'}, got shape {raw.shape}. Reshape it."
        )
    if shape is not None and raw.shape != shape:
        raise ValueError(
            f"`{name}` must have shape {shape}, got {raw.shape}. Both describe one problem; change one of them."
        )
    if mapped and isinstance(value, np.memmap) and raw.dtype == np.float64 and raw.flags.c_contiguous:
        result = raw.view()
    else:
        result = np.array(raw, dtype=np.float64, order="C")
    if finite and not _finite(result):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(result))[0])
        raise ValueError(
            f"`{name}` must be finite, got {result[where]} at index {where}. Remove or mask such entries."
        )
    return result


def _finite(values: Array) -> bool:
    """Whether all entries are finite, some at a time: no mask as large as the array."""
    if values.size <= 2**18:
        return bool(np.isfinite(values).all())
    flat = values.reshape(-1)
    return all(np.isfinite(flat[start : start + 2**18]).all() for start in range(0, flat.size, 2**18))


def boolean_mask(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """Mask of 0 and 1 with at least one 1."""
    mask = array(value, name, shape=shape)
    if not np.isin(mask, (0.0, 1.0)).all():
        other = mask[~np.isin(mask, (0.0, 1.0))][0]
        raise ValueError(
            f"`{name}` must hold only 0 and 1, got {other}. Mark an observed entry by 1, others by 0."
        )
    if not mask.any():
        raise ValueError(
            f"`{name}` must observe at least one entry, got all zero. Mark observed entries by 1."
        )
    return mask


def number(value: Any, name: str, rule: str = "be a real number", *, infinite: bool = False) -> float:
    """A real number as float; NaN is refused, infinity too unless it is allowed."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Real, np.ndarray)):
        raise TypeError(f"`{name}` must {rule}, got {value!r}. Give a real number.")
    if isinstance(value, np.ndarray) and (value.ndim > 0 or value.dtype.kind not in "iuf"):
        raise TypeError(f"`{name}` must {rule}, got an array of shape {value.shape}. Give a real number.")
    try:
        x = float(value)
    except OverflowError:
        raise ValueError(
            f"`{name}` must {rule}, got an integer beyond float64. Give a smaller number."
        ) from None
    if math.isnan(x) or (math.isinf(x) and not infinite):
        raise ValueError(f"`{name}` must {rule}, got {x}. Give a finite number.")
    return x


def positive(value: Any, name: str, *, infinite: bool = False) -> float:
    """A number > 0."""
    x = number(value, name, "be positive", infinite=infinite)
    if not x > 0:
        raise ValueError(f"`{name}` must be positive, got {x}. Give a number greater than 0.")
    return x


def nonnegative(value: Any, name: str) -> float:
    """A number >= 0."""
    x = number(value, name, "be zero or positive")
    if not x >= 0:
        raise ValueError(f"`{name}` must be zero or positive, got {x}. Give a number that is at least 0.")
    return x


MOST = 2**31  # entries of an axis, layers, classes, samples


def integer(value: Any, name: str, *, least: int, most: int | None = None) -> int:
    """An integer >= least, and <= most where that is given."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        n = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer, got {value!r}. Give a whole number, at least {least}."
        ) from None
    if n < least:
        raise ValueError(f"`{name}` must be at least {least}, got {n}. Give a larger whole number.")
    if most is not None and n > most:
        raise ValueError(
            f"`{name}` must be at most {most}, got {n if n < 10**30 else 'far more'}. Give a smaller one."
        )
    return n


def one_of(value: Any, name: str, known: Iterable[str]) -> str:
    """One of the known names."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"`{name}` must be one of {known}, got {value!r}. Choose a known name.")
    return value


def layers(value: Any, name: str = "weights", *, batch: bool = False) -> list[Array]:
    """Layers [W_1, .., W_L] that chain: W_l has shape (n_l, n_{l-1}); memory maps are not copied."""
    if (isinstance(value, np.ndarray) and value.ndim < 3) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(
            f"`{name}` must be a sequence of matrices [W_1, ..., W_L], got {_brief(value)}. Put it in a list."
        )
    if len(value) == 0:
        raise ValueError(f"`{name}` must hold at least one layer, got none. Give [W_1, ..., W_L].")
    result = []
    for l, W in enumerate(value, start=1):
        result.append(array(W, f"{name}[{l - 1}]", ndim=3 if batch else 2, mapped=not batch))
        if l > 1 and result[-1].shape[-1] != result[-2].shape[-2]:
            raise ValueError(
                f"`{name}` must chain: W_{l} has shape {result[-1].shape} but W_{l - 1} has shape "
                f"{result[-2].shape}. Each W_l must be (n_l, n_{{l-1}})."
            )
    return result


def widths(value: Any, name: str = "widths") -> tuple[int, ...]:
    """Widths (n_0, .., n_L) of a network with at least one layer."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(
            f"`{name}` must be a sequence of integers (n_0, ..., n_L), got {_brief(value)}. List the widths."
        )
    if len(value) < 2:
        raise ValueError(
            f"`{name}` must have at least two entries, got {len(value)}. Depth L needs n_0, ..., n_L."
        )
    return tuple(integer(n, f"{name}[{i}]", least=1, most=MOST) for i, n in enumerate(value))


def time_span(value: Any, *, infinite: bool) -> tuple[float, float]:
    """Time span (t0, t1), t1 > t0; t1 may be infinite where something else stops the run."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)) or len(value) != 2:
        raise TypeError(f"`t_span` must be a pair (t0, t1), got {_brief(value)}. For example (0.0, 10.0).")
    t0, t1 = number(value[0], "t_span[0]"), number(value[1], "t_span[1]", infinite=True)
    if not t1 > t0:
        raise ValueError(f"`t_span` must have t1 > t0, got ({t0}, {t1}). The flow runs forward in time.")
    if math.isinf(t1) and not infinite:
        raise ValueError(
            f"`t_span` must be finite without `until`, got ({t0}, {t1}). Give until=dln.Until(...)."
        )
    return t0, t1


def path(value: Any, name: str) -> Path:
    """A path given as a string or a path object."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise TypeError(f"`{name}` must be a string or a path, got {_brief(value)}. Give the name of a file.")
    return Path(value)


def is_file(source: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return source.is_file()
    except (OSError, ValueError):
        return False


def is_folder(source: Path) -> bool:
    """Whether there is such a folder."""
    try:
        return source.is_dir()
    except (OSError, ValueError):
        return False


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False, got {_brief(value)}. Give a truth value.")
    return bool(value)


def chain(weights: Any, name: str = "weights") -> list[Any]:
    """Layers of any kind of number as arrays that chain."""
    layers = [np.asarray(W) for W in weights]
    if not layers:
        raise ValueError(f"`{name}` must hold at least one layer, got none. Give [W_1, ..., W_L].")
    for l, (below, above) in enumerate(zip(layers, layers[1:], strict=False), start=1):
        if below.ndim < 2 or above.ndim < 2 or above.shape[-1] != below.shape[-2]:
            raise ValueError(
                f"`{name}` must chain: W_{l + 1} has shape {above.shape} but W_{l} has shape {below.shape}. "
                "Each W_l must be (n_l, n_{l-1})."
            )
    return layers


def fits(M: Any, name: str, shape: tuple[int, ...]) -> Any:
    """An array of any kind of number whose last two axes have this shape."""
    result = np.asarray(M)
    if result.shape[-2:] != shape:
        raise ValueError(f"`{name}` must have shape {shape}, got {result.shape}. It must fit the layers.")
    return result


def generator(rng: RNG) -> np.random.Generator:
    """Random generator after SPEC 7: None, an integer, a SeedSequence, or a Generator (used as it is)."""
    if rng is not None and not isinstance(rng, (np.random.Generator, np.random.SeedSequence)):
        integer(rng, "rng", least=0)
    return np.random.default_rng(rng)


def _brief(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
