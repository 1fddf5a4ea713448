"""The collocation methods by law: their tables, their steps, what they conserve, tolerance, large nets."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import problems as P
import pytest
from numpy.polynomial import legendre
from scipy.optimize import root
from scipy.special import roots_jacobi, roots_sh_legendre

import dln
from dln import network
from dln.method import collocation

ALL = collocation.ALL
GAUSS = {name: method for name, method in ALL.items() if name.startswith("gauss")}
RADAU = {name: method for name, method in ALL.items() if name.startswith("radau")}
STRETCHED = ("radau9", "radau13")
EVERY_TABLE = pytest.mark.parametrize("method", ALL.values(), ids=list(ALL))


# --- Coefficients -------------------------------------------------------------------------------------------


def is_gauss(method):
    return method.order == 2 * method.stages


def simplifying_defects(A, b, c, order):
    """Largest defects of B(order), C(s) and D(order - s), where s is the number of stages."""
    s = len(c)
    B = [b @ c ** (q - 1) - 1 / q for q in range(1, order + 1)]
    C = [A @ c ** (q - 1) - c**q / q for q in range(1, s + 1)]
    D = [(b * c ** (q - 1)) @ A - b * (1 - c**q) / q for q in range(1, order - s + 1)]
    return np.array([np.abs(x).max() for x in (B, C, D)])


@EVERY_TABLE
def test_simplifying_conditions(method):
    """B(p), C(s), D(p - s) imply the order p, as p <= s + (p - s) + 1 and p <= 2 s + 2 (Butcher 1964)."""
    A, b, c, p = method.A, method.b, method.nodes, method.order
    assert p == 2 * method.stages - (c[-1] == 1.0)
    assert simplifying_defects(A, b, c, p).max() < 1e-14
    assert abs(b @ c**p - 1 / (p + 1)) > 1e-9  # and no more than p
    if method.closing == method.stages:
        assert np.abs(A[-1] - b).max() < 1e-15  # Radau: the last stage is the end
    for entry in np.ndindex(A.shape):
        wrong = A.copy()
        wrong[entry] *= 1.001
        assert simplifying_defects(wrong, b, c, p)[1] > 1e-8, entry
    for i in range(method.stages):
        nodes = c.copy()
        nodes[i] *= 1.001
        mutant = collocation.Collocation("mutant", "", "", nodes, p)
        assert simplifying_defects(mutant.A, mutant.b, nodes, p)[0] > 1e-10, i


def rodrigues(s, gauss):
    """Coefficients, from x^0 on, of d^k/dx^k [x^k (x - 1)^s]; k = s for Gauss, s - 1 for Radau nodes."""
    k = s if gauss else s - 1
    coefficients = [0] * k + [1]
    for _ in range(s):
        shifted = [0, *coefficients]
        coefficients = [a - b for a, b in zip(shifted, [*coefficients, 0], strict=True)]
    for _ in range(k):
        coefficients = [n * a for n, a in enumerate(coefficients)][1:]
    return coefficients


@EVERY_TABLE
def test_nodes_are_zeros_in_exact_arithmetic(method):
    """The polynomial changes its sign within two roundings (of 1) of every node."""
    coefficients = rodrigues(method.stages, is_gauss(method))
    assert len(coefficients) == method.stages + 1

    def value(x):
        return sum(a * x**n for n, a in enumerate(coefficients))

    near = Fraction(1, 2**51)
    for node in map(Fraction, method.nodes):
        assert value(node - near) * value(node + near) < 0


@EVERY_TABLE
def test_nodes_of_another_code(method):
    s = method.stages
    if is_gauss(method):
        nodes, weights = roots_sh_legendre(s)
        np.testing.assert_allclose(method.b, weights, rtol=0, atol=2e-15)
    else:
        nodes = np.append((1 + roots_jacobi(s - 1, 1.0, 0.0)[0]) / 2, 1.0)
    np.testing.assert_allclose(method.nodes, nodes, rtol=0, atol=2e-15)


def test_tables_as_printed():
    """Hairer, Wanner II, tables IV.5.2 and IV.5.6."""
    r, q = np.sqrt(3), np.sqrt(6)
    gauss4 = [[1 / 4, 1 / 4 - r / 6], [1 / 4 + r / 6, 1 / 4]]
    radau5 = [
        [(88 - 7 * q) / 360, (296 - 169 * q) / 1800, (-2 + 3 * q) / 225],
        [(296 + 169 * q) / 1800, (88 + 7 * q) / 360, (-2 - 3 * q) / 225],
        [(16 - q) / 36, (16 + q) / 36, 1 / 9],
    ]
    np.testing.assert_allclose(ALL["gauss4"].A, gauss4, rtol=0, atol=2e-16)
    np.testing.assert_allclose(ALL["radau5"].A, radau5, rtol=0, atol=4e-16)
    np.testing.assert_allclose(ALL["gauss4"].nodes, [1 / 2 - r / 6, 1 / 2 + r / 6], rtol=0, atol=2e-16)
    np.testing.assert_allclose(ALL["radau5"].nodes, [(4 - q) / 10, (4 + q) / 10, 1], rtol=0, atol=2e-16)


def parts_of(table, s):
    """Legendre transform and the rows c, b, slope at the end, step of kappa; (A, T, T^-1, rows) of every stretch."""
    stretches = table[s + 4 :].reshape(-1, 3 * s + 4, s)
    return (
        table[:s],
        table[s : s + 4],
        [(x[:s], x[s : 2 * s], x[2 * s : 3 * s], x[3 * s :]) for x in stretches],
    )


@EVERY_TABLE
def test_the_head_of_the_table(method):
    s = method.stages
    to_legendre, (c, b, slope, steps), stretches = parts_of(method.table, s)
    assert (c == method.nodes).all()
    assert (b == method.b).all()
    assert (stretches[0][0] == method.A).all()
    assert np.unique(steps).size == 1
    assert len(stretches) == method.stretches == (9 if method.name in STRETCHED else 1)
    assert steps[0] == 0.125
    values = np.random.default_rng(0).standard_normal(s)
    np.testing.assert_allclose(legendre.legval(2 * c - 1, to_legendre @ values), values, rtol=0, atol=1e-14)
    np.testing.assert_allclose((to_legendre @ values)[0], b @ values, rtol=0, atol=1e-14)  # c_0: the mean
    for degree in range(s):
        assert slope @ c**degree == pytest.approx(degree, abs=1e-11)


@EVERY_TABLE
def test_the_table_of_every_stretch(method):
    """t = (1 - exp(-kappa theta)) / (1 - exp(-kappa)), g = dt/dtheta, and A diag(g) by blocks."""
    s, (_, (c, b, _, steps), stretches) = method.stages, parts_of(method.table, method.stages)
    for number, (A, T, inverse, (alpha, beta, times, g)) in enumerate(stretches):
        kappa = number * steps[0]
        if kappa == 0.0:
            assert (times == c).all()
            assert (g == 1.0).all()
        else:
            slope = kappa * np.exp(-kappa * c) / -np.expm1(-kappa)
            np.testing.assert_allclose(times, np.expm1(-kappa * c) / np.expm1(-kappa), rtol=1e-15)
            np.testing.assert_allclose(g, slope, rtol=2 * kappa ** (2 * s - 1) / 10 ** (s - 1) + 1e-15)
        assert b @ g == pytest.approx(1.0, abs=1e-15)
        np.testing.assert_allclose(A, method.A * g, rtol=1e-15)
        blocks, i = np.diag(alpha), 0
        while i < s:
            if beta[i] != 0.0:
                assert beta[i + 1] == 0.0
                assert alpha[i] == alpha[i + 1]
                blocks[i, i + 1], blocks[i + 1, i] = beta[i], -beta[i]
                i += 1
            i += 1
        assert np.count_nonzero(beta) == s // 2
        np.testing.assert_allclose(T @ inverse, np.eye(s), rtol=0, atol=1e-12)
        np.testing.assert_allclose(inverse @ A @ T, blocks, rtol=0, atol=1e-13)
        assert np.linalg.cond(T) < (2000 if kappa == 0.0 else 5000)
        assert alpha.min() > 0.01


def end_of_growth(A, times, kappa, depth):
    """u at 1 - exp(-kappa) of the time to the escape of u' = u^(depth-1), u(0) = 1, by the stages of one step."""
    left = 1 / (depth - 2)
    h, p = -left * np.expm1(-kappa), depth - 1
    u = (1 - h * times / left) ** (-1 / (depth - 2))
    for _ in range(20):
        residual = u - 1 - h * A @ u**p
        u = u - np.linalg.solve(np.eye(len(u)) - h * A * (p * u ** (p - 1)), residual)
    return u[-1]


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize(("name", "least", "gain"), [("radau9", 0.5, 3.0), ("radau13", 0.75, 1000.0)])
def test_what_escapes_is_an_exponential_in_stretched_time(name, least, gain, depth):
    """The order 2s - 1 in kappa, hence 2s of one step, and less than the error of plain steps that are as long."""
    method, errors, kappas = ALL[name], [], np.linspace(least, 2.0, 9)
    for kappa in kappas:
        table = method.stretched(kappa)
        exact = np.exp(kappa / (depth - 2))
        plain = abs(end_of_growth(method.A, method.nodes, kappa, depth) / exact - 1)
        errors.append(abs(end_of_growth(table[: method.stages], table[-2], kappa, depth) / exact - 1))
        assert errors[-1] < max(plain / gain, 1e-14)
    there = np.array(errors) > 1e-14
    slope = P.slope(kappas[there], np.array(errors)[there])
    print(name, depth, errors, slope)
    assert 2 * method.stages - 0.5 < slope < 2 * method.stages + 2


