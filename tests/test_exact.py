"""Closed forms of matrices against the integrator, matrix exponentials, conserved quantities and each other."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import problems as P
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import dln
from dln import exact, network

TIGHT = 1e-12
EYE = np.eye(2)
COST = dln.costs.FullyObserved(EYE)
HALVES = [0.5 * EYE, 0.5 * EYE]
MASKED = dln.costs.MatrixCompletion(EYE, [[1, 1], [0, 1]])
DATA = dln.costs.SquareLoss([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], np.ones((2, 3)))


def largest(A, B):
    return float(np.abs(np.asarray(A) - np.asarray(B)).max())


def integrated(cost, weights, t, weight_decay=0.0, **options):
    options = {"rtol": TIGHT, "weight_decay": weight_decay, **options}
    return dln.gradient_flow(cost, weights, (0.0, t[-1]), t_eval=t, **options)


def assert_same(run, other, tol=1e-10):
    assert largest(run.end_to_end, other.end_to_end) < tol
    for W, V in zip(run.weights, other.weights, strict=True):
        assert largest(W, V) < tol


def aligned(widths, s, sizes, rng, repeat=False):
    """A target with singular values s, and layers that carry sizes[l, i] on mode i."""
    k = sizes.shape[1]
    bases = [np.linalg.qr(rng.standard_normal((n, n)))[0][:, :k] for n in widths]
    weights = [(b * w) @ a.T for w, a, b in zip(sizes, bases[:-1], bases[1:], strict=True)]
    return (bases[-1][:, : len(s)] * s) @ bases[0][:, : len(s)].T, weights


# One layer


@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
@pytest.mark.parametrize("kind", range(5))
def test_one_layer_is_an_exponential(kind, weight_decay):
    """vec(A)' = -(H + wd) vec(A) - g, by expm of the augmented matrix, for every quadratic cost."""
    rng = np.random.default_rng(kind)
    cost = P.random_costs(3, 4, rng)[kind]
    A = rng.standard_normal((3, 4))
    t = [0.0, 0.3, 2.0, 40.0]
    run = exact.linear(cost, [A], t, weight_decay=weight_decay)
    zero = np.zeros((3, 4))
    H = np.array([cost.hessian_vector(zero, E).ravel() for E in np.eye(12).reshape(12, 3, 4)])
    M = np.zeros((13, 13))
    M[:12, :12], M[:12, 12] = -H - weight_decay * np.eye(12), -cost.gradient(zero).ravel()
    for time, found in zip(t, run.end_to_end, strict=True):
        expected = (expm(M * time) @ np.append(A.ravel(), 1.0))[:12].reshape(3, 4)
        assert largest(found, expected) < 1e-11
    assert (
        largest(
            run.at(1.0),
            dln.gradient_flow(cost, [A], (0.0, 1.0), rtol=TIGHT, weight_decay=weight_decay).end_to_end[-1],
        )
        < 1e-10
    )


def test_one_layer_from_wide_and_from_few_samples():
    rng = np.random.default_rng(0)
    for samples in (2, 4, 9):
        cost = dln.costs.SquareLoss(rng.standard_normal((4, samples)), rng.standard_normal((2, samples)))
        A, t = rng.standard_normal((2, 4)), np.linspace(0.0, 5.0, 6)
        assert_same(exact.linear(cost, [A], t), integrated(cost, [A], t))


# Two layers


