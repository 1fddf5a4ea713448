"""How the flow leaves saddles: the expansion against the orbit, and the saddles that are no ordinary ones."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from problems import random_costs, slope, small_start
from scipy.optimize import brentq

import dln
from dln import landscape
from dln.saddles import orbits
from dln.saddles import path as module
from dln.saddles.departure import departure, response


def masked(seed=3):
    rng = np.random.default_rng(seed)
    return dln.costs.MatrixCompletion(rng.normal(size=(5, 4)), rng.random((5, 4)) < 0.75)


def sensed(seed, n):
    """n x n, as many measurements as entries, of sizes from 0.08 to 1, fitted by a random matrix."""
    rng = np.random.default_rng([5, seed])
    Q = np.linalg.qr(rng.normal(size=(n * n, n * n)))[0]
    S = (np.exp(rng.uniform(-2.5, 0, n * n))[:, None] * Q).reshape(n * n, n, n)
    return dln.costs.MatrixSensing(S, np.einsum("kij,ij->k", S, rng.normal(size=(n, n))))


def weighted(A, w):
    """The cost 1/2 sum w_ij (A - A*)_ij^2."""
    S = np.zeros((A.size, *A.shape))
    S.reshape(A.size, A.size)[np.diag_indices(A.size)] = np.sqrt(np.ravel(w))
    return dln.costs.MatrixSensing(S, np.sqrt(np.ravel(w)) * np.ravel(A))


def critical_point(cost, depth, rank):
    point, _, scale = module.limit_origin(cost, depth, None, None)
    while point.rank < rank:
        _, point, settled = orbits.followed(point, scale, 1e-9, "radau13", 1500)
        assert settled
    return point


def where(run, mode, size):
    """A where a singular value first has a size."""

    def above(t):
        return np.linalg.svd(run.at(t), compute_uv=False)[mode] - size

    i = int(np.argmax(run.singular_values[:, mode] >= size))
    return run.at(brentq(above, run.t[i - 1], run.t[i], xtol=1e-14))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_the_expansion_errs_by_the_square_of_its_size(depth, rank):
    """Against the orbit from the start that leaves no error, where the new mode has the same size."""
    cost, sizes, errors = masked(), (1e-3, 1e-4, 1e-5), []
    point = critical_point(cost, depth, rank)
    first = departure(point)
    orbit = dln.gradient_flow(
        cost, first.layers(depth), (0.0, np.inf), method="radau13", rtol=1e-12, until=dln.Until(rank=rank + 1)
    )
    for size in sizes:
        start = departure(point, size=size * first.heading)
        there = where(orbit, rank, start.s[-1])
        errors.append(np.linalg.norm(there - (start.U * start.s) @ start.V.T))
    assert slope(sizes, errors) > (2.9 if rank == 0 else 1.75)  # 2 from the saddle on, 3 from zero
    assert errors[-1] < 1e-9
    assert first.s[-1] < 1e-7 * first.heading  # where an error of that order is rounding


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_orbits_do_not_depend_on_the_size_they_start_at(depth):
    """Half the size: the same points, to the tolerance of the integrator."""
    cost = masked()
    point = critical_point(cost, depth, 1)
    first = departure(point)
    runs = [
        dln.gradient_flow(
            cost, departure(point, size=size).layers(depth), (0.0, np.inf), method="radau13", rtol=1e-11,
            until=dln.Until(rank=2),
        )
        for size in (first.s[-1], first.s[-1] / 2)
    ]  # fmt: skip
    for share in (1e-4, 1e-2, 0.1):
        one, two = (where(run, 1, share * first.heading) for run in runs)
        assert np.linalg.norm(one - two) < 1e-10


def test_the_response_of_a_mode_is_the_integral_over_the_past():
    rate = 0.01
    for depth in (3, 4, 6):
        power, growth = mpmath.mpf(depth) / (depth - 2), (1 - mpmath.mpf(2) / depth) * rate
        for mu in (0.0, 1e-5, 1e-2, 3.0, 1e4):
            if mu < 1:  # e^z E_p(z), z = mu / growth; its asymptotic series beyond
                z = mu / growth
                exact = mpmath.exp(z) * mpmath.expint(power, z) / growth
            else:
                z = mu / growth
                exact = mpmath.hyperu(1, 2 - power, z) / growth
            assert math.isclose(response(np.array([mu]), rate, depth)[0], exact, rel_tol=1e-10)
    assert np.allclose(response(np.array([0.0, 2.0]), rate, 2), [100.0, 1 / 2.01])


def plateaus(cost, depth, alpha, seed=0, width=6):
    n_L, n_0 = cost.shape
    start = small_start((n_0, *[width] * (depth - 1), n_L), alpha, np.random.default_rng(seed))
    until = dln.Until(cost=1e-8 * cost.value(np.zeros(cost.shape)))
    return dln.find_saddles(dln.gradient_flow(cost, start, (0.0, np.inf), until=until), resolution=1e-6)


def test_equal_singular_values_leave_together_with_two_layers_and_one_by_one_with_more():
    cost = dln.costs.FullyObserved(np.diag([2.0, 2.0, 1.0]))
    for depth, alpha, ranks, directions in (
        (2, 1e-8, [0, 2, 3], [2, 1, 0]),
        (3, 1e-4, [0, 1, 2, 3], [2, 1, 1, 0]),
    ):
        path = dln.saddle_to_saddle(cost, depth)
        assert [saddle.rank for saddle in path.saddles] == ranks
        assert [saddle.directions for saddle in path.saddles] == directions
        assert [saddle.rank for saddle in plateaus(cost, depth, alpha)] == ranks
        first = path.saddles[1].end_to_end
        assert np.allclose(first[2], 0)
        assert np.allclose(first, first.T, atol=1e-9)  # - G is symmetric and positive there
        assert np.allclose(np.linalg.svd(first)[1][: ranks[1]], 2.0)


def test_a_saddle_among_the_matrices_of_its_rank_is_left_within_that_rank():
    """The top pair of -G(0) is (1, 1), and so is the best symmetric matrix of rank one; diag(4, 0) would be better."""
    cost = weighted(np.array([[4.0, 1.0], [1.0, 4.0]]), np.array([[0.1, 1.0], [1.0, 0.1]]))
    path = dln.saddle_to_saddle(cost, 3)
    assert [(saddle.rank, saddle.index) for saddle in path.saddles] == [(0, 0), (1, 1), (1, 0), (2, 0)]
    one = path.saddles[1].end_to_end
    assert np.allclose(one, 1.4 / 1.1 * np.ones((2, 2)), atol=1e-9)  # (b + w d) / (1 + w)
    seen = plateaus(cost, 3, 1e-5)
    assert [saddle.rank for saddle in seen] == [0, 1, 1, 2]
    assert np.allclose(
        [saddle.cost for saddle in seen[:3]], [saddle.cost for saddle in path.saddles[:3]], rtol=1e-4
    )


def test_two_unconnected_blocks_of_a_mask_are_fitted_by_one_mode():
    """The entries outside the blocks are free, so rank one suffices: the second block joins the first mode."""
    target, mask = np.array([[2.0, 0.0], [0.0, 1.0]]), np.eye(2)
    path = dln.saddle_to_saddle(dln.costs.MatrixCompletion(target, mask), 4)
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 1]
    assert path.saddles[1].index == 1
    assert np.allclose(path.saddles[1].end_to_end, np.diag([2.0, 0.0]), atol=1e-9)
    assert np.isclose(np.prod(np.diag(path.saddles[2].end_to_end)), 2.0)
    assert path.saddles[2].cost < 1e-20


@pytest.mark.parametrize(
    ("seed", "n", "depth", "ranks"), [(1985, 2, 4, [0, 1, 1, 2]), (2364, 3, 2, [0, 1, 2, 2, 3])]
)
def test_a_mode_can_die_on_the_way(seed, n, depth, ranks):
    """The determinant keeps its sign along an orbit: where it has the wrong one, a singular value goes to zero."""
    cost = sensed(seed, n)
    path = dln.saddle_to_saddle(cost, depth)
    assert [saddle.rank for saddle in path.saddles] == ranks
    k = ranks.index(ranks[-2])  # from there the orbit arrives at the same rank
    s = path.segments[k].singular_values[:, ranks[k]]
    assert s.max() > 1e-2
    assert s[-1] < 1e-7
    for saddle in path.saddles[1:-1]:
        U, _, Vt = np.linalg.svd(saddle.end_to_end)
        G = cost.gradient(saddle.end_to_end)
        assert np.linalg.norm(U[:, : saddle.rank].T @ G) + np.linalg.norm(G @ Vt[: saddle.rank].T) < 1e-10
    assert path.saddles[-1].cost < 1e-20
    assert (
        np.sign(np.linalg.det(path.segments[k].end_to_end[0]))
        != np.sign(np.linalg.det(path.saddles[-1].end_to_end))
        or n > 2
    )


def test_a_cost_whose_infimum_is_not_attained_ends_unbounded():
    """[[0, 1], [1, ?]] has rank one only with an infinite entry."""
    cost = dln.costs.MatrixCompletion([[0.0, 1.0], [1.0, 0.0]], [[1, 1], [1, 0]])
    for depth in (3, 5):
        path = dln.saddle_to_saddle(cost, depth)
        last = path.saddles[-1]
        assert (last.kind, last.rank, last.directions, last.index) == ("unbounded", 1, 0, 0)
        assert last.cost < 1e-5
        assert np.abs(last.end_to_end[1, 1]) > 100
        assert sum(segment.n_steps for segment in path.segments) <= 3000
    path = dln.saddle_to_saddle(cost, 2)  # both modes leave together, and fit it at rank two
    assert [(saddle.rank, saddle.kind) for saddle in path.saddles] == [(0, "saddle"), (2, "minimum")]


def test_modes_of_very_different_stiffness_on_one_plateau():
    """Eigenvalues of the Hessian from 1 to 1700 among the fitted modes: none may be left to explicit corrections."""
    rng = np.random.default_rng([11, 50])
    draw = rng.standard_normal
    n, m = (int(k) for k in rng.integers(1, 6, 2))
    rng.integers(2, 7)
    rng.random((n, m))
    k = int(rng.integers(1, 2 * n * m + 1))
    S = draw((k, n, m))
    path = dln.saddle_to_saddle(dln.costs.MatrixSensing(S, np.einsum("kij,ij->k", S, draw((n, m)))), 5)
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 2, 3, 4]
    assert max(segment.n_steps for segment in path.segments) < 200


def included(saddle, depth):
    """Balanced layers of one hidden neuron more than the rank."""
    k, (n_L, n_0) = saddle.rank, saddle.end_to_end.shape
    U, s, Vt = np.linalg.svd(saddle.end_to_end)
    u = s[:k] ** (1 / depth)
    ends = np.zeros((k + 1, n_0)), np.zeros((n_L, k + 1))
    ends[0][:k], ends[1][:, :k] = u[:, None] * Vt[:k], U[:, :k] * u
    return [ends[0], *[np.diag(np.append(u, 0.0))] * (depth - 2), ends[1]]


@pytest.mark.parametrize("depth", [2, 3])
def test_the_index_is_that_of_the_hessian(depth):
    costs = [
        dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0])),
        weighted(np.array([[4.0, 1.0], [1.0, 4.0]]), np.array([[0.1, 1.0], [1.0, 0.1]])),
        masked(),
    ]
    for cost in costs:
        for saddle in dln.saddle_to_saddle(cost, depth).saddles:
            if saddle.rank < min(cost.shape):
                H = landscape.hessian(cost, included(saddle, depth)).to_dense()
                assert saddle.index == np.sum(np.linalg.eigvalsh(H) < -1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_every_path_ends_by_law(seed):
    """Costs of every kind: critical points of falling cost, to a minimum of C, or on without end."""
    rng = np.random.default_rng([13, seed])
    n_L, n_0 = (int(n) for n in rng.integers(1 if seed else 2, 5, size=2))
    for cost in random_costs(n_L, n_0, rng)[: None if seed == 0 else -1]:  # the last one is compiled anew
        depth = int(rng.integers(2, 11))
        path = dln.saddle_to_saddle(cost, depth, shape=None if cost.shape else (n_L, n_0))
        first = np.linalg.norm(cost.gradient(path.saddles[0].end_to_end), 2)
        values = [saddle.cost for saddle in path.saddles]
        assert (np.diff(values) < 0).all()
        for saddle in path.saddles[:-1]:
            assert saddle.kind == "saddle"
            U, s, Vt = np.linalg.svd(saddle.end_to_end)
            assert np.sum(s > 1e-7 * s[0]) == saddle.rank
            G, k = cost.gradient(saddle.end_to_end), saddle.rank
            assert np.linalg.norm(U[:, :k].T @ G) + np.linalg.norm(G @ Vt[:k].T) < 1e-7 * first
        last = path.saddles[-1]
        assert last.kind in ("minimum", "unbounded")
        if last.kind == "minimum":
            assert np.linalg.norm(cost.gradient(last.end_to_end), 2) < 1e-6 * first
        else:
            A = path.segments[-1].end_to_end
            assert np.linalg.norm(A[-1]) > 1.001 * np.linalg.norm(A[-20])


def test_a_mode_that_grows_for_ever_is_no_saddle():
    """Rank one tells two of five classes apart at infinity: the gradient vanishes along A, and A has no size."""
    rng = np.random.default_rng([11, 93])
    n, m = (int(k) for k in rng.integers(1, 6, 2))
    rng.integers(2, 7)
    rng.random((n, m))
    cost = 3.0 * dln.costs.CrossEntropy(rng.standard_normal((m, 9)), rng.integers(0, n, 9), classes=n)
    path = dln.saddle_to_saddle(cost, 5)
    assert [(saddle.rank, saddle.kind) for saddle in path.saddles] == [(0, "saddle"), (1, "unbounded")]


def test_a_perfect_fit_with_free_directions_is_a_minimum():
    """Newton's method must not run along the fits, whose curvature is rounding."""
    from dln.experiments import conjecture

    path = dln.saddle_to_saddle(conjecture._draw(76, 2).cost, 2)
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 2, 3]
    assert path.saddles[-1].kind == "minimum"
    moved = path.saddles[-1].end_to_end - path.segments[-1].end_to_end[-1]
    assert np.linalg.norm(moved) < 1e-3 * np.linalg.norm(path.saddles[-1].end_to_end)
