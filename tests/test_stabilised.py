"""RKC2 and ROCK4 by their laws: stability, order conditions over rooted trees, order, tolerance, conservation, cost."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import problems as P
import pytest
from test_flow import PROBLEMS
from test_tableaux import elementary_weights, rooted_trees

import dln
from dln import method as methods
from dln import network
from dln.method import stabilised
from dln.method.stabilised import RKC2, ROCK4, rkc2, rock4

BOTH = pytest.mark.parametrize("method", [RKC2, ROCK4], ids=lambda m: m.name)
FEW = [(RKC2, s) for s in (2, 3, 7, 20)] + [(ROCK4, s) for s in (5, 6, 7, 8, 13, 24)]
SOME = pytest.mark.parametrize(("method", "s"), FEW, ids=[f"{m.name}-{s}" for m, s in FEW])


def tableau(rung):
    """The Butcher table: rows of A, then b; and the weights of the error estimate in all velocities, f(y_new) last."""
    s = rung.stages
    A, unit = np.zeros((s + 1, s)), np.eye(s)
    older, now, i = np.zeros(s), np.zeros(s), 0

    def recur(rows, older, now, i):
        for m, g, p, q in rows:
            A[i] = now
            older, now, i = now, p * now + q * older + m * unit[i] + g * unit[0], i + 1
        return now, i

    now, i = recur(rung.before, older, now, i)
    last, middle = now, i
    for row in (np.zeros(4), *rung.middle)[: len(rung.middle)]:
        A[i] = last + np.r_[np.zeros(middle), row, np.zeros(s)][:s]
        i += 1
    if len(rung.middle):
        now = last + np.r_[np.zeros(middle), rung.middle[-1], np.zeros(s)][:s]
    now, i = recur(rung.after, now, now, i)
    A[s] = now
    start, end, *four, of_move, of_last = rung.error
    weights = np.append(of_move * now + of_last * last + start * unit[0], end)
    if len(rung.middle):
        weights[middle : middle + 4] += four
    return A, weights


def defects(rung, order):
    """Residuals of the order conditions up to `order`, and the estimate's elementary weights."""
    A, weights = tableau(rung)
    phi = elementary_weights(np.column_stack([A, np.zeros(len(A))]), order)
    return A[-1] @ phi[:-1] - 1 / rooted_trees(order).gamma, weights @ phi


def polynomials(rung, z):
    """R(z), and the estimate, by running the step on y' = lambda y."""
    one = np.ones_like(z)

    def recur(rows, d):
        older = d
        for m, g, p, q in rows:
            older, d = d, p * d + q * older + z * (m * (one + d) + g)
        return d

    last = d = recur(rung.before, 0 * z)
    k = []
    for row in (np.zeros(4), *rung.middle)[: len(rung.middle)]:
        k.append(z * (one + last + sum((a * x for a, x in zip(row, k, strict=False)), 0 * z)))
    if k:
        d = last + sum(b * x for b, x in zip(rung.middle[-1], k, strict=True))
    d = recur(rung.after, d)
    start, end, *four, of_move, of_last = rung.error
    estimate = start * z + end * z * (1 + d) + of_move * d + of_last * last
    return 1 + d, estimate + sum((e * x for e, x in zip(four, k, strict=False)), 0 * z)


@BOTH
def test_every_rung_is_stable_on_the_interval_it_claims(method):
    bound = {"rkc2": 1 - stabilised.DAMPING / 3, "rock4": stabilised.RADIUS}[method.name]
    lengths = [rung.length for rung in method.rungs]
    assert (np.diff(lengths) > 0).all()
    assert method.stability == lengths[-1]
    for s, rung in zip(method.ladder, method.rungs, strict=True):
        z = -rung.length * (1 - np.cos(np.linspace(0, np.pi, 40 * s))) / 2
        R, _ = polynomials(rung, z)
        assert rung.stages == s
        assert np.abs(R).max() <= 1 + 1e-12
        away = z < -10.0  # the damped part; R follows exp(z) before
        assert np.abs(R[away]).max(initial=0.0) < bound + (0.03 if method is RKC2 else 1e-5)
        assert np.abs(polynomials(rung, np.array([-1.5 * rung.length]))[0]).max() > bound
        near = -np.linspace(0.01, 0.05, 5)
        assert np.abs(polynomials(rung, near)[0] - np.exp(near)).max() < 0.2 * 0.05 ** (method.order + 1)


