"""Files and the command line: matrices in every spelling, saved runs, and what is said of bad ones."""

from __future__ import annotations

import gc
import json
import pickle
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dln
from dln import costs, inits
from dln.cli import main
from dln.files import read_matrix

nan, inf = np.nan, np.inf
RANDOM = settings(max_examples=60, deadline=None)


def refusal(function, *arguments, error=ValueError, **options):
    """Message of the error, once it is known to hold a rule and a way out."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    del caught
    gc.collect(1)  # a file that the error left open would be reported here
    assert re.search(r"must .+\. [A-Z`].*\.$", message, re.DOTALL), message
    return message


# Matrices from .csv: NaN stands for an entry that is not known.

GOOD = {
    "plain": ("1,2\n3,4\n", [[1, 2], [3, 4]]),
    "no newline at the end": ("1,2\n3,4", [[1, 2], [3, 4]]),
    "blank lines at the end": ("1,2\n3,4\n\n\n", [[1, 2], [3, 4]]),
    "blank line between": ("1,2\n\n3,4\n", [[1, 2], [3, 4]]),
    "CRLF": ("1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
    "CR": ("1,2\r3,4\r", [[1, 2], [3, 4]]),
    "byte order mark": ("\ufeff1,2\n3,4\n", [[1, 2], [3, 4]]),
    "header": ("a,b\n1,2\n", [[1, 2]]),
    "quoted header": ('"a, with comma","b"\n1,2\n', [[1, 2]]),
    "quoted numbers": ('"1","2"\n"3","4"\n', [[1, 2], [3, 4]]),
    "semicolons": ("1;2\n3;4\n", [[1, 2], [3, 4]]),
    "tabs": ("1\t2\n3\t4\n", [[1, 2], [3, 4]]),
    "spaces around": (" 1 , 2\n3 ,4 \n", [[1, 2], [3, 4]]),
    "exponents and signs": ("+1e3,-2E-5\n.5,6.\n", [[1000, -2e-5], [0.5, 6]]),
    "empty cells": ("1,\n,4\n", [[1, nan], [nan, 4]]),
    "blank cells": ("1, \n ,4\n", [[1, nan], [nan, 4]]),
    "names of missing": ("1,NaN,NA\nnull,None,n/a\n", [[1, nan, nan], [nan, nan, nan]]),
    "empty row": ("1,2\n,\n3,4\n", [[1, 2], [nan, nan], [3, 4]]),
    "one cell": ("5\n", [[5]]),
    "one row": ("1,2,3\n", [[1, 2, 3]]),
    "one column": ("1\n2\n3\n", [[1], [2], [3]]),
    "one column with NaN": ("1\nnan\n3\n", [[1], [nan], [3]]),
    "one column with an empty cell": ("1\n\n3\n", [[1], [nan], [3]]),
}


@pytest.mark.parametrize("name", GOOD)
def test_csv_is_read(tmp_path, name):
    text, expected = GOOD[name]
    path = tmp_path / "matrix.csv"
    path.write_bytes(text.encode())
    matrix, mask = read_matrix(path)
    np.testing.assert_array_equal(np.where(mask == 1, matrix, nan), expected)
    assert matrix.dtype == mask.dtype == np.float64
    assert np.isfinite(matrix).all()


# What the message says besides the name of the file.
BAD = {
    "empty": ("", "empty"),
    "blank": ("\n\n\n", "must hold a matrix"),
    "only spaces": ("   \n  \n", "missing"),
    "only NaN": ("nan,nan\nnan,nan\n", "missing"),
    "only separators": (",\n,\n", "missing"),
    "only a header": ("a,b\n", "'a'"),
    "header and nothing known": ("a,b\n,\n", "missing"),
    "two headers": ("a,b\nc,d\n1,2\n", "'c'", "line 2"),
    "ragged": ("1,2\n3\n", "line 2", "1 cells"),
    "ragged, longer": ("1,2\n3,4,5\n", "line 2", "3 cells"),
    "ragged after blank lines": ("1,2\n\n\n3\n", "line 4"),
    "text": ("1,2\nx,4\n", "'x'", "line 2", "cell 1"),
    "text in the first line": ("1,x\n3,4\n", "'x'", "line 1", "cell 2"),
    "inf": ("1,2\n3,inf\n", "inf", "line 2", "cell 2"),
    "too large": ("1,2\n-1e400,4\n", "line 2", "cell 1"),
    "spaces between": ("1 2\n3 4\n", "'3 4'"),
    "decimal commas": ("1,5;2,5\n3,5;4,5\n", "line", "cell"),
    "thousands": ('"1,000",2\n', "'1,000'"),
    "underscores": ("1_000,2\n", "'1_000'"),
    "hexadecimal": ("0x1,2\n", "'0x1'"),
    "complex": ("1+2j,2\n", "'1+2j'"),
    "percent": ("10%,2\n", "'10%'"),
    "open quote": ('"1,2\n3,4\n', "line 1"),
    "zero byte": ("1,2\x00\n", "2\\x00"),
    "endless cell": ("1" * 200_000 + ",2\n", "cell"),
    "names of rows": (",a,b\nr1,1,2\n", "'a'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_csv_is_refused(tmp_path, name):
    text, *says = BAD[name]
    path = tmp_path / "matrix.csv"
    path.write_bytes(text.encode())
    message = refusal(read_matrix, path)
    for fragment in ("`path`", "matrix.csv", *says):
        assert fragment in message
    assert len(message) < 1000


@pytest.mark.parametrize("data", ["1,é\n".encode("latin-1"), "1,2\n".encode("utf-16"), bytes(range(256))])
def test_csv_that_is_no_text_is_refused(tmp_path, data):
    path = tmp_path / "matrix.csv"
    path.write_bytes(data)
    assert "matrix.csv" in refusal(read_matrix, path)


def answer(path):
    try:
        return read_matrix(path)
    except ValueError as error:
        return str(error)


@RANDOM
@given(st.text(alphabet=st.sampled_from("012.-+eE,;\t\n\r \"'nax\x00\x0b\x0c\x1c\u2028_"), max_size=40))
def test_random_text_is_read_or_refused(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.csv"
        path.write_bytes(text.encode())
        result = answer(path)
    assert "matrix.csv" in result if isinstance(result, str) else result[1].any()


FLOATS = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@RANDOM
@given(
    st.integers(2, 4).flatmap(
        lambda n: st.lists(st.lists(FLOATS, min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_random_matrix_survives_a_csv_file(rows):
    known = np.array([[cell is not None for cell in row] for row in rows])
    if not known.any():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrix.csv"
        path.write_text(
            "\n".join(",".join("" if cell is None else repr(cell) for cell in row) for row in rows)
        )
        matrix, mask = read_matrix(path)
    np.testing.assert_array_equal(mask, known)
    np.testing.assert_array_equal(matrix[known], [cell for row in rows for cell in row if cell is not None])


# Matrices from .npy and .npz.


def write(path, content):
    """Write bytes, an array, or a mapping of arrays under exactly this name."""
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)


EYE = np.eye(2)
BINARY = {
    "float.npy": (np.array([[1.0, nan]]), [[1, nan]]),
    "int.npy": (np.array([[1, 2]]), [[1, 2]]),
    "float32.npy": (np.array([[0.5, nan]], np.float32), [[0.5, nan]]),
    "fortran.npy": (np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), [[1, 2], [3, 4]]),
    "big_endian.npy": (np.array([[1.0, 2.0]], ">f8"), [[1, 2]]),
    "an_npz.npy": ({"target": EYE}, EYE),
    "an_npy.npz": (EYE, EYE),
    "UPPER.NPY": (np.array([[1.0, 2.0]]), [[1, 2]]),
    "target.npz": ({"target": EYE}, EYE),
    "only.npz": ({"anything": EYE}, EYE),
    "mask.npz": ({"target": [[1, nan], [inf, 4]], "mask": [[1, 0], [0, 1]]}, [[1, nan], [nan, 4]]),
    "bool_mask.npz": ({"target": EYE, "mask": EYE == 1, "other": 1}, [[1, nan], [nan, 1]]),
}


@pytest.mark.parametrize("name", BINARY)
def test_array_file_is_read(tmp_path, name):
    content, expected = BINARY[name]
    write(tmp_path / name, content)
    matrix, mask = read_matrix(tmp_path / name)
    np.testing.assert_array_equal(np.where(mask == 1, matrix, nan), expected)


PICKLE = pickle.dumps({"a": 1})
BAD_BINARY = {
    "empty.npy": (b"", ValueError, "empty"),
    "empty.npz": (b"", ValueError, "empty"),
    "text.npy": (b"1,2\n3,4\n", ValueError, "NumPy"),
    "text.npz": (b"1,2\n3,4\n", ValueError, "NumPy"),
    "pickle.npy": (PICKLE, ValueError, "NumPy"),
    "pickle.npz": (PICKLE, ValueError, "NumPy"),
    "header.npy": (b"\x93NUMPY", ValueError, "NumPy"),
    "zip.npz": (b"PK\x03\x04 and no more", ValueError, "NumPy"),
    "one_axis.npy": (np.ones(3), ValueError, "(3,)"),
    "three_axes.npy": (np.ones((2, 2, 2)), ValueError, "(2, 2, 2)"),
    "number.npy": (np.array(1.0), ValueError, "()"),
    "no_rows.npy": (np.ones((0, 2)), ValueError, "(0, 2)"),
    "complex.npy": (EYE * 1j, (TypeError, ValueError), "complex128"),
    "text_array.npy": (np.array([["a"]]), (TypeError, ValueError), "<U1"),
    "object.npy": (np.array([[None]]), ValueError, "NumPy"),
    "object.npz": ({"target": np.array([[None]])}, ValueError, "NumPy"),
    "inf.npy": (np.array([[1.0, -inf]]), ValueError, "inf"),
    "all_nan.npy": (np.array([[nan, nan]]), ValueError, "missing"),
    "two.npz": ({"a": EYE, "b": EYE}, ValueError, "['a', 'b']"),
    "none.npz": ({}, ValueError, "target"),
    "mask_shape.npz": ({"target": EYE, "mask": np.eye(3)}, ValueError, "(3, 3)"),
    "mask_two.npz": ({"target": EYE, "mask": 2 * EYE}, ValueError, "2.0"),
    "mask_zero.npz": ({"target": EYE, "mask": 0 * EYE}, ValueError, "all zero"),
    "mask_nan.npz": ({"target": EYE, "mask": nan * EYE}, ValueError, "nan"),
    "seen_nan.npz": ({"target": nan * EYE, "mask": EYE}, ValueError, "nan"),
}


@pytest.mark.parametrize("name", BAD_BINARY)
def test_bad_array_file_is_refused(tmp_path, name):
    content, error, says = BAD_BINARY[name]
    write(tmp_path / name, content)
    message = refusal(read_matrix, tmp_path / name, error=error)
    assert name in message
    assert says in message
    assert "allow_pickle=`" not in message  # no advice to run what is in the file


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_cut_array_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"cut{suffix}"
    write(path, {"target": np.ones((9, 9))} if suffix == ".npz" else np.ones((9, 9)))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert path.name in refusal(read_matrix, path)


def saved(path):
    return dln.Trajectory.load(path)


@pytest.mark.parametrize("read", [read_matrix, saved])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing.csv", FileNotFoundError),
        ("missing.npz", FileNotFoundError),
        ("folder/missing.npz", FileNotFoundError),
        ("", FileNotFoundError),
        ("x" * 5000 + ".npz", FileNotFoundError),
        ("\0.npz", FileNotFoundError),
        (None, TypeError),
        (3, TypeError),
        (b"matrix.npz", TypeError),
        (["matrix.npz"], TypeError),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bad_path_is_refused(read, path, error):
    message = refusal(read, path, error=error)
    assert "`path`" in message
    assert str(path)[:40].strip("\0") in message


def test_folder_is_no_file(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    message = refusal(
        read_matrix, tmp_path / "folder.csv", error=(FileNotFoundError, IsADirectoryError, ValueError)
    )
    assert "folder" in message
    assert "does not exist" not in message


@pytest.mark.parametrize("name", ["matrix.txt", "matrix", "matrix.csv.gz"])
def test_unknown_ending_is_refused(tmp_path, name):
    (tmp_path / name).write_text("1,2\n")
    message = refusal(read_matrix, tmp_path / name)
    assert ".csv, .npy or .npz" in message
    assert name in message


# Saved runs.

HALVES = [0.5 * EYE, 0.5 * EYE]
COST = costs.FullyObserved(EYE)
CUSTOM = costs.Custom(lambda A: 0.5 * np.sum((A - np.eye(2)) ** 2), lambda A: A - np.eye(2))
RUNS = {
    "flow": lambda: dln.gradient_flow(COST, HALVES, (0, 1)),
    "flow without layers": lambda: dln.gradient_flow(
        COST, HALVES, (0, 1), keep_weights=False, weight_decay=0.1
    ),
    "euler": lambda: dln.gradient_flow(COST, HALVES, (1, 2), method="euler", step=0.1),
    "times": lambda: dln.gradient_flow(COST, HALVES, (0, 1), t_eval=[0.5, 0.7]),
    "until": lambda: dln.gradient_flow(COST, HALVES, (0, inf), until=dln.Until(cost=1e-3)),
    "failed": lambda: dln.gradient_flow(COST, HALVES, (0, 9), max_steps=3),
    "descent": lambda: dln.gradient_descent(COST, HALVES, 0.1, 9),
    "sgd": lambda: dln.sgd(2.5 * COST, HALVES, 0.1, 9, batch_size=2, rng=0, keep_weights=False),
    "completion": lambda: dln.gradient_flow(costs.MatrixCompletion([[1, nan]], [[1, 0]]), [[[1, 2]]], (0, 1)),
    "sensing": lambda: dln.gradient_flow(costs.MatrixSensing(np.ones((3, 2, 2)), [1, 2, 3]), HALVES, (0, 1)),
    "loss": lambda: dln.gradient_flow(costs.SquareLoss(EYE, EYE), HALVES, (0, 1)),
    "entropy": lambda: dln.gradient_flow(costs.CrossEntropy(EYE, [0, 1], classes=2), HALVES, (0, 1)),
}
ARRAYS = ("t", "end_to_end", "cost", "objective", "gradient_norm", "extrema")
FACTS = (
    "status",
    "message",
    "success",
    "depth",
    "weight_decay",
    "nfev",
    "n_steps",
    "method",
    "form",
    "stats",
)


def assert_same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in FACTS:
        assert getattr(a, name) == getattr(b, name)
    for kind in ("weights", "start"):
        for V, W in zip(getattr(a, kind) or (), getattr(b, kind) or (), strict=True):
            np.testing.assert_array_equal(V, W)
            assert not W.flags.writeable


@pytest.mark.parametrize("name", RUNS)
def test_saved_run_is_the_same(tmp_path, name):
    run = RUNS[name]()
    run.save(tmp_path / "run.npz")
    loaded = saved(tmp_path / "run.npz")
    assert_same(run, loaded)
    t = 0.5 * (run.t[0] + run.t[-1])
    np.testing.assert_array_equal(run.at(t), loaded.at(t))
    assert repr(run) == repr(loaded)
    assert not loaded.t.flags.writeable


def test_run_of_a_custom_cost_needs_the_cost(tmp_path):
    run = dln.gradient_flow(CUSTOM, HALVES, (0, 1))
    run.save(tmp_path / "run.npz")
    assert "`cost`" in refusal(saved, tmp_path / "run.npz")
    assert_same(run, dln.Trajectory.load(tmp_path / "run.npz", cost=CUSTOM))


def test_run_is_found_under_the_name_it_was_saved_by(tmp_path):
    run = RUNS["descent"]()
    run.save(tmp_path / "run")
    assert_same(run, saved(tmp_path / "run"))


@cache
def saved_arrays():
    with tempfile.TemporaryDirectory() as folder:
        RUNS["flow"]().save(Path(folder) / "run.npz")
        with np.load(Path(folder) / "run.npz") as file:
            return dict(file)


@cache
def saved_bytes():
    with tempfile.TemporaryDirectory() as folder:
        RUNS["flow"]().save(Path(folder) / "run.npz")
        return (Path(folder) / "run.npz").read_bytes()


NO_RUN = {
    "empty": b"",
    "text": b"hello",
    "pickle": PICKLE,
    "beginning of a zip": b"PK\x03\x04",
    "one array": EYE,
    "no arrays": {},
    "a matrix": {"target": EYE},
    "objects": {"header": np.array([None])},
    "header that is no JSON": {"header": np.array("hello"), "t": np.ones(2)},
    "header of a list": {"header": np.array("[1]"), "t": np.ones(2)},
    "empty header": {"header": np.array("{}"), "t": np.ones(2)},
}


def assert_no_run(path):
    message = refusal(saved, path)
    assert "`path`" in message
    assert path.name in message
    assert "allow_pickle=`" not in message


@pytest.mark.parametrize("name", NO_RUN)
def test_file_that_is_no_run_is_refused(tmp_path, name):
    write(tmp_path / "run.npz", NO_RUN[name])
    assert_no_run(tmp_path / "run.npz")


@pytest.mark.parametrize(
    "name", ["header", "t", "end_to_end", "extrema", "weights_0", "start_1", "cost_target"]
)
def test_run_without_one_of_its_arrays_is_refused(tmp_path, name):
    write(tmp_path / "run.npz", {key: array for key, array in saved_arrays().items() if key != name})
    assert_no_run(tmp_path / "run.npz")


WRONG = {
    "text": (
        lambda x: np.array(["a"]),
        ["t", "end_to_end", "weights_1", "start_0", "extrema", "cost_target"],
    ),
    "short": (lambda x: x[:1], ["t", "end_to_end", "weights_1", "start_0", "cost_target"]),
    "nan": (lambda x: x * nan, ["t", "start_0", "cost_target"]),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (_, names) in WRONG.items() for name in names]
)
def test_run_with_a_wrong_array_is_refused(tmp_path, kind, name):
    write(tmp_path / "run.npz", {**saved_arrays(), name: WRONG[kind][0](saved_arrays()[name])})
    assert_no_run(tmp_path / "run.npz")


def header(**changes):
    facts = {**json.loads(str(saved_arrays()["header"])), **changes}
    return np.array(json.dumps({key: value for key, value in facts.items() if value != "dropped"}))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: "dropped"} for name in ("depth", "weight_decay", "method", "stats", "cost")),
        {"more": 1},
        {"depth": 7},
    ],
    ids=lambda changes: "-".join(map(str, *changes.items())),
)
def test_run_with_a_wrong_header_is_refused(tmp_path, changes):
    write(tmp_path / "run.npz", {**saved_arrays(), "header": header(**changes)})
    assert_no_run(tmp_path / "run.npz")


@RANDOM
@given(st.data())
def test_cut_run_is_refused(data):
    size = data.draw(st.integers(0, len(saved_bytes()) - 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        path.write_bytes(saved_bytes()[:size])
        assert_no_run(path)


@pytest.mark.parametrize(("cost", "error"), [("x", TypeError), (costs.FullyObserved(np.eye(3)), ValueError)])
def test_run_is_refused_another_kind_of_cost(tmp_path, cost, error):
    write(tmp_path / "run.npz", saved_arrays())
    assert "`cost`" in refusal(dln.Trajectory.load, tmp_path / "run.npz", cost=cost, error=error)


@pytest.mark.parametrize(("path", "error"), [("no/folder/run", OSError), (None, TypeError), (3, TypeError)])
def test_bad_path_to_save_is_refused(tmp_path, path, error):
    where = tmp_path / path if isinstance(path, str) else path
    assert str(path) in refusal(RUNS["descent"]().save, where, error=error)


def test_folder_is_not_written_beside(tmp_path):
    (tmp_path / "folder").mkdir()
    refusal(RUNS["descent"]().save, tmp_path / "folder", error=(OSError, ValueError))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# The command line: status 2 and one line for a wrong input, never a traceback.

SMALL = ["--depth", "2", "--width", "4", "--max-steps", "2000", "--no-progress"]


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """`dln run ...` in an empty folder: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def call(*arguments, command="run"):
        try:
            status = main([command, *arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return call


BAD_TARGETS = {
    "missing.csv": None,
    "matrix.txt": "1,2\n",
    "zeros.csv": "0,0\n0,0\n",
    "huge.csv": "1e200,1\n1,1e200\n",
    **{f"{name.replace(' ', '_')}.csv": text for name, (text, *_) in BAD.items()},
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_bad_target_is_refused_in_one_line(run, name):
    if BAD_TARGETS[name] is not None:
        Path(name).write_bytes(BAD_TARGETS[name].encode())
    status, out, err = run("--target", name, *SMALL)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"dln: .*must .*\.\n", err)
    assert name in err


@pytest.mark.parametrize(
    "name", ["plain", "empty cells", "one cell", "one row", "one column", "header", "semicolons"]
)
def test_good_target_is_run(run, name):
    Path("good.csv").write_bytes(GOOD[name][0].encode())
    status, out, err = run("--target", "good.csv", "--json", "--output", "out", *SMALL)
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["parameters"]["shape"] == list(np.shape(GOOD[name][1]))
    assert result["parameters"]["observed"] == np.isfinite(GOOD[name][1]).sum()
    assert all(Path(figure).stat().st_size > 0 for figure in result["figures"])


BAD_OPTIONS = {
    "--depth 1": "--depth",
    "--depth x": "--depth",
    "--width 0": "--width",
    "--width 1.5": "--width",
    "--gamma nan": "gamma",
    "--alpha 0": "alpha",
    "--alpha -1": "alpha",
    "--alpha inf": "alpha",
    "--rtol 0": "rtol",
    "--rtol nan": "rtol",
    "--rtol 1e-30": "rtol",
    "--stop 0": "--stop",
    "--stop -1": "--stop",
    "--stop nan": "--stop",
    "--max-steps 0": "max",
    "--seed -1": "seed",
    "--seed x": "--seed",
    "--test-fraction 1": "--test-fraction",
    "--test-fraction -0.1": "--test-fraction",
    "--test-fraction nan": "--test-fraction",
    "--method euler": "--method",
    "--method nope": "--method",
    "--nope": "--nope",
    "--target": "--target",
    "--target=": "path",
    "nope": "saddle-to-saddle",
    "nope --depth 3": "saddle-to-saddle",
    "saddle-to-saddle nope": "nope",
}


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_bad_option_is_refused(run, options):
    status, out, err = run("--width=4", "--max-steps=50", *options.split())
    assert (status, out) == (2, "")
    assert BAD_OPTIONS[options] in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("dln")
    assert not any(Path().iterdir())


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("nope", [], "'run'"),
        ("list", ["nope"], "nope"),
        ("doctor", ["nope"], "nope"),
        ("verify", ["nope"], "balancedness"),
        ("verify", ["--seed", "-1"], "seed"),
        ("verify", ["--seed", "x"], "--seed"),
    ],
)
def test_bad_command_is_refused(run, command, arguments, says):
    status, out, err = run(*arguments, command=command)
    assert (status, out) == (2, "")
    assert says in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("dln")


def test_command_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "dln.cli", "run", "--target", "missing.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"dln: .*missing.csv.*\.\n", done.stderr)


def test_output_that_cannot_be_written_is_refused_first(run, monkeypatch):
    Path("file").write_text("")
    monkeypatch.setattr(inits, "gaussian", lambda *_, **__: pytest.fail("the run was started"))
    status, out, err = run("--output", "file", *SMALL)
    assert (status, out) == (2, "")
    assert re.fullmatch(r"dln: .*--output.*file.*\.\n", err)


def test_run_that_ends_early_is_written_all_the_same(run):
    status, out, _ = run("--json", "--width=4", "--max-steps=5", "--output", "out")
    assert status == 1
    assert json.loads(out)["parameters"]["status"] == "max_steps"
    assert Path("out", "saddle-to-saddle.json").exists()
