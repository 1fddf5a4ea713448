"""The Schatten-2/L regulariser: roots against 40 digits, minimisers against brute force, factors, bad input."""

from __future__ import annotations

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import dln
from dln.core.prox import penalty
from dln.network import end_to_end

EPS = 2.0**-53
POWERS = (0.05, 0.2, 0.4, 0.5, 2 / 3, 0.8, 0.95, 0.999, 1.0)
DEPTHS = (3, 4, 5, 8, 30)


def refined(x, s, m, q):
    """The root of x + m x^-q = s beside x, with 40 digits, and its relative condition number."""
    with mp.workdps(40):
        x, s, m, q = map(mp.mpf, (x, s, m, q))
        for _ in range(8):
            power = m * x**-q
            x -= (x + power - s) / (1 - q * power / x)
        return x, float(s / abs(x - q * (s - x)))


@pytest.mark.parametrize("p", POWERS)
def test_prox_power_is_right_to_rounding(p):
    rng = np.random.default_rng(0)
    for mu in (1e-8, 1e-3, 1.0, 1e3, 1e8):
        jump = float(threshold(mu, p))
        s = jump * np.concatenate([1 + 10 ** rng.uniform(-14, 0, 40), 10 ** rng.uniform(0, 8, 40)])
        x = dln.schatten.prox_power(s, mu, p)
        assert (x > 0).all()
        for point, found in zip(s, x, strict=True):
            with mp.workdps(40):
                m, q = mp.mpf(mu) * mp.mpf(p), 1 - mp.mpf(p)
            exact, condition = refined(found, point, m, q)
            error = float(abs(mp.mpf(found) / exact - 1))
            assert error <= 8 * EPS * condition
            assert error <= 1e-14  # though x is a small difference of s and mu for p near 1


def threshold(mu, p):
    """s_jump of mu x^p, from the closed form with 40 digits."""
    with mp.workdps(40):
        mu, p = mp.mpf(mu), mp.mpf(p)
        return mu if p == 1 else (2 - p) / (2 * (1 - p)) * (2 * mu * (1 - p)) ** (1 / (2 - p))


@pytest.mark.parametrize("depth", DEPTHS)
def test_branches_are_right_to_rounding(depth):
    rng = np.random.default_rng(1)
    for decay in (1e-8, 1e-2, 1.0, 1e8):
        node, birth = dln.schatten.saddle_node(decay, depth)
        s = birth * np.concatenate([1 + 10 ** rng.uniform(-13, 0, 30), 10 ** rng.uniform(0, 6, 30)])
        upper, lower = dln.schatten.branches(s, decay, depth)
        assert ((lower < node) & (node < upper) & (upper < s)).all()
        for point, *pair in zip(s, upper, lower, strict=True):
            for found in pair:
                if found > 1e-300:
                    with mp.workdps(40):
                        q = 1 - mp.mpf(2) / depth
                    exact, condition = refined(found, point, decay, q)
                    rounded = 8 + abs(np.log(found))  # 2/L is not a number of float64
                    assert float(abs(mp.mpf(found) / exact - 1)) <= rounded * EPS * condition
        assert np.isnan(dln.schatten.branches(birth * (1 - 1e-14), decay, depth)).all()


@pytest.mark.parametrize("depth", DEPTHS)
def test_thresholds_are_those_of_the_definition(depth):
    """At s_sn the two branches are one point; at s_jump x_jump is stationary and as good as 0."""
    for decay in (1e-6, 0.3, 1e6):
        x, s = dln.schatten.saddle_node(decay, depth)
        assert np.isclose(x + decay * x ** (2 / depth - 1), s, rtol=1e-14)
        assert np.isclose(decay * (1 - 2 / depth) * x ** (2 / depth - 2), 1.0, rtol=1e-13)
        x, s = dln.schatten.jump(decay, depth)
        assert np.isclose(x + decay * x ** (2 / depth - 1), s, rtol=1e-14)
        penalty = decay * depth / 2 * x ** (2 / depth)
        assert np.isclose((x - s) ** 2 / 2 + penalty, s**2 / 2, rtol=1e-13)
        assert dln.schatten.threshold(decay, depth) == s


