"""The regularised landscape: enumeration against what Newton finds, dense Hessians, descent, and counting."""

from __future__ import annotations

import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln.landscape import Landscape, critical_points, hessian, local_minima


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
