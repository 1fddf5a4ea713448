r"""One-way jumps: SGD with weight decay leaves minima of higher rank for those of lower rank, and never returns.

A noisy matrix of low rank, seen at some entries. From depth 3 on the regularised loss has minima of several ranks,
and gradient descent stays in whichever it starts. SGD on single entries jumps, but only downwards (Z. Wang, A. Jacot,
arXiv 2305.16038): a mode that noise has pushed below its barrier :math:`(\lambda/s_1(G))^{1/(L-2)}` per layer dies out
like :math:`e^{-\lambda t}`, and no draw of entries can raise it any more: its gradient is of order L - 1 in its size.
At depth 2 there is no barrier: the minima of lower rank are saddles of the whole network, and every run goes up.

Every run starts at the lowest minimum of its rank, with a new mode along the top singular pair of G whose layers have
--kick times the size of the barrier, and noise a tenth of it. The basin of an iterate is the rank of the minimum to
which the gradient flow leads. Learning rates are in units of the stability limit of a single entry,
2 / (M max_ij Theta_ij,ij), M the number of observed entries and Theta the tangent kernel at the minima.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, inits, network, progress, schatten
from ..descent import gradient_descent, sgd
from ..flow import gradient_flow
from ..problem import Until
from ..schatten import Minimum
from ..symmetries import grow, include
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome, _completion

TITLE = "SGD with weight decay jumps to minima of lower rank and never back; gradient descent stays"

COLUMNS = (
    "depth", "method", "rate / limit", "runs", "down", "up", "stayed", "diverged", "decay times per jump",
    "jumps per step",
)  # fmt: skip
FULL: dict[str, Any] = {
    "depths": [2, 3, 4],
    "rates": [0.25, 0.5, 1.0, 2.0],
    "seeds": 8,
    "time": 300.0,
    "looks": 20,
}
QUICK: dict[str, Any] = {"depths": [2, 3], "rates": [0.5, 1.0], "seeds": 3, "time": 100.0, "looks": 10}
NOISE = 0.1  # of the start, over the kick
SHALLOW = 0.1  # what stands for the barrier at depth 2, which has none
FINE = 20  # saved points from one look to the next
TAIL = 2  # points at the end of a run that diverges which may be on their way
SETTLED, PRESENT = 1e-5, 1e-3  # gradient at which the flow has arrived; singular value that counts there


@dataclass(frozen=True)
class Cell:
    """A depth, a method, and its learning rate in units of the stability limit."""

    depth: int
    method: str
    rate: float


@dataclass(frozen=True)
class Run:
    """Ranks of the minimum at the start and of the basins at all looks; and the run itself."""

    ranks: list[int]
    trajectory: Trajectory
    every: int  # steps between looks
    forgetting: float  # learning rate times weight decay: decay times a step

    @property
    def jumps(self) -> list[tuple[int, int]]:
        """Ranks before and after each change of basin."""
        return [(r, q) for r, q in itertools.pairwise(self.ranks) if r != q]

    @property
    def waited(self) -> int:
        """Steps in basins from which there is a way down, each interval counted with its first look."""
        return self.every * sum(rank > 0 for rank in self.ranks[1:-1])


def jumps(runs: Sequence[Run]) -> tuple[int, int]:
    """Number of jumps to lower and to higher rank."""
    found = [jump for run in runs for jump in run.jumps]
    down = sum(r > q for r, q in found)
    return down, len(found) - down


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", metavar="L", help="(default 2 3 4)")
    add("--rates", type=float, nargs="+", metavar="R", help="rate / limit of SGD (default 0.25 0.5 1 2)")
    add("--weight-decay", type=float, default=0.7, metavar="LAMBDA", help="(default 0.7)")
    _completion.options(parser, size=6, singular_values=(2.2, 2.0, 1.8), observed=24, noise=0.3)
    add("--batch-size", type=int, default=1, metavar="B", help="entries a step, drawn at random (default 1)")
    add(
        "--kick",
        type=float,
        default=0.3,
        help="size of a new mode at the start, over the barrier (default 0.3)",
    )
    add("--time", type=float, metavar="T", help="length in decay times 1/(rate lambda) (default 300)")
    add("--looks", type=int, help="basins looked up in every run (default 20)")
    add("--seeds", type=int, help="number of random problems (default 8)")
    add("--seed", type=int, default=0, help="seed of the first (default 0)")
    add("--quick", action="store_true", help="depths 2 and 3, rates 0.5 and 1, 3 seeds, T = 100, 10 looks")


def run(options: argparse.Namespace) -> Outcome:
    """Runs from every minimum by both methods, their jumps, and the figure."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    depths = sorted({checks.integer(L, "--depths", least=2, most=checks.MOST) for L in options.depths})
    rates = sorted({checks.positive(rate, "--rates") for rate in options.rates})
    decay = checks.positive(options.weight_decay, "--weight-decay")
    first = checks.integer(options.seed, "--seed", least=0)
    seeds = range(first, first + checks.integer(options.seeds, "--seeds", least=1))
    cells = [
        Cell(L, *rest) for L in depths for rest in [("GD", max(rates)), *(("SGD", rate) for rate in rates)]
    ]
    runs: dict[Cell, list[Run]] = {cell: [] for cell in cells}
    with progress.bar(options.progress, "jumps", len(cells) * len(seeds)) as report:
        for done, (seed, cell) in enumerate(itertools.product(seeds, cells)):
            report(done, f"seed {seed}, depth {cell.depth}, {cell.method}, rate {cell.rate:g}")
            runs[cell] += _runs(_completion.problem(options, seed), cell, decay, options, seed)
    return Outcome(
        title=(
            f"{options.size} x {options.size} matrix, {options.observed} entries observed with noise "
            f"{options.noise:g}, lambda {decay:g}, batches of {options.batch_size}, {options.time:g} decay times"
        ),
        columns=COLUMNS,
        rows=[_row(cell, runs[cell]) for cell in cells],
        notes=_notes(runs),
        parameters={
            "size": options.size, "singular_values": options.singular_values, "observed": options.observed,
            "noise": options.noise, "weight_decay": decay, "batch_size": options.batch_size, "kick": options.kick,
            "time": options.time, "looks": options.looks, "seed": first, "seeds": len(seeds),
            "transitions": [
                {
                    "depth": cell.depth, "method": cell.method, "rate": cell.rate,
                    "runs from rank (row) to rank (column)": _matrix(runs[cell], _size(runs)).tolist(),
                }
                for cell in cells
            ],
        },
        figures={
            "one-way-jumps": _figure(runs),
            "one-way-jumps-transitions": _transitions(runs, depths),
        },
    )  # fmt: skip