@pytest.mark.parametrize("depth", DEPTHS)
def test_first_guess_agrees_to_second_order_at_both_ends(depth):
    """y(tau) = x_+/s with tau^2 = 1 - (s_sn/s)^(1+q): the polynomial errs by the third power of the distance."""
    numbers = penalty(1.0, 1 - 2 / depth)
    exponent, birth, y = 2 - 2 / depth, numbers[3], np.polynomial.Polynomial(numbers[6:])
    for end in (0.0, 1.0):
        errors = []
        for distance in (0.04, 0.02):
            tau = abs(end - distance)
            s = birth * (1 - tau**2) ** (-1 / exponent)
            errors.append(abs(y(tau) - dln.schatten.branches(s, 1.0, depth)[0] / s))
        assert 6.5 < errors[0] / errors[1] < 9.5


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-3.0, 5.0).map(lambda e: 10**e),
    st.floats(-8.0, 8.0).map(lambda e: 10**e),
    st.one_of(st.floats(0.05, 1.0), st.sampled_from(POWERS)),
)
def test_prox_power_is_the_global_minimum(ratio, mu, p):
    """Against the best point of a grid that is dense on both scales, each refined by golden section."""
    s = ratio * float(threshold(mu, p))
    found = float(dln.schatten.prox_power(s, mu, p))

    def objective(x):  # over s^2/2, from its value at 0
        return (x / s) ** 2 - 2 * (x / s) + 2 * (mu / s / s) * x**p

    grid = s * np.sort(np.concatenate([np.geomspace(1e-12, 1.0, 400), np.linspace(0.0, 1.1, 440)[1:]]))
    values = objective(grid)
    wells = [i for i in range(1, len(grid) - 1) if values[i] <= min(values[i - 1], values[i + 1])]
    bests = [(0.0, 0.0), *(refine(objective, grid[i - 1], grid[i + 1]) for i in wells)]
    best, at = min(bests)
    assert objective(found) <= best + 1e-13 * max(1.0, abs(best))
    if abs(ratio - 1) > 1e-9:
        assert (found > 0) == (ratio > 1)
        assert abs(found - at) <= 1e-5 * s


def refine(objective, a, b):
    """Least value on [a, b] and where, by golden section."""
    g = (5**0.5 - 1) / 2
    for _ in range(60):
        c, d = b - g * (b - a), a + g * (b - a)
        a, b = (a, d) if objective(c) < objective(d) else (c, b)
    return objective((a + b) / 2), (a + b) / 2


def test_closed_forms_of_depths_one_to_four():
    """s/(1 + lambda), the soft threshold, the quartic and the cubic by hyperbolic and circular functions."""
    decay, s = 0.7, np.linspace(0.01, 9.0, 500)
    shrunk = {L: np.array([dln.schatten.prox([[x]], decay, L)[0, 0] for x in s]) for L in (1, 2, 3, 4)}
    assert np.allclose(shrunk[1], s / (1 + decay), rtol=1e-15)
    assert np.array_equal(shrunk[2], np.maximum(s - decay, 0.0))
    above = s > dln.schatten.threshold(decay, 3)
    t = 4 * decay / 3
    y = 2 * np.sqrt(t) * np.cosh(np.arccosh(s[above] ** 2 / (2 * t**1.5)) / 3)
    for sign, branch in zip((1, -1), dln.schatten.branches(s[above], decay, 3), strict=True):
        root = ((np.sqrt(y) + sign * np.sqrt(2 * s[above] / np.sqrt(y) - y)) / 2) ** 3
        assert np.allclose(root, branch, rtol=1e-10 if sign < 0 else 1e-13)
    assert np.array_equal(shrunk[3][above], dln.schatten.branches(s[above], decay, 3)[0])
    above = s > dln.schatten.threshold(decay, 4)
    angle = np.arccos(-1.5 * decay / s[above] * np.sqrt(3 / s[above])) / 3
    for k, branch in enumerate(dln.schatten.branches(s[above], decay, 4)):
        root = 4 * s[above] / 3 * np.cos(angle - 2 * np.pi * k / 3) ** 2
        assert np.allclose(root, branch, rtol=1e-10 if k else 1e-13)
    assert not shrunk[4][~above].any()