@pytest.mark.parametrize(
    ("widths", "kappa", "scale", "end", "rank"),
    [
        ((3, 2, 4), 0.7, 0.1, 8.0, None),
        ((4, 3, 2), -0.7, 0.1, 8.0, None),
        ((5, 5, 5), -1.0, 1e-4, 30.0, 2),
        ((5, 5, 5), 0.1, 1e-3, 50.0, 2),
        ((4, 1, 3), 0.0, 0.1, 30.0, None),
        ((4, 1, 3), 0.3, 0.1, 30.0, None),
        ((4, 1, 3), -2.0, 3.0, 30.0, 1),
        ((5, 2, 5), 0.0, 1e-3, 60.0, None),
        ((3, 40, 4), 0.0, 1e-3, 60.0, None),
        ((4, 2, 6), 0.5, 1e-6, 1e4, None),
        ((4, 3, 6), 0.5, 30.0, 10.0, None),
    ],
)
def test_riccati_is_the_flow(widths, kappa, scale, end, rank):
    rng = np.random.default_rng(3)
    target = rng.standard_normal((widths[2], widths[0]))
    if rank is not None:
        U, s, Vt = np.linalg.svd(target, full_matrices=False)
        target = (U[:, :rank] * s[:rank]) @ Vt[:rank]
    cost = 1.7 * dln.costs.FullyObserved(target)
    start = dln.inits.lambda_balanced(widths, kappa, scale=scale, rng=rng)
    t = np.append(0.0, np.geomspace(end / 200, end, 12))
    run, flow = exact.two_layer(cost, start, t), integrated(cost, start, t)
    assert_same(run, flow, tol=1e-10 * max(1.0, scale))
    D = network.balances([W[-1] for W in run.weights])[0]
    assert largest(D, kappa * np.eye(widths[1])) < 1e-12 * max(1.0, scale**2)
    assert largest(run.at(0.37 * end), flow.at(0.37 * end)) < 1e-9
    assert largest(run.weights_at(0.37 * end)[0], flow.weights_at(0.37 * end)[0]) < 1e-9


@pytest.mark.parametrize(
    ("widths", "kappa", "scale", "t"),
    [
        ((3, 2, 3), 0.0, 1e-3, 40.0),  # the width holds two of three modes
        ((4, 2, 4), 0.0, 1e-8, 80.0),
        ((3, 3, 4), 0.5, 1e-3, 30.0),
        ((3, 1, 3), 0.0, 1e-6, 80.0),
        ((3, 3, 3), 0.0, 1e-20, 60.0),
        ((3, 3, 3), -0.7, 10.0, 3.0),
    ],
)
def test_riccati_in_many_digits(widths, kappa, scale, t):
    """Its formula as it stands, with exponentials of any size."""
    n_0, w, n_L = widths
    rng = np.random.default_rng(2)
    target = rng.standard_normal((n_L, n_0))
    start = dln.inits.lambda_balanced(widths, kappa, scale=scale, rng=rng)
    kappa = float(np.trace(start[1].T @ start[1] - start[0] @ start[0].T)) / w
    run = exact.two_layer(dln.costs.FullyObserved(target), start, [t / 9, t])
    for time, found in zip(run.t, run.end_to_end, strict=True):
        with mp.workdps(60 + int(8 * t)):
            half = kappa / 2
            F = np.block([[-half * np.eye(n_0), target.T], [target, half * np.eye(n_L)]])
            f, V = mp.eigsy(mp.matrix(F.tolist()))
            X = V.T * mp.matrix(np.vstack([start[0].T, start[1]]).tolist())
            phi = mp.diag([mp.expm1(2 * e * time) / (2 * e) for e in f])
            Y = V * mp.diag([mp.exp(e * time) for e in f]) * X
            M = Y * mp.inverse(mp.eye(w) + X.T * phi * X) * Y.T
            expected = np.array(M.tolist(), dtype=float)[n_0:, :n_0]
        assert largest(found, expected) < 1e-14 * max(np.abs(expected).max(), scale**2 * 1e-2)


def test_riccati_solves_its_equation():
    """M' = FM + MF - M^2 by central differences, at a size that no other code path sees."""
    rng = np.random.default_rng(5)
    target, kappa, h = rng.standard_normal((3, 4)), 0.6, 1e-4
    start = dln.inits.lambda_balanced((4, 3, 3), kappa, scale=0.5, rng=rng)
    run = exact.two_layer(dln.costs.FullyObserved(target), start, 0.8 + h * np.arange(-2, 3))
    Q = np.concatenate([np.swapaxes(run.weights[0], 1, 2), run.weights[1]], axis=1)
    M = Q @ np.swapaxes(Q, 1, 2)
    F = np.block([[-kappa / 2 * np.eye(4), target.T], [target, kappa / 2 * np.eye(3)]])
    slope = (M[0] - 8 * M[1] + 8 * M[3] - M[4]) / (12 * h)
    assert largest(slope, F @ M[2] + M[2] @ F - M[2] @ M[2]) < 1e-10


