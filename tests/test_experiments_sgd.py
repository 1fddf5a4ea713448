"""The experiments on SGD with weight decay: laws that hold at any size, and runs done again another way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dln import cli, data, experiments, rank
from dln.experiments import _training, sgd_certificates
from dln.nonlinear import mlp, optimizers, train

NAMES = (
    "sgd-certificates",
    "sgd-rank",
    "sgd-forgetting",
    "sgd-bound",
    "sgd-momentum",
    "sgd-linear",
    "sgd-layers",
    "sgd-noise",
)


def call(name, folder, *arguments):
    """Rows and result of `dln run NAME --quick ... --json`."""
    status = cli.main(["run", name, "--quick", *map(str, arguments), "--json", "--output", str(folder)])
    result = json.loads((folder / f"{name}.json").read_text())
    assert status == 0
    assert {Path(path).suffix for path in result["figures"]} == {".png", ".svg"}
    assert all(Path(path).stat().st_size > 10_000 for path in result["figures"])
    return result["rows"], result["parameters"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Rows and parameters of each experiment, run once."""
    done = {}

    def run(name):
        if name not in done:
            done[name] = call(name, tmp_path_factory.mktemp(name))
        return done[name]

    return run


def test_they_are_listed_and_their_shared_module_is_not():
    assert set(NAMES) < set(experiments.names())
    assert not any("training" in name for name in experiments.names())


def test_a_cell_of_the_grid_is_that_run_measured_by_hand(quick):
    rows, _ = quick("sgd-rank")
    (row,) = (row for row in rows if (row["B"], row["lambda"]) == (16, 5e-3))
    digits, (start, order) = data.digits(), np.random.SeedSequence(0).spawn(2)
    net = mlp((64, 64, 64, 64, 64, 10), rng=start)
    before = [W.copy() for W in net.weights]
    history = train(
        net, digits.X, digits.y, learning_rate=0.1, batch_size=16, epochs=25, weight_decay=5e-3, rng=order
    )
    factor, tau = rank.forgetting(0.1, 5e-3, steps=history.steps)
    assert row["tau"] == pytest.approx(tau[-1], rel=1e-12)
    hidden = list(zip(net.weights, before, strict=True))[:4]
    for eps in (1e-2, 1e-3):
        ranks = [rank.numerical(W, eps, norm="frobenius") for W, _ in hidden]
        added = [rank.corrected(W, W_0, factor[-1], eps, norm="frobenius") for W, W_0 in hidden]
        assert row[f"rank {eps:g}"] == np.mean(ranks)
        assert row[f"corrected {eps:g}"] == np.mean(added)
    assert row["train"] == history.train_accuracy[-1]


def test_without_decay_the_rank_stays_and_with_it_it_falls_with_tau(quick):
    rows, parameters = quick("sgd-rank")
    start = parameters["start rank"]
    for row in rows:
        if row["lambda"] == 0:
            assert row["tau"] == 0
            assert abs(row["rank 0.01"] - start["0.01"]) < 2.5
            assert abs(row["rank 0.001"] - start["0.001"]) < 1
    decayed = sorted((row["tau"], row["rank 0.01"]) for row in rows if row["lambda"] > 0)
    assert decayed[0][1] > 55
    assert decayed[-1][1] < 25
    for group in parameters["equal tau"]:  # half the batch at half the decay
        assert group["deviation"] < 2


def test_the_batch_size_acts_at_equal_epochs_and_not_at_equal_forgetting(quick):
    rows, _ = quick("sgd-forgetting")
    early, late = ([row[name] for row in rows] for name in ("same epochs", "rank 0.001"))
    steps = [row["steps"] for row in rows]
    assert max(steps) < 1.06 * min(steps)
    assert early[1] - early[0] > 20
    assert early[2] > 63
    assert early[0] == late[0]  # the smallest batch ends there
    assert np.argmin(late) == 2
    assert max(late) - min(late) < 15


def test_bounds_certificates_and_ranks_stand_in_their_order(quick):
    rows, parameters = quick("sgd-bound")
    x, B, width = 0.1 * 0.1, parameters["batch_size"], parameters["width"]
    for name, bounds in parameters["bounds"].items():
        eps = float(name)
        assert bounds["printed"] == pytest.approx(B * math.log(2 / eps) / x)
        assert bounds["sharp"] == B * math.floor(math.log(1 / eps) / -math.log1p(-x)) + B
        assert bounds["sharp"] < bounds["printed"] <= bounds["repaired"] < width
        assert rows[-1][f"rank {name}"] < 10 < bounds["sharp"]
        for row in rows:
            certified = row[f"certified {name}"]
            assert certified is None or row[f"rank {name}"] <= certified
            older = [
                B * (row["steps"] - past["steps"])
                for past in rows
                if past["steps"] < row["steps"]
                and (1 - x) ** (row["steps"] - past["steps"]) * past["||W||"] <= eps * row["||W||"]
            ]
            assert certified == min(older, default=None)
    assert [row["rank 0.7"] <= row["rank 0.5"] <= row["rank 0.3"] for row in rows] == [True] * len(rows)