@EVERY_TABLE
def test_dense_output_is_the_collocation_polynomial(method):
    """Its values at the nodes are the stages Z = A F, its slopes the velocities F, and it ends at the end."""
    s, c, degrees = method.stages, method.nodes, np.arange(1, method.stages + 1)
    stages = method.dense[method.closing + 1 :]
    assert not method.dense[: method.closing + 1].any()
    powers = c[:, None] ** (degrees - 1)
    np.testing.assert_allclose((powers * c[:, None]) @ stages.T, np.eye(s), rtol=0, atol=1e-11)
    np.testing.assert_allclose((powers * degrees) @ stages.T @ method.A, np.eye(s), rtol=0, atol=1e-10)
    np.testing.assert_allclose(stages.sum(1) @ method.A, method.b, rtol=0, atol=1e-11)


def stability(method, z):
    one = np.ones(method.stages, complex)
    return 1 + z * method.b @ np.linalg.solve(np.eye(method.stages) - z * method.A, one)


@EVERY_TABLE
def test_stability(method):
    """Gauss: |R| = 1 on the imaginary axis; Radau: R = 0 at infinity; both: poles on the right."""
    axis = np.array([abs(stability(method, 1j * y)) for y in np.geomspace(1e-2, 1e5, 300)])
    at_infinity = 1 - method.b @ np.linalg.solve(method.A, np.ones(method.stages))
    assert np.linalg.eigvals(method.A).real.min() > 0.01
    if is_gauss(method):
        assert np.abs(axis - 1).max() < 1e-12
        assert abs(at_infinity - (-1) ** method.stages) < 1e-10
    else:
        assert axis.max() <= 1 + 1e-14
        assert (np.diff(axis) < 1e-14).all()
        assert axis[-1] < 1e-3
        assert abs(at_infinity) < 1e-11
    far = [stability(method, r * np.exp(1j * a)) for r in np.geomspace(1, 1e4, 20) for a in (1.7, 2.4, np.pi)]
    assert np.abs(far).max() < 1
    z = 0.3 if method.order > 5 else 0.05
    for x in (z, -z, 1j * z):
        assert abs(stability(method, x) - np.exp(x)) < max(z ** (method.order + 1) / 50, 1e-15)