@pytest.mark.parametrize("weight_decay", [0.3, 1.0, 3.0])
def test_riccati_with_weight_decay(weight_decay):
    rng = np.random.default_rng(1)
    cost = 2.0 * dln.costs.FullyObserved(P.target(4, (2.0, 1.0, 0.5), rng))
    start = dln.inits.lambda_balanced((4, 5, 4), 0.0, scale=0.5, rng=rng)
    t = np.linspace(0.0, 40.0, 9)
    run = exact.two_layer(cost, start, t, weight_decay=weight_decay)
    assert_same(run, integrated(cost, start, t, weight_decay))
    shrunk = np.maximum(np.array([2.0, 1.0, 0.5, 0.0]) - weight_decay / 2, 0.0)  # soft threshold
    if weight_decay != 1.0:  # there the third mode dies like 1/t
        assert largest(run.singular_values[-1], shrunk) < 1e-5


def test_whitened_data_are_full_observation():
    rng = np.random.default_rng(2)
    X = 3.0 * np.linalg.qr(rng.standard_normal((12, 4)))[0].T
    Y = rng.standard_normal((3, 12))
    cost, t = 2.0 * dln.costs.SquareLoss(X, Y), np.linspace(0.0, 6.0, 5)
    start = dln.inits.lambda_balanced((4, 3, 3), 0.2, scale=0.3, rng=rng)
    assert_same(exact.two_layer(cost, start, t), integrated(cost, start, t))


def test_no_time_is_too_late_and_no_start_too_small():
    """Modes of which the width holds only two; saturation after thousands of decades of growth."""
    s = np.array([3.0, 2.0, 1.999, 1.0])
    cost = dln.costs.FullyObserved(np.diag(s))
    start = dln.inits.lambda_balanced((4, 2, 4), 0.0, scale=1e-70, rng=0)
    run = exact.two_layer(cost, start, [1.0, 1e3, 3e4, 1e5])
    assert largest(run.end_to_end[-1], np.diag([3.0, 2.0, 0.0, 0.0])) < 1e-12
    third = exact.two_layer(cost, start, [3e3]).end_to_end[0]  # modes 2 and 3 compete at rates 2 and 1.999
    assert np.abs(third[2, :3]).max() > 1e-4
    one = exact.two_layer(cost, [np.full((1, 4), 1e-200), np.full((4, 1), 1e-200)], [0.0, 100.0, 1e5])
    assert one.weights[0][1, 0] == pytest.approx(1e-200 * np.exp(100.0 * s), rel=1e-12, abs=0)
    assert largest(one.end_to_end[-1], np.diag([3.0, 0.0, 0.0, 0.0])) < 1e-12
    zero = exact.two_layer(cost, [np.zeros((2, 4)), np.zeros((4, 2))], [0.0, 1e3])
    assert not zero.end_to_end.any()


def test_rank_of_the_start_is_kept():
    rng = np.random.default_rng(4)
    U, V = (np.linalg.qr(rng.standard_normal((4, 2)))[0] for _ in range(2))
    start = dln.inits.balanced(1e-3 * U @ V.T, 2, widths=(4, 4, 4), rng=rng)
    run = exact.two_layer(dln.costs.FullyObserved(P.target(4, (3.0, 2.0, 1.0), rng)), start, [0.0, 15.0])
    assert run.singular_values[-1, 2] < 1e-8


def test_twin_neurons_stay_twins():
    """Rows that depend on each other must not part by rounding, however long it grows."""
    start = [np.array([[0.001, 0.0007]] * 2), np.array([[0.001, 0.001], [0.0007, 0.0007]])]
    run = exact.two_layer(dln.costs.FullyObserved([[2.0, 0.3], [0.1, 1.5]]), start, [0.0, 5.0, 80.0])
    assert (run.singular_values[:, 1] < 1e-12).all()


def test_two_layers_one_after_the_other():
    rng = np.random.default_rng(6)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    start = dln.inits.lambda_balanced((3, 2, 4), 0.4, scale=1e-2, rng=rng)
    first = exact.two_layer(cost, start, [2.5])
    second = exact.two_layer(cost, [W[0] for W in first.weights], [4.0])
    assert_same(second, exact.two_layer(cost, start, [6.5]), tol=1e-11)


# The Gram equation


