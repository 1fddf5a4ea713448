"""How well a network between Krylov subspaces of its hidden layers follows the whole network, order by order.

Order 0 spans the images of the inputs and outputs in every hidden layer, each further order the images of these in the
neighbouring layers. The whole run to the global minimum is compared: the largest and the mean error of A, and the error
of the times at which the modes are half learned, beside what the limit of infinite width predicts for them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, inits, progress
from ..costs import FullyObserved
from ..flow import gradient_flow
from ..form.subspaces import krylov
from ..problem import Until
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome
from ._half_times import half_times

TITLE = "wide networks in Krylov subspaces of their hidden layers: the error by order, depths 3 and 4"

COLUMNS = (
    *("depth", "width", "rho", "seeds", "order", "dims", "sup", "sup before", "rms", "rms before"),
    *("time", "time before", "time at infinity"),
)
S = np.array([2.0, 1.6, 1.25, 1.0])
LEARNED, LONGER = 1e-9, 1.1  # of the cost at the start, and so much longer, up to where a run is followed
SAMPLES = 4000
RTOL = 1e-12


@dataclass(frozen=True)
class Case:
    """Runs from several seeds; `before` are the errors (sup, rms, time) by order found by another implementation."""

    depth: int
    width: int
    rho: float
    seeds: int
    before: tuple[tuple[float, float, float], ...]

    @property
    def orders(self) -> range:
        return range(len(self.before))


# NumPy and SciPy's DOP853 at rtol 1e-10; nan where only that tolerance was seen, or the number was not kept.
_SEEN = (
    (2.8e-1, 6.5e-2, 3.5e-2), (2.2e-2, 4.9e-3, 2.8e-3), (1.2e-3, 2.6e-4, 1.5e-4), (4.3e-5, 9.7e-6, 6.0e-6),
    (1.4e-6, 3.0e-7, 2.0e-7), (3.2e-8, 7.1e-9, 4.9e-9), (math.nan, math.nan, 1.0e-10),
)  # fmt: skip
_WIDER = tuple((sup, math.nan, math.nan) for sup in (2.7e-1, 2.0e-2, 9.6e-4, 3.8e-5, 1.1e-6, 3.5e-8))
_SMALLER = tuple(
    (sup, math.nan, time)
    for sup, time in (
        (6.3e-1, 4.1e-2), (1.5e-1, 3.1e-3), (8.8e-3, 1.8e-4), (3.5e-4, 7.3e-6), (9.3e-6, 2.2e-7), (math.nan, 4.9e-9),
        (math.nan, 7e-11),
    )
)  # fmt: skip
_DEEPER = (
    (5.2e-1, 1.5e-1, 1.1e-1), (1.4e-1, 2.9e-2, 1.8e-2), (1.8e-2, 4.2e-3, 2.8e-3), (3.1e-3, 7.0e-4, 4.9e-4),
    (2.6e-4, 5.9e-5, 4.3e-5), (3.6e-5, 7.5e-6, 5.7e-6),
)  # fmt: skip
CASES = (
    Case(3, 128, 0.05, 5, _SEEN),
    Case(3, 200, 0.05, 3, _WIDER),
    Case(3, 100, 0.01, 3, _SMALLER),
    Case(4, 200, 0.2, 4, _DEEPER),
)
QUICK = (Case(3, 64, 0.05, 2, _SEEN[:5]), Case(4, 100, 0.2, 1, _DEEPER[:4]))


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    parser.add_argument("--seed", type=int, default=0, help="seed of the starts (default 0)")
    parser.add_argument("--quick", action="store_true", help="narrower networks, fewer seeds and orders")


def run(options: argparse.Namespace) -> Outcome:
    """Errors by order for each setting, and the picture."""
    seed = checks.integer(options.seed, "--seed", least=0)
    cases = QUICK if options.quick else CASES
    errors: dict[Case, Array] = {}
    with progress.bar(options.progress, "networks", sum(case.seeds for case in cases)) as report:
        done = 0
        for case in cases:
            drawn = []
            for draw in range(case.seeds):
                report(done, f"depth {case.depth}, width {case.width}")
                drawn.append(_errors(case, np.random.default_rng([seed, case.depth, case.width, draw])))
                done += 1
            errors[case] = np.array(drawn)
    return Outcome(
        title="networks between Krylov subspaces against the whole, by order: 4 x 4 target, singular values "
        + ", ".join(f"{s:g}" for s in S),
        columns=COLUMNS,
        rows=[row for case, found in errors.items() for row in _rows(case, found)],
        notes=[
            "sup, rms: of the distance of A from that of the whole network, over ||A*||, up to the rank-4 minimum. "
            "time: largest relative error of the times at which a mode is half learned. Geometric means over seeds.",
            "before: found by another implementation, from other seeds. time at infinity: the same error at infinite "
            "width, where nothing is random.",
        ],
        parameters={
            "singular_values": S.tolist(),
            "seed": seed,
            "errors": [
                {"depth": c.depth, "width": c.width, "rho": c.rho, "sup_rms_time": found.tolist()}
                for c, found in errors.items()
            ],
        },
        figures={"krylov": _figure(errors)},
    )


def _errors(case: Case, rng: np.random.Generator) -> Array:
    """Errors (orders, 3) of one start."""
    cost = FullyObserved(np.diag(S))
    start = inits.gaussian((len(S), *[case.width] * (case.depth - 1), len(S)), rho=case.rho, rng=rng)
    small = [list(krylov(start, order).layers) for order in case.orders]
    goal = Until(cost=LEARNED * float(S @ S) / 2)
    end = LONGER * gradient_flow(cost, small[-1], (0.0, math.inf), until=goal).t[-1]
    whole, *reduced = (_followed(cost, layers, end) for layers in (start, *small))
    exact, size = half_times(whole, S), float(np.linalg.norm(S))
    gaps = [np.linalg.norm(run.end_to_end - whole.end_to_end, axis=(1, 2)) / size for run in reduced]
    times = [np.abs(half_times(run, S) / exact - 1).max() for run in reduced]
    return np.array(
        [(gap.max(), np.sqrt(np.mean(gap**2)), time) for gap, time in zip(gaps, times, strict=True)]
    )


def _followed(cost: FullyObserved, layers: list[Array], end: float) -> Trajectory:
    times = np.linspace(0.0, end, SAMPLES)
    return gradient_flow(
        cost, layers, (0.0, end), form="weights", method="dop853", rtol=RTOL, t_eval=times, keep_weights=False
    )


def _at_infinity(case: Case) -> Array:
    """The error of the times by order at infinite width, where a mode moves alone."""
    errors = np.empty((len(S), len(case.orders)))
    for j, s in enumerate(S):
        times = np.array([_mode_half(case, float(s), order) for order in (*case.orders, case.orders[-1] + 3)])
        errors[j] = np.abs(times[:-1] / times[-1] - 1)
    return errors.max(axis=0)


def _mode_half(case: Case, s: float, order: int) -> float:
    widths = (1, *[math.inf] * (case.depth - 1), 1)
    layers = inits.reduced_gaussian(widths, order=order, rho=case.rho)
    cost, goal = FullyObserved([[s]]), Until(cost=0.01 * s**2)
    run = gradient_flow(cost, layers, (0.0, math.inf), form="weights", rtol=RTOL, until=goal)
    return float(half_times(run, np.array([s]))[0])


def _rows(case: Case, found: Array) -> list[dict[str, Any]]:
    mean, limit = _geometric(found), _at_infinity(case)
    start = (case.depth, case.width, case.rho, case.seeds)
    rows: list[Mapping[str, Any]] = []
    for order in case.orders:
        dims = "-".join(str(n) for n in _dims(case.depth, order))
        pairs = [float(x) for pair in zip(mean[order], case.before[order], strict=True) for x in pair]
        rows.append(dict(zip(COLUMNS, (*start, order, dims, *pairs, float(limit[order])), strict=True)))
    return [dict(row) for row in rows]


def _dims(depth: int, order: int) -> list[int]:
    layers = inits.reduced_gaussian((len(S), *[math.inf] * (depth - 1), len(S)), order=order, rho=1.0)
    return [len(W) for W in layers[:-1]]


def _geometric(found: Array) -> Array:
    return np.asarray(np.exp(np.log(found).mean(axis=0)))


def _figure(errors: Mapping[Case, Array]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    marks = "osD^"
    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(7.0, 3.2), layout="constrained", sharey=True, sharex=True)
        for place, (case, found) in enumerate(errors.items()):
            shade = plotting.colour(place)
            for ax, column in zip(axes, (0, 2), strict=True):
                values, old = _geometric(found)[:, column], [row[column] for row in case.before]
                label = rf"$L={case.depth}$, $w={case.width}$, $\rho={case.rho:g}$"
                ax.semilogy(case.orders, values, marks[place] + "-", color=shade, ms=4, lw=1.2, label=label)
                ax.semilogy(case.orders, old, marks[place], color=shade, ms=8, mfc="none", mew=0.8)
            axes[1].semilogy(case.orders, _at_infinity(case), color=shade, lw=0.8, ls=":")
        axes[0].set(xlabel="Krylov order", ylabel="relative error", title=r"$\sup_t \|A_k - A\| / \|A^*\|$")
        axes[1].set(xlabel="Krylov order", title="half-times")
        axes[1].plot([], [], color="0.4", lw=0.8, ls=":", label="infinite width")
        axes[1].plot([], [], "o", color="0.4", ms=8, mfc="none", mew=0.8, ls="", label="found before")
        axes[1].legend(frameon=False, fontsize="x-small")
    return figure