def test_momentum_is_a_learning_rate_and_a_schedule_forgets_its_own_sum(quick):
    rows, parameters = quick("sgd-momentum")
    by = {row["protocol"]: row for row in rows}
    lr, wd, epochs = parameters["learning_rate"], parameters["weight_decays"][0], parameters["epochs"]
    steps = epochs * (1437 // 16)
    assert by["plain"]["-log D"] == pytest.approx(-steps * math.log1p(-lr * wd), rel=1e-12)
    a = rank.propagator(0.1 * lr, wd, 0.9, steps)[0, 0]
    assert by["momentum"]["-log D"] == pytest.approx(-math.log(a), rel=1e-9)
    lengths = np.diff([0, *(round(share * epochs) for share in (0.12, 0.2, 0.4)), epochs]) * (1437 // 16)
    forgotten = -sum(n * math.log1p(-lr * wd * 0.2**k) for k, n in enumerate(lengths))
    assert by["schedule"]["-log D"] == pytest.approx(forgotten, rel=1e-12)
    assert abs(by["momentum"]["rank 0.001"] - by["plain"]["rank 0.001"]) < 3
    for slow in ("slow", "schedule"):
        assert by[slow]["rank 0.001"] - by["plain"]["rank 0.001"] > 20


def test_a_deep_linear_network_ends_at_a_minimum_of_the_penalty(quick):
    """Full batches: to the last digits, at the minimum that no training has found; small ones: at its rank."""
    rows, _ = quick("sgd-linear")
    by = {(row["lambda"], row["B"]): row for row in rows}
    for wd in (0.1, 0.6):
        full, small = by[wd, 400], by[wd, 4]
        assert full["distance"] < 1e-6
        assert full["objective"] == pytest.approx(full["of the minimum"], rel=1e-9 if wd == 0.1 else 1e-6)
        assert full["rank of layers"] == full["rank of A"] == full["lowest"] == full["nearest minimum"]
        assert small["rank of layers"] == full["rank of layers"]
        assert small["objective"] > full["objective"]
        assert 0.01 < small["distance"] < 0.3
        assert full["start left"] == pytest.approx(math.exp(-full["tau"]), rel=0.1)
    assert (by[0.1, 4]["rank of A"], by[0.6, 4]["rank of A"]) == (4, 3)
    assert by[0.0, 4]["rank of layers"] > 20


def test_the_batch_rank_of_every_kind_of_layer_is_that_of_the_theory(quick):
    rows, _ = quick("sgd-layers")
    most = {row["network"]: row["batch rank"].split() for row in rows}
    assert most["dense"] == ["32"] * 4
    assert most["batch norm"] == ["31"] * 4
    assert most["residual"] == ["32"] * 5
    assert most["convolution"] == [
        "9",
        "64",
        "32",
    ]  # 16, 4 and 1 uses of matrices with 9, 64 and 64 rows or columns
    for row in rows:
        assert row["tau"] == pytest.approx(0.1 * row["lambda"] * 12 * (1437 // 32))
        assert row["rank"] > 0.8  # tau = 0.5 is not enough to forget a start
        assert row["collapsed"] == 0
    for kept, decayed in zip(rows[::2], rows[1::2], strict=True):
        assert decayed["norm / start"] < kept["norm / start"]
        assert decayed["rank"] <= kept["rank"]


def test_no_step_is_shorter_than_its_bound_and_decay_moves_weights_more(quick):
    rows, _ = quick("sgd-noise")
    by = {(row["B"], row["lambda"]): row for row in rows}
    for (B, wd), row in by.items():
        assert row["tau"] == pytest.approx(0.1 * wd * 12 * (1437 // B))
        assert (row["bound / step"] == 0) if wd == 0 else (0 < row["bound / step"] < 1)
        if wd > 0:
            assert row["||W||"] < by[B, 0.0]["||W||"]
            assert row["epoch / ||W||"] > by[B, 0.0]["epoch / ||W||"]
    assert by[4, 0.005]["bound / step"] > by[32, 0.005]["bound / step"]


def test_every_certificate_holds_in_every_kind_of_network_and_can_fail(quick):
    rows, parameters = quick("sgd-certificates")
    assert parameters["steps"] == sum(row["steps"] for row in rows) > 3000
    kinds = {row["network"].split(",")[0] for row in rows}
    assert kinds == {
        "dense",
        "shallow",
        "batch norm",
        "residual",
        "convolution",
        "normed images",
        "attention",
    }
    for row in rows:
        assert 0 < row["recursion"] < 1e-12
        assert row["spare"] >= 0
        assert row["windows"] == row["steps"] // 25 > 0
        assert row["asked"] > 0.3
        for name in ("update", "interlacing", "window"):
            assert row[name] >= -1e-12
        assert (row["energy"] is None) == ("norm" not in row["network"])
        assert (row["noise"] is None) == bool(
            {"momentum", "nesterov", "decoupled"} & set(row["network"].split(", "))
        )
    (told,) = (row for row in rows if row["network"] == "shallow, strong decay")
    assert told["certified"] >= -1e-12  # the certified rank is below the width
    assert set(parameters["refuted"]) == set(sgd_certificates.CERTIFICATES)


def test_a_violation_makes_the_experiment_fail(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        optimizers.SGD, "step", lambda self, p, g, memory, lr, t: p.__isub__(lr * g * (1 + 1e-6))
    )
    monkeypatch.setattr(sgd_certificates, "RUNS", sgd_certificates.RUNS[9:10])
    assert cli.main(["run", "sgd-certificates", "--quick", "--output", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "A certificate IS violated" in out
    assert "'recursion'" in out


def test_two_jobs_give_the_runs_of_one(tmp_path):
    few = ("--batch-sizes", 8, 16, "--weight-decays", 0.005, "--epochs", 10, "--data", "teacher")
    one, two = (call("sgd-rank", tmp_path, *few, "--jobs", jobs)[0] for jobs in (1, 2))
    assert one == two
    assert [row["train"] > 0.6 for row in one] == [True, True]


def test_a_run_that_learns_nothing_is_left_out_and_said(capsys, tmp_path):
    few = ["--batch-sizes", "16", "--weight-decays", "0.001", "5", "--epochs", "6", "--output", str(tmp_path)]
    assert cli.main(["run", "sgd-rank", "--quick", *few]) == 0
    assert "1 of 2 runs collapsed" in capsys.readouterr().out
    lost, kept = sorted(
        json.loads((tmp_path / "sgd-rank.json").read_text())["rows"], key=lambda row: -row["lambda"]
    )
    assert (lost["collapsed"], lost["rank 0.01"], lost["train"]) == (1, None, None)
    assert (kept["collapsed"], kept["train"] > 0.6) == (0, True)


def test_a_grid_in_which_nothing_learns_is_said_too(capsys, tmp_path):
    few = ["--batch-sizes", "32", "--weight-decays", "5", "--epochs", "2", "--output", str(tmp_path)]
    assert cli.main(["run", "sgd-rank", "--quick", *few]) == 0
    assert "1 of 1 runs collapsed" in capsys.readouterr().out


def test_what_is_finished_when_someone_interrupts_is_kept(monkeypatch):
    cases = [_training.Case(64, 0.1, 0.0, 1, seed) for seed in range(5)]
    samples, waited = _training.DATA["teacher"](), _training.wait
    calls = []

    def interrupted(*arguments, **options):
        calls.append(waited(*arguments, **options))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr(_training, "wait", interrupted)
    runs = _training.train_all(cases, samples, 1, False)
    assert 2 <= len(runs) < 5
    assert {run.case for run in runs} < set(cases)
    assert sorted(run.case.seed for run in runs) == [run.case.seed for run in runs]


def test_without_scikit_learn_they_say_how_to_get_it(monkeypatch, capsys, tmp_path):
    def missing(name):
        raise ImportError("scikit-learn must be installed for this data. Run: pip install 'dln[data]'")

    monkeypatch.setattr(data, "_bundled", missing)
    assert cli.main(["run", "sgd-rank", "--quick", "--output", str(tmp_path)]) == 2
    assert "pip install 'dln[data]'. Or take --data teacher." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sgd-certificates", "--every", "9"], "`--every` must be at least 10"),
        (["sgd-certificates", "--thousands", "0"], "`--thousands` must be positive"),
        (["sgd-rank", "--epochs", "0"], "`--epochs` must be at least 1"),
        (["sgd-rank", "--weight-decays", "-1"], "`--weight-decays` must be zero or positive"),
        (["sgd-rank", "--jobs", "0"], "`--jobs` must be at least 1"),
        (["sgd-rank", "--batch-sizes", "5000"], "`batch_size` must be at most"),
        (["sgd-forgetting", "--tau", "nan"], "`--tau` must be positive"),
        (["sgd-forgetting", "--batch-sizes", "5000"], "`--batch-sizes` must be at most 1437"),
        (["sgd-bound", "--samples", "9999"], "`--samples` must be at most 1437"),
        (["sgd-bound", "--epsilons", "2"], "`epsilon` must be below 1"),
        (["sgd-linear", "--batch-sizes", "401"], "`--batch-sizes` must be at most 400"),
        (["sgd-linear", "--depth", "1"], "`--depth` must be at least 2"),
        (["sgd-noise", "--epochs", "1"], "`--epochs` must be at least 2"),
        (["sgd-layers", "--learning-rate", "0"], "`--learning-rate` must be positive"),
        (["sgd-momentum", "--momentum", "1"], "`momentum` must be in [0, 1)"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_sentence(capsys, tmp_path, arguments, words):
    assert cli.main(["run", *arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out
