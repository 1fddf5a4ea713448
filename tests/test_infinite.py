"""Infinite width: its times and modes against other integrators, extended precision, laws, and wide networks."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import dln
from dln import costs, infinite, inits, network


def tree(depth, order, rho):
    return inits.reduced_gaussian((1, *[math.inf] * (depth - 1), 1), order=order, rho=rho)


# Half-times


def chain(order, rho):
    """Three layers of a path of order + 2 neurons: W_1 = rho e_1, W_2 = rho (S + S^T), W_3 = rho e_1^T."""
    n = order + 2
    e, shift = np.eye(n)[:, :1], np.eye(n, k=1)
    return [rho * e, rho * (shift + shift.T), rho * e.T]


def half_by_scipy(layers, s):
    """Half-time by SciPy's DOP853 and its own interpolation, right to about 1e-11."""
    sizes, shapes = np.cumsum([W.size for W in layers])[:-1], [W.shape for W in layers]

    def parts(y):
        return [x.reshape(shape) for x, shape in zip(np.split(y, sizes), shapes, strict=True)]

    def velocity(_, y):
        W = parts(y)
        return -np.concatenate([V.ravel() for V in network.layer_gradients(W, network.end_to_end(W) - s)])

    def above(_, y):
        return network.end_to_end(parts(y))[0, 0] - s / 2

    above.terminal = True
    y = np.concatenate([W.ravel() for W in layers])
    run = solve_ivp(
        velocity, (0.0, 1e4), y, method="DOP853", rtol=3e-14, atol=1e-17, events=above, dense_output=True
    )
    t = run.t_events[0][0]
    return brentq(lambda x: above(x, run.sol(x)), run.t[-2], t * (1 + 1e-9))


def test_depth_3_against_the_chain_integrated_otherwise():
    found = infinite.half_time(1.0, 0.1, 3, rtol=1e-11)
    assert found.value == pytest.approx(half_by_scipy(chain(10, 0.1), 1.0), rel=1e-10)
    assert found.value == pytest.approx(10.8224977616, abs=1e-10)  # order 7, by an independent program
    assert abs(found.value - 10.822497761559) < found.error < 1e-9  # order 10, by the same


def test_the_tree_of_three_layers_is_the_chain():
    for order in range(6):
        W, C = tree(3, order, 0.3), chain(order, 0.3)
        assert half_by_scipy(W, 0.7) == pytest.approx(half_by_scipy(C, 0.7), rel=1e-11)


def taylor_half(order, rho, *, terms=20, step=0.1):
    """Half-time of the chain by Taylor series in 30 digits; its W_2 = M stays symmetric, and W_3 is W_1^T = x^T."""
    with mpmath.workdps(30):
        x, M = (
            np.vectorize(mpmath.mpf, otypes=[object])(W)
            for W in (chain(order, 1.0)[0][:, 0], chain(order, 1.0)[1])
        )
        x, M, t, h = mpmath.mpf(rho) * x, mpmath.mpf(rho) * M, mpmath.mpf(0), mpmath.mpf(step)
        while True:
            X, Y, F, A, O = [x], [M], [], [], []
            for m in range(terms):
                F.append(sum(Y[k] @ X[m - k] for k in range(m + 1)))
                A.append(sum(X[k] @ F[m - k] for k in range(m + 1)))
                O.append(sum(np.outer(X[k], X[m - k]) for k in range(m + 1)))
                left = [1 - A[0], *(-a for a in A[1:])]
                X.append(sum(left[k] * F[m - k] for k in range(m + 1)) / (m + 1))
                Y.append(sum(left[k] * O[m - k] for k in range(m + 1)) / (m + 1))
            x, M = (sum(c * h**k for k, c in enumerate(series)) for series in (X, Y))
            if x @ M @ x > 0.5:
                series = [*A[::-1][:-1], A[0] - mpmath.mpf(1) / 2]
                return float(t + mpmath.findroot(lambda h, p=series: mpmath.polyval(p, h), h / 2))
            t += h


@pytest.mark.parametrize(("order", "rho"), [(0, 0.3), (1, 0.2)])
def test_the_integrator_is_right_to_rounding(order, rho):
    assert infinite._half(tree(3, order, rho)) == pytest.approx(taylor_half(order, rho), rel=3e-13)


@pytest.mark.parametrize(("depth", "rho"), [(3, 0.02), (3, 0.1), (3, 0.7), (4, 0.2), (4, 0.6)])
def test_the_error_told_is_not_below_the_truth_and_not_far_above(depth, rho):
    exactly = infinite.half_time(1.0, rho, depth, rtol=1e-11).value
    for rtol in (1e-3, 1e-5, 1e-7):
        found = infinite.half_time(1.0, rho, depth, rtol=rtol)
        assert abs(found.value - exactly) <= found.error <= rtol * found.value
        assert found.error < 100 * abs(found.value - exactly)


