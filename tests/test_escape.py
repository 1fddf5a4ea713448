"""Escapes from saddles: directions, rates, times one after the other, what a run shows of them, and the experiments."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from problems import flat, small_start, target, unflatten
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

import dln
from dln import cli, network
from dln.exact import incremental_threshold, mode, mode_time
from dln.saddles import waiting


def force(e, G):
    """Minus the gradient of H = <G, A> in the layers, as a vector."""
    return -flat(network.layer_gradients(e, G))


def sets(n, most=None):
    return [S for r in range(1, (most or n) + 1) for S in combinations(range(n), r)]


# Directions


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6])
def test_every_set_of_modes_is_an_escape_direction(depth):
    rng = np.random.default_rng(depth)
    for shape in ((6, 6), (7, 6), (6, 8)):
        G = rng.normal(size=shape)
        for S in sets(6, 1 if depth == 2 else 6):
            width = len(S) + int(rng.integers(0, 3))
            e = dln.escape_direction(G, depth, S, width=width)
            assert [W.shape[0] for W in e[:-1]] == [width] * (depth - 1)
            speed = dln.escape_speed(G, depth, S)
            assert np.linalg.norm(force(e, G) - speed * flat(e)) < 1e-13
            assert abs(np.linalg.norm(flat(e)) - 1) < 1e-14
            assert np.linalg.matrix_rank(e[0]) == len(S)


def test_the_first_mode_is_the_fastest_direction_there_is():
    """Against ascent from random layers, which finds no larger -L <G, A> on the unit sphere."""
    rng = np.random.default_rng(0)
    for depth in (2, 3, 4):
        G = rng.normal(size=(4, 3))
        e = dln.escape_direction(G, depth)
        assert np.allclose([np.linalg.norm(W) for W in e], depth**-0.5, atol=1e-14)
        best, speed = 0.0, dln.escape_speed(G, depth)
        for _ in range(6):
            x = small_start((3, *[4] * (depth - 1), 4), 1.0, rng)
            for _ in range(300):
                y = flat(x) + force(x, G)
                x = unflatten(y / np.linalg.norm(y), x)
            best = max(best, float(flat(x) @ force(x, G)))
        assert abs(best / speed - 1) < 1e-9
        assert all(dln.escape_speed(G, depth, S) < speed for S in sets(3)[1:] if 0 not in S or depth > 2)


def test_two_layers_escape_together_along_equal_modes_only():
    G = -np.diag([2.0, 2.0, 1.0])
    e = dln.escape_direction(G, 2, (0, 1))
    assert np.linalg.norm(force(e, G) - 2 * flat(e)) < 1e-14
    with pytest.raises(ValueError, match="`modes` must have equal singular values"):
        dln.escape_direction(G, 2, (0, 2))


def dense_rates(G, depth, width, S):
    """Eigenvalues of -H''(e)/s - 1 across e: complex steps of the gradient, no block."""
    e = dln.escape_direction(G, depth, S, width=width)
    x, speed, rows = flat(e), dln.escape_speed(G, depth, S), []
    for unit in np.eye(len(x)):
        layers = unflatten(x + 1e-30j * unit, e)
        rows.append(force(layers, G.astype(complex)).imag / 1e-30)
    across = np.linalg.svd(x[None])[2][1:]
    return np.linalg.eigvalsh(across @ (np.array(rows) / speed - np.eye(len(x))) @ across.T)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_rates_are_the_eigenvalues_of_the_flow_on_the_sphere(depth):
    rng = np.random.default_rng(10 + depth)
    for shape in ((3, 3), (4, 3), (2, 4)):
        G = rng.normal(size=shape)
        for S in sets(min(shape), 1 if depth == 2 else None):
            width = len(S) + int(rng.integers(0, 3))
            rates, counts = dln.escape_rates(G, depth, width, S)
            assert (np.diff(rates) < 0).all()
            dense = dense_rates(G, depth, width, S)
            assert np.abs(np.sort(np.repeat(rates, counts)) - dense).max() < 1e-10
            assert (rates[0] > 1e-3) == (S != (0,))  # the fastest direction alone attracts


def test_rates_at_the_fastest_direction_and_of_equal_modes():
    """The known list for s = (1, 0.7, 0.4)."""
    for depth in (3, 4):
        rates, _ = dln.escape_rates(np.diag([1.0, 0.7, 0.4]), depth, 3)
        assert np.allclose(rates, [0, -0.3, -0.6, -1, -1.4, -1.7, -2], atol=1e-14)
    G = np.diag([2.0, 2.0, 1.0])
    for depth, S in ((2, (0, 1)), (2, (0,)), (3, (0,)), (3, (0, 1))):
        rates, counts = dln.escape_rates(G, depth, 3, S)
        assert np.allclose(np.sort(np.repeat(rates, counts)), dense_rates(G, depth, 3, S), atol=1e-12)
    rates, counts = dln.escape_rates(np.eye(3), 3, 1000)
    assert counts.sum() == 6 * 1000 + 1000**2 - 1


# Times


def crossings(run, path):
    """When the k-th singular value of A first has half its size at the k-th saddle."""
    found = []
    for k, saddle in enumerate(path.saddles[1:]):
        goal = np.linalg.svd(saddle.end_to_end, compute_uv=False)[k] / 2
        i = int(np.argmax(run.singular_values[:, k] >= goal))
        gap = lambda t, k=k, goal=goal: np.linalg.svd(run.at(t), compute_uv=False)[k] - goal  # noqa: E731
        found.append(brentq(gap, run.t[i - 1], run.t[i], xtol=1e-13 * run.t[i]))
    return np.array(found)


def masked(A):
    mask = np.ones(A.shape)
    mask[0, 1] = mask[2, 3] = mask[3, 0] = 0
    return dln.costs.MatrixCompletion(A, mask)


def errors(cost, depth, alphas):
    """Relative errors of all escape times, a row for each alpha."""
    path, rows = dln.saddle_to_saddle(cost, depth), []
    reference = small_start((4, *[6] * (depth - 1), 4), 1.0, np.random.default_rng(7))
    for alpha in alphas:
        start = [alpha * W for W in reference]
        predicted = dln.escape_times(cost, start)
        assert predicted[0] == dln.escape_time(cost, start)
        end = 1.1 * predicted[-1] + 100.0
        run = dln.gradient_flow(cost, start, (0.0, end), rtol=1e-11)
        rows.append(predicted / crossings(run, path) - 1)
    return np.array(rows)


A = target(4, (1.0, 0.4, 0.15), np.random.default_rng(3))


@pytest.mark.parametrize(("depth", "bound"), [(2, 2e-7), (3, 1e-6)])
def test_all_escapes_of_a_run_at_1e_4(depth, bound):
    """Full observation, a general start, three escapes one after the other."""
    assert np.abs(errors(dln.costs.FullyObserved(A), depth, [1e-4])).max() < bound


def test_errors_of_two_layers_fall_at_least_like_the_square_of_the_misalignment():
    found = np.abs(errors(dln.costs.FullyObserved(A), 2, [1e-3, 1e-5]))
    assert (np.log10(found[0] / found[1]) / 2 > 2 * (1 - 0.4)).all()
    assert found[1].max() < 1e-8


def test_errors_of_a_masked_cost_fall():
    """L = 2: the first like alpha^1.19, later ones as the orbits settle; L >= 3: later ones like alpha."""
    two = np.abs(errors(masked(A), 2, [1e-4, 1e-6]))
    assert two[0, 0] < 1e-6
    assert (two[1] < [1e-7, 1e-4, 2e-3]).all()
    assert (two[0] / two[1] > 5).all()
    three = np.abs(errors(masked(A), 3, [1e-2, 1e-3]))
    assert three[1, 0] < 1e-6
    assert np.allclose(np.log10(three[0, 1:] / three[1, 1:]), 1.0, atol=0.1)
    assert three[1].max() < 3e-4


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_times_of_aligned_starts_are_the_closed_form(depth):
    s, scale = np.array([2.0, 1.2, 0.5]), 1e-7 if depth == 2 else 1e-9
    U, V = (np.linalg.qr(np.random.default_rng(k).normal(size=(4, 3)))[0] for k in (1, 2))
    cost = dln.costs.FullyObserved((U * s) @ V.T)
    weights = dln.inits.balanced(scale * U @ V.T, depth, widths=(4, *[5] * (depth - 1), 4), rng=3)
    assert np.allclose(
        dln.escape_times(cost, weights, most=3), mode_time(s / 2, scale, s, depth), rtol=2e-6, atol=0
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_times_do_not_feel_symmetries(depth):
    rng = np.random.default_rng(4)
    cost, weights = masked(A), small_start((4, *[5] * (depth - 1), 4), 1e-3, rng)
    times = dln.escape_times(cost, weights)
    turned = network.rotate(weights, [np.linalg.qr(rng.normal(size=(5, 5)))[0]] * (depth - 1))
    wider = network.include(turned, [7] * (depth - 1))
    flipped = dln.costs.MatrixCompletion(cost.target.T, cost.mask.T)
    assert np.allclose(dln.escape_times(cost, wider), times, rtol=1e-7)
    # The last but one orbit ends slowly, and is followed until the gradient is 1e-9.
    close = [1e-6, 1e-6, 2e-3] if depth == 2 else 1e-6
    turned_round = dln.escape_times(flipped, [W.T for W in weights[::-1]])
    assert (np.abs(turned_round / times - 1) < close).all()
    larger = dln.costs.MatrixCompletion(
        3 * cost.target, cost.mask
    )  # C(3 A) = 9 C(A), in layers 3^(1/L) as large
    grown = dln.escape_times(larger, [3 ** (1 / depth) * W for W in weights])
    assert (np.abs(grown * 3 ** (2 - 2 / depth) / times - 1) < close).all()


def test_what_waits_is_carried_along_an_orbit(monkeypatch):
    """The propagator of Q' = K(t) Q against DOP853, and its order."""
    path, Q = dln.saddle_to_saddle(masked(A), 2), np.random.default_rng(0).normal(size=(8, 5))
    segment, after = path.segments[0], waiting.stages_of(path)[1]

    def velocity(t, y):
        G = segment.cost_function.gradient(segment.at(t))
        return np.vstack([-G.T @ y.reshape(8, 5)[4:], -G @ y.reshape(8, 5)[:4]]).ravel()

    gaps = []
    for pieces in (4, 8):
        monkeypatch.setattr(waiting, "PIECES", pieces)
        monkeypatch.setattr(waiting, "FAR", 8.0)
        row, rest, end = waiting.along(segment, Q, after)
        exact = solve_ivp(velocity, (0.0, end), Q.ravel(), method="DOP853", rtol=1e-11, atol=1e-11)
        exact = exact.y[:, -1].reshape(8, 5)
        hidden = np.eye(5) - np.outer(row, row) / (row @ row)
        gaps.append(max(np.linalg.norm(row - after.z @ exact), np.linalg.norm(rest - exact @ hidden)))
    assert gaps[1] < 1e-6 * np.linalg.norm(exact)
    assert gaps[0] / gaps[1] > 12  # order 4


