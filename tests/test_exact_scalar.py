"""Unbalanced scalar networks: against many digits, the ODE, their invariants, elliptic functions, and each other."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from dln.exact import blow_up_time, mode, mode_time, scalar, scalar_time

inf, nan = np.inf, np.nan
EPS = np.finfo(float).eps
NETWORKS = [
    ([-0.0176, 0.1467, -0.0123], -1.487),
    ([0.1887, 1.5146, 0.018, -3.1136], 3.644),
    ([-0.01, 1e-9, 2.0], 1.0),
    ([0.0, 0.3, 0.2], 1.0),
    ([-0.3, 0.3, 0.5], -1.0),
    ([1.5, 2.0, 0.7], 1.0),
    ([0.1, 0.7, 0.9, 0.2, -1.3], 0.5),
    ([-0.2, 0.4], 1.0),
]


def velocity(w, s):
    return (s - np.prod(w)) * np.array([np.prod(np.delete(w, l)) for l in range(len(w))])


def exact_time(x, w, s):
    """Integral of dx / ((s - a) b) to a value x of the smallest weight, in 25 digits."""
    w = [mp.mpf(v) for v in w]
    least = min(range(len(w)), key=lambda l: abs(w[l]))
    rest = [v for l, v in enumerate(w) if l != least]
    sign = mp.sign(mp.fprod(rest))
    b = lambda y: sign * mp.fprod([mp.sqrt(y * y + v * v - w[least] ** 2) for v in rest])  # noqa: E731
    low, high = sorted((w[least], mp.mpf(x)))
    cuts = {low, high} | {c * mp.mpf(4) ** -k for k in range(-1, 18) for c in (-1, 1)} | {mp.mpf(0)}
    cuts |= {mp.mpf(x) + (w[least] - mp.mpf(x)) * mp.mpf(4) ** -k for k in range(18)}
    value = mp.quad(lambda y: 1 / ((s - y * b(y)) * b(y)), sorted(c for c in cuts if low <= c <= high))
    return value if x > w[least] else -value


@pytest.mark.parametrize(("w", "s"), NETWORKS)
def test_time_and_weights_in_many_digits(w, s):
    w = np.array(w)
    least = int(np.argmin(np.abs(w)))
    a0 = w.prod()
    for share in (1e-3, 0.5, 1 - 1e-6):
        value = a0 + share * (s - a0)
        t = scalar_time(value, w, s)
        found = scalar(t, w, s)
        with mp.workdps(25):
            expected = exact_time(found[least], w, s)
            assert abs(t - expected) < 1e-9 * abs(expected)
            # The time of the weights found is t: up to the rounding of the weight.
            speed = abs(velocity(found, s)[least])
            assert abs(t - expected) * speed < 40 * EPS * (abs(found[least]) + t * speed)
        assert found.prod() == pytest.approx(value, rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(("w", "s"), NETWORKS)
def test_weights_solve_the_flow(w, s):
    t = np.linspace(0.0, 30.0, 9)
    flow = solve_ivp(lambda _, y: velocity(y, s), (0, 30.0), w, "DOP853", t, rtol=1e-12, atol=1e-15).y.T
    assert np.abs(scalar(t, w, s) - flow).max() < 1e-9
    found = scalar(t, w, s)
    assert np.allclose(np.diff(found**2, axis=1), np.diff(np.square(w)), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=40)
@given(
    w=st.lists(st.floats(-2, 2).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=2, max_size=5),
    s=st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3),
    times=st.tuples(st.floats(0, 20), st.floats(0, 20)),
)
def test_semigroup_symmetry_and_order(w, s, times):
    first, second = times
    middle = scalar(first, w, s)
    end, direct = scalar(second, middle, s), scalar(first + second, w, s)
    a = np.prod([w, middle, direct], axis=1)
    assert abs(a[1] - s) <= abs(a[0] - s) * (1 + 1e-12) + 1e-14
    if np.sort(np.abs(w))[1] > np.abs(w).min() * 1.01:  # else the way to or past zero hangs on the last digit
        assert np.abs(end - direct).max() < 1e-9
    flipped = np.array(w)
    flipped[0] *= -1
    mirrored = scalar(first, flipped, -s)
    mirrored[0] *= -1
    assert np.abs(mirrored - middle).max() < 1e-13
    order = np.random.default_rng(0).permutation(len(w))
    assert np.abs(scalar(first, np.array(w)[order], s) - middle[order]).max() < 1e-13


def test_balanced_weights_are_a_mode():
    t = np.array([0.0, 0.3, 5.0, 40.0])
    for L in (2, 3, 5):
        for sign, u, s in ((1, 0.2, 1.5), (1, 1.4, 1.5), (-1, 0.6, 1.5), (1, 0.6, 0.0)):
            w = np.full(L, u)
            w[0] *= sign
            a = scalar(t, w, s).prod(axis=-1)
            assert np.allclose(a, sign * mode(t, u**L, sign * s, L), rtol=1e-12, atol=0)
        assert scalar_time([0.5, 1.2], np.full(L, 0.2), 1.5) == pytest.approx(
            mode_time([0.5, 1.2], 0.2**L, 1.5, L), rel=1e-13
        )


def test_two_weights_far_out():
    """Starts and times at which exponentials overflow; weights of opposite sign that first shrink."""
    u, v = scalar([0.0, 100.0, 900.0, 1e6], [-1e-150, 1e-140], 1.0).T
    assert u[0] == -1e-150
    assert np.all(np.abs(u * v - [0, 0, 1, 1]) < 1e-12)
    assert u[2] > 0 < v[2]
    assert np.array_equal(scalar(5.0, [0.0, 0.0], 1.0), [0.0, 0.0])
    assert scalar([400.0, 900.0], [-1e-250, 1e-240], 1.0).prod(axis=-1) == pytest.approx([0.0, 1.0])
    assert scalar(1e9, [1.0, 3.0], 0.0) == pytest.approx([0.0, np.sqrt(8.0)])


def test_weights_that_have_hardly_moved_are_right_to_their_own_size():
    w = [4.7e-24, 4.7e-24, 7e-25, 3.5e-22, -2e-36]
    assert scalar(1e-6, w, 2.45) == pytest.approx(w, rel=1e-12, abs=0)
    assert scalar(1e10, np.full(5, 1e-39), 0.0) == pytest.approx(np.full(5, 1e-39), rel=1e-12, abs=0)
    assert blow_up_time([-2e-30, 1e-25, 1.0], 1.0) == pytest.approx(np.log(4e25), rel=1e-6)  # K near its log


def test_what_is_never_reached_and_what_stands_still():
    w = [-0.1, 0.5, 1.0]
    assert scalar_time([1.0, -0.05], w, 1.0).tolist() == [inf, 0.0]
    assert np.isnan(scalar_time([-0.1, 1.1], w, 1.0)).all()
    assert np.isnan(scalar_time(0.5, [-0.5, 0.5, 1.0], 1.0))  # dies at zero, balanced with the wrong sign
    assert scalar_time(0.0, [-0.5, 0.5, 1.0], 1.0) == inf
    assert scalar(50.0, [-0.5, 0.5, 1.0], 1.0) == pytest.approx([0.0, 0.0, np.sqrt(0.75)], abs=1e-12)
    assert scalar(7.0, [0.0, 0.0, 1.0], 1.0).tolist() == [0.0, 0.0, 1.0]
    assert scalar(7.0, [0.5, 2.0, 1.0], 1.0).tolist() == [0.5, 2.0, 1.0]


def test_blow_up():
    """1/(s u) for balanced L = 3, u^(2-L)/((L-2) s) in general, the complete elliptic integral otherwise."""
    for L in (3, 4, 7):
        assert blow_up_time(np.full(L, 0.3), 2.0) == pytest.approx(
            0.3 ** (2 - L) / ((L - 2) * 2.0), rel=1e-14
        )
    for w in ([0.1, 0.2, 0.3], [-0.1, 0.2, 0.3], [-0.01, 1e-6, 3.0], [0.0, 1.0, 1e4]):
        x, y, z = sorted(np.abs(w))
        x = x * np.prod(np.sign(w)) if 0 not in w else 0.0
        with mp.workdps(30):
            d_2, d_3 = mp.mpf(y) ** 2 - mp.mpf(x) ** 2, mp.mpf(z) ** 2 - mp.mpf(x) ** 2
            m = 1 - d_2 / d_3
            expected = (mp.ellipk(m) - mp.ellipf(mp.atan(x / mp.sqrt(d_2)), m)) / (mp.sqrt(d_3) * 2)
        assert blow_up_time(w, 2.0) == pytest.approx(float(expected), rel=1e-14, abs=0)
        assert blow_up_time([-w[0], *w[1:]], -2.0) == blow_up_time(w, 2.0)
    assert np.array_equal(
        blow_up_time([[0.1, 0.2, 0.3], [0.0, 0.0, 1.0], [-0.2, 0.2, 1.0]], [0.0, 1.0, 1.0]), [inf] * 3
    )
    assert blow_up_time([0.1, 5.0], 1.0) == inf


def test_shapes():
    w = np.random.default_rng(0).uniform(0.1, 1.0, (4, 1, 3))
    assert scalar(np.ones(5), w, 1.0).shape == (4, 5, 3)
    assert scalar_time(np.full((4, 5), 0.9), w, 1.0).shape == (4, 5)
    assert scalar(1.0, [0.1, 0.2], 1.0).shape == (2,)
    assert isinstance(scalar_time(0.5, [0.1, 0.2], 1.0), float)
    assert blow_up_time(w, [1.0, 2.0]).shape == (4, 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: scalar(-1.0, [0.1, 0.2], 1.0), "`t` must be zero or positive, got -1"),
        (lambda: scalar(nan, [0.1, 0.2], 1.0), "`t` must be finite"),
        (lambda: scalar(1.0, [0.1], 1.0), "`weights` must have a last axis of at least two"),
        (lambda: scalar(1.0, 0.1, 1.0), "`weights` must have a last axis of at least two"),
        (lambda: scalar_time([1.0, 2.0], np.ones((3, 2)), 1.0), "`value` must broadcast"),
        (lambda: blow_up_time([0.1, inf], 1.0), "`weights` must be finite"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=r"must .+\. [A-Z]") as caught:
        call()
    assert says in str(caught.value)
