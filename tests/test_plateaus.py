"""Long plateaus by exact laws: hidden modes, first escapes, cost, and what "auto" says of itself."""

from __future__ import annotations

import functools
import time

import numpy as np
import problems as P
import pytest
from scipy.optimize import brentq

import dln
from dln import network

# --- The law of aligned modes -------------------------------------------------------------------------------

MODES = (3.0, 2.0, 1.0)


def mode_time(u, s, depth):
    """Time law of a mode a = u^depth, u' = u^(depth-1) (s - a), up to a constant."""
    if depth == 2:
        return np.log(u * u / (s - u * u)) / (2 * s)
    if depth == 3:
        c = s ** (1 / 3)
        logarithm = np.log((c * c + c * u + u * u) / (c - u) ** 2) / (6 * c)
        return (-1 / u + logarithm - np.arctan((2 * u + c) / (np.sqrt(3) * c)) / (np.sqrt(3) * c)) / s
    r = np.sqrt(s)
    return (-1 / (2 * u * u) + np.log((r + u * u) / (r - u * u)) / (4 * r)) / s


def mode_value(t, alpha, s, depth):
    """Value a of a mode at time t, started at u = alpha; by the logit of a/s, in which nothing cancels."""
    if t <= 0.0:
        return alpha**depth
    start = mode_time(alpha, s, depth)

    def late(x):
        return mode_time((s / (1 + np.exp(-x))) ** (1 / depth), s, depth) - start - t

    lower, upper = np.log(alpha**depth / s) - 1e-6, 30.0
    return s / (1 + np.exp(-brentq(late, lower, upper, xtol=1e-14, rtol=1e-15))) if late(upper) > 0 else s


def half_times(alpha, depth):
    """Times at which the modes are half grown."""
    at = [(mode_time((s / 2) ** (1 / depth), s, depth), mode_time(alpha, s, depth)) for s in MODES]
    return np.array([half - start for half, start in at])


def hidden_modes(depth, alpha, seed=0, n=5):
    """Target and layers whose three modes of size alpha are hidden by random rotations; the bases U, V."""
    rng = np.random.default_rng(seed)
    U, V, *hidden = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(depth + 1))
    sides = [V, *hidden, U]
    k = len(MODES)
    start = np.diag([alpha] * k + [0.0] * (n - k))
    weights = [after @ start @ before.T for before, after in zip(sides, sides[1:], strict=False)]
    U, V = U[:, :k], V[:, :k]
    return dln.costs.FullyObserved((U * MODES) @ V.T), weights, U, V


LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


@functools.cache
def transitions(depth, alpha):
    """Times dense at the transitions of the modes, and the values of the modes there."""
    times = []
    for s in MODES:
        start = mode_time(alpha, s, depth)
        times += [mode_time((x * s) ** (1 / depth), s, depth) - start for x in LEVELS]
    times = np.unique([*times, *half_times(alpha, depth)])
    times = times[times > 0]
    return times, np.array([[mode_value(t, alpha, s, depth) for s in MODES] for t in times])


def mistimed(run, U, V, alpha, depth):
    """Relative errors of the half-times, from where each mode is then; inf if it is not on its way."""
    A, wrong = run.at(half_times(alpha, depth)), []
    for k, (s, half) in enumerate(zip(MODES, half_times(alpha, depth), strict=True)):
        a = U[:, k] @ A[k] @ V[:, k]
        if 0.02 * s < a < 0.98 * s:
            reached = mode_time(a ** (1 / depth), s, depth) - mode_time(alpha, s, depth)
            wrong.append(abs(reached / half - 1))
        else:
            wrong.append(np.inf)
    return np.array(wrong)


