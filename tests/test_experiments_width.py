"""The experiments on width: Krylov subspaces order by order, and one run at every width up to infinity."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import dln
from dln import cli, experiments, infinite, inits
from dln.experiments import krylov as krylov_module
from dln.experiments._half_times import half_times
from dln.form.subspaces import krylov


@pytest.fixture
def run(capsys, tmp_path):
    """Call `dln run NAME ... --json`; rows and parameters from what it printed."""

    def call(*arguments):
        status = cli.main(["run", *map(str, arguments), "--json", "--output", str(tmp_path)])
        result = json.loads(
            capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON")
        )
        assert status == 0
        for path in result["figures"]:
            assert Path(path).read_bytes()[:4] in (b"\x89PNG", b"<?xm")
        return result["rows"], result["parameters"]

    return call


def test_they_are_listed():
    assert {"krylov", "width"} < set(experiments.names())


def test_errors_by_order_are_those_found_before(run):
    rows, parameters = run("krylov", "--quick")
    assert [(row["depth"], row["order"]) for row in rows] == [
        *((3, k) for k in range(5)),
        *((4, k) for k in range(4)),
    ]
    for row in rows:
        for name in ("sup", "rms", "time"):
            assert 1 / 5 < row[name] / row[f"{name} before"] < 5
        assert 1 / 4 < row["time"] / row["time at infinity"] < 4
        assert row["rms"] < row["sup"]
        dims = krylov(
            inits.gaussian((4, *[90] * (row["depth"] - 1), 4), std=1.0, rng=0), row["order"]
        ).dimensions[-1]
        assert row["dims"] == "-".join(map(str, dims))
    (first, _) = parameters["errors"]
    assert np.exp(np.log(np.array(first["sup_rms_time"])[:, 2, 0]).mean()) == pytest.approx(rows[2]["sup"])


def test_an_error_by_another_integrator():
    """One start at one order, through Radau 13 at every saved time."""
    case = krylov_module.Case(3, 40, 0.1, 1, krylov_module._SEEN[:3])
    found = krylov_module._errors(case, np.random.default_rng(4))[2]
    start = inits.gaussian((4, 40, 40, 4), rho=0.1, rng=np.random.default_rng(4))
    cost, t = dln.costs.FullyObserved(np.diag(krylov_module.S)), np.linspace(0.0, 22.0, 3000)
    whole, cut = (
        dln.gradient_flow(cost, layers, (0.0, 22.0), form="weights", method="radau13", rtol=1e-11, t_eval=t)
        for layers in (start, krylov(start, 2).layers)
    )
    gap = np.linalg.norm(whole.end_to_end - cut.end_to_end, axis=(1, 2)) / np.linalg.norm(krylov_module.S)
    assert found[0] == pytest.approx(gap.max(), rel=1e-3)
    halves = [half_times(run, krylov_module.S) for run in (whole, cut)]
    assert found[2] == pytest.approx(np.abs(halves[1] / halves[0] - 1).max(), rel=1e-3)


def test_half_times_are_those_of_the_closed_form():
    s = np.array([2.0, 0.9])
    cost = dln.costs.FullyObserved(np.diag(s))
    start = dln.inits.aligned(cost.target, 3, scale=1e-3)
    run = dln.gradient_flow(cost, start, (0.0, 30.0), rtol=1e-12, t_eval=np.linspace(0.0, 30.0, 3000))
    exact = dln.exact.mode_time(s / 2, 1e-3, s, 3)
    assert half_times(run, s) == pytest.approx(exact, rel=1e-10)
    assert np.isnan(half_times(run, np.array([2.0, 5.0]))[1])


def test_widths_scatter_around_infinity_like_one_over_the_root(run):
    rows, parameters = run("width", "--quick", "--singular-values", 1.4, 1.0, 2.0)
    s = parameters["singular_values"]
    assert s == [2.0, 1.4, 1.0]
    limits = [infinite.half_time(x, 0.1, 3).value for x in s]
    assert parameters["half_times_at_infinity"] == pytest.approx(limits, rel=1e-10)
    assert [row["width"] for row in rows] == ["1e+02", "1e+02", "1e+04", "1e+06", "1e+08", "inf"]
    assert [row["start"] for row in rows] == ["whole", *["Krylov"] * 4, "limit"]
    for row in rows[:-1]:
        for name, limit in zip(("2", "1.4", "1"), limits, strict=True):
            spread = limit * 0.5 / math.sqrt(float(row["width"]))
            assert abs(row[f"t({name})"] - limit) < 4 * spread / math.sqrt(12) + limit / float(row["width"])
            assert spread / 3 < row[f"sd({name})"] < 2 * spread
    assert parameters["exponents"] == pytest.approx([-0.5] * 3, abs=0.1)


@pytest.mark.parametrize("depth", [2, 4])
def test_other_depths(run, depth):
    rows, _ = run("width", "--quick", "--depth", depth, "--rho", 0.4, "--singular-values", 1.0)
    assert rows[-2]["t(1)"] == pytest.approx(infinite.half_time(1.0, 0.4, depth, rtol=1e-8).value, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["width", "--depth", "5"], "`--depth` must be at most 4"),
        (["width", "--rho", "0"], "`--rho` must be positive"),
        (["width", "--draws", "1"], "`--draws` must be at least 2"),
        (["width", "--singular-values", "0"], "`--singular-values` must be positive"),
        (["krylov", "--seed", "-1"], "`--seed` must be at least 0"),
    ],
)
def test_wrong_input_is_one_sentence(capsys, tmp_path, arguments, words):
    assert cli.main(["run", *arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out