# --- Steps --------------------------------------------------------------------------------------------------


def problem_of(kind, scale=0.9):
    """A net 3-4-3-3 of depth 3 and one of three costs; eigenvalues of the Hessian up to 83, 72, 2.9."""
    rng = np.random.default_rng(11)
    weights = [scale * rng.standard_normal(shape) for shape in ((4, 3), (3, 4), (3, 3))]
    if kind == "masked":
        mask = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=bool)
        return dln.costs.MatrixCompletion(2.0 * rng.standard_normal((3, 3)), mask), weights
    if kind == "entropy":
        X = 2.0 * rng.standard_normal((3, 12))
        return dln.costs.CrossEntropy(X, np.arange(12) % 3, classes=3), weights
    return dln.costs.FullyObserved(2.0 * rng.standard_normal((3, 3))), weights


def collocation_step(method, cost, weights, weight_decay, h):
    """Stages by Newton's method of another code: A at the end, and at the middle of the step."""
    y, s = P.flat(weights), method.stages

    def velocities(Z):
        return np.array(
            [P.velocity(cost, P.unflatten(y + z, weights), weight_decay) for z in Z.reshape(s, -1)]
        )

    def residual(Z):
        return Z - h * (method.A @ velocities(Z)).ravel()

    Z = root(residual, np.zeros(s * y.size), tol=1e-14).x  # by Powell's hybrid method
    assert np.abs(residual(Z)).max() < 1e-13
    F = velocities(Z)
    # the middle: b of the Lagrange polynomials integrated to 1/2, from C(s) solved for them
    powers = np.arange(1, s + 1)[:, None]
    half = np.linalg.solve(method.nodes ** (powers - 1), 0.5 ** powers[:, 0] / powers[:, 0])
    return [y + h * half @ F, y + h * method.b @ F]