def crossing(run, mode, level):
    """Time at which a singular value of A exceeds a level, by bisection; inf if it does not."""
    above = run.singular_values[:, mode] > level
    if not above.any():
        return np.inf
    i = int(np.argmax(above))
    lower, upper = run.t[i - 1], run.t[i]
    while upper - lower > 1e-9 * upper:
        middle = (lower + upper) / 2
        if np.linalg.svd(run.at(middle), compute_uv=False)[mode] > level:
            upper = middle
        else:
            lower = middle
    return (lower + upper) / 2


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_law_is_the_law(depth):
    for s in MODES:
        for u in (0.1, 0.4, 0.8):
            slope = (mode_time(u + 1e-5, s, depth) - mode_time(u - 1e-5, s, depth)) / 2e-5
            assert slope == pytest.approx(1 / (u ** (depth - 1) * (s - u**depth)), rel=1e-6)
        t = mode_time(0.7, s, depth) - mode_time(1e-3, s, depth)
        assert mode_value(t, 1e-3, s, depth) == pytest.approx(0.7**depth, rel=1e-9)


CASES = [(2, 1e-3), (2, 1e-6), (2, 1e-12), (3, 1e-2), (3, 1e-4), (3, 1e-5), (4, 1e-1), (4, 1e-2), (4, 1e-3)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("depth", "alpha"), CASES)
def test_every_mode_escapes_on_time(depth, alpha, seed):
    """At the default tolerance."""
    cost, weights, U, V = hidden_modes(depth, alpha, seed)
    times, values = transitions(depth, alpha)
    exact = np.einsum("ik,tk,jk->tij", U, values, V)
    run = dln.gradient_flow(cost, weights, (0.0, times[-1]), t_eval=times)
    wrong, error = mistimed(run, U, V, alpha, depth), P.error(run, exact)
    print(depth, alpha, wrong, error, run.n_steps, work(run))
    assert run.success
    assert wrong.max() < 2e-9
    assert error < 1e-3


def work(run):
    """Velocities; a product with the Hessian costs three."""
    return run.nfev + 3 * run.stats["products"]


def latest(run, depth, alpha, count):
    """Largest relative error of the first half-times."""
    halves = half_times(alpha, depth)[:count]
    found = np.array([crossing(run, k, s / 2) for k, s in enumerate(MODES[:count])])
    print(depth, alpha, run.status, run.n_steps, run.stats["rejected"], work(run), found / halves - 1)
    return np.abs(found / halves - 1).max()


TINY = [(2, 1e-12, 3), (3, 1e-6, 3), (3, 1e-7, 3), (3, 1e-8, 1), (4, 1e-4, 3)]


@pytest.mark.parametrize(("depth", "alpha", "count"), TINY)
def test_tiny_starts_escape_on_time_in_any_basis(depth, alpha, count):
    cost, weights, _, _ = hidden_modes(depth, alpha)
    end = half_times(alpha, depth)[count - 1] + 10.0
    run = dln.gradient_flow(cost, weights, (0.0, end), max_steps=200_000)
    assert run.success
    assert latest(run, depth, alpha, count) < 1e-6


ALIGNED = [(2, 1e-12, 3), (3, 1e-5, 3), (3, 1e-8, 1), (4, 1e-3, 3), (4, 1e-4, 1)]


@pytest.mark.parametrize(("depth", "alpha", "count"), ALIGNED)
def test_tiny_aligned_starts_escape_on_time(depth, alpha, count):
    A = np.diag([*MODES, 0.0])[:, :3]
    end = half_times(alpha, depth)[count - 1] + 10.0
    weights = dln.inits.aligned(A, depth, scale=alpha**depth)
    run = dln.gradient_flow(dln.costs.FullyObserved(A), weights, (0.0, end), max_steps=200_000)
    assert run.success
    assert latest(run, depth, alpha, count) < 1e-6


