"""Two layers from a kappa-balanced start: a matrix Riccati equation, solved by an exponential."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..costs import Cost
from ..network import balances
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike, Layers
from .gram import followed
from .path import narrowed, path, squared_distance, times

__all__ = ["two_layer"]

BALANCED = 1e-13  # |D - kappa I| against |W_1|^2 + |W_2|^2
EPS = float(np.finfo(float).eps)


def two_layer(cost: Cost, weights: Layers, t: ArrayLike, *, weight_decay: float = 0.0) -> Trajectory:
    r"""Trajectory of two layers from a start with :math:`W_2^T W_2 - W_1 W_1^T = \kappa I`, of any shape and rank.

    With :math:`Q = [W_1^T; W_2]`, the matrix :math:`M = Q Q^T` solves a Riccati equation:

    .. math:: \dot M = F M + M F - M^2, \qquad
              F = \begin{pmatrix} -\tfrac{\kappa}{2} I & A^{*T} \\ A^* & \tfrac{\kappa}{2} I \end{pmatrix}, \qquad
              M(t) = e^{Ft} Q_0 \Big[I + Q_0^T \int_0^t e^{2Fs} ds\, Q_0\Big]^{-1} Q_0^T e^{Ft} .

    Weight decay subtracts :math:`\lambda I` from F; it needs kappa = 0, which it keeps.

    Parameters
    ----------
    cost : Cost
        FullyObserved, or SquareLoss with whitened inputs.
    weights : sequence of two array_like
        [W_1, W_2] at t = 0. Hidden width 1 is always balanced in this sense.
    t : array_like
        Increasing times >= 0, as late as one likes: no exponential is formed that could overflow.
    weight_decay : float
        lambda >= 0.

    Raises
    ------
    ValueError, TypeError
        If there are not two layers, the start is not balanced, weight decay comes with kappa != 0, the cost is another
        one, or an argument is wrong.
    RuntimeError
        If the hidden rotation cannot be followed to the end.

    Notes
    -----
    M, and with it A, the cost, the gradient norm and the singular values of both layers, is a closed form. It leaves
    open a rotation of the hidden layer, W_1 -> O W_1, W_2 -> W_2 O^T. The flow moves Q horizontally (Q^T Q' is
    symmetric), and this transport has no closed form unless the width is 1: the flow itself is integrated for it, with
    an error of about 1e-12 that A does not see.

    A is right to about 1e-15 of its largest entry. A direction that the start lacks only up to rounding grows from that
    rounding, as it does in every run in float64.

    References
    ----------
    K. Fukumizu, 1998; L. Braun, C. Domine, J. Fitzgerald, A. Saxe, NeurIPS 2022; C. Domine et al., arXiv 2409.14623.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[2.0, 0.0], [0.0, 1.0]])
    >>> run = two_layer(cost, dln.inits.lambda_balanced((2, 2, 2), 0.5, scale=1e-3, rng=0), [0.0, 1e4])
    >>> bool(np.abs(run.end_to_end[-1] - cost.target).max() < 1e-14)
    True
    """
    problem, t = Problem.checked(cost, weights, weight_decay), times(t)
    if problem.depth != 2:
        raise ValueError(f"`weights` must be two layers, got {problem.depth}. Take dln.exact.modes.")
    target, factor = squared_distance(cost)
    kappa = _balance(problem)
    B, small = narrowed(problem.weights)
    n_0 = target.shape[1]
    eigenvalues, P = _eigen(target, kappa)
    X = P.T @ np.vstack([small[0].T, small[1]])
    rates = eigenvalues - problem.weight_decay / factor

    def root(t: Array) -> Array:
        return P @ _riccati(X, rates, factor * t)

    def layers(Q: Array) -> tuple[Array, ...]:
        return B @ np.swapaxes(Q[:, :n_0], 1, 2), Q[:, n_0:] @ B.T

    turned = (lambda _, Q: Q) if X.shape[1] == 1 else _rotation(problem, small, t)
    return path(
        problem,
        t,
        lambda t: layers(turned(t, root(t))),
        method="riccati",
        bare=lambda t: layers(root(t)),
        state_size=X.size,
    )


def _balance(problem: Problem) -> float:
    """kappa of the start, which is refused where it has none."""
    D = balances(problem.weights)[0]
    w, size = len(D), sum(float(np.sum(W**2)) for W in problem.weights)
    kappa = float(np.trace(D)) / w
    if np.linalg.norm(D - kappa * np.eye(w)) > BALANCED * size:
        raise ValueError(
            "`weights` must have W_2^T W_2 - W_1 W_1^T = kappa I, got a difference that is none. "
            "Take dln.exact.gram, or a start from dln.inits.lambda_balanced."
        )
    if abs(kappa) * w**0.5 <= BALANCED * size:
        return 0.0
    if problem.weight_decay > 0:
        raise ValueError(
            f"`weight_decay` must be 0 unless the start is balanced, got {problem.weight_decay:g} with "
            f"kappa = {kappa:g}. Take dln.exact.gram."
        )
    return kappa


def _eigen(target: Array, kappa: float) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of [[-kappa/2 I, A*^T], [A*, kappa/2 I]], from the singular vectors of A*."""
    n_L, n_0 = target.shape
    U, s, Vt = np.linalg.svd(target)
    k = len(s)
    h = np.hypot(s, kappa / 2)
    large = np.where(h > 0, h + abs(kappa) / 2, 1.0)
    c, d = np.array([s, large] if kappa > 0 else [large, s]) / np.hypot(s, large)
    up = np.vstack([Vt[:k].T * c, U[:, :k] * d])
    down = np.vstack([-Vt[:k].T * d, U[:, :k] * c])
    inputs = np.vstack([Vt[k:].T, np.zeros((n_L, n_0 - k))])
    outputs = np.vstack([np.zeros((n_0, n_L - k)), U[:, k:]])
    values = np.concatenate([h, -h, np.full(n_0 - k, -kappa / 2), np.full(n_L - k, kappa / 2)])
    return values, np.hstack([up, down, inputs, outputs])


