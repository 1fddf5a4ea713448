"""Every method on every problem: how low, how near the truth, and in how many seconds."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from . import packages, problems, rivals

EQUAL = 1e-6  # relative difference of objectives that count as equal
SHORT = 1.0  # seconds; shorter runs are repeated, and the best is kept
REPEATS = 3
APART = 1.01  # the answers that are judged are this factor apart in time


class TimeUp(Exception):
    """The method has had its seconds."""


class Watch:
    """A clock that stands still while answers are judged; it counts the seconds of the processor."""

    def __init__(self, problem, cap):
        self.problem, self.cap, self.notes = problem, cap, {}
        self.seconds, self.judged, self.history, self.last = 0.0, 0.0, [], None
        self.since = time.process_time()

    def __call__(self, A):
        self.seconds += time.process_time() - self.since
        self.last = self.seconds, A
        if self.seconds > APART * self.judged:
            self.judge()
        if self.seconds > self.cap:
            raise TimeUp
        self.since = time.process_time()

    def restart(self):
        """Start again from zero, for a method that begins anew."""
        self.seconds, self.judged, self.since = 0.0, 0.0, time.process_time()

    def judge(self):
        """Note the last answer with its time."""
        if self.last is not None:
            self.judged, A = self.last
            self.history.append((self.judged, *self.problem.judge(np.asarray(A))))
            self.last = None


@dataclass(frozen=True)
class Method:
    """A name, what it needs, and the depths and sizes that it can solve."""

    name: str
    run: Callable
    needs: tuple[str, ...] = ()
    depths: tuple[int, ...] = problems.DEPTHS
    entries: float = np.inf  # of the matrix, at most

    def missing(self):
        return [module for module in self.needs if importlib.util.find_spec(module) is None]

    def takes(self, problem):
        return problem.depth in self.depths and problem.mask.size <= self.entries


OWN, EVERY = "dln solve", "dln solve by rank"
ALL = (
    Method(OWN, partial(rivals.solve, breadth=0)),
    Method(EVERY, rivals.solve, depths=(3, 4)),
    Method("dln.prox + FISTA", rivals.proximal_gradient),
    Method("IRNN", rivals.irnn),
    Method("VarSchatten", rivals.varschatten),
    Method("VarSchatten turned", rivals.turned),
    Method("IRucLq", rivals.irls),
    Method("L-BFGS on layers", rivals.layers),
    Method("pyproximal FISTA", packages.pyproximal_fista, ("pyproximal", "skglm")),
    Method("pyproximal Anderson", packages.pyproximal_anderson, ("pyproximal", "skglm")),
    Method("cvxpy SCS", packages.cvxpy_scs, ("cvxpy", "scs"), (2,)),
    Method("cvxpy Clarabel", packages.cvxpy_clarabel, ("cvxpy", "clarabel"), (2,), 2500),  # then gigabytes
)


@dataclass
class Run:
    """What a method reached on a problem: its best answer, and (seconds, objective, rank, error) on the way."""

    history: list
    seconds: float  # until it stopped by itself, or was stopped
    notes: dict = field(default_factory=dict)

    @property
    def best(self):
        return min((row[1:] for row in self.history), default=(np.inf, 0, np.inf))

    def seconds_to(self, objective):
        """Seconds to that objective, to within `EQUAL`; nan if never."""
        wanted = objective * (1.0 + EQUAL)
        return min((row[0] for row in self.history if row[1] <= wanted), default=np.nan)


def run(method, problem, cap):
    """Runs of a method on a problem: one, or several if it is short."""
    runs = []
    while not runs or (len(runs) < REPEATS and runs[0].seconds < SHORT):
        watch = Watch(problem, cap)
        try:
            method.run(problem, watch)
        except TimeUp:
            watch.notes["stopped"] = f"after {cap:g} s"
        except Exception as error:  # a rival that fails is a result
            watch.notes["failed"] = f"{type(error).__name__}: {error}"[:200]
        watch.judge()
        runs.append(Run(watch.history, watch.seconds, watch.notes))
    return runs


def compare(problem, methods, cap):
    """A record of all methods on one problem."""
    found = {method.name: run(method, problem, cap) for method in methods if method.takes(problem)}
    least = min(runs[0].best[0] for runs in found.values())
    return {
        "problem": problem.name,
        **problem.description,
        "objective": least,
        "methods": {name: _record(runs, least) for name, runs in found.items()},
    }


def _record(runs, least):
    objective, rank, error = runs[0].best
    reached = [run.seconds_to(least) for run in runs]
    return {
        "objective": objective,
        "excess": objective / least - 1.0,
        "rank": rank,
        "error": error,
        "seconds": min(run.seconds for run in runs),
        "seconds_to_best": float(np.min(reached)),
        **runs[0].notes,
    }