@pytest.mark.parametrize(("depth", "alpha"), [(3, 1e-6), (3, 1e-7), (4, 3e-4), (4, 2e-4), (4, 1e-4)])
def test_the_stiff_method_is_taken_soon_where_velocities_are_nearly_rounding(depth, alpha):
    A = np.diag([*MODES, 0.0])[:, :3]
    weights = dln.inits.aligned(A, depth, scale=alpha**depth)
    end = 1.1 * half_times(alpha, depth)[-1]
    run = dln.gradient_flow(dln.costs.FullyObserved(A), weights, (0.0, end), max_steps=20_000)
    assert run.n_steps < 1000
    assert latest(run, depth, alpha, 3) < 1e-6


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("alpha", [1e-1, 1e-2, 1e-5, 1e-12])
def test_first_escape_of_a_random_start_of_depth_two(alpha, seed):
    """J2-T2: t_1 = ln(4 s_1 / (alpha |W_1 v_1 + W_2^T u_1|)^2) / (2 s_1), up to alpha^(2 (1 - s_2/s_1)).

    While A is small W_1 v_1 + W_2^T u_1 grows by exp(s_1 t) and the others by less.
    """
    rng = np.random.default_rng(seed)
    cost = dln.costs.FullyObserved(P.target(5, (2.0, 0.5), rng))
    W_1, W_2 = rng.standard_normal((6, 5)), rng.standard_normal((5, 6))
    U, s, Vt = np.linalg.svd(cost.target)
    grows = alpha * np.linalg.norm(W_1 @ Vt[0] + W_2.T @ U[:, 0])
    expected = np.log(4 * s[0] / grows**2) / (2 * s[0])
    run = dln.gradient_flow(cost, [alpha * W_1, alpha * W_2], (0.0, expected + 2.0))
    off = crossing(run, 0, s[0] / 2) - expected
    print(alpha, seed, off, off / alpha**1.5)
    assert abs(off) < 3e-8 * expected + 10 * alpha**1.5
    assert abs(off) > 1e-3 * alpha**1.5 or alpha < 1e-2


# --- Cost ---------------------------------------------------------------------------------------------------


def work_at(depth, alpha, method, rtol=1e-8):
    cost, weights, _, _ = hidden_modes(depth, alpha)
    times, _ = transitions(depth, alpha)
    run = dln.gradient_flow(cost, weights, (0.0, times[-1]), method=method, rtol=rtol, t_eval=times)
    assert run.success
    return work(run)


@pytest.mark.parametrize(("depth", "alphas"), [(3, (1e-2, 1e-3, 1e-4, 1e-5)), (4, (1e-1, 1e-2, 1e-3))])
def test_cost_grows_slowly_with_the_length_of_the_plateaus(depth, alphas):
    """They last as long as alpha^(2 - depth)."""
    done = [work_at(depth, alpha, "auto") for alpha in alphas]
    decades = (depth - 2) * (len(alphas) - 1)
    growth = (done[-1] / done[0]) ** (1 / decades)
    explicit = [work_at(depth, alpha, "dop853") for alpha in alphas[:2]]
    print(depth, done, growth, explicit)
    assert growth < 1.3
    assert (explicit[1] / explicit[0]) ** (1 / (depth - 2)) > 5


def least_work(depth, alpha, level):
    """To an error of A(t) relative to the target, at times dense at the transitions, by tolerances of half decades."""
    cost, weights, U, V = hidden_modes(depth, alpha)
    times, values = transitions(depth, alpha)
    exact = np.einsum("ik,tk,jk->tij", U, values, V)
    for rtol in 10.0 ** -np.arange(4, 10, 0.5):
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), rtol=rtol, t_eval=times)
        if run.success and P.error(run, exact) <= level * np.linalg.norm(cost.target):
            return work(run)
    return np.inf


@pytest.mark.parametrize(("depth", "decades"), [(3, range(2, 7)), (4, range(1, 5))])
def test_cost_at_a_matched_error_grows_like_the_logarithm_of_the_start(depth, decades):
    """Though a late escape shifts A(t) by its delay, and the waits last alpha^(2 - depth)."""
    done = [least_work(depth, 10.0**-k, 1e-6) for k in decades]
    growth = (done[-1] / done[0]) ** (1 / (len(done) - 1))
    print(depth, done, growth)
    assert growth < 1.4


