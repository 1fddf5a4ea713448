"""The regularised landscape: enumeration against what Newton finds, dense Hessians, descent, and counting."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln.landscape import (
    Landscape,
    bifurcation,
    critical_points,
    hessian,
    is_tightened,
    local_minima,
    thresholds,
    unregularised,
)
from dln.plotting import plot_bifurcation


def rotated(singular_values, shape, rng):
    """Matrix of a shape with these singular values."""
    U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in shape)
    K = len(singular_values)
    return (U[:, :K] * singular_values) @ V[:, :K].T


def gradient_norm(target, weights, weight_decay):
    return np.linalg.norm(P.velocity(dln.costs.FullyObserved(target), weights, weight_decay))


@st.composite
def problems(draw):
    """Target of any rank, with repeated and zero singular values and some at a threshold; depth; decay; width."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)))
    depth = draw(st.integers(1, 6))
    weight_decay = float(rng.uniform(0.02, 0.7))
    s = np.sort(rng.choice([0.0, 0.5, 1.0, 2.0, rng.uniform(0.0, 2.0)], size=min(shape)))[::-1]
    at = draw(st.sampled_from([None, None, dln.schatten.jump, dln.schatten.saddle_node]))
    if at and depth > 1 and s[0] > 0:
        s = s * float(at(weight_decay, depth)[1]) / s[draw(st.integers(0, np.count_nonzero(s) - 1))]
    width = draw(st.integers(1, 5)) if depth > 1 else None
    return rotated(s, shape, rng), depth, weight_decay, width


