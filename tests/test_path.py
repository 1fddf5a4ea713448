"""The limit of small starts: saddles and orbits by law, distance of real runs, escape times, the greedy algorithm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from problems import slope, small_start, target
from scipy.integrate import quad
from scipy.optimize import brentq

import dln
from dln import network, plotting
from dln.saddles.curve import nearest


def completion(seed=0, n=10, singular_values=(10.0, 7.0, 5.0), observed=70):
    target, mask = partly_observed(seed, n, singular_values, observed)
    return dln.costs.MatrixCompletion(target, mask)


def partly_observed(seed=0, n=10, singular_values=(10.0, 7.0, 5.0), observed=70):
    """The matrix, and the mask of its observed entries."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.normal(size=(n, len(singular_values))))[0] for _ in range(2))
    mask = np.zeros(n * n)
    mask[rng.permutation(n * n)[:observed]] = 1.0
    return (U * singular_values) @ V.T, mask.reshape(n, n)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_saddles_of_a_fully_observed_target_are_its_truncations(depth):
    rng = np.random.default_rng(1)
    s = np.array([3.0, 1.8, 1.1, 0.4])
    A = target(4, s, rng)
    path = dln.saddle_to_saddle(dln.costs.FullyObserved(A), depth)
    U, _, Vt = np.linalg.svd(A)
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 2, 3, 4]
    assert [saddle.kind for saddle in path.saddles] == ["saddle"] * 4 + ["minimum"]
    for k, saddle in enumerate(path.saddles):
        assert np.allclose(saddle.end_to_end, (U[:, :k] * s[:k]) @ Vt[:k], atol=1e-11)
        assert np.isclose(saddle.cost, 0.5 * np.sum(s[k:] ** 2), rtol=1e-10, atol=1e-20)
        speed = s[k] * depth ** (-(depth - 2) / 2) if k < 4 else 0.0
        assert np.isclose(saddle.escape_speed, speed, rtol=1e-10)
        assert saddle.directions == (k < 4)
    for k, segment in enumerate(path.segments):  # straight: one mode grows, the others stand still
        x = np.einsum("i,tij,j->t", U[:, k], segment.end_to_end, Vt[k])
        line = (U[:, :k] * s[:k]) @ Vt[:k] + x[:, None, None] * np.outer(U[:, k], Vt[k])
        assert np.allclose(segment.end_to_end, line, atol=1e-11)
        assert (np.diff(x) > -1e-9).all()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_saddles_of_completion_are_those_of_the_greedy_algorithm(depth):
    """Plateau costs 24.2836 and 4.84358 (greedy algorithm at depth 4, epsilon = 0.01, published with the setting)."""
    cost = completion()
    path = dln.saddle_to_saddle(cost, depth)
    assert [saddle.rank for saddle in path.saddles] == [0, 1, 2, 3]
    assert np.allclose([s.cost for s in path.saddles[1:3]], [24.2836, 4.84358], rtol=1e-5)
    assert path.saddles[-1].kind == "minimum"
    assert path.saddles[-1].cost < 1e-20
    for saddle in path.saddles[1:]:  # critical on the matrices of its rank
        G, r = cost.gradient(saddle.end_to_end), saddle.rank
        U, s, Vt = np.linalg.svd(saddle.end_to_end)
        assert np.linalg.norm(U[:, :r].T @ G) < 1e-11
        assert np.linalg.norm(G @ Vt[:r].T) < 1e-11
        assert s[r:].max(initial=0.0) < 1e-12
    rate = 0.5 / (depth * 10 ** (2 - 2 / depth))
    greedy = dln.greedy_low_rank(cost, depth, epsilon=0.1, learning_rate=rate, steps=60_000, tolerance=1e-3)
    assert [saddle.rank for saddle in greedy.saddles] == [0, 1, 2, 3]
    assert [saddle.kind for saddle in greedy.saddles] == ["saddle"] * 3 + ["minimum"]
    for a, b in zip(greedy.saddles[:-1], path.saddles[:-1], strict=True):
        assert np.isclose(a.cost, b.cost, rtol=1e-4)
        assert np.isclose(a.escape_speed, b.escape_speed, rtol=1e-3)


