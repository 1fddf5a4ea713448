"""Costs: the compiled loops against NumPy, derivatives against differences, batches against the whole."""

from __future__ import annotations

import warnings

import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln

shapes = st.tuples(st.integers(2, 5), st.integers(1, 5))
seeds = st.integers(0, 2**32 - 1)
WHOLE = np.empty(0, np.int64)


def drawn(shape, seed, kind):
    rng = np.random.default_rng(seed)
    cost = P.random_costs(*shape, rng)[kind]
    return cost, rng.standard_normal(shape), rng


@given(shape=shapes, seed=seeds, kind=st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_loops_agree_with_numpy(shape, seed, kind):
    cost, A, rng = drawn(shape, seed, kind)
    value, gradient = cost.kernels()
    out = np.full(shape, np.nan)
    gradient(A.ravel(), *shape, cost.data, WHOLE, out.ravel())
    assert value(A.ravel(), *A.shape, cost.data) == pytest.approx(cost.value(A), rel=1e-12, abs=1e-13)
    assert np.allclose(out, cost.gradient(A), rtol=1e-12, atol=1e-13)
    D = rng.standard_normal(shape)
    cost.hessian_kernel()(A.ravel(), D.ravel(), *shape, cost.data, out.ravel())
    exact = 1e-8 if isinstance(cost, dln.costs.Custom) else 1e-12
    assert np.allclose(out, cost.hessian_vector(A, D), rtol=exact, atol=exact * np.abs(D).max())


@given(shape=shapes, seed=seeds, kind=st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_derivatives_are_those_of_the_value(shape, seed, kind):
    cost, A, rng = drawn(shape, seed, kind)
    D, E = rng.standard_normal(shape), rng.standard_normal(shape)
    h = 1e-4
    value_slope = (cost.value(A + h * D) - cost.value(A - h * D)) / (2 * h)
    size = 1 + np.abs(cost.gradient(A)).max() + np.linalg.norm(A) ** 3
    assert np.sum(cost.gradient(A) * D) == pytest.approx(value_slope, abs=1e-5 * size)
    gradient_slope = (cost.gradient(A + h * D) - cost.gradient(A - h * D)) / (2 * h)
    assert np.abs(cost.hessian_vector(A, D) - gradient_slope).max() < 1e-5 * size
    symmetric = np.sum(E * cost.hessian_vector(A, D)) - np.sum(D * cost.hessian_vector(A, E))
    assert abs(symmetric) < 1e-6 * size


@given(shape=shapes, seed=seeds, kind=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_single_samples_average_to_the_gradient(shape, seed, kind):
    cost, A, rng = drawn(shape, seed, kind)
    gradient = cost.kernels()[1]
    each = np.empty((cost.samples, *shape))
    for sample in range(cost.samples):
        gradient(A.ravel(), *shape, cost.data, np.array([sample]), each[sample].ravel())
    assert np.allclose(each.mean(axis=0), cost.gradient(A), rtol=1e-10, atol=1e-12)
    batch = rng.integers(0, cost.samples, 4)
    out = np.empty(shape)
    gradient(A.ravel(), *shape, cost.data, batch, out.ravel())
    assert np.allclose(out, each[batch].mean(axis=0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", range(7))
def test_leading_axes_and_scaling(kind):
    cost, _, rng = drawn((3, 4), 1, kind)
    stack, D = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((2, 5, 3, 4))
    assert cost.value(stack).shape == (2, 5)
    assert cost.value(stack)[1, 2] == pytest.approx(cost.value(stack[1, 2]), rel=1e-14)
    assert np.allclose(cost.gradient(stack)[0, 3], cost.gradient(stack[0, 3]), rtol=1e-13)
    if not isinstance(cost, dln.costs.Custom):
        assert np.allclose(cost.hessian_vector(stack, D)[1, 1], cost.hessian_vector(stack[1, 1], D[1, 1]))
    double = 2.0 * cost
    assert double.value(stack[0, 0]) == pytest.approx(2.0 * cost.value(stack[0, 0]))
    out = np.empty((3, 4))
    double.kernels()[1](stack[0, 0].ravel(), 3, 4, double.data, WHOLE, out.ravel())
    assert np.allclose(out, 2.0 * cost.gradient(stack[0, 0]))


def test_unobserved_entries_do_not_matter():
    mask = np.array([[1, 0], [1, 1]])
    blank = dln.costs.MatrixCompletion([[1.0, np.nan], [0.0, 2.0]], mask)
    filled = dln.costs.MatrixCompletion([[1.0, 9.0], [0.0, 2.0]], mask)
    assert blank.value(np.eye(2)) == filled.value(np.eye(2))


def test_square_loss_costs_the_same_for_many_samples():
    rng = np.random.default_rng(0)
    cost = dln.costs.SquareLoss(rng.standard_normal((3, 5000)), rng.standard_normal((2, 5000)))
    value = cost.kernels()[0]
    A = rng.standard_normal((2, 3))
    assert value(A.ravel(), *A.shape, cost.data) == pytest.approx(cost.value(A), rel=1e-12)
    assert int(cost.data[2]) == 3  # the loop runs over three compressed columns


def test_custom_runs_as_python_where_it_cannot_be_compiled():
    def value(A):
        return 0.5 * float(np.sum(np.asarray([*map(float, A.ravel())]) ** 2)) + 0.0 * len({}.keys() | {"a"})

    cost = dln.costs.Custom(value, lambda A: A * len([*"a"]))
    with pytest.warns(UserWarning, match="cannot be compiled"):
        run = dln.gradient_flow(cost, [np.eye(2)], (0.0, 1.0))
    assert np.allclose(run.end_to_end[-1], np.exp(-1.0) * np.eye(2), atol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        dln.gradient_flow(cost, [np.eye(2)], (0.0, 1.0))


def test_custom_is_compiled_where_it_can_be():
    cost = dln.costs.Custom(P.quartic_value, P.quartic_gradient)
    run = dln.gradient_flow(cost, [0.5 * np.ones((2, 2)), np.eye(2)], (0.0, 2.0), rtol=1e-11)
    assert np.allclose(run.end_to_end[-1], P.reference(cost, run.start, np.array([2.0])), atol=1e-9)
