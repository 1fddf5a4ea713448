"""Regimes: distances against other ways to find them, their laws in wide networks, the linearised flow, experiments."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest
from problems import slope
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.optimize import minimize

import dln
from dln import cli, experiments
from dln.experiments import _pool
from dln.network import end_to_end, layer_gradients
from dln.regimes import bounds, factors
from dln.regimes.bounds import _growth, _products, below_minimum, below_saddle
from dln.regimes.factors import Factors
from dln.regimes.infinite import distance_at_infinite_width
from dln.regimes.minimisers import minimisers
from dln.regimes.subspaces import krylov, projected

S = np.array([1.5, 0.8])
TARGET = dln.costs.FullyObserved(np.diag(S))


def gap(here, there):
    return math.sqrt(sum(np.sum((V - W) ** 2) for V, W in zip(here, there, strict=True)))


def gaussian(width, depth, gamma, seed, n=2):
    return dln.inits.gaussian((n, *[width] * (depth - 1), n), gamma=gamma, rng=seed)


def problem(seed):
    """A random quadratic cost, one of each kind in its turn, and a start of depth 2 to 4."""
    rng = np.random.default_rng([11, seed])
    depth, (m, n) = 2 + seed % 3, rng.integers(2, 4, size=2)
    T = rng.normal(size=(m, n))
    S = rng.normal(size=(3, m, n))
    X = rng.normal(size=(n, 5 if seed % 8 < 4 else 1))
    cost = (
        dln.costs.FullyObserved(T),
        dln.costs.MatrixCompletion(T, np.eye(m, n)),
        dln.costs.MatrixSensing(S, rng.normal(size=3)),
        2.0 * dln.costs.SquareLoss(X, rng.normal(size=(m, X.shape[1]))),
    )[seed % 4]
    widths = (n, *rng.integers(3, 6, size=depth - 1), m)
    return cost, dln.inits.gaussian(widths, rho=(0.1, 1.0, 3.0)[seed % 3], rng=rng)


def least_cost(cost, weights):
    """By least squares: the gradient at zero and the Hessian, column by column."""
    shape = end_to_end(weights).shape
    units = np.eye(math.prod(shape)).reshape(-1, *shape)
    H = np.array([cost.hessian_vector(0 * unit, unit).ravel() for unit in units])
    b = cost.gradient(np.zeros(shape)).ravel()
    return cost.value(-np.linalg.lstsq(H, b, rcond=1e-12)[0].reshape(shape))


def penalised(cost, weights, tries=4):
    """Least distance to the minima by L-BFGS under a growing penalty, from several starts."""
    shapes = [W.shape for W in weights]
    ends = np.cumsum([W.size for W in weights])[:-1]
    origin = np.concatenate([W.ravel() for W in weights])
    least, rng, found = least_cost(cost, weights), np.random.default_rng(0), []

    def objective(x, mu):
        layers = [part.reshape(shape) for part, shape in zip(np.split(x, ends), shapes, strict=True)]
        A = end_to_end(layers)
        slopes = np.concatenate([g.ravel() for g in layer_gradients(layers, cost.gradient(A))])
        value = 0.5 * np.sum((x - origin) ** 2) + mu * (cost.value(A) - least)
        return value, x - origin + mu * slopes

    for k in range(tries):
        x = origin + (k > 0) * rng.normal(size=origin.size)
        for mu in 10.0 ** np.arange(8):
            x = minimize(objective, x, args=(mu,), jac=True, method="L-BFGS-B",
                         options={"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-9}).x  # fmt: skip
        found.append(np.linalg.norm(x - origin))
    return min(found)


# Distance to a minimum


@pytest.mark.parametrize("seed", range(10))
def test_nearest_minimum_against_a_growing_penalty(seed):
    cost, weights = problem(seed)
    found = dln.distance_to_minimum(cost, weights)
    lower, upper = found
    other = penalised(cost, weights)
    assert 0 < lower <= other * (1 + 1e-6)
    assert upper == float(found) <= other * (1 + 1e-6)
    assert below_minimum(weights, goal_of(cost, weights)) <= other * (1 + 1e-6)
    assert gap(found.weights, weights) == pytest.approx(upper, rel=1e-12)
    least = least_cost(cost, weights)
    assert cost.value(end_to_end(found.weights)) == pytest.approx(least, abs=1e-12 * (1 + abs(least)))


@pytest.mark.parametrize(
    ("a", "b", "s"), [(0.3, 2.0, 1.0), (1.0, 1.0, 4.0), (0.1, -0.2, 0.5), (3.0, 1.0, -2.0)]
)
def test_nearest_point_of_a_hyperbola(a, b, s):
    """x - a = mu y, y - b = mu x, x y = s: with y = s/x a polynomial of degree 4."""
    x = np.roots([1.0, -a, 0.0, b * s, -(s**2)])
    x = x.real[np.abs(x.imag) < 1e-9]
    nearest = np.min(np.hypot(x - a, s / x - b))
    found = dln.distance_to_minimum(dln.costs.FullyObserved([[s]]), [[[a]], [[b]]])
    assert found == pytest.approx(nearest, rel=1e-12)


def goal_of(cost, weights):
    return minimisers(dln.problem.Problem.checked(cost, weights, 0.0))


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("m", [0.0, 0.5, 1.2])
def test_lower_bound_is_sharp_for_equal_weights(depth, m):
    """m in every layer, to s: L^(1/2) (s^(1/L) - m) by the singular values; at depth 2, or from 0, by growth too."""
    weights = [np.array([[m]])] * depth
    for s in (0.5, 3.0):
        cost = dln.costs.FullyObserved([[s]])
        exact = math.sqrt(depth) * (s ** (1 / depth) - m)
        found = below_minimum(weights, goal_of(cost, weights))
        if exact > 0:
            assert found == pytest.approx(exact, rel=1e-12)
        if depth == 2 or m == 0.0:
            growth = _growth(_products(weights, [m] * depth))
            d = abs(exact)
            assert sum(c * d**k for k, c in enumerate(growth, start=1)) >= abs(s - m**depth) * (1 - 1e-12)
            if exact > 0:
                assert sum(c * d**k for k, c in enumerate(growth, start=1)) == pytest.approx(s - m**depth)


def test_one_layer_is_as_far_as_its_matrix():
    found = dln.distance_to_minimum(TARGET, [np.zeros((2, 2))])
    assert [*found] == pytest.approx([np.linalg.norm(S)] * 2, rel=1e-12)
    away = [np.ones((2, 2))]
    assert below_minimum(away, goal_of(TARGET, away)) == pytest.approx(dln.distance_to_minimum(TARGET, away))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_distance_is_invariant_under_rotations_and_zero_at_a_minimum(depth):
    weights = gaussian(12, depth, 1.0, 3)
    rotations = [np.linalg.qr(np.random.default_rng(l).normal(size=(12, 12)))[0] for l in range(depth - 1)]
    first, turned = (
        dln.distance_to_minimum(TARGET, W) for W in (weights, dln.network.rotate(weights, rotations))
    )
    assert turned == pytest.approx(first, rel=1e-8)
    assert dln.distance_to_minimum(TARGET, first.weights) < 1e-10


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("rho", [1e-6, 0.1, 2.0])
def test_targets_that_lack_rank(depth, rho):
    """At small starts the constraints are degenerate; the least norm of factors is the limit."""
    cost = dln.costs.FullyObserved(np.diag([2.0, 0.0]))
    found = dln.distance_to_minimum(cost, dln.inits.gaussian((2, *[6] * (depth - 1), 2), rho=rho, rng=0))
    assert found.lower <= found
    assert cost.value(end_to_end(found.weights)) < 1e-20
    if rho == 1e-6:
        assert found == pytest.approx(math.sqrt(depth * 2.0 ** (2 / depth)), rel=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_lazy_constants(depth):
    """gamma < 1: ||A* - A(0)|| / (sqrt L rho^(L-1)), within 6 % (arXiv 2106.15933v2)."""
    w = 512
    for gamma in (1 - 1 / depth, 0.8, 0.9):
        ratios = []
        for seed in range(4):
            weights = gaussian(w, depth, gamma, seed)
            away = np.linalg.norm(TARGET.gradient(end_to_end(weights)))
            law = away / (math.sqrt(depth) * w ** ((1 - gamma) / 2 * (depth - 1)))
            found = dln.distance_to_minimum(TARGET, weights, restarts=0)
            assert found.lower > 0.6 * found
            ratios.append(found / law)
        assert abs(np.mean(ratios) - 1) < 0.06


WIDE = [(2, 1, 0.02), (3, 1, 0.04), (4, 1, 0.04), (3, 1.5, 6e-3), (4, 2, 1e-3)]


@pytest.mark.parametrize(("depth", "gamma", "tolerance"), WIDE)
def test_distances_of_wide_networks_are_those_of_infinite_width(depth, gamma, tolerance):
    ratios = []
    for seed in range(4):
        weights = gaussian(256, depth, gamma, seed)
        away = np.linalg.svd(TARGET.gradient(end_to_end(weights)), compute_uv=False)
        law = distance_at_infinite_width(away, depth, 256 ** ((1 - gamma) / 2))
        ratios.append(dln.distance_to_minimum(TARGET, weights, restarts=0) / law)
    assert abs(np.mean(ratios) - 1) < tolerance


@pytest.mark.parametrize(("depth", "width", "known"), [(2, 256, 2.1392), (3, 128, 2.5351)])
def test_small_starts_come_from_the_representation_cost(depth, width, known):
    found = dln.distance_to_minimum(TARGET, gaussian(width, depth, 3.0, 0))
    assert found == pytest.approx(known, rel=1e-3)
    assert found.lower == pytest.approx(found, rel=0.01)
    assert found < math.sqrt(2 * dln.schatten.value(np.diag(S), depth))


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_first_order_of_small_starts(depth):
    """d^2 = L sum s^(2/L) - 2 sqrt2 (L-1) rho sum s^(1/L) + O(rho^2); the trees of L > 3 are cut off."""
    rhos, left = np.array([0.04, 0.02, 0.01]), []
    for rho in rhos:
        law = depth * np.sum(S ** (2 / depth)) - 2**1.5 * (depth - 1) * rho * np.sum(S ** (1 / depth))
        left.append(abs(distance_at_infinite_width(S, depth, rho) ** 2 - law))
    if depth <= 3:
        assert slope(rhos, left) == pytest.approx(2.0, abs=0.15)
    else:
        first = 2**1.5 * (depth - 1) * rhos[-1] * np.sum(S ** (1 / depth))
        assert left[-1] < 0.03 * first


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**70])
def test_distances_scale(factor):
    weights, depth = gaussian(6, 3, 1.0, 4), 3
    larger = [factor * W for W in weights]
    cost = dln.costs.FullyObserved(factor**depth * TARGET.target)
    for distance in (dln.distance_to_minimum, dln.distance_to_saddle):
        one, other = distance(TARGET, weights), distance(cost, larger)
        assert [*other] == pytest.approx([factor * d for d in one], rel=1e-9)


def test_extreme_starts():
    still = [np.zeros((4, 2)), np.zeros((4, 4)), np.zeros((2, 4))]
    assert [*dln.distance_to_minimum(TARGET, still)] == pytest.approx(
        [math.sqrt(3 * np.sum(S ** (2 / 3)))] * 2
    )
    assert [*dln.distance_to_saddle(TARGET, still)] == [0.0, 0.0]
    for target, rho in ((1e100, 1.0), (1e-100, 1.0), (1.0, 1e50), (0.0, 1.0)):
        cost = dln.costs.FullyObserved(target * np.diag(S))
        found = dln.distance_to_minimum(cost, dln.inits.gaussian((2, 4, 4, 2), rho=rho, rng=0))
        assert 0 < found.lower <= found.upper < math.inf


def test_a_distance_travels():
    found = dln.distance_to_minimum(TARGET, gaussian(4, 2, 1.0, 0))
    copy = pickle.loads(pickle.dumps(found))
    assert (copy, copy.lower, copy.upper) == (found, found.lower, found.upper)
    assert repr(found).startswith("Distance(")


def jacobian(weights, goal):
    """Of the constraints, row by row from layer gradients."""
    units = np.eye(len(goal.values))
    return np.array([flat(layer_gradients(weights, goal.raised(unit))) for unit in units])


def flat(layers):
    return np.concatenate([np.ravel(W) for W in layers])


@pytest.mark.parametrize("seed", range(8))
def test_derivatives_of_the_constraints(seed):
    cost, weights = problem(seed)
    goal, rng = goal_of(cost, weights), np.random.default_rng(seed)
    here, J = Factors.at(weights, goal), jacobian(weights, goal)
    v, mu = rng.normal(size=J.shape[1]), rng.normal(size=len(J))
    assert np.allclose(here.down(v), J @ v, rtol=1e-12, atol=1e-12)
    assert np.allclose(here.up(mu), mu @ J, rtol=1e-12, atol=1e-12)
    assert np.allclose(here.kernel(mu), J @ (J.T @ mu), rtol=1e-12, atol=1e-12)
    assert np.allclose(goal.kernel(weights), J @ J.T, rtol=1e-12, atol=1e-12)
    inside = v - np.linalg.pinv(J) @ (J @ v)
    assert np.allclose(here.tangent(v), inside, rtol=1e-7, atol=1e-7)
    h = 1e-5
    moved = [
        jacobian(factors.layered(flat(weights) + sign * h * v, [W.shape for W in weights]), goal)
        for sign in (1, -1)
    ]
    bent = mu @ (moved[0] - moved[1]) / (2 * h)
    assert np.allclose(here.curvature(mu)(v), here.tangent(v - bent), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_inverses_of_the_kernel_agree(seed, monkeypatch):
    """By a factor and by singular bases, whatever the cost, also where the start is far from balanced."""
    cost, weights = problem(seed)
    goal = goal_of(cost, weights)
    K, r = goal.kernel(weights), np.random.default_rng(seed).normal(size=len(goal.values))
    expected = np.linalg.solve(K, r)
    for limit in (0, 1000):
        monkeypatch.setattr(factors, "DENSE", limit)
        monkeypatch.setattr(factors, "DETERMINED", limit)
        here = Factors.at(weights, goal)
        assert here.inverse == (here.by_factor if limit else here.by_bases)
        assert np.allclose(here.solve(r)[0], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_singular_bases_miss_nothing_at_balanced_layers():
    rng = np.random.default_rng(0)
    weights = dln.inits.balanced(rng.normal(size=(9, 8)), 3, rng=1)
    cost = dln.costs.FullyObserved(np.zeros((9, 8)))
    here, r = Factors.at(weights, goal_of(cost, weights)), rng.normal(size=72)
    assert np.allclose(here.kernel(here.by_bases(r)), r, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(0, 12, 3))
def test_distances_do_not_depend_on_how_kernels_are_inverted(seed, monkeypatch):
    cost, weights = problem(seed)
    found = []
    for limit in (0, 1000):
        monkeypatch.setattr(factors, "DENSE", limit)
        monkeypatch.setattr(factors, "DETERMINED", limit)
        found.append(dln.distance_to_minimum(cost, weights))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_lower_bound_without_the_kernel_is_a_weaker_one(seed, monkeypatch):
    cost, weights = problem(seed)
    goal = goal_of(cost, weights)
    sharp = below_minimum(weights, goal)
    monkeypatch.setattr(bounds, "DENSE", 0)
    assert 0.5 * sharp < below_minimum(weights, goal) <= sharp * (1 + 1e-12)


@pytest.mark.parametrize("observed", [1.0, 0.5])
def test_large_targets_are_reached_the_shortest_way(observed, monkeypatch):
    """30 x 30, depth 3: theta - theta_0 = J^T mu to five digits; of a target that is seen whole no kernel is formed."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=(30, 30)) / math.sqrt(30)
    cost = dln.costs.FullyObserved(target)
    if observed < 1:
        cost = dln.costs.MatrixCompletion(target, rng.random(target.shape) < observed)
    weights = dln.inits.gaussian((30, 40, 40, 30), rho=1.0, rng=1)
    formed = []
    with monkeypatch.context() as patch:
        patch.setattr(factors.Factors, "by_factor", counting(factors.Factors.by_factor, formed))
        lower, upper = found = dln.distance_to_minimum(cost, weights)
    assert 0.1 * upper < lower < upper
    assert (observed < 1) == bool(formed)
    assert gap(found.weights, weights) == pytest.approx(upper, rel=1e-12)
    assert cost.value(end_to_end(found.weights)) < 1e-20
    offset, J = flat(found.weights) - flat(weights), jacobian(found.weights, goal_of(cost, weights))
    along = J.T @ np.linalg.solve(J @ J.T, J @ offset)
    assert np.linalg.norm(offset - along) < 1e-5 * upper


