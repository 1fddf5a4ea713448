"""Runs beside the limit path: by which powers of alpha they are off, the laws behind them, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import mpmath
import numpy as np
import pytest

import dln
from dln import cli, experiments
from dln.experiments import _near_path as near
from dln.experiments import _starts

module = experiments.load("limit-path")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What `dln run limit-path --quick --json` writes."""
    folder = tmp_path_factory.mktemp("limit-path")
    assert cli.main(["run", "limit-path", "--quick", "--json", "--output", str(folder)]) == 0
    return json.loads((folder / "limit-path.json").read_text())


@pytest.fixture(scope="module")
def fits(quick):
    fits = quick["parameters"]["fits"]
    assert [(f["cost"], f["depth"]) for f in fits] == [(k, L) for k in near.KINDS for L in (2, 3, 4)]
    assert all(len(f["gaps"]) == 3 and min(f["gaps"]) >= 0.7 for f in fits)
    return fits


def off(fits, found, theory):
    return np.array([np.subtract(fit[found], fit[theory]) for fit in fits])


def test_deep_networks_leave_every_saddle_by_the_gap_of_its_singular_values(fits):
    """alpha^(1 - s_2/s_1): to three digits in the slowest direction, within 0.1 in the distance."""
    deep = [fit for fit in fits if fit["depth"] > 2]
    assert all(np.allclose(fit["directions (theory)"], fit["gaps"], atol=1e-9) for fit in deep)
    assert np.abs(off(deep, "directions", "directions (theory)")).max() < 2e-3
    segments = off(deep, "segments", "segments (theory)")
    assert segments.min() > -0.02  # larger powers still count, smaller ones there are none
    assert np.mean(segments < 0.1) > 0.9
    assert np.abs(off(deep, "segments", "segments (blended)")).max() < 0.1


def test_two_layers_obey_another_law_where_singular_vectors_turn(fits):
    """What waits has grown at the saddles before, and a run turns off before it has arrived."""
    full, masked, sensed = (fit for fit in fits if fit["depth"] == 2)
    assert np.allclose(full["segments (theory)"], full["gaps"], atol=1e-9)
    for fit in (full, masked, sensed):
        assert abs(fit["exponent"] - fit["exponent (theory)"]) < 0.1
    for fit in (masked, sensed):
        assert np.abs(off([fit], "segments", "segments (theory)")).max() < 0.1
        assert min(fit["gaps"]) - fit["exponent"] > 0.15


def test_rows_show_what_was_fitted(quick, fits):
    for row, fit in zip(quick["rows"], fits, strict=True):
        assert row["distance"] == max(fit["distances"][-1])
        assert row["from A_1"] == f"{fit['segments'][1]:.3f} ({fit['segments (theory)'][1]:.3f})"
        slope = np.diff(np.log(np.max(fit["distances"], axis=1))) / np.diff(np.log(fit["alphas"]))
        assert slope.min() - 1e-12 <= row["exponent"] <= slope.max() + 1e-12
    timed = quick["parameters"]["timed"]
    assert timed["ranks"] == [0, 1, 2]
    assert timed["kinds"][-1] == "minimum"
    assert timed["status"] == "cost"


@pytest.fixture(scope="module")
def problem():
    return near.draw("sensed", 5, (2, 3), np.random.default_rng(0))


@pytest.mark.parametrize("turning", [False, True])
def test_powers_of_two_layers_against_growth_at_thirty_digits_and_more(problem, turning):
    """Rows of what waits grow at their rates till the first is 1; it goes with its hidden direction; the rest mixes."""
    path, rng = problem[1][2], np.random.default_rng(1)
    rates = [near._normal(path, saddle)[1] for saddle in path.saddles[:-1]]
    rows = rng.normal(size=(5, 6))
    mixing = [rng.normal(size=(4 - k, 4 - k)) if turning else np.eye(4 - k) for k in range(3)]

    def asides(alpha):
        Z, found = mpmath.matrix(rows) * alpha, []
        for s, M in zip(rates, mixing, strict=True):
            size = mpmath.norm(Z[0, :])
            for j in range(len(s)):
                Z[j, :] *= size ** (-s[j] / s[0])
            h = Z[0, :]
            found += [mpmath.log(abs((Z[j, :] * h.T)[0])) for j in range(1, len(s))]
            rest = mpmath.matrix(len(s) - 1, 6)
            for j in range(1, len(s)):
                rest[j - 1, :] = Z[j, :] - (Z[j, :] * h.T)[0] * h
            Z = mpmath.matrix(M) * rest
        return found

    with mpmath.workdps(900):
        a, b = asides(mpmath.mpf(10) ** -300), asides(mpmath.mpf(10) ** -150)
        slopes = [float((x - y) / mpmath.log(mpmath.mpf(10) ** -150)) for x, y in zip(a, b, strict=True)]
    theory = near.expected(path, 2, turning).directions
    assert np.allclose(slopes, np.concatenate([p[0] for p in theory]), atol=0.01)


