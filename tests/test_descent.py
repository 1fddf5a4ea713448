"""Descent: the update rule step by step, the limit of small steps, sampling, and its ends."""

from __future__ import annotations

import numpy as np
import problems as P
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import network


@given(
    widths=st.lists(st.integers(2, 4), min_size=2, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    kind=st.integers(0, 6),
    momentum=st.sampled_from([0.0, 0.7]),
    weight_decay=st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=40, deadline=None)
def test_steps_are_those_of_torch_sgd(widths, seed, kind, momentum, weight_decay):
    """v <- momentum v + grad + weight_decay w, w <- w - learning_rate v."""
    rng = np.random.default_rng(seed)
    cost = P.random_costs(widths[-1], widths[0], rng)[kind]
    weights = [0.5 * rng.standard_normal(shape) for shape in zip(widths[1:], widths, strict=False)]
    options = {"momentum": momentum, "weight_decay": weight_decay}
    run = dln.gradient_descent(cost, weights, 0.01, 12, every=3, **options)
    y, v = P.flat(weights), 0.0
    for step in range(1, 13):
        v = momentum * v - P.velocity(cost, P.unflatten(y, weights), weight_decay)
        y = y - 0.01 * v
        if step % 3 == 0:
            here = P.flat([W[step // 3] for W in run.weights])
            assert np.allclose(here, y, rtol=1e-10, atol=1e-12)
    assert np.allclose(run.t, [0.0, 0.03, 0.06, 0.09, 0.12])


def test_small_steps_tend_to_the_flow_at_first_order():
    rng = np.random.default_rng(1)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 3)))
    weights = P.small_start((3, 4, 3), 0.5, rng)
    flow = dln.gradient_flow(cost, weights, (0.0, 2.0), rtol=1e-11).end_to_end[-1]
    errors = []
    for steps in (200, 400, 800):
        run = dln.gradient_descent(cost, weights, 2.0 / steps, steps, every=steps)
        errors.append(np.linalg.norm(run.end_to_end[-1] - flow))
    assert P.slope([200, 400, 800], errors) == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize("kind", range(6))
def test_a_step_of_sgd_is_unbiased(kind):
    rng = np.random.default_rng(2)
    cost = P.random_costs(3, 2, rng)[kind]
    weights = [0.5 * rng.standard_normal(shape) for shape in ((3, 2), (3, 3))]
    full = dln.gradient_descent(cost, weights, 0.1, 1)
    exact = P.flat([W[1] - W[0] for W in full.weights])
    moves = []
    for seed in range(400):
        run = dln.sgd(cost, weights, 0.1, 1, batch_size=2, rng=seed)
        moves.append(P.flat([W[1] - W[0] for W in run.weights]))
    moves = np.array(moves)
    deviation = moves.std(axis=0) / np.sqrt(len(moves)) + 1e-12
    assert (np.abs(moves.mean(axis=0) - exact) / deviation).max() < 5


def test_shuffled_epochs_of_the_whole_are_gradient_descent():
    rng = np.random.default_rng(3)
    cost = dln.costs.SquareLoss(rng.standard_normal((3, 8)), rng.standard_normal((2, 8)))
    weights = [0.5 * rng.standard_normal(shape) for shape in ((4, 3), (2, 4))]
    options = {"momentum": 0.5, "weight_decay": 0.1}
    whole = dln.gradient_descent(cost, weights, 0.05, 300, **options)
    batches = dln.sgd(cost, weights, 0.05, 300, batch_size=8, sampling="shuffle", rng=0, **options)
    assert np.allclose(whole.end_to_end, batches.end_to_end, atol=1e-12)


def test_the_seed_decides_and_chunks_do_not():
    rng = np.random.default_rng(4)
    cost = dln.costs.MatrixCompletion(rng.standard_normal((4, 4)), np.ones((4, 4)))
    weights = P.small_start((4, 6, 4), 0.5, rng)
    for sampling in ("replacement", "shuffle"):
        runs = [dln.sgd(cost, weights, 0.01, 5000, batch_size=3, sampling=sampling, rng=7) for _ in range(2)]
        assert np.array_equal(runs[0].end_to_end, runs[1].end_to_end)
        other = dln.sgd(cost, weights, 0.01, 5000, batch_size=3, sampling=sampling, rng=8)
        assert not np.array_equal(runs[0].end_to_end, other.end_to_end)


def test_runs_without_kept_weights_agree():
    rng = np.random.default_rng(5)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 3)))
    weights = P.small_start((3, 4, 3), 0.5, rng)
    options = {"weight_decay": 0.1, "every": 10}
    full, bare = (
        dln.gradient_descent(cost, weights, 0.05, 105, keep_weights=keep, **options) for keep in (True, False)
    )
    assert len(full.t) == 11
    assert bare.weights is None
    for name in ("t", "end_to_end", "objective", "gradient_norm"):
        assert np.allclose(getattr(full, name), getattr(bare, name), rtol=1e-12)


def test_divergence_is_said_and_what_was_reached_is_kept():
    cost = dln.costs.FullyObserved(np.eye(2))
    run = dln.gradient_descent(cost, [2.0 * np.eye(2)] * 3, 5.0, 1000)
    assert (run.status, run.success) == ("not_finite", False)
    assert "learning_rate" in run.message
    assert np.isfinite(run.end_to_end).all()
    assert 1 <= len(run.t) < 1000


def test_at_interpolates_between_iterates():
    cost = dln.costs.FullyObserved(np.eye(2))
    run = dln.gradient_descent(cost, [0.5 * np.eye(2)] * 2, 0.1, 10)
    middle = run.at(0.25)
    assert np.allclose(middle, 0.5 * (run.end_to_end[2] + run.end_to_end[3]))
    assert np.array_equal(run.at(run.t), run.end_to_end)
    layers = run.weights_at(0.3)
    assert np.allclose(network.end_to_end(layers), run.end_to_end[3])
