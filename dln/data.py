"""Data for classification and regression: two sets that come with scikit-learn, files, and teachers made here.

Nothing is downloaded. Samples stand along the first axis.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import checks
from .files import read_matrix
from .typing import RNG, Array, ArrayLike

__all__ = ["Data", "breast_cancer", "digits", "read", "read_idx", "split", "standardise", "teacher"]

IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """Samples to train on and to test on.

    Attributes
    ----------
    X, X_test : ndarray, shape (samples, ...)
    y, y_test : ndarray
        Labels 0, 1, .. or targets.
    """

    X: Array
    y: Any
    X_test: Array
    y_test: Any

    @property
    def test(self) -> tuple[Array, Any]:
        """The pair (X_test, y_test)."""
        return self.X_test, self.y_test

    def __repr__(self) -> str:
        return f"Data({len(self.X)} + {len(self.X_test)} samples of shape {self.X.shape[1:]})"


def digits(*, images: bool = False, test_fraction: float = 0.2, rng: RNG = 0) -> Data:
    """scikit-learn's handwritten digits: 1797 images of 8 x 8 pixels in ten classes, 1437 to train and 360 to test.

    Pixels are divided by 16 and standardised (`standardise`).

    Parameters
    ----------
    images : bool
        Samples of shape (1, 8, 8), for convolutions, instead of (64,).
    test_fraction : float
        Share of the samples to test on.
    rng : None, int, SeedSequence or Generator
        Which ones.

    Raises
    ------
    ImportError
        If scikit-learn is missing: it comes with the extra ``data``.

    Examples
    --------
    >>> digits()
    Data(1437 + 360 samples of shape (64,))
    """
    X, y = _bundled("load_digits")
    data = _prepared(X / 16, y, test_fraction, rng)
    if not checks.flag(images, "images"):
        return data
    return Data(data.X.reshape(-1, 1, 8, 8), data.y, data.X_test.reshape(-1, 1, 8, 8), data.y_test)


def breast_cancer(*, test_fraction: float = 0.2, rng: RNG = 0) -> Data:
    """scikit-learn's breast cancer data: 569 samples of 30 features, standardised, in two classes.

    Parameters
    ----------
    test_fraction, rng
        As in `digits`.

    Raises
    ------
    ImportError
        If scikit-learn is missing: it comes with the extra ``data``.

    Examples
    --------
    >>> breast_cancer()
    Data(455 + 114 samples of shape (30,))
    """
    return _prepared(*_bundled("load_breast_cancer"), test_fraction, rng)


def _bundled(name: str) -> tuple[Array, Any]:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "scikit-learn must be installed for this data. Run: pip install 'dln[data]'"
        ) from error
    X, y = getattr(datasets, name)(return_X_y=True)
    return np.ascontiguousarray(X, dtype=np.float64), y.astype(np.int64)


def _prepared(samples: Array, y: Any, test_fraction: float, rng: RNG) -> Data:
    data = split(samples, y, test_fraction=test_fraction, rng=rng)
    X, X_test = standardise(data.X, data.X_test)
    return Data(X, data.y, X_test, data.y_test)


def teacher(
    inputs: int,
    outputs: int,
    samples: int,
    *,
    hidden: int | None = None,
    rank: int | None = None,
    noise: float = 0.0,
    labels: bool = True,
    test_fraction: float = 0.2,
    rng: RNG = None,
) -> Data:
    r"""Gaussian samples with the answers of a random net: :math:`V \max(U x, 0)`, or U x without a hidden layer.

    Parameters
    ----------
    inputs, outputs, samples : int
        n_0, n_L, and the number of samples, test samples included.
    hidden : int, optional
        Width of the hidden layer.
    rank : int, optional
        Rank of the first matrix of the teacher; full by default.
    noise : float
        Standard deviation of what is added to the answers.
    labels : bool
        Give the largest answer's index; else the answers, (samples, outputs).
    test_fraction : float
        Share of the samples to test on.
    rng : None, int, SeedSequence or Generator
        Source of everything.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> data = teacher(10, 3, 100, hidden=5, rng=0)
    >>> data, data.y.shape, data.y.max() < 3
    (Data(80 + 20 samples of shape (10,)), (80,), np.True_)
    """
    n, q = checks.integer(inputs, "inputs", least=1), checks.integer(outputs, "outputs", least=1)
    N = checks.integer(samples, "samples", least=2)
    width = q if hidden is None else checks.integer(hidden, "hidden", least=1)
    r = min(n, width) if rank is None else checks.integer(rank, "rank", least=1, most=min(n, width))
    random = checks.generator(rng)
    X = random.standard_normal((N, n))
    U = random.standard_normal((width, r)) @ random.standard_normal((r, n)) / math.sqrt(n * r)
    answers = X @ U.T
    if hidden is not None:
        answers = np.maximum(answers, 0) @ random.standard_normal((q, width)).T / math.sqrt(width)
    answers += checks.nonnegative(noise, "noise") * random.standard_normal((N, q))
    y = answers.argmax(axis=1) if checks.flag(labels, "labels") else answers
    return split(X, y, test_fraction=test_fraction, rng=random)


def split(X: ArrayLike, y: ArrayLike, *, test_fraction: float = 0.2, rng: RNG = 0) -> Data:
    """Samples drawn at random to test on, rounded up, the others to train on.

    Parameters
    ----------
    X, y : array_like
        As many samples as answers.
    test_fraction : float
        In (0, 1).
    rng : None, int, SeedSequence or Generator
        Which ones.

    Raises
    ------
    ValueError, TypeError
        If the lengths differ, or no sample is left to train on.

    Examples
    --------
    >>> split(np.eye(10), np.arange(10))
    Data(8 + 2 samples of shape (10,))
    """
    samples, answers = checks.array(X, "X"), np.asarray(y)
    if samples.ndim < 2 or answers.ndim == 0 or len(answers) != len(samples):
        raise ValueError(
            f"`X` and `y` must have as many samples, got shapes {samples.shape} and {answers.shape}. One answer a row."
        )
    count = math.ceil(checks.positive(test_fraction, "test_fraction") * len(samples) - 1e-9)
    if count >= len(samples):
        raise ValueError(f"`test_fraction` must leave samples to train on, got {test_fraction}. Take less.")
    order = checks.generator(rng).permutation(len(samples))
    test, train = order[:count], order[count:]
    return Data(samples[train], answers[train], samples[test], answers[test])


def standardise(X: ArrayLike, X_test: ArrayLike) -> tuple[Array, Array]:
    """Both sets with the mean of each feature over X at 0 and its standard deviation at 1; constant ones are 0 in X.

    Parameters
    ----------
    X, X_test : array_like, shape (samples, ...)

    Raises
    ------
    ValueError, TypeError
        If the features of the two differ.

    Examples
    --------
    >>> standardise([[1.0], [3.0]], [[2.0]])
    (array([[-1.], [ 1.]]), array([[0.]]))
    """
    train, test = checks.array(X, "X"), checks.array(X_test, "X_test")
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"`X_test` must have samples as in X, got shapes {test.shape} and {train.shape}. They are of one set."
        )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    return (train - mean) / scale, (test - mean) / scale


def read(path: str | Path, labels: str | Path | None = None, *, column: int = -1) -> tuple[Array, Any]:
    """Samples and labels of a file.

    A .csv file has one sample a line, one of its columns the label; its separators are commas, semicolons or tabs, and
    a first line without numbers is a header. A .npz file holds the arrays ``X`` and ``y``. Any other is an IDX
    file, the format of MNIST, with the labels in a second one; both may be compressed (.gz).

    Parameters
    ----------
    path : str or Path
    labels : str or Path, optional
        IDX file of the labels.
    column : int
        Which column of a .csv file is the label.

    Returns
    -------
    X : ndarray, shape (samples, ...)
        float64; bytes of images are not rescaled.
    y : ndarray, shape (samples, ...)
        int64 where all are whole numbers.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is malformed; the message names the file, the field and the reason.
    """
    source = _file(path, "path")
    kind = source.suffix.lower()
    if kind in (".csv", ".npz") and labels is not None:
        raise ValueError(
            f"`labels` must be None for a {kind} file, got {str(labels)!r}. It holds its labels itself."
        )
    if kind == ".csv":
        return _read_csv(source, column)
    if kind == ".npz":
        return _read_npz(source)
    if labels is None:
        raise ValueError(
            f"`labels` must be the IDX file of the labels of {str(source)!r}, got None. Or give .csv or .npz."
        )
    answers = _file(labels, "labels")
    X, y = read_idx(source), read_idx(answers)
    if y.ndim != 1:
        raise _refusal(answers, "number of axes", f"got {y.ndim}", "Labels have one")
    if len(y) != len(X):
        raise _refusal(
            answers, "count", f"got {len(y)} labels for {len(X)} samples", "Give those of the samples"
        )
    return X.astype(np.float64), _whole(y)


def read_idx(path: str | Path) -> Any:
    """Array of an IDX file, the format of MNIST, plain or compressed (.gz).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is malformed; the message names the field.
    """
    source = _file(path, "path")
    try:
        raw = source.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise _refusal(source, "content", f"which cannot be read ({error})", "Get the file again") from error
    if len(raw) < 4 or raw[:2] != b"\0\0":
        raise _refusal(
            source, "magic number", f"got bytes {raw[:4].hex(' ') or 'none'}", "An IDX file begins 00 00"
        )
    if raw[2] not in IDX_TYPES:
        raise _refusal(
            source,
            "type",
            f"got code {raw[2]:#04x}",
            f"Known are {', '.join(f'{code:#04x}' for code in IDX_TYPES)}",
        )
    start = 4 + 4 * raw[3]
    if raw[3] == 0 or len(raw) < start:
        raise _refusal(source, "dimensions", f"got {raw[3]} in {len(raw)} bytes", "Get the file again")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=raw[3], offset=4))
    kind = np.dtype(IDX_TYPES[raw[2]])
    size = math.prod(shape) * kind.itemsize
    if len(raw) - start != size or size == 0:
        raise _refusal(
            source,
            "data",
            f"got {len(raw) - start} bytes where shape {shape} takes {size}",
            "Get the file again",
        )
    return np.frombuffer(raw, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def _file(path: str | Path, name: str) -> Path:
    source = checks.path(path, name)
    if not checks.is_file(source):
        raise FileNotFoundError(
            f"`{name}` must be a file, got {str(source)!r}, which does not exist. Check the name."
        )
    return source


def _refusal(source: Path, field: str, reason: str, way_out: str) -> ValueError:
    return ValueError(f"{str(source)!r} must have a valid {field}, {reason}. {way_out}.")


def _read_csv(source: Path, column: int) -> tuple[Array, Any]:
    table, known = read_matrix(source)
    if not known.all():
        line, cell = np.argwhere(known == 0)[0] + 1
        raise _refusal(
            source,
            "cell everywhere",
            f"got an empty one in row {line}, column {cell}",
            "Fill it or drop the row",
        )
    if table.shape[1] < 2:
        raise _refusal(source, "column of labels beside the features", "got one column", "Add the labels")
    column = checks.integer(column, "column", least=-table.shape[1], most=table.shape[1] - 1)
    return np.delete(table, column, axis=1), _whole(table[:, column])


def _read_npz(source: Path) -> tuple[Array, Any]:
    try:
        with source.open("rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
    except Exception as error:  # NumPy, zipfile and zlib each have errors of their own
        raise _refusal(
            source, "content", "which cannot be read", "Save it with np.savez(X=X, y=y)"
        ) from error
    for name in ("X", "y"):
        if name not in arrays:
            raise _refusal(
                source, f"array {name!r}", f"got {sorted(arrays)}", "Save it with np.savez(X=X, y=y)"
            )
    X, y = (checks.array(arrays[name], f"{source}[{name}]") for name in ("X", "y"))
    if X.ndim < 2 or len(y) != len(X):
        raise _refusal(
            source, "number of labels 'y'", f"got shapes {X.shape} and {y.shape}", "One label a sample"
        )
    return X, _whole(y)


def _whole(y: Any) -> Any:
    """Labels as integers where they are whole."""
    whole = np.asarray(y).astype(np.int64) if np.isfinite(y).all() else y
    return whole if np.array_equal(whole, y) else np.asarray(y, dtype=np.float64)
