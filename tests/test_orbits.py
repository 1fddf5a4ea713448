"""Where the orbits of the limit path end: at critical points, degenerate ones too, or on the way to infinity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import dln


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
        P = np.array(
            [np.linalg.lstsq(Q[k], y[k], rcond=None)[0] for k, y in zip(seen, cost.target, strict=True)]
        )
        Q = np.array(
            [np.linalg.lstsq(P[k], y[k], rcond=None)[0] for k, y in zip(seen.T, cost.target.T, strict=True)]
        )
    return P @ Q.T


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("size", [30.0, 300.0])
def test_a_far_minimum_is_not_taken_for_infinity(depth, size):
    """[[1/c, 1], [1, ?]] is of rank one with c as the last entry only, along a valley where C falls like 1/|A|^2."""
    cost = dln.costs.MatrixCompletion([[1 / size, 1.0], [1.1, 0.0]], [[1, 1], [1, 0]])
    last = dln.saddle_to_saddle(cost, depth).saddles[-1]
    assert (last.rank, last.kind) == (1, "minimum")
    assert np.isclose(last.end_to_end[1, 1], 1.1 * size, rtol=1e-8)


def test_a_saddle_that_is_slowly_arrived_at_is_not_taken_for_infinity():
    """It is three times as far out as where the gradient was largest, and Newton's method from half way runs away."""
    rng = np.random.default_rng([37, 257])
    n_L, n_0, _ = rng.integers(1, 6), rng.integers(1, 6), rng.integers(2, 7)
    cost = dln.costs.CrossEntropy(rng.normal(size=(n_0, 9)), rng.integers(0, n_L, 9), classes=n_L)
    path = dln.saddle_to_saddle(cost, 2)
    kinds = [(saddle.rank, saddle.kind) for saddle in path.saddles]
    assert kinds == [(0, "saddle"), (1, "saddle"), (2, "unbounded")]
    A = path.saddles[1].end_to_end
    least = [least_of_rank_one(cost, A, share * np.linalg.norm(A)) for share in (0.9, 1.0, 1.1)]
    assert least[1] < min(least[0], least[2])


def quartic(target):
    """1/4 sum of the fourth powers of A - target, whose Hessian vanishes at the minimum."""
    return dln.costs.Custom(
        lambda A: float(np.sum((A - target) ** 4) / 4), lambda A: np.asarray((A - target) ** 3)
    )


@pytest.mark.filterwarnings("ignore:this Custom cost cannot be compiled")
def test_degenerate_critical_points_are_arrived_at():
    """The orbit comes near like a power of the gradient, and Newton's method by a third of the way at every step."""
    column = np.array([[1.6], [-0.4], [0.9], [-1.1], [0.2]])
    path = dln.saddle_to_saddle(quartic(column), 2, shape=(5, 1))
    assert [(saddle.rank, saddle.kind) for saddle in path.saddles] == [(0, "saddle"), (1, "minimum")]
    assert np.allclose(path.saddles[-1].end_to_end, column, atol=1e-5)
    diagonal = np.diag([2.0, 1.0])
    path = dln.saddle_to_saddle(quartic(diagonal), 2, shape=(2, 2))
    kinds = [(saddle.rank, saddle.kind) for saddle in path.saddles]
    assert kinds == [(0, "saddle"), (1, "saddle"), (2, "minimum")]
    assert np.allclose(
        path.saddles[1].end_to_end, np.diag([2.0, 0.0]), atol=1e-4
    )  # C'' is zero at three entries
    assert np.allclose(path.saddles[2].end_to_end, diagonal, atol=1e-5)


@pytest.mark.filterwarnings("ignore:this Custom cost cannot be compiled")
def test_a_pause_is_looked_at_in_as_many_steps_as_it_takes():
    """The time of a pause is found by continuing the flow, which begins anew: those steps are not the segment's."""
    path = dln.saddle_to_saddle(quartic(np.diag([2.0, 1.0])), 4, shape=(2, 2))
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 2]
    assert path.segments[0].status == "saddle"


PROBLEMS = {
    "equal": dln.costs.FullyObserved(np.diag([2.0, 2.0, 1.0, 1.0, 0.5])),
    "apart": dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0])),
    "within": dln.costs.MatrixCompletion(np.diag([2.0, 1.0]), np.eye(2)),  # rank one goes on to rank one
}


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_no_saddle_is_beyond_the_largest_rank(name, depth):
    """The path is the whole one up to the last saddle before that, also where several modes leave together."""
    cost = PROBLEMS[name]
    whole = dln.saddle_to_saddle(cost, depth)
    ranks = [saddle.rank for saddle in whole.saddles]
    assert ranks == {
        ("equal", 2): [0, 2, 4, 5],
        ("equal", 3): [0, 1, 2, 3, 4, 5],
        ("within", 2): [0, 1, 2],
        ("within", 3): [0, 1, 1],
    }.get((name, depth), [0, 1, 2, 3])
    for most in range(min(cost.shape) + 1):
        path = dln.saddle_to_saddle(cost, depth, max_rank=most)
        assert [saddle.rank for saddle in path.saddles] == [rank for rank in ranks if rank <= most]
        assert len(path.segments) == len(path.saddles) - 1
        last, same = path.saddles[-1], whole.saddles[len(path.saddles) - 1]
        assert (last.kind, last.directions) == (same.kind, same.directions)
