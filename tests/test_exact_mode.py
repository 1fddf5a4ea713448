"""The law of an aligned mode against 350 digits, its inverse, symmetries, limits and the numbers of the papers."""

from __future__ import annotations

import time

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from dln.exact import mode, mode_time

inf, nan = np.inf, np.nan
EPS = np.finfo(float).eps
DEPTHS = (1, 2, 3, 4, 5, 8, 50, inf)


def exact_time(a, a0, s, L):
    """The same integral from antiderivatives in many digits: logarithms, powers, 2F1."""
    with mp.workdps(350 if L in (1, 2, inf) or s == 0 else 60):
        a, a0, s = mp.mpf(float(a)), mp.mpf(float(a0)), mp.mpf(float(s))
        if L == 1:
            return mp.log((s - a0) / (s - a))
        per, q = (1, mp.mpf(-1)) if np.isinf(L) else (L, mp.mpf(2) / L - 1)
        if s == 0:
            return (a ** (q - 1) - a0 ** (q - 1)) / (1 - q) / per

        def F(a):
            x = a / s
            if L == 2:
                return mp.log(abs(x / (1 - x))) / (2 * s)
            if np.isinf(L):
                return mp.log(abs(x / (1 - x))) / s**2 - 1 / (s * a)
            if x < 1:
                return a**q / (q * L * s) * mp.hyp2f1(1, q, 1 + q, x)
            return a ** (q - 1) / (L * (1 - q)) * mp.hyp2f1(1, 1 - q, 2 - q, 1 / x)

        return F(a) - F(a0)


def cases(rng, kind, n):
    """(x, x0) = values over s, where each branch of the law is at its hardest."""
    u = lambda low, high: 10 ** rng.uniform(low, high, n)  # noqa: E731
    x0 = {"tiny": u(-290, -1), "near": u(-290, -0.01), "saturated": 1 - u(-15, -1), "above": 1 + u(-9, 30)}[
        kind
    ]
    x = {
        "tiny": np.where(rng.random(n) < 0.5, 1 - u(-15, -1), x0 ** rng.random(n)),
        "near": x0 * (1 + rng.choice([-1, 1], n) * u(-15.5, -0.5)),
        "saturated": 1 - (1 - x0) * u(-1, 0),
        "above": np.where(
            rng.random(n) < 0.5, 1 + (x0 - 1) * rng.random(n) ** 3, 1 + (x0 - 1) * (1 - u(-12, -1))
        ),
    }[kind]
    return x, x0


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["tiny", "near", "saturated", "above", "dying", "ended"])
def test_time_is_right_to_the_last_digits(kind, depth):
    rng = np.random.default_rng(DEPTHS.index(depth))
    n = 12
    s = 10 ** rng.uniform(-8, 8, n) * (-1 if kind == "dying" else 1)
    if kind in ("dying", "ended"):
        x, x0 = 10 ** rng.uniform(-30, 9, (2, n))
        x[::2] = x0[::2] * (1 - 10 ** rng.uniform(-15, -1, n)[::2])
    else:
        x, x0 = cases(rng, kind, n)
    a, a0 = abs(s) * x, abs(s) * x0
    s = np.zeros(n) if kind == "ended" else s
    kept = (a != a0) & ((s <= 0) | ((a - s) * (a0 - s) > 0))
    assert kept.sum() > n // 2
    for b, b0, r, t in zip(a[kept], a0[kept], s[kept], mode_time(a, a0, s, depth)[kept], strict=True):
        expected = exact_time(b, b0, r, depth)
        assert abs(t - expected) <= 5 * EPS * abs(expected), (b, b0, r)


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_time_is_the_integral_of_the_law(depth):
    for a, a0, s in ((0.9, 0.01, 1.0), (1.2, 4.0, 1.0), (0.1, 3.0, -0.5), (0.2, 2.0, 0.0)):
        value = quad(
            lambda x, s=s: 1 / (depth * x ** (2 - 2 / depth) * (s - x)), a0, a, epsabs=0, epsrel=1e-12
        )[0]
        assert mode_time(a, a0, s, depth) == pytest.approx(value, rel=1e-11, abs=0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["tiny", "near", "above", "dying"])
def test_value_inverts_time(kind, depth):
    """The time of the value is t, up to the rounding of t and of the value itself."""
    rng = np.random.default_rng(17)
    n = 4000
    s = 10 ** rng.uniform(-8, 8, n) * (-1 if kind == "dying" else 1)
    x, x0 = np.sort(10 ** rng.uniform(-200, 6, (2, n)), axis=0) if kind == "dying" else cases(rng, kind, n)
    if kind == "above":
        x, x0 = np.minimum(x, 1e22), np.minimum(x0, 1e22)
    a, a0 = abs(s) * x, abs(s) * x0
    t = mode_time(a, a0, s, depth)
    found = mode(t, a0, s, depth)
    usable = (
        np.isfinite(t) & (t != 0) & (found > 1e-290) & (np.abs(found - s) > 1e-12 * np.abs(s)) & (found != a0)
    )
    per, power = (1, 2) if depth == inf else (depth, 2 - 2 / depth)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        spacing = found / (per * found**power * np.abs(s - found))
    back = mode_time(found, a0, s, depth)
    off = np.abs(back - t)[usable] / (np.abs(t) + np.minimum(spacing, 1e300))[usable]
    assert usable.sum() > n / 6
    assert off.max() < 6 * EPS


