"""Starts by what defines them: variance, spectra, balance, products, seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import inits, network

widths_of_any_net = st.lists(st.integers(1, 7), min_size=2, max_size=6)
seeds = st.integers(0, 2**32 - 1)


def test_gaussian_scales():
    widths, w = (30, 400, 300, 20), 400
    for scale, sigma in (({"std": 0.3}, 0.3), ({"gamma": 1.5}, w**-0.75), ({"rho": 0.7}, 0.7 / np.sqrt(w))):
        for W in inits.gaussian(widths, **scale, alpha=0.1, rng=0):
            assert W.std() == pytest.approx(0.1 * sigma, rel=0.05)
            assert abs(W.mean()) < 0.01 * sigma


def test_the_same_seed_gives_the_same_start_whatever_its_form():
    first = inits.gaussian((2, 3, 2), std=1.0, rng=5)
    for rng in (np.random.SeedSequence(5), np.random.default_rng(5)):
        again = inits.gaussian((2, 3, 2), std=1.0, rng=rng)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    generator = np.random.default_rng(5)
    inits.gaussian((2, 3, 2), std=1.0, rng=generator)
    assert not np.array_equal(inits.gaussian((2, 3, 2), std=1.0, rng=generator)[0], first[0])


@given(widths=widths_of_any_net, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_orthogonal_layers_have_equal_singular_values(widths, seed):
    for W in inits.orthogonal(widths, scale=0.3, rng=seed):
        assert np.allclose(np.linalg.svd(W, compute_uv=False), 0.3)


@given(shape=st.tuples(st.integers(1, 5), st.integers(1, 5)), depth=st.integers(1, 5), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_balanced_factors_are_balanced_and_have_the_product(shape, depth, seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, min(shape) + 1))
    A = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    widths = (shape[1], *rng.integers(rank, rank + 4, depth - 1), shape[0])
    weights = inits.balanced(A, depth, widths=widths, rng=rng)
    assert [W.shape for W in weights] == list(zip(widths[1:], widths, strict=False))
    assert np.allclose(network.end_to_end(weights), A)
    assert all(np.allclose(D, 0, atol=1e-9 * (1 + np.linalg.norm(A))) for D in network.balances(weights))
    s = np.linalg.svd(A, compute_uv=False)
    least = depth * np.sum(s ** (2 / depth))  # the representation cost
    assert sum(np.sum(W**2) for W in weights) == pytest.approx(least, rel=1e-6)


@given(
    n=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)), kappa=st.floats(-3, 3), seed=seeds
)
@settings(max_examples=60, deadline=None)
def test_lambda_balanced(n, kappa, seed):
    if (kappa > 0 and n[1] > n[2]) or (kappa < 0 and n[1] > n[0]):
        with pytest.raises(ValueError, match="`balance`"):
            inits.lambda_balanced(n, kappa, scale=0.5, rng=seed)
        return
    weights = inits.lambda_balanced(n, kappa, scale=0.5, rng=seed)
    assert [W.shape for W in weights] == [(n[1], n[0]), (n[2], n[1])]
    assert np.allclose(network.balances(weights)[0], kappa * np.eye(n[1]), atol=1e-12 + 1e-10 * abs(kappa))


def test_aligned_modes_stay_aligned():
    rng = np.random.default_rng(2)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    weights = inits.aligned(cost.target, 3, scale=0.01, widths=(3, 5, 4, 4))
    U, _, Vt = np.linalg.svd(cost.target, full_matrices=False)
    run = dln.gradient_flow(cost, weights, (0.0, 3.0))
    inside = U.T @ run.end_to_end @ Vt.T
    assert np.allclose(inside[0], 0.01 * np.eye(3), atol=1e-15)
    assert np.abs(inside * (1 - np.eye(3))).max() < 1e-10