def test_starts_that_do_not_escape():
    cost = dln.costs.FullyObserved(np.diag([2.0, 1.0]))
    G = cost.gradient(np.zeros((2, 2)))
    for depth in (2, 3, 4):
        first = [1e-2 * W for W in dln.escape_direction(G, depth, width=3)]
        turns = [np.linalg.qr(np.random.default_rng(l).normal(size=(3, 3)))[0] for l in range(depth - 1)]
        narrow = network.include(
            dln.inits.gaussian((2, *[1] * (depth - 1), 2), std=0.1, rng=1), [3] * (depth - 1)
        )
        for rank_one in (first, narrow):
            times = dln.escape_times(cost, network.rotate(rank_one, turns))
            assert np.isfinite(times[0])
            assert times[1] == np.inf  # nothing but rounding is left for the second mode
        second = [1e-2 * W for W in dln.escape_direction(G, depth, (1,), width=3)]
        assert (dln.escape_times(cost, second) == np.inf).all()
        assert (dln.escape_times(cost, [0 * W for W in first]) == np.inf).all()
        assert len(dln.escape_times(cost, first, most=1)) == 1
        assert len(dln.escape_times(dln.costs.FullyObserved(np.zeros((2, 2))), first)) == 0
    rng = np.random.default_rng(3)
    separable = dln.costs.CrossEntropy(rng.normal(size=(4, 6)), [0, 1, 2, 0, 1, 2])
    assert dln.escape_time(separable, small_start((4, 5, 3), 1e-2, rng)) == np.inf


