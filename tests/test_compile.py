"""Compilation: what is compiled once stays, what is edited does not, and the other two modes of Numba agree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dln

PACKAGE = Path(dln.__file__).parent


def run(code, *, folder=None, **environment):
    """Output of Python code in a fresh process."""
    env = {**os.environ, **environment}
    if folder is not None:
        env["PYTHONPATH"] = str(folder)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


FLOWS = """
import numpy as np, dln, numba
rng = np.random.default_rng(0)
for widths in ((3, 2), (3, 4, 2), (2, 5, 3, 4), (4, 3, 3, 2, 3)):
    weights = [0.5 * rng.standard_normal(s) for s in zip(widths[1:], widths)]
    n_L, n_0 = widths[-1], widths[0]
    costs = [
        dln.costs.FullyObserved(rng.standard_normal((n_L, n_0))),
        dln.costs.MatrixCompletion(rng.standard_normal((n_L, n_0)), np.ones((n_L, n_0))),
        dln.costs.MatrixSensing(rng.standard_normal((3, n_L, n_0)), rng.standard_normal(3)),
        dln.costs.SquareLoss(rng.standard_normal((n_0, 6)), rng.standard_normal((n_L, 6))),
        dln.costs.CrossEntropy(rng.standard_normal((n_0, 6)), rng.integers(0, n_L, 6), classes=n_L),
    ]
    for cost in costs:
        for options in ({"method": "dop853"}, {"method": "bs3"}, {"method": "rk4", "step": 0.01}):
            run = dln.gradient_flow(cost, weights, (0.0, 0.5), rtol=1e-6, t_eval=[0.2, 0.5], **options)
            assert run.success, run.message
            print(*run.end_to_end[-1].ravel())
        print(*dln.sgd(cost, weights, 0.05, 6, batch_size=2, rng=1).end_to_end[-1].ravel())
"""


def numbers(text):
    return np.array(text.split(), dtype=float)


@pytest.fixture(scope="module")
def compiled():
    return numbers(run(FLOWS))


@pytest.mark.parametrize("mode", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_the_same_with_bounds_checked_and_without_the_compiler(compiled, mode):
    assert np.allclose(numbers(run(FLOWS, **{mode: "1"})), compiled, rtol=1e-9, atol=1e-12)


COUNTED = """
from numba.core.event import install_recorder
with install_recorder("numba:compile") as recorder:
    exec({code!r}, {{}})
names = [event.data["dispatcher"].__name__ for _, event in recorder.buffer if event.is_end]
print("compiled:", len(recorder.buffer), *set(names))
"""


def test_nothing_is_compiled_twice(tmp_path):
    """A second process, and in it other depths, widths, methods and costs, compile nothing."""
    run("import dln, numpy as np\n" + FLOWS, XDG_CACHE_HOME=str(tmp_path))
    again = run(COUNTED.format(code=FLOWS), XDG_CACHE_HOME=str(tmp_path))
    assert again.splitlines()[-1] == "compiled: 0"


STALE = """
import dln
print(dln.gradient_descent(dln.costs.FullyObserved([[1.0]]), [[[0.0]]], 0.5, 1).end_to_end[-1, 0, 0])
"""


def test_an_edit_of_a_kernel_is_noticed(tmp_path):
    package = tmp_path / "dln"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    cache = str(tmp_path / "cache")
    assert float(run(STALE, folder=tmp_path, XDG_CACHE_HOME=cache)) == 0.5
    costs = package / "costs.py"
    text = costs.read_text()
    assert text.count("out[entry] = data[0] * (A[entry] - data[1 + entry])") == 1
    costs.write_text(
        text.replace("out[entry] = data[0] * (A[entry] -", "out[entry] = 3 * data[0] * (A[entry] -")
    )
    assert float(run(STALE, folder=tmp_path, XDG_CACHE_HOME=cache)) == 1.5
