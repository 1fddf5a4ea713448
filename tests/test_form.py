"""Forms that are smaller networks: their frames, exactness, estimates, and what a run in one of them still can do."""

from __future__ import annotations

import tracemalloc

import numpy as np
import problems as P
import pytest

import dln
from dln import flow, form
from dln.core import images
from dln.form import reduction
from dln.form.subspaces import Krylov, _independent
from dln.method import ALL as METHODS
from dln.problem import Problem

RTOL = 1e-11


def starts(widths, rng):
    """One start of every kind that these widths admit."""
    depth, A = len(widths) - 1, rng.standard_normal((widths[-1], widths[0]))
    made = {
        "gaussian": dln.inits.gaussian(widths, rho=0.7, rng=rng),
        "orthogonal": dln.inits.orthogonal(widths, scale=0.6, rng=rng),
        "balanced": dln.inits.balanced(0.3 * A, depth, widths=widths, rng=rng),
        "aligned": dln.inits.aligned(A, depth, scale=0.1, widths=widths),
        "low rank": dln.inits.balanced(np.outer(A[:, 0], A[0]), depth, widths=widths, rng=rng),
    }
    if depth == 2:
        made["lambda_balanced"] = dln.inits.lambda_balanced(widths, 0.0, scale=0.5, rng=rng)
    return made


def test_every_start_is_here():
    assert {*dln.inits.ALL} - {"reduced_gaussian"} <= {*starts((3, 120, 4), np.random.default_rng(0))}


def orthonormal(bases):
    return all(np.allclose(B.T @ B, np.eye(B.shape[1]), atol=1e-13) for B in bases)


# Frames


@pytest.mark.parametrize(
    ("widths", "dimensions"),
    [
        ((4, 90, 5), ((9,),)),
        ((4, 90, 80, 4), ((8, 8), (12, 12), (16, 16), (20, 20))),
        ((4, 90, 80, 90, 4), ((8, 8, 8), (12, 16, 12), (20, 24, 20), (28, 40, 28))),
        ((2, 90, 80, 3), ((5, 5), (7, 8), (10, 10), (12, 13))),
    ],
)
def test_krylov_dimensions_and_network(widths, dimensions):
    layers = dln.inits.gaussian(widths, rho=1e-5, rng=0)
    frames = form.krylov(layers, 3)
    assert frames.dimensions == dimensions
    assert frames.closed == (len(widths) == 3)
    assert orthonormal(frames.bases)
    bases = [np.eye(widths[0]), *frames.bases, np.eye(widths[-1])]
    for l, W in enumerate(layers):
        assert np.allclose(
            frames.layers[l], bases[l + 1].T @ W @ bases[l], rtol=0, atol=1e-13 * np.linalg.norm(W)
        )
    A, full = dln.network.end_to_end(frames.layers), dln.network.end_to_end(layers)
    assert np.linalg.norm(A - full) < 1e-13 * np.linalg.norm(full)


def test_a_lower_order_is_a_part_of_a_higher_one():
    layers = dln.inits.gaussian((3, 70, 80, 60, 2), rho=0.1, rng=1)
    high, low = form.krylov(layers, 3), form.krylov(layers, 1)
    part = high.truncated(1)
    assert part.dimensions == low.dimensions
    for one, other in zip((*part.layers, *part.bases), (*low.layers, *low.bases), strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-14)
    assert Krylov(layers).foreseen(3) == list(high.dimensions[3])


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("start", ["orthogonal", "balanced", "aligned", "low rank"])
def test_invariant_subspaces_are_found(start, depth):
    widths = (3, *[50] * (depth - 1), 4)
    layers = starts(widths, np.random.default_rng(2))[start]
    frames = form.krylov(layers, 9)
    assert frames.closed
    # images of the inputs are images of the outputs, too, where the layers are balanced
    m = {"orthogonal": 7, "balanced": 3, "aligned": 3, "low rank": 1}[start]
    assert frames.dimensions == ((m,) * (depth - 1),)
    bases = [np.eye(3), *frames.bases, np.eye(4)]
    for W, before, after in zip(layers, bases, bases[1:], strict=False):  # the law: images stay within
        for image, P_ in ((W @ before, after), (W.T @ after, before)):
            assert np.linalg.norm(image - P_ @ (P_.T @ image)) < 1e-13 * np.linalg.norm(W)