def test_saturation_is_reached_in_its_last_digits():
    for depth in (2, 3, 4, 6):
        a = 1 - 2.0 ** -np.arange(2.0, 50.0)
        t = mode_time(a, 1e-3, 1.0, depth)
        blur = 1 + t * depth * a ** (2 - 2 / depth) * (1 - a)  # the rounding of a and that of t
        assert (np.abs(mode(t, 1e-3, 1.0, depth) - a) <= 2 * EPS * blur).all()
        assert np.allclose(1 - mode(t[:40], 1e-3, 1.0, depth), 1 - a[:40], rtol=1e-3)
        assert mode(1e9, 1e-3, 1.0, depth) == 1.0


@settings(deadline=None, max_examples=60)
@given(
    depth=st.sampled_from((2, 3, 4, 5, 9, inf)),
    s=st.floats(-1e3, 1e3).map(lambda s: s if abs(s) > 1e-100 else 0.0),
    a0=st.floats(1e-12, 1e3),
    times=st.tuples(st.floats(0, 5), st.floats(0, 5)),
)
def test_semigroup_and_order(depth, s, a0, times):
    first, second = np.array(times) * (1 + 1 / a0)
    middle = mode(first, a0, s, depth)
    if 0 < middle < 1e-300:
        return
    end, direct = mode(second, middle, s, depth), mode(first + second, a0, s, depth)
    assert (middle - a0) * (s - a0) >= 0
    assert abs(middle - s) <= abs(a0 - s)
    if middle > 0 and end > 1e-290:
        per, power = (1, 2) if depth == inf else (depth, 2 - 2 / depth)
        rate = per * end**power * abs(s - end) * (first + second)
        assert abs(end - direct) <= 1e-13 * (end + rate)


@settings(deadline=None, max_examples=60)
@given(
    depth=st.sampled_from((1, 2, 3, 6, inf)),
    a=st.floats(1e-9, 1e9),
    a0=st.floats(1e-9, 1e9),
    s=st.floats(-1e3, 1e3).map(lambda s: s if abs(s) > 1e-100 else 0.0),
    c=st.floats(1e-3, 1e3),
)
def test_time_scales_and_is_antisymmetric(depth, a, a0, s, c):
    t = mode_time(a, a0, s, depth)
    assert np.array_equal(mode_time(a0, a, s, depth), -t, equal_nan=True) or mode_time(
        a0, a, s, depth
    ) == pytest.approx(-t, rel=1e-14, abs=0)
    power = 2 if depth == inf else (2 * depth - 2) / depth
    if np.isfinite(t) and abs(s - a) > 1e-3 * a and abs(s - a0) > 1e-3 * a0 and abs(a - a0) > 1e-3 * a:
        assert c**power * mode_time(c * a, c * a0, c * s, depth) == pytest.approx(t, rel=1e-11, abs=0)


def test_limits_and_what_is_never_reached():
    for depth in (2, 3, inf):
        assert mode_time([1.0, 0.0, 0.5, 2.0, 0.5], [0.5, 0.5, 0.0, 0.5, 0.5], 1.0, depth).tolist()[:3] == [
            inf,
            -inf,
            inf,
        ]
        assert np.isnan(mode_time(2.0, 0.5, 1.0, depth))
        assert mode_time(0.5, 0.5, 1.0, depth) == 0.0
        assert mode_time(0.0, 0.5, -1.0, depth) == inf
        assert mode([inf, -inf], 0.5, 1.0, depth).tolist() == [1.0, 0.0]
        assert mode(inf, 0.5, [-1.0, 0.0], depth).tolist() == [0.0, 0.0]
        assert mode([0.0, 3.0], 0.0, 1.0, depth).tolist() == [0.0, 0.0]
        assert mode(3.0, 1.0, 1.0, depth) == 1.0
        blow_up = mode_time(1e100, 2.0, 1.0, depth)
        assert np.isnan(mode(1.001 * blow_up, 2.0, 1.0, depth))
        assert mode(0.999 * blow_up, 2.0, 1.0, depth) > 40
    assert mode([0.0, np.log(2.0), inf, -np.log(2.0)], -1.0, 1.0, 1).tolist() == [-1.0, 0.0, 1.0, -3.0]