@pytest.mark.parametrize(("depth", "value", "digits"), [(4, 14.5183, 4), (5, 48.315, 3)])
def test_deeper_half_times(depth, value, digits):
    found = infinite.half_time(1.0, 0.2, depth, rtol={4: 1e-7, 5: 1e-5}[depth])
    assert found.value == pytest.approx(value, abs=0.6 * 10**-digits)
    layers = tree(depth, found.order, 0.2)
    assert found.value == pytest.approx(half_by_scipy(layers, 1.0), rel=1e-10)


@pytest.mark.parametrize(("depth", "s", "rho"), [(3, 1.7, 0.23), (3, 0.02, 0.1), (4, 2.5, 0.4)])
def test_one_curve_serves_all_singular_values(depth, s, rho):
    found = infinite.half_time(s, rho, depth, rtol=1e-8)
    assert found.value == pytest.approx(half_by_scipy(tree(depth, found.order, rho), s), rel=1e-10)


def test_two_layers_are_a_scalar_network():
    for s, rho in ((1.0, 0.1), (2.5, 1e-6), (0.3, 3.0)):
        found = infinite.half_time(s, rho, 2)
        end = mpmath.asinh(s / 2 / rho**2)  # of a = rho^2 sinh z
        time = mpmath.quad(lambda z, s=s, r=rho: 1 / (2 * (s - r**2 * mpmath.sinh(z))), [0, end])
        assert found.value == pytest.approx(float(time), rel=1e-13)
        if rho < 1e-5:
            assert found.value == pytest.approx(math.log(2 * s / rho**2) / (2 * s), rel=1e-10)
    layers = tree(2, 0, 0.4)
    t = np.linspace(0.0, 6.0, 9)
    run = dln.gradient_flow(costs.FullyObserved([[1.3]]), layers, (0.0, 6.0), rtol=1e-12, t_eval=t)
    assert infinite.mode(t, 1.3, 0.4, 2).value == pytest.approx(run.end_to_end[:, 0, 0], abs=1e-10)


# Escape


def from_blow_up(depth):
    with mpmath.workdps(30):
        p = mpmath.mpf(2) / depth
        return float(mpmath.power(2, 1 - p) / (2 - depth) * mpmath.hyp2f1(1, p - 1, p, mpmath.mpf(1) / 2))


@pytest.mark.parametrize(("depth", "known"), [(3, 1.168), (4, 0.5926), (5, 0.387)])
def test_escape_constants_by_the_half_times_of_small_starts(depth, known, monkeypatch):
    monkeypatch.setattr(infinite, "SMALL", 0.0)  # integrated all the way
    rtol = {3: 1e-11, 4: 1e-9, 5: 1e-4}[depth]
    constant = infinite.escape_constant(depth, rtol=rtol)
    assert constant.value == pytest.approx(known, abs=6e-4)
    rho = {3: 1e-4, 4: 1e-3, 5: 3e-3}[depth]
    late = infinite.half_time(1.0, rho, depth, rtol=rtol)
    blow_up = (late.value - from_blow_up(depth)) * rho ** (depth - 2)
    assert (late.order, blow_up) == (constant.order, pytest.approx(constant.value, rel=2e-11))


def test_the_third_escape_constant_to_ten_digits():
    found = infinite.escape_constant(3, rtol=1e-11)
    assert found.value == pytest.approx(
        1.1679727710722, abs=2e-12
    )  # the half-time of a start of 1e-4, solved for it
    assert found.error < 2e-11


@pytest.mark.parametrize("depth", [3, 4])
def test_the_law_of_small_starts_takes_over_where_it_is_exact(depth, monkeypatch):
    rho = 0.9 * infinite.SMALL ** (1 / depth)
    law = infinite.half_time(1.4, 1.4 ** (1 / depth) * rho, depth, rtol=1e-8)
    monkeypatch.setattr(infinite, "SMALL", 0.0)
    assert law.value == pytest.approx(
        infinite.half_time(1.4, 1.4 ** (1 / depth) * rho, depth, rtol=1e-8).value, rel=2e-11
    )
    assert law.error < 1e-8 * law.value


# Modes and trajectories


def rotated(s, random):
    U, V = (np.linalg.qr(random.normal(size=(n, len(s))))[0] for n in (4, 3))
    return U, V, costs.FullyObserved((U * s) @ V.T)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_trajectory_is_its_modes(depth):
    s, rho = np.array([2.0, 1.1]), 0.3
    U, V, cost = rotated(s, np.random.default_rng(0))
    t = np.linspace(0.0, 12.0, 25)
    run = infinite.trajectory(cost, depth, (0.0, 12.0), rho=rho, t_eval=t)
    modes = [infinite.mode(t, x, rho, depth, rtol=1e-8) for x in s]
    expected = np.einsum("ik,kt,jk->tij", U, [m.value for m in modes], V)
    gap = np.linalg.norm(run.end_to_end - expected, axis=(1, 2)).max()
    assert gap <= run.form_error + 2e-7 <= 3e-6
    assert [saddle.rank for saddle in dln.find_saddles(run)][-1] == 2
    assert modes[0].value[0] == 0.0
    assert np.all(np.diff(modes[0].value) > -1e-10)


