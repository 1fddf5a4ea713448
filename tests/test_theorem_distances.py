"""The ledger's own search for the nearest minimiser, against that of the library, and the moments of its proofs."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import dln
from dln.theorems.proof import expectation
from dln.theorems.runs import Run, draw_layers, flat
from dln.theorems.wide import draw_wide, nearest, observed, turned


def run_from(weights, cost):
    return Run(weights, cost, np.ones(len(weights)), np.zeros(len(weights)))


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_nearest_minimiser_is_that_of_the_library(depth, count):
    rng = np.random.default_rng([depth, count])
    cost = observed(rng, 2, 2, count)
    weights = draw_layers(rng, [2, *[5] * (depth - 1), 2])
    run = run_from([2 * W for W in weights], cost)
    h, Q = np.linalg.eigh(cost.H)
    rows = Q[:, h > 0.5].T.reshape(-1, 2, 2)
    sensing = dln.costs.MatrixSensing(rows, np.tensordot(rows, cost.target, 2))
    found = np.linalg.norm(flat(nearest(run, run.weights)) - flat(run.weights))
    assert found == pytest.approx(float(dln.distance_to_minimum(sensing, run.weights)), rel=1e-6)


@pytest.mark.parametrize("depth", [2, 3])
def test_from_small_starts_too(depth):
    rng = np.random.default_rng(depth)
    cost = observed(rng, 2, 2, 4)
    run = draw_wide(rng, depth, cost, rho=0.01, order=4)
    U, s, Vt = np.linalg.svd(cost.target)
    found = flat(nearest(run, turned(run.weights, U, s ** (1 / depth), Vt.T))) - flat(run.weights)
    known = dln.distance_to_minimum(dln.costs.FullyObserved(cost.target), run.weights)
    assert np.linalg.norm(found) == pytest.approx(float(known), rel=1e-7)


def test_moments():
    x, y, c, d = sp.symbols("x y c d")
    assert expectation(3 * x**4 * y**2 + x * y + 7, {}) == 16
    assert sp.expand(expectation(x**2 * d * c**4, {c: d}, [d]) - d**2 * (d + 2)) == 0
    assert expectation(sp.Integer(5), {}) == 5
    with pytest.raises(ValueError, match="an odd moment of a chi variable"):
        expectation(c**3, {c: sp.Integer(2)})
