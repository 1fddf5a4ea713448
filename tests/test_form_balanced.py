"""Forms of balanced networks: the end-to-end matrix by itself, and the modes of aligned starts in closed form."""

from __future__ import annotations

import warnings

import numpy as np
import problems as P
import pytest

import dln
from dln import form as forms
from dln.backends.system import System
from dln.network import end_to_end_velocity
from dln.problem import Problem

SINGULAR = {
    "distinct": (1.3, 0.7),
    "equal": (1.3, 1.3),
    "nearly equal": (1.3, 1.3 - 1e-9),
    "zero": (1.3, 0.0),
}


def masked(shape, seed=0):
    rng = np.random.default_rng(seed)
    return dln.costs.MatrixCompletion(rng.normal(size=shape), rng.random(shape) < 0.8)


def matrix(shape, values, seed=0):
    U, _, Vt = np.linalg.svd(np.random.default_rng(seed).normal(size=shape), full_matrices=False)
    return U[:, : len(values)] * values @ Vt[: len(values)]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("values", SINGULAR)
@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (5, 2)])
def test_velocity_and_measures_are_those_of_the_layers(shape, values, depth, decay):
    A, cost = matrix(shape, SINGULAR[values]), masked(shape)
    layers = dln.inits.balanced(A, depth, rng=1)
    p = Problem.checked(cost, layers, decay)
    v, there, measured, _ = System.of(p, forms.END_TO_END).evaluate(A.ravel())
    want = end_to_end_velocity(layers, cost.gradient(A)) - decay * depth * A
    assert np.linalg.norm(v - want.ravel()) <= 1e-12 * np.linalg.norm(want)
    _, _, judged, _ = System.of(p, forms.WEIGHTS).evaluate(P.flat(p.weights))
    assert np.array_equal(there, A.ravel())
    np.testing.assert_allclose(measured, judged, rtol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize("method", ["auto", "tsit5", "rock4"])
def test_a_run_is_that_of_the_layers(method, depth, decay):
    cost, A = masked((4, 5)), matrix((4, 5), (0.05, 0.03, 0.02))
    start = dln.inits.balanced(A, depth, widths=(5, *[9] * (depth - 1), 4), rng=2)
    more = {"weight_decay": decay, "t_eval": np.linspace(0.0, 30.0, 40)}
    run = dln.gradient_flow(cost, start, (0.0, 30.0), form="end_to_end", method=method, rtol=1e-9, **more)
    judge = dln.gradient_flow(cost, start, (0.0, 30.0), form="weights", rtol=1e-11, **more)
    assert run.form == "end_to_end"
    assert run.form_error == 0.0
    assert run.state_size == 20
    assert np.abs(run.end_to_end - judge.end_to_end).max() <= 2e-7
    np.testing.assert_allclose(run.objective, judge.objective, atol=1e-7)
    np.testing.assert_allclose(run.gradient_norm, judge.gradient_norm, atol=2e-7)
    t = [0.3, 7.7, 29.0]
    assert np.abs(run.at(t) - judge.at(t)).max() <= 2e-7
    assert run.weights is None
    assert run.weights_at(3.0) is None


def test_the_rank_of_the_start_stays():
    """A mode that is zero would grow from rounding: in 200 time constants by e^200."""
    cost, A = dln.costs.FullyObserved(np.diag([2.0, 1.0, 0.5])), matrix((3, 3), (0.1,))
    start = dln.inits.balanced(A, 2, rng=0)
    run = dln.gradient_flow(cost, start, (0.0, 100.0), form="end_to_end")
    assert run.singular_values[-1, 0] > 1.9
    assert run.singular_values[:, 1].max() < 1e-8


def test_saddles_and_files(tmp_path):
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0]))
    start = dln.inits.balanced(matrix((3, 3), (1e-4, 8e-5, 5e-5)), 3, rng=0)
    found = {}
    for form in ("weights", "end_to_end"):
        run = dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-10), form=form)
        found[form] = dln.find_saddles(run)
    assert [s.rank for s in found["end_to_end"]] == [s.rank for s in found["weights"]]
    np.testing.assert_allclose(*([s.cost for s in found[form]] for form in found), atol=1e-9)
    run.save(tmp_path / "run.npz")
    again, t = dln.Trajectory.load(tmp_path / "run.npz"), np.linspace(0.0, run.t[-1], 5)
    assert again.form == "end_to_end"
    assert np.abs(again.at(t) - run.at(t)).max() < 1e-7
    np.testing.assert_array_equal(again.objective, run.objective)


