"""The rank under SGD with weight decay in other layers: batch norm, residual blocks, convolutions.

What is forgotten of the start is the same in every architecture, W_T = D_T W_0 + U_T. What a batch can add is not: a
convolution uses its kernel m times for each sample, so a batch gradient has rank up to m B, and batch norm couples the
samples and makes the loss blind to the norm of the weights, so that decay raises the effective learning rate instead.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks, rank
from ..nonlinear import Network, conv, mlp, residual
from . import Outcome, _training
from ._training import CLASSES, HIDDEN, WIDTH, Case, Run

TITLE = "rank under SGD with weight decay in dense, batch-normalised, residual and convolutional networks"

EPSILON = 1e-2
SIDE = 8  # of an image of WIDTH pixels
NETWORKS: dict[str, Callable[[Any], Network]] = {
    "dense": _training.network,
    "batch norm": lambda rng: mlp((WIDTH, *[WIDTH] * HIDDEN, CLASSES), batch_norm=True, rng=rng),
    "residual": lambda rng: residual(WIDTH, WIDTH, 2, CLASSES, rng=rng),
    "convolution": lambda rng: conv((1, SIDE, SIDE), (32, 64, 64), CLASSES, rng=rng),
}
FULL = {
    "batch_sizes": [8, 32], "weight_decays": [0.0, 1e-3, 4e-3], "learning_rate": 0.1, "epochs": 100, "seeds": 1,
}  # fmt: skip
QUICK = FULL | {"batch_sizes": [32], "weight_decays": [0.0, 0.01], "epochs": 12}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NET",
        help=f"some of: {', '.join(NETWORKS)} (default all)")  # fmt: skip
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 8 32)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0 0.001 0.004)")
    add("--learning-rate", type=float, metavar="ETA", help="(default 0.1)")
    add("--epochs", type=int, help="of every run (default 100)")
    _training.options(parser, seeds=1)


def run(options: argparse.Namespace) -> Outcome:
    """Ranks of every network as shares of the full rank, and their collapse on tau."""
    _training.settle(options, FULL, QUICK)
    names = list(dict.fromkeys(options.networks))
    sizes = sorted({checks.integer(B, "--batch-sizes", least=1) for B in options.batch_sizes})
    decays = sorted({checks.nonnegative(wd, "--weight-decays") for wd in options.weight_decays})
    rate = checks.positive(options.learning_rate, "--learning-rate")
    epochs = checks.integer(options.epochs, "--epochs", least=1)
    seeds = range(options.seed, options.seed + options.seeds)
    samples = _training.data(options)
    cases = [
        Case(B, rate, wd, epochs, seed, build=NETWORKS[name], name=name)
        for name, B, wd, seed in itertools.product(names, sizes, decays, seeds)
    ]
    runs = _training.train_all(cases, samples, options.jobs, options.progress)
    cells = _training.cells(runs, lambda case: (names.index(case.name), case.batch_size, case.weight_decay))
    rows = [_row(cell) for cell in cells.values()]
    return Outcome(
        title=f"{options.data}, eta = {rate:g}, {epochs} epochs, {len(seeds)} seeds",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            f"rank, start, corrected: mean over all matrices but the last of the rank at {EPSILON:g} (Frobenius norm; "
            "kernels flattened) over the full rank min(rows, columns), of W_T, W_0 and U_T = W_T - D_T W_0.",
            "batch rank: what a batch gradient can have at most in each of these matrices, m B by the m uses of the "
            "matrix for a sample, one less under batch norm.",
            *_grown(rows),
            *([f"Interrupted: {len(runs)} of {len(cases)} runs are done."] if len(runs) < len(cases) else []),
        ],
        parameters={
            "data": options.data, "networks": names, "batch_sizes": sizes, "weight_decays": decays,
            "learning_rate": rate, "epochs": epochs, "seed": options.seed, "seeds": len(seeds),
        },
        success=len(runs) == len(cases),
        figures={"sgd-layers": _figure(cells, names)},
    )  # fmt: skip


def _share(run: Run, *, corrected: bool = False) -> Any:
    """Mean rank as a share of the full one, at the start and after every epoch."""
    full = np.array([s.shape[1] for s in run.history.singular_values[:-1]])
    return np.mean(run.history.rank(EPSILON, "frobenius", corrected=corrected)[:, :-1] / full, axis=1)


def _row(cell: Sequence[Run]) -> dict[str, Any]:
    case, kept = cell[0].case, [run for run in cell if not run.collapsed]
    net = case.build(0)
    most = [
        rank.gradient_bound(case.batch_size, uses, batch_norm=normed, shape=W.shape)
        for W, uses, normed in zip(net.weights[:-1], net.uses, net.batch_norm, strict=False)
    ]
    ends = np.array(
        [[_share(run)[-1], _share(run)[0], _share(run, corrected=True)[-1]] for run in kept or cell]
    )
    shares = ends.mean(axis=0) if kept else np.full(3, np.nan)
    norms = [np.mean(run.history.norms[-1, :-1] / run.history.norms[0, :-1]) for run in kept]
    same = _training.row(cell, [])
    return {
        "network": case.name, "B": case.batch_size, "lambda": case.weight_decay, "tau": same.pop("tau"),
        "batch rank": " ".join(map(str, most)), "rank": float(shares[0]), "start": float(shares[1]),
        "corrected": float(shares[2]), "norm / start": float(np.mean(norms)) if norms else np.nan,
    } | same  # fmt: skip


def _grown(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each network, the rank without decay and with the largest."""
    notes = []
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == name]
        ends = [
            ", ".join(f"{row['rank']:.2f}" for row in mine if row["lambda"] == wd)
            for wd in (min(row["lambda"] for row in mine), max(row["lambda"] for row in mine))
        ]
        notes.append(
            f"{name}: rank {ends[0]} at the smallest lambda, {ends[1]} at the largest (B ascending)."
        )
    return notes


def _figure(cells: Mapping[tuple[int, int, float], Sequence[Run]], names: Sequence[str]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained", sharey=True)
        labelled = set[int]()
        for (place, _, wd), cell in cells.items():
            for run in cell:
                if wd == 0 or run.collapsed:
                    continue
                for ax, corrected in zip(axes, (False, True), strict=True):
                    label = None if place in labelled else names[place]
                    ax.plot(run.history.tau[1:], _share(run, corrected=corrected)[1:], lw=1.1, alpha=0.8,
                            color=plotting.colour(place), label=label)  # fmt: skip
                labelled.add(place)
        for ax, title in zip(axes, ("W", "U, what training has made"), strict=True):
            ax.set(
                xscale="log",
                xlabel=r"$\tau$, the sum of $\eta\lambda$ over the steps",
                ylim=(0, 1.03),
                title=title,
            )
            plotting.plain_ticks(ax.xaxis)
        axes[0].set_ylabel(f"rank at {EPSILON:g} / full rank")
        if labelled:
            axes[0].legend(frameon=False, fontsize="small")
    return figure