def test_a_narrow_or_rank_deficient_layer_closes_at_a_higher_order():
    rng = np.random.default_rng(3)
    layers = dln.inits.gaussian((2, 60, 60, 2), rho=0.5, rng=rng)
    layers[1] = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 60)) / 60
    frames = form.krylov(layers, 9)
    assert frames.closed
    assert frames.dimensions[-1] == (7, 7)  # W_1 and the row space; W_3^T and the column space


@pytest.mark.parametrize("alpha", [1e-200, 1e-20, 1e200])
def test_subspaces_know_no_scale(alpha):
    layers = dln.inits.gaussian((3, 60, 60, 2), rho=1.0, rng=0)
    frames, scaled = form.krylov(layers, 3), form.krylov([alpha * W for W in layers], 3)
    assert scaled.dimensions == frames.dimensions
    assert not scaled.closed
    assert np.allclose(scaled.norms, [alpha * n for n in frames.norms], rtol=1e-14, atol=0)


# Exact forms


COSTS = range(7)
DEPTHS = {2: (4, 130, 3), 3: (4, 60, 50, 3), 4: (3, 40, 40, 40, 4)}


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("kind", COSTS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_exact_forms_are_the_flow_in_the_weights(depth, kind, weight_decay):
    widths, rng = DEPTHS[depth], np.random.default_rng(kind)
    cost = P.random_costs(widths[-1], widths[0], rng)[kind]
    names = [name for name in starts(widths, rng) if depth == 2 or name != "gaussian"]
    name, times = names[(kind + depth) % len(names)], np.linspace(0.2, 2.0, 10)
    layers = starts(widths, rng)[name]
    runs = [
        dln.gradient_flow(
            cost, layers, (0.0, 2.0), weight_decay=weight_decay, form=how, rtol=RTOL, t_eval=times
        )
        for how in ("auto", "weights")
    ]
    assert runs[0].form == ("gram" if depth == 2 else "subspace")
    assert runs[0].form_error == 0.0
    scale = np.linalg.norm(runs[1].end_to_end, axis=(1, 2)).max()
    assert np.abs(runs[0].end_to_end - runs[1].end_to_end).max() < 1e-8 * scale
    for quantity in ("objective", "gradient_norm"):
        one, other = (getattr(run, quantity) for run in runs)
        assert np.allclose(one, other, rtol=0, atol=1e-8 * np.abs(other).max())
    assert np.allclose(runs[0].balancedness(), runs[1].balancedness(), rtol=1e-6, atol=1e-7)
    for one, other in zip(runs[0].weights, runs[1].weights, strict=True):
        assert np.abs(one - other).max() < 1e-8 * max(1.0, np.linalg.norm(other))


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("depth", DEPTHS)
def test_exact_forms_descend_step_by_step(depth, weight_decay, momentum):
    widths, rng = DEPTHS[depth], np.random.default_rng(depth)
    cost = P.random_costs(widths[-1], widths[0], rng)[3]
    layers = starts(widths, rng)["gaussian" if depth == 2 else "orthogonal"]
    options = {"weight_decay": weight_decay, "momentum": momentum, "every": 7}
    for run in (
        lambda how: dln.gradient_descent(cost, layers, 0.02, 200, form=how, **options),
        lambda how: dln.sgd(cost, layers, 0.01, 200, batch_size=2, rng=5, form=how, **options),
        lambda how: dln.sgd(
            cost, layers, 0.01, 50, batch_size=4, sampling="shuffle", rng=5, form=how, **options
        ),
    ):
        small, full = run("auto"), run("weights")
        assert (small.form, full.form) == ("gram" if depth == 2 else "subspace", "weights")
        assert small.state_size < full.state_size / 4
        assert np.abs(small.end_to_end - full.end_to_end).max() < 1e-12
        assert np.abs(small.objective - full.objective).max() < 1e-12
        for one, other in zip(small.weights, full.weights, strict=True):
            assert np.abs(one - other).max() < 1e-12


@pytest.mark.parametrize("until", [{"cost": 1e-6}, {"gradient_norm": 1e-4}, {"rank": 2}, {"saddle": 2}])
@pytest.mark.parametrize("widths", [(5, 150, 5), (5, 50, 50, 5)])
def test_runs_end_at_the_same_place_and_show_the_same_saddles(widths, until):
    rng = np.random.default_rng(1)
    cost = dln.costs.FullyObserved(P.target(5, (3.0, 1.0), rng))
    layers = dln.inits.orthogonal(widths, scale=0.05 if len(widths) == 3 else 0.1, rng=rng)
    runs = [
        dln.gradient_flow(cost, layers, (0.0, np.inf), until=dln.Until(**until), form=how)
        for how in ("auto", "weights")
    ]
    assert runs[0].form != "weights"
    assert runs[0].status == runs[1].status == next(iter(until))
    assert runs[0].t[-1] == pytest.approx(runs[1].t[-1], rel=0.05)  # the end of a step
    one, other = (dln.find_saddles(run) for run in runs)
    assert [(s.rank, s.kind) for s in one] == [(s.rank, s.kind) for s in other]
    assert [s.t for s in one[:2]] == pytest.approx([s.t for s in other[:2]], rel=1e-3)


def test_weight_decay_of_what_lies_outside_counts():
    """A run ends by its gradient norm only when the complement, which no cost sees, has decayed too."""
    cost, layers = dln.costs.FullyObserved(np.eye(3)), dln.inits.orthogonal((3, 60, 60, 3), scale=1.0, rng=0)
    run = dln.gradient_flow(
        cost, layers, (0.0, np.inf), weight_decay=0.1, until=dln.Until(gradient_norm=1e-3), form="auto"
    )
    outside = np.linalg.norm(layers[1]) ** 2 - 6.0  # all but six of the singular values, which are 1
    assert run.form == "subspace"
    assert run.t[-1] >= np.log(0.1 * np.sqrt(outside) / 1e-3) / 0.1
    assert run.weights_at(2.0)[1].shape == (60, 60)
    assert np.linalg.norm(run.weights_at(2.0)[1]) ** 2 > outside * np.exp(-0.4)


@pytest.mark.parametrize("still", [1, 2])
def test_the_balance_of_a_network_with_a_layer_of_zeros(still):
    """Nothing of that layer lies outside; what does of its neighbour decays."""
    layers = dln.inits.gaussian((3, 50, 50, 50, 2), rho=0.5, rng=0)
    layers[still] *= 0
    cost = dln.costs.FullyObserved(np.eye(2, 3))
    times = np.linspace(0.0, 6.0, 5)
    small, full = (
        dln.gradient_flow(cost, layers, (0.0, 6.0), weight_decay=0.3, form=how, t_eval=times)
        for how in ("subspace", "weights")
    )
    np.testing.assert_allclose(small.balancedness(), full.balancedness(), rtol=1e-6)


# Truncated forms


@pytest.mark.parametrize(
    ("rho", "rtol", "end"), [(3.0, 1e-6, 1.0), (0.5, 1e-5, 6.0), (0.1, 1e-6, 30.0), (1e-3, 1e-3, 3000.0)]
)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_estimate_of_gaussian_starts(rho, rtol, end, sparse):
    rng = np.random.default_rng(7)
    cost = dln.costs.FullyObserved(P.target(3, (2.0, 1.0), rng))
    layers = dln.inits.gaussian((3, 100, 100, 3), rho=rho, rng=rng)
    run = dln.gradient_flow(cost, layers, (0.0, end), rtol=rtol, t_eval=[end / 3, end] if sparse else None)
    assert (run.form, run.success) == ("subspace", True)
    scale = np.linalg.norm(run.end_to_end, axis=(1, 2)).max()
    assert 0.0 < run.form_error <= rtol * scale
    # the truncation itself, in much closer runs
    near, far = form.krylov(layers, run.stats["order"]), form.krylov(layers, run.stats["order"] + 4)
    runs = [dln.gradient_flow(cost, far.layers, (0.0, end), form="weights", rtol=1e-12)]
    again = {"form": "weights", "rtol": 1e-12, "t_eval": runs[0].t.copy()}
    runs += [dln.gradient_flow(cost, near.layers, (0.0, end), **again)]
    truth = np.linalg.norm(runs[0].end_to_end - runs[1].end_to_end, axis=(1, 2)).max()
    assert truth / 3 < run.form_error < 100 * truth
    if sparse:
        assert len(run.t) == 2


@pytest.mark.parametrize(("rho", "rtol"), [(0.2, 1e-2), (1.2, 1e-4)])
def test_the_estimate_of_four_layers(rho, rtol):
    rng = np.random.default_rng(3)
    cost = dln.costs.FullyObserved(P.target(2, (2.0, 1.0), rng))
    layers = dln.inits.gaussian((2, 110, 110, 110, 2), rho=rho, rng=rng)
    end = 60.0 if rho < 1 else 1.0
    run = dln.gradient_flow(cost, layers, (0.0, end), rtol=rtol)
    assert run.form == "subspace"
    far, near = form.krylov(layers, run.stats["order"] + 3), form.krylov(layers, run.stats["order"])
    runs = [
        dln.gradient_flow(cost, net.layers, (0.0, end), form="weights", rtol=1e-10, t_eval=run.t.copy())
        for net in (far, near)
    ]
    truth = np.linalg.norm(runs[0].end_to_end - runs[1].end_to_end, axis=(1, 2)).max()
    assert truth / 3 < run.form_error < 100 * truth


def test_an_interrupted_run_says_so(monkeypatch):
    """Ctrl-C in the run itself, or in one that only serves the estimate: what was reached is there."""
    cost = dln.costs.FullyObserved(np.eye(3))
    layers = dln.inits.gaussian((3, 100, 100, 3), rho=0.3, rng=0)
    from dln.backends.integrate import Integration

    whole, calls = Integration.run, []

    def run(self, *arguments):
        calls.append(1)
        return "interrupted" if len(calls) == when else whole(self, *arguments)

    monkeypatch.setattr(Integration, "run", run)
    for when in (1, 2):
        calls.clear()
        found = dln.gradient_flow(cost, layers, (0.0, 5.0), rtol=1e-4)
        assert (found.status, found.form, found.form_error) == ("interrupted", "subspace", np.inf)
        assert len(calls) == when
        assert (found.t[-1] == 5.0) == (when == 2)


def test_a_truncated_run_is_the_run_in_the_weights_within_its_error():
    rng = np.random.default_rng(2)
    cost = dln.costs.MatrixCompletion(P.target(4, (3.0, 1.0), rng), rng.random((4, 4)) < 0.8)
    layers = dln.inits.gaussian((4, 100, 110, 4), rho=0.2, rng=rng)
    for weight_decay in (0.0, 0.01):
        run = dln.gradient_flow(
            cost, layers, (0.0, 6.0), rtol=1e-7, weight_decay=weight_decay, keep_weights=True
        )
        full = dln.gradient_flow(
            cost,
            layers,
            (0.0, 6.0),
            rtol=1e-11,
            weight_decay=weight_decay,
            form="weights",
            t_eval=run.t.copy(),
        )
        assert run.form == "subspace"
        assert np.linalg.norm(run.end_to_end - full.end_to_end, axis=(1, 2)).max() < 1e-6 + run.form_error
        assert np.allclose(run.objective, full.objective, atol=1e-5)
        for one, other in zip(run.weights, full.weights, strict=True):
            assert np.abs(one - other).max() < 1e-4


def test_descent_of_gaussian_starts_is_truncated_too():
    rng = np.random.default_rng(4)
    cost = dln.costs.FullyObserved(P.target(3, (2.0, 1.0), rng))
    layers = dln.inits.gaussian((3, 110, 120, 3), rho=0.3, rng=rng)
    random = [np.random.default_rng(1) for _ in range(2)]
    for run in (
        lambda how, i: dln.gradient_descent(cost, layers, 0.05, 300, form=how),
        lambda how, i: dln.sgd(cost, layers, 0.02, 300, batch_size=3, rng=random[i], form=how),
    ):
        small, full = run("auto", 0), run("weights", 1)
        assert small.form == "subspace"
        error = np.linalg.norm(small.end_to_end - full.end_to_end, axis=(1, 2)).max()
        assert error / 3 < small.form_error < 100 * error
        assert small.form_error < 1e-8 * np.linalg.norm(full.end_to_end, axis=(1, 2)).max()
    assert random[0].random() == random[1].random()  # one run's draws were taken


# What a run still can do


def test_layers_are_lifted_when_they_are_asked_for():
    cost, layers = dln.costs.FullyObserved(np.eye(4)), dln.inits.gaussian((4, 300, 4), rho=0.1, rng=0)
    run = dln.gradient_flow(cost, layers, (0.0, 5.0))
    assert callable(vars(run)["weights"])
    assert run.cost[-1] < run.cost[0]
    assert np.array_equal(run.gradient_norm, run.reduced.gradient_norm)
    assert callable(vars(run)["weights"])
    assert all(np.allclose(W[0], W_0, atol=1e-15) for W, W_0 in zip(run.weights, layers, strict=True))
    assert isinstance(run.weights, tuple)
    assert not run.weights[0].flags.writeable
    assert run.weights is run.weights
    assert dln.gradient_flow(cost, layers, (0.0, 5.0), keep_weights=False).weights is None


@pytest.mark.parametrize("widths", [(3, 300, 4), (3, 60, 60, 4)])
def test_between_saved_times_and_in_files(widths, tmp_path):
    rng = np.random.default_rng(6)
    cost = dln.costs.FullyObserved(rng.standard_normal((4, 3)))
    layers = dln.inits.orthogonal(widths, scale=0.5, rng=rng)
    run, full = (
        dln.gradient_flow(cost, layers, (0.0, 3.0), weight_decay=0.02, form=how, rtol=1e-10)
        for how in ("auto", "weights")
    )
    t = np.array([[0.0, 0.37], [1.9, 3.0]])
    run.save(tmp_path / "run")
    for each in (run, dln.Trajectory.load(tmp_path / "run")):
        assert np.allclose(each.at(t), full.at(t), atol=1e-8)
        for one, other in zip(each.weights_at(t), full.weights_at(t), strict=True):
            assert one.shape == (2, 2, *other.shape[2:])
            assert np.allclose(one, other, atol=1e-8)
        assert (each.form, each.message) == (run.form, run.message)
        assert np.array_equal(each.objective, run.objective)
        assert np.array_equal(each.weights[1], run.weights[1])
        assert np.array_equal(each.balancedness(), run.balancedness())
        assert np.array_equal(each.start[0], layers[0])
    with pytest.raises(ValueError, match="`t` must lie in"):
        run.at(3.5)


def test_what_was_taken_is_said():
    cost = dln.costs.FullyObserved(np.eye(4))
    gram = dln.gradient_flow(cost, dln.inits.gaussian((4, 300, 4), rho=0.1, rng=0), (0.0, 1.0))
    assert "Form: gram, 8 of 300 hidden directions, exact." in gram.message
    assert gram.stats["dimensions"] == [8]
    deep = dln.gradient_flow(
        cost, dln.inits.gaussian((4, 200, 200, 4), rho=0.1, rng=0), (0.0, 1.0), rtol=1e-4
    )
    assert "of 200 200 hidden directions, order" in deep.message
    assert deep.state_size == sum(R.size for R in deep.reduced.start)
    assert {"weights", "wide", "gram", "subspace", "end_to_end", "modes"} == {*dln.forms()}


@pytest.mark.parametrize("widths", [(10, 10, 10), (4, 30, 4), (3, 8, 8, 3), (10, 100, 100, 10)])
def test_nets_that_would_gain_nothing_stay_as_they_are(widths):
    cost, layers = dln.costs.FullyObserved(np.zeros((widths[-1], widths[0]))), dln.inits.gaussian(
        widths, rho=0.1, rng=0
    )  # fmt: skip
    assert dln.gradient_flow(cost, layers, (0.0, 0.1)).form == "weights"
    assert dln.gradient_descent(cost, layers, 0.1, 3).form == "weights"


def test_a_form_asked_for_is_taken_where_it_gains_nothing():
    rng = np.random.default_rng(0)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 2)))
    for widths in ((2, 3, 3), (2, 4, 5, 3)):
        layers, how = dln.inits.gaussian(widths, rho=0.5, rng=rng), "gram" if len(widths) == 3 else "subspace"
        run = dln.gradient_flow(cost, layers, (0.0, 2.0), form=how, rtol=RTOL, t_eval=[2.0])
        full = dln.gradient_flow(cost, layers, (0.0, 2.0), form="weights", rtol=RTOL, t_eval=[2.0])
        assert (run.form, run.form_error) == (how, 0.0)
        assert np.allclose(run.end_to_end, full.end_to_end, atol=1e-9)