def test_the_greedy_algorithm_recovers_a_matrix_of_rank_three():
    """Depth 4, epsilon 0.01: train cost 24.2836, 4.84358, 0; test mean square 1.286, 1.171, 0 (published figures)."""
    target, mask = partly_observed()
    cost = dln.costs.MatrixCompletion(target, mask)
    greedy = dln.greedy_low_rank(
        cost, 4, epsilon=0.01, learning_rate=0.25 / 10**1.5, steps=400_000, tolerance=1e-13
    )
    assert [saddle.rank for saddle in greedy.saddles] == [0, 1, 2, 3]
    train = [saddle.cost for saddle in greedy.saddles[1:]]
    test = [np.mean((saddle.end_to_end - target)[mask == 0] ** 2) for saddle in greedy.saddles[1:]]
    assert np.allclose(train[:2], [24.2836, 4.84358], rtol=1e-5)
    assert np.allclose(test[:2], [1.286, 1.171], atol=5e-4)
    assert train[2] < 1e-13
    assert test[2] < 1e-11


def test_a_neuron_is_added_as_the_algorithm_says():
    """-epsilon v^T below W_1, epsilon on the diagonals, epsilon u beside W_L: a product of -epsilon^L u v^T."""
    cost, epsilon = completion(), 0.1
    greedy = dln.greedy_low_rank(cost, 3, epsilon=epsilon, learning_rate=1e-3, steps=1, tolerance=1e-3)
    for segment, saddle in zip(greedy.segments, greedy.saddles, strict=False):
        U, _, Vt = np.linalg.svd(cost.gradient(saddle.end_to_end))
        added = segment.end_to_end[0] - saddle.end_to_end
        assert np.allclose(added, -(epsilon**3) * np.outer(U[:, 0], Vt[0]), atol=1e-13)
        first, *_, last = (W[0] for W in segment.weights)
        assert np.isclose(np.linalg.norm(first[-1]), epsilon)
        assert np.isclose(np.linalg.norm(last[:, -1]), epsilon)
        gradients = network.layer_gradients(
            [W[0] for W in segment.weights], cost.gradient(segment.end_to_end[0])
        )
        for W, gradient in zip(segment.weights, gradients, strict=True):
            assert np.allclose(W[1], W[0] - 1e-3 * gradient, atol=1e-15)


def test_path_turns_with_the_problem():
    rng = np.random.default_rng(2)
    A, mask = rng.normal(size=(4, 3)), np.ones((4, 3))
    mask[0, 1] = mask[2, 2] = mask[3, 0] = 0
    path = dln.saddle_to_saddle(dln.costs.MatrixCompletion(A, mask), 3)
    turned = dln.saddle_to_saddle(dln.costs.MatrixCompletion(A.T, mask.T), 3)
    scaled = dln.saddle_to_saddle(5.0 * dln.costs.MatrixCompletion(A, mask), 3)
    for a, b, c in zip(path.saddles, turned.saddles, scaled.saddles, strict=True):
        assert np.allclose(a.end_to_end, b.end_to_end.T, atol=1e-9)
        assert np.allclose(a.end_to_end, c.end_to_end, atol=1e-9)
        assert np.isclose(5 * a.escape_speed, c.escape_speed)


def test_ends_of_the_path():
    equal = dln.saddle_to_saddle(dln.costs.FullyObserved(np.diag([2.0, 2.0, 1.0])), 3)
    assert [saddle.directions for saddle in equal.saddles] == [2, 1, 1, 0]
    assert dln.saddle_to_saddle(dln.costs.FullyObserved(np.zeros((2, 3))), 3).saddles[0].kind == "minimum"
    short = dln.saddle_to_saddle(dln.costs.FullyObserved(np.eye(3)), 3, max_rank=1)
    assert [saddle.kind for saddle in short.saddles] == ["saddle", "saddle"]
    rng = np.random.default_rng(3)
    separable = dln.costs.CrossEntropy(rng.normal(size=(4, 6)), [0, 1, 2, 0, 1, 2])
    assert dln.saddle_to_saddle(separable, 2).saddles[-1].kind == "unbounded"
    mixed = dln.costs.CrossEntropy(rng.normal(size=(3, 40)), rng.integers(0, 3, 40))
    last = dln.saddle_to_saddle(mixed, 3).saddles[-1]
    assert last.kind == "minimum"
    assert np.linalg.norm(mixed.gradient(last.end_to_end)) < 1e-8
    sensed = dln.costs.MatrixSensing(rng.normal(size=(30, 3, 4)), rng.normal(size=30))
    last = dln.saddle_to_saddle(sensed, 3).saddles[-1]
    lowest = np.linalg.lstsq(sensed.measurements.reshape(30, -1), sensed.values, rcond=None)[1][0] / 2
    assert last.kind == "minimum"
    assert np.isclose(last.cost, lowest, rtol=1e-10)