@given(problem=problems())
@settings(max_examples=150, deadline=None)
def test_every_point_is_critical_with_the_spectrum_index_and_kind_of_its_dense_hessian(problem):
    target, depth, weight_decay, width = problem
    cost, points = dln.costs.FullyObserved(target), critical_points(target, depth, weight_decay, width=width)
    least = min(point.objective for point in points)
    for point in points:
        weights, A = point.weights, point.end_to_end
        size = 1.0 + np.linalg.norm(target)
        assert np.allclose(dln.network.end_to_end(weights), A, rtol=0, atol=1e-13 * size)
        assert gradient_norm(target, weights, weight_decay) < 1e-13 * size
        objective = cost.value(A) + weight_decay / 2 * np.sum(P.flat(weights) ** 2)
        assert np.isclose(point.objective, objective, rtol=1e-12)
        assert np.isclose(
            point.objective,
            cost.value(A) + weight_decay * dln.schatten.value(A, depth) if depth < 3 else objective,
        )
        values = np.linalg.eigvalsh(hessian(cost, weights, weight_decay=weight_decay).to_dense())
        assert np.abs(point.spectrum() - values).max() < 1e-10 * np.abs(values).max()
        assert point.morse_index == np.sum(values < -1e-9)
        # The kernel: rotations of the hidden layers, the family of A, and nothing else off the saddle-node.
        r, hidden = point.rank, point.landscape.widths[1:-1]
        orbit = sum(w * r - r * (r + 1) // 2 for w in hidden) + point.dimension
        born = (
            depth > 1
            and np.isclose(
                point.landscape.singular_values,
                float(dln.schatten.saddle_node(weight_decay, depth)[1]),
                rtol=1e-12,
            ).any()
        )
        flat = np.sum(np.abs(values) < 1e-9)
        assert flat == orbit or (born and flat > orbit)
        assert (point.kind == "strict saddle") == (values[0] < -1e-9)
        assert (point.kind == "degenerate") == ("+-" in point.branches and values[0] > -1e-9)
        assert (point.kind == "global minimum") == (point.objective < least + 1e-12 * size)


@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_lazy_orders_and_direct_minima_agree_with_the_list(problem):
    target, depth, weight_decay, width = problem
    space = Landscape(target, depth, weight_decay, width=width)
    points = critical_points(target, depth, weight_decay, width=width)
    assert len(space) == space.count == len(points)
    patterns = [point.branches for point in points]
    assert len(set(patterns)) == len(points)
    by_objective, by_index = list(space), list(space.by_index())
    for order in (by_objective, by_index):
        assert sorted(point.branches for point in order) == sorted(patterns)
    same = {
        point.branches: (point.objective, point.morse_index, point.kind, point.dimension) for point in points
    }
    for point in by_objective:
        objective, *rest = same[point.branches]
        assert np.isclose(point.objective, objective, rtol=1e-14)
        assert [point.morse_index, point.kind, point.dimension] == rest
    objectives = np.array([[point.objective for point in order] for order in (points, by_objective)])
    assert np.all(np.diff(objectives) > -1e-14 * objectives[:, 1:])
    assert np.all(np.diff([point.morse_index for point in by_index]) >= 0)
    minima = local_minima(target, depth, weight_decay, width=width)
    assert {point.branches for point in minima} == {
        point.branches for point in points if point.kind.endswith("minimum")
    }
    assert [point.rank for point in minima] == sorted({point.rank for point in minima})


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_numbers_of_points_and_minima_by_the_theorem(depth):
    rng = np.random.default_rng(depth)
    for _ in range(20):
        s, weight_decay = rng.uniform(0.1, 3.0, 4), rng.uniform(0.01, 1.0)
        points = critical_points(rotated(s, (4, 5), rng), depth, weight_decay, width=4 + rng.integers(3))
        K = int(np.sum(s > dln.schatten.saddle_node(weight_decay, depth)[1]))
        assert len(points) == (2 if depth == 2 else 3) ** K
        minima = [point for point in points if point.morse_index == 0]
        assert len(minima) == (1 if depth == 2 else K + 1)
        best = points[0]
        assert best.kind == "global minimum"
        prox = dln.schatten.prox(
            best.landscape.U @ np.diag(best.landscape.singular_values) @ best.landscape.Vt,
            weight_decay,
            depth,
        )
        assert np.allclose(best.end_to_end, prox, rtol=0, atol=1e-12)


def descended(target, weights, weight_decay, depth):
    """Objective where the flow ends that starts at the weights."""
    run = dln.gradient_flow(
        dln.costs.FullyObserved(target),
        weights,
        (0.0, np.inf),
        weight_decay=weight_decay,
        form="weights",
        until=dln.Until(gradient_norm=1e-6),
    )
    assert run.success
    return run.objective[-1]


@pytest.mark.parametrize(("depth", "width"), [(2, 2), (2, 3), (3, 2), (3, 1), (4, 2)])
def test_flows_that_start_beside_minima_return_and_those_beside_saddles_leave(depth, width):
    rng = np.random.default_rng(depth)
    target, weight_decay = P.target(2, (2.0, 1.2), rng), 0.25
    for point in critical_points(target, depth, weight_decay, width=width):
        kicked = [W + 1e-3 * rng.standard_normal(W.shape) for W in point.weights]
        gain = point.objective - descended(target, kicked, weight_decay, depth)
        if point.kind == "strict saddle":
            assert gain > 1e-3
        else:
            assert abs(gain) < 1e-9


@pytest.mark.parametrize("depth", [3, 5])
def test_a_mode_at_the_saddle_node_falls_like_a_cube_on_one_side(depth):
    born = float(dln.schatten.saddle_node(0.3, depth)[1])
    kinds = {point.branches: point for point in critical_points([[born]], depth, 0.3)}
    assert {branches: point.kind for branches, point in kinds.items()} == {
        ("+-",): "degenerate",
        ("0",): "global minimum",
    }
    point = kinds["+-",]
    cost, u = dln.costs.FullyObserved([[born]]), float(point.weights[0][0, 0])

    def objective(step):
        return cost.value([[(u + step) ** depth]]) + 0.3 / 2 * depth * (u + step) ** 2

    for h in (1e-2, 5e-3):
        down, up = objective(-h) - point.objective, objective(h) - point.objective
        assert down < 0 < up
        assert np.isclose(-up / down, 1.0, atol=0.1)  # odd: neither a slope nor a curvature of one sign


def test_ties_at_the_jump_and_equal_singular_values():
    depth, weight_decay = 4, 0.2
    jump = float(dln.schatten.threshold(weight_decay, depth))
    points = critical_points(
        rotated((2.0, jump, jump), (3, 4), np.random.default_rng(6)), depth, weight_decay
    )
    best = [point for point in points if point.kind == "global minimum"]
    assert [point.rank for point in best] in (
        [1, 2, 3],
        [1, 3, 2],
        [2, 1, 3],
        [2, 3, 1],
        [3, 1, 2],
        [3, 2, 1],
    )
    assert np.ptp([point.objective for point in best]) < 1e-14
    assert {point.rank: point.dimension for point in best} == {1: 0, 2: 1, 3: 0}
    # Two equal ones: six choices in place of nine. One of them alone can turn; both on the lower branch add a pair.
    twins = {point.branches: point for point in critical_points(np.eye(2), 3, 0.1)}
    assert len(twins) == 6
    assert {branches: (point.morse_index, point.dimension) for branches, point in twins.items()} == {
        ("+", "+"): (0, 0),
        ("+", "-"): (1, 1),
        ("-", "-"): (3, 0),
        ("+", "0"): (0, 1),
        ("-", "0"): (1, 1),
        ("0", "0"): (0, 0),
    }


@pytest.mark.parametrize(
    ("size", "weight_decay"), [(1.0, 1e-30), (1e-100, 1e-140), (1e100, 1e110), (1e140, 1e100)]
)
def test_tiny_decay_and_targets_of_any_size(size, weight_decay):
    """Of the mode of rounding alone no branch is seen, though the saddle-node lies in the rounding too."""
    points = critical_points(size * np.diag([1.0, 1e-17]), 3, weight_decay)
    assert [(point.kind, point.branches) for point in points] == [
        ("global minimum", ("+", "0")),
        ("local minimum", ("0", "0")),
        ("strict saddle", ("-", "0")),
    ]
    upper, _, lower = (point.singular_values[0] for point in points)
    assert np.isclose(upper + weight_decay / np.cbrt(upper), size, rtol=1e-14)
    assert np.isclose(lower + weight_decay / np.cbrt(lower), size, rtol=1e-13)  # log x is of the order of 300
    assert lower < upper
    assert np.isclose(points[1].objective, size**2 / 2, rtol=1e-15)


def test_points_are_made_only_when_asked_for():
    space = Landscape(np.diag(np.arange(50.0, 0.0, -1.0)), 3, 1e-2)
    assert space.count == 3**50
    first = [point for point, _ in zip(space, range(100), strict=False)]
    assert first[0].kind == "global minimum"
    assert first[0].branches == ("+",) * 50
    assert np.all(np.diff([point.objective for point in first]) >= 0)
    # The second best gives up the last mode.
    assert first[1].branches == ("+",) * 49 + ("0",)
    minima = [point for point, _ in zip(space.by_index(), range(51), strict=False)]
    assert all(point.morse_index == 0 for point in minima)
    assert sorted(point.rank for point in minima) == list(range(51))
    assert len(space.local_minima()) == 51
    with pytest.raises(ValueError, match="`target` must have at most 531441 critical points to list them"):
        space.all()
    shallow = Landscape(np.diag(np.arange(50.0, 0.0, -1.0)), 2, 1e-2, width=60)
    # z modes at 0, each with 10 + z free neurons, and overtaken: (10 + z) z plus a partition into at most z parts.
    partitions = [[n] * (2 + (n - 24) // 2) for n in range(24, 34)]
    expected = [0, *range(11, 24), *(n for same in partitions for n in same)]
    found = [point.morse_index for point, _ in zip(shallow.by_index(), expected, strict=False)]
    assert found == expected
    # A narrow net skips what does not fit, without looking at it.
    narrow = Landscape(np.diag(np.arange(50.0, 0.0, -1.0)), 3, 1e-2, width=1)
    assert len(narrow) == len(list(narrow)) == len(narrow.all()) == 101


@given(seed=st.integers(0, 2**32 - 1), depth=st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_points_turn_with_the_target_and_scale_with_it(seed, depth):
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0.2, 3.0, 3))[::-1]
    plain, turned = (critical_points(T, depth, 0.2) for T in (np.diag(s), rotated(s, (3, 3), rng)))
    for a, b in zip(plain, turned, strict=True):
        assert a.branches == b.branches
        assert a.morse_index == b.morse_index
        assert np.isclose(a.objective, b.objective, rtol=1e-13)
        assert np.allclose(a.singular_values, b.singular_values, rtol=1e-10, atol=0)
    # A* -> c A*, lambda -> c^(2 - 2/L) lambda takes A to c A and the objective to its c^2.
    scaled = critical_points(1e3 * np.diag(s), depth, 1e3 ** (2 - 2 / depth) * 0.2)
    for a, b in zip(plain, scaled, strict=True):
        assert a.branches == b.branches
        assert np.allclose(b.end_to_end, 1e3 * a.end_to_end, rtol=1e-9, atol=1e-9)
        assert np.isclose(b.objective, 1e6 * a.objective, rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_thresholds_are_where_the_number_of_points_and_the_global_minimum_change(depth):
    rng = np.random.default_rng(depth)
    s = np.array([3.0, 1.7, 0.6])
    target = rotated(s, (3, 4), rng)
    found = thresholds(target, depth)
    assert np.allclose(found.singular_values, s, rtol=1e-14)
    for k in range(3):
        below, beyond = (Landscape(target, depth, found.saddle_node[k] * (1 + h)) for h in (-1e-9, 1e-9))
        assert below.count == (2 if depth == 2 else 3) ** (k + 1)
        assert beyond.count == (2 if depth == 2 else 3) ** k
        below, beyond = (Landscape(target, depth, found.jump[k] * (1 + h)) for h in (-1e-9, 1e-9))
        assert (next(iter(below)).rank, next(iter(beyond)).rank) == (k + 1, k)
        assert np.isclose(dln.schatten.threshold(found.jump[k], depth), s[k], rtol=1e-14)
    assert found.collapse == found.jump[0]


def test_bifurcation_curves_follow_the_points(tmp_path):
    target = np.diag([2.0, 1.2])
    born = thresholds(target, 3).saddle_node
    decays = np.sort(np.append(np.linspace(0.02, 2.0, 60), born[1]))
    diagram = bifurcation(target, 3, decays)
    assert len(diagram.branches) == len(set(diagram.branches)) == 9
    at = int(np.flatnonzero(decays == born[1])[0])
    for row, branches in enumerate(diagram.branches):
        there = ~np.isnan(diagram.norm[row])
        last = min((b for b, branch in zip(born, branches, strict=True) if branch != "0"), default=np.inf)
        assert np.array_equal(there, decays <= last)
        assert np.array_equal(there, diagram.morse_index[row] >= 0)
        assert (np.diff(diagram.objective[row][there]) > -1e-12).all()  # of (lambda/2) |theta|^2
    curve = {branches: row for row, branches in enumerate(diagram.branches)}
    upper, lower = curve["+", "+"], curve["+", "-"]
    assert diagram.norm[upper, at] == diagram.norm[lower, at]
    for i in range(0, len(decays), 10):
        for point in critical_points(target, 3, decays[i]):
            row = curve[point.branches]
            assert np.isclose(diagram.norm[row, i], np.linalg.norm(point.end_to_end), rtol=1e-13, atol=1e-15)
            assert diagram.objective[row, i] == point.objective
            assert diagram.morse_index[row, i] == point.morse_index
            assert diagram.is_global[row, i] == (point.kind == "global minimum")
    for quantity in ("norm", "objective"):
        ax = plot_bifurcation(diagram, quantity=quantity)
        solid = [line for line in ax.lines if line.get_linestyle() == "-" and line.get_linewidth() < 2]
        drawn = sum(np.isfinite(line.get_ydata()).sum() for line in solid)
        assert drawn == np.sum(diagram.morse_index == 0)
        dashed = sum(np.isfinite(line.get_ydata()).sum() for line in ax.lines if line.get_linestyle() == "--")
        assert dashed == np.sum(diagram.morse_index > 0)
        assert {text.get_text() for text in ax.texts} == {"1", "2", "3"}
        plt.close(ax.figure)
    with pytest.raises(ValueError, match="`quantity` must be one of"):
        plot_bifurcation(diagram, quantity="rank")


def test_two_layers_change_their_index_along_a_curve():
    diagram = bifurcation(np.diag([3.0, 2.0]), 2, [1.0, 2.5, 3.5], width=4)
    assert diagram.morse_index[diagram.branches.index(("0", "0"))].tolist() == [8, 4, 0]
    assert diagram.is_global[diagram.branches.index(("0", "0"))].tolist() == [False, False, True]


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    depth=st.integers(1, 5),
    width=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_without_decay_the_points_are_projections_with_the_second_order_of_their_factors(
    shape, depth, width, seed
):
    rng = np.random.default_rng(seed)
    K = min(shape)
    target = rotated(np.sort(rng.choice([0.0, 1.0, 2.0, rng.uniform(0.5, 2.0)], K))[::-1], shape, rng)
    cost, hidden = dln.costs.FullyObserved(target), None if depth == 1 else width
    points = unregularised(target, depth, width=hidden)
    least = points[0].cost
    assert np.isclose(
        least, 0.5 * np.sum(np.linalg.svd(target, compute_uv=False)[hidden or K :] ** 2), atol=1e-14
    )
    for point in points:
        weights = point.weights
        assert np.allclose(dln.network.end_to_end(weights), point.end_to_end, atol=1e-13)
        assert np.isclose(cost.value(point.end_to_end), point.cost, rtol=1e-12, atol=1e-14)
        assert gradient_norm(target, weights, 0.0) < 1e-12
        values = np.linalg.eigvalsh(hessian(cost, weights).to_dense())
        assert np.abs(point.spectrum() - values).max() < 1e-10
        assert (point.kind == "global minimum") == (point.cost < least + 1e-12)
        assert (point.kind == "strict saddle") == (values[0] < -1e-9)
        if point.kind == "global minimum":
            with pytest.raises(ValueError, match="`strict_weights` must belong to a saddle"):
                point.strict_weights  # noqa: B018
            continue
        strict = point.strict_weights
        assert np.allclose(dln.network.end_to_end(strict), point.end_to_end, atol=1e-13)
        assert gradient_norm(target, strict, 0.0) < 1e-12
        assert np.linalg.eigvalsh(hessian(cost, strict).to_dense())[0] < -1e-9
        if point.kind == "degenerate":
            assert is_tightened(target, weights)
            assert not is_tightened(target, strict)


def chained(matrices, n):
    product = np.eye(n)
    for M in matrices:
        product = M @ product
    return product


def critical_factors(U, V, s, r, widths, rng):
    """Layers, critical without decay, with product sum_{i<r} s_i u_i v_i^T; None if this draw is not critical.

    Up to a change of basis in every hidden layer each layer is block diagonal: the modes, and a block Z_l. The Z_l have
    the product 0, and so has every (Z_L .. Z_{l+1})^T G (Z_{l-1} .. Z_1)^T, for G the rest of the target.
    """
    sizes = [n - r for n in widths]
    rest = np.zeros((sizes[-1], sizes[0]))
    rest[range(len(s) - r), range(len(s) - r)] = s[r:]
    Z = []
    for rows, columns in zip(sizes[1:], sizes, strict=False):
        q = rng.integers(0, min(rows, columns) + 1) * rng.integers(2)
        Z.append(np.eye(rows)[:, rng.permutation(rows)[:q]] @ np.eye(columns)[rng.permutation(columns)[:q]])
    L = len(Z)
    conditions = [chained(Z, sizes[0])] + [
        chained(Z[l + 1 :], sizes[l + 1]).T @ rest @ chained(Z[:l], sizes[0]).T for l in range(L)
    ]
    if max(np.abs(M).max(initial=0.0) for M in conditions) > 0:
        return None
    layers = [np.block([[np.eye(r), np.zeros((r, M.shape[1]))], [np.zeros((M.shape[0], r)), M]]) for M in Z]
    layers[0] = np.diag(np.append(s[:r], np.ones(widths[1] - r))) @ layers[0] @ V.T
    layers[-1] = U @ layers[-1]
    for l, n in enumerate(widths[1:-1]):
        change = np.linalg.qr(rng.standard_normal((n, n)))[0] * rng.uniform(0.5, 2.0, n)
        layers[l], layers[l + 1] = change @ layers[l], layers[l + 1] @ np.linalg.inv(change)
    return layers


def test_saddles_without_decay_are_strict_exactly_where_their_factors_are_not_tightened():
    rng = np.random.default_rng(8)
    seen = {True: 0, False: 0}
    while min(seen.values()) < 60:
        widths = rng.integers(2, 5, rng.integers(3, 6))
        K = min(widths[0], widths[-1])
        s = np.sort(rng.uniform(0.5, 2.0, K))[::-1]
        s[K - rng.integers(0, 2) :] = 0.0
        r = int(rng.integers(0, min(np.count_nonzero(s), *widths)))
        U, V = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (widths[-1], widths[0]))
        weights, target = critical_factors(U, V, s, r, widths, rng), (U[:, :K] * s) @ V[:, :K].T
        if weights is not None:
            assert gradient_norm(target, weights, 0.0) < 1e-12
            lowest = np.linalg.eigvalsh(hessian(dln.costs.FullyObserved(target), weights).to_dense())[0]
            tightened = is_tightened(target, weights)
            assert tightened == (lowest > -1e-9)
            seen[tightened] += 1


CALLS = (critical_points, local_minima, Landscape, lambda A, L, wd, **more: bifurcation(A, L, [wd], **more))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"weight_decay": -0.1}, ValueError, "must be (zero or )?positive"),
        ({"weight_decay": 0.0}, ValueError, "must be positive"),
        ({"weight_decay": np.nan}, ValueError, "must be"),
        ({"weight_decay": np.inf}, ValueError, "must be"),
        ({"weight_decay": "much"}, TypeError, "must be"),
        ({"depth": 0}, ValueError, "`depth` must be at least 1"),
        ({"depth": 2.5}, TypeError, "`depth` must be an integer"),
        ({"width": 0}, ValueError, "`width` must be at least 1"),
        ({"depth": 1, "width": 2}, ValueError, "`width` must be None"),
        ({"target": [[np.nan]]}, ValueError, "`target` must be finite"),
        ({"target": [1.0, 2.0]}, ValueError, "`target` must have 2 axes"),
        ({"target": [[1.0 + 1.0j]]}, TypeError, "`target` must be an array of real numbers"),
    ],
)
def test_what_is_refused(call, change, error, match):
    given = {"target": np.eye(2), "depth": 3, "weight_decay": 0.1, **change}
    more = {"width": given["width"]} if "width" in given else {}
    with pytest.raises(error, match=match):
        call(given["target"], given["depth"], given["weight_decay"], **more)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: critical_points(np.eye(2), 3, 0.0),
            "critical points are those of dln.landscape.unregularised",
        ),
        (lambda: critical_points(np.diag(np.arange(1.0, 14.0)), 3, 1e-3), "must have at most 531441"),
        (lambda: critical_points([[1e160]], 3, 0.1), "`target` must be 0 or have a norm between"),
        (lambda: critical_points([[1e-160]], 2, 1e-170), "`target` must be 0 or have a norm between"),
        (lambda: unregularised([[1e160]], 3), "`target` must be 0 or have a norm between"),
        (lambda: critical_points([[1.0]], 3, 1e-150), "must keep the lower root"),
        (lambda: unregularised(np.eye(2), 0), "`depth` must be at least 1"),
        (lambda: unregularised(np.eye(2), 1, width=2), "`width` must be None"),
        (lambda: unregularised(np.diag(np.arange(1.0, 31.0)), 3), "must have at most 531441 sets"),
        (lambda: thresholds(np.eye(2), 1), "`depth` must be at least 2"),
        (lambda: thresholds([[np.inf]], 3), "`target` must be finite"),
        (lambda: bifurcation(np.eye(2), 3, [0.2, 0.1]), "`weight_decays` must be positive and increasing"),
        (lambda: bifurcation(np.eye(2), 3, [0.0, 0.1]), "`weight_decays` must be positive and increasing"),
        (
            lambda: bifurcation(np.diag(np.arange(1.0, 11.0)), 3, np.linspace(1e-3, 1e-2, 10)),
            "at most 531441",
        ),
        (lambda: is_tightened(np.eye(2), [np.eye(3)]), "`target` must have shape"),
        (lambda: is_tightened(np.eye(2), [np.eye(2)], tol=0.0), "`tol` must be positive"),
    ],
)
def test_what_else_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