def _riccati(X: Array, f: Array, t: Array) -> Array:
    r"""A root Y of M = Y Y^T = E X [I + X^T phi X]^-1 X^T E, E = exp(f t), phi = (exp(2 f t) - 1)/(2f), for all times.

    With C the part of I + X^T phi X of the rates f <= 0 and Z its Cholesky factor divided out of X, the growing rows
    are written E Z = L D O^T with O orthonormal and L of entries at most 1, so that

    .. math:: M = [L; E_- Z_- O D^{-1}] (D^{-2} + L^T \psi L)^{-1} [\cdot]^T + E_- Z_- (I - O O^T) Z_-^T E_- ,

    psi = exp(-2 f t) phi, in which nothing grows.
    """
    grows = f > 0
    ft, r = t[:, None] * f, X.shape[1]
    E = np.exp(ft[:, ~grows])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        integral = np.where(f < 0, np.expm1(np.minimum(2 * ft, 0.0)) / (2 * f), t[:, None])[:, ~grows]
        psi = (-np.expm1(-2 * ft) / (2 * f))[:, grows]
    rest = X[~grows]
    C = np.eye(r) + rest.T @ (integral[:, :, None] * rest)
    Z = np.swapaxes(np.linalg.solve(np.linalg.cholesky(C), np.broadcast_to(X.T, (len(t), *X.T.shape))), 1, 2)
    L, log_D, O = _graded(Z[:, grows], ft[:, grows])
    shrink, damp = np.exp(np.minimum(log_D, 0.0)), np.exp(np.minimum(-log_D, 0.0))  # min(D, 1), min(1/D, 1)
    L = L * shrink[:, None, :]
    S = np.swapaxes(L, 1, 2) @ (psi[:, :, None] * L) + damp[:, :, None] ** 2 * np.eye(L.shape[2])
    below = E[:, :, None] * Z[:, ~grows]
    inside = below @ O
    factor = np.empty((len(t), len(f), L.shape[2]))
    factor[:, grows], factor[:, ~grows] = L, inside * damp[:, None, :]
    root = np.linalg.solve(np.linalg.cholesky(S), np.swapaxes(factor, 1, 2))
    Y = np.swapaxes(O @ root, 1, 2)
    Y[:, ~grows] += below - inside @ np.swapaxes(O, 1, 2)
    return Y


def _graded(V: Array, logs: Array) -> tuple[Array, Array, Array]:
    """exp(logs) V = L diag(exp(log_D)) O^T, rows taken by size as they come out: (T, p, r) to L, log_D, O.

    O has orthonormal columns, or columns of zeros where the rank is exhausted; entries of L are at most 1.
    """
    T, p, r = V.shape
    k, every = min(p, r), np.arange(T)
    L, log_D, O = np.zeros((T, p, k)), np.full((T, k), -np.inf), np.zeros((T, r, k))
    unit = np.abs(V).max(axis=2)  # of each row, so that squares do not underflow
    V, logs = V / np.where(unit > 0, unit, 1.0)[:, :, None], logs + np.log(np.where(unit > 0, unit, 1.0))
    sizes = np.linalg.norm(V, axis=2)
    for a in range(k):
        norms = np.linalg.norm(V, axis=2)
        with np.errstate(divide="ignore"):
            scores = logs + np.log(norms)
        row = np.argmax(scores, axis=1)
        norm, log_D[:, a] = norms[every, row], scores[every, row]
        q = V[every, row] / np.where(norm > 0, norm, 1.0)[:, None]
        q -= (O @ (np.swapaxes(O, 1, 2) @ q[:, :, None]))[:, :, 0]
        q /= np.maximum(np.linalg.norm(q, axis=1, keepdims=True), EPS)
        along = (V @ q[:, :, None])[:, :, 0]
        with np.errstate(over="ignore", invalid="ignore"):
            shares = np.exp(logs - logs[every, row][:, None]) * along / np.where(norm > 0, norm, 1.0)[:, None]
        L[:, :, a], O[:, :, a] = np.where(along == 0, 0.0, shares), q
        V -= along[:, :, None] * q[:, None, :]
        V[np.linalg.norm(V, axis=2) <= 8 * EPS * sizes] = 0.0
        V[every, row] = 0.0
    return L, log_D, O


def _rotation(problem: Problem, small: tuple[Array, Array], t: Array) -> Callable[[Array, Array], Array]:
    """(times, roots Q of M) -> the roots turned as the flow turns them."""
    run = followed(problem, small, t)

    def turned(t: Array, Q: Array) -> Array:
        near = run.weights_at(t)
        assert near is not None
        U, s, Vt = np.linalg.svd(Q, full_matrices=False)
        inside = np.swapaxes(U, 1, 2) @ np.concatenate([np.swapaxes(near[0], 1, 2), near[1]], axis=1)
        # Vt times the rotation, whose rows are right in the order of s: they are made orthonormal in this order.
        rows, R = np.linalg.qr(np.swapaxes(inside / np.where(s > 0, s, 1.0)[:, :, None], 1, 2))
        rows *= np.where(np.diagonal(R, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, None, :]
        return Q @ (np.swapaxes(Vt, 1, 2) @ np.swapaxes(rows, 1, 2))

    return turned