@pytest.mark.parametrize(
    ("how", "widths", "instead"),
    [("gram", (3, 3), "weights"), ("gram", (3, 4, 4, 3), "subspace"), ("subspace", (3, 4, 3), "gram")],
)
def test_a_form_that_does_not_apply_says_so(how, widths, instead):
    cost, layers = dln.costs.FullyObserved(np.eye(3)), dln.inits.gaussian(widths, std=0.1, rng=0)
    for run in (
        lambda: dln.gradient_flow(cost, layers, (0.0, 1.0), form=how),
        lambda: dln.gradient_descent(cost, layers, 0.1, 2, form=how),
        lambda: dln.sgd(cost, layers, 0.1, 2, batch_size=1, form=how),
    ):
        with pytest.raises(ValueError, match=f'{how}.*got {len(widths) - 1} layer.*"{instead}"'):
            run()
    with pytest.raises(ValueError, match="`form` must be one of"):
        dln.gradient_descent(cost, layers, 0.1, 2, form="wide")


def test_the_gain_is_one_half():
    """Both sides of the border: the numbers of weights before and after."""
    cost = dln.costs.FullyObserved(np.zeros((10, 10)))
    for width, how in ((39, "weights"), (40, "gram")):
        layers = dln.inits.gaussian((10, width, 10), rho=0.1, rng=0)
        assert dln.gradient_flow(cost, layers, (0.0, 0.1)).form == how
    assert (reduction.SMALL, reduction.GAIN) == (400, 2.0)


