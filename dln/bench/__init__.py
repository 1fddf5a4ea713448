"""Work against precision: how long a gradient flow takes to a given error, here and in the best general libraries.

Problem, method and measure are kept apart: `problems`, `rivals` and `velocity`, `reference` and `measure`. The pages
that `pages` and `studies` make of them are printed by `report` and drawn by `pictures`. Nothing heavy is loaded here.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["one_thread", "options", "run"]

STUDIES = ("alpha", "width")
# The libraries read their numbers of threads when they are loaded, so that they have to be set before.
ENVIRONMENT = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA")} | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "DLN_BENCH": "one thread",
}


def one_thread() -> None:
    """Start this command anew in an environment of one thread, unless it is; returns only if it is."""
    if "DLN_BENCH" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | ENVIRONMENT)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``dln bench`` to a parser."""
    parser.description = (
        "Time to a given error, against other libraries. Without a PROBLEM: P1, P2, P3 and P6, and with --quick P1. "
        "P4, P7 and P8 are families: P4-500, P7-L3-1e-4, P8-1000 are members, the bare names stand for some of them; "
        "`all` is everything and takes hours."
    )
    names: Any = {"type": lambda text: [name.strip() for name in text.split(",")], "metavar": "A,B"}
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help="names of problems")
    parser.add_argument("--methods", **names, help="methods, by name or by package (default: all installed)")
    parser.add_argument(
        "--also", action="append", default=[], metavar="FILE", help="Python file with more methods"
    )
    parser.add_argument("--study", choices=STUDIES, help="cost against the size of the start, or the width")
    parser.add_argument(
        "--quick", action="store_true", help="whole decades of tolerance, 3 repeats: under a minute"
    )
    parser.add_argument("--seed", type=int, default=0, help="which instance of the problems (default 0)")
    parser.add_argument(
        "--repeats", type=int, help="timed runs per method and tolerance (default 15; study: 5)"
    )
    parser.add_argument(
        "--longest",
        type=float,
        metavar="SECONDS",
        help="no tighter tolerance where a solve takes so long (default 2)",
    )
    parser.add_argument(
        "--first-use", action="store_true", help="also time imports and compilation in new processes"
    )
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory of a solve")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write numbers, tables, pictures (default: no)"
    )
    parser.add_argument(
        "--format", choices=("svg", "png"), default="svg", help="of the pictures (default svg)"
    )
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")


def run(chosen: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status (0 done, 1 something was left out, 130 interrupted)."""
    from . import pages

    return pages.run(chosen)
