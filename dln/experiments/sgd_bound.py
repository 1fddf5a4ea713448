"""A network so wide that the bound on the rank says something: measured ranks beside it, step by step.

The bound m B log(2/eps) / x, x = eta lambda, is far above the width of usual networks. Here the hidden matrix is
1024 x 1024, batches are of 2 and x is 0.004, and it is below. Beside the bound, which holds once the norm of the
weights has settled, stands what the run itself certifies without any assumption: W_T is within (1 - x)^n ||W_{T-n}|| of
rank B n, for every earlier step T - n that was measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks, rank
from ..data import Data
from ..nonlinear import History, mlp
from ..rank.measures import tails
from ..typing import Array
from . import Outcome, _training
from ._training import CLASSES, WIDTH, Case

TITLE = "a wide network, for which the bound on the rank under SGD with weight decay is not vacuous"

FORMS = ("printed", "repaired", "sharp")
LAYER = 1  # the square matrix of a network with two hidden layers
FULL = {
    "width": 1024, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.04, "tau": 14.0, "samples": 500,
    "epsilons": [0.3, 0.5, 0.7], "seeds": 1,
}  # fmt: skip
QUICK = FULL | {"width": 256, "batch_size": 1, "weight_decay": 0.1, "tau": 10.0, "samples": 100}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--width", type=int, help="of the two hidden layers (default 1024)")
    add("--batch-size", type=int, metavar="B", help="(default 2)")
    add("--learning-rate", type=float, metavar="ETA", help="(default 0.1)")
    add("--weight-decay", type=float, metavar="LAMBDA", help="(default 0.04)")
    add("--tau", type=float, help="eta lambda steps, the length of the run (default 14)")
    add(
        "--samples",
        type=int,
        metavar="N",
        help="to train on; ranks are measured every N // B steps (default 500)",
    )
    add(
        "--epsilons",
        type=float,
        nargs="+",
        metavar="EPS",
        help="distances, shares of the norm (default 0.3 0.5 0.7)",
    )
    _training.options(parser, seeds=1)


def run(options: argparse.Namespace) -> Outcome:
    """Measured, certified and bounding ranks after every epoch, and the figure."""
    _training.settle(options, FULL, QUICK)
    width = checks.integer(options.width, "--width", least=1, most=checks.MOST)
    lr = checks.positive(options.learning_rate, "--learning-rate")
    wd = checks.positive(options.weight_decay, "--weight-decay")
    epsilons = sorted({checks.positive(eps, "--epsilons") for eps in options.epsilons})
    samples = _training.data(options)
    N = checks.integer(options.samples, "--samples", least=1, most=len(samples.X))
    B = checks.integer(options.batch_size, "--batch-size", least=1, most=N)
    bounds = {eps: {form: float(rank.bound(B, lr, wd, eps, form=form)) for form in FORMS} for eps in epsilons}
    part = Data(samples.X[:N], samples.y[:N], samples.X_test, samples.y_test)
    epochs = max(1, round(checks.positive(options.tau, "--tau") / (lr * wd) / (N // B)))
    cases = [
        Case(B, lr, wd, epochs, seed, build=lambda rng: mlp((WIDTH, width, width, CLASSES), rng=rng, dtype="float32"))
        for seed in range(options.seed, options.seed + options.seeds)
    ]  # fmt: skip
    runs = _training.train_all(cases, part, options.jobs, options.progress)
    tables = [_rows(run.case, run.history, epsilons) for run in runs]
    return Outcome(
        title=(
            f"{options.data}, {WIDTH}-{width}-{width}-{CLASSES} in float32, B = {B}, eta = {lr:g}, lambda = {wd:g}: "
            f"rank of the {width} x {width} matrix, seed {options.seed}"
        ),
        columns=list(tables[0][0]),
        rows=tables[0],
        notes=[
            "rank eps: least r with a matrix of rank r within eps ||W_T||_F of W_T; certified: the same by norms of "
            "earlier steps alone, - where none is old enough.",
            *(_compared(eps, bounds[eps], [table[-1][f"rank {eps:g}"] for table in tables], width) for eps in epsilons),
            *(f"Seed {run.case.seed}: {run.history.message}" for run in runs if not run.history.success),
        ],
        parameters={
            "data": options.data, "width": width, "batch_size": B, "learning_rate": lr, "weight_decay": wd,
            "samples": N, "epochs": epochs, "seed": options.seed, "seeds": len(runs),
            "bounds": {f"{eps:g}": bounds[eps] for eps in epsilons},
        },
        success=all(run.history.success for run in runs) and len(runs) == len(cases),
        figures={"sgd-bound": _figure(tables[0], bounds, width)},
    )  # fmt: skip


def _rows(case: Case, history: History, epsilons: Sequence[float]) -> list[dict[str, Any]]:
    """One row for the start and one for each epoch."""
    s = history.singular_values[LAYER]
    steps = history.steps // max(history.epochs, 1) * np.arange(history.epochs + 1)
    distances = tails(s, "frobenius")
    measured = {eps: np.sum(distances > eps * distances[:, :1], axis=1) for eps in epsilons}
    fine = history.rank()[:, LAYER]
    rows = []
    for epoch, step in enumerate(steps.tolist()):
        columns: dict[str, Any] = {"steps": step, "tau": float(history.tau[epoch])}
        for eps in epsilons:
            columns[f"rank {eps:g}"] = int(measured[eps][epoch])
            columns[f"certified {eps:g}"] = _certified(case, steps, history.norms[:, LAYER], epoch, eps)
        columns |= {
            "rank 0.001": int(fine[epoch]), "||W||": float(history.norms[epoch, LAYER]),
            "train": float(history.train_accuracy[epoch]), "test": float(history.test_accuracy[epoch]),
        }  # fmt: skip
        rows.append(columns)
    return rows


def _certified(case: Case, steps: Any, norms: Array, epoch: int, epsilon: float) -> int | None:
    """Least B n for which (1 - x)^n ||W_{T-n}|| <= epsilon ||W_T||, over the earlier steps that were measured."""
    n = steps[epoch] - steps[: epoch + 1]
    left = (1 - case.learning_rate * case.weight_decay) ** n * norms[: epoch + 1]
    enough = n[left <= epsilon * norms[epoch]]
    return case.batch_size * int(enough.min()) if len(enough) else None


def _compared(epsilon: float, bounds: dict[str, float], ends: Sequence[int], width: int) -> str:
    values = ", ".join(f"{form} {value:.4g}" for form, value in bounds.items())
    low = min(bounds.values())
    verdict = "vacuous" if low >= width else f"{low / width:.0%} of the width at best"
    return f"eps = {epsilon:g}: bound {values} ({verdict}); measured at the end: {', '.join(map(str, ends))}."


def _figure(rows: Sequence[dict[str, Any]], bounds: dict[float, dict[str, float]], width: int) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    steps = [row["steps"] for row in rows]
    with mpl.rc_context(plotting.STYLE):
        figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
        for place, (eps, forms) in enumerate(bounds.items()):
            shade = plotting.colour(place)
            ax.semilogy(
                steps,
                [row[f"rank {eps:g}"] for row in rows],
                "o-",
                ms=3,
                color=shade,
                label=rf"$\epsilon$ = {eps:g}",
            )
            certified = [
                (row["steps"], row[f"certified {eps:g}"]) for row in rows if row[f"certified {eps:g}"]
            ]
            ax.plot(*np.array(certified).reshape(-1, 2).T, "x", ms=4, color=shade)
            ax.axhline(forms["printed"], color=shade, lw=1.0, ls="--")
            ax.axhline(forms["sharp"], color=shade, lw=1.0, ls=":")
        ax.axhline(width, color="0.3", lw=0.8)
        for style, label in (
            ("k--", "bound, printed"),
            ("k:", "bound, sharp"),
            ("kx", "certified by the run"),
        ):
            ax.plot([], [], style, ms=4, lw=1.0, label=label)
        ax.plot([], [], color="0.3", lw=0.8, label=f"width {width}")
        ax.set(xlabel="steps", ylabel=r"rank within $\epsilon \|W\|_F$", ylim=(0.9, 2 * width))
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
