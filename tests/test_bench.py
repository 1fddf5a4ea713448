"""The benchmark measures what it says: its problems, its references, its times at matched errors, its command."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import math
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dln import cli
from dln.bench import fresh, measure, pictures, problems, reference, report, rivals, studies, taylor, velocity
from dln.bench.rivals import Job, Method, Solution, native, own, python, tensors

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "benchmarks" / "example_rival.py"
SMALL = ("P1", "P2", "P3", "P6", "P6L", "P4-100", "P7-L3-1e-4", "P7-L4-wide-1e-2", "P8-1000")


def call(capsys, *arguments):
    status = cli.main(["bench", "--no-progress", *map(str, arguments)])
    return status, *capsys.readouterr()


def aligned(explicit=True):
    """Two diagonal layers of equal size: the modes grow alone, each along its own logistic curve."""
    weights = (np.diag([0.1, 0.2]),) * 2
    return problems.Problem("aligned", 0, weights, np.diag([3.0, 1.0]), np.ones((2, 2)), 1e-8, explicit)


@pytest.mark.parametrize("name", SMALL)
def test_problems_are_what_they_say(name):
    problem, spec = problems.make(name, 1), problems.spec(name)
    assert problem.widths == spec.widths
    s = np.linalg.svd(problem.target, compute_uv=False)
    rank = len(spec.singular_values)
    np.testing.assert_allclose(s[:rank], spec.singular_values, rtol=1e-12)
    np.testing.assert_allclose(s[rank:], 0.0, atol=1e-12)
    entries = np.concatenate([W.ravel() * np.sqrt(max(W.shape)) for W in problem.weights])
    assert np.std(entries) == pytest.approx(spec.alpha, rel=4 / np.sqrt(2 * entries.size))
    assert problem.mask.mean() == pytest.approx(spec.observed, abs=0.06)
    again = problems.make(name, 1)
    assert all(np.array_equal(V, W) for V, W in zip(problem.weights, again.weights, strict=True))
    assert not np.array_equal(problem.start, problems.make(name, 2).start)


def test_families_are_parsed_and_expanded():
    assert problems.spec("P4-37").widths == (10, 37, 37, 10)
    assert problems.spec("P7-L4-3e-2").alpha == 3e-2
    assert problems.spec("P7-L3-wide-1e-3").widths == (10, 20, 20, 10)
    assert problems.expand(["P8", "P1", "P8-100"]) == ["P8-100", "P8-1000", "P8-10000", "P8-100000", "P1"]
    assert problems.expand(["all"]) == list(problems.names())
    wanted = {name for study in studies.METHODS for name in studies.names(study, quick=False)}
    assert wanted <= set(problems.names())


@pytest.mark.parametrize("name", ["P5", "P4", "P4-", "P4-0", "P7-L5-1e-2", "P7-L3-small", "P8-1e5", ""])
def test_unknown_problems_are_refused_with_the_list(name):
    with pytest.raises(ValueError, match=r"`problem` must be one of P1, P2, .*P4-WIDTH.*Choose"):
        problems.make(name)


@pytest.mark.parametrize("kind", ["taylor", "collocation", "dln"])
def test_references_agree_with_a_closed_form(monkeypatch, kind):
    problem = aligned(explicit=kind == "taylor")
    monkeypatch.setattr(reference, "LARGEST_COLLOCATION", 0 if kind == "dln" else 150)
    found = reference.solve(problem, count=32, tight=("dop853", "tsit5"))
    assert kind[:3] in found.methods[0].lower() or kind == "collocation"
    s, s0 = np.diag(problem.target), np.array([0.01, 0.04])
    growth = np.exp(2.0 * s * found.times[:, None])
    exact = s * growth / (growth - 1.0 + s / s0)
    np.testing.assert_allclose(found.end_to_end, exact[:, :, None] * np.eye(2), atol=1e-11)
    fraction = problem.cost(found.end_to_end[-1]) / problem.cost(np.diag(s0))
    assert 2e-9 < fraction < 1.001e-8
    assert found.disagreement < 1e-11
    moved = np.linalg.norm(np.diff(found.end_to_end, axis=0), axis=(1, 2))
    assert moved.max() < 0.15 * moved.sum()  # times are dense where A moves


def test_collocation_reaches_beyond_float64_and_agrees_with_taylor():
    plain = problems.make("P7-L3-1e-1")
    turned, (left, right) = reference.rotated(plain)
    found = reference.solve(replace(plain, explicit=False), count=16)
    assert found.methods == ("Radau 19", "Radau 15")
    assert found.disagreement < 1e-14
    np.testing.assert_allclose(found.end_to_end, taylor.read(plain, found.times), atol=3e-12)
    np.testing.assert_allclose(left @ turned.target @ right, plain.target, atol=1e-15)
    assert np.count_nonzero(turned.target) == 3


def test_wide_depth_two_is_narrowed_exactly():
    wide = problems.make("P8-50")
    narrow = reference.narrowed(wide)
    assert narrow.widths == (10, 20, 10)
    A, B = (problems.end_to_end(p.start[None], p.widths)[0] for p in (wide, narrow))
    np.testing.assert_allclose(A, B, atol=1e-18)
    for V, W in zip(wide.weights, narrow.weights, strict=True):
        assert np.linalg.norm(V) == pytest.approx(np.linalg.norm(W), rel=1e-13)


def test_a_reference_that_cannot_be_had_is_a_sentence(monkeypatch):
    monkeypatch.setattr(reference, "LARGEST_COLLOCATION", 0)
    sentence = r"aligned is left out: its reference needs two of .* nothing, dop853, dln has dop853 of them"
    with pytest.raises(reference.NoReference, match=sentence):
        reference.solve(aligned(explicit=False), tight=("nothing", "dop853"))
    monkeypatch.setattr(reference, "AGREEMENT", 1e-20)
    with pytest.raises(reference.NoReference, match=r"Taylor 30 and DOP853 differ by .* 1e-20 is allowed"):
        reference.solve(aligned())


def curve(errors, seconds):
    points = [
        measure.Point(10.0**-k, e, 10 * k, True, [s])
        for k, (e, s) in enumerate(zip(errors, seconds, strict=True))
    ]
    return measure.Curve("one", points)


def test_times_are_interpolated_at_matched_errors():
    errors = [1e-2, 1e-4, 1e-8]
    found = curve(errors, [e**-0.25 for e in errors])  # a method of order 4
    for level in (1e-3, 1e-4, 1e-6, 1e-8):
        assert found.seconds_at(level) == pytest.approx(level**-0.25)
    assert found.seconds_at(0.1) == pytest.approx(
        1e-2**-0.25
    )  # what is more accurate than asked counts as it is
    assert math.isnan(found.seconds_at(1e-9))
    assert curve([1e-2, 1e-7, 1e-4], [1.0, 2.0, 8.0]).seconds_at(1e-4) < 2.0
    assert math.isnan(curve([math.nan, math.nan], [1.0, 1.0]).seconds_at(1e-3))
    text = report.table("title", [replace(found, name="mine"), curve([1e-3], [1.0])], ["mine"])
    assert "best rival (one)" not in text
    assert (
        "best rival 1000 ms (one), best dln 5623 ms (mine), best rival / best dln = 0.18, dln loses" in text
    )


def test_the_velocity_is_the_gradient_and_stops_at_its_most_calls():
    problem = aligned()
    for product in velocity.PRODUCTS:
        function, data = (
            velocity.compile_for(problem.widths, product, "y, dy, data"),
            velocity.new_data(problem),
        )
        dy = np.empty_like(problem.start)
        function(problem.start, dy, data)
        W = problem.weights[0]
        np.testing.assert_allclose(dy.reshape(2, 2, 2)[0], W @ (problem.target - W @ W), rtol=1e-14)
        data[1] = 2.0
        function(problem.start, dy, data)
        assert np.isfinite(dy).all()
        function(problem.start, dy, data)
        assert np.isnan(dy).all()


def measured(method, seconds=1e-6, rtols=(1e-3, 1e-6)):
    problem = aligned()
    found = reference.solve(problem, count=16)
    out = []
    measure.curves(Job(problem, found.times, "loops", seconds), found, [method], rtols, 1, into=out)
    return out[0]


def test_what_cannot_be_run_is_a_sentence():
    missing = Method("far away", ("no_such_package",), lambda job: None)
    assert measured(missing).message == "skipped, no_such_package not installed"

    def broken(job):
        raise RuntimeError("no")

    assert measured(Method("broken", ("numpy",), broken)).message == "failed: RuntimeError('no')"
    explicit = replace(rivals.ALL["scipy RK45"], explicit=False)
    assert "cut at rtol 1.0e-03: more than 1.0e+02 velocities" in measured(explicit, seconds=1.0).message
    assert "an explicit method needs at least" in measured(rivals.ALL["scipy RK45"], seconds=1.0).message
    wide = Job(problems.make("P8-1000"), np.ones(1), "dot", 1e-6)
    assert "factorises matrices of 20000 x 20000" in measure.why_not(wide, rivals.ALL["scipy LSODA"], 1.0)


@pytest.mark.parametrize(
    "name", ["scipy DOP853", "scipy BDF", "scipy Radau", "scipy LSODA", "gradient descent"]
)
def test_rivals_that_are_always_there_are_right(name):
    found = measured(rivals.ALL[name])
    assert not found.message
    assert found.points[-1].error < 2e-4
    assert found.points[-1].error < found.points[0].error
    assert found.points[0].nfev > 20


def test_adapters_are_short_and_dln_comes_first():
    assert next(iter(rivals.ALL)) == "dln auto"
    for module in (native, own, python, tensors):
        source = inspect.getsource(module)
        for function in ast.parse(source).body:
            arguments = function.args.args if isinstance(function, ast.FunctionDef) else []
            if arguments and arguments[0].arg == "job":
                code = [
                    node for node in function.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)
                ]
                lines = source.splitlines()[code[0].lineno - 1 : function.end_lineno]
                assert len([line for line in lines if line.strip()]) <= 20, function.name


def test_the_readme_shows_the_example():
    shown = re.search(
        r"```python\n(.*?)```", (ROOT / "benchmarks" / "README.md").read_text(), re.DOTALL
    ).group(1)
    source = EXAMPLE.read_text()
    assert shown.strip() == source[source.index("import numpy") :].strip()


def test_the_command_gives_json(capsys, tmp_path):
    out = tmp_path / "mine.json"
    options = [
        "P1",
        "--quick",
        "--json",
        "--methods",
        "dln auto,RK4",
        "--also",
        EXAMPLE,
        "--out",
        out,
        "--format",
        "png",
    ]
    status, text, _ = call(capsys, *options)
    record = json.loads(text)
    assert status == 0
    assert {"command", "date", "machine", "versions", "problems"} <= set(record)
    page = record["problems"]["P1"]
    assert page["widths"] == [10, 10, 10]
    assert page["reference"]["disagreement"] < 1e-10
    assert {"dln auto", "RK4"} <= set(page["methods"])
    for method in ("dln auto", "RK4"):
        found = page["methods"][method]
        assert not found["message"]
        assert found["best_seconds_at"]["1e-03"] > 0.0
        errors = [point["error"] for point in found["points"]]
        assert errors[0] > 1e3 * errors[-1]
    assert json.loads(out.read_text())["problems"].keys() == {"P1"}
    assert "dln auto" in out.with_suffix(".txt").read_text()
    assert (tmp_path / "mine-P1.png").read_bytes()[:4] == b"\x89PNG"


INTERRUPTED = """
from dln.bench.rivals import Method, Solution