def test_nothing_overflows_on_the_way():
    """Whatever the sizes: no NaN ahead in time, values between the start and the limit, times of the right sign."""
    rng = np.random.default_rng(0)
    n = 3000
    sizes = np.array([0.0, 1e-300, 1e-200, 1e-99, 1e-8, 0.3, 0.5, 1.0, 2.0, 1e3, 1e90])
    a, a0, s = (rng.choice(sizes, n) * rng.choice([1, 1 + 2 * EPS, 1.3], n) for _ in range(3))
    s = np.where((s < 1e-100) | (np.minimum(a, a0) < 1e-307 * s), 0.0, s * rng.choice([-1, 1], n))
    t = rng.choice([0.0, 1e-300, 1e-8, 1.0, 1e8, 1e300, inf], n)
    for depth in (2, 3, 4, 100, inf):
        found, limit = mode(t, a0, s, depth), np.maximum(s, 0.0)
        assert (found >= np.minimum(a0, limit) * (1 - 1e-15)).all()
        assert (found <= np.maximum(a0, limit) * (1 + 1e-15)).all()
        times = mode_time(a, a0, s, depth)
        aside = np.sign(s - a) * np.sign(s - a0) < 0
        assert np.array_equal(np.isnan(times), aside)
        assert (np.sign(times) == np.sign(a - a0) * np.sign((s - a) + (s - a0)))[~aside & (times != 0)].all()


def test_infinite_depth_is_the_limit():
    t = mode_time(0.7, 1e-3, 2.0, inf)
    gaps = [abs(depth * mode_time(0.7, 1e-3, 2.0, depth) / t - 1) for depth in (100, 1000, 10000)]
    assert gaps[2] < 2e-3
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


def test_escape_constants():
    """t_half = u_0^(2-L)/((L-2) s) + c_L s^-(2L-2)/L - u_0^2/(2 s^2) + ..."""
    for depth, constant in ((3, -0.850), (4, -0.266), (5, -0.047)):
        for s in (1.0, 3.0):
            u = 1e-3
            t = mode_time(s / 2, u**depth, s, depth)
            rest = (t - u ** (2 - depth) / ((depth - 2) * s) + u**2 / (2 * s**2)) * s ** (
                (2 * depth - 2) / depth
            )
            assert rest == pytest.approx(constant, abs=5.1e-4 if depth < 5 else 1e-3)


@pytest.mark.parametrize(
    ("depth", "largest"), [(2, 3.4258e-4), (3, 7.2382e-3), (4, 1.2037e-2), (5, 1.4822e-2)]
)
def test_incremental_learning(depth, largest):
    """Gissin et al.: the largest start for which mode 2 is below 0.1 s_2 when mode 1 reaches 0.9 s_1."""
    second = lambda a0: mode(mode_time(0.9, a0, 1.0, depth), a0, 0.5, depth)  # noqa: E731
    assert second(0.9999 * largest) < 0.05 < second(1.0001 * largest)


def test_shapes_and_speed():
    t = mode_time(np.full((3, 1), 0.5), 1e-3, np.ones(4), 3)
    assert t.shape == (3, 4)
    assert isinstance(mode_time(0.5, 0.1, 1.0, 2), float)
    assert mode([1.0, 2.0], 0.1, 1.0, [[2], [3]]).shape == (2, 2)
    times = np.linspace(0.0, 2000.0, 100_000)
    began = time.perf_counter()
    a = mode(times, 1e-9, 1.0, 3)
    assert time.perf_counter() - began < 5.0  # 0.1 s on an idle core
    assert (np.diff(a) >= 0).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mode_time(-0.1, 0.1, 1.0, 2), "`a` must be zero or positive, got -0.1"),
        (lambda: mode(1.0, [0.1, -0.2], 1.0, 3), "`a0` must be zero or positive, got -0.2"),
        (lambda: mode(nan, 0.1, 1.0, 3), "`t` must not be NaN"),
        (lambda: mode_time(nan, 0.1, 1.0, 3), "`a` must be finite"),
        (lambda: mode_time(0.5, 0.1, inf, 3), "`s` must be finite"),
        (lambda: mode_time(0.5, 0.1, 1.0, 2.5), "`depth` must be a whole number >= 1 or inf, got 2.5"),
        (lambda: mode_time(0.5, 0.1, 1.0, 0), "`depth` must be a whole number >= 1 or inf, got 0"),
        (
            lambda: mode_time(0.5, 1e-301, 1.0, 3),
            "`a0` and `s` must be 0 or of sizes from 1e-300 (s: 1e-100) to 1e100",
        ),
        (
            lambda: mode(0.5, 0.1, [1.0, -1e101], 3),
            "got 0.1 and -1e+101",
        ),
        (lambda: mode_time([0.5, 0.6], [0.1, 0.2, 0.3], 1.0, 2), "`a` must broadcast"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=r"must .+\. [A-Z]") as caught:
        call()
    assert says in str(caught.value)
