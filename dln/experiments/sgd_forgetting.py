"""What is left of the effect of the batch size when every run has forgotten as much of its start.

At equal epochs a small batch takes more steps, forgets more of W_0, and so has the lower rank. Here every batch size
takes as many steps of the same learning rate and weight decay, so that tau = eta lambda steps is the same for all, and
the rank is read twice from the same runs: at the epoch at which the smallest batch ends, and at the end.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..data import Data
from ..typing import Array
from . import Outcome, _training
from ._training import WIDTH, Case, Run

TITLE = "rank under SGD at equal epochs and at equal forgetting: what remains of the effect of the batch size"

EPSILONS = (1e-3, 1e-2)
FULL = {
    "batch_sizes": [2, 4, 16, 64, 256], "learning_rate": 0.05, "weight_decay": 0.01, "tau": 14.0, "seeds": 3,
}  # fmt: skip
QUICK = {"batch_sizes": [4, 16, 64], "learning_rate": 0.1, "weight_decay": 0.02, "tau": 6.0, "seeds": 1}
ROWS = 150  # of a run, about
SHOWN = 1e-2  # of the axis of tau


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 2 4 16 64 256)")
    add("--learning-rate", type=float, metavar="ETA", help="(default 0.05)")
    add("--weight-decay", type=float, metavar="LAMBDA", help="(default 0.01)")
    add("--tau", type=float, help="of every run (default 14)")
    _training.options(parser, seeds=3)


def run(options: argparse.Namespace) -> Outcome:
    """Ranks of every batch size under both protocols, and their course."""
    _training.settle(options, FULL, QUICK)
    lr = checks.positive(options.learning_rate, "--learning-rate")
    wd = checks.positive(options.weight_decay, "--weight-decay")
    tau = checks.positive(options.tau, "--tau")
    samples = _training.data(options)
    sizes = sorted(
        {checks.integer(B, "--batch-sizes", least=1, most=len(samples.X)) for B in options.batch_sizes}
    )
    seeds = range(options.seed, options.seed + options.seeds)
    epochs = {B: _epochs(B, samples, tau / (lr * wd)) for B in sizes}
    first = epochs[sizes[0]]
    cases = [
        Case(B, lr, wd, epochs[B], seed, every=_every(epochs[B], first))
        for B, seed in itertools.product(sizes, seeds)
    ]
    runs = _training.train_all(cases, samples, options.jobs, options.progress)
    cells = _training.cells(runs, lambda case: case.batch_size)
    rows = [_row(B, cell, first) for B, cell in cells.items()]
    return Outcome(
        title=f"{options.data}, 4 hidden layers of width {WIDTH}, eta = {lr:g}, lambda = {wd:g}, {len(seeds)} seeds",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            f"rank eps, corrected: as in sgd-rank, at tau = {tau:g}; same epochs: the rank at eps = {EPSILONS[0]:g} of "
            f"the same runs after {first} epochs, where B = {sizes[0]} ends.",
            *_verdict(rows),
            *([f"Interrupted: {len(runs)} of {len(cases)} runs are done."] if len(runs) < len(cases) else []),
        ],
        parameters={
            "data": options.data, "batch_sizes": sizes, "learning_rate": lr, "weight_decay": wd, "tau": tau,
            "seed": options.seed, "seeds": len(seeds),
        },
        success=len(runs) == len(cases),
        figures={"sgd-forgetting": _figure(cells)},
    )  # fmt: skip


def _epochs(batch_size: int, samples: Data, steps: float) -> int:
    """Whole epochs that are nearest to this many steps."""
    return max(1, round(steps / (len(samples.X) // batch_size)))


def _every(epochs: int, first: int) -> int:
    """Epochs between measurements: some `ROWS` rows, the epoch at which the smallest batch ends among them."""
    return max(k for k in range(1, first + 1) if first % k == 0 and k <= max(1, epochs // ROWS))


def _row(batch_size: int, cell: Sequence[Run], epochs: int) -> dict[str, Any]:
    steps = cell[0].history.steps
    kept = [run for run in cell if not run.collapsed]
    same = [run.ranks(EPSILONS[0])[np.searchsorted(run.history.measured[:-1], epochs)] for run in kept]
    early = {"B": batch_size, "steps": steps, "same epochs": float(np.mean(same)) if same else np.nan}
    return early | _training.row(cell, EPSILONS)


def _verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Both trends in words, by rank correlation with the batch size."""
    kept = [row for row in rows if row["runs"] > row["collapsed"]]
    sizes = np.array([row["B"] for row in kept], dtype=float)
    notes: list[str] = []
    if len(kept) < 2:
        return notes
    for where, name in (("equal epochs", "same epochs"), ("equal forgetting", f"rank {EPSILONS[0]:g}")):
        ranks = np.array([row[name] for row in kept])
        notes.append(
            f"At {where}: rank {', '.join(f'{rank:.4g}' for rank in ranks)} for B = "
            f"{', '.join(f'{B:g}' for B in sizes)}; Spearman(B, rank) = {_training.spearman(sizes, ranks):.2f}."
        )
    return notes


def _figure(cells: Mapping[int, Sequence[Run]]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    clocks: tuple[tuple[str, Callable[[Run], Array]], ...] = (
        ("epochs", lambda run: run.history.measured),
        (r"$\tau$, the sum of $\eta\lambda$ over the steps", lambda run: run.history.tau),
    )
    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained", sharey=True)
        for ax, (name, clock) in zip(axes, clocks, strict=True):
            curves = {
                B: list(zip(clock(cell[0])[1:], cell[0].ranks(EPSILONS[0])[1:], strict=True))
                for B, cell in cells.items()
            }
            plotting.plot_by_batch_size(curves, ax, most=WIDTH, style="-")
            ax.set(xlabel=name, ylabel=f"mean rank at {EPSILONS[0]:g}")
        axes[1].set_xlim(left=SHOWN * axes[1].get_xlim()[1])
        plotting.plain_ticks(axes[1].xaxis)
        axes[0].set_title("by epochs")
        axes[1].set_title("by forgetting")
    return figure