@pytest.mark.parametrize("kind", range(6))
def test_gram_solves_its_equation_whatever_the_cost_and_width(kind):
    """M' = KM + MK - 2 wd M, integrated in M itself by an independent code."""
    rng = np.random.default_rng(kind)
    cost, (n_0, n_L), t = P.random_costs(3, 4, rng)[kind], (4, 3), np.array([0.0, 0.7, 2.0])
    start = [0.4 * W for W in P.small_start((n_0, 11, n_L), 1.0, rng)]

    def velocity(_, m, weight_decay):
        M = m.reshape(7, 7)
        G = cost.gradient(M[n_0:, :n_0])
        K = np.block([[np.zeros((n_0, n_0)), -G.T], [-G, np.zeros((n_L, n_L))]])
        return (K @ M + M @ K - 2 * weight_decay * M).ravel()

    def gram(weights):
        Q = np.concatenate([np.swapaxes(weights[0], -1, -2), weights[1]], axis=-2)
        return Q @ np.swapaxes(Q, -1, -2)

    for weight_decay in (0.0, 0.1):
        options = {"rtol": 1e-12, "atol": 1e-14, "args": (weight_decay,)}
        M = solve_ivp(velocity, (0, 2.0), gram(start).ravel(), "DOP853", t, **options).y.T.reshape(3, 7, 7)
        run, flow = (
            exact.gram(cost, start, t, weight_decay=weight_decay),
            integrated(cost, start, t, weight_decay),
        )
        assert largest(gram(run.weights), M) < 1e-10
        assert_same(run, flow)
        assert largest(run.weights_at(1.1)[0], flow.weights_at(1.1)[0]) < 1e-10
        assert run.state_size == 49
        assert run.form == "gram"


# Modes


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_balanced_modes_are_the_flow(depth):
    rng = np.random.default_rng(depth)
    widths = (5, *[6] * (depth - 1), 4)
    for s, u in (
        ([2.0, 1.0, 0.5, 0.25], [0.3, 0.4, 0.5, 0.6]),
        ([1.0, 1.0, 1.0, 0.5], [0.3, 0.4, 0.5, 1.4]),  # equal singular values, overshoot
        ([2.0, 1.0], [0.3, 0.4, 0.5, 0.6]),  # modes that the target lacks die
        ([2.0, 1.0, 0.5, 0.25], [0.3, 0.4, 0.5, 0.0]),  # a mode that the start lacks
    ):
        target, start = aligned(widths, np.array(s), np.tile(u, (depth, 1)), rng)
        cost, t = 1.3 * dln.costs.FullyObserved(target), np.linspace(0.0, 12.0, 7)
        run, flow = exact.modes(cost, start, t), integrated(cost, start, t, method="radau13")
        assert_same(run, flow, tol=2e-11)
        assert largest(run.at(5.5), flow.at(5.5)) < 2e-11
        assert run.balancedness().max() < 1e-14


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_unbalanced_modes(depth):
    rng = np.random.default_rng(0)
    sizes = np.array([[0.1, 0.5, 0.41, 0.1], [0.5, 0.1, 0.4, -2.0], *[[0.4, 0.4, 0.42, 0.3]] * (depth - 2)])
    for s in ([2.0, 1.0, 0.5, 0.3], [1.0, 1.0, 0.5, 0.5], [2.0, 1.0]):
        target, start = aligned((4, *[5] * (depth - 1), 4), np.array(s), sizes, rng)
        cost, t = dln.costs.FullyObserved(target), np.append(0.0, np.geomspace(1e-3, 60.0, 9))
        assert_same(exact.modes(cost, start, t), integrated(cost, start, t, method="radau13"))


def test_modes_with_layers_that_are_zero_on_them():
    """One zero layer: the mode grows from it. Two: it stands still, in whatever bases."""
    sizes = np.array([[0.3, 0.0, 0.0, 0.4], [0.4, 0.5, 0.0, 0.0], [0.5, 0.6, 0.7, 0.3]])
    start, target = [np.diag(w) for w in sizes], np.diag([2.0, 1.0, 0.5, 0.3])
    cost, t = dln.costs.FullyObserved(target), np.linspace(0.0, 20.0, 5)
    run = exact.modes(cost, start, t)
    assert_same(run, integrated(cost, start, t, method="radau13"))
    assert np.array_equal(run.weights[2][:, 2, 2], np.full(5, 0.7))
    assert run.end_to_end[-1, 1, 1] > 0.9


def test_a_layer_that_is_zero_on_a_mode_but_for_rounding():
    rng = np.random.default_rng(0)
    sizes = np.array([[1.5, -0.8], [-0.5, 0.7], [0.7, 0.0], [0.2, 0.3], [-0.1, 0.2]])
    target, start = aligned((3, 5, 3, 3, 4, 2), np.array([1.2, 0.2]), sizes, rng)
    cost, t = dln.costs.FullyObserved(target), np.array([0.0, 2.0, 5.0])
    assert_same(exact.modes(cost, start, t), integrated(cost, start, t, method="radau13"))