def _runs(
    problem: _completion.Problem, cell: Cell, decay: float, options: argparse.Namespace, seed: int
) -> Iterator[Run]:
    """A run from the lowest minimum of every rank."""
    cost, looks = problem.cost, checks.integer(options.looks, "--looks", least=1)
    kick = checks.nonnegative(options.kick, "--kick")
    time = checks.positive(options.time, "--time")
    minima = _minima(cost, decay, cell.depth)
    learning_rate = cell.rate * _limit(problem, cell.depth, minima)
    every = math.ceil(time / (FINE * looks * learning_rate * decay))
    for minimum in minima:
        random = np.random.default_rng((seed, cell.depth, minimum.rank))
        start = _start(cost, minimum, cell.depth, decay, kick, random)
        arguments = (cost, start, learning_rate, FINE * looks * every)
        if cell.method == "GD":
            trajectory = gradient_descent(*arguments, weight_decay=decay, every=every)
        else:
            trajectory = sgd(
                *arguments, weight_decay=decay, every=every, batch_size=options.batch_size, rng=random
            )
        assert trajectory.weights is not None
        points = range(0, max(1, len(trajectory.t) - TAIL * (not trajectory.success)), FINE)
        ranks = [_basin(cost, [W[k] for W in trajectory.weights], decay) for k in points]
        yield Run([minimum.rank, *ranks], trajectory, FINE * every, learning_rate * decay)


def _minima(cost: Any, decay: float, depth: int) -> list[Minimum]:
    """The lowest minimum of every rank; at depth 2, of every hidden width up to the rank of the one minimum."""
    if depth > 2:
        lowest = {m.rank: m for m in reversed(schatten.solve(cost, decay, depth))}
        return [lowest[rank] for rank in sorted(lowest)]
    (best,) = schatten.solve(cost, decay, 2)
    return [*(schatten.solve(cost, decay, 2, width=rank)[0] for rank in range(1, best.rank)), best]


def _limit(problem: _completion.Problem, depth: int, minima: Sequence[Minimum]) -> float:
    """Learning rate up to which a step on any one observed entry is stable at the minima."""
    samples, largest = problem.mask.sum(), 0.0
    for minimum in minima:
        kernel = np.einsum("ijij->ij", network.ntk(inits.balanced(minimum.end_to_end, depth, rng=0)))
        largest = max(largest, float((problem.mask * kernel).max()))
    if largest == 0.0:
        raise ValueError(
            "`--weight-decay` must leave a minimum beside 0 at every depth, got one that leaves none. Lower it."
        )
    return 2 / (samples * largest)


def _start(
    cost: Any, minimum: Minimum, depth: int, decay: float, kick: float, random: np.random.Generator
) -> list[Array]:
    """Balanced layers of the minimum, a new neuron at a share of the barrier, and noise on all layers."""
    G = cost.gradient(minimum.end_to_end)
    slope = float(np.linalg.norm(G, 2))
    kick *= (decay / slope) ** (1 / (depth - 2)) if depth > 2 else SHALLOW
    (n_L, n_0), rank = G.shape, max(1, minimum.rank)
    layers = inits.balanced(minimum.end_to_end, depth, widths=[n_0, *[rank] * (depth - 1), n_L], rng=random)
    wide = include(grow(layers, G, kick) if kick > 0 else layers, min(n_L, n_0) + 1)
    noise = [random.normal(size=W.shape) for W in wide]
    return [W + NOISE * kick * E / np.linalg.norm(E, 2) for W, E in zip(wide, noise, strict=True)]


