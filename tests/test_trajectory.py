"""The record of a run: frozen, measured right, written and read back, shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import problems as P
import pytest

import dln


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    mask = rng.random((3, 4)) < 0.8
    cost = 2.0 * dln.costs.MatrixCompletion(rng.standard_normal((3, 4)), mask)
    return dln.gradient_flow(cost, P.small_start((4, 5, 3), 0.5, rng), (0.0, 3.0), weight_decay=0.05)


def test_it_is_frozen(run):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.t = run.t
    for values in (run.t, run.end_to_end, *run.weights, *run.start):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0


def test_what_is_derived_is_right(run):
    for i in (0, len(run.t) // 2, -1):
        weights = [W[i] for W in run.weights]
        assert run.cost[i] == pytest.approx(run.cost_function.value(run.end_to_end[i]))
        size = sum(np.sum(W**2) for W in weights)
        assert run.objective[i] == pytest.approx(run.cost[i] + 0.025 * size)
        assert run.gradient_norm[i] == pytest.approx(
            np.linalg.norm(P.velocity(run.cost_function, weights, 0.05))
        )
        assert np.allclose(run.singular_values[i], np.linalg.svd(run.end_to_end[i], compute_uv=False))
    assert run.rank(tol=1e-3).shape == run.t.shape
    assert run.balancedness().shape == run.t.shape
    assert run.state_size == 35


@pytest.mark.parametrize("kind", range(6))
def test_it_survives_the_disk(tmp_path, kind):
    rng = np.random.default_rng(1)
    cost = P.random_costs(3, 2, rng)[kind]
    weights = P.small_start((2, 4, 3), 0.5, rng)
    for i, run in enumerate(
        (
            dln.gradient_flow(cost, weights, (0.0, 1.0)),
            dln.gradient_flow(cost, weights, (0.0, 1.0), keep_weights=False, method="rk4", step=0.01),
            dln.gradient_descent(cost, weights, 0.01, 50, momentum=0.5),
        )
    ):
        path = tmp_path / f"run{i}.npz"
        run.save(path)
        back = dln.Trajectory.load(path)
        for field in dataclasses.fields(run):
            a, b = getattr(run, field.name), getattr(back, field.name)
            if isinstance(a, np.ndarray):
                assert np.array_equal(a, b)
            elif field.name not in ("cost_function", "continue_from", "weights", "start", "stats"):
                assert a == b
        assert dict(back.stats) == dict(run.stats)
        assert np.array_equal(back.cost, run.cost)
        assert np.array_equal(back.at(run.t[-1] / 3), run.at(run.t[-1] / 3))


def test_a_custom_cost_is_asked_for(tmp_path):
    cost = dln.costs.Custom(P.quartic_value, P.quartic_gradient)
    run = dln.gradient_flow(cost, [np.eye(2)], (0.0, 1.0))
    run.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="`cost` must be given"):
        dln.Trajectory.load(tmp_path / "run.npz")
    assert np.array_equal(dln.Trajectory.load(tmp_path / "run.npz", cost=cost).cost, run.cost)


def test_it_shows_itself(run):
    assert "depth 2" in repr(run)
    page = run._repr_html_()
    assert page.startswith("<table>")
    assert "finished" in page
    ax = run.plot()
    assert ax.get_xlabel() == "time t"
    assert len(ax.lines) == 3
    assert run.plot(ax) is ax


def test_xarray(run):
    data = run.to_xarray()
    assert data["end_to_end"].dims == ("t", "output", "input")
    assert np.array_equal(data["W_2"], run.weights[1])
    assert data.attrs["status"] == "finished"