def counting(method, calls):
    def counted(self, *arguments):
        calls.append(arguments)
        return method(self, *arguments)

    return counted


# Distance to a saddle


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("gamma", [0.8, 1.5])
def test_saddles_are_critical_and_bracketed(depth, gamma):
    spans = {2: (0.9, 2.2), 3: (0.22, 2.2), 4: (0.067, 2.2)}  # of d_s / rho
    for width in (64, 256):
        weights = gaussian(width, depth, gamma, 5)
        lower, upper = found = dln.distance_to_saddle(TARGET, weights)
        G = TARGET.gradient(end_to_end(found.weights))
        slopes = layer_gradients(found.weights, G)
        size = max(np.linalg.norm(W) for W in weights) ** (depth - 1)
        assert max(np.linalg.norm(g) for g in slopes) < 1e-12 * size
        assert np.linalg.norm(G) > 0.5
        assert gap(found.weights, weights) == pytest.approx(upper, rel=1e-12)
        rho = width ** ((1 - gamma) / 2)
        assert spans[depth][0] < lower / rho <= upper / rho < spans[depth][1]


@pytest.mark.parametrize("seed", range(8))
def test_no_saddle_lies_below_the_bound(seed):
    """Saddles nearest to the layers: products of lower rank from the reduced targets, and the origin."""
    rng = np.random.default_rng(seed)
    depth = 2 + seed % 3
    U, V = (np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in range(2))
    s = np.array([3.0, 2.0, 1.0])
    cost = dln.costs.FullyObserved(U * s @ V.T)
    weights = dln.inits.gaussian((3, *[5] * (depth - 1), 3), rho=(0.3, 1.0, 2.0)[seed % 3], rng=rng)
    found = dln.distance_to_saddle(cost, weights)
    for kept in ([], [0], [1, 2], [0, 1], [0, 2]):
        A = (U * s)[:, kept] @ V[:, kept].T
        for _ in range(20):
            saddle = dln.inits.balanced(A, depth, widths=(3, *[5] * (depth - 1), 3), rng=rng)
            assert gap(saddle, weights) >= found.lower
    assert found.upper <= math.hypot(*(np.linalg.norm(W) for W in (weights[0], weights[-1]))) + 1e-12


