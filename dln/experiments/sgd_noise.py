"""The noise of SGD that weight decay keeps alive, the settling of the norms, and the spectra by batch size.

A step is W_{t+1} - W_t = -eta (G_t + lambda W_t), and G_t has rank at most m B: so it is at least eta lambda times the
distance of W_t to the matrices of rank m B, and SGD comes to rest only at matrices of low rank. The theorem on the rank
asks that ||W_t|| settles; its ratio from epoch to epoch says how far that holds.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress, rank
from ..data import Data
from ..nonlinear import train
from ..typing import Array
from . import Outcome, _training
from ._training import HIDDEN

TITLE = (
    "noise of SGD with weight decay: steps and their lower bound, norm ratios, singular values by batch size"
)

LAST = 10  # epochs, for the means of the table
COLUMNS = (
    "B", "lambda", "tau", "||W||", "largest |ratio - 1|", "epoch / ||W||", "step / ||W||", "bound / step", "rank 0.01",
    "train", "test",
)  # fmt: skip
FULL = {"batch_sizes": [4, 16, 64], "weight_decays": [0.0, 1e-3, 4e-3], "epochs": 100}
QUICK = {"batch_sizes": [4, 32], "weight_decays": [0.0, 5e-3], "epochs": 12}


@dataclass(frozen=True)
class Course:
    """What was measured of a run after every epoch, for each hidden matrix: (epochs, layers), and its end.

    norm: ||W_e||; moved: ||W_{e+1} - W_e||; step: eta ||G + lambda W|| of one batch; least: its lower bound.
    """

    norm: Array
    moved: Array
    step: Array
    least: Array
    spectra: Array
    rank: float
    train: float
    test: float
    tau: float


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 4 16 64)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0 0.001 0.004)")
    add("--learning-rate", type=float, default=0.1, metavar="ETA", help="(default 0.1)")
    add("--epochs", type=int, help="of every run (default 100)")
    add(
        "--data",
        default="digits",
        choices=_training.DATA,
        help="digits of scikit-learn, or made by a random teacher",
    )
    add("--seed", type=int, default=0, help="seed of start and batches (default 0)")
    add("--quick", action="store_true", help="few and short runs")


def run(options: argparse.Namespace) -> Outcome:
    """Steps, norms and spectra of every run, and the figure."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    samples = _training.data(options)
    sizes = sorted(
        {checks.integer(B, "--batch-sizes", least=1, most=len(samples.X)) for B in options.batch_sizes}
    )
    decays = sorted({checks.nonnegative(wd, "--weight-decays") for wd in options.weight_decays})
    rate = checks.positive(options.learning_rate, "--learning-rate")
    epochs = checks.integer(options.epochs, "--epochs", least=2)
    seed = checks.integer(options.seed, "--seed", least=0)
    cells = list(itertools.product(sizes, decays))
    courses: dict[tuple[int, float], Course] = {}
    with _training.one_blas_thread(), progress.bar(options.progress, "runs", len(cells)) as report:
        for B, wd in cells:
            report(len(courses), f"B {B}, lambda {wd:g}")
            courses[B, wd] = _course(samples, B, rate, wd, epochs, seed)
    return Outcome(
        title=f"{options.data}, 4 hidden layers of width 64, eta = {rate:g}, {epochs} epochs",
        columns=COLUMNS,
        rows=[_row(*cell, course) for cell, course in courses.items()],
        notes=[
            f"Means over the hidden matrices and the last {LAST} epochs. ratio: ||W|| of one epoch over that of the "
            "next; epoch: ||W_{e+1} - W_e||; step: eta ||G + lambda W|| of one batch.",
            "bound: eta lambda times the distance of W to the matrices of rank B, which no step can be below: "
            f"the largest share of a step is {_largest_share(courses):.1%}. It is 0 where B reaches the width.",
            *(
                f"B = {B}, lambda = {wd:g} diverged in epoch {len(course.norm) + 1}. Take a smaller --learning-rate."
                for (B, wd), course in courses.items()
                if len(course.norm) < epochs
            ),
        ],
        parameters={
            "data": options.data, "batch_sizes": sizes, "weight_decays": decays, "learning_rate": rate,
            "epochs": epochs, "seed": seed,
        },
        success=all(len(course.norm) == epochs for course in courses.values()),
        figures={"sgd-noise": _figure(courses, sizes, decays)},
    )  # fmt: skip