@pytest.mark.parametrize("kind", ["full", "masked", "entropy"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", ["radau5", "gauss4", "gauss6", "radau9"])
def test_a_step_is_the_collocation_step(name, decay, kind):
    method, h = ALL[name], 0.6 if kind == "entropy" else 0.15
    cost, weights = problem_of(kind)
    reference = collocation_step(method, cost, weights, decay, h)
    options = {"method": name, "step": h, "rtol": 1e-13, "weight_decay": decay, "t_eval": [0.5 * h, h]}
    run = dln.gradient_flow(cost, weights, (0.0, h), **options)
    assert run.n_steps == 1
    assert np.linalg.norm(reference[1] - P.flat(weights)) > 0.1
    for i in range(2):
        assert np.abs(P.flat([W[i] for W in run.weights]) - reference[i]).max() < 1e-12


def balances_drift(run, weight_decay=0.0):
    """Largest deviation of the balances from exp(-2 decay t) D(0), relative to |W_{l+1}|^2 + |W_l|^2."""
    worst = 0.0
    for D, below, above in zip(network.balances(run.weights), run.weights[:-1], run.weights[1:], strict=True):
        sizes = np.sum(below**2, axis=(1, 2)) + np.sum(above**2, axis=(1, 2))
        expected = D[0] * np.exp(-2 * weight_decay * run.t)[:, None, None]
        worst = max(worst, (np.linalg.norm(D - expected, axis=(1, 2)) / sizes).max())
    return worst


def slow_problem():
    """Depth 3, unbalanced, with modes 2, 0.5, 0.2: something moves for hundreds of units of time."""
    rng = np.random.default_rng(12)
    cost = dln.costs.FullyObserved(P.target(4, (2.0, 0.5, 0.2), rng))
    return cost, P.small_start((4, 5, 4, 4), 0.15, rng)


@pytest.mark.parametrize("name", [*GAUSS, "radau5"])
def test_gauss_conserves_the_balances(name):
    """Over 10^4 steps to rounding, whatever the tolerance, while Radau IIA loses what its order says."""
    cost, weights = slow_problem()
    h, steps = 0.01, 10_000
    times = np.linspace(0.0, h * steps, 41)
    run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=name, step=h, rtol=1e-3, t_eval=times)
    assert run.n_steps == steps
    moved = np.linalg.norm(np.diff(run.end_to_end, axis=0), axis=(1, 2))
    print(name, balances_drift(run), moved.min(), moved.max())
    assert moved.min() > 1e-5
    if name in GAUSS:
        assert balances_drift(run) < 1e-14
    else:
        assert balances_drift(run) > 1e-11


@pytest.mark.parametrize(("name", "numbers"), [("gauss4", (40, 60, 90)), ("gauss6", (20, 30, 45))])
def test_balances_decay_to_the_order_of_the_method(name, numbers):
    cost, weights = problem_of("full", 0.5)
    drifts = []
    for n in numbers:
        options = {"method": name, "step": 1 / n, "weight_decay": 0.3, "t_eval": [0.0, 1.0]}
        drifts.append(balances_drift(dln.gradient_flow(cost, weights, (0.0, 1.0), **options), 0.3))
    print(name, drifts, P.slope(1 / np.array(numbers), drifts))
    assert drifts[-1] > 1e-13
    assert P.slope(1 / np.array(numbers), drifts) > ALL[name].order - 0.3


# --- Whole runs ---------------------------------------------------------------------------------------------

TOLERANCES = 10.0 ** -np.arange(4, 12)


@functools.cache
def watched(name):
    """A named problem with 64 times, half uniform, half equally spaced in arc length, and DOP853 there."""
    cost, weights, share = P.named(name)
    until = dln.Until(cost=share * cost.value(network.end_to_end(weights)))
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), method="dop853", rtol=1e-12, until=until)
    arc = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(run.end_to_end, axis=0), axis=(1, 2)))]
    T = run.t[-1]
    times = np.unique(np.r_[np.linspace(0, T, 32), np.interp(np.linspace(0, arc[-1], 32), arc, run.t)])
    exact = dln.gradient_flow(cost, weights, (0.0, T), method="dop853", rtol=1e-13, t_eval=times)
    return cost, weights, times, exact.end_to_end


