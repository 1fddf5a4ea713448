"""One saddle-to-saddle run at every width: Gaussian starts of one rho, from a hundred neurons to a billion and beyond.

A wide network is drawn in its Krylov form, in law, so that width costs nothing; at the least width whole networks are
run beside it. The times at which modes are half learned scatter like the inverse square root of the width, around those
of infinite width, where the run is deterministic.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, infinite, inits
from ..costs import FullyObserved
from ..flow import gradient_flow
from ..problem import Until
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome
from ._half_times import half_times
from ._pool import each
from ._store import Store

TITLE = "the same saddle-to-saddle run at widths from 100 to a billion and at infinity: spread of the escape times"

WIDTHS = (10**2, 10**3, 10**4, 10**5, 10**6, 10**7, 10**8, 10**9)
LEARNED = 1e-3  # of the last mode, to which a run is followed
RTOL = 1e-8
CUT = 1e-6  # what the order of the Krylov form may change of the last half-time, relative
SHOWN = 5  # draws of a width in the picture


@dataclass(frozen=True)
class Case:
    """Draws of one width: whole networks, or in their Krylov form of an order."""

    width: int
    start: str
    singular_values: tuple[float, ...]
    rho: float
    depth: int
    order: int
    draws: int
    seed: int


@dataclass(frozen=True)
class Course:
    """A run as it is shown."""

    t: Array
    singular_values: Array


@dataclass(frozen=True)
class Drawn:
    """Some runs of one width, and the half-times of the modes of all of them, (draws, modes)."""

    width: int
    start: str
    runs: tuple[Course, ...]
    halves: Array

    @property
    def mean(self) -> Array:
        return np.asarray(self.halves.mean(axis=0))

    @property
    def spread(self) -> Array:
        """Standard deviations."""
        return np.asarray(self.halves.std(axis=0, ddof=1))


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depth", type=int, default=3, metavar="L", help="2, 3 or 4 (default 3)")
    add("--rho", type=float, default=0.1, help="sigma sqrt(w), up to 0.3 sees plateaus (default 0.1)")
    add(
        "--singular-values",
        type=float,
        nargs="+",
        default=[2.0, 1.4, 1.0],
        metavar="S",
        help="(default 2 1.4 1)",
    )
    add("--draws", type=int, default=40, help="starts of each width (default 40)")
    add("--seed", type=int, default=0, help="seed of the starts (default 0)")
    add("--jobs", type=int, metavar="J", help="widths at a time (default: one for each processor)")
    add("--quick", action="store_true", help="12 draws at 4 widths")


def run(options: argparse.Namespace) -> Outcome:
    """Half-times by width, with their spread, and the runs in one picture."""
    depth = checks.integer(options.depth, "--depth", least=2, most=4)
    rho = checks.positive(options.rho, "--rho")
    s = np.array(
        sorted((checks.positive(x, "--singular-values") for x in options.singular_values), reverse=True)
    )
    draws = 12 if options.quick else checks.integer(options.draws, "--draws", least=2)
    seed = checks.integer(options.seed, "--seed", least=0)
    jobs = checks.integer(options.jobs or os.cpu_count() or 1, "--jobs", least=1)
    widths = WIDTHS[::2] if options.quick else WIDTHS
    limits = [infinite.half_time(float(x), rho, depth) for x in s]
    halves = np.array([limit.value for limit in limits])
    order = next(k for k in itertools.count() if abs(_alone(s[-1], rho, depth, k) / halves[-1] - 1) < CUT)
    cases = [
        Case(width, start, tuple(s.tolist()), rho, depth, order, draws, seed)
        for width, start in [(widths[0], "whole"), *((width, "Krylov") for width in widths)]
    ]
    found = each(_drawn, cases, jobs, options.progress, "widths", Store(options.output, "width"))
    if len(found) < len(cases):
        raise KeyboardInterrupt  # nothing to say of some widths alone
    drawn = list(found.values())
    limit = _flow(s, inits.reduced_gaussian(_widths(s, math.inf, depth), order=order, rho=rho))
    exponents = _exponents([d for d in drawn if d.start != "whole"])
    names = [f"{x:g}" for x in s]
    return Outcome(
        title=f"depth {depth}, rho = {rho:g}, singular values {', '.join(names)}: half-times of the modes by width",
        columns=["width", "start", "draws", *(f"{c}({n})" for n in names for c in ("t", "sd")), "sd sqrt(w)/t"],
        rows=[*(_row(d, names) for d in drawn), _limit_row(halves, names)],
        notes=[
            f"whole: all weights drawn and integrated. Krylov: drawn in law in the Krylov form of order {order}, "
            f"{sum(W.size for W in limit.start)} weights at any width. t: mean half-time; sd: standard deviation.",
            f"The spread falls like width^p, p = {', '.join(f'{p:.3f}' for p in exponents)} (theory: -1/2). "
            f"Half-times at infinity are right to {max(x.error / x.value for x in limits):.0e}, relative.",
        ],
        parameters={
            "depth": depth, "rho": rho, "singular_values": s.tolist(), "draws": draws, "seed": seed, "order": order,
            "half_times_at_infinity": halves.tolist(), "errors_at_infinity": [x.error for x in limits],
            "exponents": exponents.tolist(),
            "half_times": [{"width": d.width, "start": d.start, "values": d.halves.tolist()} for d in drawn],
        },
        figures={"width": _figure(drawn, limit, s, halves)},
    )  # fmt: skip


def _widths(s: Array, width: float, depth: int) -> tuple[float, ...]:
    return (len(s), *[width] * (depth - 1), len(s))


def _drawn(case: Case) -> Drawn:
    s, rng = np.array(case.singular_values), np.random.default_rng([case.seed, case.width])
    runs = [_flow(s, _start(case, rng)) for _ in range(case.draws)]
    shown = tuple(Course(run.t, run.singular_values) for run in runs[:SHOWN])
    return Drawn(case.width, case.start, shown, np.array([half_times(run, s) for run in runs]))


def _start(case: Case, rng: np.random.Generator) -> list[Array]:
    widths = (len(case.singular_values), *[case.width] * (case.depth - 1), len(case.singular_values))
    if case.start == "whole":
        return inits.gaussian(widths, rho=case.rho, rng=rng)
    return inits.reduced_gaussian(widths, order=case.order, rho=case.rho, rng=rng)


def _alone(s: float, rho: float, depth: int, order: int) -> float:
    """Half-time of a mode at infinite width, cut at an order."""
    layers = inits.reduced_gaussian(_widths(np.array([s]), math.inf, depth), order=order, rho=rho)
    return float(half_times(_flow(np.array([s]), layers), np.array([s]))[0])


def _flow(s: Array, layers: Sequence[Array]) -> Trajectory:
    goal = Until(cost=(LEARNED * s[-1]) ** 2 / 2)
    cost, span = FullyObserved(np.diag(s)), (0.0, math.inf)
    options: dict[str, Any] = {"form": "weights", "method": "dop853", "rtol": RTOL, "keep_weights": False}
    return gradient_flow(cost, layers, span, until=goal, **options)


def _exponents(drawn: Sequence[Drawn]) -> Array:
    """Slope of the log spread of each mode against the log width."""
    x = np.log([d.width for d in drawn])
    return np.asarray(np.polyfit(x, np.log([d.spread / d.mean for d in drawn]), 1)[0])


def _row(d: Drawn, names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"width": f"{d.width:.0e}", "start": d.start, "draws": len(d.halves)}
    for name, mean, spread in zip(names, d.mean, d.spread, strict=True):
        row |= {f"t({name})": float(mean), f"sd({name})": float(spread)}
    return row | {"sd sqrt(w)/t": float(np.mean(d.spread / d.mean) * math.sqrt(d.width))}


def _limit_row(halves: Array, names: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"width": "inf", "start": "limit", "draws": 1}
    for name, half in zip(names, halves, strict=True):
        row |= {f"t({name})": float(half), f"sd({name})": 0.0}
    return row | {"sd sqrt(w)/t": None}


def _figure(drawn: Sequence[Drawn], limit: Trajectory, s: Array, halves: Array) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    reduced = [d for d in drawn if d.start != "whole"]
    with mpl.rc_context(plotting.STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(7.4, 3.3), layout="constrained", width_ratios=(1.5, 1)
        )
        for place, d in enumerate(reduced):
            shade = plotting.graded(place, len(reduced))
            for run in d.runs:
                left.plot(run.t, run.singular_values, color=shade, lw=0.7, alpha=0.8)
            left.plot([], [], color=shade, lw=1.4, label=f"$10^{{{round(math.log10(d.width))}}}$")
        left.plot(limit.t, limit.singular_values, color="black", lw=1.4, ls="--")
        left.plot([], [], color="black", lw=1.4, ls="--", label=r"$\infty$")
        left.set(xlabel="time t", ylabel="singular values of A", xlim=(0, 1.25 * halves[-1]))
        left.legend(
            frameon=False, fontsize="x-small", title="width", title_fontsize="x-small", loc="upper left"
        )
        widths = np.array([d.width for d in reduced])
        for j, x in enumerate(s):
            spread = [d.spread[j] / halves[j] for d in reduced]
            right.loglog(
                widths, spread, "osD^vP"[j % 6], color=plotting.colour(j), ms=4, label=f"$s = {x:g}$"
            )
        middle = float(np.mean([np.mean(d.spread / halves) * math.sqrt(d.width) for d in reduced]))
        right.loglog(widths, middle / np.sqrt(widths), color="0.5", lw=0.8, ls="--", label="$w^{-1/2}$")
        whole = drawn[0]
        right.loglog(
            [whole.width] * len(s), whole.spread / halves, "x", color="black", ms=6, label="whole network"
        )
        right.set(xlabel="width w", ylabel="spread of half-times, relative")
        right.legend(frameon=False, fontsize="x-small")
    return figure