def test_modes_at_any_times_in_any_shape():
    half = infinite.half_time(1.5, 0.2, 3).value
    found = infinite.mode([[2 * half, half], [0.0, half]], 1.5, 0.2, 3)
    assert found.value.shape == (2, 2)
    assert found.value[:, 1] == pytest.approx(0.75, abs=1e-9)
    assert found.value[1, 0] == 0.0
    assert infinite.mode(half, 1.5, 0.2, 3).value == pytest.approx(0.75, abs=1e-9)
    assert infinite.mode(0.0, 1.5, 0.2, 3).value == 0.0


def test_any_cost_at_infinite_width_is_the_limit_of_wide_networks():
    cost = costs.MatrixCompletion([[1.0, 2.0, 0.0], [0.0, 1.5, 1.0]], [[1, 1, 0], [0, 1, 1]])
    t = np.linspace(0.0, 12.0, 30)
    run = infinite.trajectory(cost, 3, (0.0, 12.0), rho=0.3, t_eval=t)
    finer = infinite.trajectory(cost, 3, (0.0, 12.0), rho=0.3, t_eval=t, rtol=1e-9)
    assert np.linalg.norm(run.end_to_end - finer.end_to_end, axis=(1, 2)).max() <= run.form_error + 1e-7

    def distance(w):
        start = inits.reduced_gaussian((3, w, w, 2), order=5, rho=0.3, rng=1)
        wide = dln.gradient_flow(cost, start, (0.0, 12.0), t_eval=t)
        return np.linalg.norm(wide.end_to_end - finer.end_to_end, axis=(1, 2)).max()

    assert distance(10**12) < 1e-5 < distance(10**6) < 1e-2


def test_wide_networks_scatter_around_the_limit():
    limit, random, times = infinite.half_time(1.0, 0.1, 3).value, np.random.default_rng(3), []
    for _ in range(40):
        layers = inits.reduced_gaussian((1, 10**6, 10**6, 1), order=5, rho=0.1, rng=random)
        times.append(infinite._half(layers))
    assert abs(np.mean(times) - limit) < 4 * np.std(times) / math.sqrt(40)
    assert 1e-4 < np.std(times) / limit < 1e-3


# Wrong use


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: infinite.half_time(0.0, 0.1, 3), "`s` must be positive"),
        (lambda: infinite.half_time(1.0, -0.1, 3), "`rho` must be positive"),
        (lambda: infinite.half_time(1.0, 0.1, 1), "`depth` must be at least 2"),
        (lambda: infinite.half_time(1.0, 0.1, 3, rtol=0.0), "`rtol` must be positive"),
        (lambda: infinite.half_time(1.0, 2e3, 3), r"`rho` must be at most 1000 s\^\(1/L\)"),
        (lambda: infinite.mode([-1.0], 1.0, 0.1, 3), "`t` must be zero or positive"),
        (lambda: infinite.escape_constant(2), "`depth` must be at least 3"),
        (
            lambda: infinite.trajectory(costs.FullyObserved(np.eye(2)), 1, (0.0, 1.0), rho=0.1),
            "`depth` must be at least 2",
        ),
        (
            lambda: infinite.trajectory(costs.FullyObserved(np.eye(2)), 3, (0.0, 1.0), rho=0.0),
            "`rho` must be positive",
        ),
        (
            lambda: infinite.trajectory(costs.FullyObserved(np.eye(2)), 3, (1.0, 0.0), rho=0.1),
            "`t_span` must have t1 > t0",
        ),
    ],
)
def test_wrong_values_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_wrong_costs_are_refused():
    for cost in (np.eye(2), costs.Custom(np.sum, np.ones_like)):
        with pytest.raises(TypeError, match=r"`cost` must be a cost from dln\.costs with a shape"):
            infinite.trajectory(cost, 3, (0.0, 1.0), rho=0.1)


def test_what_cannot_be_settled_says_so(monkeypatch):
    monkeypatch.setattr(infinite, "MOST_ENTRIES", 2000)
    cost = costs.FullyObserved(np.eye(1))
    with pytest.raises(RuntimeError, match="Raise rtol"):
        infinite.trajectory(cost, 5, (0.0, 20.0), rho=0.5, rtol=1e-10)
    found = infinite.half_time(1.0, 0.2, 5)
    assert 1e-4 < found.error / found.value < 1e-2
    assert abs(found.value - 48.3149339) < found.error  # from order 10
