"""Where the orbits of the limit path end: at critical points, degenerate ones too, or on the way to infinity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import dln
from dln.saddles import orbits


def separable(seed, classes, features, samples):
    """Cross-entropy of random labels, which rank one tells apart in part, at infinity."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(features, samples))
    return dln.costs.CrossEntropy(X, rng.integers(0, classes, samples), classes=classes)


def completion(seed, n, values, observed):
    """A random n x n matrix with these singular values, partly observed."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0][:, : len(values)] for _ in range(2))
    mask = np.zeros(n * n)
    mask[rng.permutation(n * n)[: round(observed * n * n)]] = 1.0
    return dln.costs.MatrixCompletion((U * values) @ V.T, mask.reshape(n, n))


def least_of_rank_one(cost, A, size):
    """Least cost that is found among the matrices of rank one and a given norm, from the direction of A."""
    U, _, Vt = np.linalg.svd(A)
    m = len(A)

    def objective(x):
        u, v = x[:m], x[m:]
        a, b = np.linalg.norm(u), np.linalg.norm(v)
        u, v = u / a, v / b
        G = size * cost.gradient(size * np.outer(u, v))
        du, dv = G @ v / a, G.T @ u / b
        return cost.value(size * np.outer(u, v)), np.r_[du - u * (u @ du), dv - v * (v @ dv)]

    options = {"maxiter": 5000, "ftol": 0.0, "gtol": 1e-12}
    return minimize(objective, np.r_[U[:, 0], Vt[0]], jac=True, method="L-BFGS-B", options=options).fun


@pytest.mark.parametrize(
    ("samples", "seed", "depth"),
    [(6, 4, 5), (6, 8, 2), (6, 18, 2), (6, 24, 5), (9, 7, 2), (9, 8, 5), (9, 11, 5), (9, 15, 5)],
)
def test_a_point_on_the_way_to_infinity_is_no_saddle(samples, seed, depth):
    """The cost falls like 1/|A| to its infimum, until the gradient is rounding; no matrix of rank one attains it."""
    cost = separable(seed, 4, 4, samples)
    path = dln.saddle_to_saddle(cost, depth)
    assert [(saddle.rank, saddle.kind) for saddle in path.saddles] == [(0, "saddle"), (1, "unbounded")]
    last = path.saddles[-1]
    sizes = [10.0, 100.0, 1e3, 1e4]
    least = [least_of_rank_one(cost, last.end_to_end, size) for size in sizes]
    assert (np.diff(least) < -1e-6).all()
    assert last.cost < least[0]


def test_an_orbit_to_infinity_is_recognised_on_the_way():
    """Like sqrt(t): of rank three this matrix has no best completion; alternating least squares go on for ever."""
    cost = completion(0, 30, (10.0, 8.0, 6.0, 5.0, 4.0), 0.5)
    path = dln.saddle_to_saddle(cost, 3)
    last = path.saddles[-1]
    assert last.kind == "unbounded"
    assert sum(segment.n_steps for segment in path.segments) < 400
    A, sizes, costs = last.end_to_end, [np.linalg.norm(last.end_to_end)], [last.cost]
    for _ in range(10):
        A = alternated(cost, A, last.rank, 200)
        sizes.append(np.linalg.norm(A))
        costs.append(cost.value(A))
    assert (np.diff(sizes) > 1.0).all()
    assert (np.diff(costs) < 0).all()


def alternated(cost, A, rank, rounds):
    """Alternating least squares from the leading modes of A: for the rows of one factor, then of the other."""
    U, s, Vt = np.linalg.svd(A)
    P, Q = U[:, :rank] * np.sqrt(s[:rank]), Vt[:rank].T * np.sqrt(s[:rank])
    seen = cost.mask.astype(bool)
    for _ in range(rounds):
        P = np.array([np.linalg.lstsq(Q[k], y[k], rcond=None)[0] for k, y in zip(seen, cost.target, strict=True)])
        Q = np.array([np.linalg.lstsq(P[k], y[k], rcond=None)[0] for k, y in zip(seen.T, cost.target.T, strict=True)])
    return P @ Q.T


def test_a_far_minimum_is_not_taken_for_infinity():
    """Rank one that fits [[1/c, 1], [1, c]] but for one entry ends at c, however large, if a weight says so."""
    for c in (30.0, 300.0):
        A = np.array([[1 / c, 1.0], [1.0, c]])
        S = np.zeros((4, 2, 2))
        S.reshape(4, 4)[np.diag_indices(4)] = 1.0
        cost = dln.costs.MatrixCompletion([[1 / c, 1.0], [1.0, 0.0]], [[1, 1], [1, 0]])
        path = dln.saddle_to_saddle(cost, 3)
        print(c, path.saddles, [(s.status, s.n_steps) for s in path.segments])
