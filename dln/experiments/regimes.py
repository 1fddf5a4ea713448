"""Regimes of a Gaussian start over gamma, depth and width: distances, tangent kernel, linearisation, training time.

Entries of variance w^-gamma, rho = w^((1-gamma)/2) (arXiv 2106.15933). For gamma < 1 the start is near to a minimum,
far from the saddles, and training is linear; for gamma > 1 it is near to a saddle. Distances are measured on the whole
network; training runs on its projection to Krylov spaces, whose error is far below what is read off here.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, costs, inits
from ..flow import gradient_flow
from ..network import end_to_end
from ..problem import Until
from ..regimes import (
    distance_at_infinite_width,
    distance_to_minimum,
    distance_to_saddle,
    linearised,
    ntk_change,
)
from ..regimes.subspaces import krylov, projected
from ..scaling import Regime, regime
from ..typing import Array
from . import Outcome
from ._pool import each
from ._store import Store

TITLE = "regimes over gamma and width: distances to minima and saddles, tangent kernel, linearisation, time"

FULL = {
    "depths": [2, 3, 4],
    "widths": [64, 128, 256, 512, 1024],
    "gammas": [0.8, 0.9, 1.0, 1.5, 2.0, 3.0],
    "seeds": 6,
}
QUICK = {"depths": [2, 3], "widths": [32, 64, 128], "gammas": [1.0, 2.0], "seeds": 2}
ORDER = 4  # of the Krylov spaces
STOP = 1e-6  # share of the cost at A = 0
QUANTITIES = {
    "d_m": "unit_d_m",
    "d_s": "d_s",
    "kernel": "unit_kernel",
    "linear": "unit_linear",
    "time": "time",
}
COLUMNS = (
    *("depth", "gamma", "d_m", "proved", "d_m / law", "spread", "d_s / rho"),
    *(f"{name} ~ w^" for name in QUANTITIES),
)


@dataclass(frozen=True)
class Case:
    """One start; those of one seed and shape differ by a factor only."""

    depth: int
    gamma: float
    width: int
    seed: int
    singular_values: tuple[float, ...]


@dataclass(frozen=True)
class Found:
    """What was measured: bounds of the distances, their law at infinite width, and the run."""

    rho: float
    away: float  # |A* - A(0)| / |A*|
    d_m: float
    below: float
    law: float
    d_s: float
    saddle_below: float
    kernel: float
    linear: float
    time: float

    @property
    def unit_d_m(self) -> float:
        """d_m for what is to be learned, A* - A(0), brought to the size of A*: that differs from start to start."""
        return self.d_m / self.away

    @property
    def unit_kernel(self) -> float:
        """Change of the kernel likewise."""
        return self.kernel / self.away

    @property
    def unit_linear(self) -> float:
        """Error of the linearised flow, which is quadratic in what is to be learned."""
        return self.linear / self.away**2


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", metavar="L", help="(default 2 3 4)")
    add("--widths", type=int, nargs="+", metavar="W", help="(default 64 128 256 512 1024)")
    add("--gammas", type=float, nargs="+", metavar="G", help="beside 1-1/L (default 0.8 0.9 1 1.5 2 3)")
    add(
        "--singular-values",
        type=float,
        nargs="+",
        default=[1.5, 0.8],
        metavar="S",
        help="of the target (default 1.5 0.8)",
    )
    add("--seeds", type=int, metavar="K", help="number of starts (default 6)")
    add("--seed", type=int, default=0, help="seed of the first (default 0)")
    add("--jobs", type=int, metavar="J", help="starts at a time (default: one for each processor)")
    add(
        "--quick",
        action="store_true",
        help="depths 2 and 3, widths to 128, gamma = 1-1/L, 1, 2 by default",
    )


def run(options: argparse.Namespace) -> Outcome:
    """Measured exponents and constants beside those of the theory, and the phase diagram."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    s = tuple(
        sorted((checks.positive(x, "--singular-values") for x in options.singular_values), reverse=True)
    )
    depths = sorted({checks.integer(L, "--depths", least=2, most=8) for L in options.depths})
    widths = sorted({checks.integer(w, "--widths", least=len(s), most=8192) for w in options.widths})
    gammas = sorted({checks.number(gamma, "--gammas") for gamma in options.gammas})
    first = checks.integer(options.seed, "--seed", least=0)
    seeds = range(first, first + checks.integer(options.seeds, "--seeds", least=1))
    jobs = checks.integer(options.jobs or os.cpu_count() or 1, "--jobs", least=1)
    cases = [
        Case(L, gamma, w, seed, s)
        for w in reversed(widths)
        for L in reversed(depths)
        for gamma in sorted({1 - 1 / L, *gammas}, reverse=True)
        for seed in seeds
    ]
    found = each(_measure, cases, jobs, options.progress, "starts", Store(options.output, "regimes"))
    rows = [_row(L, gamma, found) for L, gamma in sorted({(case.depth, case.gamma) for case in found})]
    return Outcome(
        title=f"singular values {', '.join(f'{x:g}' for x in s)}; widths {widths}, {len(seeds)} starts of each",
        columns=COLUMNS,
        rows=rows,
        notes=[
            f"At width {widths[-1]}: d_m, distance to the minima, attained; proved, a lower bound; law, the limit "
            "of infinite width at the same rho, of A* - A(0); spread, standard deviation over the starts. d_s / rho: "
            "least lower and largest upper bound of the distance to the saddles, over all widths and starts.",
            "~ w^: measured exponent of the width (that of the theory), of geometric means over the starts. kernel: "
            f"relative change of the tangent kernel until the cost is {STOP:g} of that at A = 0; linear: largest "
            "distance to the linearised flow; these and d_m for |A* - A(0)| = 1; time: until then. For gamma > 1 "
            "the kernel grows from its start to order 1, and at L = 2 the time grows like log w.",
        ],
        parameters={
            "depths": depths, "widths": widths, "gammas": gammas, "singular_values": list(s), "seed": first,
            "seeds": len(seeds), "starts": [vars(case) | vars(result) for case, result in found.items()],
        },
        success=len(found) == len(cases),
        figures={"regimes": _figure(rows, found)},
    )  # fmt: skip