def test_bounds_close_for_scalar_networks():
    """|W_1|, |W_2| must both vanish; for L = 3 the two smallest."""
    cost = dln.costs.FullyObserved([[4.0]])
    two = [np.array([[1.0]]), np.array([[2.0]])]
    assert below_saddle(two) == pytest.approx(math.sqrt(5), rel=1e-12)
    three = [np.array([[1.0]])] * 3  # the middle one must vanish, or the others
    assert below_saddle(three) == pytest.approx(2 - math.sqrt(2), rel=1e-12)  # sqrt2 d + d^2/2 = 1
    assert [*dln.distance_to_saddle(cost, two)] == pytest.approx([math.sqrt(5)] * 2, rel=1e-12)
    found = dln.distance_to_saddle(cost, [[[1.0]], [[2.0]], [[3.0]]])
    assert found.upper == pytest.approx(math.sqrt(5), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_the_change_of_a_product(seed):
    """What `lower` rests on: no step of length below it makes the product reach the target, or lose its rank."""
    rng = np.random.default_rng(seed)
    depth = 2 + seed % 3
    weights = dln.inits.gaussian((2, *[4] * (depth - 1), 2), rho=1.0, rng=rng)
    cost = dln.costs.FullyObserved(np.diag([9.0, 8.0]))
    d, saddle = below_minimum(weights, goal_of(cost, weights)), below_saddle(weights)
    steps = [rng.normal(size=(200, *W.shape)) for W in weights]
    pulls = layer_gradients(weights, cost.gradient(end_to_end(weights)))
    for k in range(200):
        step = [-g for g in pulls] if k == 0 else [part[k] for part in steps]
        unit = math.sqrt(sum(np.sum(part**2) for part in step))
        moved = [W + 0.999 * d / unit * part for W, part in zip(weights, step, strict=True)]
        assert np.linalg.norm(cost.gradient(end_to_end(moved))) > 0
        near = [W + 0.999 * saddle / unit * part for W, part in zip(weights, step, strict=True)]
        sides = (end_to_end(near[1:]), end_to_end(near[:-1]))
        assert max(np.linalg.svd(M, compute_uv=False)[-1] for M in sides) > 0


# The lazy regime


@pytest.mark.parametrize("seed", range(8))
def test_linearised_flow_against_an_integrator(seed):
    cost, weights = problem(seed)
    A, K = end_to_end(weights), dln.ntk(weights)
    times = np.array([0.0, 0.3, 2.0])
    run = solve_ivp(
        lambda t, a: -np.tensordot(K, cost.gradient(a.reshape(A.shape)), 2).ravel(),
        (0.0, 2.0), A.ravel(), method="Radau" if seed % 3 == 2 else "DOP853", rtol=1e-10, atol=1e-12, t_eval=times,
    )  # fmt: skip
    expected = run.y.T.reshape(3, *A.shape)
    assert np.allclose(dln.linearised(cost, weights, times), expected, rtol=1e-7, atol=1e-7)


def test_linearised_flow_of_full_observation_is_an_exponential():
    weights = gaussian(20, 3, 0.8, 1)
    A, K = end_to_end(weights), dln.ntk(weights).reshape(4, 4)
    gone = expm(-0.7 * K) @ (A - np.diag(S)).ravel()
    assert np.allclose(dln.linearised(TARGET, weights, 0.7), np.diag(S) + gone.reshape(2, 2), atol=1e-13)
    still = [np.zeros((2, 2)), np.zeros((2, 2))]
    assert not dln.linearised(TARGET, still, [0.0, 5.0]).any()


def test_kernel_change_and_linearisation_error_fall_like_rho_to_the_minus_2L():
    widths, changes, errors = (32, 64, 128, 256), [], []
    for w in widths:
        found = []
        for seed in range(12):
            weights = gaussian(w, 2, 0.5, seed)
            run = dln.gradient_flow(TARGET, weights, (0.0, 60.0 / w**0.5), rtol=1e-7)
            gaps = np.linalg.norm(run.end_to_end - dln.linearised(TARGET, weights, run.t), axis=(1, 2))
            away = np.linalg.norm(TARGET.gradient(end_to_end(weights)))
            found.append((dln.ntk_change(run)[-1] / away, gaps.max() / away**2))
        change, error = np.exp(np.mean(np.log(found), axis=0))
        changes.append(change)
        errors.append(error)
    assert slope(widths, changes) == pytest.approx(-1.0, abs=0.3)
    assert slope(widths, errors) == pytest.approx(-1.0, abs=0.3)


@pytest.mark.parametrize(("depth", "order", "tolerance"), [(2, 0, 1e-8), (3, 4, 1e-5), (4, 4, 3e-3)])
def test_krylov_spaces_hold_the_flow(depth, order, tolerance):
    weights = gaussian(100, depth, 1.0, 2)
    small = projected(weights, krylov(weights, order))
    assert max(W.shape[0] for W in small) < 40
    times = np.linspace(0.0, 8.0, 9)
    full, less = (
        dln.gradient_flow(TARGET, W, (0.0, 8.0), t_eval=times, rtol=1e-10) for W in (weights, small)
    )
    assert np.abs(full.end_to_end - less.end_to_end).max() < tolerance
    assert np.allclose(dln.ntk(weights), dln.ntk(small), rtol=1e-12, atol=1e-12)


# The door


def test_refusals():
    wide = gaussian(5, 2, 1.0, 0)
    with pytest.raises(ValueError, match="`cost` must be quadratic"):
        dln.distance_to_minimum(dln.costs.CrossEntropy(np.eye(2), [0, 1]), wide)
    with pytest.raises(ValueError, match="`cost` must be quadratic"):
        dln.linearised(dln.costs.CrossEntropy(np.eye(2), [0, 1]), wide, 1.0)
    with pytest.raises(ValueError, match="`weights` must have hidden layers of width at least 2"):
        dln.distance_to_minimum(TARGET, [np.ones((1, 2)), np.ones((2, 1))])
    with pytest.raises(ValueError, match="`restarts` must be at least 0"):
        dln.distance_to_minimum(TARGET, wide, restarts=-1)
    with pytest.raises(ValueError, match="`weights` must have at least two layers"):
        dln.distance_to_saddle(TARGET, [np.ones((2, 2))])
    with pytest.raises(ValueError, match="`cost` must have a gradient at A = 0"):
        dln.distance_to_saddle(dln.costs.FullyObserved(np.zeros((2, 2))), wide)
    with pytest.raises(ValueError, match="`t` must be zero or positive"):
        dln.linearised(TARGET, wide, [-1.0])
    with pytest.raises(TypeError, match="`trajectory` must be a Trajectory"):
        dln.ntk_change(wide)
    with pytest.raises(ValueError, match="`trajectory` must hold its weights"):
        dln.ntk_change(dln.gradient_flow(TARGET, wide, (0.0, 1.0), keep_weights=False))
    with pytest.raises(ValueError, match="`singular_values` must be a list"):
        distance_at_infinite_width([-1.0], 2, 1.0)


# Experiments


def called(capsys, tmp_path, *arguments):
    assert cli.main(["run", *arguments, "--json", "--output", str(tmp_path), "--jobs", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["figures"]) == 2
    return result["rows"]


@pytest.mark.parametrize(
    ("depth", "gamma", "test"),
    [(2, 0.5, 2.52), (2, 2.0, 0.881), (3, 2.0, 0.0169), (4, 0.75, 4.09), (4, 1.5, 0.118), (4, 2.0, 0.0083)],
)
def test_one_start_reproduces_known_test_errors(depth, gamma, test):
    """Found by another program for this matrix (default_rng(0)) and this start (default_rng(1))."""
    module = experiments.load("gammas")
    end = module._end(module.Case(depth, gamma, 100, 1, 0))
    assert end.test == pytest.approx(test, rel=0.05)


def test_small_starts_help_deep_networks(capsys, tmp_path):
    rows = called(capsys, tmp_path, "gammas", "--quick")
    gains = {(row["depth"], row["gamma"]): row["gain"] for row in rows}
    assert gains[2, 2.0] < 5
    assert gains[4, 2.0] > 100
    assert gains[2, 0.5] == gains[4, 0.75] == 1.0
    assert all(row["lowest"] <= row["test error"] <= row["highest"] for row in rows)


def test_regimes_by_measured_exponents(capsys, tmp_path):
    rows = called(capsys, tmp_path, "regimes", "--quick")
    assert {row["regime"] for row in rows} == {"lazy", "mean field", "saddle-to-saddle"}
    for row in rows:
        assert abs(row["d_m / law"] - 1) < 0.1  # two starts of width 128
        assert row["proved"] <= row["d_m"]
        assert abs(row["d_m measured"] - row["d_m theory"]) < 0.1
        assert abs(row["d_s measured"] - row["d_s theory"]) < 0.06
        if row["gamma"] >= 1:  # below, two starts are too few
            assert abs(row["kernel measured"] - row["kernel theory"]) < 0.3
        assert abs(row["time measured"] - row["time theory"]) < 0.3
        low, high = row["d_s / rho bounds"]
        assert 0.3 < low < high < 2.3


def test_processes_give_what_one_gives():
    items = [4.0, 9.0, 16.0]
    assert _pool.each(math.sqrt, items, 2, False, "roots") == _pool.each(math.sqrt, items, 1, False, "roots")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gammas", "--width", "3"], "`--width` must be at least 10"),
        (["gammas", "--depths", "1"], "`--depths` must be at least 2"),
        (["regimes", "--widths", "1"], "`--widths` must be at least 2"),
        (["regimes", "--singular-values", "0"], "`--singular-values` must be positive"),
        (["regimes", "--seeds", "0"], "`--seeds` must be at least 1"),
    ],
)
def test_wrong_input_is_one_sentence(capsys, tmp_path, arguments, words):
    assert cli.main(["run", *arguments, "--output", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