def test_until_looks_at_the_modes():
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0]))
    start = dln.inits.balanced(matrix((3, 3), (1e-3, 8e-4, 5e-4)), 3, rng=0)
    for until in (dln.Until(rank=2), dln.Until(gradient_norm=1e-7), dln.Until(saddle=2)):
        ends = [
            dln.gradient_flow(cost, start, (0.0, np.inf), until=until, form=form)
            for form in ("weights", "end_to_end")
        ]
        assert ends[0].status == ends[1].status != "finished"
        assert abs(ends[0].t[-1] - ends[1].t[-1]) < 0.1 * ends[0].t[-1]


REFUSED = {
    "out of balance": ({}, dln.inits.gaussian((5, 6, 4), std=0.1, rng=0)),
    "cannot integrate it": ({"method": "radau9"}, dln.inits.balanced(matrix((4, 5), (0.1,)), 2, rng=0)),
    "below the rounding": ({}, dln.inits.balanced(matrix((4, 5), (0.1, 1e-12)), 2, rng=0)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_end_to_end_is_refused_where_it_does_not_apply(why):
    options, start = REFUSED[why]
    with pytest.raises(ValueError, match=f"`form` must suit .*{why}"):
        dln.gradient_flow(masked((4, 5)), start, (0.0, 1.0), form="end_to_end", **options)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_modes_are_the_flow(depth, tmp_path):
    A = np.random.default_rng(0).normal(size=(4, 5))
    cost, start = dln.costs.FullyObserved(A), dln.inits.aligned(A, depth, scale=1e-2)
    run = dln.gradient_flow(cost, start, (1.0, 9.0), form="modes")
    judge = dln.gradient_flow(cost, start, (1.0, 9.0), t_eval=run.t, form="weights", rtol=1e-12)
    assert run.form == "modes"
    assert run.nfev == 0
    assert run.t[0] == 1.0
    assert run.t[-1] == 9.0
    assert np.abs(run.end_to_end - judge.end_to_end).max() <= 1e-10
    assert all(np.abs(W - V).max() <= 1e-10 for W, V in zip(run.weights, judge.weights, strict=True))
    assert np.abs(run.at(2.5) - judge.at(2.5)).max() <= 1e-10
    run.save(tmp_path / "run.npz")
    again = dln.Trajectory.load(tmp_path / "run.npz")
    assert again.form == "modes"
    assert np.abs(again.at([1.7, 6.1]) - run.at([1.7, 6.1])).max() < 1e-13


UNTIL = {
    "cost": dln.Until(cost=1e-8),
    "rank": dln.Until(rank=2),
    "gradient_norm": dln.Until(gradient_norm=1e-9),
    "saddle": dln.Until(saddle=2),
    "cost before saddle": dln.Until(cost=6.9, saddle=2),
}


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("goal", UNTIL)
def test_modes_end_where_the_flow_does(goal, depth):
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0, 1.0]))
    start = dln.inits.aligned(cost.target, depth, scale=1e-4 if depth == 3 else 1e-6)
    run = dln.gradient_flow(cost, start, (0.0, np.inf), until=UNTIL[goal], form="modes")
    judge = dln.gradient_flow(cost, start, (0.0, np.inf), until=UNTIL[goal], form="weights", rtol=1e-9)
    assert run.status == judge.status
    # the integrator ends with the step in which the condition came true
    assert 0.93 * judge.t[-1] < run.t[-1] <= judge.t[-1] * (1 + 1e-5)
    assert [s.rank for s in dln.find_saddles(run)] == [s.rank for s in dln.find_saddles(judge)]


def test_modes_that_never_meet_until_come_to_rest():
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    start = [
        W * [[1.0], [0.0]] for W in dln.inits.aligned(cost.target, 2, scale=1e-2)
    ]  # the second mode is dead
    run = dln.gradient_flow(cost, start, (0.0, np.inf), until=dln.Until(cost=1e-8), form="modes")
    assert run.status == "at_rest"
    assert not run.success
    assert abs(run.cost[-1] - 2.0) < 1e-12


