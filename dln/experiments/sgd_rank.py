"""The rank that SGD with weight decay leaves, against batch size, learning rate and weight decay (arXiv 2206.05794).

At equal epochs a smaller batch, a larger learning rate or a larger weight decay gives a smaller rank. All three act
through tau, the sum of learning rate times weight decay over the steps, by which the random start is forgotten: W_T =
D_T W_0 + U_T with D_T about exp(-tau). The rank of U_T, what training has made, says how much of the effect remains.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks, rank
from . import Outcome, _training
from ._training import WIDTH, Case, Run

TITLE = "rank under SGD with weight decay, against batch size, learning rate and weight decay"

EPSILONS = (1e-2, 1e-3)
DECAYS = [0.0, 5e-4, 1e-3, 2e-3, 4e-3]
FULL = {
    "batch_sizes": [4, 8, 16, 32, 64, 128], "learning_rates": [0.1], "weight_decays": DECAYS, "epochs": 150, "seeds": 3,
}  # fmt: skip
QUICK = {
    "batch_sizes": [8, 16, 32], "learning_rates": [0.1], "weight_decays": [0.0, 5e-3, 1e-2], "epochs": 25, "seeds": 1,
}  # fmt: skip
ALL_RATES = {"learning_rates": [0.05, 0.1, 0.2], "seeds": 2}
SAME = 0.1  # runs whose tau differ by less than this share are compared
LOW, HIGH = 25, 58  # of the rank at the larger epsilon, for test accuracies


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 4 8 16 32 64 128)")
    add("--learning-rates", type=float, nargs="+", metavar="ETA", help="(default 0.1)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0 5e-4 1e-3 2e-3 4e-3)")
    add("--epochs", type=int, help="of every run (default 150)")
    add("--full", action="store_true", help="learning rates 0.05 0.1 0.2, 2 seeds: 180 runs")
    _training.options(parser, seeds=3)


def run(options: argparse.Namespace) -> Outcome:
    """The grid as a table, heat maps, and the collapse of all runs on tau."""
    _training.settle(options, FULL | (ALL_RATES if options.full else {}), QUICK)
    sizes = sorted({checks.integer(B, "--batch-sizes", least=1) for B in options.batch_sizes})
    rates = sorted({checks.positive(lr, "--learning-rates") for lr in options.learning_rates})
    decays = sorted({checks.nonnegative(wd, "--weight-decays") for wd in options.weight_decays})
    epochs = checks.integer(options.epochs, "--epochs", least=1)
    seeds = range(options.seed, options.seed + options.seeds)
    samples = _training.data(options)
    cases = [
        Case(B, lr, wd, epochs, seed, every=epochs)
        for lr, B, wd, seed in itertools.product(rates, sizes, decays, seeds)
    ]
    runs = _training.train_all(cases, samples, options.jobs, options.progress)
    cells = _training.cells(runs, lambda case: (case.learning_rate, case.batch_size, case.weight_decay))
    rows = [
        {"eta": lr, "B": B, "lambda": wd} | _training.row(cell, EPSILONS)
        for (lr, B, wd), cell in cells.items()
    ]
    return Outcome(
        title=f"{options.data}, 4 hidden layers of width {WIDTH}, {epochs} epochs, {len(seeds)} seeds",
        columns=list(rows[0]),
        rows=rows,
        notes=_notes(runs, rows, len(cases)),
        parameters={
            "data": options.data, "batch_sizes": sizes, "learning_rates": rates, "weight_decays": decays,
            "epochs": epochs, "seed": options.seed, "seeds": len(seeds), "runs": len(runs),
            "equal tau": _equal_tau(runs),
            "start rank": {f"{eps:g}": float(runs[0].ranks(eps)[0]) for eps in EPSILONS},
        },
        success=len(runs) == len(cases),
        figures={"sgd-rank": _figure(runs, rows)},
    )  # fmt: skip


def _equal_tau(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Mean and standard deviation of the rank over runs of nearly the same tau and different batch sizes."""
    left = sorted((run for run in runs if run.tau > 0 and not run.collapsed), key=lambda run: run.tau)
    groups = []
    while left:
        group = [run for run in left if run.tau <= (1 + SAME) * left[0].tau]
        left = left[len(group) :]
        ranks = [run.rank(EPSILONS[0]) for run in group]
        sizes = sorted({run.case.batch_size for run in group})
        if len(sizes) > 1:
            tau = float(np.mean([run.tau for run in group]))
            groups.append(
                {"tau": tau, "rank": float(np.mean(ranks)), "deviation": float(np.std(ranks)), "runs": len(group),
                 "B": [sizes[0], sizes[-1]]}
            )  # fmt: skip
    return groups


