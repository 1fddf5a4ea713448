"""Momentum and schedules act on the rank through what they forget of the start.

Heavy ball of rate eta and momentum beta forgets as plain SGD of rate eta / (1 - beta) does; after the learning rate is
cut, little is forgotten, however many epochs follow. The exact factor D_T of W_T = D_T W_0 + U_T covers both: the
product of 1 - eta_t lambda, and with momentum the first entry of the product of the 2 x 2 matrices of its steps.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..rank.momentum import below_one
from . import Outcome, _training
from ._training import WIDTH, Case, Run

TITLE = "rank under SGD with momentum and with learning-rate schedules: what counts is what is forgotten"

EPSILON = 1e-3
PROTOCOLS = ("plain", "momentum", "slow", "schedule")
CUTS = (0.12, 0.2, 0.4)  # of the epochs: where the learning rate is cut
FULL = {
    "batch_sizes": [16, 32, 64], "weight_decays": [2e-3, 4e-3], "learning_rate": 0.2, "momentum": 0.9, "factor": 0.2,
    "epochs": 150, "seeds": 2,
}  # fmt: skip
QUICK = FULL | {"batch_sizes": [16], "weight_decays": [1e-2], "epochs": 30, "seeds": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 16 32 64)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0.002 0.004)")
    add("--learning-rate", type=float, metavar="ETA", help="of plain SGD (default 0.2)")
    add("--momentum", type=float, metavar="BETA", help="with a learning rate of ETA (1 - BETA) (default 0.9)")
    add(
        "--factor",
        type=float,
        metavar="F",
        help="the schedule's, at 12, 20 and 40 %% of the epochs (default 0.2)",
    )
    add("--epochs", type=int, help="of every run (default 150)")
    _training.options(parser, seeds=2)


def run(options: argparse.Namespace) -> Outcome:
    """Ranks of plain SGD, momentum, the small rate without it, and the schedule; their course by what is forgotten."""
    _training.settle(options, FULL, QUICK)
    sizes = sorted({checks.integer(B, "--batch-sizes", least=1) for B in options.batch_sizes})
    decays = sorted({checks.positive(wd, "--weight-decays") for wd in options.weight_decays})
    epochs = checks.integer(options.epochs, "--epochs", least=1)
    rules = _rules(
        checks.positive(options.learning_rate, "--learning-rate"), below_one(options.momentum),
        checks.positive(options.factor, "--factor"), epochs,
    )  # fmt: skip
    seeds = range(options.seed, options.seed + options.seeds)
    cases = [
        Case(B, weight_decay=wd, epochs=epochs, seed=seed, name=name, **rules[name])
        for B, wd, name, seed in itertools.product(sizes, decays, PROTOCOLS, seeds)
    ]
    samples = _training.data(options)
    runs = _training.train_all(cases, samples, options.jobs, options.progress)
    cells = _training.cells(
        runs, lambda case: (case.batch_size, case.weight_decay, PROTOCOLS.index(case.name))
    )
    rows = [_row(key, cell) for key, cell in cells.items()]
    return Outcome(
        title=f"{options.data}, 4 hidden layers of width {WIDTH}, {epochs} epochs, {len(seeds)} seeds",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            "-log D: of W_T = D_T W_0 + U_T, what the run has forgotten; tau = sum of eta lambda, which leaves out "
            "momentum; ranks as in sgd-rank. Beyond -log D = "
            f"{-np.log(EPSILON):.2g} nothing of the start counts at {EPSILON:g}: the rank is that of training alone.",
            f"slow: the learning rate of momentum without it. schedule: x {options.factor:g} at epochs "
            f"{', '.join(map(str, rules['schedule']['schedule']))}.",
            *_compared(rows),
            *([f"Interrupted: {len(runs)} of {len(cases)} runs are done."] if len(runs) < len(cases) else []),
        ],
        parameters={
            "data": options.data, "batch_sizes": sizes, "weight_decays": decays, "epochs": epochs,
            "learning_rate": options.learning_rate, "momentum": options.momentum, "factor": options.factor,
            "seed": options.seed, "seeds": len(seeds),
        },
        success=len(runs) == len(cases),
        figures={"sgd-momentum": _figure(cells)},
    )  # fmt: skip


def _rules(rate: float, momentum: float, factor: float, epochs: int) -> dict[str, dict[str, Any]]:
    """Arguments of each protocol."""
    slow = rate * (1 - momentum)
    cuts = {max(1, round(share * epochs)): factor for share in CUTS}
    return {
        "plain": {"learning_rate": rate},
        "momentum": {"learning_rate": slow, "momentum": momentum},
        "slow": {"learning_rate": slow},
        "schedule": {"learning_rate": rate, "schedule": cuts},
    }


def _row(key: tuple[int, float, int], cell: Sequence[Run]) -> dict[str, Any]:
    B, wd, protocol = key
    case, forgotten = cell[0].case, [_forgotten(run)[-1] for run in cell]
    early = {
        "B": B,
        "lambda": wd,
        "protocol": PROTOCOLS[protocol],
        "eta": case.learning_rate,
        "beta": case.momentum,
    }
    return early | {"-log D": float(np.mean(forgotten))} | _training.row(cell, [EPSILON])


def _forgotten(run: Run) -> Any:
    """-log |D_T| at the start and after every epoch."""
    return -np.log(np.abs(run.history.retained))


def _compared(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The largest differences of ranks that should agree, and that should not."""
    name, notes = f"rank {EPSILON:g}", []
    cells = {(row["B"], row["lambda"], row["protocol"]): row for row in rows}
    for other in PROTOCOLS[1:]:
        pairs = [
            (cells[B, wd, "plain"], row)
            for (B, wd, protocol), row in cells.items()
            if protocol == other and (B, wd, "plain") in cells
        ]
        if pairs:
            ranks = [mine[name] - plain[name] for plain, mine in pairs]
            shares = [mine["-log D"] / plain["-log D"] for plain, mine in pairs]
            notes.append(
                f"{other} forgets {min(shares):.3g} to {max(shares):.3g} of what plain SGD does (-log D); its rank at "
                f"{EPSILON:g} less that of plain SGD: {', '.join(f'{gap:+.4g}' for gap in ranks)}."
            )
    return notes


def _figure(cells: Mapping[tuple[int, float, int], Sequence[Run]]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    B, wd = sorted({key[:2] for key in cells})[0][0], max(key[1] for key in cells)
    with mpl.rc_context(plotting.STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained", sharey=True)
        for place, name in enumerate(PROTOCOLS):
            for run in cells.get((B, wd, place), ())[:1]:
                ranks = run.ranks(EPSILON)
                for ax, x in zip(axes, (np.arange(len(ranks)), _forgotten(run)), strict=True):
                    ax.plot(x, ranks, color=plotting.colour(place), lw=1.4, label=name)
        axes[0].set(xlabel="epochs", ylabel=f"mean rank at {EPSILON:g}", ylim=(0, 1.03 * WIDTH))
        axes[1].set(xlabel=r"forgotten, $-\log D_T$")
        axes[0].legend(frameon=False, fontsize="small")
        figure.suptitle(rf"B = {B}, $\lambda$ = {wd:g}", fontsize="medium")
    return figure
