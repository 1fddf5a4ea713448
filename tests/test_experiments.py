"""The experiments beside the main one: their numbers against formulas and against other ways to compute them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from dln import cli, costs, experiments, gradient_flow, schatten


@pytest.fixture
def run(capsys, tmp_path):
    """Call `dln run NAME ... --json`; rows and parameters from what it printed."""

    def call(*arguments):
        status = cli.main(["run", *map(str, arguments), "--json", "--output", str(tmp_path)])
        result = json.loads(
            capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON")
        )
        assert status == 0
        assert result["figures"]
        for path in result["figures"]:
            assert Path(path).read_bytes()[:4] in (b"\x89PNG", b"<?xm")
        return result["rows"], result["parameters"]

    return call


def objective(x, s, decay, depth):
    return 0.5 * (x - s) ** 2 + decay * depth / 2 * np.abs(x) ** (2 / depth)


def test_they_are_listed():
    assert {"schatten", "local-minima", "bifurcation"} < set(experiments.names())
    assert experiments.names()[0] == experiments.MAIN


@pytest.mark.parametrize("decay", [0.3, 1.0])
def test_schatten_thresholds_by_what_they_mean(run, decay):
    rows, _ = run("schatten", "--weight-decay", decay)
    assert [row["depth"] for row in rows] == [1, 2, 3, 4, 8]
    for row in rows:
        depth, x, s = row["depth"], row["x_jump"], row["s_jump"]
        assert row["price of rank 2"] == pytest.approx(2 ** (1 - 1 / depth), rel=1e-14)
        if depth <= 2:
            assert (x, s) == (0.0, decay if depth == 2 else 0.0)
            continue
        assert objective(x, s, decay, depth) == pytest.approx(objective(0.0, s, decay, depth), rel=1e-13)
        assert x + decay * x ** (2 / depth - 1) == pytest.approx(s, rel=1e-13)
        x, s = row["x_sn"], row["s_sn"]
        assert x + decay * x ** (2 / depth - 1) == pytest.approx(s, rel=1e-13)
        assert (1 - 2 / depth) * decay * x ** (2 / depth - 2) == pytest.approx(1.0, rel=1e-13)


def test_schatten_proximal_operator_against_a_grid(run):
    singular_values = (4.0, 2.5, 1.5)
    rows, _ = run("schatten", "--singular-values", *singular_values)
    grid = np.linspace(0.0, 5.0, 200_001)
    for row in rows:
        for s in singular_values:
            best = grid[np.argmin(objective(grid, s, 1.0, row["depth"]))]
            assert row[f"x({s:g})"] == pytest.approx(best, abs=2.5e-5)
        born = sum(s > row["s_sn"] for s in singular_values)
        assert row["minima"] == (1 if row["depth"] <= 2 else born + 1)


@pytest.fixture(scope="module")
def quick():
    """The experiment for one seed at depths 2 and 3."""
    options = argparse.Namespace(
        size=10, singular_values=[10.0, 7.0], observed=60, noise=0.1, depths=[2, 3], weight_decays=[0.05],
        seed=7, seeds=1, breadth=2, quick=False, progress=False,
    )  # fmt: skip
    return experiments.load("local-minima").run(options)


def completion(seed):
    """Truth, mask and noisy entries: 10 x 10 of singular values 10 and 7, 60 entries, noise 0.1."""
    random = np.random.default_rng(seed)
    U, V = (np.linalg.qr(random.normal(size=(10, 2)))[0] for _ in range(2))
    truth = U @ np.diag([10.0, 7.0]) @ V.T
    mask = np.zeros(100)
    mask[random.permutation(100)[:60]] = 1.0
    mask = mask.reshape(10, 10)
    return truth, mask, mask * (truth + 0.1 * random.normal(size=(10, 10)))


def test_depth_2_has_one_minimum_which_random_networks_find(quick):
    (row,) = (row for row in quick.rows if row["depth"] == 2)
    truth, mask, seen = completion(7)

    def loss(theta):
        W_1, W_2 = theta.reshape(2, 10, 10)
        R = mask * (W_2 @ W_1) - seen
        gradient = np.array([W_2.T @ R, R @ W_1.T]).ravel() + 0.05 * theta
        return 0.5 * np.sum(R**2) + 0.025 * theta @ theta, gradient

    assert (row["kind"], row["minima"], row["seeds"], row["gain 1/2"]) == ("global", 1, 1, 1.0)
    for seed in range(2):
        start = np.random.default_rng(seed).normal(size=200) / 2
        end = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 9999, "ftol": 0.0, "gtol": 1e-9}
        )
        W_1, W_2 = end.x.reshape(2, 10, 10)
        assert end.fun == pytest.approx(row["objective"], rel=1e-10)
        test = np.sum(((1 - mask) * (W_2 @ W_1 - truth)) ** 2) / 40
        assert test == pytest.approx(row["test error"], rel=1e-4)


def test_networks_of_depth_3_fall_back_to_every_minimum_of_the_table(quick):
    """Local minima of the layers, not of the product alone: a nudged network returns (arXiv 2106.15933v1)."""
    truth, mask, seen = completion(7)
    cost, random = costs.MatrixCompletion(seen, mask), np.random.default_rng(0)
    minima = {m.rank: m for m in reversed(schatten.solve(cost, 0.05, 3))}
    rows = {row["rank"]: row for row in quick.rows if row["depth"] == 3}
    assert set(rows) == set(minima) > {0, 1, 2}
    for rank, row in rows.items():
        layers = schatten.factorize(minima[rank].end_to_end, 3)
        nudged = [W + 1e-3 * random.normal(size=W.shape) for W in layers]
        end = gradient_flow(cost, nudged, (0.0, 300.0), weight_decay=0.05, t_eval=[300.0])
        A = end.end_to_end[-1]
        assert end.objective[-1] == pytest.approx(row["objective"], rel=1e-9)
        assert np.sum((mask * A - seen) ** 2) / 2 == pytest.approx(row["train cost"], rel=1e-4)
        assert np.sum(((1 - mask) * (A - truth)) ** 2) / 40 == pytest.approx(row["test error"], rel=1e-3)


def test_gains_are_ratios_of_the_test_errors_shown(quick):
    rows = {row["rank"]: row for row in quick.rows if row["depth"] == 3}
    lowest = min(rows.values(), key=lambda row: row["objective"])
    assert (lowest["kind"], lowest["lowest"], lowest["gain 1/2"]) == ("lowest", 1, 1.0)
    lower = [row for rank, row in rows.items() if rank < lowest["rank"]]
    for row in rows.values():
        gain = lowest["test error"] / row["test error"]
        assert row["gain 1/4"] == row["gain 1/2"] == row["gain 3/4"] == pytest.approx(gain, rel=1e-14)
        assert row["gain >= 3"] == (gain >= 3)
    (entry,) = (entry for entry in quick.parameters["gains"] if entry["depth"] == 3)
    assert entry["best lower rank"][0] >= (1 - 1e-14) * max(row["gain 1/2"] for row in lower)


def test_local_minima_over_seeds(run):
    rows, parameters = run("local-minima", "--quick")
    assert parameters["seeds"] == 2
    for decay in (0.05, 0.2):
        for depth in (2, 3):
            cell = [row for row in rows if (row["depth"], row["lambda"]) == (depth, decay)]
            assert sum(row["lowest"] for row in cell) == 2
            if depth == 2:
                assert sum(row["seeds"] for row in cell) == 2
            else:
                assert [row["seeds"] for row in cell[:3]] == [2, 2, 2]  # of ranks 0, 1, 2
                assert cell[0]["objective"] == cell[0]["train cost"]


def test_the_minimum_of_the_true_rank_predicts_best(run):
    """30 x 30, half of it seen: a test error three times below that of the lowest minimum, which has far more modes."""
    rows, _ = run("local-minima", "--depths", 3, "--weight-decays", 0.02, "--seeds", 2, "--breadth", 1)
    gains = {row["rank"]: row["gain 1/2"] for row in rows}
    assert max(gains, key=gains.get) == 2
    assert gains[2] > 3
    assert min(row["rank"] for row in rows if row["lowest"]) > 6


def test_bifurcations_against_the_formulas(run):
    rows, _ = run("bifurcation")
    s = np.array([3.0, 2.0, 1.0])
    for depth in (2, 3, 4):
        mine = [row for row in rows if row["depth"] == depth]
        ends = [row["to"] for row in mine[:-1]]
        assert [row["lambda from"] for row in mine] == [0.0, *ends]
        assert mine[-1]["to"] == "inf"
        if depth == 2:
            assert ends == pytest.approx([1.0, 2.0, 3.0])
        else:
            power = (2 * depth - 2) / depth
            jump = ((depth - 2) * s / (depth - 1)) ** power / (depth - 2)
            node = depth / (depth - 2) * ((depth - 2) * s / (2 * depth - 2)) ** power
            assert ends == pytest.approx(np.sort([*jump, *node]), rel=1e-13)
        for row in mine:
            decay = row["lambda from"] * 1.01 + 1e-3
            grid = np.linspace(0.0, 3.5, 50_001)
            alive = s > decay if depth == 2 else s > float(schatten.saddle_node(decay, depth)[1])
            K = int(np.sum(alive))
            assert row["critical points"] == (2 if depth == 2 else 3) ** K
            assert row["local minima"] == (1 if depth == 2 else K + 1)
            kept = [grid[np.argmin(objective(grid, value, decay, depth))] > 0 for value in s]
            assert row["global rank"] == sum(kept)
            # Depth 2: the origin, three free neurons for each mode. Deeper: all modes on x_-, in reverse order.
            assert row["largest index"] == (3 * K if depth == 2 else K + K * (K - 1) // 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["schatten", "--weight-decay", "0"], "`--weight-decay` must be positive"),
        (["schatten", "--depths", "0"], "`--depths` must be at least 1"),
        (["local-minima", "--observed", "900"], "`--observed` must be at most 899"),
        (["local-minima", "--noise", "-1"], "`--noise` must be zero or positive"),
        (["local-minima", "--size", "2", "--observed", "3", "--singular-values", "3", "2", "1"], "`--singular-values`"),
        (["bifurcation", "--depths", "1"], "`--depths` must be at least 2"),
        (["bifurcation", "--singular-values", *"1234567"], "`--singular-values` must be at most 6"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence(capsys, tmp_path, arguments, words):
    assert cli.main(["run", *arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out