def test_lengths_are_near_the_best_known():
    """RKC2: 0.653 s^2 of at most 0.82 s^2. Order 4: 0.35 s^2."""
    for s in (20, 50, 150):
        assert rkc2(s).length == pytest.approx(0.653 * (s * s - 1), rel=2e-3)
        assert rock4(s).length == pytest.approx(0.35 * (s * s - 8.1), rel=2e-3)


@SOME
def test_order_conditions_hold_and_the_estimate_sees_the_next_order(method, s):
    exact, estimate = defects(method.rung(s), method.order + 1)
    within = rooted_trees(method.order + 1).rho <= method.order
    assert np.abs(exact[within]).max() < 2e-13
    assert np.abs(exact[~within]).max() > 1e-4
    seen = rooted_trees(method.order + 1).rho
    assert np.abs(estimate[seen < method.error_exponent]).max() < 1e-11
    assert np.abs(estimate[seen == method.error_exponent]).max() > 1e-2


@SOME
def test_every_wrong_coefficient_is_noticed(method, s):
    rung = method.rung(s)
    for name in ("before", "middle", "after", "error"):
        for place in np.argwhere(getattr(rung, name)):
            if name == "before" and place.tolist() in ([0, 2], [1, 3]):
                continue  # times d_0 = 0
            wrong = getattr(rung, name).copy()
            wrong[tuple(place)] *= 1.001
            mutant = dataclasses.replace(rung, **{name: wrong})
            exact, estimate = defects(mutant, method.order)
            estimate = estimate[rooted_trees(method.order).rho < method.error_exponent]
            assert max(np.abs(exact).max(), np.abs(estimate).max()) > 1e-11, (name, place)


def test_the_rungs_are_computed_fast_enough_to_be_no_table():
    for f in (stabilised._solved, rock4):
        f.cache_clear()
    start = time.perf_counter()
    assert len([rock4(s) for s in ROCK4.ladder]) == len(ROCK4.ladder)
    assert time.perf_counter() - start < 3.0  # a tenth of that on an idle machine


STEPS = {"rkc2": (200, 400, 800), "rock4": (40, 60, 90)}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    ("method", "s"), [(RKC2, 2), (RKC2, 9), (ROCK4, 5), (ROCK4, 6), (ROCK4, 7), (ROCK4, 14)]
)
def test_order_at_the_ends_of_steps_and_between(monkeypatch, method, s, problem):
    fixed = dataclasses.replace(method, ladder=(s,), error_exponent=0)
    monkeypatch.setitem(methods.ALL, method.name, fixed)
    cost, weights, T, exact = PROBLEMS[problem]()
    ends, inside = [], []
    for n in STEPS[method.name]:
        h, every = T / n, max(1, n // 50)
        times = np.array([*((np.arange(0, n, every) + 0.37) * h), T])
        run = dln.gradient_flow(cost, weights, (0.0, T), method=method.name, step=h, t_eval=times)
        truth = exact(times)
        assert run.n_steps == n
        ends.append(np.linalg.norm(run.end_to_end[-1] - truth[-1]))
        inside.append(np.linalg.norm(run.end_to_end[:-1] - truth[:-1], axis=(1, 2)).max())
    steps = T / np.array(STEPS[method.name])
    assert P.slope(steps, ends) > method.order - 0.3
    # The cubic is off by h^4 / 384 of the fourth derivative, an error of one step only.
    assert P.slope(steps, inside) > min(method.order, method.dense_order + 1) - 0.3


def test_velocities_are_counted():
    cost, weights, _, _ = PROBLEMS["modes"]()
    for method, s in ((RKC2, 2), (ROCK4, 5)):  # not stiff: every step takes the first rung
        run = dln.gradient_flow(cost, weights, (0.0, 0.2), method=method.name, rtol=1e-10, t_eval=[0.2])
        looks = run.n_steps // 10 + run.n_steps // 4
        assert s * run.n_steps < run.nfev <= s * (run.n_steps + run.stats["rejected"]) + looks + 2


@pytest.mark.parametrize(
    ("method", "law"), [(RKC2, 2 / 3), (ROCK4, 1.0)], ids=lambda x: getattr(x, "name", "")
)
def test_error_follows_the_tolerance(method, law):
    """As rtol^(order / error_exponent): ROCK4 propagates the better solution, RKC2 the one it estimates."""
    cost, weights, _ = P.named("P2")
    times = np.linspace(0.0, 120.0, 40)
    exact = dln.gradient_flow(cost, weights, (0.0, times[-1]), rtol=1e-12, t_eval=times).end_to_end
    tolerances = 10.0 ** -np.arange(4, 9)
    errors = []
    for rtol in tolerances:
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=method.name, rtol=rtol, t_eval=times)
        errors.append(P.error(run, exact) / np.linalg.norm(cost.target))
    assert P.slope(tolerances, errors) == pytest.approx(law, abs=0.2)
    assert (errors / tolerances**law).max() < 200