def _measure(case: Case) -> Found:
    n, target = len(case.singular_values), np.diag(case.singular_values)
    widths = (n, *[case.width] * (case.depth - 1), n)
    start = inits.gaussian(widths, gamma=case.gamma, rng=np.random.SeedSequence([case.seed, case.width]))
    cost, rho, A = costs.FullyObserved(target), regime(widths, case.gamma).rho, end_to_end(start)
    minimum, saddle = distance_to_minimum(cost, start, restarts=1), distance_to_saddle(cost, start)
    away = np.linalg.svd(target - A, compute_uv=False)
    small = projected(start, krylov(start, ORDER))
    flow = gradient_flow(cost, small, (0.0, math.inf), until=Until(cost=STOP * cost.value(0 * A)), rtol=1e-6)
    gaps = np.linalg.norm(flow.end_to_end - linearised(cost, start, flow.t), axis=(1, 2))
    return Found(
        rho=rho, away=float(np.linalg.norm(away) / np.linalg.norm(target)), d_m=minimum.upper,
        below=minimum.lower, law=distance_at_infinite_width(away, case.depth, rho),
        d_s=saddle.upper, saddle_below=saddle.lower, kernel=float(ntk_change(flow)[-1]),
        linear=float(gaps.max() / np.linalg.norm(target)), time=float(flow.t[-1]),
    )  # fmt: skip


def theory(case: Regime) -> dict[str, float]:
    """Exponents of the width."""
    kernel = case.kernel_change if math.isfinite(case.kernel_change) else -case.kernel
    powers = (case.to_minimum, case.to_saddle, kernel, min(case.kernel_change, 0.0), case.time)
    return {name: power + 0.0 for name, power in zip(QUANTITIES, powers, strict=True)}  # no -0.0


def _row(depth: int, gamma: float, found: dict[Case, Found]) -> dict[str, Any]:
    mine = {case: result for case, result in found.items() if (case.depth, case.gamma) == (depth, gamma)}
    widths = sorted({case.width for case in mine})
    by_width = [[result for case, result in mine.items() if case.width == w] for w in widths]
    n = len(next(iter(mine)).singular_values)
    expected = regime((n, *[widths[-1]] * (depth - 1), n), gamma)
    widest = by_width[-1]
    ratios = [result.d_m / result.law for result in widest]
    low, high = (
        min(result.saddle_below / result.rho for result in mine.values()),
        max(result.d_s / result.rho for result in mine.values()),
    )
    row: dict[str, Any] = {
        "depth": depth, "gamma": gamma, "regime": expected.name, "rho": expected.rho,
        "d_m": _mean([result.d_m for result in widest]), "proved": _mean([result.below for result in widest]),
        "d_m / law": _mean(ratios), "spread": float(np.std(ratios)), "d_s / rho": f"{low:.3f} .. {high:.3f}",
        "d_s / rho bounds": [low, high],
    }  # fmt: skip
    for name, power in theory(expected).items():
        means = [_mean(np.log([getattr(r, QUANTITIES[name]) for r in results])) for results in by_width]
        slope = float(np.polyfit(np.log(widths), means, 1)[0]) if len(widths) > 1 else math.nan
        row |= {
            f"{name} ~ w^": f"{slope:.2f} ({power:.2f})",
            f"{name} measured": slope,
            f"{name} theory": power,
        }
    return row


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values))


