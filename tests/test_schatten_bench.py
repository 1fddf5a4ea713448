"""The benchmark of Schatten completion: its problems, its judge, its own rivals, its clock, its report."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dln

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from schatten import measure, problems, proxes, report, rivals

NUMPY = (rivals.proximal_gradient, rivals.irnn, rivals.varschatten, rivals.turned, rivals.irls, rivals.layers)


def test_problems_are_what_they_say():
    assert len(problems.CASES) * len(problems.DEPTHS) == 30
    for case, depth in [(0, 2), (1, 3), (2, 4), (3, 2), (5, 3)]:
        problem, again = problems.make(case, depth, 3), problems.make(case, depth, 3)
        np.testing.assert_array_equal(problem.observed, again.observed)
        assert not np.array_equal(problem.observed, problems.make(case, depth, 4).observed)
        shape, rank, fraction, noise = problems.CASES[case]
        assert problem.truth.shape == shape
        assert np.linalg.matrix_rank(problem.truth) == rank
        assert problem.mask.sum() == round(fraction * problem.mask.size)
        assert min(problem.mask.sum(axis=0).min(), problem.mask.sum(axis=1).min()) > rank
        added = (problem.observed - problem.truth)[problem.mask > 0]
        assert np.sqrt(np.mean(added**2)) == pytest.approx(noise, rel=0.3, abs=1e-15)
    assert [p.name for p in problems.everything(largest=10)] == [problems.make(0, L).name for L in (2, 3, 4)]


def test_the_judge_takes_singular_values_that_are_rounding_for_zero():
    problem = problems.make(1, 4)
    U, s, Vt = np.linalg.svd(problem.truth)
    clean = (U[:, :2] * s[:2]) @ Vt[:2]
    objective, rank, error = problem.judge(clean + 1e-13 * np.eye(10, 12))
    assert rank == 2
    assert error < 1e-12
    exact = 0.5 * np.sum((problem.mask * clean - problem.observed) ** 2)
    exact += problem.weight_decay * 2 * np.sum(s[:2] ** 0.5)
    assert objective == pytest.approx(exact, rel=1e-12)
    assert objective < exact + problem.weight_decay * 8 * 2 * 1e-7  # what eight of them would cost
    assert problem.judge(np.full((10, 12), np.nan))[0] == np.inf


@pytest.mark.parametrize("depth", problems.DEPTHS)
def test_rivals_agree_on_an_easy_problem(depth):
    problem = problems.make(1, depth)
    reached = {}
    for method in (rivals.solve, *NUMPY):
        watch = measure.Watch(problem, 10.0)
        method(problem, watch)
        watch.judge()
        reached[method.__name__] = min(row[1] for row in watch.history)
        assert watch.history[-1][1] <= watch.history[0][1]
    least = min(reached.values())
    assert least > 0
    for name, objective in reached.items():
        assert objective <= least * (1 + 2e-6), name


def test_the_layers_are_given_their_gradient():
    problem = problems.make(0, 3)
    answers = []
    rivals.layers(problem, answers.append)
    A = answers[-1]
    U, s, Vt = np.linalg.svd(A)
    slope = U[:, :1].T @ problem.residual(A) @ Vt[:1].T + problem.weight_decay * s[0] ** (problem.power - 1)
    assert abs(slope[0, 0]) < 1e-8


def test_the_clock_stands_still_while_answers_are_judged_and_ends_a_run():
    def spin(seconds):
        start = time.process_time()
        while time.process_time() < start + seconds:
            pass

    class Slow:
        def judge(self, A):
            spin(0.02)
            return float(A[0, 0]), 1, 0.0

    def falls(problem, watch):
        for k in range(5):
            spin(0.002)
            watch(np.array([[1.0 + 10.0**-k]]))

    (found, *_) = measure.run(measure.Method("falls", falls), Slow(), 1.0)
    assert 0.01 <= found.seconds < 0.05
    assert found.seconds_to(1.001) == found.history[3][0]
    assert np.isnan(found.seconds_to(0.9))

    def endless(problem, watch):
        while True:
            spin(0.003)
            watch(np.eye(1))

    assert measure.run(measure.Method("endless", endless), Slow(), 0.01)[0].notes == {
        "stopped": "after 0.01 s"
    }

    def fails(problem, watch):
        raise ValueError("no")

    assert measure.run(measure.Method("fails", fails), Slow(), 0.1)[0].notes == {"failed": "ValueError: no"}


def test_bisection_agrees_with_the_operator():
    s = np.linspace(0.01, 20.0, 400)
    for depth in (3, 4, 10):
        exact = proxes.bisection(s, depth / 2, 2 / depth).astype(float)
        np.testing.assert_allclose(exact, dln.schatten.prox_power(s, depth / 2, 2 / depth), rtol=1e-14)


def test_the_report_counts(tmp_path):
    def row(seconds, excess=0.0):
        return {
            "objective": 1.0, "excess": excess, "rank": 1, "error": 0.1, "seconds": 2.0, "seconds_to_best": seconds,
        }  # fmt: skip

    one = {"problem": "one", "objective": 1.0, "methods": {measure.OWN: row(0.1), "rival": row(0.3)}}
    two = {"problem": "two", "objective": 1.0, "methods": {measure.OWN: row(0.2), "rival": row(np.nan, 0.5)}}
    lines = report.summary([one, two]).splitlines()
    assert lines[2].split() == [
        "rival",
        "1/2",
        "5.0e-01",
        "0.100",
        "2/2",
        "300",
        "2000",
        *["3"] * 3,
        "2/2",
        "1/2",
    ]
    lines = report.each([one, two]).splitlines()
    assert lines[1].split()[-3:] == ["rival", "300", "3.00"]
    assert lines[2].split()[-3:] == ["nobody", "-", "-"]
    report.picture(tmp_path / "profile.png", [one, two])
    assert (tmp_path / "profile.png").stat().st_size > 10_000
