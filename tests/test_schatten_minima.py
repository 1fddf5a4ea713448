"""Minima of cost plus Schatten penalty: derivatives, closed forms, independent minimisers, certificates that bite."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import dln
from dln.network import end_to_end
from dln.schatten.alternating import approximation
from dln.schatten.fixed_rank import Penalised, Point, newton
from dln.schatten.minima import _bound


def completion(seed, shape=(8, 6), rank=2, observed=0.7, noise=0.1):
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    mask = rng.random(shape) < observed
    return dln.costs.MatrixCompletion(np.where(mask, target + noise * rng.normal(size=shape), 0.0), mask)


def costs(seed=0):
    rng = np.random.default_rng(seed)
    S, T = rng.normal(size=(18, 5, 4)), rng.normal(size=(5, 4))

    def gradient(A):
        return np.tanh(A - T)

    return {
        "completion": completion(seed, (5, 4)),
        "sensing": dln.costs.MatrixSensing(S, np.einsum("mij,ij->m", S, T)),
        "square": 2.0 * dln.costs.SquareLoss(rng.normal(size=(4, 12)), rng.normal(size=(5, 12))),
        "cross-entropy": dln.costs.CrossEntropy(rng.normal(size=(4, 20)), rng.integers(0, 5, 20)),
        "custom": dln.costs.Custom(lambda A: np.sum(np.log(np.cosh(A - T))), gradient),
    }


@pytest.mark.parametrize("name", costs())
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_derivatives_on_the_manifold_of_one_rank(name, depth):
    """Value along the nearest matrix of the same rank, by differences extrapolated to the fourth order."""
    rng, cost = np.random.default_rng(1), costs()[name]
    U, s, Vt = np.linalg.svd(rng.normal(size=(5, 4)), full_matrices=False)
    point = Point(Penalised(cost, 0.3, depth), U[:, :2], s[:2], Vt[:2].T)
    z, other = (point.tangent(rng.normal(size=point.gradient.size)) for _ in range(2))
    f = {k: point.moved(k * 1e-3 * z).objective for k in (-2, -1, 0, 1, 2)}
    slope = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / 12e-3
    bend = (16 * (f[1] + f[-1]) - (f[2] + f[-2]) - 30 * f[0]) / 12e-6
    assert np.isclose(point.gradient @ z, slope, rtol=1e-7, atol=1e-8)
    assert np.isclose(point.hessian(z) @ z, bend, rtol=1e-5)
    assert np.isclose(
        point.hessian(z) @ other, z @ point.hessian(other), rtol=1e-6 if name == "custom" else 1e-10
    )


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_minima_of_a_fully_observed_target_are_all_those_of_the_closed_form(depth):
    """x_+ on the leading modes: every rank up to the number of modes above the saddle-node, and no other."""
    rng = np.random.default_rng(2)
    for shape in ((5, 5), (3, 6), (7, 4)):
        target, decay = 2 * rng.normal(size=shape), 0.5
        cost = 1.5 * dln.costs.FullyObserved(target)
        minima = dln.schatten.solve(cost, decay, depth)
        U, s, Vt = np.linalg.svd(target, full_matrices=False)
        x = np.nan_to_num(dln.schatten.branches(s, decay / 1.5, depth)[0])
        ranks = range(np.count_nonzero(x) + 1) if depth > 2 else [np.count_nonzero(x)]
        assert sorted(minimum.rank for minimum in minima) == list(ranks)
        for minimum in minima:
            r = minimum.rank
            assert np.allclose(minimum.end_to_end, (U[:, :r] * x[:r]) @ Vt[:r], atol=1e-11)
        assert [m.kind for m in minima] == ["global minimum"] + ["local minimum"] * (len(minima) - 1)
        assert np.allclose(minima[0].end_to_end, dln.schatten.prox(target, decay / 1.5, depth), atol=1e-11)


@pytest.mark.parametrize("name", costs())
@pytest.mark.parametrize("depth", [1, 2])
def test_shallow_minimum_is_global_by_its_certificate_and_by_another_method(name, depth):
    cost = costs()[name]
    (minimum,) = dln.schatten.solve(cost, 0.2, depth, shape=(5, 4))
    assert minimum.kind == "global minimum"
    assert minimum.certificate.gap <= 1e-9 * minimum.objective
    A = np.zeros((5, 4))
    lipschitz = (
        max(np.linalg.norm(np.ravel(cost.hessian_vector(A, E)), 1) for E in np.eye(20).reshape(-1, 5, 4)) * 5
    )
    Y, t = A, 1.0
    for _ in range(4000):  # accelerated proximal gradient with restarts
        after = dln.schatten.prox(Y - cost.gradient(Y) / lipschitz, 0.2 / lipschitz, depth)
        t_after = (1 + np.sqrt(1 + 4 * t * t)) / 2
        if np.sum((Y - after) * (after - A)) > 0:
            t_after = 1.0
        Y, A, t = after + (t - 1) / t_after * (after - A), after, t_after
    objective = cost.value(A) + 0.2 * dln.schatten.value(A, depth)
    assert minimum.objective - 1e-12 <= objective <= minimum.objective * (1 + 1e-6)
    if depth == 2:
        assert abs(np.linalg.norm(cost.gradient(minimum.end_to_end), 2) - 0.2) < 1e-9


@pytest.mark.parametrize("name", costs())
@pytest.mark.parametrize("depth", [3, 4])
def test_deep_minima_are_minima_of_the_layers(name, depth):
    """From perturbed balanced factors, descent in the layers comes back to the same product and objective."""
    rng, cost, decay = np.random.default_rng(3), costs()[name], 0.05
    minima = dln.schatten.solve(cost, decay, depth, shape=(5, 4))
    assert len(minima) > 1
    for minimum in minima:
        assert minimum.certificate.gradient < (1e-7 if name == "custom" else 1e-10)
        assert minimum.certificate.curvature > 0
        start = dln.schatten.factorize(minimum.end_to_end, depth, widths=(4, *[4] * (depth - 1), 5))
        shapes, sizes = [W.shape for W in start], [W.size for W in start]

        at = np.concatenate([W.ravel() for W in start])

        def objective(z, shapes=shapes, sizes=sizes, at=at):
            theta = at + 1e-4 * z  # so that the first step is small
            parts = np.split(theta, np.cumsum(sizes)[:-1])
            weights = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
            A = end_to_end(weights)
            gradients = dln.network.layer_gradients(weights, cost.gradient(A))
            flat = np.concatenate([G.ravel() for G in gradients])
            return cost.value(A) + decay / 2 * theta @ theta, 1e-4 * (flat + decay * theta)

        value, slope = objective(np.zeros_like(at))
        assert np.isclose(value, minimum.objective, rtol=1e-12)
        assert np.linalg.norm(slope) < 1e-10
        done = minimize(objective, rng.normal(size=at.size), jac=True, method="L-BFGS-B", tol=1e-16)
        assert np.isclose(done.fun, minimum.objective, rtol=1e-8)


def test_no_run_of_the_flow_ends_below_the_first_minimum():
    """Sixty random starts of the layers, of all sizes."""
    rng = np.random.default_rng(4)
    for seed, depth in ((0, 3), (1, 3), (2, 4)):
        cost = completion(seed)
        best = dln.schatten.solve(cost, 0.1, depth)[0].objective
        widths = (6, *[6] * (depth - 1), 8)
        for _ in range(20):
            weights = dln.inits.gaussian(widths, std=rng.uniform(0.2, 0.8), rng=rng)
            trajectory = dln.gradient_flow(cost, weights, (0.0, 30.0), weight_decay=0.1, rtol=1e-4)
            assert trajectory.objective[-1] >= best * (1 - 1e-9)


def test_symmetries_scale_and_width():
    cost = completion(5)
    minima = dln.schatten.solve(cost, 0.1, 3)
    turned = dln.schatten.solve(dln.costs.MatrixCompletion(cost.target.T, cost.mask.T), 0.1, 3)
    assert [m.rank for m in minima] == [m.rank for m in turned]
    assert np.allclose(minima[0].end_to_end, turned[0].end_to_end.T, atol=1e-9)
    scaled = dln.schatten.solve(7.0 * cost, 0.7, 3)
    assert np.allclose([7 * m.objective for m in minima], [m.objective for m in scaled])
    narrow = dln.schatten.solve(cost, 0.1, 3, width=1)
    assert {m.rank for m in narrow} == {0, 1}
    again = dln.schatten.solve(cost, 0.1, 3, restarts=3, rng=1)
    assert again[0].objective <= minima[0].objective * (1 + 1e-12)
    assert len(again) >= len(minima)
    greedy = dln.schatten.solve(cost, 0.1, 3, breadth=1)
    objectives = np.array([m.objective for m in minima])
    assert all(np.isclose(objectives, m.objective, rtol=1e-10).any() for m in greedy)
    assert len(greedy) <= len(minima)


def test_certificates_bite():
    """A saddle on the manifold has a negative curvature, a wrong rank a positive excess, a poor point a gap."""
    rng = np.random.default_rng(6)
    target = np.diag([3.0, 2.0, 1.0])
    problem = Penalised(dln.costs.FullyObserved(target), 0.2, 3)
    x = dln.schatten.branches(2.0, 0.2, 3)[0]
    saddle = Point(
        problem, np.eye(3)[:, [1]], np.array([x]), np.eye(3)[:, [1]]
    )  # the second mode without the first
    assert np.linalg.norm(saddle.gradient) < 1e-14
    assert saddle.least_curvature[0] < -0.1
    away = saddle.moved(1e-3 * saddle.tangent(rng.normal(size=saddle.gradient.size)))
    assert newton(away).objective < saddle.objective - 0.1
    convex = dln.schatten.solve(problem.cost, 0.2, 2, width=2)[0]
    assert convex.rank == 2
    assert np.isclose(convex.certificate.excess, 1.0 / 0.2 - 1)
    wide = completion(7)
    assert dln.schatten.solve(wide, 0.3, 2, width=1)[0].kind == "local minimum"


def test_a_broader_search_finds_more_minima():
    """Noise alone makes many minima of rank four."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(10, 2)))[0] for _ in range(2))
    mask = np.zeros(100)
    mask[rng.permutation(100)[:60]] = 1
    noisy = U @ np.diag([10.0, 7.0]) @ V.T + 0.1 * rng.normal(size=(10, 10))
    cost = dln.costs.MatrixCompletion(noisy, mask.reshape(10, 10))
    for depth in (3, 4):
        found = [dln.schatten.solve(cost, 0.02, depth, breadth=breadth) for breadth in (0, 1, 2)]
        assert len(found[0]) < len(found[1]) < len(found[2])
        assert {m.rank for m in found[1]} == {0, 1, 2, 3, 4}
        lowest = [minima[0].objective for minima in found]
        assert lowest[0] >= lowest[1] * (1 - 1e-12) >= lowest[2] * (1 - 2e-12)
        assert lowest[2] < 0.2871  # thirty restarts at each rank find nothing lower


