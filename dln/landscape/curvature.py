r"""Second derivatives of the objective with respect to the weights: operator, dense matrix, blocks, spectrum, index.

Parameters are ordered layer by layer, each layer row by row. With :math:`A = W_L \cdots W_1`, :math:`G = dC/dA` and the
derivative :math:`J` of A with respect to the weights, the Hessian is

.. math:: H = J^T C''(A) J + \sum_{ij} G_{ij} \nabla^2 A_{ij} + \lambda I .

The first term is its Gauss-Newton part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import linalg

from .. import checks, form
from ..backends.system import System
from ..costs import Cost
from ..problem import Problem
from ..typing import Array, Layers

__all__ = ["Hessian", "gauss_newton", "hessian"]

DENSE = 2**14  # parameters of the largest matrix that is formed: 2 GiB
CHEAP = 400  # parameters up to which all eigenvalues cost no more than a few by Lanczos
Operator: Any = linalg.LinearOperator
ENDS = ("SA", "LA", "LM", "BE")


class Hessian(Operator):  # type: ignore[misc]
    """Symmetric matrix of second derivatives, formed only on request: a `scipy.sparse.linalg.LinearOperator`.

    Made by `hessian` and `gauss_newton`. It may be used by several threads at once.

    Attributes
    ----------
    shape : tuple of int
        (P, P), P the number of weights.
    sizes : tuple of int
        Number of weights of every layer.
    weight_decay : float
        The multiple of the identity that is part of it.
    """

    def __init__(self, system: System, gradient: Any, weight_decay: float) -> None:
        problem = system.problem
        super().__init__(np.float64, (problem.parameters,) * 2)
        self.sizes = tuple(W.size for W in problem.weights)
        self.weight_decay = weight_decay
        self._system, self._gradient = system, gradient

    def _matvec(self, direction: Any) -> Array:
        _, index, _, data, work = self._system.arguments
        product, second = self._system.kernels[-2:]
        d, out = np.array(direction, dtype=np.float64).ravel(), np.empty(self.shape[0])
        state, scratch = self._system.state, np.zeros_like(work)
        with np.errstate(over="ignore", invalid="ignore"):
            product(state, d, index, self.weight_decay, self._gradient, second, data, scratch, out)
        if (failure := self._system.problem.cost.failure()) is not None:
            raise failure
        if not np.isfinite(out).all():
            raise ValueError(
                "`weights` must have second derivatives that float64 can hold, got infinite or NaN products. "
                "Rescale them."
            )
        return out

    def _matmat(self, directions: Any) -> Array:
        if directions.shape[1] == 0:
            return np.empty(directions.shape)
        return np.stack([self._matvec(d) for d in directions.T], axis=1)

    def _adjoint(self) -> Hessian:
        return self

    _transpose = _adjoint

    def to_dense(self) -> Array:
        """The matrix, shape (P, P), exactly symmetric; refused above 2 GiB."""
        P = self.shape[0]
        if P > DENSE:
            raise ValueError(
                f"`weights` must have at most {DENSE} parameters for a dense matrix, got {P}. "
                "Use products with the operator, or .spectrum(k=...) for eigenvalues at the ends."
            )
        H = self._matmat(np.eye(P))
        return np.asarray((H + H.T) / 2)

    def block(self, l: int, m: int) -> Array:
        """Second derivatives with respect to W_l and W_m, shape (size of W_l, size of W_m); l, m = 1 .. L."""
        depth = len(self.sizes)
        l = checks.integer(l, "l", least=1, most=depth)
        m = checks.integer(m, "m", least=1, most=depth)
        if self.sizes[l - 1] < self.sizes[m - 1]:
            return np.ascontiguousarray(self.block(m, l).T)
        if self.sizes[l - 1] * self.sizes[m - 1] > DENSE**2:
            raise ValueError(
                f"`l`, `m` must be layers of at most {DENSE} parameters, got {self.sizes[l - 1]} and "
                f"{self.sizes[m - 1]}. Use products with the operator."
            )
        ends = np.cumsum([0, *self.sizes])
        units = np.eye(self.sizes[m - 1], self.shape[0], ends[m - 1])
        return np.stack([self._matvec(unit)[ends[l - 1] : ends[l]] for unit in units], axis=1)

    def spectrum(self, k: int | None = None, which: str = "SA") -> Array:
        """Eigenvalues in ascending order: all of them, or `k` at the ends.

        Parameters
        ----------
        k : int, optional
            Number of eigenvalues; all P by default, from the dense matrix.
        which : {"SA", "LA", "LM", "BE"}
            The smallest, the largest, the largest in modulus, or half from either end (the odd one from the upper).

        Raises
        ------
        ValueError, TypeError
            If `k` exceeds P or `which` is unknown; without `k` if the dense matrix needs more than 2 GiB.
        RuntimeError
            If Lanczos does not converge.

        Notes
        -----
        A few eigenvalues of a large matrix come from Lanczos iterations with restarts (ARPACK), started from a fixed
        vector: the same in every run. Copies of a multiple eigenvalue come out one by one, by rounding; their number
        is certain only in the whole spectrum.
        """
        which = checks.one_of(which, "which", ENDS)
        P = self.shape[0]
        k = P if k is None else checks.integer(k, "k", least=1, most=P)
        if P <= CHEAP or k > P // 2:
            values: Any = np.linalg.eigvalsh(self.to_dense())
            return _chosen(values, k, which)
        return self._lanczos(k, which)

    def _lanczos(self, k: int, which: str) -> Array:
        start = np.random.default_rng(0).standard_normal(self.shape[0])
        if which == "BE" and k == 1:  # which ARPACK does not mean
            which = "LA"
        if not self._matvec(start).any():  # of almost every start for no matrix but 0, on which ARPACK fails
            return np.zeros(k)
        search: Any = linalg.eigsh
        room = min(self.shape[0], 4 * k + 40)
        try:
            values = search(self, k=k, which=which, v0=start, ncv=room, return_eigenvectors=False)
        except linalg.ArpackNoConvergence as error:
            raise RuntimeError(
                f"Lanczos found {len(error.eigenvalues)} of {k} eigenvalues. Ask for more of them, or for all."
            ) from error
        return np.sort(values)

    def index(self, tol: float | None = None) -> int:
        """Number of eigenvalues below -tol, by default the rounding of the largest, 8 P eps max|eigenvalue|.

        From the dense matrix, refused above 2 GiB. `spectrum(k)` shows the lowest eigenvalues of a larger one.
        """
        values = self.spectrum()
        if tol is None:
            tol = 8 * len(values) * np.finfo(float).eps * float(np.abs(values).max())
        return int(np.sum(values < -checks.nonnegative(tol, "tol")))


def _chosen(values: Array, k: int, which: str) -> Array:
    """The k of the ascending values that ARPACK means."""
    P = len(values)
    if which == "LM":
        return np.sort(values[np.argsort(-np.abs(values), kind="stable")[:k]])
    low = {"SA": k, "LA": 0, "BE": k // 2}[which]
    return np.concatenate([values[:low], values[P - (k - low) :]])


def hessian(cost: Cost, weights: Layers, *, weight_decay: float = 0.0) -> Hessian:
    r"""Hessian of :math:`C(W_L \cdots W_1) + \tfrac\lambda2 \sum_l \|W_l\|_F^2` at the weights, as a linear operator.

    A product with a vector costs a few gradients, so that wide networks need no matrix.

    Parameters
    ----------
    cost : Cost
        Any of `dln.costs`.
    weights : sequence of array_like
        Layers [W_1, ..., W_L], W_l of shape (n_l, n_{l-1}).
    weight_decay : float
        lambda >= 0.

    Returns
    -------
    Hessian
        A `scipy.sparse.linalg.LinearOperator` with `to_dense`, `spectrum`, `block` and `index`.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain or do not fit the cost, or `weight_decay` is negative.

    Notes
    -----
    `dln.costs.Custom` knows its second derivative by differences only, right to about nine digits, and the Hessian no
    better.

    Examples
    --------
    Two layers at the origin: eigenvalues plus and minus the singular values of the target, shifted by the decay.

    >>> import dln
    >>> H = hessian(dln.costs.FullyObserved([[3.0]]), [[[0.0]], [[0.0]]], weight_decay=1.0)
    >>> H.to_dense()
    array([[ 1., -3.],
           [-3.,  1.]])
    >>> H.spectrum(), H.index()
    (array([-2.,  4.]), 1)
    """
    system = _system(cost, weights, weight_decay)
    return Hessian(system, system.kernels[3], system.problem.weight_decay)


def gauss_newton(cost: Cost, weights: Layers) -> Hessian:
    r"""Gauss-Newton part :math:`J^T C''(A) J` of the Hessian, J the derivative of A with respect to the weights.

    It is positive semi-definite for a convex cost, of rank n_0 n_L at most, and belongs to the cost alone: weight
    decay is not in it. `hessian(cost, weights, weight_decay=wd) - gauss_newton(cost, weights)` is the rest,
    :math:`\sum_{ij} G_{ij} \nabla^2 A_{ij} + \lambda I`, which is `wd` times the identity where G = dC/dA vanishes.

    Parameters
    ----------
    cost : Cost
        Any of `dln.costs`.
    weights : sequence of array_like
        Layers [W_1, ..., W_L].

    Returns
    -------
    Hessian
        The operator.

    Raises
    ------
    ValueError, TypeError
        If the layers do not chain or do not fit the cost.

    Examples
    --------
    >>> import dln
    >>> gauss_newton(dln.costs.FullyObserved([[3.0]]), [[[1.0]], [[2.0]]]).to_dense()
    array([[4., 2.],
           [2., 1.]])
    """
    from ..core.compile import compiled

    # The Hessian of a cost with the same second derivative and no first one.
    return Hessian(_system(cost, weights, 0.0), compiled(no_gradient, "gradient"), 0.0)


def no_gradient(A, rows, columns, data, batch, out):  # type: ignore[no-untyped-def]
    """0 into out: a kernel in place of the gradient of a cost."""
    for entry in range(out.size):
        out[entry] = 0.0


def _system(cost: Cost, weights: Layers, weight_decay: float) -> System:
    problem = Problem.checked(cost, weights, weight_decay)
    return System.of(problem, form.ALL["weights"]).with_curvature()
