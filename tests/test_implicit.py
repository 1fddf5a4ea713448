"""The linearly implicit methods by law: their coefficients, single steps, orders, tolerance, symmetries, plateaus."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys

import numpy as np
import problems as P
import pytest
from scipy.linalg import expm
from test_flow import modes_problem

import dln
from dln import flow, form, network
from dln import method as methods
from dln.method import exponential, rosenbrock
from dln.problem import Problem

ROSENBROCK = rosenbrock.ALL
BOTH = {**rosenbrock.ALL, **exponential.ALL}
EVERY_TABLE = pytest.mark.parametrize("method", ROSENBROCK.values(), ids=list(ROSENBROCK))
EVERY = pytest.mark.parametrize("name", BOTH)


# --- Coefficients -------------------------------------------------------------------------------------------


@functools.cache
def trees(order):
    """Rooted trees with up to `order` vertices as sorted tuples of branches: tree -> (vertices, density)."""
    rows = {(): (1, 1)}
    for n in range(2, order + 1):
        known = list(rows.items())
        for s, (rho_s, gamma_s) in known:
            for t, (rho_t, gamma_t) in known:
                if rho_s + rho_t == n:
                    rows.setdefault(tuple(sorted((*s, t))), (n, n * (gamma_s // rho_s) * gamma_t))
    return rows


def usual(method):
    """Coefficients alpha, Gamma (with gamma on the diagonal), b, and those of the embedded solution."""
    s = method.stages
    Gamma = np.linalg.inv(np.eye(s) / method.gamma - method.c)
    return method.a @ Gamma, Gamma, method.m @ Gamma, (method.m - method.error[0]) @ Gamma


THETA = np.array([0.15, 0.4, 0.77])  # more than the dense outputs have coefficients to spare


def weights_within(method):
    """Weights of the u_i in the dense output at each theta, as the loop sums it from the rows of K."""
    rows = np.vstack([np.zeros((2, method.stages)), method.m, method.within])
    return np.array([method.dense @ x ** np.arange(1, method.dense.shape[1] + 1) @ rows for x in THETA])


def defects(method, order):
    """Largest defects of the order conditions of the trees with 1 .. order vertices: of the solution, the embedded
    one, and the dense output at each theta.

    A vertex with one branch takes alpha + Gamma, with several alpha (Hairer, Wanner II, IV.7).
    """
    alpha, Gamma, b, embedded = usual(method)
    weights = [(b, 1.0), (embedded, 1.0), *zip(weights_within(method) @ Gamma, THETA, strict=True)]
    worst = np.zeros((len(weights), order))

    @functools.cache
    def phi(tree):
        A = alpha + Gamma if len(tree) == 1 else alpha
        return np.prod([A @ phi(branch) for branch in tree], axis=0) * np.ones(method.stages)

    for tree, (rho, gamma) in trees(order).items():
        for i, (b, x) in enumerate(weights):
            worst[i, rho - 1] = max(worst[i, rho - 1], abs(b @ phi(tree) - x**rho / gamma))
    return worst


def residual(method):
    """Largest defect of all that the method claims: the orders, stiff accuracy of both solutions, and that the dense
    output is of order 2 where the flow is infinitely stiff, which sees the last stage too (ibid., VI.4)."""
    alpha, Gamma, b, embedded = usual(method)
    slaved = weights_within(method) @ Gamma @ np.linalg.solve(alpha + Gamma, alpha.sum(1) ** 2) - THETA**2
    solution, other, *within = defects(method, method.order)
    stiff = [abs((alpha + Gamma)[-1] - b).max(), abs(alpha[-1] - embedded).max()]
    within = np.array(within)[:, : method.dense_order]
    return max(solution.max(), other[:-1].max(), within.max(), abs(slaved).max(), *stiff)


@EVERY_TABLE
def test_order_conditions_with_the_exact_jacobian(method):
    assert len(trees(5)) == 17
    assert residual(method) < 3e-14
    solution, embedded, *within = defects(method, method.order + 1)
    assert solution[-1] > 1e-3
    assert embedded[-2] > 1e-3
    assert np.array(within)[:, method.dense_order].max() > 1e-4
    assert method.error_exponent == method.order


@EVERY_TABLE
def test_every_wrong_coefficient_is_noticed(method):
    wrong = dataclasses.replace(method, gamma=1.001 * method.gamma)
    assert residual(wrong) > 1e-6
    for name in ("a", "c", "m", "error", "within"):
        table = getattr(method, name)
        for entry in np.argwhere(table):
            if name == "within" and entry[1] == method.stages - 1:
                continue  # the last u is the error estimate, which is of the order that is left
            changed = table.copy()
            changed[tuple(entry)] *= 1.001
            assert residual(dataclasses.replace(method, **{name: changed})) > 1e-7, (name, entry)


@EVERY_TABLE
def test_stiffly_accurate_and_l_stable(method):
    alpha, Gamma, b, _ = usual(method)
    beta, one = alpha + Gamma, np.ones(method.stages)

    def R(z):
        return 1 + z * b @ np.linalg.solve(np.eye(method.stages) - z * beta, one.astype(complex))

    assert np.allclose(beta[-1], b, atol=1e-14)
    assert abs(1 - b @ np.linalg.solve(beta, one)) < 2e-14  # R at infinity
    assert (abs(1 - weights_within(method) @ Gamma @ np.linalg.solve(beta, one)) < 1).all()
    # the poles 1/gamma lie to the right, so the imaginary axis decides
    assert max(abs(R(1j * y)) for y in np.geomspace(1e-3, 1e6, 400)) <= 1 + 1e-12
    z = 0.05
    for x in (z, -z, 1j * z):
        assert abs(R(x) - np.exp(x)) < z ** (method.order + 1)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("rodas4", [0, 0.386, 0.21, 0.63, 1, 1]),
        (
            "rodas5p",
            [0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1, 1, 1],
        ),
    ],
)
def test_nodes_as_published(name, nodes):
    np.testing.assert_allclose(usual(ROSENBROCK[name])[0].sum(1), nodes, rtol=0, atol=2e-14)


PHI = np.array([1.0, 1 / 6, 1 / 24])  # phi_1, phi_3, phi_4 of 0


def exponential_conditions(method):
    """Largest defect of the stiff order conditions (Luan, Ostermann 2014, table 1).

    For all z ``b_2 c_2^2 + b_3 c_3^2 = 2 phi_3``, of the embedded method too, and ``b_2 c_2^3 + b_3 c_3^3 = 6 phi_4``;
    for order five at z = 0 only ``b_2 c_2^4 + b_3 c_3^4 = 24 phi_5`` and ``b_2 c_2 psi_2 + b_3 c_3 psi_3 = 0``, with
    ``psi_i = sum_k a_ik c_k^2 / 2 - c_i^3 phi_3``.
    """
    c, b, error = np.array([0.0, *method.nodes]), method.weights[:, 1:], method.error[:, 1:]
    found = [
        b[0] - [1, 0, 0],
        c**2 @ b - [0, 2, 0],
        c**3 @ b - [0, 0, 6],
        c**2 @ (b - error) - [0, 2, 0],
        (b - error)[1:, 2],  # phi_4 is what the embedded method leaves out
        method.weights[:, 0] - 1,
        method.error[1:, 0] - 1,
    ]
    if method.order == 5:
        a_32 = method.inner[:, 1:] @ PHI
        psi = np.array([0.0, -(c[1] ** 3) / 6, a_32.sum() * c[1] ** 2 / 2 - c[2] ** 3 / 6])
        found += [[c**4 @ b @ PHI - 1 / 5, (c * psi) @ b @ PHI]]
    return max(np.abs(x).max() for x in found)


@pytest.mark.parametrize("method", exponential.ALL.values(), ids=list(exponential.ALL))
def test_conditions_of_the_exponential_methods(method):
    """What changes U_3 alone is seen by `test_a_step_and_its_inside_are_what_the_formulas_say`."""
    assert exponential_conditions(method) < 1e-14
    nodes = np.arange(1, 5) / 4
    values = method.dense @ nodes ** np.arange(1, 5)[:, None]
    np.testing.assert_allclose(values, np.vstack([np.zeros((2, 4)), np.eye(4)]), rtol=0, atol=1e-14)
    for name in ("weights", "error", "inner"):
        for entry in np.argwhere(getattr(method, name)):
            if name == "inner" and entry[1] == 0:
                continue
            mutant = getattr(method, name).copy()
            mutant[tuple(entry)] *= 1.001
            assert exponential_conditions(dataclasses.replace(method, **{name: mutant})) > 1e-6, entry


@pytest.mark.parametrize(
    ("method", "name", "wrong", "message"),
    [
        ("rodas4", "a", np.eye(6), "strictly lower triangular"),
        ("rodas4", "c", np.zeros((5, 6)), "with 6 rows"),
        ("rodas4", "m", np.full(6, np.nan), "finite"),
        ("rodas4", "error", np.zeros((2, 6)), "at most one row of 6"),
        ("rodas4", "within", np.zeros((2, 5)), "a matrix with 6 columns"),
        ("exprb53s3", "weights", np.zeros((2, 3)), "four columns"),
        ("exprb53s3", "error", np.full((3, 4), np.inf), "finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(method, name, wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BOTH[method], **{name: wrong})


# --- Single steps -------------------------------------------------------------------------------------------


def changed(monkeypatch, name, **changes):
    """A method changed for one test."""
    monkeypatch.setitem(methods.ALL, name, dataclasses.replace(BOTH[name], **changes))
    return BOTH[name]


def velocity(y, shapes, target, decay):
    """Flow of |A - target|^2 / 2, of complex weights too."""
    W = [
        part.reshape(s)
        for part, s in zip(np.split(y, np.cumsum([a * b for a, b in shapes])[:-1]), shapes, strict=True)
    ]
    columns = target.shape[1]
    G = functools.reduce(lambda A, B: B @ A, W, np.eye(columns)) - target
    out = []
    for l in range(len(W)):
        before = functools.reduce(lambda A, B: B @ A, W[:l], np.eye(columns))
        behind = functools.reduce(lambda A, B: B @ A, W[l + 1 :], np.eye(len(W[l])))
        out.append((-behind.T @ G @ before.T - decay * W[l]).ravel())
    return np.concatenate(out)


def jacobian(f, y):
    """Exact by complex steps."""
    return np.array([f(y + 1e-100j * e).imag / 1e-100 for e in np.eye(y.size)]).T


def rosenbrock_step(method, f, y, h):
    """The solution at THETA[1] and at the end, in the variables k_i, with alpha and Gamma."""
    alpha, Gamma, b, _ = usual(method)
    J, k = jacobian(f, y), np.zeros((method.stages, y.size))
    for i in range(method.stages):
        right = f(y + h * alpha[i] @ k) + h * J @ (Gamma[i, :i] @ k[:i])
        k[i] = np.linalg.solve(np.eye(y.size) - h * method.gamma * J, right)
    return [y + h * weights @ k for weights in (weights_within(method)[1] @ Gamma, b)]


def phi(k, Z, v):
    """phi_k(Z) v as a block of the exponential of an augmented matrix (Saad 1992; Al-Mohy, Higham 2011)."""
    n = len(v)
    augmented = np.zeros((n + k, n + k))
    augmented[:n, :n], augmented[:n, n] = Z, v
    augmented[n : n + k - 1, n + 1 :] = np.eye(k - 1)
    return expm(augmented)[:n, -1]


def exponential_step(method, f, y, h):
    """The solution at 1/2, a node of the dense output, and at the end."""
    J, v = jacobian(f, y), f(y)
    g = lambda x: f(x) - J @ x  # noqa: E731
    D_2 = g(y + 0.5 * h * phi(1, 0.5 * h * J, v)) - g(y)
    Z = h * J
    inner = 27 / 25 * phi(3, 0.5 * Z, D_2) + 729 / 125 * phi(3, 0.9 * Z, D_2)
    D_3 = g(y + 0.9 * h * phi(1, 0.9 * Z, v) + h * inner) - g(y)
    third, fourth = 18 * D_2 - 250 / 81 * D_3, -60 * D_2 + 500 / 27 * D_3
    return [
        y + h * (x * phi(1, x * Z, v) + x**3 * phi(3, x * Z, third) + x**4 * phi(4, x * Z, fourth))
        for x in (0.5, 1.0)
    ]


def plateau(alpha=0.05):
    """Depth 3: one mode fitted, others waiting at size alpha, in bases of no meaning."""
    rng = np.random.default_rng(1)
    A = P.target(3, (2.0, 1.0), rng)
    U, s, Vt = np.linalg.svd(A)
    turns = [np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2)]
    first = [np.zeros((4, 3)), np.zeros((4, 4)), np.zeros((3, 4))]
    for W in first:
        W[0, 0] = s[0] ** (1 / 3)
    weights = [turns[0] @ first[0] @ Vt, turns[1] @ first[1] @ turns[0].T, U @ first[2] @ turns[1].T]
    return dln.costs.FullyObserved(A), [W + alpha * 0.5 * rng.standard_normal(W.shape) for W in weights]


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in BOTH), ("rodas5p", {"factorised": 100})]
)
def test_a_step_and_its_inside_are_what_the_formulas_say(monkeypatch, name, changes, decay):
    method = changed(monkeypatch, name, **changes)
    cost, weights = plateau()
    y, shapes = P.flat(weights), [W.shape for W in weights]
    f = functools.partial(velocity, shapes=shapes, target=cost.target, decay=decay)
    h = 2.0  # some 10 relaxation times of the fitted mode
    if name in exponential.ALL:
        reference, times = exponential_step(method, f, y, h), [0.5 * h, h]
    else:
        reference, times = rosenbrock_step(method, f, y, h), [THETA[1] * h, h]
    run = dln.gradient_flow(cost, weights, (0.0, h), method=name, step=h, weight_decay=decay, t_eval=times)
    assert run.n_steps == 1
    for i in range(2):
        assert np.abs(P.flat([W[i] for W in run.weights]) - reference[i]).max() < 1e-12


def linear_problem(spread):
    """One layer: the flow is linear, with eigenvalues in [0, spread]."""
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    eigenvalues = spread * np.linspace(0.0, 1.0, 40) ** 3
    X = Q * np.sqrt(eigenvalues)
    Y = rng.standard_normal((3, 40)) @ X
    cost, W = dln.costs.SquareLoss(X, Y), rng.standard_normal((3, 40))
    return cost, W, (lambda t: W + t * phi_rows(-t * jacobian_of(cost, W), -cost.gradient(W)))


def jacobian_of(cost, W):
    """The matrix S with C'(W + D) - C'(W) = D S."""
    unit, base = np.zeros_like(W), cost.gradient(W)
    S = np.zeros((W.shape[1],) * 2)
    for j in range(len(S)):
        unit[0, j] = 1.0
        S[j] = (cost.gradient(W + unit) - base)[0]
        unit[0, j] = 0.0
    return S


def phi_rows(Z, V):
    return np.array([phi(1, Z, v) for v in V])


@pytest.mark.parametrize("spread", [1.0, 1e2, 1e4])
def test_krylov_actions_against_the_exponential_of_the_augmented_matrix(spread):
    """A linear flow is one step, whatever its length."""
    cost, W, exact = linear_problem(spread)
    run = dln.gradient_flow(cost, [W], (0.0, 1.0), method="exprb53s3", step=1.0)
    assert run.n_steps == 1
    assert np.abs(run.end_to_end[-1] - exact(1.0)).max() < 1e-12 * max(1.0, np.linalg.norm(W))


@pytest.mark.parametrize("largest", [12, 128])
@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
def test_the_estimate_of_the_krylov_error_keeps_the_tolerance(monkeypatch, largest, rtol):
    """The linear flow has no other error; a space too small shortens the steps."""
    method = dataclasses.replace(exponential.EXPRB53S3, largest=largest)
    monkeypatch.setitem(methods.ALL, "exprb53s3", method)
    cost, W, exact = linear_problem(1e3)
    run = dln.gradient_flow(cost, [W], (0.0, 1.0), method="exprb53s3", rtol=rtol, t_eval=[1.0])
    assert np.linalg.norm(run.end_to_end[-1] - exact(1.0)) < rtol * np.linalg.norm(W)
    assert run.n_steps < (400 if largest == 12 else 60)


# --- Whole runs ---------------------------------------------------------------------------------------------

TOLERANCES = 10.0 ** -np.arange(4, 10)


@EVERY
def test_error_is_proportional_to_the_tolerance(name):
    """Three aligned modes that wait for one another."""
    cost, weights, _, _ = modes_problem()
    T = 12.0
    times = np.linspace(0.0, T, 40)
    tight = {"method": "dop853", "rtol": 1e-13, "t_eval": times}
    truth = dln.gradient_flow(cost, weights, (0.0, T), **tight).end_to_end
    errors = [
        P.error(dln.gradient_flow(cost, weights, (0.0, T), method=name, rtol=rtol, t_eval=times), truth)
        for rtol in TOLERANCES
    ]
    ratio = np.array(errors) / TOLERANCES / np.linalg.norm(cost.target)
    print(name, P.slope(TOLERANCES, errors), ratio)
    # the steps of exprb53s3 are those of the embedded third order: at loose tolerances it is much better than asked for
    assert (0.6 if name == "exprb53s3" else 0.85) < P.slope(TOLERANCES, errors) < 1.3
    assert ratio.min() > (0 if name == "exprb53s3" else 1 / 500)
    assert ratio.max() < 200


@EVERY
def test_balance_is_kept_and_decays(name):
    """Not by the method but by its tolerance: W_{l+1}^T W_{l+1} - W_l W_l^T, and exp(-2 decay t) of it."""
    rng = np.random.default_rng(5)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    weights = [0.5 * rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (4, 4))]
    for decay in (0.0, 0.2):
        run = dln.gradient_flow(cost, weights, (0.0, 3.0), weight_decay=decay, method=name)
        for D in network.balances(run.weights):
            decayed = D[0] * np.exp(-2 * decay * run.t)[:, None, None]
            assert np.abs(D - decayed).max() < 10 * 1e-8 * np.linalg.norm(P.flat(weights)) ** 2


@EVERY
def test_weight_decay_against_another_code(name):
    rng = np.random.default_rng(6)
    cost = dln.costs.MatrixCompletion(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.7)
    weights = [0.5 * rng.standard_normal(shape) for shape in ((4, 4), (5, 4), (3, 5))]
    times = np.array([0.5, 2.0, 6.0])
    run = dln.gradient_flow(cost, weights, (0.0, 6.0), method=name, weight_decay=0.1, rtol=1e-8, t_eval=times)
    assert P.error(run, P.reference(cost, weights, times, 0.1, rtol=1e-12)) < 1e-6


@EVERY
def test_rotations_and_inclusion_commute_with_every_step(name):
    """They are orthogonal maps of the weights, so all that a method computes commutes with them.

    Rounding may decide whether a Krylov space is large enough, which changes the result by a part of the tolerance.
    """
    rng = np.random.default_rng(7)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 4)))
    weights = [0.5 * rng.standard_normal(shape) for shape in ((4, 4), (5, 4), (3, 5))]
    options = {"method": name, "rtol": 1e-7, "t_eval": [1.0, 4.0]}
    run = dln.gradient_flow(cost, weights, (0.0, 4.0), **options)
    turns = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (4, 5)]
    last = [W[-1] for W in run.weights]
    for move in (lambda w: network.rotate(w, turns), lambda w: network.include(w, (6, 7))):
        moved = dln.gradient_flow(cost, move(weights), (0.0, 4.0), **options)
        assert np.abs(P.flat(move(last)) - P.flat([W[-1] for W in moved.weights])).max() < 1e-9


def p7(alpha, depth=3, n=5):
    """Plateaus: target singular values 3, 2, 1 in random bases, random layers of size alpha."""
    rng = np.random.default_rng(0)
    cost = dln.costs.FullyObserved(P.target(n, (3.0, 2.0, 1.0), rng))
    return cost, [alpha * rng.standard_normal((n, n)) / np.sqrt(n) for _ in range(depth)]


@functools.cache
def p7_reference(alpha):
    """Times at which the modes are half grown, some on the plateaus between, 3/alpha behind the last, and A there."""
    cost, weights = p7(alpha)
    run = dln.gradient_flow(cost, weights, (0.0, 3 / alpha), method="dop853", rtol=1e-13)
    halves = []
    for mode, level in enumerate((1.5, 1.0, 0.5)):
        i = int(np.argmax(run.singular_values[:, mode] > level))
        lower, upper = run.t[i - 1], run.t[i]
        while upper - lower > 1e-2:
            t = np.linspace(lower, upper, 9)
            i = int(np.argmax(np.linalg.svd(run.at(t), compute_uv=False)[:, mode] > level))
            lower, upper = t[i - 1], t[i]
        halves.append(upper)
    times = np.array([0.5 * halves[0], halves[0], sum(halves[:2]) / 2, halves[1], sum(halves[1:]) / 2])
    times = np.append(times, [halves[2], 3 / alpha])
    run = dln.gradient_flow(cost, weights, (0.0, 3 / alpha), method="dop853", rtol=1e-13, t_eval=times)
    assert np.allclose(np.linalg.svd(run.end_to_end[-1])[1][:3], [3.0, 2.0, 1.0], atol=1e-6)
    return times, run.end_to_end


def work(run):
    """Velocities, a product counted as three, and factorisations."""
    return run.nfev + 3 * run.stats["products"] + run.stats["factorisations"]


@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-4])
@EVERY
def test_long_plateaus_agree_with_an_explicit_method(name, alpha):
    """The escape of a mode that waits for 1/alpha is mistimed by this times the relative error of the mode."""
    cost, weights = p7(alpha)
    times, exact = p7_reference(alpha)
    for rtol in (1e-6, 1e-8):
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=name, rtol=rtol, t_eval=times)
        error = P.error(run, exact) / np.linalg.norm(cost.target)
        print(f"{name} {alpha:g} {rtol:g}: {error:.1e} {run.n_steps} steps, {run.nfev} v, {run.stats}")
        assert run.success
        assert error < (50 if name == "rodas5p" else 5) * rtol / alpha
        rise = np.diff(run.cost).max()
        assert rise <= rtol * run.cost[0]
        if alpha == 1e-4 and (name in exponential.ALL or rtol == 1e-6):
            assert work(run) < 0.75 * 450_000  # of DOP853, at any tolerance


@pytest.mark.parametrize("name", ["rodas5p", "exprb53s3"])
def test_large_net_agrees_with_the_factorised_one(monkeypatch, name):
    """10-20-20-10, above the size at which H is formed; on a plateau conjugate gradients meet large h gamma H."""
    rng = np.random.default_rng(3)
    cost = dln.costs.FullyObserved(P.target(10, (3.0, 2.0), rng))
    weights = P.small_start((10, 20, 20, 10), 0.3, rng)
    times = np.array([1.0, 3.0, 6.0])
    exact = dln.gradient_flow(cost, weights, (0.0, 6.0), method="dop853", rtol=1e-12, t_eval=times).end_to_end
    run = dln.gradient_flow(cost, weights, (0.0, 6.0), method=name, rtol=1e-6, t_eval=times)
    assert run.stats["factorisations"] == 0
    assert P.error(run, exact) < 1e-4
    if name == "rodas5p":
        short = {"method": name, "rtol": 1e-6, "t_eval": [0.02]}
        by_products = dln.gradient_flow(cost, weights, (0.0, 0.02), **short)
        monkeypatch.setitem(methods.ALL, name, dataclasses.replace(ROSENBROCK[name], factorised=1000))
        factorised = dln.gradient_flow(cost, weights, (0.0, 0.02), **short)
        assert factorised.stats["factorisations"] == factorised.n_steps > 0
        assert P.error(by_products, factorised.end_to_end) < 1e-10


def test_conjugate_gradients_agree_with_the_factor_on_a_plateau(monkeypatch):
    cost, weights = p7(1e-2)
    options = {"method": "rodas5p", "rtol": 1e-6, "t_eval": np.linspace(10.0, 300.0, 30)}
    run = dln.gradient_flow(cost, weights, (0.0, 300.0), **options)
    monkeypatch.setitem(methods.ALL, "rodas5p", dataclasses.replace(ROSENBROCK["rodas5p"], factorised=75))
    dense = dln.gradient_flow(cost, weights, (0.0, 300.0), **options)
    print(dense.n_steps, run.n_steps, run.stats, P.error(run, dense.end_to_end))
    assert abs(run.n_steps - dense.n_steps) < 0.02 * dense.n_steps
    assert P.error(run, dense.end_to_end) < 1e-6
    assert run.stats["factorisations"] == 0 < dense.stats["factorisations"]


def test_a_step_that_is_tried_again_keeps_its_hessian(monkeypatch):
    monkeypatch.setitem(methods.ALL, "rodas5p", dataclasses.replace(ROSENBROCK["rodas5p"], factorised=75))
    cost, weights = p7(1e-3)
    run = dln.gradient_flow(cost, weights, (0.0, 3e3), method="rodas5p", rtol=1e-6, t_eval=[3e3])
    assert run.stats["rejected"] > 0
    assert run.stats["products"] == 75 * run.n_steps
    assert run.stats["factorisations"] == run.n_steps + run.stats["rejected"]


@pytest.mark.parametrize("changes", [{}, {"factorised": 0}], ids=["factor", "products"])
def test_a_step_beyond_the_pole_is_refused(monkeypatch, changes):
    """At the saddle 0 of depth 2, H = -s: I + h gamma H is indefinite once h gamma s > 1."""
    changed(monkeypatch, "rodas4", **changes)
    cost, weights = dln.costs.FullyObserved([[1.0]]), [[[1e-3]], [[1e-3]]]
    run = dln.gradient_flow(cost, weights, (0.0, 4.5), method="rodas4", step=4.5)
    assert (run.status, run.n_steps) == ("not_finite", 0)
    run = dln.gradient_flow(cost, weights, (0.0, 3.5), method="rodas4", step=3.5)
    assert (run.status, run.n_steps) == ("finished", 1)


@EVERY
def test_the_spectral_radius_is_known(name):
    cost, weights = plateau()
    problem = Problem.checked(cost, weights, 0.0)
    options = flow._Options(
        methods=(BOTH[name],), form=next(iter(form.ALL)), rtol=1e-6, atol=0.0, step=None, max_steps=10**6
    )
    run = options.integration(problem, (0.0, 5.0), np.array([5.0]), True)
    assert run.run(lambda *_: "", lambda *_: None) == "finished"
    f = functools.partial(velocity, shapes=[W.shape for W in weights], target=cost.target, decay=0.0)
    largest = -np.linalg.eigvalsh(jacobian(f, run.y)).min()
    assert run.control["radius"][0] == pytest.approx(largest, rel=0.05)


@EVERY
def test_steps_do_not_grow_for_ever_at_rest(name):
    """Two aligned modes of depth 2 reach the minimum to the last digit; then the run ends by itself."""
    cost = dln.costs.FullyObserved(np.diag([4.0, 1.0]))
    weights = dln.inits.aligned(cost.target, 2, scale=1e-4)
    options = {"method": name, "rtol": 1e-6, "max_steps": 20_000}
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(saddle=9), **options)
    assert run.status == "at_rest"
    assert np.isfinite(run.t[-1])


PLAIN = """
import numpy as np, dln
rng = np.random.default_rng(0)
cost = dln.costs.FullyObserved(rng.standard_normal((2, 2)))
weights = [0.5 * rng.standard_normal(s) for s in ((3, 2), (2, 3))]
large = [0.2 * rng.standard_normal(s) for s in ((9, 2), (2, 9))]
for method in ("rodas4", "rodas5p", "exprb53s3"):
    run = dln.gradient_flow(cost, weights, (0.0, 0.5), rtol=1e-5, t_eval=[0.2, 0.5], method=method)
    print(*run.end_to_end.ravel())
run = dln.gradient_flow(cost, large, (0.0, 0.01), rtol=1e-3, t_eval=[0.01], method="rodas4")
print(*run.end_to_end.ravel())
"""


@functools.cache
def plain(mode):
    env = {**os.environ, **({mode: "1"} if mode else {})}
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), dtype=float)


@pytest.mark.parametrize("mode", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_the_same_with_bounds_checked_and_without_the_compiler(mode):
    assert np.allclose(plain(mode), plain(""), rtol=1e-9, atol=1e-12)
