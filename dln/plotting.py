"""Pictures: axes in, axes out; one fixed colour for each singular-value index; files that are the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import checks, schatten
from .landscape import Bifurcation
from .saddles import Saddle, SaddlePath, find_saddles
from .trajectory import Trajectory
from .typing import Array

__all__ = [
    "plot_bifurcation",
    "plot_by_batch_size",
    "plot_by_rank",
    "plot_cost",
    "plot_plane",
    "plot_prox",
    "plot_rank_map",
    "plot_rates",
    "plot_schatten_balls",
    "plot_spread",
    "plot_strip",
    "plot_trajectory",
    "plot_transitions",
    "save_figure",
    "shade_plateaus",
]

STYLE = {
    "svg.hashsalt": "dln",
    "figure.dpi": 130,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


# M. Okabe and K. Ito's colours, which are told apart with any colour vision; grey for their yellow, pale on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#7F7F7F")


def colour(mode: int) -> str:
    """The colour of a singular-value index, the same in every picture."""
    return COLOURS[mode % len(COLOURS)]


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
        ax.semilogy(trajectory.t, test_cost, color=colour(3), lw=1.4, ls="--", label="test mean square")
    shade_plateaus(ax, trajectory, saddles)
    ax.set(xlabel="time t", ylabel="cost")
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_plane(trajectory: Trajectory, path: SaddlePath, ax: Any = None) -> Any:
    """A(t) and the limit path, projected on the plane through the first three saddles of the path; returns the axes.

    The horizontal axis points from the first to the second, the vertical one towards the third; where there are fewer,
    to where A(t) goes beside the first axis.
    """
    ax = _axes(ax)
    saddles = [saddle.end_to_end for saddle in path.saddles]
    start, run = saddles[0], trajectory.end_to_end
    x = _unit(saddles[1] - start if len(saddles) > 1 else run[-1] - start)
    aside = run - start - np.tensordot(run - start, x, 2)[:, None, None] * x
    third = saddles[2] - start if len(saddles) > 2 else aside[np.argmax(np.linalg.norm(aside, axis=(1, 2)))]
    y = _unit(third - np.sum(third * x) * x)

    def seen(A: Array) -> tuple[Array, Array]:
        return np.tensordot(A - start, x, 2), np.tensordot(A - start, y, 2)

    for k, segment in enumerate(path.segments):
        ax.plot(*seen(segment.end_to_end), color=colour(k), lw=5, alpha=0.4, solid_capstyle="butt")
    ax.plot(*seen(run), color="black", lw=1.1)
    places = np.transpose(seen(np.array(saddles)))
    ax.plot(*places.T, "o", color="black", ms=5)
    for i, place in enumerate(places):
        near = np.linalg.norm(places - place, axis=1) <= 0.02 * np.ptp(places, axis=0).max()
        if np.argmax(near) < i:
            continue  # named with the first of those that are seen at one place
        ranks = ", ".join(str(path.saddles[k].rank) for k in np.flatnonzero(near))
        offset = (6, 4) if i else (4, -13)
        ax.annotate(f"rank {ranks}", place, xytext=offset, textcoords="offset points", fontsize="small")
    ax.plot([], [], color="black", lw=1.1, label="run")
    ax.plot([], [], color="0.5", lw=5, alpha=0.5, label="limit path")
    ax.margins(0.12)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(xlabel=r"along $A_1$", ylabel=r"orthogonal, towards $A_2$")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _unit(D: Array) -> Array:
    """A matrix of Frobenius norm one along another, or zero."""
    size = float(np.linalg.norm(D))
    return D / size if size > 0 else D


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


def plot_schatten_balls(depths: Sequence[int] = (1, 2, 3, 4, 8), ax: Any = None) -> Any:
    r"""Matrices diag(a, b) whose penalty (L/2) sum s^(2/L) is at most that of diag(1, 0); returns the axes."""
    ax = _axes(ax)
    angle = np.linspace(0.0, 2 * np.pi, 721)
    x, y = np.cos(angle), np.sin(angle)
    for depth in depths:
        # |a|^(2/L) + |b|^(2/L) = 1
        a, b = (np.sign(part) * np.abs(part) ** depth for part in (x, y))
        ax.plot(a, b, color=colour(depth - 1), lw=1.4, label=f"L = {depth}")
    ax.set(xlabel="first singular value a (with sign)", ylabel="second singular value b (with sign)")
    ax.set(aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_prox(
    depths: Sequence[int] = (1, 2, 3, 4, 8),
    ax: Any = None,
    *,
    weight_decay: float = 1.0,
    s_max: float = 5.0,
) -> Any:
    """Proximal operator of the penalty against the singular value s, one curve for each depth; returns the axes.

    Thick: the minimiser; thin: the local minimum x_+ before it pays; dashed: the maximum x_- between it and 0. For
    L >= 3 also 0 is a local minimum for every s.
    """
    ax = _axes(ax)
    ax.plot([0, s_max], [0, s_max], color="0.8", lw=0.8, zorder=0)
    for depth in sorted(depths):
        _prox_curve(ax, depth, weight_decay, s_max)
    if max(depths) > 2:
        ax.plot([], [], color="0.3", lw=0.6, label="local minimum only")
        ax.plot([], [], color="0.3", lw=1.0, ls="--", label="maximum")
        ax.plot([], [], color="0.3", lw=1.0, ls=":", label="jump")
        ax.plot([], [], "o", ms=3, color="0.3", label="saddle-node")
    ax.set(xlabel="singular value s of A", ylabel="stationary points x", xlim=(0, s_max))
    ax.set_ylim(-0.02 * s_max, s_max)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def _prox_curve(ax: Any, depth: int, decay: float, s_max: float) -> None:
    x_sn, s_sn = map(float, schatten.saddle_node(decay, depth))
    x_jump, s_jump = map(float, schatten.jump(decay, depth))
    s = s_sn + max(s_max - s_sn, 0.0) * np.linspace(0.0, 1.0, 400)[1:] ** 2  # x - x_sn ~ sqrt(s - s_sn)
    upper, lower = schatten.branches(s, decay, depth)
    pays, shade, zorder = s > s_jump, colour(depth - 1), 2 + 1 / depth  # at zero the longer pieces below
    ax.plot([0, s_jump], [0, 0], color=shade, lw=1.5, zorder=zorder)
    ax.plot(np.r_[s_jump, s[pays]], np.r_[x_jump, upper[pays]], color=shade, lw=1.5, label=f"L = {depth}")
    if depth > 2:
        ax.plot(np.r_[s_sn, s[~pays], s_jump], np.r_[x_sn, upper[~pays], x_jump], color=shade, lw=0.6)
        ax.plot(np.r_[s_sn, s], np.r_[x_sn, lower], color=shade, lw=1.0, ls="--")
        ax.plot([s_jump, s_jump], [0, x_jump], color=shade, lw=1.0, ls=":")
        ax.plot(s_sn, x_sn, "o", ms=3, color=shade)


def plot_by_rank(values: Mapping[int, float], ax: Any = None, *, depth: int, chosen: int) -> Any:
    """A positive quantity of the minima of one depth against their rank, the chosen rank ringed; returns the axes."""
    ax = _axes(ax)
    ranks, shade = sorted(values), colour(depth - 1)
    ax.semilogy(
        ranks, [values[rank] for rank in ranks], "o-", ms=4, lw=1.2, color=shade, label=f"L = {depth}"
    )
    ax.semilogy(chosen, values[chosen], "o", ms=10, mfc="none", mew=1.4, color=shade)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("rank")
    plain_ticks(ax.yaxis)
    return ax


def plot_spread(
    samples: Mapping[float, Sequence[float]], ax: Any = None, *, depth: int, shift: float = 1.0
) -> Any:
    """Samples of a positive quantity at every x, with median and quartiles, log-log; returns the axes.

    `shift` multiplies x, so that several depths stand side by side.
    """
    ax = _axes(ax)
    shade, places = colour(depth - 1), sorted(samples)
    x = np.array(places) * shift
    for at, place in zip(x, places, strict=True):
        ax.plot(np.full(len(samples[place]), at), samples[place], "o", ms=3, mew=0, alpha=0.35, color=shade)
    low, median, high = np.transpose([np.percentile(samples[place], (25, 50, 75)) for place in places])
    ax.errorbar(
        x, median, (median - low, high - median), fmt="s", ms=4, lw=1.4, color=shade, label=f"L = {depth}"
    )
    ax.set(xscale="log", yscale="log")
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    return ax


def plot_rates(
    counts: Mapping[float, tuple[int, float]], ax: Any = None, *, depth: int, shift: float = 1.0
) -> Any:
    """Events per time, with their Poisson 95 % bars, from their number and the time at each x; returns the axes.

    Where there was no event a triangle marks the rate up to which that is no surprise. `shift` is a factor of x.
    """
    from scipy.stats import chi2

    ax = _axes(ax)
    x = sorted(x for x, (_, time) in counts.items() if time > 0)
    n, time = np.array([counts[key] for key in x]).reshape(-1, 2).T
    low, high = chi2.ppf(0.025, 2 * np.maximum(n, 0.5)) / 2, chi2.ppf(0.975, 2 * (n + 1)) / 2
    seen = n > 0
    style = {"color": colour(depth - 2), "marker": "os^D"[depth % 4], "ms": 4, "capsize": 3, "lw": 1.2}
    bars, place = np.array([n - low, high - n]) / time, shift * np.array(x)
    ax.errorbar(place[seen], (n / time)[seen], bars[:, seen], label=f"L = {depth}", **style)
    ax.plot(place[~seen], (high / time)[~seen], color=colour(depth - 2), marker="v", ls="", ms=5)
    ax.set(xscale="log", yscale="log")
    return ax


def plot_strip(values: Array, x: float, ax: Any = None, *, color: Any = "black") -> Any:
    """Numbers, such as the eigenvalues of one matrix, as short lines above each other at x; returns the axes."""
    ax = _axes(ax)
    ax.hlines(values, x - 0.14, x + 0.14, color=color, lw=1.0)
    return ax


def plot_transitions(counts: Array, ax: Any = None) -> Any:
    """Numbers of changes from each state (row) to each state (column) as a map with its numbers; returns the axes."""
    ax = _axes(ax)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=2)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ax.text(column, row, str(count), ha="center", va="center", fontsize="small")
    states = np.arange(len(counts))
    ax.set(xticks=states, yticks=states)
    return ax


def plain_ticks(axis: Any) -> None:
    """Numbers like 0.02 at 1, 2 and 5 of every decade of a logarithmic axis; at 1 alone where there are many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plot_rank_map(
    ranks: Mapping[tuple[int, float], float],
    ax: Any = None,
    *,
    most: float,
    contours: Mapping[tuple[int, float], float] | None = None,
) -> Any:
    """Ranks by batch size and weight decay, as numbers on colours from 0 to `most`; returns the axes.

    `contours` are levels, one for each decade, of another quantity on the same cells.
    """
    ax = _axes(ax)
    sizes, decays = (sorted(set(values)) for values in zip(*ranks, strict=True))
    values = np.array([[ranks.get((B, wd), np.nan) for wd in decays] for B in sizes])
    ax.imshow(values, cmap="viridis", vmin=0, vmax=most, aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(values):
        text, dark = ("-", True) if np.isnan(value) else (f"{value:.1f}", value > 0.7 * most)
        ax.text(j, i, text, ha="center", va="center", color="black" if dark else "white")
    shown = [wd for wd in decays if contours and all((B, wd) in contours for B in sizes)]
    if contours and len(shown) > 1 and len(sizes) > 1:
        levels = np.log10([[contours[B, wd] for wd in shown] for B in sizes])
        lines = ax.contour(
            [decays.index(wd) for wd in shown], range(len(sizes)), levels, colors=colour(3), linewidths=1.0,
            levels=np.arange(np.floor(levels.min()), np.ceil(levels.max()) + 1),
        )  # fmt: skip
        ax.clabel(lines, fmt=lambda power: f"$10^{{{power:g}}}$", fontsize="small")
    ax.set_xticks(range(len(decays)), [f"{wd:g}" for wd in decays])
    ax.set_yticks(range(len(sizes)), [str(B) for B in sizes])
    ax.set(xlabel=r"weight decay $\lambda$", ylabel="batch size B")
    return ax


def plot_by_batch_size(
    ranks: Mapping[int, Sequence[tuple[float, float]]], ax: Any = None, *, most: float, style: str = "o"
) -> Any:
    """Pairs (tau, rank), one colour for each batch size, the mean of those with tau = 0 dotted; returns the axes."""
    ax = _axes(ax)
    for place, (B, pairs) in enumerate(ranks.items()):
        shade = graded(place, len(ranks))
        tau, values = np.array(pairs).reshape(-1, 2).T
        ax.plot(tau[tau > 0], values[tau > 0], style, ms=4, mew=0, alpha=0.8, color=shade, label=f"B = {B}")
        if (tau == 0).any():
            ax.axhline(values[tau == 0].mean(), color=shade, lw=0.8, ls=":")
    ax.set(xscale="log", xlabel=r"$\tau$, the sum of $\eta\lambda$ over the steps", ylabel="mean rank")
    ax.set_ylim(0, 1.03 * most)
    plain_ticks(ax.xaxis)
    if ranks:
        ax.legend(frameon=False, fontsize="small")
    return ax


def graded(place: int, count: int) -> Any:
    """Colours of an ordered family, dark to light."""
    from matplotlib import colormaps

    return colormaps["plasma"](0.9 * place / max(count - 1, 1))