def test_a_run_of_two_layers_cuts_the_corner_at_a_saddle(problem):
    """x' = 2 s x, y' = -mu y: the farthest point from both axes, by a grid."""
    path = problem[1][2]
    theory, saddle = near.expected(path, 2, turning=True), path.saddles[1]
    s, mu = near._normal(path, saddle)[1][0], near._slowest(path, saddle, turning=True)
    e = theory.directions[0][0, 0]  # of what waits for the second saddle
    logs = []
    for log_alpha in (-40.0, -80.0):
        t = np.linspace(0.0, -2 * e * log_alpha / (2 * s), 1_000_001)
        logs.append(np.minimum(2 * e * log_alpha + 2 * s * t, -mu * t).max())
    assert np.isclose((logs[0] - logs[1]) / 40.0, theory.corners[1], rtol=1e-4)


def test_drawn_problems_have_large_gaps_at_every_saddle(problem):
    cost, paths = problem
    for depth, path in paths.items():
        assert [saddle.rank for saddle in path.saddles] == [0, 1, 2, 3]
        for saddle, gap in zip(path.saddles, near.gaps(path), strict=False):
            s = np.linalg.svd(cost.gradient(saddle.end_to_end), compute_uv=False)
            assert np.isclose(gap, 1 - s[1] / s[0], atol=1e-9)
            assert gap >= 0.7
        assert path.segments[0].depth == depth


def test_the_farthest_time_is_found_between_the_saved_ones(problem):
    """Against a hundred times in each of the steps beside the farthest."""
    cost, paths = problem
    start = [1e-3 * W for W in _starts.start((5, 5), 3, 6, np.random.default_rng(3))]
    run = dln.gradient_flow(cost, start, (0.0, np.inf), method="radau13", until=dln.Until(cost=1e-7))
    gap = paths[3].distances(run)[0]
    for i in (int(np.argmax(gap)), len(gap) - 3):
        t = np.interp(np.linspace(-1, 1, 201), [-1, 0, 1], run.t[i - 1 : i + 2])
        every = replace(run, t=t, end_to_end=run.at(t), weights=None)
        found = near._farthest(paths[3], run, i)
        assert found >= max(gap[i - 1 : i + 2])
        assert np.isclose(found, paths[3].distance(every), rtol=1e-3)


def test_visits_in_another_order_and_gaps_that_are_not_found_are_refused(problem, monkeypatch):
    path = problem[1][3]
    flow = path.segments[0]
    with pytest.raises(ValueError, match=r"^`--seed` must give runs past every saddle"):
        near.seen(path, replace(flow, t=flow.t, end_to_end=flow.end_to_end[::-1].copy(), weights=None))
    monkeypatch.setattr(near, "GAP", 0.0)
    with pytest.raises(ValueError, match=r"^`--size` must leave problems with large gaps, got 5"):
        near.draw("full", 5, (3,), np.random.default_rng(0))


def test_the_curve_of_a_path_follows_its_orbits(problem):
    """Between the samples too, from saddle to saddle: within the tolerance of the path."""
    for path in problem[1].values():
        for segment in path.segments:
            t = (segment.t[1:] + 3 * segment.t[:-1]) / 4
            between = replace(segment, t=t, end_to_end=segment.at(t), weights=None)
            assert path.distance(between) < 3e-9 * np.linalg.norm(segment.end_to_end[-1])
        A = np.array([saddle.end_to_end for saddle in path.saddles])
        visits = replace(path.segments[0], t=np.arange(len(A), dtype=float), end_to_end=A, weights=None)
        assert path.distance(visits) < 1e-14


@pytest.mark.parametrize("size", [1e-6, 1e-10])
def test_small_distances_are_not_lost(problem, size):
    """Beside a point of an orbit by a given amount, at right angles to it."""
    path = problem[1][3]
    segment = path.segments[1]
    i = len(segment.t) // 2
    A = segment.end_to_end
    V = A[i + 1] - A[i - 1]
    D = np.random.default_rng(2).normal(size=A[0].shape)
    D -= V * np.sum(D * V) / np.sum(V * V)
    aside = replace(
        segment, t=segment.t[i : i + 1], end_to_end=(A[i] + size * D / np.linalg.norm(D))[None], weights=None
    )
    assert np.isclose(path.distance(aside), size, rtol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--depths", "7"], "`--depths` must be among"),
        (["--costs", "half"], "`--costs` must be"),
        (["--size", "4"], "`--size` must be at least 5, got 4"),
        (["--problems", "0"], "`--problems` must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, words, capsys, tmp_path):
    assert cli.main(["run", "limit-path", *arguments, "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert not out
