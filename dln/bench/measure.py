"""The measure: achieved error against wall time.

Every method is run at every tolerance once to learn its error; then all of them are timed in turn, so that
whatever disturbs the machine disturbs all alike. Times are compared at matched achieved errors, never at
matched tolerances. What was measured when the user interrupts is kept.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..progress import Interrupts
from .fresh import finishes
from .reference import Reference, error
from .rivals import LIMIT, Job, Method, Solution

__all__ = ["LEVELS", "Curve", "Point", "curves", "quiet", "tolerances", "why_not"]

LEVELS = (1e-3, 1e-6, 1e-9)
LONG = 0.5  # seconds of a solve that is timed once only
SHORT = 0.02  # seconds of a solve that is timed twice in a row: the first finds the caches as another method left them
LARGEST_DENSE = 2000  # unknowns from which dense matrices of n^2 entries are left out
SAFE_DENSE = 250  # unknowns up to which no factorisation takes long
Report = Callable[[float, str], None]


@dataclass
class Point:
    """One method at one tolerance."""

    rtol: float
    error: float  # nan where the path is not finite
    nfev: int
    claims_success: bool
    seconds: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def best(self) -> float:
        """Shortest time."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """Median time."""
        return statistics.median(self.seconds)


@dataclass
class Curve:
    """One method on one problem; `message` says what is missing, if anything is."""

    name: str
    points: list[Point] = field(default_factory=list)
    message: str = ""
    first_use: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)

    def seconds_at(self, level: float, pick: str = "best") -> float:
        """Least time to an error of at most `level`, log-log interpolated between neighbouring tolerances."""
        return min(self._at(level, lambda p: getattr(p, pick)), default=math.nan)

    def nfev_at(self, level: float) -> float:
        """Velocity evaluations to an error of at most `level`, interpolated likewise."""
        return min(self._at(level, lambda p: p.nfev), default=math.nan)

    def work_at(self, level: float, prices: Mapping[str, float]) -> float:
        """Velocity evaluations to an error of at most `level`, and other work at its price in them."""

        def work(p: Point) -> float:
            return p.nfev + sum(price * p.counts.get(kind, 0) for kind, price in prices.items())

        return min(self._at(level, work), default=math.nan)

    def counts_at(self, level: float) -> dict[str, int]:
        """Other work of the fastest run with an error of at most `level`."""
        reached = [p for p in self.points if p.error <= level]
        return min(reached, key=lambda p: p.best).counts if reached else {}

    def _at(self, level: float, value: Callable[[Point], float]) -> Iterator[float]:
        yield from (value(p) for p in self.points if p.error <= level)
        for a, b in zip(self.points, self.points[1:], strict=False):
            if b.error < level < a.error:
                share = math.log(a.error / level) / math.log(a.error / b.error) if b.error > 0.0 else 1.0
                yield value(a) ** (1.0 - share) * value(b) ** share


def tolerances(per_decade: int = 2) -> list[float]:
    """1e-3 ... 1e-12."""
    return [float(rtol) for rtol in 10.0 ** -np.linspace(3, 12, 9 * per_decade + 1)]


def curves(
    job: Job,
    reference: Reference,
    methods: Sequence[Method],
    rtols: Sequence[float],
    repeats: int,
    *,
    into: list[Curve],
    report: Report = lambda done, text: None,
    enough: float = 0.0,
    files: Sequence[str] = (),
) -> None:
    """Append a `Curve` for every method to `into`; below the error `enough` no tighter tolerance."""
    solvers: dict[str, Callable[[float], Solution]] = {}
    try:
        with quiet(), Interrupts():
            for i, method in enumerate(methods):
                report(i / len(methods), f"{job.problem.name}: {method.name}")
                into.append(Curve(method.name))
                try:
                    into[-1].message = why_not(job, method, reference.rate_time, files)
                    if not into[-1].message:
                        solvers[method.name] = method.bounded(job)
                        _find_errors(into[-1], solvers[method.name], job, reference, rtols, enough)
                except Exception as failure:  # a rival may fail in any way it likes; the others go on
                    Interrupts.heed()
                    into[-1].message = _cut(job, rtols[len(into[-1].points)]) or f"failed: {failure!r}"[:200]
            report(1.0, f"{job.problem.name}: timing")
            _time_in_turn(into, solvers, repeats)
    finally:
        for method in methods[len(into) :]:
            into.append(Curve(method.name, message="not measured: interrupted"))


def why_not(job: Job, method: Method, rate_time: float, files: Sequence[str] = ()) -> str:
    """Why a method cannot be run on a job at all, as a sentence; "" if it can."""
    if missing := " and ".join(method.missing()):
        return f"skipped, {missing} not installed"
    seconds, n = method.expected_seconds(job, rate_time), job.problem.start.size
    if seconds > LIMIT:
        return f"skipped, an explicit method needs at least {1.8 * rate_time:.1e} velocities, {seconds:.0f} s"
    if method.dense and n > LARGEST_DENSE:
        return f"skipped, factorises matrices of {n} x {n}"
    if method.dense and n > SAFE_DENSE and not finishes(job, method, files):
        return f"skipped, did not finish within {LIMIT:.0f} s at rtol 1e-3"
    return ""


def _find_errors(
    curve: Curve,
    solve: Callable[[float], Solution],
    job: Job,
    reference: Reference,
    rtols: Sequence[float],
    enough: float,
) -> None:
    for i, rtol in enumerate(rtols):
        seconds, solution = _timed(solve, rtol)
        if i == 0 and job.seconds * solution.nfev < job.longest / 2:  # much of it was compilation
            seconds, solution = _timed(solve, rtol)
        if not solution.success and (cut := _cut(job, rtol, solution.nfev)):
            curve.message = cut
            return
        miss = error(job.end_to_end(solution), reference.end_to_end, job.problem)
        point = Point(float(rtol), miss, int(solution.nfev), bool(solution.success), [seconds])
        point.counts.update(solution.counts)
        curve.points.append(point)
        if miss <= enough or rtol == rtols[-1]:
            return
        if _expected_next(curve) > job.longest:
            curve.message = f"stopped after rtol {rtol:.1e}, where one solve took {seconds:.2g} s"
            return


def _cut(job: Job, rtol: float, nfev: int = 0) -> str:
    """That a solve came to the end of its velocities, as a sentence; "" if it did not."""
    most = job.data[1]
    if max(job.data[0], nfev) < 0.9 * most:
        return ""
    return f"cut at rtol {rtol:.1e}: more than {most:.1e} velocities, {LIMIT:.0f} s"


def _expected_next(curve: Curve) -> float:
    """Seconds of the solve after the last, which grow as they grew; at least those of the last."""
    *_, before, last = [math.inf, *(p.best for p in curve.points)]
    return last * max(1.0, last / before) if last > 0.1 else last


def _time_in_turn(
    all_curves: Sequence[Curve], solvers: dict[str, Callable[[float], Solution]], repeats: int
) -> None:
    """Fill in `seconds`; the first solves, which found the errors, count for the long ones only."""
    todo = [(solvers[c.name], p) for c in all_curves for p in c.points if p.best < LONG]
    todo.sort(key=lambda pair: -pair[1].rtol)
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            for solve, point in todo:
                seconds = [_timed(solve, point.rtol)[0] for _ in range(2 if point.best < SHORT else 1)]
                point.seconds = [*(point.seconds if turn else ()), *seconds]
    finally:
        gc.enable()


def _timed(solve: Callable[[float], Solution], rtol: float) -> tuple[float, Solution]:
    start = time.perf_counter()
    solution = solve(rtol)
    seconds = time.perf_counter() - start
    Interrupts.heed()
    return seconds, solution


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send to nowhere what compiled code prints on standard output, and the warnings of rejected steps."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