REACH = [(3, 1e-5, 3e-7), (3, 1e-6, 6e-8), (3, 1e-7, 1e-4), (4, 1e-3, 1e-7), (4, 1e-4, 3e-6)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("depth", "alpha", "level"), REACH)
def test_what_waits_is_not_lost_in_the_rounding_of_what_is_fitted(depth, alpha, level, seed):
    """Errors at the transitions of hidden modes are roundings of the time, not of the time over the size of a mode."""
    cost, weights, U, V = hidden_modes(depth, alpha, seed)
    times, values = transitions(depth, alpha)
    exact = np.einsum("ik,tk,jk->tij", U, values, V)
    for keep in (True, False):
        run = dln.gradient_flow(cost, weights, (0.0, times[-1]), rtol=1e-10, t_eval=times, keep_weights=keep)
        print(depth, alpha, seed, P.error(run, exact), alpha ** (2 - depth) * 1e-16 / alpha)
        assert P.error(run, exact) < level * np.linalg.norm(cost.target)


def test_a_run_in_other_bases_saves_the_layers_as_they_were_given():
    """Spaced by arc length, so that saved times are dropped before and after a change of bases."""
    cost, weights, _, _ = hidden_modes(3, 1e-4)
    run = dln.gradient_flow(cost, weights, (0.0, 1.1 * half_times(1e-4, 3)[-1]))
    plain = dln.gradient_flow(cost, weights, (0.0, run.t[-1]), method="radau13", t_eval=run.t)
    assert len(run.stats["used"]) > 3
    assert np.abs(run.weights[0][0] - weights[0]).max() < 1e-18
    for W, other in zip(run.weights, plain.weights, strict=True):
        assert np.abs(W - other).max() < 1e-4
    assert np.abs(run.end_to_end - network.end_to_end(run.weights)).max() < 1e-13
    slim = dln.gradient_flow(cost, weights, (0.0, run.t[-1]), t_eval=run.t, keep_weights=False)
    assert np.abs(slim.end_to_end - run.end_to_end).max() < 1e-5
    assert np.abs(slim.cost - run.cost).max() < 1e-5 * run.cost[0]


@pytest.mark.parametrize("problem", P.NAMED)
@pytest.mark.parametrize("rtol", [1e-6, 1e-8])
def test_auto_is_no_worse_than_the_explicit_method(problem, rtol):
    cost, weights, share = P.named(problem)
    until = dln.Until(cost=share * cost.value(network.end_to_end(weights)))
    runs = [
        dln.gradient_flow(cost, weights, (0.0, np.inf), method=method, rtol=rtol, until=until)
        for method in ("auto", "dop853")
    ]
    print(problem, rtol, [work(run) for run in runs], work(runs[0]) / work(runs[1]), runs[0].stats["used"])
    assert work(runs[0]) < 1.6 * work(runs[1])


# --- What a run says of itself ------------------------------------------------------------------------------


def test_used_methods_are_named_with_their_times(tmp_path):
    depth, alpha = 3, 1e-4
    cost, weights, U, V = hidden_modes(depth, alpha)
    halves = half_times(alpha, depth)
    run = dln.gradient_flow(cost, weights, (0.0, 1.1 * halves[-1]))
    names, times, steps = zip(*run.stats["used"], strict=True)
    print(run.stats["used"])
    assert names[:3] == ("radau13", "dop853", "radau13")
    assert all(a != b for a, b in zip(names, names[1:], strict=False))
    assert times[0] == 0.0
    assert steps[0] == 0
    assert (np.diff(times) > 0).all()
    assert (np.diff(steps) > 0).all()
    assert steps[-1] <= run.n_steps
    assert run.method == "dop853 + radau13"
    switches = [t for name, t in zip(names, times, strict=True) if name == "radau13"]
    assert any(halves[0] < t < halves[0] + 0.1 * (halves[1] - halves[0]) for t in switches)  # soon
    run.save(tmp_path / "run")
    loaded = dln.Trajectory.load(next(tmp_path.iterdir()))
    assert loaded.method == run.method
    assert loaded.stats["used"] == run.stats["used"]
    within = np.sort(np.concatenate([halves, (halves[1:] + halves[:-1]) / 2]))
    assert np.array_equal(loaded.at(within), run.at(within))
    assert mistimed(loaded, U, V, alpha, depth).max() < 2e-9