@pytest.mark.parametrize("depth", [2, 3])
def test_distance_of_runs_falls_with_the_gap_of_the_singular_values(depth):
    """Like alpha^(1 - s_2/s_1), at every depth."""
    cost = dln.costs.FullyObserved(np.diag([3.0, 1.0, 0.3]))
    path = dln.saddle_to_saddle(cost, depth)
    rng = np.random.default_rng(4)
    reference, alphas, distances = small_start((3, *[8] * (depth - 1), 3), 1.0, rng), (3e-3, 1e-3, 3e-4), []
    for alpha in alphas:
        start = [alpha * W for W in reference]
        run = dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-10))
        distances.append(path.distance(run))
    assert abs(slope(alphas, distances) - 2 / 3) < 0.1
    gaps, places = path.distances(run)
    assert gaps.shape == places.shape == run.t.shape
    back = np.maximum.accumulate(places) - places
    assert back.max() < 0.5  # one orbit after the other, but for ties at a saddle
    own = path.distance(path.segments[1])
    assert own < 1e-7


def test_nearest_point_is_on_the_curve_and_not_on_its_samples():
    """A quarter of a circle by few samples: cubic Hermite pieces err by the fourth power of their length."""
    errors = []
    for count in (5, 9):
        phi = np.linspace(0, np.pi / 2, count)
        circle = np.column_stack([np.cos(phi), np.sin(phi)])
        tangents = np.column_stack([-np.sin(phi), np.cos(phi)])
        angle = np.linspace(0.01, np.pi / 2 - 0.01, 50)
        points = 1.5 * np.column_stack([np.cos(angle), np.sin(angle)])
        gaps, places = nearest(points, circle, tangents)
        errors.append(np.abs(gaps - 0.5).max())
        assert np.allclose(places * count / (count - 1), angle / (np.pi / 2), atol=1e-2)
    assert errors[1] < 1e-4
    assert errors[0] / errors[1] > 10


@pytest.mark.parametrize(("depth", "alpha", "close"), [(2, 1e-4, 1e-6), (3, 1e-3, 1e-6), (4, 1e-2, 1e-6)])
def test_escape_time_is_that_of_a_run(depth, alpha, close):
    rng = np.random.default_rng(5)
    cost = dln.costs.FullyObserved(target(3, (1.0, 0.2, 0.1), rng))
    start = small_start((3, *[5] * (depth - 1), 3), alpha * np.sqrt(5), rng)
    predicted = dln.escape_time(cost, start)
    run = dln.gradient_flow(cost, start, (0.0, predicted + 20.0), rtol=1e-11)
    s = run.singular_values[:, 0]
    i = int(np.argmax(s >= 0.5))
    measured = brentq(lambda t: np.linalg.norm(run.at(t), 2) - 0.5, run.t[i - 1], run.t[i], xtol=1e-12)
    assert abs(predicted / measured - 1) < close


def test_escape_time_of_two_layers_is_the_formula():
    rng = np.random.default_rng(6)
    A = target(4, (2.0, 0.5, 0.3), rng)
    U, s, Vt = np.linalg.svd(A)
    W_1, W_2 = small_start((4, 6, 4), 1e-5, rng)
    size = np.linalg.norm(W_1 @ Vt[0] + W_2.T @ U[:, 0])
    exact = np.log(4 * s[0] / size**2) / (2 * s[0])
    assert np.isclose(dln.escape_time(dln.costs.FullyObserved(A), [W_1, W_2]), exact, rtol=1e-8)


def test_blow_up_time_is_the_integral_of_a_scalar_network_and_scales():
    rng = np.random.default_rng(7)
    for depth in (3, 4, 5):
        w, s = np.sort(rng.uniform(0.1, 1.0, depth)), 1.7

        def rate(x, w=w, s=s):
            return 1 / (s * np.prod(np.sqrt(x**2 + w[1:] ** 2 - w[0] ** 2)))

        exact = sum(quad(rate, a, b, epsrel=1e-13)[0] for a, b in ((w[0], 1.0), (1.0, np.inf)))
        found = dln.blow_up_time([[-s]], [[[x]] for x in w])
        assert np.isclose(found, exact, rtol=1e-9)
        weights = small_start((3, *[4] * (depth - 1), 2), 1.0, rng)
        G = rng.normal(size=(2, 3))
        once = dln.blow_up_time(G, weights)
        assert np.isclose(
            dln.blow_up_time(G, [0.1 * W for W in weights]), once * 10 ** (depth - 2), rtol=1e-8
        )
        assert np.isclose(dln.blow_up_time(3 * G, weights), once / 3, rtol=1e-8)
    assert dln.blow_up_time([[1.0]], [[[1.0]], [[1.0]]]) == math.inf
    assert dln.blow_up_time([[1.0]], [[[0.0]]] * 3) == math.inf