def test_prox_power_is_odd_broadcasts_and_scales():
    s, mu = np.array([[-3.0, 0.4], [2.0, 9.0]]), np.array([0.5, 2.0])
    x = dln.schatten.prox_power(s, mu, 0.6)
    assert np.array_equal(dln.schatten.prox_power(-s, mu, 0.6), -x)
    for i in np.ndindex(2, 2):
        assert dln.schatten.prox_power(s[i], mu[i[1]], 0.6) == x[i]
    c = 7.0  # x -> c x takes mu to mu c^(2-p)
    assert np.allclose(dln.schatten.prox_power(c * s, mu * c**1.4, 0.6), c * x, rtol=1e-14)
    assert isinstance(dln.schatten.prox_power(2.0, 1.0, 0.5), float)
    extreme = dln.schatten.prox_power([0.0, 1e-300, 1e300], 1e-300, [0.05, 0.05, 0.5])
    assert np.array_equal(extreme, [0.0, 0.0, 1e300])
    assert np.array_equal(dln.schatten.prox_power(s, 0.0, 0.3), s)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (6, 2)])
def test_matrix_prox_is_optimal_and_equivariant(depth, shape):
    rng = np.random.default_rng(2)
    A, decay = 2 * rng.normal(size=shape), 0.4
    Z = dln.schatten.prox(A, decay, depth)

    def objective(M):
        return 0.5 * np.sum((M - A) ** 2) + decay * dln.schatten.value(M, depth)

    least = objective(Z)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            assert objective(Z + size * rng.normal(size=shape)) > least
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in shape)
    assert np.allclose(dln.schatten.prox(U @ A @ V, decay, depth), U @ Z @ V, atol=1e-12)
    assert np.allclose(dln.schatten.prox(A.T, decay, depth), Z.T, atol=1e-12)
    rank = np.linalg.matrix_rank(Z)
    optimality = (
        Z - A + decay * dln.schatten.subgradient(Z, depth)
    )  # vanishes between the singular spaces of Z
    U, _, Vt = np.linalg.svd(Z)
    assert np.allclose(U[:, :rank].T @ optimality, 0, atol=1e-11)
    assert np.allclose(optimality @ Vt[:rank].T, 0, atol=1e-11)


def test_matrix_functions_take_batches():
    A = np.random.default_rng(3).normal(size=(2, 3, 4, 5))
    for f in (dln.schatten.value, dln.schatten.subgradient, lambda A, L: dln.schatten.prox(A, 0.3, L)):
        batch = f(A, 3)
        for i in np.ndindex(2, 3):
            assert np.allclose(batch[i], f(A[i], 3), atol=1e-13)


def test_subgradient_is_the_derivative_of_the_value():
    rng = np.random.default_rng(4)
    for depth in (1, 2, 3, 6):
        A, D = rng.normal(size=(2, 4, 3))
        slope = (dln.schatten.value(A + 1e-6 * D, depth) - dln.schatten.value(A - 1e-6 * D, depth)) / 2e-6
        assert np.isclose(np.sum(dln.schatten.subgradient(A, depth) * D), slope, rtol=1e-6)


CASES = [((2, 2, 2), 2), ((3, 2, 4), 2), ((2, 3, 2, 2), 2), ((3, 2, 2, 3), 1), ((2, 2, 2, 2, 2), 2)]


