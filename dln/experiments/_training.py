"""What the experiments on SGD share: data, many training runs at a time, and what is read off them."""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import checks
from ..data import Data, digits, teacher
from ..nonlinear import History, Network, mlp, train
from ..progress import bar
from ..typing import Array

__all__ = [
    "Case",
    "Run",
    "cells",
    "data",
    "network",
    "one_blas_thread",
    "options",
    "row",
    "settle",
    "spearman",
    "train_all",
]

WIDTH, HIDDEN = 64, 4  # as the network of the experiments has them
CLASSES = 10
DATA: dict[str, Callable[[], Data]] = {
    "digits": digits,
    "teacher": lambda: teacher(WIDTH, CLASSES, 1797, hidden=WIDTH, rank=8, rng=0),
}


def network(rng: Any, inputs: int = WIDTH) -> Network:
    """Four hidden layers of width 64, ReLU, ten outputs."""
    return mlp((inputs, *[WIDTH] * HIDDEN, CLASSES), rng=rng)


@dataclass(frozen=True)
class Case:
    """One training run: the start and the order of the samples follow from the seed."""

    batch_size: int
    learning_rate: float
    weight_decay: float
    epochs: int
    seed: int = 0
    momentum: float = 0.0
    schedule: Mapping[int, float] | None = None
    build: Callable[[Any], Network] = network
    name: str = ""
    every: int = 1  # epochs between measurements
    more: Mapping[str, Any] = field(default_factory=dict, compare=False)  # further arguments of `train`

    def train(self, samples: Data) -> History:
        """Its history; the samples take the shape that the network wants."""
        start, order = np.random.SeedSequence(self.seed).spawn(2)
        net = self.build(start)
        return train(
            net,
            samples.X.reshape(-1, *net.shape),
            samples.y,
            test=(samples.X_test.reshape(-1, *net.shape), samples.y_test),
            rng=order,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            epochs=self.epochs,
            momentum=self.momentum,
            schedule=self.schedule,
            every=self.every,
            **self.more,
        )


@dataclass(frozen=True)
class Run:
    """A case and what came of it; `collapsed` says that it diverged, or ended less than half way from chance to 1."""

    case: Case
    history: History
    collapsed: bool

    def ranks(self, epsilon: float, *, corrected: bool = False) -> Array:
        """Mean over all matrices but the last of the rank at epsilon and the Frobenius norm of W_T, (epochs + 1,)."""
        counts = self.history.rank(epsilon, "frobenius", corrected=corrected)
        return np.asarray(counts[:, :-1].mean(axis=1))

    def rank(self, epsilon: float, *, corrected: bool = False) -> float:
        """That of the end."""
        return float(self.ranks(epsilon, corrected=corrected)[-1])

    @property
    def tau(self) -> float:
        """Sum of learning rate times weight decay over all steps."""
        return float(self.history.tau[-1])


def options(parser: argparse.ArgumentParser, seeds: int) -> None:
    """Options that all of them have."""
    add = parser.add_argument
    add("--data", default="digits", choices=DATA, help="digits of scikit-learn, or made by a random teacher")
    add("--seeds", type=int, metavar="K", help=f"runs of every setting (default {seeds})")
    add("--seed", type=int, default=0, help="seed of the first (default 0)")
    add("--jobs", type=int, metavar="J", help="runs at a time (default: one for each processor)")
    add("--quick", action="store_true", help="few and short runs")


def settle(options: argparse.Namespace, full: Mapping[str, Any], quick: Mapping[str, Any]) -> None:
    """Put in the defaults of what was not given, and check what all of them have."""
    for name, usual in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    options.seeds = checks.integer(options.seeds, "--seeds", least=1)
    options.seed = checks.integer(options.seed, "--seed", least=0)
    options.jobs = checks.integer(
        os.cpu_count() or 1 if options.jobs is None else options.jobs, "--jobs", least=1
    )


def data(options: argparse.Namespace) -> Data:
    """The data that were asked for."""
    try:
        return DATA[options.data]()
    except ImportError as error:
        raise ValueError(f"{error}. Or take --data teacher.") from error


def train_all(cases: Sequence[Case], samples: Data, jobs: int, shown: bool) -> list[Run]:
    """All runs in the order of the cases; those that are finished when someone interrupts.

    The compiled steps and the singular values hold no lock of the interpreter, so threads do.
    """
    done: dict[int, Run] = {}
    with one_blas_thread(), bar(shown, "training", len(cases)) as report, ThreadPoolExecutor(jobs) as pool:
        # The longest first, so that none is left alone at the end.
        order = sorted(range(len(cases)), key=lambda i: -cases[i].epochs * cases[i].batch_size ** -0.5)
        waiting = {pool.submit(cases[i].train, samples): i for i in order}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    i, history = waiting.pop(future), future.result()
                    done[i] = Run(cases[i], history, _collapsed(history, samples.y))
                    report(len(done), f"{len(done)} of {len(cases)} runs")
        except KeyboardInterrupt:
            if not done:
                raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [done[i] for i in sorted(done)]


def one_blas_thread() -> AbstractContextManager[Any]:
    """One BLAS thread for each run: faster where several share the processors, and the same to the last bit.

    By threadpoolctl, which comes with scikit-learn; without it BLAS goes by the environment.
    """
    try:
        return importlib.import_module("threadpoolctl").threadpool_limits(1)
    except ImportError:
        return nullcontext()


def _collapsed(history: History, y: Any) -> bool:
    chance = np.bincount(y).max() / len(y)
    return not history.success or bool(history.train_accuracy[-1] < (1 + chance) / 2)


def cells(runs: Iterable[Run], key: Callable[[Case], Any]) -> dict[Any, list[Run]]:
    """Runs that agree in everything but the seed, in the order of their keys."""
    keyed = sorted(((key(run.case), run) for run in runs), key=lambda pair: pair[0])
    return {name: [run for _, run in group] for name, group in itertools.groupby(keyed, lambda pair: pair[0])}


def row(runs: Sequence[Run], epsilons: Sequence[float]) -> dict[str, Any]:
    """Means over the runs of a cell that did not collapse, of ranks and accuracies; and how many did.

    The spread is the largest less the smallest rank at the first epsilon.
    """
    kept = [run for run in runs if not run.collapsed]
    columns: dict[str, Any] = {"tau": _mean(run.tau for run in kept or runs)}
    for eps in epsilons:
        ranks = [run.rank(eps) for run in kept]
        columns[f"rank {eps:g}"] = _mean(ranks)
        if eps == epsilons[0]:
            columns["spread"] = float(np.ptp(ranks)) if ranks else np.nan
        columns[f"corrected {eps:g}"] = _mean(run.rank(eps, corrected=True) for run in kept)
    columns["train"] = _mean(float(run.history.train_accuracy[-1]) for run in kept)
    columns["test"] = _mean(float(run.history.test_accuracy[-1]) for run in kept)
    return columns | {"runs": len(runs), "collapsed": len(runs) - len(kept)}


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else np.nan


def spearman(x: Array, y: Array) -> float:
    """Rank correlation; NaN where one of the two does not vary."""
    from scipy.stats import rankdata

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