def test_tangent_kernel_moves_the_product():
    rng = np.random.default_rng(8)
    weights, G = small_start((3, 5, 4, 2), 1.0, rng), rng.normal(size=(2, 3))
    kernel = dln.ntk(weights)
    assert kernel.shape == (2, 3, 2, 3)
    moved = -np.einsum("ijkl,kl->ij", kernel, G)
    assert np.allclose(moved, network.end_to_end_velocity(weights, G), atol=1e-14)
    assert np.allclose(kernel, kernel.transpose(2, 3, 0, 1))


COST = dln.costs.FullyObserved(np.eye(2))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: dln.saddle_to_saddle(np.eye(2), 3), "cost"),
        (lambda: dln.saddle_to_saddle(COST, 1), "depth"),
        (lambda: dln.saddle_to_saddle(COST, 3, shape=(3, 2)), "shape"),
        (lambda: dln.saddle_to_saddle(COST, 3, max_rank=3), "max_rank"),
        (lambda: dln.saddle_to_saddle(COST, 3, rtol=0.0), "rtol"),
        (lambda: dln.greedy_low_rank(COST, 3, epsilon=0.0, learning_rate=0.1, steps=5), "epsilon"),
        (lambda: dln.greedy_low_rank(COST, 3, epsilon=0.1, learning_rate=0.0, steps=5), "learning_rate"),
        (lambda: dln.greedy_low_rank(COST, 3, epsilon=0.1, learning_rate=0.1, steps=0), "steps"),
        (lambda: dln.escape_time(COST, [np.eye(2)]), "weights"),
        (lambda: dln.escape_time(COST, [np.eye(3), np.eye(3)]), "weights"),
        (lambda: dln.blow_up_time(np.eye(3), [np.eye(2)] * 3), "gradient"),
        (lambda: dln.ntk([np.eye(2), np.eye(3)]), "weights"),
    ],
)
def test_bad_input_is_refused_by_name(call, name):
    with pytest.raises((ValueError, TypeError), match=rf"^`{name}` must .*\. [A-Z]"):
        call()


def test_the_plane_through_the_saddles():
    """Full observation: the path goes along both axes, then straight out of the plane; the run stays close to it."""
    import matplotlib as mpl

    mpl.use("Agg")
    rng = np.random.default_rng(9)
    cost = dln.costs.FullyObserved(target(4, (3.0, 2.0, 1.0), rng))
    path = dln.saddle_to_saddle(cost, 3)
    run = dln.gradient_flow(
        cost, small_start((4, 6, 6, 4), 1e-5, rng), (0.0, np.inf), until=dln.Until(cost=1e-8)
    )
    ax = plotting.plot_plane(run, path)
    one, two, three, seen, saddles = (np.transpose(line.get_data()) for line in ax.lines[:5])
    assert np.allclose(saddles, [[0, 0], [3, 0], [3, 2], [3, 2]], atol=1e-9)
    assert np.allclose(one[:, 1], 0, atol=1e-9)
    assert np.allclose(two[:, 0], 3, atol=1e-9)
    assert np.allclose(three, [3, 2], atol=1e-9)
    assert [text.get_text() for text in ax.texts] == ["rank 0", "rank 1", "rank 2, 3"]
    steps = np.abs(seen - [[3, 0]])
    assert np.minimum(*steps.T).max() < 0.1  # on one of the axes
    short = dln.saddle_to_saddle(cost, 3, max_rank=0)  # no plane of its own: that of the run
    line = np.transpose(plotting.plot_plane(run, short).lines[0].get_data())
    assert np.isclose(np.linalg.norm(line[-1]), np.linalg.norm(cost.target), rtol=1e-3)


@pytest.mark.parametrize(("depth", "observed"), [(2, 1440), (3, 2160)])
def test_path_of_a_large_problem(depth, observed):
    """Flat directions by the hundred: the least curvature is zero to rounding, and still found."""
    cost = completion(3, 60, tuple(np.linspace(10.0, 4.0, 6)), observed)
    path = dln.saddle_to_saddle(cost, depth)
    assert [saddle.rank for saddle in path.saddles] == list(range(7))
    assert path.saddles[-1].kind == "minimum"
    assert path.saddles[-1].cost < 1e-15 * path.saddles[0].cost
    assert (np.diff([saddle.cost for saddle in path.saddles]) < 0).all()
