"""The measure: achieved error against wall time, and the three times a user meets.

Every method is run at every tolerance once to learn its error; then all of them are timed in turn, so that
whatever disturbs the machine disturbs all alike. Times are compared at matched achieved errors, never at
matched tolerances.
"""

import contextlib
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from reference import error

LEVELS = (1e-3, 1e-6, 1e-9)
FIRST_USE_RTOL = 1e-6
CACHES = ("cold", "warm")
LONG = 0.5  # seconds of a solve that is timed once only
TOO_LONG = 2.0  # seconds of a solve after which tighter tolerances are left out


@dataclass
class Point:
    """One method at one tolerance."""

    rtol: float
    error: float  # nan where the path is not finite
    nfev: int
    claims_success: bool
    seconds: list = field(default_factory=list)

    @property
    def best(self):
        """Shortest time."""
        return min(self.seconds)

    @property
    def median(self):
        """Median time."""
        return statistics.median(self.seconds)


@dataclass
class Curve:
    """One method on one problem; `message` says what is missing, if anything is."""

    name: str
    points: list = field(default_factory=list)
    message: str = ""
    first_use: dict = field(default_factory=dict)

    def seconds_at(self, level, pick="best"):
        """Least time to an error of at most `level`, log-log interpolated between neighbouring tolerances."""
        reached = [getattr(p, pick) for p in self.points if p.error <= level]
        for a, b in zip(self.points, self.points[1:], strict=False):
            if b.error < level < a.error:
                share = math.log(a.error / level) / math.log(a.error / b.error)
                reached.append(getattr(a, pick) ** (1.0 - share) * getattr(b, pick) ** share)
        return min(reached, default=math.nan)

    def nfev_at(self, level):
        """Fewest velocity evaluations of a run with an error of at most `level`."""
        return min((p.nfev for p in self.points if p.error <= level), default=None)


def tolerances(per_decade=2):
    """1e-3 ... 1e-12."""
    return 10.0 ** -np.linspace(3, 12, 9 * per_decade + 1)


def curves(job, reference, methods, rtols, repeats):
    """A `Curve` for every method."""
    out, solvers = [], {}
    with quiet():
        for method in methods:
            curve = Curve(method.name)
            out.append(curve)
            try:
                solvers[method.name] = solve = method.prepare(job)
                solve(rtols[0])
                _find_errors(curve, solve, job, reference, rtols)
            except Exception as failure:  # a rival may fail in any way it likes; the others go on
                curve.message = f"failed: {failure!r}"[:200]
        _time_in_turn(out, solvers, repeats)
    return out


def _find_errors(curve, solve, job, reference, rtols):
    for rtol in rtols:
        start = time.perf_counter()
        solution = solve(rtol)
        seconds = time.perf_counter() - start
        miss = error(job.end_to_end(solution), reference.end_to_end, job.problem)
        curve.points.append(Point(float(rtol), miss, int(solution.nfev), bool(solution.success), [seconds]))
        if seconds > TOO_LONG:
            curve.message = f"stopped at rtol {rtol:.1e}: one solve took {seconds:.1f} s"
            return


def _time_in_turn(all_curves, solvers, repeats):
    """Fill in `seconds`; the first solves, which found the errors, count for the long ones only."""
    todo = [(solvers[c.name], p) for c in all_curves for p in c.points if p.best < LONG]
    todo.sort(key=lambda pair: -pair[1].rtol)
    for _, point in todo:
        point.seconds.clear()
    gc.collect()
    gc.disable()
    for _ in range(repeats):
        for solve, point in todo:
            start = time.perf_counter()
            solve(point.rtol)
            point.seconds.append(time.perf_counter() - start)
    gc.enable()


def first_use(job, method, files=()):
    """Seconds of import and first solve in a new process, with an empty cache and again with it filled."""
    with tempfile.TemporaryDirectory() as folder:
        saved, cache = str(Path(folder, "job.npz")), str(Path(folder, "cache"))
        job.save(saved)
        env = os.environ | {
            "NUMBA_CACHE_DIR": cache,
            "XDG_CACHE_HOME": cache,
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        script = str(Path(__file__).with_name("first_use.py"))
        command = [sys.executable, script, saved, method.name, str(FIRST_USE_RTOL), *files]
        return {cache_is: _last_line(command, env) for cache_is in CACHES}


def _last_line(command, env):
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2][:200]}
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def quiet():
    """Send to nowhere what compiled code prints on standard output, and the warnings of rejected steps."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
