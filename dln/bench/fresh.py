"""What only a new process can tell: the first use, the peak memory, and whether a solve ends at all.

    python -m dln.bench.fresh WHAT JOB METHOD RTOL [FILES ...]

prints one line of JSON. It is started by the functions here, with the path of imports that this process has.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .rivals import LIMIT, Job, Method, collect

__all__ = ["CACHES", "RTOL", "finishes", "first_use", "peak_memory"]

RTOL = 1e-6
CACHES = ("cold", "cached")


def first_use(job: Job, method: Method, files: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of import and first solve in a new process, with an empty cache and again with it filled."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {
            "NUMBA_CACHE_DIR": cache,
            "XDG_CACHE_HOME": cache,
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        return {name: _asked("first_use", job, method, RTOL, files, environment) for name in CACHES}


def peak_memory(job: Job, method: Method, files: Sequence[str] = ()) -> dict[str, Any]:
    """Megabytes that a solve takes beyond what the process held after a first, short one."""
    return _asked("peak_memory", job, method, RTOL, files)


def finishes(job: Job, method: Method, files: Sequence[str] = ()) -> bool:
    """Whether a solve at rtol 1e-3 ends in time. A failure counts as an end."""
    return "late" not in _asked("finishes", job, method, 1e-3, files)


def _asked(
    what: str,
    job: Job,
    method: Method,
    rtol: float,
    files: Sequence[str],
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "job.npz")
        job.save(saved)
        command = [
            sys.executable,
            "-P",
            "-m",
            "dln.bench.fresh",
            what,
            str(saved),
            method.name,
            str(rtol),
            *files,
        ]
        path = os.pathsep.join(place for place in sys.path if place)
        env = os.environ | {"PYTHONPATH": path} | (environment or {})
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode and done.stderr.startswith("Timeout"):
        return {"late": LIMIT}
    if done.returncode:
        return {"failed": done.stderr.strip().rpartition("\n")[2][:200]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _first_use(job: Job, method: Method, rtol: float) -> dict[str, float]:
    start = time.perf_counter()
    for module in method.modules:
        importlib.import_module(module)
    imported = time.perf_counter()
    method.bounded(job)(rtol)
    return {"import": imported - start, "solve": time.perf_counter() - imported}


def _peak_memory(job: Job, method: Method, rtol: float) -> dict[str, float]:
    short = replace(job, times=np.linspace(0.0, 1e-3 * job.times[0], len(job.times) + 1)[1:])
    method.bounded(short)(1e-3)
    solve = method.bounded(job)
    _forget_peak()
    before = _peak()
    solve(rtol)
    return {"megabytes": _peak() - before}


def _finishes(job: Job, method: Method, rtol: float) -> dict[str, float]:
    solve, start = method.bounded(job), time.perf_counter()
    faulthandler.dump_traceback_later(LIMIT, exit=True)  # whatever compiled code is running
    solve(rtol)
    faulthandler.cancel_dump_traceback_later()
    return {"seconds": time.perf_counter() - start}


def _peak() -> float:
    """Megabytes. Linux adds to `ru_maxrss` what the process that started this one held, hence its own word first."""
    import resource

    status = Path("/proc/self/status")
    words = status.read_text().split() if status.exists() else []
    if "VmHWM:" in words:
        return int(words[words.index("VmHWM:") + 1]) * 1024 / 1e6
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget_peak() -> None:
    """Set the peak back to what is held now. Only Linux can: elsewhere a high peak of compilation hides a low one."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


ANSWERS: dict[str, Callable[[Job, Method, float], dict[str, float]]] = {
    "first_use": _first_use,
    "peak_memory": _peak_memory,
    "finishes": _finishes,
}

if __name__ == "__main__":
    what, saved, name, tolerance, *also = sys.argv[1:]
    result = ANSWERS[what](Job.load(saved), collect(also)[name], float(tolerance))
    print()
    print(json.dumps(result))