def _basin(cost: Any, weights: Sequence[Array], decay: float) -> int:
    """Rank of the minimum that the gradient flow leads to."""
    flow = gradient_flow(
        cost, weights, (0.0, math.inf), weight_decay=decay, rtol=1e-6, until=Until(gradient_norm=SETTLED)
    )
    if not (flow.success or flow.status == "stationary"):  # at 0 nothing moves
        raise RuntimeError(f"The flow to the minimum below an iterate did not arrive. {flow.message}")
    return int(np.sum(flow.singular_values[-1] > PRESENT))


def _matrix(runs: Sequence[Run], size: int) -> Array:
    """Number of runs from each rank (rows) to each rank (columns)."""
    counts = np.zeros((size, size), dtype=int)
    for run in runs:
        counts[run.ranks[0], run.ranks[-1]] += 1
    return counts


def _size(runs: dict[Cell, list[Run]]) -> int:
    return 1 + max(max(run.ranks) for several in runs.values() for run in several)


def _row(cell: Cell, runs: Sequence[Run]) -> dict[str, Any]:
    down, up = jumps(runs)
    values = (
        cell.depth, cell.method, cell.rate, len(runs), down, up,
        sum(not run.jumps for run in runs), sum(not run.trajectory.success for run in runs),
        _waited(runs) / down if down else math.inf,
        down / sum(run.waited for run in runs) if down else 0.0,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _waited(runs: Sequence[Run]) -> float:
    """Decay times in basins from which there is a way down."""
    return sum(run.waited * run.forgetting for run in runs)


def _notes(runs: dict[Cell, list[Run]]) -> list[str]:
    deep = [
        run for cell, several in runs.items() for run in several if cell.depth > 2 and cell.method == "SGD"
    ]
    notes = [
        "down, up: changes of the basin between looks, the minimum at the start counting as the first. Decay times per "
        "jump: time spent where there is a way down, in units of 1/(rate lambda), over the number of jumps down; "
        "not below the time between looks.",
        "diverged: runs that overflow; counted up to there. At depth 2 the starts of lower rank are saddles.",
    ]
    if deep:
        steps = sum(run.every * (len(run.ranks) - 2) for run in deep)
        notes.append(
            f"SGD at depth 3 and more: {jumps(deep)[0]} jumps down and {jumps(deep)[1]} up in {steps:.3g} steps of "
            f"{len(deep)} runs."
        )
    return notes


def _figure(runs: dict[Cell, list[Run]]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    noisy = {cell: several for cell, several in runs.items() if cell.method == "SGD" and cell.depth > 2}
    shown = [(cell, run) for cell, several in (noisy or runs).items() for run in several]
    cell, best = max(shown, key=lambda pair: (len(pair[1].jumps), sum(pair[1].ranks)))
    with mpl.rc_context(plotting.STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
        times = best.forgetting * best.every / FINE * np.arange(len(best.trajectory.t))
        for mode, s in enumerate(best.trajectory.singular_values.T):
            left.plot(times, s, color=plotting.colour(mode), lw=1.4)
        for time, rank in zip(times[::FINE], best.ranks[1:], strict=False):
            left.text(time, 1.0, str(rank), transform=left.get_xaxis_transform(), fontsize="x-small", ha="center",
                      va="bottom", color="0.3")  # fmt: skip
        left.set(xlabel=r"decay times $\eta \lambda k$", ylabel="singular values of A", ylim=(0, None))
        left.set_title(
            f"{cell.method}, depth {cell.depth}, rate {cell.rate:g}: rank of the basin above", pad=14
        )
        for place, depth in enumerate(sorted({cell.depth for cell in noisy})):
            groups = {cell.rate: group for cell, group in noisy.items() if cell.depth == depth}
            counts = {rate: (jumps(group)[0], _waited(group)) for rate, group in groups.items()}
            plotting.plot_rates(counts, right, depth=depth, shift=1.04**place)
        right.set(xlabel="learning rate / limit of a single entry", ylabel="jumps per decay time")
        up = sum(jumps(group)[1] for group in noisy.values())
        right.set_title(f"jumps down of SGD (bars: 95 %); up: {up}")
        plotting.plain_ticks(right.xaxis)
        if noisy:
            right.legend(frameon=False, fontsize="small")
    return figure


def _transitions(runs: dict[Cell, list[Run]], depths: Sequence[int]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    size = _size(runs)
    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(
            2, len(depths), figsize=(1.9 * len(depths) + 0.7, 4.4), layout="constrained", squeeze=False
        )
        for row, method in zip(axes, ("GD", "SGD"), strict=True):
            for ax, depth in zip(row, depths, strict=True):
                chosen = [
                    run for cell, group in runs.items() for run in group
                    if (cell.depth, cell.method) == (depth, method)
                ]  # fmt: skip
                plotting.plot_transitions(_matrix(chosen, size), ax)
                ax.set_title(f"{method}, depth {depth}", fontsize="medium")
        for ax in axes[-1]:
            ax.set_xlabel("rank at the end")
        for ax in axes[:, 0]:
            ax.set_ylabel("rank at the start")
    return figure