def test_memory_maps_are_read_and_not_copied(tmp_path):
    n, rng = 2000, np.random.default_rng(0)
    shapes, maps = ((n, 6), (n, n), (6, n)), []
    for l, shape in enumerate(shapes):
        W = np.lib.format.open_memmap(tmp_path / f"{l}.npy", "w+", np.float64, shape)
        W[:] = 0.3 * rng.standard_normal(shape) / np.sqrt(max(shape))
        maps.append(np.load(tmp_path / f"{l}.npy", mmap_mode="r"))
    cost = dln.costs.FullyObserved(P.target(6, (2.0, 1.0), rng))
    dln.gradient_flow(cost, maps, (0.0, 1.0), rtol=1e-4)  # compiled
    tracemalloc.start()
    run = dln.gradient_flow(cost, maps, (0.0, 1.0), rtol=1e-4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert run.form == "subspace"
    assert peak < 0.5 * maps[1].nbytes
    again = dln.gradient_flow(cost, [np.array(W) for W in maps], (0.0, 1.0), rtol=1e-4)
    assert np.array_equal(run.end_to_end, again.end_to_end)
    W = np.lib.format.open_memmap(tmp_path / "1.npy", "r+")
    W[700, 3] = np.nan
    with pytest.raises(ValueError, match=r"`weights\[1\]` must be finite, got nan at index \(700, 3\)"):
        dln.gradient_flow(cost, maps, (0.0, 1.0))


# Reading, and the steps of another run


@pytest.mark.parametrize("made", [np.ascontiguousarray, np.asfortranarray])
def test_both_products_for_one_reading(made, monkeypatch):
    rng = np.random.default_rng(0)
    W, X, Y = (
        made(rng.standard_normal((700, 900))),
        rng.standard_normal((900, 3)),
        rng.standard_normal((700, 5)),
    )
    W.setflags(write=False)
    alone = images.both_products(W, X, Y)
    monkeypatch.setattr(images, "PART", 2**16)
    monkeypatch.setattr(images.config, "NUMBA_NUM_THREADS", 3)
    for forward, backward in (alone, images.both_products(W, X, Y)):
        assert np.allclose(forward, W @ X, rtol=0, atol=1e-12)
        assert np.allclose(backward, W.T @ Y, rtol=0, atol=1e-12)
    assert images.both_products(W, X, Y[:, :0])[1].shape == (900, 0)


def retraced(run, weights=None, times=None):
    """A run in the steps of another one, from its own start or another one."""
    problem = Problem.checked(run.cost_function, run.start if weights is None else weights, run.weight_decay)
    names = list(dict.fromkeys(run.method.split(" + ")))
    names.sort(key=lambda name: METHODS[name].curvature)
    options = flow._Options(
        methods=tuple(METHODS[name] for name in names), form="weights", rtol=run.stats["rtol"], atol=0.0,
        step=None, max_steps=10_000,
    )  # fmt: skip
    times = run.t.copy() if times is None else times
    return flow._run(problem, (0.0, float(run.steps[-1])), options, times, None, True, False, run)


@pytest.mark.parametrize(("rtol", "alpha"), [(1e-3, 1e-3), (1e-8, 1e-3), (1e-6, 0.3)])
def test_a_run_is_retraced_in_its_own_steps(rtol, alpha):
    rng = np.random.default_rng(1)
    cost = dln.costs.FullyObserved(P.target(4, (3.0, 2.0, 1.0), rng))
    layers = [alpha * W for W in dln.inits.gaussian((4, 6, 6, 4), rho=1.0, rng=rng)]
    run = dln.gradient_flow(
        cost, layers, (0.0, np.inf), rtol=rtol, until=dln.Until(cost=1e-8), form="weights"
    )
    assert len(run.steps) == run.n_steps
    assert (np.diff(run.steps) > 0).all()
    again = retraced(run)
    assert (again.n_steps, again.method) == (run.n_steps, run.method)
    assert np.allclose(again.end_to_end, run.end_to_end, rtol=0, atol=1e-3 * rtol)
    # From a start that is a little off: the errors of the steps drop out of the difference.
    moved = [W * (1.0 + 1e-2 * rtol) for W in layers]
    exact = [
        dln.gradient_flow(
            cost, W, (0.0, run.t[-1]), rtol=1e-13, t_eval=run.t.copy(), form="weights"
        ).end_to_end
        for W in (layers, moved)
    ]
    difference, truth = retraced(run, moved).end_to_end - again.end_to_end, exact[1] - exact[0]
    assert np.abs(difference - truth).max() < 0.1 * np.abs(truth).max()


def test_a_step_that_is_too_long_for_a_run_is_cut():
    """The steps of a slow escape, taken by a run that escapes early on: as good as its own."""
    cost, layers = (
        dln.costs.FullyObserved(np.diag([2.0, 1.0])),
        dln.inits.gaussian((2, 5, 5, 2), rho=1e-2, rng=0),
    )
    run = dln.gradient_flow(cost, layers, (0.0, 400.0), rtol=1e-6, form="weights")
    early = retraced(run, [3.0 * W for W in layers])
    truth = dln.gradient_flow(
        cost, early.start, (0.0, 400.0), rtol=1e-12, t_eval=early.t.copy(), form="weights"
    )
    assert early.n_steps > run.n_steps
    assert np.abs(early.end_to_end - truth.end_to_end).max() < 1e-3  # 2 if it were not cut


def test_orders_take_the_methods_of_the_highest(monkeypatch):
    """Also where a smaller network by itself would be given another stiff one."""
    cost, layers = (
        dln.costs.FullyObserved(np.diag([2.0, 1.0])),
        dln.inits.gaussian((2, 60, 60, 2), rho=1e-2, rng=0),
    )
    options = {"rtol": 1e-3, "form": "subspace"}
    run = dln.gradient_flow(cost, layers, (0.0, 400.0), **options)
    assert flow.STIFF in run.method
    monkeypatch.setattr(flow, "COLLOCATE_UP_TO", run.reduced.state_size * 4 - 1)
    other = dln.gradient_flow(cost, layers, (0.0, 400.0), **options)
    assert flow.STIFF_LARGE in other.method
    assert other.form_error == pytest.approx(run.form_error, rel=1e-2)


@pytest.mark.parametrize(("seed", "decay", "end"), [(1, 0.1, 60.0), (0, 0.3, 20.0)])
def test_the_estimate_of_a_start_that_dies(seed, decay, end):
    """Its orders gain far more than those of one that grows; in the second case down to rounding."""
    rng = np.random.default_rng(seed)
    cost = dln.costs.FullyObserved(rng.standard_normal((3, 3)))
    layers = dln.inits.gaussian((3, 120, 120, 3), rho=0.02, rng=rng)
    run = dln.gradient_flow(cost, layers, (0.0, end), weight_decay=decay, rtol=2e-4, form="subspace")
    whole, options = (
        Problem.checked(cost, layers, decay),
        {"rtol": 1e-12, "form": "weights", "t_eval": run.t.copy()},
    )
    near, far = (
        dln.gradient_flow(
            cost, form.Lift.of(form.krylov(layers, k), whole).small, (0.0, end), weight_decay=decay, **options
        ).end_to_end
        for k in (run.stats["order"], run.stats["order"] + 3)
    )
    truth = np.linalg.norm(near - far, axis=(1, 2)).max()
    assert truth / 3 < run.form_error < 100 * truth


@pytest.mark.parametrize("share", [1e-3, 1e-8, 1e-12])
def test_what_is_added_to_a_frame_is_orthogonal_to_it(share):
    """However little of it is new."""
    rng = np.random.default_rng(0)
    P = np.linalg.qr(rng.standard_normal((80, 6)))[0]
    added = _independent(P @ rng.standard_normal((6, 3)) / 3 + share * rng.standard_normal((80, 3)), P)
    assert orthonormal([np.hstack([P, added])])
    assert added.shape == (80, 3)