def test_without_a_plateau_only_the_explicit_method_is_used():
    cost, weights, share = P.named("P1")
    until = dln.Until(cost=share * cost.value(network.end_to_end(weights)))
    for rtol, name in ((1e-3, "tsit5"), (1e-8, "dop853")):
        run = dln.gradient_flow(cost, weights, (0.0, np.inf), rtol=rtol, until=until)
        assert run.stats["used"] == [[name, 0.0, 0]]
        assert run.method == name
        assert run.stats["products"] == 0


@pytest.mark.parametrize(
    ("rtol", "explicit", "stiff"),
    [(1e-3, "tsit5", "radau9"), (1e-6, "dop853", "radau13"), (1e-9, "dop853", "radau13")],
)
def test_methods_by_tolerance(rtol, explicit, stiff):
    cost, weights, _, _ = hidden_modes(3, 1e-4)
    run = dln.gradient_flow(cost, weights, (0.0, half_times(1e-4, 3)[1]), rtol=rtol)
    assert [name for name, *_ in run.stats["used"][:3]] == [stiff, explicit, stiff]


def random_start(depth, alpha, seed, n=5):
    rng = np.random.default_rng(seed)
    cost = dln.costs.FullyObserved(P.target(n, MODES, rng))
    return cost, P.small_start((n,) * (depth + 1), alpha, rng)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("depth", "alpha"), [(3, 1e-4), (4, 1e-2)])
def test_defaults_are_right_on_long_plateaus(depth, alpha, seed):
    cost, weights = random_start(depth, alpha, seed)
    until = dln.Until(cost=1e-8 * cost.value(network.end_to_end(weights)))
    fine = dln.gradient_flow(cost, weights, (0.0, np.inf), method="dop853", rtol=1e-12, until=until)
    assert fine.success
    run = dln.gradient_flow(cost, weights, (0.0, fine.t[-1]))
    some = slice(None, None, 4)
    at = dln.gradient_flow(cost, weights, (0.0, fine.t[-1]), t_eval=fine.t[some])
    error = P.error(at, fine.end_to_end[some]) / np.linalg.norm(cost.target)
    halves, exact = (np.array([crossing(r, k, s / 2) for k, s in enumerate(MODES)]) for r in (run, fine))
    print(depth, alpha, seed, f"{error:.1e}", halves / exact - 1, work(run), work(fine), fine.t[-1])
    assert error < 1e-4
    assert np.abs(halves / exact - 1).max() < 1e-7


@pytest.mark.parametrize(("depth", "alpha"), [(3, 1e-8), (3, 1e-10), (4, 1e-5), (4, 1e-6)])
def test_a_start_beyond_reach_ends_and_says_so(depth, alpha):
    """The waiting modes are lost in the rounding of those that are fitted."""
    cost, weights, _, _ = hidden_modes(depth, alpha)
    before = time.perf_counter()
    run = dln.gradient_flow(cost, weights, (0.0, 1.1 * half_times(alpha, depth)[-1]), max_steps=200_000)
    seconds = time.perf_counter() - before
    print(depth, alpha, run.status, run.t[-1], run.n_steps, run.stats["rejected"], work(run), seconds)
    assert latest(run, depth, alpha, 1) < 1e-6  # what is within reach is right
    assert run.status in ("finished", "max_steps")
    assert ("max_steps" in run.message) == (run.status == "max_steps")
    assert run.n_steps + run.stats["rejected"] <= 200_000
    assert np.isfinite(run.end_to_end).all()
    assert seconds < 60


@pytest.mark.parametrize("seed", [0, 1])
def test_the_cost_does_not_rise_on_the_longest_plateaus(seed):
    """h |H| reaches 1e8 there: what stiff modes lack must not come in times that, at the ends or between them."""
    rng = np.random.default_rng(seed)
    cost = dln.costs.FullyObserved(P.target(5, (3.0, 2.0, 1.0), rng))
    weights = P.small_start((5,) * 5, 1e-4, rng)
    run = dln.gradient_flow(cost, weights, (0.0, 1.2e8), t_eval=np.linspace(0.0, 1.2e8, 60))
    assert run.success
    assert np.diff(run.cost).max() < 1e-12 * run.cost[0]
