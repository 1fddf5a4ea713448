"""How the landscape of a fully observed target changes with weight decay: critical points, minima, who is global.

At depth 2 a mode of singular value s leaves at lambda = s. From depth 3 on its two branches meet and vanish at the
saddle-node, and the global minimum lets go of it before, at the jump; between them it is kept by a local minimum only.
"""

from __future__ import annotations

import argparse
import itertools
import math
from typing import Any

import numpy as np

from .. import checks, landscape
from ..typing import Array
from . import Outcome

TITLE = "bifurcations of the critical points along the weight decay: thresholds, counts, rank of the global minimum"

COLUMNS = (
    "depth",
    "lambda from",
    "to",
    "event",
    "critical points",
    "local minima",
    "global rank",
    "largest index",
)
MOST_MODES = 6
POINTS = 400  # weight decays in the figure


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[2, 3, 4], metavar="L", help="(default 2 3 4)")
    add(
        "--singular-values",
        type=float,
        nargs="+",
        default=[3.0, 2.0, 1.0],
        metavar="S",
        help="of the target (default 3 2 1)",
    )


def run(options: argparse.Namespace) -> Outcome:
    """The intervals between bifurcations for each depth, and the diagrams."""
    depths = sorted({checks.integer(L, "--depths", least=2, most=checks.MOST) for L in options.depths})
    modes = sorted({checks.positive(s, "--singular-values") for s in options.singular_values}, reverse=True)
    if len(modes) > MOST_MODES:
        raise ValueError(
            f"`--singular-values` must be at most {MOST_MODES}, got {len(modes)}. Give fewer: they have "
            f"3^{len(modes)} critical points."
        )
    target = np.diag(modes)
    return Outcome(
        title=f"target of singular values {', '.join(f'{s:g}' for s in modes)}, width {len(modes)}",
        columns=COLUMNS,
        rows=[row for depth in depths for row in _rows(target, depth)],
        notes=[
            "Each row holds on a whole interval of lambda. At its end the global minimum lets go of a mode (jump), or "
            "both branches of a mode vanish (saddle-node). Index: number of negative eigenvalues of the Hessian.",
        ],
        parameters={"depths": depths, "singular_values": modes},
        figures={"bifurcation": _figure(target, depths)},
    )


def _events(target: Array, depth: int) -> dict[float, list[str]]:
    """Thresholds in their order, with what happens there."""
    found = landscape.thresholds(target, depth)
    kinds = (
        {"threshold": found.jump} if depth == 2 else {"jump": found.jump, "saddle-node": found.saddle_node}
    )
    events: dict[float, list[str]] = {}
    for kind, decays in kinds.items():
        for s, decay in zip(found.singular_values, decays.tolist(), strict=True):
            events.setdefault(decay, []).append(f"{kind} of s = {s:g}")
    return dict(sorted(events.items()))


def _rows(target: Array, depth: int) -> list[dict[str, Any]]:
    events = _events(target, depth)
    ends = [0.0, *events, 2 * max(events)]
    rows = []
    for start, stop in itertools.pairwise(ends):
        space = landscape.Landscape(target, depth, (start + stop) / 2)
        values = (
            depth, start, stop if stop in events else math.inf, ", ".join(events.get(stop, [])), space.count,
            len(space.local_minima()), next(iter(space)).rank, max(point.morse_index for point in space),
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _figure(target: Array, depths: list[int]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(
            1, len(depths), figsize=(4.2 * len(depths), 4.2), layout="constrained", squeeze=False
        )
        for ax, depth in zip(axes[0], depths, strict=True):
            events = list(_events(target, depth))
            decays = np.linspace(0, 1.08 * events[-1], POINTS)[1:]
            diagram = landscape.bifurcation(
                target, depth, np.union1d(decays, events)
            )  # folds close at events
            plotting.plot_bifurcation(diagram, ax)
            ax.set(title=f"L = {depth}", xlim=(0, decays[-1]))
        figure.suptitle(
            "Critical points: global minimum thick, local minimum solid, saddle dashed with its Morse index",
            fontsize="medium",
        )
    return figure