# Measured


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_escapes_of_an_aligned_run_are_the_closed_form(depth):
    s, scale = np.array([3.0, 1.0]), 1e-6
    cost = dln.costs.FullyObserved(np.diag(s))
    end = 3 * mode_time(0.5, scale, 1.0, depth) + 20
    run = dln.gradient_flow(cost, dln.inits.aligned(cost.target, depth, scale=scale), (0.0, end), rtol=1e-10)
    first, second = dln.measure_escapes(run)
    for k, found in enumerate((first, second)):
        assert found.rank == k
        assert np.isclose(found.time, mode_time(s[k] / 2, scale, s[k], depth), rtol=1e-8)
        assert np.isclose(found.speed, found.predicted_speed, rtol=2e-2)
    early = mode(mode_time(0.3, scale, 3.0, depth), scale, 1.0, depth)
    assert np.isclose(first.alignment, 0.3 / np.hypot(0.3, early), rtol=1e-9)
    waiting = mode(first.time, scale, 1.0, depth)
    assert np.allclose(first.layer_ratios, (waiting / 1.5) ** (1 / depth), rtol=1e-6)
    assert second.alignment > 1 - 1e-7
    assert np.allclose(second.layer_ratios, 0.0)


def test_escapes_of_a_masked_run_and_of_a_run_that_has_none():
    cost, rng = masked(A), np.random.default_rng(7)
    start = small_start((4, 6, 6, 4), 1e-3, rng)
    run = dln.gradient_flow(cost, start, (0.0, 1.1 * dln.escape_times(cost, start)[-1]), rtol=1e-10)
    found = dln.measure_escapes(run)
    assert [one.rank for one in found] == [0, 1, 2]
    times = crossings(run, dln.saddle_to_saddle(cost, 3))
    assert np.allclose([one.time for one in found], times, rtol=1e-6)
    for one in found:
        assert 0.999 < one.alignment <= 1
        assert abs(one.speed / one.predicted_speed - 1) < 2e-3
        assert one.layer_ratios.max() < 5e-3
        assert f"rank={one.rank}" in repr(one)
    large = [3.0 * W / np.linalg.norm(W, 2) for W in start]
    assert dln.measure_escapes(dln.gradient_flow(cost, large, (0.0, 5.0))) == ()
    with pytest.raises(TypeError, match="`trajectory` must be a Trajectory"):
        dln.measure_escapes(3)


