r"""Costs C(A) of the end-to-end matrix: value, gradient, Hessian-vector product.

A cost is three formulas, each written twice: in NumPy, for any number of leading axes, and as a loop that the
integrators compile; the first judges the second. To add a cost, add a class here and its name to `ALL`.

The loops see A row by row as one flat array, and the cost as another, `data`, whose first entry is the factor of
``2.0 * cost``. `batch` lists drawn samples (entries, measurements or columns); where it is empty the whole cost is
meant. A batch gradient is unbiased: it is the mean over the drawn samples times what makes it the full gradient on
average.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from . import checks
from .typing import Array, ArrayLike

__all__ = [
    "ALL",
    "Cost",
    "CrossEntropy",
    "Custom",
    "FullyObserved",
    "MatrixCompletion",
    "MatrixSensing",
    "SquareLoss",
]


class Cost(ABC):
    """A cost of the end-to-end matrix, differentiable; ``2.0 * cost`` is the cost scaled."""

    shape: tuple[int, int] | None  # (n_L, n_0)
    samples: int  # number of samples that `sgd` draws from; 0 if there are none
    scale: float
    purpose: ClassVar[str]
    arguments: ClassVar[tuple[str, ...]]  # names of the arrays of the constructor

    def __init__(self, shape: tuple[int, int] | None, samples: int) -> None:
        self.shape, self.samples, self.scale = shape, samples, 1.0
        for name in self.arguments:
            if isinstance(data := getattr(self, name), np.ndarray):
                data.setflags(write=False)

    def value(self, A: ArrayLike) -> Any:
        """Value C(A); a float, or an array over the leading axes of `A`."""
        value = self.raw_value(self._matrix(A))
        return float(value) if np.ndim(value) == 0 else value

    def gradient(self, A: ArrayLike) -> Array:
        """Gradient dC/dA, shape of `A`."""
        return self.raw_gradient(self._matrix(A))

    def hessian_vector(self, A: ArrayLike, D: ArrayLike) -> Array:
        """Second derivative of C at `A` in the direction `D`, shape of `A`."""
        A = self._matrix(A)
        return self.raw_hessian_vector(A, checks.array(D, "D", shape=A.shape))

    def raw_value(self, A: Array) -> Any:
        """Value at matrices that are known to fit; infinite or NaN where they overflow."""
        return self.scale * self._value(A)

    def raw_gradient(self, A: Array) -> Array:
        """Gradient at matrices that are known to fit."""
        return self.scale * self._gradient(A)

    def raw_hessian_vector(self, A: Array, D: Array) -> Array:
        """Second derivative at a matrix and in a direction that are known to fit."""
        return self.scale * self._hessian_vector(A, D)

    @abstractmethod
    def _value(self, A: Array) -> Any: ...

    @abstractmethod
    def _gradient(self, A: Array) -> Array: ...

    @abstractmethod
    def _hessian_vector(self, A: Array, D: Array) -> Array: ...

    def _matrix(self, A: ArrayLike) -> Array:
        result = checks.array(A, "A")
        if result.ndim < 2 or (self.shape is not None and result.shape[-2:] != self.shape):
            wanted = "(..., n_L, n_0)" if self.shape is None else f"(..., {self.shape[0]}, {self.shape[1]})"
            raise ValueError(
                f"`A` must have shape {wanted}, got {result.shape}. The last two axes are the matrix."
            )
        return result

    @property
    @abstractmethod
    def data(self) -> Array:
        """The cost as the flat array that its compiled loops read."""

    def kernels(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled value and gradient."""
        from .core.compile import compiled

        return compiled(type(self).value_loop, "value"), compiled(type(self).gradient_loop, "gradient")

    def hessian_kernel(self) -> Callable[..., Any]:
        """Compiled product of the second derivative with a direction."""
        from .core.compile import compiled

        return compiled(type(self).hessian_loop, "hessian")

    def in_singular_vectors(self) -> tuple[Cost, Array, Array] | None:
        """The cost of U^T A V, and orthogonal U, V for which modes are its entries; None if none are known."""
        return None

    def failure(self) -> BaseException | None:
        """What the cost's own Python code raised during the last run, once; None for compiled costs."""
        return None

    def __mul__(self, factor: float) -> Cost:
        scaled = copy.copy(self)
        scaled.scale = checks.positive(self.scale * checks.positive(factor, "factor"), "factor")
        return scaled

    __rmul__ = __mul__
    __array_ufunc__ = None  # an array times a cost is refused here, not spread over its entries

    def __repr__(self) -> str:
        factor = "" if self.scale == 1.0 else f"{self.scale:g} * "
        shape = "" if self.shape is None else f"{self.shape[0]}x{self.shape[1]}"
        return f"{factor}{type(self).__name__}({shape})"

    value_loop: ClassVar[Callable[..., Any]]  # (A, rows, columns, data) -> C(A)
    gradient_loop: ClassVar[Callable[..., Any]]  # (A, rows, columns, data, batch, out): dC/dA into out
    hessian_loop: ClassVar[Callable[..., Any]]  # (A, D, rows, columns, data, out): C''(A)[D] into out