def test_modes_whose_product_underflows():
    start = [1e-120 * EYE] * 3
    run = exact.modes(COST, start, [0.0, 5e119])  # u(t) = u_0 / (1 - s u_0 t)
    assert run.weights[1][-1] == pytest.approx(2e-120 * EYE, rel=1e-12, abs=0)
    start = [-1e-170 * EYE, 1e-170 * EYE]
    for s in (2.0, -2.0):  # u = u_0 exp((s - wd) t) with the sign of the product
        run = exact.modes(dln.costs.FullyObserved(-s * EYE), start, 90.0, weight_decay=0.5)
        assert run.weights[1][0] == pytest.approx(1e-170 * np.exp((s - 0.5) * 90.0) * EYE, rel=1e-11, abs=0)


def test_modes_of_very_different_sizes_in_any_bases():
    rng = np.random.default_rng(9)
    s, u = np.array([2.0, 1.0, 0.5, 0.25]), np.tile([1e-3, 1.0, 1e-4, 1e-2], (3, 1))
    target, start = aligned((5, 6, 6, 4), s, u, rng)
    run = exact.modes(dln.costs.FullyObserved(target), start, [0.0, 400.0])
    expected = exact.mode(400.0, u[0] ** 3, s, 3)
    assert np.allclose(run.singular_values[-1], np.sort(expected)[::-1], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("weight_decay", [0.2, 1.0, 1.5])
def test_modes_with_weight_decay(weight_decay):
    rng = np.random.default_rng(7)
    sizes = np.array([[0.3, 0.4, -0.5], [0.3, 0.4, 0.5]])
    target, start = aligned((4, 6, 3), np.array([2.0, 1.0, 0.7]), sizes, rng)
    start[0] = start[0] + 0.5 * np.outer(
        *(np.linalg.svd(W)[i][j] for W, i, j in ((start[1], 2, 4), (target, 2, 3)))
    )
    cost, t = 1.3 * dln.costs.FullyObserved(target), np.linspace(0.0, 6.0, 7)
    assert_same(
        exact.modes(cost, start, t, weight_decay=weight_decay), integrated(cost, start, t, weight_decay)
    )


def test_riccati_and_modes_agree_where_both_hold():
    rng = np.random.default_rng(8)
    target, start = aligned((4, 3, 5), np.array([2.0, 1.0, 0.5]), np.tile([1e-9, 1e-6, 1e-3], (2, 1)), rng)
    cost, t = dln.costs.FullyObserved(target), np.linspace(0.0, 80.0, 9)
    one, other = exact.modes(cost, start, t), exact.two_layer(cost, start, t)
    assert largest(one.end_to_end, other.end_to_end) < 1e-9  # 1e-16/1e-9 of the slowest start is rounding


# Trajectories


def runs():
    target = np.diag([4.0, 2.0, 1.0])
    cost = dln.costs.FullyObserved(target)
    t = {2: np.linspace(0.0, 60.0, 4), 3: np.linspace(0.0, 800.0, 3)}
    yield exact.modes(cost, dln.inits.aligned(target, 3, scale=1e-6), t[3]), [0, 1, 2, 3]
    yield exact.two_layer(cost, dln.inits.lambda_balanced((3, 2, 3), 0.0, scale=1e-8, rng=0), t[2]), [0, 1, 2]
    yield exact.gram(cost, dln.inits.lambda_balanced((3, 2, 3), 0.0, scale=1e-8, rng=0), t[2]), [0, 1, 2]


def test_saddles_are_found_between_few_saved_times():
    for run, ranks in runs():
        flow = dln.gradient_flow(run.cost_function, run.start, (0.0, run.t[-1]), rtol=1e-9)
        found, expected = dln.find_saddles(run), dln.find_saddles(flow)
        assert [saddle.rank for saddle in found] == ranks == [saddle.rank for saddle in expected]
        for saddle, other in zip(found, expected, strict=True):
            assert saddle.kind == other.kind
            assert saddle.start == pytest.approx(other.start, rel=1e-3)
            assert saddle.stop == pytest.approx(other.stop, rel=1e-3)
            assert saddle.cost == pytest.approx(other.cost, abs=1e-4)


@pytest.mark.parametrize(("depth", "scale", "end"), [(2, 1e-200, 1000.0), (3, 1e-30, 2e10), (4, 1e-12, 1e7)])
def test_saddles_of_starts_that_no_integrator_follows(depth, scale, end):
    """Each plateau ends when its mode has made 5 % of the drop; the last residual is rounding."""
    s = np.array([4.0, 2.0, 1.0])
    run = exact.modes(
        dln.costs.FullyObserved(np.diag(s)), dln.inits.aligned(np.diag(s), depth, scale=scale), end
    )
    found = dln.find_saddles(run)
    assert [saddle.rank for saddle in found] == [0, 1, 2, 3]
    for saddle, r in zip(found[:-1], s, strict=True):
        left = r - r * np.sqrt(0.95)  # 1/2 (s - a)^2 has lost 5 %
        assert saddle.stop == pytest.approx(exact.mode_time(left, scale, r, depth), rel=1e-2)
        assert saddle.escape_speed == pytest.approx(depth ** (-(depth - 2) / 2) * r)
        assert saddle.cost == pytest.approx(0.5 * np.sum(s[s <= r] ** 2))


def test_plot_and_record():
    run = next(iter(runs()))[0]
    axes = run.plot()
    assert len(axes.lines) == 3
    assert run.success
    assert run.form_error == 0.0
    assert run.method == "modes"
    assert "800" in repr(run)
    with pytest.raises(ValueError, match="must lie in"):
        run.at(801.0)
    one = exact.modes(run.cost_function, run.start, 3.0)
    assert one.end_to_end.shape == (1, 3, 3)
    assert largest(one.end_to_end[0], run.at(3.0)) == 0.0


def test_layers_are_kept_as_far_as_there_is_room(monkeypatch):
    """Without them everything else is there all the same, and they themselves at any time."""
    start = dln.inits.balanced(1e-7 * np.array([[2.0, 1.0], [0.5, 1.0]]), 2, widths=(2, 30, 2), rng=0)
    wide = dln.inits.aligned(np.diag([2.0, 1.0]), 3, scale=1e-6, widths=(2, 30, 30, 2))
    cost, t = dln.costs.FullyObserved(np.diag([2.0, 1.0])), np.linspace(0.0, 200.0, 11)
    for law, weights in ((exact.two_layer, start), (exact.gram, start), (exact.modes, wide)):
        monkeypatch.undo()
        kept = law(cost, weights, t)
        monkeypatch.setattr("dln.exact.path.KEEP_BYTES", 5 * 8 * sum(W.size for W in weights))
        bare = law(cost, weights, t)
        assert bare.weights is None
        for quantity in ("end_to_end", "cost", "objective", "gradient_norm"):
            assert largest(getattr(bare, quantity), getattr(kept, quantity)) < 1e-12
        assert largest(bare.weights_at(t)[0], kept.weights[0]) < 1e-10
        ranks = [[saddle.rank for saddle in dln.find_saddles(run)] for run in (bare, kept)]
        assert ranks == [[0, 1, 2]] * 2


def test_a_balanced_start_of_the_wrong_determinant_never_leaves_the_saddle():
    """The sign of det A is conserved; in float64 an integrator leaves it by its rounding."""
    cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
    start = dln.inits.balanced(1e-7 * np.array([[2.0, 1.0], [0.5, -1.0]]), 2, rng=0)
    run = exact.two_layer(cost, start, [0.0, 20.0, 30.0])
    assert (np.linalg.det(run.end_to_end[:2]) < 0).all()
    assert (run.singular_values[1:, 1] < 1e-9).all()
    found = dln.find_saddles(run)
    assert [(saddle.rank, saddle.kind) for saddle in found] == [(0, "saddle"), (1, "saddle")]


def test_saved_and_loaded_it_is_still_exact(tmp_path):
    rng = np.random.default_rng(0)
    cost, t = dln.costs.FullyObserved(np.diag([2.0, 1.0])), [0.0, 9.0]
    data = dln.costs.SquareLoss(rng.standard_normal((2, 5)), rng.standard_normal((2, 5)))
    balanced = dln.inits.lambda_balanced((2, 2, 2), 0.3, scale=0.1, rng=rng)
    for run in (
        exact.linear(data, [np.eye(2)], t, weight_decay=0.1),
        exact.two_layer(cost, balanced, t),
        exact.modes(cost, dln.inits.aligned(cost.target, 3, scale=0.01), t),
        exact.gram(cost, dln.inits.gaussian((2, 9, 2), std=0.1, rng=0), t),
        exact.origin(-np.diag([2.0, 1.0]), balanced, t),
    ):
        run.save(tmp_path / "run")
        custom = run.cost_function if isinstance(run.cost_function, dln.costs.Custom) else None
        loaded = dln.Trajectory.load(tmp_path / "run.npz", cost=custom)
        assert (
            largest(loaded.at(4.0) / np.abs(run.at(4.0)).max(), run.at(4.0) / np.abs(run.at(4.0)).max())
            < 1e-11
        )
        assert loaded.form == run.form


# The flow at the origin


def escaping(G, start, t):
    """The homogeneous flow by a general integrator, layers at times t."""
    ends = np.cumsum([W.size for W in start])[:-1]
    parts = lambda y: [p.reshape(W.shape) for p, W in zip(np.split(y, ends), start, strict=True)]  # noqa: E731
    velocity = lambda _, y: -np.concatenate([g.ravel() for g in network.layer_gradients(parts(y), G)])  # noqa: E731
    y_0 = np.concatenate([W.ravel() for W in start])
    states = solve_ivp(velocity, (0.0, t[-1]), y_0, "DOP853", t, rtol=1e-12, atol=1e-15).y.T
    return [np.array(W) for W in zip(*map(parts, states), strict=True)]


def test_two_layers_leave_the_origin_exponentially():
    rng = np.random.default_rng(1)
    G = rng.standard_normal((3, 4))
    start = [rng.standard_normal((5, 4)), rng.standard_normal((3, 5))]
    t = [0.0, 1e-9, 0.5, 3.0]
    run = exact.origin(G, start, t)
    K = np.block([[np.zeros((4, 4)), -G.T], [-G, np.zeros((3, 3))]])
    for i, time in enumerate(t):
        Q = expm(K * time) @ np.vstack([start[0].T, start[1]])
        assert largest(run.weights[0][i], Q[:4].T) < 1e-12 * np.abs(Q).max()
        assert largest(run.weights[1][i], Q[4:]) < 1e-12 * np.abs(Q).max()
    assert largest(run.weights[0][1] - start[0], -1e-9 * start[1].T @ G) < 1e-15
    assert largest(exact.origin(G, [G], [2.0]).end_to_end[0], -G) < 1e-15


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_aligned_modes_leave_the_origin(depth):
    rng = np.random.default_rng(depth)
    sizes = np.array([[0.2, -0.1, 0.3], *[[0.2, 0.3, 0.4]] * (depth - 2), [0.2, 0.5, 0.0]])
    target, start = aligned((4, *[5] * (depth - 1), 3), np.array([2.0, 1.0, 0.5]), sizes, rng)
    end = min(exact.blow_up_time(w, s) for w, s in zip(sizes.T, [2.0, 1.0, 0.5], strict=True))
    t = end * np.array([0.0, 0.3, 0.7, 0.95])
    run = exact.origin(-target, start, t)
    for W, V in zip(run.weights, escaping(-target, start, t), strict=True):
        assert largest(W, V) < 1e-9 * np.abs(V).max()
    ray = aligned((2, *[2] * (depth - 1), 2), np.array([2.0]), np.full((depth, 1), 0.2), rng)
    run = exact.origin(-ray[0], ray[1], t)
    c = (0.2 ** (2 - depth) - (depth - 2) * 2.0 * t) ** (-1 / (depth - 2))  # c' = s c^(L-1)
    assert np.allclose(np.linalg.norm(run.weights[0], 2, axis=(1, 2)), c, rtol=1e-12)


def test_three_weights_leave_the_origin_as_jacobi_functions():
    for w, s in (
        ([0.1, 0.2, 0.3], 2.0),
        ([-0.1, 0.2, 0.3], 2.0),
        ([-0.01, 1e-5, 3.0], 1.0),
        ([0.0, 1.0, 1e3], 0.7),
    ):
        least, *_ = sorted(w, key=abs)
        others = sorted(abs(x) for x in w if x != least)
        least = least if np.prod(w) != 0 else 0.0
        if np.prod(np.delete(w, int(np.argmin(np.abs(w))))) < 0:
            least = -least
        with mp.workdps(30):
            d_2, d_3 = (mp.mpf(x) ** 2 - mp.mpf(least) ** 2 for x in others)
            m = 1 - d_2 / d_3
            z_0 = mp.ellipf(mp.atan(least / mp.sqrt(d_2)), m)
            T = (mp.ellipk(m) - z_0) / (mp.sqrt(d_3) * s)
            for share in (0.1, 0.6, 0.99):
                z = mp.sqrt(d_3) * s * mp.mpf(float(share * T)) + z_0
                sc, nc = mp.ellipfun("sc", z, m=m), mp.ellipfun("nc", z, m=m)
                expected = [mp.sqrt(d_2) * sc, mp.sqrt(d_2) * nc, mp.sqrt(d_3) * mp.ellipfun("dc", z, m=m)]
                run = exact.origin([[-s]], [[[x]] for x in w], [float(share * T)])
                found = sorted(abs(float(W[0, 0, 0])) for W in run.weights)
                assert np.allclose(found, sorted(abs(float(x)) for x in expected), rtol=1e-12, atol=0)


def test_the_flow_at_the_origin_ends():
    start = [[[0.1]], [[0.1]], [[0.1]]]
    with pytest.raises(ValueError, match="`t` must be before the end of the flow at 5, got 6"):
        exact.origin([[-2.0]], start, 6.0)
    with pytest.raises(ValueError, match="`t` must be before the end"):
        exact.origin([[-2.0]], start[:2], 200.0)
    with pytest.raises(ValueError, match="`gradient` must have shape"):
        exact.origin([[-2.0, 1.0]], start, 1.0)
    with pytest.raises(ValueError, match="`weights` must be diagonal"):
        exact.origin(-EYE, [[[1.0, 2.0], [0.0, 1.0]], EYE, EYE], 0.1)
    with pytest.raises(ValueError, match="must have a positive objective"):
        dln.find_saddles(exact.origin([[-2.0]], start, [0.0, 1.0, 2.0]))
    assert exact.origin(np.zeros((2, 2)), HALVES, [0.0, 1e6]).end_to_end[-1].tolist() == [
        [0.25, 0.0],
        [0.0, 0.25],
    ]


# Refusals


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: exact.linear(COST, HALVES, 1.0), "`weights` must be one layer, got 2"),
        (lambda: exact.linear(dln.costs.CrossEntropy(EYE, [0, 1]), [EYE], 1.0), "`cost` must be quadratic"),
        (lambda: exact.two_layer(COST, [EYE], 1.0), "`weights` must be two layers, got 1"),
        (lambda: exact.two_layer(MASKED, HALVES, 1.0), "`cost` must be FullyObserved"),
        (lambda: exact.two_layer(DATA, HALVES, 1.0), "dln.gradient_flow"),
        (
            lambda: exact.two_layer(COST, [[[1.0, 0.0], [0.0, 0.5]], EYE], 1.0),
            "`weights` must have W_2^T W_2",
        ),
        (lambda: exact.two_layer(COST, [0.5 * EYE, EYE], 1.0, weight_decay=0.1), "`weight_decay` must be 0"),
        (lambda: exact.gram(COST, [EYE], 1.0), "`weights` must be two layers"),
        (lambda: exact.modes(COST, [[[1.0, 2.0], [0.0, 1.0]], EYE], 1.0), "`weights` must be diagonal"),
        (  # orthogonal as far as modes go, but what is left over moves
            lambda: exact.modes(COST, [[[1.0, 1.0], [0.0, 0.0]], 0 * EYE, [[0.0, 0.0], [1.0, 0.0]]], 1.0),
            "`weights` must be diagonal",
        ),
        (lambda: exact.modes(COST, [EYE, EYE, EYE], 1.0, weight_decay=0.1), "`weight_decay` must be 0"),
        (lambda: exact.modes(MASKED, HALVES, 1.0), "`cost` must be FullyObserved"),
        (lambda: exact.modes(COST, HALVES, [1.0, 0.5]), "`t` must increase strictly from 0 on"),
        (lambda: exact.modes(COST, HALVES, -1.0), "`t` must increase strictly from 0 on"),
        (lambda: exact.modes(COST, HALVES, [[1.0]]), "`t` must have one axis"),
        (lambda: exact.modes(COST, HALVES, np.inf), "`t` must be finite"),
        (
            lambda: exact.modes(COST, HALVES, 1.0, weight_decay=-1.0),
            "`weight_decay` must be zero or positive",
        ),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=r"(?s)must .+\. [A-Z]") as caught:
        call()
    assert says in str(caught.value)