# Incremental learning


def test_incremental_thresholds_by_what_they_mean():
    """Times by quadrature; the values for s = (1, 0.5), f = 0.9, g = 0.1."""
    published = [3.4258e-4, 7.2382e-3, 1.2037e-2, 1.4822e-2]
    assert np.allclose(incremental_threshold(1.0, 0.5, [2, 3, 4, 5]), published, rtol=5e-5)
    for depth, s, f, g in ((2, 0.7, 0.9, 0.1), (3, 0.9, 0.95, 0.2), (6, 0.3, 0.5, 0.3)):
        start = incremental_threshold(1.0, s, depth, learned=f, waiting=g)

        def passed(end, s, depth=depth, start=start):
            u = (start ** (1 / depth), end ** (1 / depth))
            return quad(lambda u: u ** (1 - depth) / (s - u**depth), *u, epsrel=1e-12, limit=200)[0]

        assert np.isclose(passed(f, 1.0), passed(g * s, s), rtol=1e-9)
    assert np.isclose(incremental_threshold(20.0, 10.0, 3), 20 * published[1], rtol=5e-5)  # it scales
    close = 1 - np.array([1e-3, 1e-4])
    for depth in (3, 4, 8):
        ratio = np.divide(*incremental_threshold(1.0, close, depth))
        assert np.isclose(np.log10(ratio), depth / (depth - 2), rtol=1e-3)
    assert incremental_threshold(1.0, 0.9999, 2) == 0.0
    assert incremental_threshold(1.0, 0.5, 3, learned=0.04, waiting=0.9) == pytest.approx(0.04)
    assert incremental_threshold(1.0, 0.5, 10**6) == pytest.approx(
        incremental_threshold(1.0, 0.5, np.inf), rel=1e-4
    )


