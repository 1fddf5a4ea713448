"""The compiled velocity against NumPy, from either side, and what it writes."""

from __future__ import annotations

import numpy as np
import problems as P
from hypothesis import given, settings
from hypothesis import strategies as st

from dln import form, network
from dln.backends.system import System
from dln.core.evaluate import compiled_evaluate
from dln.problem import Problem


@given(
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=7),
    seed=st.integers(0, 2**32 - 1),
    weight_decay=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=150, deadline=None)
def test_velocity_measures_and_reading(widths, seed, weight_decay):
    rng = np.random.default_rng(seed)
    widths[-1] = max(widths[-1], 2)
    cost = P.random_costs(widths[-1], widths[0], rng)[1]
    weights = tuple(rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False))
    system = System.of(Problem(cost, weights, weight_decay), form.ALL["weights"])
    work = system.arguments[-1]
    velocity, A, (value, objective, dissipation), status = system.evaluate(system.state)
    assert status == ""
    exact = P.velocity(cost, weights, weight_decay)
    size = 1 + np.abs(exact).max()
    assert np.abs(velocity - exact).max() < 1e-12 * size
    product = network.end_to_end(weights)
    assert np.allclose(A, product.ravel(), rtol=1e-11, atol=1e-11 * np.abs(product).max())
    assert np.isclose(value, cost.value(product), rtol=1e-10)
    assert np.isclose(objective, value + weight_decay / 2 * np.sum(P.flat(weights) ** 2), rtol=1e-12)
    assert np.isclose(dissipation, np.sum(exact**2), rtol=1e-9)
    read, out = system.kernels[2], np.empty(A.size)
    read(system.state, system.arguments[1], work, out)
    assert np.allclose(out, A, rtol=1e-11, atol=1e-11 * np.abs(product).max())


@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=7),
    seed=st.integers(0, 2**32 - 1),
    weight_decay=st.sampled_from([0.0, 0.3]),
    kind=st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_hessian_product_is_the_derivative_of_the_velocity(widths, seed, weight_decay, kind):
    rng = np.random.default_rng(seed)
    widths[-1] = max(widths[-1], 2)
    cost = P.random_costs(widths[-1], widths[0], rng)[kind]
    weights = tuple(rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False))
    system = System.of(Problem(cost, weights, weight_decay), form.ALL["weights"]).with_curvature()
    _, index, _, data, work = system.arguments
    gradient, _, product, hessian = system.kernels[3:]
    y, d = system.state, rng.standard_normal(system.state.size)

    def numpy_velocity(y):
        return P.velocity(cost, P.unflatten(y, weights), weight_decay)

    out = np.full_like(y, np.nan)
    product(y, d, index, weight_decay, gradient, hessian, data, work, out)
    # Central differences at two steps, extrapolated: the fourth order.
    coarse, fine = ((numpy_velocity(y - h * d) - numpy_velocity(y + h * d)) / (2 * h) for h in (2e-4, 1e-4))
    exact = (4 * fine - coarse) / 3
    assert np.abs(out - exact).max() < 1e-6 * (1 + np.abs(exact).max())
    A = network.end_to_end(weights).ravel()
    assert np.allclose(work[: A.size], A, rtol=1e-11, atol=1e-11 * np.abs(A).max())


def test_nothing_is_written_beyond_the_scratch_array():
    """The products do not check bounds: the length of the scratch array has to be right."""
    for widths in (
        (3, 2),
        (2, 9, 3),
        (9, 4, 2),
        (2, 7, 1, 8, 3),
        (8, 3, 9, 2, 4, 1),
        (1, 1, 1),
        (5, 1, 1, 1, 2),
    ):
        rng = np.random.default_rng(0)
        cost = P.random_costs(max(widths[-1], 2), widths[0], rng)[0]
        widths = (*widths[:-1], max(widths[-1], 2))
        weights = tuple(rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False))
        system = System.of(Problem(cost, weights, 0.0), form.ALL["weights"]).with_curvature()
        size = len(system.arguments[-1])
        guarded = np.full(size + 64, 7.0)
        arguments = (*system.arguments[:-1], guarded[:size])
        A_size = widths[0] * widths[-1]
        for kernel, written in ((compiled_evaluate(), len(system.state)), (system.kernels[2], A_size)):
            out = np.full(written + 64, 7.0)
            if kernel is system.kernels[2]:
                kernel(system.state, arguments[1], guarded[:size], out[:written])
            else:
                kernel(*arguments, system.state, out[:written], np.empty(3))
            assert (guarded[size:] == 7.0).all()
            assert (out[written:] == 7.0).all()
        gradient, _, product, hessian = system.kernels[3:]
        out = np.full(len(system.state) + 64, 7.0)
        _, index, _, data, work = arguments
        product(system.state, system.state, index, 0.0, gradient, hessian, data, work, out[:-64])
        assert (guarded[size:] == 7.0).all()
        assert (out[-64:] == 7.0).all()
