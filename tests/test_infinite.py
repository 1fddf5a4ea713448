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
from dln.infinite import memory, modes, trees
from dln.infinite.panels import Panels


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


def blow_ups(depth, orders):
    """Blow-up times of trees at rho = 1."""
    return np.array([dln.blow_up_time([[-1.0]], tree(depth, order, 1.0)) for order in orders])


def from_zero(depth, order, end):
    """Times tau and products a of the homogeneous flow of a tree at rho = 1, by SciPy's DOP853."""
    layers = tree(depth, order, 1.0)
    sizes, shapes = np.cumsum([W.size for W in layers])[:-1], [W.shape for W in layers]

    def parts(y):
        return [x.reshape(shape) for x, shape in zip(np.split(y, sizes), shapes, strict=True)]

    def velocity(_, y):
        return -np.concatenate([V.ravel() for V in network.layer_gradients(parts(y), -np.eye(1))])

    tau, y = np.linspace(0.0, end, 9)[1:], np.concatenate([W.ravel() for W in layers])
    run = solve_ivp(velocity, (0.0, end), y, method="DOP853", rtol=1e-13, atol=1e-16, t_eval=tau)
    return tau, np.array([network.end_to_end(parts(x))[0, 0] for x in run.y.T])


# The two-time functions


def test_panels_integrate_and_interpolate():
    panels = Panels(np.array([0.0, 0.4, 1.5, 2.0]), 14)
    values = np.exp(np.sin(panels.nodes))
    x = np.array([0.0, 0.3, 0.4, 1.1, 2.0])
    exact = [mpmath.quad(lambda z: mpmath.exp(mpmath.sin(z)), [0, end]) for end in x]
    found = panels.at(panels.integral(panels.series(values)), x)
    assert found == pytest.approx(np.array(exact, dtype=float), abs=2e-13)
    assert panels.at(panels.series(values), x) == pytest.approx(np.exp(np.sin(x)), abs=1e-11)
    assert panels.integration @ values == pytest.approx(
        panels.at(panels.integral(panels.series(values)), panels.nodes), abs=1e-13
    )
    assert panels.weights @ values == pytest.approx(float(exact[-1]), abs=1e-13)


def test_two_layers_move_by_the_hyperbolic_sine():
    """a = sinh(2 tau), so xi = 2 tau, and F_1 = cosh(tau + tau')."""
    assert memory.clock(2, 12).rates == pytest.approx(0.5, abs=1e-13)


@pytest.mark.parametrize(
    ("depth", "order", "end", "gap"),
    [(3, 7, 0.3, 1e-11), (4, 7, 0.2, 2e-11), (5, 6, 0.06, 1e-11), (6, 5, 0.02, 2e-9)],
)
def test_long_before_the_blow_up_the_tree_moves_by_the_clock(depth, order, end, gap):
    clock = memory.clock(depth, 16)
    tau, a = from_zero(depth, order, end * clock.blow_up())
    passed = clock.panels.at(clock.panels.integral(clock.panels.series(clock.rates)), np.arcsinh(a))
    assert passed == pytest.approx(tau, rel=gap)


@pytest.mark.parametrize(
    ("depth", "orders", "gap"),
    [(3, range(3, 8), 1e-11), (4, range(4, 9), 1e-8), (5, range(3, 8), 1e-5), (6, range(2, 6), 1e-3)],
)
def test_blow_ups_of_trees_tend_to_the_escape_constant(depth, orders, gap):
    found = infinite.escape_constant(depth)
    gaps = np.abs(blow_ups(depth, orders) / found.value - 1)
    assert np.all(gaps[2:] < gaps[:-2] / 4)
    assert gaps[-1] < gap


def blow_up_by_the_product(depth, order):
    """Blow-up of a tree at rho = 1, followed in arsinh(a) to a = 1e11 by SciPy's DOP853 and beyond by its law."""
    layers, end = tree(depth, order, 1.0), 26.0
    sizes, shapes = np.cumsum([W.size for W in layers]), [W.shape for W in layers]

    def parts(y):
        return [x.reshape(shape) for x, shape in zip(np.split(y[:-1], sizes[:-1]), shapes, strict=True)]

    def velocity(xi, y):
        moved = -np.concatenate([V.ravel() for V in network.layer_gradients(parts(y), -np.eye(1))])
        return np.cosh(xi) / (moved @ moved) * np.append(moved, 1.0)  # da/dt = |moved|^2

    y = np.append(np.concatenate([W.ravel() for W in layers]), 0.0)
    span = (np.arcsinh(network.end_to_end(layers)[0, 0]), end)
    y = solve_ivp(velocity, span, y, method="DOP853", rtol=5e-14, atol=1e-15).y[:, -1]
    excess = depth * velocity(end, y)[-1] * (np.exp(end) / 2) ** (1 - 2 / depth) - 1
    return y[-1] + (np.exp(end) / 2) ** (2 / depth - 1) * (1 / (depth - 2) + excess / (depth + 2))


