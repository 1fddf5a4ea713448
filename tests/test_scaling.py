"""Regimes: names and exponents, against what is measured on networks of growing width."""

from __future__ import annotations

import numpy as np
import pytest
from problems import slope

import dln

WIDTHS = (32, 64, 128, 256)


@pytest.mark.parametrize(("depth", "gamma"), [(2, 0.5), (3, 0.8), (3, 1.0), (4, 1.5), (2, 2.0)])
def test_exponents_are_those_of_random_networks(depth, gamma):
    rng = np.random.default_rng(0)
    entries, kernels, distances = [], [], []
    for w in WIDTHS:
        draws = [dln.inits.gaussian((3, *[w] * (depth - 1), 3), gamma=gamma, rng=rng) for _ in range(30)]
        products = [dln.network.end_to_end(weights) for weights in draws]
        entries.append(np.sqrt(np.mean(np.square(products))))
        kernels.append(np.mean([np.trace(dln.ntk(weights).reshape(9, 9)) / 9 for weights in draws]))
        # W_1 = W_L = 0 with the hidden layers kept is a saddle
        distances.append(np.mean([np.hypot(*(np.linalg.norm(W) for W in (d[0], d[-1]))) for d in draws]))
    found = dln.regime((3, *[WIDTHS[0]] * (depth - 1), 3), gamma)
    assert abs(slope(WIDTHS, entries) - found.entries) < 0.1
    assert abs(slope(WIDTHS, kernels) - found.kernel) < 0.1
    assert abs(slope(WIDTHS, distances) - found.to_saddle) < 0.02
    assert found.rho == WIDTHS[0] ** ((1 - gamma) / 2)


@pytest.mark.parametrize(("depth", "gamma"), [(2, 0.5), (3, 2 / 3)])
def test_lazy_runs_move_less_and_faster_in_wider_networks(depth, gamma):
    """The distance run through to the minimum, and the time to 30 % of the cost, for full observation."""
    rng = np.random.default_rng(1)
    cost, moved, times = dln.costs.FullyObserved(np.diag([2.0, 1.0, 0.5])), [], []
    for w in WIDTHS:
        runs = []
        for _ in range(4):
            start = dln.inits.gaussian((3, *[w] * (depth - 1), 3), gamma=gamma, rng=rng)
            runs.append(dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-6), rtol=1e-6))
        moved.append(
            np.mean([np.sqrt(sum(np.sum((W[-1] - W[0]) ** 2) for W in run.weights)) for run in runs])
        )
        times.append(np.mean([np.interp(-0.3, -run.cost / run.cost[0], run.t) for run in runs]))
    found = dln.regime((3, *[WIDTHS[0]] * (depth - 1), 3), gamma)
    assert found.name == "lazy"
    assert abs(slope(WIDTHS, moved) - found.to_minimum) < 0.15
    assert abs(slope(WIDTHS, times) - found.time) < 0.15


def test_names_and_limits():
    names = [dln.regime((4, 50, 50, 4), gamma).name for gamma in (0.5, 2 / 3, 0.9, 1.0, 1.5)]
    assert names == ["exploding", "lazy", "lazy", "mean field", "saddle-to-saddle"]
    small = dln.regime((4, 50, 50, 4), 2.0)
    assert (small.to_minimum, small.to_saddle, small.time, small.kernel_change) == (0.0, -0.5, 0.5, np.inf)
    assert dln.regime((4, 50, 4), 3.0).time == 0.0
    for bad in ((4, 4), (4, 5, 6, 4)):
        with pytest.raises(ValueError, match="`widths` must have hidden layers of one width"):
            dln.regime(bad, 1.0)
    with pytest.raises(ValueError, match="`gamma` must"):
        dln.regime((4, 5, 4), np.nan)
