"""Rank and SGD with weight decay: sets that no draw of samples leaves, jumps that go one way, narrow minima."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

import dln
from dln import cli, costs, experiments, inits, network
from dln.experiments import one_way_jumps as jumps


def quick(name, folder, *arguments):
    status = cli.main(
        ["run", name, "--quick", *map(str, arguments), "--output", str(folder), "--no-progress"]
    )
    assert status == 0
    return json.loads((folder / f"{name}.json").read_text())


# What no draw of samples leaves


def completion(seed=0, n=4):
    rng = np.random.default_rng(seed)
    mask = np.ones((n, n))
    mask.flat[rng.permutation(n * n)[: n * n // 3]] = 0.0
    return costs.MatrixCompletion(rng.standard_normal((n, n)) + 0.5, mask)


def ball(cost, depth, share):
    """Radius u with u^L = share * max |Y_ij|, and the least decay at which SGD on single entries does not leave it."""
    y = np.abs(cost.target).max()
    u = (share * y) ** (1 / depth)
    return u, cost.samples * (y - u**depth) * u ** (depth - 2)


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sampling", ["replacement", "shuffle"])
def test_sgd_never_leaves_the_ball_around_zero(depth, batch_size, sampling):
    """The sharp radius of the ledger, from the surface of the ball, for any batches."""
    cost = completion(depth)
    u, decay = ball(cost, depth, 0.05)
    rate = 0.2 / (decay + 1.5 * cost.samples * u ** (2 * depth - 2))
    start = [u * W / np.linalg.norm(W) for W in inits.gaussian((4, *[5] * (depth - 1), 4), std=1.0, rng=1)]
    run = dln.sgd(
        cost,
        start,
        rate,
        20_000,
        batch_size=batch_size,
        weight_decay=decay,
        sampling=sampling,
        rng=2,
        every=1,
    )
    norms = np.array([np.linalg.norm(W, axis=(1, 2)) for W in run.weights])
    assert norms.max() <= u * (1 + 1e-12)
    assert norms[:, -1].max() < 1e-10 * u  # and dies out


@pytest.mark.parametrize(("factor", "inside"), [(0.999, True), (1.001, False)])
def test_the_radius_of_the_ball_is_sharp(factor, inside):
    """A network aligned with the largest entry, when that entry alone is drawn."""
    cost = costs.MatrixCompletion([[2.0, 0.0], [0.0, 0.0]], [[1, 0], [0, 0]])
    u, decay = ball(cost, 3, 0.1)
    first = np.array([[factor * u, 0.0], [0.0, 0.0]])
    run = dln.sgd(cost, [first] * 3, 0.05 / decay, 5000, batch_size=1, weight_decay=decay, rng=0, every=5000)
    assert (run.weights[0][-1, 0, 0] < 0.5 * u) == inside
    assert (run.weights[0][-1, 0, 0] > 1.5 * u) != inside


def adversary(cost, weights, rate, decay, steps, gauge):
    """Layers after single-entry steps, each on the entry that makes `gauge` of the layers largest."""
    entries = [tuple(entry) for entry in np.argwhere(cost.mask)]
    for _ in range(steps):
        A = network.end_to_end(weights)
        options = []
        for entry in entries:
            G = np.zeros_like(A)
            G[entry] = cost.samples * (A[entry] - cost.target[entry])
            gradients = network.layer_gradients(weights, G)
            options.append(
                [(1 - rate * decay) * W - rate * g for W, g in zip(weights, gradients, strict=True)]
            )
        weights = max(options, key=gauge)
    return weights


def beside(cost, decay, depth, kick):
    """Balanced layers of the lowest minimum of rank 1, perturbed by `kick` in spectral norm."""
    solved = dln.schatten.solve(cost, decay, depth, width=1)
    minimum = next(m for m in solved if m.rank == 1)
    rng, layers = np.random.default_rng(3), inits.balanced(minimum.end_to_end, depth, rng=0)
    noise = [rng.standard_normal(W.shape) for W in layers]
    return [W + kick * E / np.linalg.norm(E, 2) for W, E in zip(layers, noise, strict=True)]


def second(weights):
    """Second singular value of the product."""
    return np.linalg.svd(network.end_to_end(weights), compute_uv=False)[1]


@pytest.mark.parametrize("seed", [2, 5])
def test_no_choice_of_entries_raises_the_rank_at_depth_3_but_some_does_at_depth_2(seed):
    """P(leave B_1) = 0: approximately balanced layers of approximate rank 1, and an adversary who draws the entries."""
    cost, decay = completion(seed), 0.5
    rate = 0.3 / (cost.samples * np.abs(cost.target).max() ** 2)
    change = {}
    for depth in (2, 3):
        start = beside(cost, decay, depth, 0.01)
        halfway = adversary(cost, start, rate, decay, 300, second)
        after = adversary(cost, halfway, rate, decay, 300, second)
        change[depth] = np.array([second(halfway) / second(start), second(after) / second(halfway)])
    assert change[2].prod() > 1e3
    assert change[3][0] < 2
    assert change[3][1] < 1


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_exact_rank_is_never_raised(depth):
    """Included networks stay included, so their rank stays: to the last bit, whatever is drawn."""
    cost = completion(1)
    rng = np.random.default_rng(depth)
    narrow = [rng.standard_normal(shape) for shape in [(2, 4), *[(2, 2)] * (depth - 2), (4, 2)]]
    wide = dln.include(narrow, 5)
    options = {"batch_size": 1, "weight_decay": 0.2, "momentum": 0.5, "rng": 4, "every": 100}
    runs = [dln.sgd(cost, W, 0.002, 3000, **options) for W in (narrow, wide)]
    assert runs[0].success
    padded = network.include(runs[0].weights, [5] * (depth - 1))
    for V, W in zip(runs[1].weights, padded, strict=True):
        assert np.array_equal(V == 0, W == 0)
        assert np.allclose(V, W, rtol=1e-9, atol=1e-12)
    assert (runs[1].singular_values[:, 2] < 1e-14 * runs[1].singular_values[:, 0]).all()


# One-way jumps


@pytest.fixture(scope="module")
def jumped(tmp_path_factory):
    return quick("one-way-jumps", tmp_path_factory.mktemp("jumps"))


def rows_of(result, **wanted):
    return [row for row in result["rows"] if all(row[key] == value for key, value in wanted.items())]


def test_gradient_descent_stays_where_it_is_at_depth_3(jumped):
    (row,) = rows_of(jumped, depth=3, method="GD")
    assert (row["down"], row["up"], row["diverged"]) == (0, 0, 0)
    assert row["stayed"] == row["runs"] > 6
    assert row["jumps per step"] == 0.0


def test_sgd_jumps_down_and_never_up_at_depth_3(jumped):
    rows = rows_of(jumped, depth=3, method="SGD")
    assert sum(row["down"] for row in rows) >= 4
    assert [row["up"] for row in rows] == [0, 0]
    assert rows[1]["jumps per step"] > 2 * rows[0]["jumps per step"] > 0  # larger steps, more jumps
    for table in jumped["parameters"]["transitions"]:
        counts = np.array(table["runs from rank (row) to rank (column)"])
        if table["depth"] == 3:
            assert not np.triu(counts, 1).any()
            assert (np.diag(counts) == counts.sum(axis=1)).all() == (table["method"] == "GD")


def test_every_run_goes_up_at_depth_2(jumped):
    """To the one minimum there is: the rank that the convex problem gives."""
    for table in jumped["parameters"]["transitions"]:
        if table["depth"] == 2:
            counts = np.array(table["runs from rank (row) to rank (column)"])
            assert not np.tril(counts, -1).any()
            assert np.triu(counts, 1).any()
    for row in rows_of(jumped, depth=2):
        assert row["up"] > 0 == row["down"]


def arguments(**changes):
    parser = argparse.ArgumentParser()
    jumps.options(parser)
    return argparse.Namespace(**{**vars(parser.parse_args([])), "time": 20.0, "looks": 4, **changes})


@pytest.mark.parametrize("depth", [3, 4])
def test_basins_of_the_minima_are_their_ranks(depth):
    options = arguments()
    problem = jumps._completion.problem(options, 1)
    minima = jumps._minima(problem.cost, 0.7, depth)
    assert [m.rank for m in minima] == list(range(len(minima)))
    assert len(minima) >= 3
    for minimum in minima:
        for kick in (0.0, 0.3):
            rng = np.random.default_rng(0)
            start = jumps._start(problem.cost, minimum, depth, 0.7, kick, rng)
            assert jumps._basin(problem.cost, start, 0.7) == minimum.rank


@pytest.mark.parametrize("depth", [3, 4])
def test_starts_lie_at_a_share_of_the_barrier_from_the_lowest_minima(depth, monkeypatch):
    """s_1(G) b^(L-2) = lambda; of the minima of rank 3 there are two at depth 4."""
    monkeypatch.setattr(jumps, "NOISE", 0.0)
    problem = jumps._completion.problem(arguments(size=8, singular_values=[4.0, 3.0], observed=40), 0)
    solved = dln.schatten.solve(problem.cost, 0.2, depth)
    assert depth == 3 or sum(m.rank == 3 for m in solved) == 2
    for minimum in jumps._minima(problem.cost, 0.2, depth):
        assert minimum.objective == min(m.objective for m in solved if m.rank == minimum.rank)
        moved, still = (
            jumps._start(problem.cost, minimum, depth, 0.2, kick, np.random.default_rng(0))
            for kick in (0.5, 0)
        )
        slope = np.linalg.norm(problem.cost.gradient(minimum.end_to_end), 2)
        for V, W in zip(moved, still, strict=True):
            barrier = 2 * np.linalg.norm(V - W, 2)
            assert slope * barrier ** (depth - 2) == pytest.approx(0.2, rel=1e-10)


def test_above_the_barrier_the_flow_goes_up():
    """The barrier (lambda / s_1(G))^(1/(L-2)) from the local minimum 0, along the top singular pair of G."""
    problem = jumps._completion.problem(arguments(), 4)
    U, s, Vt = np.linalg.svd(problem.cost.gradient(np.zeros((6, 6))))
    for factor, rank in ((0.8, 0), (1.6, 1)):
        u = factor * 0.7 / s[0]
        h = np.eye(6)[0]
        layers = [u * np.outer(h, Vt[0]), u * np.outer(h, h), -u * np.outer(U[:, 0], h)]
        assert jumps._basin(problem.cost, layers, 0.7) == rank


def test_starts_beyond_the_barrier_are_seen_to_go_up(tmp_path):
    """The negative control: what counts no jumps up would see them."""
    options = ("--depths", 3, "--rates", 0.5, "--seeds", 2, "--time", 10, "--looks", 2, "--kick")
    below, beyond = (quick("one-way-jumps", tmp_path, *options, kick)["rows"] for kick in (0.5, 1.3))
    assert [row["up"] for row in below] == [0, 0]
    assert all(row["up"] >= 2 for row in beyond)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_limit_is_that_of_a_step_on_one_entry(depth):
    """Small residuals of the worst entry shrink below the limit, and grow above it, when it alone is drawn."""
    problem = jumps._completion.problem(arguments(), 1)
    minima = jumps._minima(problem.cost, 0.7, depth)
    limit = jumps._limit(problem, depth, minima)
    factors = []
    for minimum in minima:
        if minimum.rank == 0:
            continue
        weights = inits.balanced(minimum.end_to_end, depth, rng=0)
        for i, j in np.argwhere(problem.mask):
            G, r = np.zeros((6, 6)), 1e-6
            G[i, j] = r
            steps = network.layer_gradients(weights, problem.mask.sum() * G)
            for share in (0.98, 1.02):
                moved = network.end_to_end(
                    [W - share * limit * g for W, g in zip(weights, steps, strict=True)]
                )
                factors.append((share, abs(r + moved[i, j] - minimum.end_to_end[i, j]) / r))
    assert max(f for share, f in factors if share < 1) < 1.0
    assert max(f for share, f in factors if share > 1) > 1.0


def test_rates_are_counts_over_time_and_no_event_is_a_bound():
    import matplotlib.pyplot as plt

    from dln import plotting

    ax = plotting.plot_rates({0.5: (0, 100.0), 1.0: (10, 200.0), 2.0: (0, 0.0)}, depth=3)
    ((bound,),) = [line.get_ydata() for line in ax.lines if line.get_marker() == "v"]
    assert bound == pytest.approx(-np.log(0.025) / 100, rel=1e-12)
    (events,) = ax.containers
    assert events.lines[0].get_xydata().tolist() == [[1.0, 0.05]]
    low, high = (10 + np.array([-5.2046, 8.3904])) / 200  # of the exact interval (4.7954, 18.3904)
    assert events.lines[2][0].get_segments()[0][:, 1] == pytest.approx([low, high], rel=1e-4)
    plt.close(ax.figure)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--weight-decay", 9], "`--weight-decay` must leave a minimum beside 0"),
        (["--depths", 1], "`--depths` must be at least 2"),
        (["--looks", 0], "`--looks` must be at least 1"),
        (["--batch-size", 25], "`batch_size` must be at most"),
    ],
)
def test_mistakes_are_refused(options, says, capsys, tmp_path):
    assert cli.main(["run", "one-way-jumps", "--quick", *map(str, options), "--output", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


# Narrow minima


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    return quick("narrow-minimum", tmp_path_factory.mktemp("narrow"), "--depths", 2, 3, 4)


def test_narrow_minima_become_saddles(narrow):
    for row, case in zip(narrow["rows"], narrow["parameters"]["cases"], strict=True):
        before, after, s = np.array(case["before"]), np.array(case["after"]), row["s_1(G)"]
        assert before.min() > -1e-9
        assert row["least"] == after.min()
        assert row["least"] == pytest.approx(-s if row["depth"] == 2 else 0.0, abs=1e-9)
        assert row["index"] == row["index (theory)"] == (2 * (7 - 1) if row["depth"] == 2 else 0)
        if row["depth"] == 2:  # the spectrum of the narrow network, and +-s_i(G) for every new neuron
            assert sum(abs(after + s) < 1e-9) == sum(abs(after - s) < 1e-9) == 2
            assert len(after) == len(before) + 2 * 14


def test_the_escape_is_of_order_L_at_the_predicted_speed(narrow):
    for row, case in zip(narrow["rows"], narrow["parameters"]["cases"], strict=True):
        kicks = np.array(narrow["parameters"]["kicks"])
        ratio = np.array(case["drops"]) / (kicks ** row["depth"] * row["s_1(G)"])
        assert np.all(np.abs(ratio - 1) < kicks ** row["depth"] + 1e-7)  # 1 - eps^L |mask * u v^T|^2 / 2 s_1
        assert row["order"] == pytest.approx(row["depth"], abs=1e-3)
        assert row["speed / theory"] == pytest.approx(1.0, abs=3e-4)


def test_the_escape_ends_at_the_minimum_of_the_next_rank(narrow):
    ends = [row["next cost"] for row in narrow["rows"]]
    assert ends == pytest.approx([ends[0]] * 3, rel=1e-8)
    for row in narrow["rows"]:
        assert row["next rank"] == row["k"] + 1
        assert row["off minimum"] < 1e-8
        assert row["next cost"] < row["cost"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", 4, "--observed", 6, "--ranks", 3], "`--ranks` must be ranks at which no matrix fits all"),
        (["--ranks", 8], "`width` must be at most 7"),
        (["--kick", 0.7], "`--kick` must be less than 0.5"),
        (["--new", 0], "`--new` must be at least 1"),
        (["--depths", 1], "`--depths` must be at least 2"),
    ],
)
def test_mistakes_about_narrow_minima_are_refused(options, says, capsys, tmp_path):
    assert cli.main(["run", "narrow-minimum", "--quick", *map(str, options), "--output", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_they_are_listed():
    assert {"one-way-jumps", "narrow-minimum"} < set(experiments.names())
    assert "-completion" not in experiments.names()
