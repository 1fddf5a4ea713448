"""Gradient flow by its laws: order, tolerance, closed forms, conservation, dissipation, equivariance, ends."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import method as methods
from dln import network

ADAPTIVE = [name for name, tableau in methods.ALL.items() if tableau.adaptive]
LOW_ORDER = {name for name in ADAPTIVE if methods.ALL[name].order < 5}  # not for tight tolerances
# Numbers of steps on which the error is asymptotic and still above rounding.
STEPS = {
    "euler": {"scalar": (500, 1000, 2000), "modes": (500, 1000, 2000), "matrix": (500, 1000, 2000)},
    "rk4": {"scalar": (60, 90, 135), "modes": (80, 160, 320), "matrix": (80, 160, 320)},
    "bs3": {"scalar": (100, 200, 400), "modes": (100, 200, 400), "matrix": (50, 100, 200)},
    "tsit5": {"scalar": (40, 60, 90), "modes": (160, 240, 360), "matrix": (80, 120, 180)},
    "dopri5": {"scalar": (40, 60, 90), "modes": (160, 240, 360), "matrix": (80, 120, 180)},
    "dop853": {"scalar": (12, 16, 20), "modes": (24, 30, 38), "matrix": (16, 24, 32)},
    "gauss4": {"scalar": (20, 40, 80), "modes": (30, 60, 120), "matrix": (20, 40, 80)},
    "gauss6": {"scalar": (10, 20, 40), "modes": (15, 30, 60), "matrix": (10, 20, 40)},
    "gauss12": {"scalar": (4, 5, 6), "modes": (8, 10, 12), "matrix": (3, 4, 5)},
    "radau5": {"scalar": (10, 20, 40), "modes": (15, 30, 60), "matrix": (10, 20, 40)},
    "radau9": {"scalar": (5, 7, 10), "modes": (8, 12, 16), "matrix": (7, 10, 12)},
    "rodas4": {"scalar": (40, 60, 90), "modes": (120, 180, 270), "matrix": (40, 60, 90)},
    "rodas5p": {"scalar": (20, 30, 45), "modes": (60, 90, 135), "matrix": (30, 45, 68)},
    "exprb53s3": {"scalar": (20, 30, 45), "modes": (60, 90, 135), "matrix": (20, 30, 45)},
    "rkc2": {"scalar": (100, 200, 400), "modes": (200, 400, 800), "matrix": (50, 100, 200)},
    "rock4": {"scalar": (40, 60, 90), "modes": (120, 180, 270), "matrix": (40, 60, 90)},
    "radau13": {"scalar": (2, 3, 4), "modes": (6, 7, 8), "matrix": (3, 4, 5)},
}

FINER = {
    "gauss12": 4,
    "radau9": 4,
    "radau13": 6,
}  # times as many steps to see the lower order between the ends


def scalar_problem():
    """Width 1, depth 2, balanced: a = s / (1 + (s/a0 - 1) exp(-2 s t))."""
    cost, s, u = dln.costs.FullyObserved([[1.5]]), 1.5, 0.4
    return cost, [[[u]], [[u]]], 2.0, lambda t: (s / (1 + (s / u**2 - 1) * np.exp(-2 * s * t)))[:, None, None]


def modes_problem():
    """Depth 3, three aligned modes (closed form of each)."""
    rng = np.random.default_rng(3)
    s, a0 = np.array([2.0, 1.4, 0.8]), 0.05
    U, V = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    cost = dln.costs.FullyObserved(U @ np.diag(s) @ V.T)

    def exact(t):
        values = np.array([[P.mode_value(x, a0, si) if x > 0 else a0 for si in s] for x in t])
        return np.einsum("ij,tj,kj->tik", U, values, V)

    return cost, dln.inits.aligned(cost.target, 3, scale=a0), 3.0, exact


def matrix_problem():
    """Depth 3, rectangular, masked: against SciPy at 3e-14."""
    rng = np.random.default_rng(4)
    cost = dln.costs.MatrixCompletion(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.7)
    weights = [0.5 * rng.standard_normal(shape) for shape in ((4, 4), (5, 4), (3, 5))]
    return cost, weights, 0.5, lambda t: P.reference(cost, weights, t)


PROBLEMS = {"scalar": scalar_problem, "modes": modes_problem, "matrix": matrix_problem}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("method", methods.ALL)
def test_order_at_the_ends_of_steps_and_between(method, problem):
    order, dense_order = methods.ALL[method].order, methods.ALL[method].dense_order
    cost, weights, T, exact = PROBLEMS[problem]()
    numbers = np.array(STEPS[method][problem])
    ends, inside = [], []
    for n in (*numbers, *(FINER.get(method, 1) * numbers)):
        h = T / n
        # between steps, and the end of the last
        times = np.array([*((np.arange(0, n, max(1, n // 50)) + 0.37) * h), T])
        run = dln.gradient_flow(cost, weights, (0.0, T), method=method, step=h, rtol=1e-13, t_eval=times)
        truth = exact(times)
        assert run.n_steps == n
        ends.append(np.linalg.norm(run.end_to_end[-1] - truth[-1]))
        inside.append(np.linalg.norm(run.end_to_end[:-1] - truth[:-1], axis=(1, 2)).max())
    # Orders above 8 meet rounding before they show; `test_collocation` verifies them by algebra.
    assert P.slope(1 / numbers, ends[:3]) > min(order, 8) - 0.2
    assert P.slope(1 / numbers, inside[3:]) > dense_order - 0.2


TOLERANCES = 10.0 ** -np.arange(4, 12)


@pytest.fixture(scope="module", params=P.NAMED)
def watched(request):
    """A named problem with 64 times, half uniform, half equally spaced in arc length, and a tight run on them."""
    cost, weights, share = P.named(request.param)
    first = cost.value(network.end_to_end(weights))
    tight = dln.gradient_flow(cost, weights, (0.0, np.inf), rtol=1e-13, until=dln.Until(cost=share * first))
    moved = np.linalg.norm(np.diff(tight.end_to_end, axis=0), axis=(1, 2))
    arc, T = np.r_[0.0, np.cumsum(moved)], tight.t[-1]
    times = np.unique(np.r_[np.linspace(0, T, 32), np.interp(np.linspace(0, arc[-1], 32), arc, tight.t)])
    exact = dln.gradient_flow(cost, weights, (0.0, T), rtol=1e-13, t_eval=times)
    assert exact.success
    return cost, weights, times, exact.end_to_end


@pytest.mark.parametrize("method", ["auto", "dop853", "tsit5"])
def test_error_is_proportional_to_the_tolerance(watched, method):
    cost, weights, times, exact = watched
    size = np.linalg.norm(cost.target)
    errors = []
    for rtol in TOLERANCES:
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=method, rtol=rtol, t_eval=times)
        errors.append(P.error(run, exact) / size)
    ratio = errors / TOLERANCES
    if method != "auto":  # which changes methods, and is better than asked for at loose tolerances
        assert 0.9 < P.slope(TOLERANCES, errors) < 1.3
    assert ratio.min() > 1 / 200
    assert ratio.max() < 200


@pytest.mark.parametrize("watched", ["P1", "P2"], indirect=True)
def test_reference_agrees_with_another_code(watched):
    cost, weights, times, exact = watched
    few = times[np.linspace(0, len(times) - 1, 8).astype(int)]
    independent = P.reference(cost, weights, few, rtol=1e-12)
    assert np.linalg.norm(independent - exact[np.isin(times, few)], axis=(1, 2)).max() < 1e-8


def test_defaults_are_right(watched):
    cost, weights, times, exact = watched
    run = dln.gradient_flow(cost, weights, (0.0, times[-1]))
    fine = dln.gradient_flow(cost, weights, (0.0, times[-1]), rtol=1e-12)
    size = np.linalg.norm(cost.target)
    assert np.linalg.norm(run.at(times) - exact, axis=(1, 2)).max() / size < 1e-2
    for mode in range(3 if len(exact[0]) > 5 else 2):
        final = fine.singular_values[-1, mode]
        half = [np.interp(0.5 * final, r.singular_values[:, mode], r.t) for r in (run, fine)]
        exact_half = _refined_crossing(fine, mode, 0.5 * final, half[1])
        assert abs(_refined_crossing(run, mode, 0.5 * final, half[0]) / exact_half - 1) < 1e-4
    for D, below, above in zip(network.balances(run.weights), run.weights[:-1], run.weights[1:], strict=True):
        drift = np.linalg.norm(D - D[0], axis=(1, 2))
        assert (drift / (np.sum(below**2, axis=(1, 2)) + np.sum(above**2, axis=(1, 2)))).max() < 10 * 1e-8
    assert (np.diff(run.cost) <= 1e-14 * run.cost[0]).all()


def _refined_crossing(run, mode, level, guess):
    lower, upper = max(guess * 0.98, 0.0), min(guess * 1.02, run.t[-1])
    for _ in range(6):
        t = np.linspace(lower, upper, 9)
        s = np.linalg.svd(run.at(t), compute_uv=False)[:, mode]
        i = int(np.clip(np.searchsorted(s, level), 1, 8))
        lower, upper = t[i - 1], t[i]
    return 0.5 * (lower + upper)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_balance_is_conserved_and_decays_under_weight_decay(method):
    rng = np.random.default_rng(5)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    weights = [0.5 * rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (4, 4))]
    for weight_decay in (0.0, 0.2):
        run = dln.gradient_flow(cost, weights, (0.0, 3.0), weight_decay=weight_decay, method=method)
        for D in network.balances(run.weights):
            decayed = D[0] * np.exp(-2 * weight_decay * run.t)[:, None, None]
            assert np.abs(D - decayed).max() < 10 * 1e-8 * np.linalg.norm(P.flat(weights)) ** 2


@pytest.mark.parametrize("alpha", [1.0, 1e-3, 1e-6, 1e-12])
def test_tiny_starts_escape_on_time(alpha):
    """Depth 2, aligned: a(t) = s / (1 + (s/a0 - 1) exp(-2 s t)) with a0 = alpha^2, down to 1e-24."""
    cost = dln.costs.FullyObserved(np.diag([3.0, 1.0]))
    weights = dln.inits.aligned(cost.target, 2, scale=0.1 * alpha**2)
    half = np.log(3.0 / (0.1 * alpha**2) - 1) / 6.0
    run = dln.gradient_flow(cost, weights, (0.0, half + 1.0), t_eval=[half])
    assert run.end_to_end[0, 0, 0] == pytest.approx(1.5, rel=1e-6)


widths_of_any_net = st.lists(st.integers(1, 5), min_size=2, max_size=6)


@given(
    widths=widths_of_any_net,
    seed=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 5),
    method=st.sampled_from(["auto", *ADAPTIVE]),
)
@settings(max_examples=120, deadline=None)
def test_symmetries_and_dissipation(widths, seed, kind, method):
    """The flow commutes with rotations of hidden layers and with inclusion; the objective never increases."""
    rng = np.random.default_rng(seed)
    widths[-1] = max(widths[-1], 2)
    cost = P.random_costs(widths[-1], widths[0], rng)[kind]
    weights = [0.7 * rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)]
    weight_decay = float(rng.choice([0.0, 0.3]))
    hidden = widths[1:-1]
    tight = 1e-7 if method in LOW_ORDER else 1e-12
    options = {"weight_decay": weight_decay, "rtol": tight, "t_eval": [0.0, 0.5, 1.0], "method": method}
    run = dln.gradient_flow(cost, weights, (0.0, 1.0), **options)
    turns = [np.linalg.qr(rng.standard_normal((n, n)))[0] for n in hidden]
    wider = [n + int(rng.integers(0, 3)) for n in hidden]
    last = [W[-1] for W in run.weights]
    for move in (lambda w: network.rotate(w, turns), lambda w: network.include(w, wider)):
        moved = dln.gradient_flow(cost, move(weights), (0.0, 1.0), **options)
        scale = 1.0 + np.abs(P.flat(last)).max()
        assert np.abs(P.flat(move(last)) - P.flat([W[-1] for W in moved.weights])).max() < 100 * tight * scale
    assert (np.diff(run.objective) <= 1e-12 * (1 + run.objective[0])).all()


def two_modes(scale=1e-4, depth=2):
    cost = dln.costs.FullyObserved(np.diag([4.0, 1.0]))
    return cost, dln.inits.aligned(cost.target, depth, scale=scale)


def test_until_cost_ends_at_the_first_step_below_it():
    cost, weights = two_modes()
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(cost=1e-3))
    assert (run.status, run.success) == ("cost", True)
    assert run.cost[-1] <= 1e-3 < run.cost[-2]


def test_until_gradient_norm_does_not_take_a_saddle_for_convergence():
    cost, weights = two_modes(scale=1e-10)
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(gradient_norm=1e-3))
    first = dln.gradient_flow(cost, weights, (0.0, run.t[-1]))
    assert first.gradient_norm[first.t < 0.9 * run.t[-1]].min() < 1e-4  # the saddles were quieter than that
    assert run.status == "gradient_norm"
    assert np.allclose(run.end_to_end[-1], cost.target, atol=1e-2)


def test_until_rank_and_saddle():
    cost, weights = two_modes(scale=1e-8)
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(rank=1))
    assert 2.6 < run.singular_values[-1, 0] < 3.2  # the mode has come two thirds of its way to 4
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(saddle=2))
    assert run.status == "saddle"
    assert np.allclose(run.end_to_end[-1], np.diag([4.0, 0.0]), atol=1e-2)
    assert run.cost[-1] == pytest.approx(0.5, rel=1e-2)


def test_what_stops_a_run_is_said_and_nothing_is_lost():
    cost, weights = two_modes()
    run = dln.gradient_flow(cost, weights, (0.0, 1e3), max_steps=7)
    assert (run.status, run.success, run.n_steps) == ("max_steps", False, 7)
    assert "max_steps" in run.message
    assert run.t[-1] > 0
    run = dln.gradient_flow(cost, [np.zeros((2, 2))] * 2, (0.0, np.inf), until=dln.Until(cost=1e-3))
    assert (run.status, len(run.t)) == ("stationary", 1)
    run = dln.gradient_flow(cost, [np.zeros((2, 2))] * 2, (0.0, 5.0), t_eval=[0.0, 2.0, 5.0])
    assert run.success
    assert run.t.tolist() == [0.0, 2.0, 5.0]
    run = dln.gradient_flow(cost, [30.0 * np.eye(2)] * 2, (0.0, 10.0), method="euler", step=1.0)
    assert run.status == "not_finite"
    assert np.isfinite(run.end_to_end).all()


def test_a_condition_that_cannot_be_met_ends_when_nothing_moves_any_more():
    cost, weights = two_modes()
    run = dln.gradient_flow(cost, weights, (0.0, np.inf), until=dln.Until(rank=3, saddle=9))
    assert (run.status, run.success) == ("at_rest", False)
    assert np.allclose(run.end_to_end[-1], cost.target)


def test_interrupt_returns_what_was_reached():
    rng = np.random.default_rng(0)
    cost = dln.costs.FullyObserved(rng.standard_normal((50, 50)))
    weights = P.small_start((50, 100, 100, 50), 1.0, rng)
    dln.gradient_flow(cost, weights, (0.0, 1e-3))
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    run = dln.gradient_flow(cost, weights, (0.0, 1e9), rtol=1e-12)
    timer.cancel()
    assert (run.status, run.success) == ("interrupted", False)
    assert 0 < run.t[-1] < 1e9


def test_dense_output_does_not_depend_on_what_was_saved():
    cost, weights, T, exact = modes_problem()
    times = np.linspace(0.0, T, 23)
    sparse = dln.gradient_flow(cost, weights, (0.0, T), t_eval=[1.0, T])
    bare = dln.gradient_flow(cost, weights, (0.0, T), keep_weights=False)
    assert bare.weights is None
    for run in (sparse, bare, dln.gradient_flow(cost, weights, (0.0, T))):
        assert np.abs(run.at(times) - exact(times)).max() < 1e-6
        assert run.at(1.3).shape == (3, 3)
        assert run.at(times.reshape(1, 23)).shape == (1, 23, 3, 3)
        assert np.allclose(network.end_to_end(run.weights_at(times)), run.at(times), atol=1e-12)


def test_runs_without_kept_weights_measure_the_same():
    rng = np.random.default_rng(8)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 2)))
    weights = P.small_start((2, 4, 3), 0.5, rng)
    full, bare = (
        dln.gradient_flow(cost, weights, (0.0, 4.0), weight_decay=0.1, keep_weights=keep)
        for keep in (True, False)
    )
    for name in ("t", "end_to_end", "cost", "objective", "gradient_norm"):
        assert np.allclose(getattr(full, name), getattr(bare, name), rtol=1e-9, atol=1e-12)


def test_default_times_resolve_every_transition():
    cost, weights, _ = P.named("P2")
    run = dln.gradient_flow(cost, weights, (0.0, 150.0))
    moved = np.linalg.norm(np.diff(run.end_to_end, axis=0), axis=(1, 2))
    assert 100 < len(run.t) <= 513
    assert moved.max() < 0.05 * np.linalg.norm(cost.target)


def test_weight_decay_shrinks_to_the_soft_threshold():
    """Depth 2: the minimum of C + wd |theta|^2 / 2 is the singular value thresholding of the target."""
    rng = np.random.default_rng(9)
    cost = dln.costs.FullyObserved(P.target(4, (3.0, 2.0, 0.2), rng))
    weights = P.small_start((4, 6, 4), 0.3, rng)
    run = dln.gradient_flow(
        cost, weights, (0.0, np.inf), weight_decay=0.5, until=dln.Until(gradient_norm=1e-9)
    )
    U, s, Vt = np.linalg.svd(cost.target)
    assert np.abs(run.end_to_end[-1] - (U * np.maximum(s - 0.5, 0)) @ Vt).max() < 1e-7


def test_a_small_mode_beside_a_fitted_one_escapes_on_time():
    """Depth 2: the layers have norm 1, the mode that grows 1e-4. Relative to the norm alone the error is 2.4e-4."""
    s, a0 = 0.9, 1e-8
    cost = dln.costs.FullyObserved(np.diag([1.0, s]))
    layer = np.diag([1.0, np.sqrt(a0)])
    half = np.log(s / a0 - 1) / (2 * s)
    run = dln.gradient_flow(cost, [layer] * 2, (0.0, half + 1.0), method="tsit5", rtol=1e-6, t_eval=[half])
    assert run.end_to_end[0, 1, 1] == pytest.approx(s / 2, rel=1.5e-4)