def test_every_decay_of_a_path_has_its_certified_global_minimum():
    """Modes are added down to the last one that pays, however little."""
    cost = completion(9)
    for decay in np.geomspace(1e-3, 10.0, 40):
        (minimum,) = dln.schatten.solve(cost, decay, 2)
        assert minimum.kind == "global minimum"
        assert minimum.certificate.excess < 1e-9


def test_the_bound_of_one_layer_is_sharp_where_the_cost_is_nearly_linear():
    cost = 1e-9 * dln.costs.MatrixCompletion([[1e9, 0.0], [0.0, 2e9]], np.eye(2))
    zero = Point(Penalised(cost, 2.0, 1), np.empty((2, 0)), np.empty(0), np.empty((2, 0)))
    (minimum,) = dln.schatten.solve(cost, 2.0, 1)
    assert np.isclose(zero.objective - _bound(zero, 2), zero.objective - minimum.objective, rtol=1e-6)


@pytest.mark.parametrize("dense", [0, 10**6])
def test_least_curvature_by_lanczos_is_that_of_the_dense_hessian(dense, monkeypatch):
    minimum = dln.schatten.solve(completion(8), 0.1, 3)[0]
    U, s, Vt = np.linalg.svd(minimum.end_to_end)
    r = minimum.rank
    point = Point(Penalised(completion(8), 0.1, 3), U[:, :r], s[:r], Vt[:r].T)
    monkeypatch.setattr("dln.schatten.fixed_rank.DENSE", dense)
    assert np.isclose(point.least_curvature[0], minimum.certificate.curvature, rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        ((np.eye(2), 0.1, 3), {}, "cost"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.0, 3), {}, "weight_decay"),
        ((dln.costs.FullyObserved(np.eye(2)), -0.1, 3), {}, "weight_decay"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 0), {}, "depth"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 3), {"width": 3}, "width"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 3), {"width": 0}, "width"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 3), {"shape": (3, 2)}, "shape"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 3), {"restarts": -1}, "restarts"),
        ((dln.costs.FullyObserved(np.eye(2)), 0.1, 3), {"breadth": -1}, "breadth"),
        ((costs()["custom"], 0.1, 3), {}, "shape"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, options, name):
    with pytest.raises((ValueError, TypeError), match=rf"^`{name}` must .*, got .*\. "):
        dln.schatten.solve(*arguments, **options)


@pytest.mark.parametrize("name", costs())
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_alternating_start_is_near_the_minimum_that_newton_makes_of_it(name, depth):
    """Its objective is above it by a hundredth at most, and far below that of zero."""
    cost = costs()[name]
    zero = Point(Penalised(cost, 0.05, depth), np.empty((5, 0)), np.empty(0), np.empty((4, 0)))
    start = approximation(zero, 4)
    end = newton(start)
    assert end.objective <= start.objective * (1 + 1e-14)
    assert start.objective - end.objective <= 1e-2 * (zero.objective - end.objective)
    assert np.linalg.norm(start.gradient) <= 0.2 * np.linalg.norm(zero.G)
    none = approximation(Point(Penalised(cost, 1e4, depth), zero.U, zero.s, zero.V), 4)
    assert newton(none).rank == 0