def _notes(runs: Sequence[Run], rows: Sequence[dict[str, Any]], asked: int) -> list[str]:
    eps = EPSILONS[0]
    good, groups = [run for run in runs if not run.collapsed], _equal_tau(runs)
    ranks = np.array([run.rank(eps) for run in good])
    tau = np.array([run.tau for run in good])
    test = np.array([run.history.test_accuracy[-1] for run in good])
    notes = [
        "rank eps: mean over the hidden matrices of #{s_i > eps ||W||_F}; corrected: that of U_T = W_T - D_T W_0, "
        "by the same norm; spread: largest less smallest rank over the seeds; tau = eta lambda steps.",
        *_without_decay(good),
        f"Spearman correlation of rank and tau over {len(good)} runs: {_training.spearman(ranks, tau):.3f}."
        + (" Runs of the same tau, but different batch sizes:" if groups else ""),
        *(
            f"  tau = {g['tau']:.3g}: {g['rank']:.4g} +- {g['deviation']:.2g} ({g['runs']} runs, "
            f"B = {g['B'][0]} to {g['B'][1]})"
            for g in groups
        ),
        *_flat(rows),
    ]
    low, high = test[ranks < LOW], test[ranks > HIGH]
    if len(low) and len(high):
        notes.append(
            f"Test accuracy where rank < {LOW}: {low.mean():.4f} (sd {low.std():.4f}, {len(low)} runs), where rank > "
            f"{HIGH}: {high.mean():.4f} (sd {high.std():.4f}, {len(high)}); Spearman(rank, test) "
            f"{_training.spearman(ranks, test):.2f}."
        )
    bounds = [_bound(row) for row in rows if row["lambda"] > 0]
    if bounds:
        notes.append(
            f"The bound on the rank (eps = {eps:g}) is {min(bounds) / WIDTH:.3g} to {max(bounds) / WIDTH:.3g} times "
            f"the width {WIDTH}: it says nothing here. `dln run sgd-bound` has a case in which it does."
        )
    if len(good) < len(runs):
        notes.append(
            f"{len(runs) - len(good)} of {len(runs)} runs collapsed (end less than half way from chance to all right, "
            "or overflow): left out."
        )
    if len(runs) < asked:
        notes.append(f"Interrupted: {len(runs)} of {asked} runs are done.")
    return notes


def _without_decay(good: Sequence[Run]) -> list[str]:
    undecayed = [run for run in good if run.case.weight_decay == 0]
    if not undecayed:
        return []
    ends = []
    for eps in EPSILONS:
        start, ranks = undecayed[0].ranks(eps)[0], [run.rank(eps) for run in undecayed]
        ends.append(f"{min(ranks):.4g} to {max(ranks):.4g} at eps = {eps:g} (start: {start:.4g})")
    return [f"Without weight decay, for every B and eta, the rank ends at {', '.join(ends)}: no bias."]


def _flat(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How far the rank and the corrected rank vary with the batch size, for each rate and decay."""
    notes, name = [], f"{EPSILONS[-1]:g}"
    settings = sorted({(row["eta"], row["lambda"]) for row in rows})
    for lr, wd in settings:
        mine = [
            row for row in rows if (row["eta"], row["lambda"]) == (lr, wd) and row["runs"] > row["collapsed"]
        ]
        if len(mine) > 1:
            ends = [
                f"{min(row[f'{kind} {name}'] for row in mine):.4g} to {max(row[f'{kind} {name}'] for row in mine):.4g}"
                for kind in ("rank", "corrected")
            ]
            notes.append(
                f"eta = {lr:g}, lambda = {wd:g}: over B = {mine[0]['B']} to {mine[-1]['B']} the rank at {name} is "
                f"{ends[0]}, the corrected one {ends[1]}."
            )
    return notes


def _bound(row: dict[str, Any]) -> float:
    return float(rank.bound(row["B"], row["eta"], row["lambda"], EPSILONS[0]))


def _figure(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    rates = sorted({row["eta"] for row in rows})
    good = [run for run in runs if not run.collapsed]
    with mpl.rc_context(plotting.STYLE):
        columns = (len(rates) + 4) // 2
        figure, grid = plt.subplots(2, columns, figsize=(4.2 * columns, 7.6), layout="constrained")
        axes = grid.ravel()[: len(rates) + 3]
        for spare in grid.ravel()[len(axes) :]:
            spare.remove()
        for ax, lr in zip(axes, rates, strict=False):
            mine = [row for row in rows if row["eta"] == lr]
            cells = {(row["B"], row["lambda"]): row[f"rank {EPSILONS[0]:g}"] for row in mine}
            bounds = {(row["B"], row["lambda"]): _bound(row) / WIDTH for row in mine if row["lambda"] > 0}
            plotting.plot_rank_map(cells, ax, most=WIDTH, contours=bounds)
            ax.set_title(rf"rank at {EPSILONS[0]:g}, $\eta$ = {lr:g}; lines: bound / width")
        for ax, corrected in zip(axes[-3:-1], (False, True), strict=True):
            ranks = {
                B: [(run.tau, run.rank(EPSILONS[corrected], corrected=corrected)) for run in good
                    if run.case.batch_size == B]
                for B in sorted({run.case.batch_size for run in good})
            }  # fmt: skip
            plotting.plot_by_batch_size(ranks, ax, most=WIDTH)
            ax.set_title(
                f"rank of what training has made, at {EPSILONS[1]:g}"
                if corrected
                else f"rank at {EPSILONS[0]:g}; dotted: without decay"
            )
        sizes = sorted({run.case.batch_size for run in good})
        for place, B in enumerate(sizes):
            same = [run for run in good if run.case.batch_size == B]
            tests = [run.history.test_accuracy[-1] for run in same]
            axes[-1].plot([run.rank(EPSILONS[0]) for run in same], tests, "o", ms=4, mew=0, alpha=0.8,
                          color=plotting.graded(place, len(sizes)))  # fmt: skip
        axes[-1].set(xlabel=f"mean rank at {EPSILONS[0]:g}", ylabel="test accuracy", xlim=(0, 1.03 * WIDTH))
        axes[-1].set_title("generalisation")
    return figure