COST = dln.costs.FullyObserved(np.eye(2))
LAYERS = [np.eye(2), np.eye(2)]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: dln.escape_direction(np.eye(2), 1), "depth"),
        (lambda: dln.escape_direction(np.eye(2), 3, (2,)), "modes"),
        (lambda: dln.escape_direction(np.diag([1.0, 0.0]), 3, (1,)), "modes"),
        (lambda: dln.escape_direction(np.eye(2), 3, (0, 1), width=1), "width"),
        (lambda: dln.escape_rates(np.eye(2), 3, 1, (0, 1)), "width"),
        (lambda: dln.escape_rates([1.0], 3, 1), "gradient"),
        (lambda: dln.escape_times(COST, [np.eye(2)]), "weights"),
        (lambda: dln.escape_times(COST, LAYERS, most=0), "most"),
        (lambda: incremental_threshold(1.0, 1.0, 3), "s_1"),
        (lambda: incremental_threshold(1.0, 0.5, 1), "depth"),
        (lambda: incremental_threshold(1.0, 0.5, 2.5), "depth"),
        (lambda: incremental_threshold(1.0, [0.5, 0.4], [2, 3, 4]), "s_1"),
        (lambda: incremental_threshold(1.0, 0.5, 3, learned=1.0), "learned"),
        (lambda: incremental_threshold(1.0, 0.5, 3, waiting=0.0), "waiting"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"^`{name}`.* must .*\. [A-Z]"):
        call()


# Experiments


@pytest.fixture
def run(capsys, tmp_path):
    """Call `dln run NAME ... --json`; rows and parameters from what it printed."""

    def call(*arguments):
        assert cli.main(["run", *map(str, arguments), "--json", "--output", str(tmp_path)]) == 0
        result = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
        assert len(result["figures"]) == 2
        return result["rows"], result["parameters"]

    return call


def test_experiment_escape_laws(run):
    rows, parameters = run("escape-laws", "--quick")
    assert len(rows) == 3 * (3 + 4)
    for row in rows:
        assert row["relative error"] == pytest.approx(row["predicted"] / row["time"] - 1, abs=1e-14)
    for fit in parameters["fits"]:
        assert fit["time (theory)"] - 0.05 < fit["time"] < fit["time (theory)"] + 0.4
        assert fit["ratio"] == pytest.approx(fit["ratio (theory)"], abs=0.02)
        assert max(map(abs, fit["errors"].values())) < 1e-8
    for row in (row for row in rows if row["alpha"] == 1e-4):
        assert abs(row["relative error"]) < 1e-6
        assert abs(row["speed/predicted"] - 1) < 1e-3
        assert row["misalignment"] < 2e-6


def test_experiment_first_path(run):
    rows, parameters = run("first-path", "--quick")
    for fit in parameters["fits"]:
        assert fit["s_2/s_1"] == pytest.approx(0.25)
        assert fit["distance"] == pytest.approx(0.75, abs=0.02)
        assert fit["s_2"] == pytest.approx(fit["s_2 (theory)"], abs=0.02)
    counted = [row for row in rows if row["starts"]]
    assert [(row["depth"], row["sign of H"]) for row in counted] == [(2, -1), (2, 1), (3, -1), (3, 1)]
    assert all(row["escaped"] == row["starts"] == 5 for row in counted)


def test_experiment_incremental(run):
    rows, parameters = run("incremental", "--quick")
    (row,) = rows
    assert parameters["thresholds"] == [[row[f"L = {depth}"] for depth in (2, 3, 4, 5)]]
    assert np.allclose(parameters["thresholds"], [[3.4258e-4, 7.2382e-3, 1.2037e-2, 1.4822e-2]], rtol=5e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["escape-laws", "--depths", "7"], "`--depths` must be among"),
        (["first-path", "--costs", "half"], "`--costs` must be"),
        (["escape-laws", "--singular-values", "1", "2"], "`--singular-values` must fall"),
        (["incremental", "--ratios", "1"], "`--ratios` must be below 1"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, words, capsys, tmp_path):
    assert cli.main(["run", *arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out
