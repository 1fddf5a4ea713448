"""What weight decay on L layers does to their product: balls of the Schatten-2/L penalty, its proximal operator.

A singular value s of the target becomes x: x = 0 up to s_jump, and above it the larger root x_+ of
x + lambda x^(2/L-1) = s. Both roots are born at the saddle-node s_sn; up to s_jump, x_+ is a local minimum only.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import checks, schatten
from ..costs import FullyObserved
from . import Outcome

TITLE = "Schatten-2/L: balls of the penalty, proximal operator, thresholds against depth"

COLUMNS = ("depth", "p", "x_sn", "s_sn", "x_jump", "s_jump", "price of rank 2")


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[1, 2, 3, 4, 8], metavar="L", help="(default 1 2 3 4 8)")
    add("--weight-decay", type=float, default=1.0, metavar="LAMBDA", help="lambda > 0 (default 1)")
    add(
        "--singular-values",
        type=float,
        nargs="+",
        default=[4.0, 2.5, 1.5],
        metavar="S",
        help="target of the proximal operator (default 4 2.5 1.5)",
    )


def run(options: argparse.Namespace) -> Outcome:
    """Thresholds and proximal operator for each depth, and the figure."""
    depths = sorted({checks.integer(L, "--depths", least=1, most=checks.MOST) for L in options.depths})
    decay = checks.positive(options.weight_decay, "--weight-decay")
    modes = sorted({checks.positive(s, "--singular-values") for s in options.singular_values}, reverse=True)
    return Outcome(
        title=f"lambda = {decay:g}: penalty lambda (L/2) sum s^(2/L) of W_L ... W_1",
        columns=[*COLUMNS, *(f"x({s:g})" for s in modes), "minima"],
        rows=[_row(depth, decay, modes) for depth in depths],
        notes=[
            "p = 2/L; price of rank 2: penalty of diag(1, 1)/sqrt(2) over that of diag(1, 0), of the same norm.",
            "x(s): singular value at the global minimum of 1/2 ||W_L ... W_1 - A||^2 + lambda/2 ||theta||^2 where A "
            "has s; minima: all local minima of that loss.",
        ],
        parameters={"depths": depths, "weight_decay": decay, "singular_values": modes},
        figures={"schatten": _figure(depths, decay, max(modes))},
    )


def _row(depth: int, decay: float, modes: list[float]) -> dict[str, Any]:
    node, jump = schatten.saddle_node(decay, depth), schatten.jump(decay, depth)
    one, two = schatten.value([np.diag([1.0, 0.0]), np.eye(2) / np.sqrt(2)], depth)
    kept = np.diag(schatten.prox(np.diag(modes), decay, depth))
    minima = schatten.solve(FullyObserved(np.diag(modes)), decay, depth)
    return {
        **dict(zip(COLUMNS, (depth, 2 / depth, *map(float, (*node, *jump, two / one))), strict=True)),
        **{f"x({s:g})": float(x) for s, x in zip(modes, kept, strict=True)},
        "minima": len(minima),
    }


def _figure(depths: list[int], decay: float, largest: float) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    end = max(largest, *(float(schatten.threshold(decay, depth)) for depth in depths))
    with mpl.rc_context(plotting.STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
        plotting.plot_schatten_balls(depths, left)
        plotting.plot_prox(depths, right, weight_decay=decay, s_max=1.2 * end)
        left.set_title("diag(a, b) with the penalty of diag(1, 0)")
        right.set_title(rf"proximal operator, $\lambda$ = {decay:g}")
    return figure
