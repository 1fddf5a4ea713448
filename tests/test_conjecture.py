"""The search for counterexamples: what it finds, what it decides by, and what it records."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pytest
from problems import flat, unflatten
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import dln
from dln import experiments

module = experiments.load("conjecture")


def options(*arguments):
    parser = argparse.ArgumentParser()
    module.options(parser)
    parsed = parser.parse_args(arguments)
    parsed.progress = False
    return parsed


@pytest.fixture(scope="module")
def quick():
    return module.run(options("--quick"))


def test_small_starts_follow_the_limit_path(quick):
    assert quick.success
    verdicts = quick.parameters["verdicts"]
    assert len(verdicts) == 12
    assert {v["cost"] for v in verdicts} == {"full", "masked", "sensing"}
    agreed = [v for v in verdicts if v["verdict"] == "agree"]
    assert len(agreed) >= 9  # the others are of two layers, and undecided in float64
    assert all(v["cost_error"] <= 1e-3 and v["distance"] < 0.2 for v in agreed)
    for v in verdicts:
        if v["verdict"] == "undecided":
            assert v["aligned"] > module.ALIGNED or v["crowded"] > module.CROWDED
            assert v["wanted"] < math.log10(v["alpha"])


def test_what_is_not_decided_can_be_rebuilt_from_the_record(quick):
    """Without the generator of the problems: the class of the cost, its arrays, and the start."""
    records = json.loads(json.dumps(quick.parameters))["verdicts"]
    other = [v for v in records if v["verdict"] != "agree"]
    assert other
    for v in other:
        problem = v["problem"]
        cost = getattr(dln.costs, problem["class"])(**problem["arguments"])
        path = dln.saddle_to_saddle(cost, v["depth"])
        run = dln.gradient_flow(
            cost,
            [v["alpha"] * np.array(W) for W in problem["start"]],
            (0.0, np.inf),
            until=module._until(cost, path),
            max_steps=module.MOST_STEPS,
        )
        assert math.isclose(module._error(path, run), v["cost_error"], rel_tol=1e-6)


def test_a_wrong_path_differs(monkeypatch):
    """The path of another cost stands for a counterexample: the search must say so, and save it."""

    def of_another_cost(cost, depth):
        return dln.saddle_to_saddle(dln.costs.FullyObserved(1.1 * cost.target), depth)

    monkeypatch.setattr(module, "saddle_to_saddle", of_another_cost)
    outcome = module.run(options("--problems", "1", "--depths", "3"))
    assert not outcome.success
    (verdict,) = outcome.parameters["verdicts"]
    assert verdict["verdict"] == "differ"
    assert verdict["problem"]["class"] == "FullyObserved"


def near_zero(cost, start, alpha, size):
    """Layers of norm `size` on the way from a start times alpha: near zero the flow is one on the sphere."""
    G = cost.gradient(np.zeros(cost.shape))
    first = flat(start)

    def velocity(tau, y):
        e = y[:-1] / np.linalg.norm(y[:-1])
        force = -flat(dln.network.layer_gradients(unflatten(e, start), G))
        return np.append(force - (force @ e) * e, force @ e)

    def grown(tau, y):
        return y[-1] - np.log(size / (alpha * np.linalg.norm(first)))

    grown.terminal = True
    y = np.append(first / np.linalg.norm(first), 0.0)
    y = solve_ivp(velocity, (0.0, 1e4), y, "DOP853", events=grown, rtol=1e-11, atol=1e-14).y[:-1, -1]
    return [size * W for W in unflatten(y / np.linalg.norm(y), start)]


@pytest.mark.parametrize(
    ("alpha", "cost"), [(1e-6, 0.8087), (1e-9, 0.8087), (1e-10, 0.5008), (1e-14, 0.5008)]
)
def test_the_one_run_that_had_not_turned_to_the_path_does(alpha, cost):
    """Seed 4190: s_2/s_1 = 0.8 at zero, and eleven times alpha^0.2 of the second mode for this start."""
    problem = module._draw(4190, 4)
    run = dln.gradient_flow(
        problem.cost, near_zero(problem.cost, problem.start, alpha, 1e-2), (0.0, 8e3), method="radau13"
    )
    assert run.cost[-1] == pytest.approx(cost, abs=1e-4)
    assert dln.saddle_to_saddle(problem.cost, 4).saddles[1].cost == pytest.approx(0.5008, abs=1e-4)


def test_near_zero_the_flow_is_homogeneous():
    """Against a run from the start itself, where its layers have the same norm."""
    problem = module._draw(4190, 4)
    near = near_zero(problem.cost, problem.start, 1e-3, 1e-2)
    run = dln.gradient_flow(
        problem.cost, [1e-3 * W for W in problem.start], (0.0, 4.6e4), method="radau13", keep_weights=True
    )
    sizes = np.sqrt(sum(np.sum(W**2, axis=(1, 2)) for W in run.weights))
    i = int(np.argmax(sizes > 1e-2))
    t = brentq(lambda t: np.linalg.norm(flat(run.weights_at(t))) - 1e-2, run.t[i - 1], run.t[i], xtol=1e-9)
    assert np.allclose(flat(run.weights_at(t)), flat(near), atol=1e-7)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_wanted_alpha_makes_both_numbers_small(depth):
    """At depth 2 room is log(1/alpha), else alpha^(2 - L)."""
    alpha, ratio, growth = 1e-2, 0.6, 40.0

    def numbers(alpha):
        room = -math.log(alpha) if depth == 2 else alpha ** (2 - depth) / (depth - 2)
        return alpha ** (1 - ratio), growth / room

    aligned, crowded = numbers(alpha)
    wanted = 10 ** module._wanted(math.log10(alpha), depth, aligned, crowded)
    there = numbers(wanted)
    assert there[0] <= module.ALIGNED * (1 + 1e-9)
    assert there[1] <= module.CROWDED * (1 + 1e-9)
    less = numbers(2 * wanted)
    assert less[0] > module.ALIGNED or less[1] > module.CROWDED


def test_unknown_depths_are_refused():
    with pytest.raises(ValueError, match=r"^`--depths` must be among .*, got 7\. "):
        module.run(options("--depths", "7"))
