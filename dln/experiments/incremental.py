"""Incremental learning: how small a common start of two modes must be for them to be learned one after the other.

Mode 2 shall still be below a share g of its size when mode 1 reaches a share f of its own (aligned balanced modes of a
fully observed target; arXiv 1909.12051).
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import checks
from ..exact import incremental_threshold, mode, mode_time
from ..typing import Array
from . import Outcome
from ._starts import figure

TITLE = (
    "incremental learning: the largest start from which two modes are learned one after the other, by depth"
)

RATIOS = (0.25, 0.5, 0.75, 0.9)
POINTS = 60


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add(
        "--depths",
        type=int,
        nargs="+",
        default=[2, 3, 4, 5],
        metavar="L",
        help="at least 2 (default 2 3 4 5)",
    )
    add(
        "--ratios",
        type=float,
        nargs="+",
        default=list(RATIOS),
        metavar="R",
        help="s_2/s_1 (default .25 .5 .75 .9)",
    )
    add("--learned", type=float, default=0.9, help="share f of mode 1 that counts as learned (default 0.9)")
    add("--waiting", type=float, default=0.1, help="share g of mode 2 up to which it waits (default 0.1)")
    add("--quick", action="store_true", help="the ratio 0.5 alone")


def run(options: argparse.Namespace) -> Outcome:
    """Thresholds by depth and ratio of the singular values, s_1 = 1."""
    if options.quick:
        options.ratios = [0.5]
    depths = sorted({checks.integer(L, "--depths", least=2, most=checks.MOST) for L in options.depths})
    ratios = sorted({checks.positive(r, "--ratios") for r in options.ratios})
    if ratios[-1] >= 1:
        raise ValueError(f"`--ratios` must be below 1, got {ratios[-1]:g}. Equal modes are learned together.")
    f, g = options.learned, options.waiting
    found = _thresholds(np.array(ratios), depths, f, g)
    limits = incremental_threshold(1.0, ratios, np.inf, learned=f, waiting=g)
    columns = ("s_2/s_1", *(f"L = {depth}" for depth in depths), "L = inf")
    return Outcome(
        title=f"largest start a_0 with a_2 <= {g:g} s_2 when a_1 = {f:g} s_1, for s_1 = 1",
        columns=columns,
        rows=[
            dict(zip(columns, (ratio, *row, limit), strict=True))
            for ratio, row, limit in zip(ratios, found.tolist(), limits.tolist(), strict=True)
        ],
        notes=[
            "a_0 is the common singular value of both modes at the start; thresholds scale with s_1. 0: below 1e-290. "
            "As s_2/s_1 -> 1 it falls exponentially for L = 2, and like (1 - s_2/s_1)^(L/(L-2)) for L >= 3.",
        ],
        parameters={
            "depths": depths,
            "ratios": ratios,
            "learned": f,
            "waiting": g,
            "thresholds": found.tolist(),
        },
        figures={"incremental": _figure(depths, f, g)},
    )


def _thresholds(ratios: Array, depths: list[int], f: float, g: float) -> Array:
    return np.asarray(incremental_threshold(1.0, ratios[:, None], np.array(depths), learned=f, waiting=g))


def _figure(depths: list[int], f: float, g: float) -> Any:
    from .. import plotting

    drawn, (left, right) = figure(2, "Two modes from one start: both learned at once, or one after the other")
    ratios = np.linspace(0.05, 0.95, POINTS)
    lines = ("-", "--", "-.", ":")
    for i, (depth, line) in enumerate(zip(depths, _thresholds(ratios, depths, f, g).T, strict=True)):
        left.semilogy(
            ratios, np.where(line > 0, line, np.nan), lines[i % 4], color=plotting.colour(i), lw=1.3
        )
        left.plot([], [], lines[i % 4], color=plotting.colour(i), label=f"L = {depth}")
    left.set(xlabel=r"$s_2/s_1$", ylabel=r"threshold of $a_0 / s_1$", ylim=(1e-12, 1.0))
    left.legend(frameon=False, fontsize="small")
    for i, depth in enumerate(depths[:4]):
        start = float(incremental_threshold(1.0, 0.5, depth, learned=f, waiting=g)) / 10
        end = float(mode_time(0.99 * 0.5, start, 0.5, depth))
        t = np.linspace(0, 1, 300)
        for s, width in ((1.0, 1.5), (0.5, 0.8)):
            right.plot(t, mode(t * end, start, s, depth), lines[i % 4], color=plotting.colour(i), lw=width)
    right.set(xlabel="time (share of that to learn both)", ylabel=r"$a_1$ (thick), $a_2$, from a tenth of it")
    return drawn