@pytest.mark.parametrize(("depth", "order", "gap"), [(3, 10, 1e-13), (4, 11, 3e-12)])
def test_escape_constants_by_large_trees(depth, order, gap):
    assert blow_up_by_the_product(depth, order) == pytest.approx(
        infinite.escape_constant(depth).value, rel=gap
    )


@pytest.mark.parametrize("depth", [3, 5, 8])
def test_the_errors_told_bound_the_changes_that_follow(depth):
    exactly = memory.clock(depth, 20).blow_up()
    for rtol in (1e-3, 1e-13):
        found = infinite.escape_constant(depth, rtol=rtol)
        assert abs(found.value - exactly) <= found.error <= 1e-9 * exactly
    assert infinite.escape_constant(depth).error < 3e-13 * exactly


@pytest.mark.parametrize("depth", [3, 6])
def test_all_layers_agree_on_the_product(depth):
    """a = f_l . b_l at every l, as fast as the velocities say."""
    panels = Panels(memory.EDGES[:9], 20)
    state = memory._Memory(depth, panels)
    for i in range(8):
        state.follow(20 * i, 20 * (i + 1))
    for l in range(1, depth):
        f = state.inner(l, state.alpha[l], state.beta[l])
        a = np.sum(f * np.hstack([state.beta[depth - l], state.alpha[depth - l]]), axis=1)
        assert a == pytest.approx(np.sinh(panels.nodes), rel=1e-9)
        assert np.allclose(state.F[l], state.F[l].T, rtol=1e-12)


def test_the_clock_goes_on_by_the_law_of_the_blow_up():
    def excess(depth, xi):
        law = np.exp((2 / depth - 1) * (xi - np.log(2))) / depth
        return memory.clock(depth, 12).rate(xi) / law - 1

    assert np.abs(excess(5, np.array([20.0, 32.0, 50.0]))).max() < 1e-6
    before, after = excess(12, np.array([25.0, 31.0])), excess(12, np.array([32.001, 38.001]))
    assert before[1] / before[0] == pytest.approx(np.exp(-4 / 12 * 6), rel=0.15)  # a^(-4/L)
    assert after[1] / after[0] == pytest.approx(np.exp(-4 / 12 * 6), rel=1e-3)
    assert excess(12, np.array([31.999]))[0] == pytest.approx(after[0], rel=1e-2)


def test_the_deepest_networks_settle():
    deep = [memory.clock(modes.MOST_DEPTH, order).blow_up() for order in (6, 10)]
    assert deep[0] == pytest.approx(deep[1], rel=1e-8)


@pytest.mark.parametrize(("depth", "rho"), [(3, 0.02), (3, 0.1), (3, 0.7), (4, 0.2), (4, 0.6)])
def test_the_error_told_is_not_below_the_truth_and_not_far_above(depth, rho):
    exactly = infinite.half_time(1.0, rho, depth, rtol=1e-11).value
    for rtol in (1e-3, 1e-5, 1e-7):
        found = infinite.half_time(1.0, rho, depth, rtol=rtol)
        assert abs(found.value - exactly) <= found.error <= rtol * found.value


@pytest.mark.parametrize(
    ("depth", "value", "digits", "order", "gap"), [(4, 14.5183, 4, 8, 2e-7), (5, 48.315, 3, 6, 1e-4)]
)
def test_deeper_half_times(depth, value, digits, order, gap):
    found = infinite.half_time(1.0, 0.2, depth)
    assert found.value == pytest.approx(value, abs=0.6 * 10**-digits)
    gaps = [abs(half_by_scipy(tree(depth, k, 0.2), 1.0) / found.value - 1) for k in (order - 2, order)]
    assert gaps[1] < min(gap, gaps[0] / 4)


@pytest.mark.parametrize(
    ("depth", "s", "rho"), [(3, 1.7, 0.23), (3, 0.02, 0.1), (3, 0.8, 1.6), (3, 1.0, 9.0)]
)
def test_one_curve_serves_all_singular_values_and_sizes(depth, s, rho):
    found = infinite.half_time(s, rho, depth)
    assert found.value == pytest.approx(half_by_scipy(tree(depth, 9, rho), s), rel=1e-10)