def stiff(stiffness):
    """A masked problem with one large mode, fitted at the start, and a small one that is learnt: radius ~ stiffness."""
    rng = np.random.default_rng(6)
    U, V = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    values = np.array([np.sqrt(stiffness), 1.0, 0.5, 0.0, 0.0, 0.0])
    mask = rng.random((6, 6)) < 0.8
    cost = dln.costs.MatrixCompletion((U * values) @ V.T, mask)
    start = np.sqrt([np.sqrt(stiffness), 0.3, 0.2, 0.1, 0.1, 0.1])
    return cost, [start[:, None] * V.T, U * start]


@BOTH
def test_agrees_with_dop853_on_a_stiff_masked_problem(method):
    cost, weights = stiff(1e4)
    times = np.linspace(0.0, 3.0, 12)
    exact = dln.gradient_flow(cost, weights, (0.0, 3.0), method="dop853", rtol=1e-11, t_eval=times)
    run = dln.gradient_flow(cost, weights, (0.0, 3.0), method=method.name, rtol=1e-6, t_eval=times)
    assert run.success
    assert P.error(run, exact.end_to_end) < 1e-5 * np.linalg.norm(cost.target)
    assert run.nfev < exact.nfev / 2
    assert (np.diff(run.cost) <= 1e-12 * run.cost[0]).all()


@BOTH
def test_velocities_grow_as_the_root_of_the_stiffness(method):
    stiffness, counts = 10.0 ** np.array([4, 5, 6]), []
    for value in stiffness:
        cost, weights = stiff(value)
        counts.append(
            dln.gradient_flow(cost, weights, (0.0, 3.0), method=method.name, rtol=1e-4, t_eval=[3.0]).nfev
        )
    assert P.slope(stiffness, counts) < 0.7


@BOTH
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_balance_is_conserved_and_the_objective_falls(method, weight_decay):
    rng = np.random.default_rng(5)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    weights = [0.5 * rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (4, 4))]
    run = dln.gradient_flow(cost, weights, (0.0, 3.0), weight_decay=weight_decay, method=method.name)
    for D in network.balances(run.weights):
        decayed = D[0] * np.exp(-2 * weight_decay * run.t)[:, None, None]
        assert np.abs(D - decayed).max() < 1e-7 * np.linalg.norm(P.flat(weights)) ** 2
    assert (np.diff(run.objective) <= 1e-12 * run.objective[0]).all()


def test_rounding_bounds_the_stages_at_tight_tolerances():
    """The rungs whose roundings would outgrow the tolerance are not used: a tight run stays tight."""
    growth = np.array([rung.growth for rung in ROCK4.rungs])
    assert growth[0] < 100
    assert growth[-1] > 1e10
    cost, weights = stiff(1e4)
    exact = dln.gradient_flow(cost, weights, (0.0, 1.0), method="dop853", rtol=1e-12, t_eval=[1.0])
    run = dln.gradient_flow(cost, weights, (0.0, 1.0), method="rock4", rtol=1e-10, t_eval=[1.0])
    assert P.error(run, exact.end_to_end) < 1e-8 * np.linalg.norm(cost.target)