def stopped(job):
    def solve(rtol):
        if rtol < 1e-3:
            raise KeyboardInterrupt
        return Solution(job.problem.target[None] + 0.0 * job.times[:, None, None], 1, True)
    return solve

ALL = [Method("stopped", ("numpy",), stopped), Method("later", ("numpy",), stopped)]
"""


def test_an_interrupted_run_keeps_what_it_has(capsys, tmp_path):
    (tmp_path / "own.py").write_text(INTERRUPTED)
    options = ["--also", tmp_path / "own.py", "--methods", "dln auto,stopped,later", "--quick"]
    status, text, _ = call(capsys, "P1", "P2", *options, "--json")
    methods = json.loads(text)["problems"]["P1"]["methods"]
    assert status == 130
    assert "P2" not in json.loads(text)["problems"]
    assert methods["dln auto"]["best_seconds_at"]["1e-06"] > 0.0
    assert len(methods["stopped"]["points"]) == 1
    assert methods["later"]["message"] == "not measured: interrupted"
    status, text, _ = call(capsys, "P1", *options)
    assert status == 130
    assert re.search(r"dln auto +[\d.]+", text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["P9"], "`problem` must be one of P1"),
        (["--methods", "nothing"], "`--methods` must be among"),
        (["--also", ROOT / "dln" / "typing.py"], "`--also` must be a Python file with a list `ALL`"),
        (["--repeats", "-1"], "`--repeats` must be at least 1"),
    ],
)
def test_wrong_input_is_one_sentence(capsys, arguments, words):
    status, out, err = call(capsys, *arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out


def test_a_new_process_tells_memory_and_first_use():
    job = Job(problems.make("P1"), np.linspace(0.1, 1.0, 5), "loops", 1e-6)
    assert 0.0 <= fresh.peak_memory(job, rivals.ALL["scipy RK45"])["megabytes"] < 200.0
    assert fresh.finishes(job, rivals.ALL["scipy RK45"])


def test_a_study_fits_the_factor_per_decade(tmp_path):
    x = [1e-2, 1e-3, 1e-5]
    found = studies.Study(
        "alpha-L3-1e-06", 1e-6, "size of the start alpha", x, ["P7-L3-1e-2"] * 3, own=["dln auto"]
    )
    found.seconds = {
        "dln auto": [1e-3 * (1e-2 / a) ** math.log10(1.5) for a in x],
        "other": [1.0, math.nan, 100.0],
    }
    found.nfev = {"dln auto": [100.0] * 3, "other": [math.nan] * 3}
    assert found.factor_per_decade(found.seconds["dln auto"]) == pytest.approx(1.5)
    assert found.factor_per_decade(found.seconds["other"]) == pytest.approx(100.0 ** (1 / 3))
    assert math.isnan(found.factor_per_decade(found.nfev["other"]))
    assert re.search(r"dln auto +1 +100 .* 1\.50 +1\.00", found.text())
    json.dumps(report.without_nan(found.record()), allow_nan=False)
    for name in ("a.svg", "b.svg"):
        pictures.study(tmp_path / name, found)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_solutions_may_be_states_or_matrices():
    problem = aligned()
    job = Job(problem, np.array([1.0]), "loops", 1e-6)
    A = job.end_to_end(Solution(problem.start[None], 1, True))
    np.testing.assert_allclose(A, job.end_to_end(Solution(A, 1, True)))


def test_an_interrupt_that_a_rival_swallows_is_heeded():
    def deaf(job):
        def solve(rtol):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return Solution(np.zeros((len(job.times), 2, 2)), 1, True)

        return solve

    with pytest.raises(KeyboardInterrupt):
        measured(Method("deaf", ("numpy",), deaf))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