@pytest.mark.parametrize("depth", [3, 6])
def test_large_starts_are_linear(depth):
    """a = s (1 - exp(-L rho^(2L-2) t))."""
    s, rho, half = 2.0, 300.0 * 2 ** (1 / depth), math.log(2) / depth
    pace = rho ** (2 * depth - 2)
    assert infinite.half_time(s, rho, depth).value * pace == pytest.approx(half, rel=1e-4)
    assert infinite.mode(3 * half / pace, s, rho, depth).value == pytest.approx(s * 7 / 8, rel=1e-4)


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


@pytest.mark.parametrize(("depth", "known"), [(3, 1.168), (4, 0.5926), (5, 0.387), (7, 0.2175)])
def test_escape_constants_by_the_half_times_of_small_starts(depth, known):
    constant = infinite.escape_constant(depth)
    assert constant.value == pytest.approx(known, abs=6e-4)
    for size in (1e-13, 1e-40, 1e-275):
        rho = size ** (1 / depth)
        late = infinite.half_time(1.7, 1.7 ** (1 / depth) * rho, depth).value * 1.7 ** (2 - 2 / depth)
        blow_up = (late - from_blow_up(depth)) * rho ** (depth - 2)
        assert blow_up == pytest.approx(constant.value, rel=1e-12)


def test_the_third_escape_constant_to_twelve_digits():
    found = infinite.escape_constant(3)
    assert found.value == pytest.approx(
        1.1679727710722, abs=1e-12
    )  # the half-time of a start of 1e-4 on the chain, solved for it
    assert found.error < 2e-13


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


@pytest.mark.parametrize(("depth", "rho", "order"), [(3, 0.1, 9), (3, 2.0, 8), (4, 0.4, 8)])
def test_modes_are_those_of_trees(depth, rho, order):
    half = infinite.half_time(0.7, rho, depth).value
    t = half * np.array([0.0, 0.3, 0.8, 0.99, 1.01, 1.3, 2.0, 9.0])
    layers = tree(depth, order, rho)
    run = dln.gradient_flow(
        costs.FullyObserved([[0.7]]), layers, (0.0, t[-1]), form="weights", rtol=1e-12, t_eval=t
    )
    found = infinite.mode(t, 0.7, rho, depth)
    assert found.value == pytest.approx(run.end_to_end[:, 0, 0], abs={3: 1e-9, 4: 2e-6}[depth])
    assert found.error < 1e-9


def test_the_start_of_a_mode_is_that_of_the_linear_flow():
    for depth in (3, 7):
        t = 1e-6
        found = infinite.mode(t, 1.0, 0.5, depth).value
        assert found == pytest.approx(depth * 0.5 ** (2 * depth - 2) * t, rel=1e-5)


@pytest.mark.parametrize("rho", [0.1, 1e-3])
def test_what_rounding_of_the_time_does_is_told(rho):
    half = infinite.half_time(1.0, rho, 5).value
    found = infinite.mode([half, half * (1 + 1e-13)], 1.0, rho, 5)
    assert 0 < found.value[1] - found.value[0] < 1.1 * found.error
    assert infinite.mode(3 * half, 1.0, rho, 5).error < 1e-11


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


def half(layers):
    """Time at which the product with target 1 is 1/2."""
    run = dln.gradient_flow(
        costs.FullyObserved([[1.0]]), layers, (0.0, math.inf), rtol=1e-9, until=dln.Until(cost=0.12)
    )
    i = int(np.argmax(run.end_to_end[:, 0, 0] >= 0.5))
    return brentq(lambda t: run.at(t)[0, 0] - 0.5, run.t[i - 1], run.t[i])


def test_wide_networks_scatter_around_the_limit():
    limit, random, times = infinite.half_time(1.0, 0.1, 3).value, np.random.default_rng(3), []
    for _ in range(40):
        layers = inits.reduced_gaussian((1, 10**6, 10**6, 1), order=5, rho=0.1, rng=random)
        times.append(half(layers))
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
        (lambda: infinite.half_time(1.0, 1e-100, 3), r"`rho` must be at least 1e-280\^\(1/L\) s\^\(1/L\)"),
        (lambda: infinite.half_time(1.0, 0.1, 21), "`depth` must be"),
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
    monkeypatch.setattr(trees, "MOST_ENTRIES", 2000)
    cost = costs.FullyObserved(np.eye(1))
    with pytest.raises(RuntimeError, match="Raise rtol"):
        infinite.trajectory(cost, 5, (0.0, 20.0), rho=0.5, rtol=1e-10)


def test_an_order_that_is_not_enough_is_told(monkeypatch):
    monkeypatch.setattr(modes, "ORDERS", (4, 5))
    found, exactly = infinite.escape_constant(5), memory.clock(5, 16).blow_up()
    assert abs(found.value - exactly) < found.error
    assert found.error > 1e-9
    assert found.order == 5