@pytest.mark.parametrize(("widths", "rank"), CASES)
def test_value_is_the_least_half_norm_of_factors(widths, rank):
    """By an independent minimisation over the layers under the constraint that their product is A."""
    rng = np.random.default_rng(5)
    A = rng.normal(size=(widths[-1], rank)) @ rng.normal(size=(rank, widths[0]))
    depth, sizes = len(widths) - 1, [n * m for m, n in pairwise(widths)]

    def layers(theta):
        parts = np.split(theta, np.cumsum(sizes)[:-1])
        return [part.reshape(n, m) for part, (m, n) in zip(parts, pairwise(widths), strict=True)]

    multiplier = np.zeros_like(A)

    def lagrangian(theta):
        W = layers(theta)
        gap = end_to_end(W) - A
        value = theta @ theta / 2 + np.sum(multiplier * gap) + 5.0 * np.sum(gap**2)
        gradients = dln.network.layer_gradients(W, multiplier + 10.0 * gap)
        return value, theta + np.concatenate([G.ravel() for G in gradients])

    start = dln.inits.balanced(A, depth, widths=widths, rng=rng)
    theta = np.concatenate([2 ** (-1) ** l * W.ravel() for l, W in enumerate(start)])
    theta = theta + 0.3 * rng.normal(size=theta.size)  # far from balanced
    for _ in range(
        60
    ):  # augmented Lagrangian, whose multipliers settle even where the constraints are redundant
        theta = minimize(lagrangian, theta, jac=True, method="BFGS", options={"gtol": 1e-11}).x
        multiplier = multiplier + 10.0 * (end_to_end(layers(theta)) - A)
    assert np.allclose(end_to_end(layers(theta)), A, atol=1e-9)
    assert np.isclose(theta @ theta / 2, dln.schatten.value(A, depth), rtol=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_factors_are_balanced_and_of_least_norm(depth):
    rng = np.random.default_rng(6)
    A = rng.normal(size=(4, 2)) @ rng.normal(size=(2, 5))
    widths = (5, *rng.integers(2, 7, size=depth - 1), 4)
    weights = dln.schatten.factorize(A, depth, widths=widths)
    assert [W.shape for W in weights] == [(n, m) for m, n in pairwise(widths)]
    assert np.allclose(end_to_end(weights), A, atol=1e-13)
    assert all(np.allclose(D, 0, atol=1e-13) for D in dln.network.balances(weights))
    assert np.isclose(
        sum(np.sum(W**2) for W in weights) / 2, np.sum(np.linalg.svd(A)[1][:2] ** (2 / depth)) * depth / 2
    )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: dln.schatten.prox_power(1.0, -1.0, 0.5), "mu"),
        (lambda: dln.schatten.prox_power(1.0, 1.0, 0.0), "p"),
        (lambda: dln.schatten.prox_power(1.0, 1.0, 1.5), "p"),
        (lambda: dln.schatten.prox_power(np.nan, 1.0, 0.5), "s"),
        (lambda: dln.schatten.prox_power([1.0, 2.0], [1.0, 2.0, 3.0], 0.5), "p"),
        (lambda: dln.schatten.prox_power("1", 1.0, 0.5), "s"),
        (lambda: dln.schatten.prox([[np.inf]], 1.0, 3), "A"),
        (lambda: dln.schatten.prox([1.0], 1.0, 3), "A"),
        (lambda: dln.schatten.prox([[1.0]], -1.0, 3), "weight_decay"),
        (lambda: dln.schatten.prox([[1.0]], 1.0, 0), "depth"),
        (lambda: dln.schatten.prox([[1.0]], 1.0, 2.5), "depth"),
        (lambda: dln.schatten.value([[1.0]], 0), "depth"),
        (lambda: dln.schatten.subgradient([[1j]], 2), "A"),
        (lambda: dln.schatten.branches(-1.0, 1.0, 3), "s"),
        (lambda: dln.schatten.branches(1.0, [-1.0], 3), "weight_decay"),
        (lambda: dln.schatten.threshold(-0.1, 3), "weight_decay"),
        (lambda: dln.schatten.saddle_node(0.1, 0), "depth"),
        (lambda: dln.schatten.factorize(np.eye(3), 2, widths=(3, 2, 3)), "widths"),
        (lambda: dln.schatten.factorize(np.eye(3), 3, widths=(3, 3, 3)), "widths"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"^`{name}` must .*, got .*\. "):
        call()