@pytest.mark.parametrize("problem", ["P2", "P3"])
@pytest.mark.parametrize("name", ["radau9", "radau13"])
def test_error_is_proportional_to_the_tolerance(name, problem):
    cost, weights, times, exact = watched(problem)
    errors = []
    for rtol in TOLERANCES:
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=name, rtol=rtol, t_eval=times)
        assert run.success
        errors.append(P.error(run, exact) / np.linalg.norm(cost.target))
    ratio = np.array(errors) / TOLERANCES
    print(name, problem, P.slope(TOLERANCES, errors), ratio)
    assert 0.85 < P.slope(TOLERANCES, errors) < 1.3
    assert ratio.max() < 200


@pytest.mark.parametrize("observed", [1.0, 0.6])
@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("name", ["radau9", "radau13", "gauss6", "auto"])
def test_large_net_agrees_with_an_explicit_method(name, decay, observed):
    """10-20-20-10: not all of the 800 eigenpairs are kept, what is left is corrected by plain iteration."""
    rng = np.random.default_rng(3)
    A = P.target(10, (3.0, 2.0, 1.0), rng)
    cost = (
        dln.costs.FullyObserved(A)
        if observed == 1.0
        else dln.costs.MatrixCompletion(A, rng.random(A.shape) < observed)
    )
    weights = P.small_start((10, 20, 20, 10), 0.1, rng)
    assert ALL["radau9"].stiff_room((10, 20, 20, 10)) == 100
    times = np.array([2.0, 5.0, 8.0, 12.0, 20.0, 40.0])
    options = {"t_eval": times, "weight_decay": decay}
    exact = dln.gradient_flow(cost, weights, (0.0, 40.0), method="dop853", rtol=1e-12, **options).end_to_end
    run = dln.gradient_flow(cost, weights, (0.0, 40.0), method=name, rtol=1e-7, **options)
    error = P.error(run, exact) / np.linalg.norm(A)
    print(name, decay, observed, f"{error:.1e}", run.n_steps, run.nfev, run.stats)
    assert run.success
    assert np.linalg.norm(exact[-1]) > 1.0
    assert error < 200 * 1e-7


PLAIN = """
import numpy as np, dln
rng = np.random.default_rng(0)
cost = dln.costs.FullyObserved(rng.standard_normal((2, 2)))
weights = [0.5 * rng.standard_normal(s) for s in ((3, 2), (2, 3))]
options = dict(rtol=1e-5, t_eval=[0.2, 0.5])
for method in ("radau5", "gauss4"):
    run = dln.gradient_flow(cost, weights, (0.0, 0.5), method=method, **options)
    print(*run.end_to_end.ravel())
run = dln.gradient_flow(cost, weights, (0.0, 0.5), method="radau5", step=0.25, weight_decay=0.1, **options)
print(*run.end_to_end.ravel())
cost = dln.costs.FullyObserved(np.diag([3.0, 1.0]))
weights = [0.01 * rng.standard_normal((2, 2)) for _ in range(3)]
run = dln.gradient_flow(cost, weights, (0.0, 200.0), rtol=1e-3, t_eval=[40.0, 200.0])
print(*run.end_to_end.ravel(), len(run.stats["used"]))
"""


@functools.cache
def plain(mode):
    env = {**os.environ, **({mode: "1"} if mode else {})}
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), dtype=float)


@pytest.mark.parametrize("mode", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_the_same_with_bounds_checked_and_without_the_compiler(mode):
    assert plain("")[-1] > 1  # the methods took turns
    assert np.allclose(plain(mode), plain(""), rtol=1e-9, atol=1e-12)