class FullyObserved(Cost):
    r"""Squared distance to a target, :math:`C(A) = \tfrac12 \|A - A^*\|_F^2`.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        The matrix A*. The samples of `sgd` are its entries.

    Raises
    ------
    ValueError, TypeError
        If `target` is not a finite real matrix.

    Examples
    --------
    >>> cost = FullyObserved([[2.0, 0.0], [0.0, 1.0]])
    >>> cost.value([[0.0, 0.0], [0.0, 0.0]])
    2.5
    >>> (2.0 * cost).gradient([[1.0, 0.0], [0.0, 1.0]])
    array([[-2.,  0.],
           [ 0.,  0.]])
    """

    purpose = "every entry of a target matrix"
    arguments = ("target",)

    def __init__(self, target: ArrayLike) -> None:
        self.target = checks.array(target, "target", ndim=2)
        super().__init__(self.target.shape, self.target.size)

    def _value(self, A: Array) -> Any:
        return 0.5 * np.sum((A - self.target) ** 2, axis=(-2, -1))

    def _gradient(self, A: Array) -> Array:
        return A - self.target

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        return D

    def in_singular_vectors(self) -> tuple[Cost, Array, Array]:
        U, s, Vt = np.linalg.svd(self.target)
        diagonal = np.zeros_like(self.target)
        np.fill_diagonal(diagonal, s)
        return self.scale * FullyObserved(diagonal), U, Vt.T

    @property
    def data(self) -> Array:
        return np.concatenate([[self.scale], self.target.ravel()])

    @staticmethod
    def value_loop(A, rows, columns, data):  # type: ignore[no-untyped-def]
        total = 0.0
        for entry in range(A.size):
            total += (A[entry] - data[1 + entry]) ** 2
        return 0.5 * data[0] * total

    @staticmethod
    def gradient_loop(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        if batch.size == 0:
            for entry in range(A.size):
                out[entry] = data[0] * (A[entry] - data[1 + entry])
            return
        for entry in range(A.size):
            out[entry] = 0.0
        for entry in batch:
            out[entry] += data[0] * A.size / batch.size * (A[entry] - data[1 + entry])

    @staticmethod
    def hessian_loop(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        for entry in range(D.size):
            out[entry] = data[0] * D[entry]


class MatrixCompletion(Cost):
    r"""Squared distance on the observed entries, :math:`C(A) = \tfrac12 \|M \odot (A - A^*)\|_F^2`.

    Parameters
    ----------
    target : array_like, shape (n_L, n_0)
        The matrix A*. Entries that are not observed are ignored; they may be NaN.
    mask : array_like of 0 and 1, shape (n_L, n_0)
        1 where an entry is observed; at least one. The samples of `sgd` are the observed entries.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, the mask is not of 0 and 1 or observes nothing, or an observed entry is not finite.

    Examples
    --------
    >>> cost = MatrixCompletion([[2.0, np.nan], [0.0, 1.0]], [[1, 0], [1, 1]])
    >>> cost.gradient([[1.0, 7.0], [0.0, 0.0]])
    array([[-1.,  0.],
           [ 0., -1.]])
    """

    purpose = "the observed entries of a target matrix"
    arguments = ("target", "mask")

    def __init__(self, target: ArrayLike, mask: ArrayLike) -> None:
        target = checks.array(target, "target", ndim=2, finite=False)
        self.mask = checks.boolean_mask(mask, "mask", target.shape)
        self.target = checks.array(np.where(self.mask == 1.0, target, 0.0), "target")
        super().__init__(self.target.shape, int(self.mask.sum()))

    def _value(self, A: Array) -> Any:
        return 0.5 * np.sum((self.mask * (A - self.target)) ** 2, axis=(-2, -1))

    def _gradient(self, A: Array) -> Array:
        return self.mask * (A - self.target)

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        return self.mask * D

    @property
    def data(self) -> Array:
        observed = np.flatnonzero(self.mask)
        return np.concatenate([[self.scale], self.target.ravel(), self.mask.ravel(), observed])

    @staticmethod
    def value_loop(A, rows, columns, data):  # type: ignore[no-untyped-def]
        total = 0.0
        for entry in range(A.size):
            total += data[1 + A.size + entry] * (A[entry] - data[1 + entry]) ** 2
        return 0.5 * data[0] * total

    @staticmethod
    def gradient_loop(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        if batch.size == 0:
            for entry in range(A.size):
                out[entry] = data[0] * data[1 + A.size + entry] * (A[entry] - data[1 + entry])
            return
        for entry in range(A.size):
            out[entry] = 0.0
        observed = 1 + 2 * A.size  # where the list of observed entries begins
        for sample in batch:
            entry = int(data[observed + sample])
            out[entry] += data[0] * (data.size - observed) / batch.size * (A[entry] - data[1 + entry])

    @staticmethod
    def hessian_loop(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        for entry in range(D.size):
            out[entry] = data[0] * data[1 + D.size + entry] * D[entry]


class MatrixSensing(Cost):
    r"""Linear measurements, :math:`C(A) = \tfrac12 \sum_i (\langle S_i, A\rangle - y_i)^2`.

    Parameters
    ----------
    measurements : array_like, shape (m, n_L, n_0)
        The matrices S_i. The samples of `sgd` are the measurements.
    values : array_like, shape (m,)
        The measured y_i.

    Raises
    ------
    ValueError, TypeError
        If the shapes do not fit or an entry is not finite.

    Examples
    --------
    >>> cost = MatrixSensing([[[1.0, 0.0], [0.0, 1.0]]], [3.0])  # the trace is 3
    >>> cost.gradient([[1.0, 5.0], [0.0, 1.0]])
    array([[-1.,  0.],
           [ 0., -1.]])
    """

    purpose = "linear measurements of a matrix"
    arguments = ("measurements", "values")

    def __init__(self, measurements: ArrayLike, values: ArrayLike) -> None:
        self.measurements = checks.array(measurements, "measurements", ndim=3)
        m, n_L, n_0 = self.measurements.shape
        self.values = checks.array(values, "values", shape=(m,))
        super().__init__((n_L, n_0), m)

    def _measure(self, A: Array) -> Array:
        return np.einsum("mij,...ij->...m", self.measurements, A)

    def _back(self, r: Array) -> Array:
        return np.einsum("...m,mij->...ij", r, self.measurements)

    def _value(self, A: Array) -> Any:
        return 0.5 * np.sum((self._measure(A) - self.values) ** 2, axis=-1)

    def _gradient(self, A: Array) -> Array:
        return self._back(self._measure(A) - self.values)

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        return self._back(self._measure(D))

    @property
    def data(self) -> Array:
        return np.concatenate([[self.scale, self.samples], self.values, self.measurements.ravel()])

    @staticmethod
    def value_loop(A, rows, columns, data):  # type: ignore[no-untyped-def]
        m = int(data[1])
        total = 0.0
        for s in range(m):
            start = 2 + m + s * A.size
            residual = -data[2 + s]
            for entry in range(A.size):
                residual += data[start + entry] * A[entry]
            total += residual * residual
        return 0.5 * data[0] * total

    @staticmethod
    def gradient_loop(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        m = int(data[1])
        count = batch.size if batch.size > 0 else m
        for entry in range(A.size):
            out[entry] = 0.0
        for k in range(count):
            s = batch[k] if batch.size > 0 else k
            start = 2 + m + s * A.size
            residual = -data[2 + s]
            for entry in range(A.size):
                residual += data[start + entry] * A[entry]
            residual *= data[0] * m / count
            for entry in range(A.size):
                out[entry] += residual * data[start + entry]

    @staticmethod
    def hessian_loop(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        m = int(data[1])
        for entry in range(D.size):
            out[entry] = 0.0
        for s in range(m):
            start = 2 + m + s * D.size
            measured = 0.0
            for entry in range(D.size):
                measured += data[start + entry] * D[entry]
            measured *= data[0]
            for entry in range(D.size):
                out[entry] += measured * data[start + entry]


class SquareLoss(Cost):
    r"""Mean square loss of the linear map, :math:`C(A) = \tfrac{1}{2N} \|A X - Y\|_F^2`.

    The compiled loops see the data through a QR factorisation of X^T, so a step costs the same for any number of
    samples N >= n_0, without the loss of digits of normal equations.

    Parameters
    ----------
    X : array_like, shape (n_0, N)
        Inputs, one sample a column. The samples of `sgd` are the columns.
    Y : array_like, shape (n_L, N)
        Outputs.

    Raises
    ------
    ValueError, TypeError
        If X and Y do not have the same number of columns or an entry is not finite.

    Examples
    --------
    >>> cost = SquareLoss([[1.0, 0.0], [0.0, 2.0]], [[1.0, 2.0]])
    >>> cost.value([[0.0, 0.0]]), cost.gradient([[1.0, 0.0]])
    (1.25, array([[ 0., -2.]]))
    """

    purpose = "square loss on a data set"
    arguments = ("X", "Y")

    def __init__(self, X: ArrayLike, Y: ArrayLike) -> None:
        self.X, self.Y = checks.array(X, "X", ndim=2), checks.array(Y, "Y", ndim=2)
        if self.X.shape[1] != self.Y.shape[1]:
            raise ValueError(
                f"`Y` must have as many columns as `X`, got {self.Y.shape} and {self.X.shape}. One column a sample."
            )
        super().__init__((self.Y.shape[0], self.X.shape[0]), self.X.shape[1])

    def _value(self, A: Array) -> Any:
        return np.sum((A @ self.X - self.Y) ** 2, axis=(-2, -1)) / (2 * self.samples)

    def _gradient(self, A: Array) -> Array:
        return (A @ self.X - self.Y) @ self.X.T / self.samples

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        return D @ self.X @ self.X.T / self.samples

    @property
    def data(self) -> Array:
        # ||A X - Y||^2 = ||A R^T - Y Q||^2 + (||Y||^2 - ||Y Q||^2) for X^T = Q R: N columns become at most n_0.
        Q, R = np.linalg.qr(self.X.T)
        short = self.Y @ Q
        beyond = np.linalg.norm(self.Y - short @ Q.T) ** 2
        head = [self.scale, self.samples, len(R), beyond]
        return np.concatenate([head, R.ravel(), short.T.ravel(), self.X.T.ravel(), self.Y.T.ravel()])

    @staticmethod
    def value_loop(A, rows, columns, data):  # type: ignore[no-untyped-def]
        count = int(data[2])
        total = data[3]
        for s in range(count):
            x, y = 4 + s * columns, 4 + count * columns + s * rows
            for i in range(rows):
                residual = -data[y + i]
                for j in range(columns):
                    residual += A[i * columns + j] * data[x + j]
                total += residual * residual
        return 0.5 * data[0] / data[1] * total

    @staticmethod
    def gradient_loop(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        start, stored, count = 4, int(data[2]), int(data[2])  # the compressed columns ...
        factor = data[0] / data[1]
        if batch.size > 0:  # ... or those drawn
            start, stored, count = 4 + stored * (columns + rows), int(data[1]), batch.size
            factor = data[0] / batch.size
        for entry in range(A.size):
            out[entry] = 0.0
        for k in range(count):
            s = batch[k] if batch.size > 0 else k
            x, y = start + s * columns, start + stored * columns + s * rows
            for i in range(rows):
                residual = -data[y + i]
                for j in range(columns):
                    residual += A[i * columns + j] * data[x + j]
                residual *= factor
                for j in range(columns):
                    out[i * columns + j] += residual * data[x + j]

    @staticmethod
    def hessian_loop(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        for entry in range(D.size):
            out[entry] = 0.0
        for s in range(int(data[2])):
            x = 4 + s * columns
            for i in range(rows):
                seen = 0.0
                for j in range(columns):
                    seen += D[i * columns + j] * data[x + j]
                seen *= data[0] / data[1]
                for j in range(columns):
                    out[i * columns + j] += seen * data[x + j]


class CrossEntropy(Cost):
    r"""Mean softmax cross-entropy, :math:`C(A) = \tfrac1N \sum_s [\log \sum_i e^{z_{is}} - z_{y_s s}]`, z = A X.

    Parameters
    ----------
    X : array_like, shape (n_0, N)
        Inputs, one sample a column. The samples of `sgd` are the columns.
    labels : array_like of int, shape (N,)
        Classes 0 .. n_L - 1.
    classes : int, optional
        Number of classes n_L; by default the largest label plus one.

    Raises
    ------
    ValueError, TypeError
        If a label is not an integer in the range, or the numbers of samples differ.

    Examples
    --------
    >>> cost = CrossEntropy([[1.0, -1.0]], [0, 1])
    >>> round(cost.value([[0.0], [0.0]]), 12) == round(float(np.log(2)), 12)
    True
    """

    purpose = "softmax cross-entropy on a data set"
    arguments = ("X", "labels", "classes")

    def __init__(self, X: ArrayLike, labels: ArrayLike, classes: int | None = None) -> None:
        self.X = checks.array(X, "X", ndim=2)
        given = checks.array(labels, "labels", shape=(self.X.shape[1],))
        wrong = (given != np.round(given)) | (given < 0) | (given > 2**31)
        if wrong.any():
            bad = given[wrong][0]
            raise ValueError(f"`labels` must be integers 0 .. n_L - 1, got {bad}. Number the classes from 0.")
        self.labels = given.astype(np.int64)
        least = int(self.labels.max()) + 1
        self.classes = (
            max(least, 2)
            if classes is None
            else checks.integer(classes, "classes", least=least, most=checks.MOST)
        )
        super().__init__((self.classes, self.X.shape[0]), self.X.shape[1])

    def _probabilities(self, A: Array) -> tuple[Array, Array]:
        """Softmax of the logits and the logarithm of its normaliser, the latter by sample."""
        logits = A @ self.X
        top = logits.max(axis=-2, keepdims=True)
        log_sum = top + np.log(np.sum(np.exp(logits - top), axis=-2, keepdims=True))
        return np.exp(logits - log_sum), (
            log_sum[..., 0, :] - logits[..., self.labels, np.arange(self.samples)]
        )

    def _value(self, A: Array) -> Any:
        return self._probabilities(A)[1].mean(axis=-1)

    def _gradient(self, A: Array) -> Array:
        residual, _ = self._probabilities(A)
        residual[..., self.labels, np.arange(self.samples)] -= 1.0
        return residual @ self.X.T / self.samples

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        p, _ = self._probabilities(A)
        pz = p * (D @ self.X)
        return (pz - p * pz.sum(axis=-2, keepdims=True)) @ self.X.T / self.samples

    @property
    def data(self) -> Array:
        return np.concatenate([[self.scale, self.samples], self.labels, self.X.T.ravel()])

    @staticmethod
    def value_loop(A, rows, columns, data):  # type: ignore[no-untyped-def]
        samples = int(data[1])
        z = np.empty(rows)
        total = 0.0
        for s in range(samples):
            x = 2 + samples + s * columns
            top = -np.inf
            for i in range(rows):
                z[i] = 0.0
                for j in range(columns):
                    z[i] += A[i * columns + j] * data[x + j]
                top = max(top, z[i])
            normaliser = 0.0
            for i in range(rows):
                normaliser += np.exp(z[i] - top)
            total += top + np.log(normaliser) - z[int(data[2 + s])]
        return data[0] * total / samples

    @staticmethod
    def gradient_loop(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
        samples = int(data[1])
        count = batch.size if batch.size > 0 else samples
        z = np.empty(rows)
        for entry in range(A.size):
            out[entry] = 0.0
        for k in range(count):
            s = batch[k] if batch.size > 0 else k
            x = 2 + samples + s * columns
            top = -np.inf
            for i in range(rows):
                z[i] = 0.0
                for j in range(columns):
                    z[i] += A[i * columns + j] * data[x + j]
                top = max(top, z[i])
            normaliser = 0.0
            for i in range(rows):
                z[i] = np.exp(z[i] - top)
                normaliser += z[i]
            for i in range(rows):
                residual = z[i] / normaliser
                if i == int(data[2 + s]):
                    residual -= 1.0
                residual *= data[0] / count
                for j in range(columns):
                    out[i * columns + j] += residual * data[x + j]

    @staticmethod
    def hessian_loop(A, D, rows, columns, data, out):  # type: ignore[no-untyped-def]
        samples = int(data[1])
        p, dz = np.empty(rows), np.empty(rows)
        for entry in range(A.size):
            out[entry] = 0.0
        for s in range(samples):
            x = 2 + samples + s * columns
            top = -np.inf
            for i in range(rows):
                p[i], dz[i] = 0.0, 0.0
                for j in range(columns):
                    p[i] += A[i * columns + j] * data[x + j]
                    dz[i] += D[i * columns + j] * data[x + j]
                top = max(top, p[i])
            normaliser, mean = 0.0, 0.0
            for i in range(rows):
                p[i] = np.exp(p[i] - top)
                normaliser += p[i]
                mean += p[i] * dz[i]
            for i in range(rows):
                change = data[0] / samples * p[i] / normaliser * (dz[i] - mean / normaliser)
                for j in range(columns):
                    out[i * columns + j] += change * data[x + j]


class Custom(Cost):
    r"""A cost given by two plain functions of A.

    Both are compiled with Numba if they can be; if not, they run as they are, and a warning says so once.

    Parameters
    ----------
    value : callable
        ``value(A) -> float`` for a float64 matrix A of shape (n_L, n_0).
    gradient : callable
        ``gradient(A) -> array`` of the same shape. It must return a new array.

    Notes
    -----
    The second derivative is a central difference of the gradient with a step of 6e-6 relative to ||A||_F (or 1), right
    to about nine digits. There are no samples, so `sgd` refuses such a cost.

    Raises
    ------
    TypeError
        If one of the two is not callable.

    Examples
    --------
    >>> cost = Custom(lambda A: 0.25 * np.sum(A**4), lambda A: A**3)
    >>> cost.gradient([[2.0, 0.0]])
    array([[8., 0.]])
    """

    purpose = "plain functions of A"
    arguments = ()

    def __init__(self, value: Callable[[Array], float], gradient: Callable[[Array], Array]) -> None:
        for name, function in (("value", value), ("gradient", gradient)):
            if not callable(function):
                raise TypeError(
                    f"`{name}` must be a function of the matrix A, got {function!r}. Give a callable."
                )
        self.functions = (value, gradient)
        self._kernels: Any = None
        super().__init__(None, 0)

    def _each(self, function: Callable[[Array], Any], A: Array) -> Any:
        if A.ndim == 2:
            result = np.asarray(function(A.copy()))
            name = "value" if function is self.functions[0] else "gradient"
            wanted = () if name == "value" else A.shape
            if result.dtype.kind not in "biuf" or result.shape != wanted:
                raise ValueError(
                    f"`{name}` must return real numbers of shape {wanted}, got dtype {result.dtype} and shape "
                    f"{result.shape}. Mend the function."
                )
            return result.astype(np.float64)
        flat = [self._each(function, M) for M in A.reshape(-1, *A.shape[-2:])]
        return np.array(flat).reshape(A.shape[:-2] + np.shape(flat[0]))

    def _value(self, A: Array) -> Any:
        return self._each(self.functions[0], A)

    def _gradient(self, A: Array) -> Array:
        return self._each(self.functions[1], A)

    def _hessian_vector(self, A: Array, D: Array) -> Array:
        size = np.linalg.norm(D)
        if size == 0.0:
            return np.zeros_like(D)
        step = 6e-6 * max(1.0, float(np.linalg.norm(A))) / size
        return (self._gradient(A + step * D) - self._gradient(A - step * D)) / (2 * step)

    @property
    def data(self) -> Array:
        return np.array([self.scale])

    def kernels(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        from .core.custom import CustomKernels

        if self._kernels is None:
            self._kernels = CustomKernels(*self.functions)
        return self._kernels.value, self._kernels.gradient

    def hessian_kernel(self) -> Callable[..., Any]:
        self.kernels()
        kernel: Callable[..., Any] = self._kernels.hessian()
        return kernel

    def failure(self) -> BaseException | None:
        return None if self._kernels is None else self._kernels.take_failure()


ALL: dict[str, type[Cost]] = {
    cost.__name__: cost
    for cost in (FullyObserved, MatrixCompletion, MatrixSensing, SquareLoss, CrossEntropy, Custom)
}