def test_modes_are_refused_where_they_do_not_apply():
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    mixed = dln.inits.gaussian((2, 3, 2), std=0.1, rng=0)
    with pytest.raises(ValueError, match=r"`form` must suit .* diagonal in the singular vectors"):
        dln.gradient_flow(cost, mixed, (0.0, 1.0), form="modes")
    level = dln.inits.aligned(
        cost.target, 2, scale=9.0
    )  # its cost falls to 0, and rises to that of the minimum
    with pytest.raises(ValueError, match="`until` must have no cost"):
        dln.gradient_flow(cost, level, (0.0, 9.0), weight_decay=0.5, until=dln.Until(cost=1e-3), form="modes")
    with pytest.raises(ValueError, match="`method` must be left out"):
        dln.gradient_flow(cost, mixed, (0.0, 1.0), form="modes", method="tsit5")


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("values", [(3.0, 1e-5), (1e-2, 2e-5), (1e-4, 8e-5)])
def test_a_small_mode_keeps_its_time_beside_a_large_one(values, depth):
    """It waits, and what it then is was decided when it was a small part of A."""
    cost = dln.costs.FullyObserved(matrix((3, 3), (3.0, 1.0), seed=4))
    start, times = dln.inits.balanced(matrix((3, 3), values), depth, rng=0), np.linspace(0.0, 300.0, 400)
    run = dln.gradient_flow(cost, start, (0.0, 300.0), form="end_to_end", t_eval=times)
    judge = dln.gradient_flow(cost, start, (0.0, 300.0), form="weights", t_eval=times, rtol=1e-13)
    assert np.abs(run.end_to_end - judge.end_to_end).max() <= 2e-8
    with pytest.raises(ValueError, match="below the rounding"):
        dln.gradient_flow(
            cost, dln.inits.balanced(matrix((3, 3), (3.0, 1e-7)), depth), (0.0, 1.0), form="end_to_end"
        )


def test_costs_that_break_are_told_by_the_run():
    def broken(A):
        raise KeyError("broken")

    start = dln.inits.balanced(matrix((3, 3), (0.1, 0.05)), 2, rng=0)
    for gradient, status in ((lambda A: A * np.nan, "not_finite"), (broken, "failed")):
        cost = dln.costs.Custom(lambda A: 0.0 * A[0, 0], gradient)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it runs as Python
            run = dln.gradient_flow(cost, start, (0.0, 1.0), form="end_to_end")
        assert run.status == status


def test_the_balance_is_known_without_layers():
    start = dln.inits.balanced(matrix((4, 5), (0.1, 0.05)), 3, rng=0)
    run = dln.gradient_flow(masked((4, 5)), start, (0.0, 1.0), form="end_to_end")
    assert np.array_equal(run.balancedness(), np.zeros(len(run.t)))


@pytest.mark.parametrize("decay", [0.0, 0.4])
def test_modes_of_one_layer_move_from_zero(decay):
    cost, start = 2.0 * dln.costs.FullyObserved(np.diag([3.0, 2.0])), [np.diag([0.0, -1.0])]
    t = np.linspace(0.0, 3.0, 7)
    run = dln.gradient_flow(cost, start, (0.0, 3.0), weight_decay=decay, form="modes", t_eval=t)
    rate, rest = 2.0 + decay, 2.0 * cost.target / (2.0 + decay)
    want = rest + np.exp(-rate * t)[:, None, None] * (start[0] - rest)
    np.testing.assert_allclose(run.end_to_end, want, atol=1e-14)


def test_one_layer_gains_rank():
    cost, start = masked((4, 5)), [matrix((4, 5), (1.0,))]
    run, judge = (
        dln.gradient_flow(cost, start, (0.0, 3.0), weight_decay=0.5, t_eval=[0.0, 1.0, 3.0], form=form)
        for form in ("end_to_end", "weights")
    )
    np.testing.assert_allclose(run.objective, judge.objective, rtol=1e-7)
    np.testing.assert_allclose(run.gradient_norm, judge.gradient_norm, rtol=1e-6)


def test_saddles_of_modes_stand_where_the_clock_says():
    """Also where it does not begin at zero, and after a plateau of hundreds of time constants."""
    cost = dln.costs.FullyObserved(np.diag([3.0, 2.0]))
    start, until = dln.inits.aligned(cost.target, 2, scale=1e-150), dln.Until(cost=1e-8)
    runs = [dln.gradient_flow(cost, start, (t0, np.inf), until=until, form="modes") for t0 in (0.0, 500.0)]
    assert [run.status for run in runs] == ["cost", "cost"]
    one, other = ([saddle.t for saddle in dln.find_saddles(run)] for run in runs)
    assert len(one) == 3
    np.testing.assert_allclose(np.array(other) - 500.0, one, atol=1e-3)