def _figure(rows: Sequence[dict[str, Any]], found: dict[Case, Found]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    depths = sorted({row["depth"] for row in rows})
    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.8), layout="constrained")
        for mark, L in zip("osD^v<>", depths, strict=False):
            mine = [row for row in rows if row["depth"] == L]
            style = {"color": plotting.colour(L - 1), "ms": 4.5}
            gammas = [row["gamma"] for row in mine]
            for name, fill in (("d_m", "full"), ("d_s", "none")):
                axes[0].plot(gammas, [row[f"{name} measured"] for row in mine], mark, fillstyle=fill, **style)
            axes[1].plot(gammas, [row["kernel measured"] for row in mine], mark, **style)
            fine = np.unique([*np.linspace(gammas[0], gammas[-1], 60), *gammas, 1.0])
            lines = [theory(regime((2, *[2] * (L - 1), 2), gamma)) for gamma in fine]
            for ax, name in zip(axes, ("d_m", "kernel"), strict=False):
                ax.plot(fine, [line[name] for line in lines], color=style["color"], lw=1.0, zorder=0)
            _plot_law(axes[2], mark, L, found)
        axes[0].plot(fine, [line["d_s"] for line in lines], color="0.4", lw=1.0, ls="--", zorder=0)
        axes[0].plot([], [], "o", color="0.3", ms=4.5, label=r"$d_m$, to a minimum")
        axes[0].plot([], [], "o", color="0.3", ms=4.5, fillstyle="none", label=r"$d_s$, to a saddle")
        for ax, title in zip(
            axes, ("exponents of the distances", "exponent of the kernel's change"), strict=False
        ):
            ax.set(
                xlabel=r"$\gamma$ (entries of variance $w^{-\gamma}$)",
                ylabel="exponent of the width",
                title=title,
            )
            _phases(ax)
        axes[2].set(
            xlabel=r"$\rho = w^{(1-\gamma)/2}$",
            ylabel=r"$d_m\,\|A^*\| / \|A^* - A(0)\|$",
            title="distance to a minimum",
            xscale="log",
            yscale="log",
        )
        axes[2].plot([], [], color="0.3", lw=1.0, label="infinite width")
        plotting.plain_ticks(axes[2].yaxis)
        for ax in (axes[0], axes[2]):
            ax.legend(frameon=False, fontsize="small")
    return figure


def _plot_law(ax: Any, mark: str, depth: int, found: dict[Case, Found]) -> None:
    """d_m of all starts of a depth against rho, over the curve of infinite width."""
    from .. import plotting

    mine = {case: result for case, result in found.items() if case.depth == depth}
    sizes = [result.rho for result in mine.values()]
    rho = np.geomspace(min(sizes), max(sizes), 40)
    s = next(iter(mine)).singular_values
    shade = plotting.colour(depth - 1)
    ax.plot(rho, [distance_at_infinite_width(s, depth, x) for x in rho], color=shade, lw=1.0)
    ax.plot(
        sizes, [result.unit_d_m for result in mine.values()], mark, ms=3, color=shade, alpha=0.5, mew=0,
        label=f"L = {depth}",
    )  # fmt: skip


def _phases(ax: Any) -> None:
    """Lazy below gamma = 1, saddle-to-saddle above."""
    from .. import plotting

    low, high = ax.get_xlim()
    ax.axvspan(low, 1.0, color=plotting.colour(0), alpha=0.07, lw=0)
    ax.axvspan(1.0, high, color=plotting.colour(1), alpha=0.09, lw=0)
    ax.axvline(1.0, color="0.5", lw=0.8)
    ax.set_xlim(low, high)
    ax.text(0.99, 0.3, "mean field", ha="right", va="bottom", rotation=90, fontsize="small", color="0.3",
            transform=ax.get_xaxis_transform())  # fmt: skip
    for x, text, align in ((1.0, "lazy ", "right"), (1.0, " saddle-to-saddle", "left")):
        ax.text(
            x,
            0.01,
            text,
            ha=align,
            va="bottom",
            fontsize="small",
            color="0.3",
            transform=ax.get_xaxis_transform(),
        )
