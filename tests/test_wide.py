"""Wide nets: the factored steps against the full ones, their memory, and when they are taken."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import problems as P
import pytest

import dln
from dln import form as forms
from dln.backends.integrate import Stepping
from dln.backends.system import System, record
from dln.core import steps, wide
from dln.method.explicit import ALL as TABLEAUX
from dln.problem import Problem

ADAPTIVE = [name for name, tableau in TABLEAUX.items() if tableau.adaptive]
NETS = {
    "one layer": (4, 3),
    "two layers": (3, 5, 4),
    "two layers, from the left": (7, 5, 4),
    "three layers": (4, 7, 5, 3),
    "three layers, from the right": (2, 6, 5, 9),
    "three layers, from the left": (9, 6, 5, 2),
    "four layers": (3, 5, 6, 7, 4),
    "five layers": (3, 4, 6, 5, 4, 3),
    "several blocks": (3, 150, 140, 4),
}


def problem(widths, seed=0, cost=None):
    rng = np.random.default_rng(seed)
    cost = cost or dln.costs.FullyObserved(rng.standard_normal((widths[-1], widths[0])))
    return Problem.checked(cost, P.small_start(widths, 0.8, rng), 0.0)


def at_work(form, problem, method):
    """System and Stepping of a form, with the velocity in place."""
    system = System.of(problem, forms.ALL[form])
    stepping = Stepping(TABLEAUX[method], system, system.form.blocks(problem))
    stepping.K[0] = system.evaluate(system.state)[0]
    return system, stepping


def full(row, problem):
    """A row of factors multiplied out."""
    return np.concatenate([(P_t.T @ Q_t).ravel() for P_t, Q_t in forms.WIDE.factors(row, problem)])


def close(x, y, by):
    return np.linalg.norm(x - y) <= by * np.linalg.norm(y)


@pytest.mark.parametrize("net", NETS)
def test_velocity_and_measures(net):
    p = problem(NETS[net])
    v, A, measured, _ = System.of(p, forms.WEIGHTS).evaluate(P.flat(p.weights))
    factors, A_wide, measured_wide, _ = System.of(p, forms.WIDE).evaluate(P.flat(p.weights))
    assert close(full(factors, p), v, 1e-14)
    assert close(A_wide, A, 1e-14)
    assert close(measured_wide, measured, 1e-13)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_step_its_error_and_its_dense_output_are_the_full_ones(method, net):
    p, h, dense = problem(NETS[net]), 0.05, TABLEAUX[method].dense
    weights = dense @ 0.3 ** np.arange(1, dense.shape[1] + 1)
    seen = {}
    for form in ("weights", "wide"):
        system, stepping = at_work(form, p, method)
        control = record(steps.CONTROL)
        control["rtol"], control["dissipation"], control["radius"] = 1e-4, 1.0, 1.0
        y, carry, K = system.state, np.zeros_like(stepping.room[1]), stepping.K
        step, complete, between, _ = stepping.kernels
        more = (*stepping.tables[2:], y, carry, K, *stepping.room, control, h)
        ratio = step(*system.arguments, *more)
        new, A = stepping.room[0], system.arguments[-1][: p.widths[0] * p.widths[-1]].copy()
        complete(*system.arguments, *more)
        outputs = [new, A]
        for base, count in ((y, len(weights)), (new, 0)):
            if form == "weights":
                state = base + h * weights[:count] @ K[:count]
                outputs += [state, *system.evaluate(state)[1:3]]
                continue
            state, A, measured = np.zeros(len(y)), np.zeros(len(A)), np.zeros(3)
            for keep, saved in ((1, state), (0, A)):
                between(*system.arguments, base, K, weights, count, h, saved, keep, measured)
            outputs += [state, A, measured]
        last = K[TABLEAUX[method].closing]
        seen[form] = (ratio, last if form == "weights" else full(last, p), *outputs)
    ratio, *expected = seen["weights"]
    # the estimate is what is left of much larger velocities
    assert seen["wide"][0] == pytest.approx(ratio, rel=1e-12 + 1e-10 / ratio)
    for x, y in zip(seen["wide"][1:], expected, strict=True):
        assert close(x, y, 1e-13)


@pytest.mark.parametrize("net", NETS)
def test_the_spectral_radius_is_the_full_one(net):
    p = problem(NETS[net])
    system, stepping = at_work("wide", p, "tsit5")
    direction = system.form.direction(p)
    for _ in range(300):
        radius = stepping.kernels[3](*system.arguments, system.state, stepping.K, direction, stepping.room[2])
    system = System.of(p, forms.WEIGHTS)
    y, d = system.state, system.form.direction(p)
    v, step = system.evaluate(y)[0], 1e-6 * np.linalg.norm(y)
    for _ in range(300):
        d = (system.evaluate(y + step * d)[0] - v) / step
        size = np.linalg.norm(d)
        d /= size
    assert radius == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("net", [net for net in NETS if net != "several blocks"])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_runs_agree_to_the_tolerance(method, net):
    p = problem(NETS[net], seed=1)
    rtol, times = (1e-5 if method == "bs3" else 1e-8), np.linspace(0.1, 6.0, 40)
    exact = dln.gradient_flow(p.cost, p.weights, (0.0, 6.0), rtol=1e-12, t_eval=times).end_to_end
    for t_eval in (times, None):
        run = dln.gradient_flow(
            p.cost, p.weights, (0.0, 6.0), method=method, form="wide", rtol=rtol, t_eval=t_eval
        )
        assert run.success
        assert (run.form, run.method) == ("wide", method)
        assert np.linalg.norm(run.at(times) - exact, axis=(1, 2)).max() < (
            200 * rtol * np.linalg.norm(exact[-1]) if t_eval is not None else 1e-2
        )
    assert np.allclose(run.end_to_end, [dln.network.end_to_end(W) for W in zip(*run.weights, strict=True)])


@pytest.mark.parametrize("kind", range(7))
@pytest.mark.parametrize("widths", [(5, 6, 7, 4), (5, 6, 2)])
def test_every_cost(kind, widths):
    p = problem(widths, cost=P.random_costs(widths[-1], widths[0], np.random.default_rng(2))[kind])
    runs = [
        dln.gradient_flow(p.cost, p.weights, (0.0, 1.0), method="dop853", form=form, keep_weights=False)
        for form in ("weights", "wide")
    ]
    assert close(runs[1].end_to_end[-1], runs[0].end_to_end[-1], 1e-6)
    assert runs[1].measured[-1] == pytest.approx(runs[0].measured[-1], rel=1e-5)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_fixed_steps(method):
    p = problem((4, 7, 5, 3))
    runs = [
        dln.gradient_flow(p.cost, p.weights, (0.0, 2.0), method=method, step=0.01, form=form)
        for form in ("weights", "wide")
    ]
    assert close(runs[1].weights[1][-1], runs[0].weights[1][-1], 1e-12)


@pytest.mark.parametrize("until", [{"cost": 1e-6}, {"gradient_norm": 1e-3}, {"rank": 2}, {"saddle": 2}])
def test_the_same_ends_and_extrema(until):
    cost, weights, _ = P.named("P2")
    runs = [
        dln.gradient_flow(
            cost,
            weights,
            (0.0, np.inf),
            method="dop853",
            form=form,
            until=dln.Until(**until),
            keep_weights=keep,
        )
        for form, keep in (("weights", True), ("wide", True), ("wide", False))
    ]
    for run in runs[1:]:
        assert run.status == runs[0].status
        assert run.t[-1] == pytest.approx(runs[0].t[-1], rel=0.05)
        few = min(5, len(run.extrema), len(runs[0].extrema))  # turns before the tail
        assert few >= 3
        assert np.allclose(run.extrema[:few, 0], runs[0].extrema[:few, 0], rtol=0.05, atol=0.1)


def test_a_start_that_does_not_move():
    p = problem((4, 7, 5, 3))
    still = [np.zeros_like(W) for W in p.weights]
    run = dln.gradient_flow(p.cost, still, (0.0, 1.0), form="wide", t_eval=[0.5, 1.0])
    assert run.status == "finished"
    assert not run.end_to_end.any()


def test_what_is_refused():
    p = problem((4, 7, 5, 3))
    for more in ({"weight_decay": 0.1}, {"method": "radau9"}):
        with pytest.raises(ValueError, match="form"):
            dln.gradient_flow(p.cost, p.weights, (0.0, 1.0), form="wide", **more)


def test_the_largest_table_fits():
    assert max(len(tableau.A) for tableau in TABLEAUX.values()) <= wide.CAPACITY


def test_auto_takes_it_for_deep_nets_whose_subspaces_are_too_large():
    p = problem((30, 600, 600, 600, 30))
    run = dln.gradient_flow(p.cost, p.weights, (0.0, 0.01), rtol=1e-6)
    assert run.form == "wide"


def test_it_needs_few_copies():
    p = problem((10, 1200, 1200, 10))
    dln.gradient_flow(
        p.cost, problem((10, 20, 20, 10)).weights, (0.0, 0.1), form="wide", rtol=1e-3
    )  # compiled
    size = sum(W.nbytes for W in p.weights)
    tracemalloc.start()
    run = dln.gradient_flow(p.cost, p.weights, (0.0, 0.1), rtol=1e-3, form="wide")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (run.form, run.method) == ("wide", "tsit5")
    work = 8 * wide.work_size(p.widths)
    assert peak < 3.1 * size + 2 * work
    ordinary = dln.gradient_flow(p.cost, p.weights, (0.0, 0.1), rtol=1e-3, form="weights")
    assert close(run.end_to_end[-1], ordinary.end_to_end[-1], 1e-3)


def test_weight_decay_is_left_to_the_full_steps():
    p = problem((30, 600, 600, 600, 30))
    run = dln.gradient_flow(p.cost, p.weights, (0.0, 1e-3), weight_decay=0.1, rtol=1e-6)
    assert run.form == "weights"


PLAIN = """
import numpy as np, dln
cost = dln.costs.MatrixCompletion(np.arange(6.0).reshape(2, 3), np.array([[1, 0, 1], [1, 1, 1]], bool))
rng = np.random.default_rng(0)
W = [0.5 * rng.standard_normal(s) for s in ((4, 3), (5, 4), (2, 5))]
for method in ("tsit5", "dop853"):
    run = dln.gradient_flow(cost, W, (0.0, 1.0), method=method, form="wide", rtol=1e-6, t_eval=[0.4, 1.0])
    print(*run.end_to_end.ravel())
"""


def test_the_same_without_the_compiler():
    def run(**more):
        done = subprocess.run(
            [sys.executable, "-c", PLAIN],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        )
        return np.array(done.stdout.split(), float)

    assert np.allclose(run(NUMBA_DISABLE_JIT="1"), run(), rtol=1e-9)
