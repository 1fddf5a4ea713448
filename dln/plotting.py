"""Pictures: axes in, axes out; one fixed colour for each singular-value index; files that are the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import checks
from .landscape import Bifurcation
from .saddles import Saddle, find_saddles
from .trajectory import Trajectory
from .typing import Array

__all__ = ["plot_bifurcation", "plot_cost", "plot_trajectory", "save_figure", "shade_plateaus"]

STYLE = {
    "svg.hashsalt": "dln",
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def colour(mode: int) -> Any:
    """The colour of a singular-value index, the same in every picture."""
    from matplotlib import colormaps

    return colormaps["tab10"](mode % 10)


def plot_trajectory(
    trajectory: Trajectory, ax: Any = None, *, saddles: Sequence[Saddle] | None = None
) -> Any:
    """Singular values of A against time, plateaus shaded and labelled with their rank; returns the axes."""
    ax = _axes(ax)
    for mode, s in enumerate(trajectory.singular_values.T):
        label = rf"$s_{{{mode + 1}}}$" if mode < 5 else None
        ax.plot(trajectory.t, s, color=colour(mode), lw=1.4, label=label)
    shade_plateaus(ax, trajectory, saddles)
    ax.set(xlabel="time t", ylabel="singular values of A")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_cost(
    trajectory: Trajectory,
    ax: Any = None,
    *,
    test_cost: Array | None = None,
    saddles: Sequence[Saddle] | None = None,
) -> Any:
    """Cost, and where given test cost, against time on a logarithmic scale, plateaus shaded; returns the axes."""
    ax = _axes(ax)
    ax.semilogy(trajectory.t, trajectory.cost, color="black", lw=1.4, label="train cost C(A)")
    if test_cost is not None:
        ax.semilogy(trajectory.t, test_cost, color="tab:red", lw=1.4, ls="--", label="test mean square")
    shade_plateaus(ax, trajectory, saddles)
    ax.set(xlabel="time t", ylabel="cost")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_bifurcation(diagram: Bifurcation, ax: Any = None, *, quantity: str = "norm") -> Any:
    """Critical points against the weight decay: minima solid, saddles dashed with their Morse index; returns the axes.

    The colour tells the rank, the global minimum is thick. `quantity` is "norm" (of A) or "objective".
    """
    name = checks.one_of(quantity, "quantity", ("norm", "objective"))
    ax = _axes(ax)
    decays, ranks = diagram.weight_decays, set[int]()
    for row, branches in enumerate(diagram.branches):
        y, index = getattr(diagram, name)[row], diagram.morse_index[row]
        rank = sum(branch != "0" for branch in branches)
        shade = colour(rank - 1) if rank else "0.25"
        label = None if rank in ranks else f"rank {rank}"
        ranks.add(rank)
        ax.plot(decays, np.where(index == 0, y, np.nan), color=shade, lw=1.2, label=label)
        ax.plot(decays, np.where(index > 0, y, np.nan), color=shade, lw=0.9, ls="--")
        ax.plot(decays, np.where(diagram.is_global[row], y, np.nan), color=shade, lw=3.0, alpha=0.5)
        there = np.flatnonzero(index > 0)
        if len(there):
            at = there[int(0.3 * len(there))]
            ax.text(decays[at], y[at], str(index[at]), color=shade, fontsize="x-small", ha="center", va="center",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})  # fmt: skip
    ax.set(xlabel=r"weight decay $\lambda$", ylabel=r"$\|A\|_F$" if name == "norm" else "objective")
    ax.set_xlim(decays[0], decays[-1])
    ax.legend(frameon=False, fontsize="small")
    return ax


def shade_plateaus(ax: Any, trajectory: Trajectory, saddles: Sequence[Saddle] | None = None) -> None:
    """Grey bands over the plateaus, each with its rank above it."""
    end = float(trajectory.t[-1])
    if saddles is None:
        saddles = find_saddles(trajectory) if (trajectory.objective > 0).all() else ()
    for saddle in saddles:
        start, stop = saddle.start, min(saddle.stop, end)
        ax.axvspan(start, stop, color="0.5", alpha=0.12 if saddle.kind == "saddle" else 0.25, lw=0)
        ax.text(
            (start + stop) / 2, 1.01, str(saddle.rank), ha="center", va="bottom",
            transform=ax.get_xaxis_transform(), fontsize="small", color="0.3",
        )  # fmt: skip
    ax.set_xlim(float(trajectory.t[0]), end)


def save_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write a figure as .png and as .svg without a date; returns the paths."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with mpl.rc_context(STYLE):
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return paths


def _axes(ax: Any) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    if ax is not None:
        return ax
    with mpl.rc_context(STYLE):
        return plt.subplots(figsize=(5.5, 3.4), layout="constrained")[1]