def _course(samples: Data, batch_size: int, rate: float, wd: float, epochs: int, seed: int) -> Course:
    start, order, drawn = np.random.SeedSequence(seed).spawn(3)
    net, random = _training.network(start), np.random.default_rng(drawn)
    rows = []
    for epoch in order.spawn(epochs):
        before = [W.copy() for W in net.weights[:HIDDEN]]
        history = train(
            net, samples.X, samples.y, test=samples.test, learning_rate=rate, batch_size=batch_size, epochs=1,
            weight_decay=wd, rng=epoch,
        )  # fmt: skip
        if not history.success:
            break
        batch = random.choice(len(samples.X), batch_size, replace=False)
        gradients = net.loss_and_gradients(samples.X[batch], samples.y[batch], "cross_entropy")[1]
        pairs = list(zip(net.weights[:HIDDEN], before, gradients[:HIDDEN], strict=True))
        rows.append(
            [
                [np.linalg.norm(W) for W, _, _ in pairs],
                [np.linalg.norm(W - W_0) for W, W_0, _ in pairs],
                [rate * np.linalg.norm(G + wd * W) for W, _, G in pairs],
                [float(rank.least_step(W, rate, wd, batch_size)) for W, _, _ in pairs],
            ]
        )
    measured = np.array(rows).reshape(-1, 4, HIDDEN)
    return Course(
        norm=measured[:, 0],
        moved=measured[:, 1],
        step=measured[:, 2],
        least=measured[:, 3],
        spectra=np.mean(history.singular_values[:HIDDEN], axis=0)[-1],
        rank=float(history.rank(1e-2, "frobenius")[-1, :HIDDEN].mean()),
        train=float(history.train_accuracy[-1]),
        test=float(history.test_accuracy[-1]),
        tau=rate * wd * len(rows) * (len(samples.X) // batch_size),
    )


def _largest_share(courses: Mapping[tuple[int, float], Course]) -> float:
    return max(float(np.max(course.least / course.step, initial=0.0)) for course in courses.values())


def _row(batch_size: int, wd: float, course: Course) -> dict[str, Any]:
    if not len(course.norm):
        return dict.fromkeys(COLUMNS) | {"B": batch_size, "lambda": wd}
    norm, moved, step, least = (
        values[-LAST:] for values in (course.norm, course.moved, course.step, course.least)
    )
    ratio = np.abs(norm[:-1] / norm[1:] - 1)
    values = (
        batch_size, wd, course.tau, float(norm.mean()), float(ratio.max(initial=0.0)), float((moved / norm).mean()),
        float((step / norm).mean()), float((least / step).mean()), course.rank, course.train, course.test,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _figure(
    courses: Mapping[tuple[int, float], Course], sizes: Sequence[int], decays: Sequence[float]
) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    middle, largest = sizes[len(sizes) // 2], decays[-1]
    with mpl.rc_context(plotting.STYLE):
        figure, (left, centre, right) = plt.subplots(1, 3, figsize=(12.5, 3.8), layout="constrained")
        for place, wd in enumerate(decays):
            course, shade = courses[middle, wd], plotting.colour(place)
            at = np.arange(1, len(course.norm) + 1)
            left.plot(at[1:], (course.norm[:-1] / course.norm[1:]).mean(axis=1), lw=1.2, color=shade,
                      label=rf"$\lambda$ = {wd:g}")  # fmt: skip
            centre.semilogy(at, (course.step / course.norm).mean(axis=1), lw=1.0, color=shade)
            if wd > 0:
                centre.semilogy(at, (course.least / course.norm).mean(axis=1), lw=1.2, ls="--", color=shade)
        for place, B in enumerate(sizes):
            spectrum = courses[B, largest].spectra
            right.semilogy(np.arange(1, len(spectrum) + 1), spectrum / np.linalg.norm(spectrum), lw=1.4,
                           color=plotting.graded(place, len(sizes)), label=f"B = {B}")  # fmt: skip
        left.set(xlabel="epochs", ylabel=r"$\|W_e\| / \|W_{e+1}\|$", title=f"norm ratio, B = {middle}")
        centre.set(
            xlabel="epochs",
            ylabel=r"step / $\|W\|$",
            title=f"a step; dashed: what it is at least; B = {middle}",
        )
        right.set(xlabel="index", ylabel=r"singular values / $\|W\|_F$")
        right.set_title(rf"mean spectrum at the end, $\lambda$ = {largest:g}")
        left.legend(frameon=False, fontsize="small")
        right.legend(frameon=False, fontsize="small")
    return figure
