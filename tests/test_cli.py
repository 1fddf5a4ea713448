"""The command line as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dln import cli, experiments, theorems

QUICK = ["--depth", "3", "--width", "20", "--gamma", "2.5", "--no-progress"]


def call(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def test_the_main_job_visits_ranks_0_to_3(capsys, tmp_path):
    """Depth 4, width 100, entries of variance w^-2, 70 of 100 entries of a matrix of rank 3."""
    status, out, _ = call(capsys, "run", "--output", tmp_path, "--json")
    result = json.loads(out)
    assert status == 0
    assert [row["rank"] for row in result["rows"]] == [0, 1, 2, 3]
    assert [row["kind"] for row in result["rows"]] == ["saddle"] * 3 + ["minimum"]
    tests = [row["test cost"] for row in result["rows"]]
    assert tests[-1] < tests[0] / 100
    # The same problem solved by the greedy low-rank algorithm: train cost 24.2836 and 4.84358 on the plateaus.
    assert result["rows"][1]["train cost"] == pytest.approx(24.2836, rel=3e-3)
    assert result["rows"][2]["train cost"] == pytest.approx(4.84358, rel=3e-4)
    for row in result["rows"][1:3]:
        assert row["speed (measured)"] == pytest.approx(row["speed (theory)"], rel=0.02)
    for path in result["figures"]:
        assert Path(path).read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_the_table_is_printed(capsys, tmp_path):
    status, out, _ = call(capsys, "run", "saddle-to-saddle", *QUICK, "--output", tmp_path)
    assert status == 0
    assert "speed (measured)" in out
    assert "saddle-to-saddle.png" in out


def test_figures_are_reproducible(capsys, tmp_path):
    for name in "ab":
        call(capsys, "run", *QUICK, "--output", tmp_path / name)
    assert (tmp_path / "a" / "saddle-to-saddle.svg").read_bytes() == (
        tmp_path / "b" / "saddle-to-saddle.svg"
    ).read_bytes()


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_matrix_of_the_users_own(capsys, tmp_path, scale):
    """Rank 2 is found whatever the units of the matrix, with missing cells and held-out entries."""
    rng = np.random.default_rng(5)
    U, V = (np.linalg.qr(rng.standard_normal((n, 2)))[0] for n in (8, 12))
    A = scale * U @ np.diag([6.0, 2.0]) @ V.T
    known = rng.random(A.shape) < 0.85
    text = "\n".join(
        ",".join(f"{x:.17g}" if k else "" for x, k in zip(*row, strict=True))
        for row in zip(A, known, strict=True)
    )
    (tmp_path / "mine.csv").write_text(text)
    options = [
        "--target",
        tmp_path / "mine.csv",
        "--test-fraction",
        "0.15",
        "--depth",
        3,
        "--width",
        30,
        "--stop",
        1e-5,
    ]
    status, out, _ = call(capsys, "run", *options, "--json", "--output", tmp_path)
    result = json.loads(out)
    assert status == 0
    assert [row["rank"] for row in result["rows"]] == [0, 1, 2]
    assert result["parameters"]["observed"] + result["parameters"]["test"] == known.sum()
    tests = [row["test cost"] for row in result["rows"]]
    assert tests[-1] < tests[0] / 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "nowhere.csv"], "`path` must be a file"),
        (["--depth", "1"], "`--depth` must be at least 2"),
        (["--test-fraction", "1.5"], "`--test-fraction` must be in [0, 1)"),
        (["--rtol", "-1"], "`rtol` must be positive"),
    ],
)
def test_wrong_input_is_one_sentence(capsys, arguments, words):
    status, out, err = call(capsys, "run", *arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out


def test_a_run_that_ends_early_says_so(capsys, tmp_path):
    status, out, _ = call(capsys, "run", *QUICK, "--max-steps", "20", "--output", tmp_path)
    assert status == 1
    assert "max_steps" in out


def test_unknown_names(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "nothing"])
    assert "saddle-to-saddle" in capsys.readouterr().err
    status, _, err = call(capsys, "verify", "nothing")
    assert status == 2
    assert "balancedness" in err


def test_list_and_doctor(capsys):
    _, out, _ = call(capsys, "list", "--json")
    catalogue = json.loads(out)
    assert set(catalogue["experiments"]) == set(experiments.names())
    assert set(catalogue["theorems"]) == set(theorems.names())
    _, out, _ = call(capsys, "doctor")
    assert "compiled kernels" in out
    assert "GPU" in out


def test_verify(capsys):
    status, out, _ = call(capsys, "verify", "layer_gradient", "--json")
    assert status == 0
    assert json.loads(out)[0]["status"] == "verified"


def test_help_is_quick():
    best = min(_seconds([sys.executable, "-m", "dln.cli", "--help"]) for _ in range(5))
    assert best < 0.2


def _seconds(command):
    before = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - before


@pytest.mark.parametrize(
    ("arguments", "status"), [("list", 141), ("list --json", 141), ("doctor", 141), ("--help", 0)]
)
def test_output_that_nobody_reads_ends_the_run_quietly(arguments, status):
    """As of `dln list | head -1`: the reader is gone before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dln.cli", *arguments.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (status, "")
