"""The front door of training: mini-batch SGD with weight decay, measured after every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .. import checks
from ..rank import Certificates
from ..rank.windows import sparing
from ..typing import RNG, Array, ArrayLike
from . import losses, optimizers
from .engines import Compiled, Plain, compiles
from .history import History
from .network import Network
from .run import Run
from .task import Task

__all__ = ["Schedule", "train"]

EPOCHS = 10**7  # at most
OPTIONS = (
    "every",
    "window",
    "first",
    "epsilon",
    "tolerance",
    "batch_norm_tolerance",
    "stop",
)  # of certificates

Schedule: TypeAlias = Callable[[int], float] | Mapping[int, float] | Sequence[float] | None


def train(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    weight_decay: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    decoupled: bool = False,
    optimizer: str = "sgd",
    schedule: Schedule = None,
    loss: str = "cross_entropy",
    sampling: str = "shuffle",
    test: tuple[ArrayLike, ArrayLike] | None = None,
    rng: RNG = None,
    certify: bool | Mapping[str, Any] = False,
    checkpoint: str | Path | None = None,
    every: int = 1,
    engine: str = "auto",
    progress: bool = False,
) -> History:
    r"""History of a training run, which moves the parameters of the net.

    A step is that of ``torch.optim.SGD``, for all parameters, with g the gradient of the mean loss of the batch:

    .. math:: V \leftarrow \beta V + g + \lambda W, \qquad W \leftarrow W - \eta V .

    Parameters
    ----------
    net : Network
        Is trained in place.
    X : array_like, shape (N, ...)
        Samples.
    y : array_like
        Labels (N,), or targets (N, q) for the squared loss.
    learning_rate : float
        eta > 0.
    batch_size : int
        B; an epoch has N // B steps, and what is left over is skipped.
    epochs : int
        Number of epochs.
    weight_decay : float
        lambda >= 0, for biases and batch norms too.
    momentum : float
        beta, 0 <= beta < 1; for Adam its first beta.
    nesterov : bool
        Step along g + lambda W + beta V instead.
    decoupled : bool
        Shrink the weights by 1 - eta lambda beside the step, instead of adding lambda W to the gradient (SGDW, AdamW).
    optimizer : str
        "sgd", or "adam", for which the rank bound does not hold.
    schedule : callable, mapping or sequence, optional
        Factors of the learning rate: a function of the epoch 0, 1, ..; or {epoch: factor from there on}, all of them
        multiplied; or one for each epoch.
    loss : str
        "cross_entropy" or "squared".
    sampling : str
        "shuffle": a new order every epoch; "cyclic": the same batches, in the order of the data; "replacement": every
        sample drawn independently.
    test : pair (X, y), optional
        Samples and labels for the test accuracy.
    rng : None, int, SeedSequence or Generator
        Source of the order. The start is the net's own.
    certify : bool or mapping
        Hold every step of SGD against what the theory proves of it (`dln.rank.Certificates`, to which a mapping gives
        options such as ``every`` and ``window``); a violation stops the run. Every step is watched by probes, windows
        are rare enough to cost some 3 % of the steps; in all it is 10 to 20 % of a compiled run at width 64.
    checkpoint : str or Path, optional
        File that the run is saved to after an epoch, every two seconds at most. Where it exists, the run goes on from
        it, to the same bits, certificates among them, as one that was never killed.
    every : int
        Epochs between two measurements; the start and the last epoch always have one. All losses, accuracies and
        singular values cost as much as some 100 steps of batches of 16, for width 64 and 1800 samples.
    engine : str
        "numpy"; "compiled", for stacks of dense layers; "auto", compiled wherever possible.
    progress : bool
        Show a progress bar.

    Returns
    -------
    History
        Also when the run diverges or is interrupted: then `success` is False, `message` says what to do, and the net
        and the history are those of the last whole epoch.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; before anything is computed.

    References
    ----------
    T. Galanti, Z. Siegel, A. Gupte, T. Poggio, arXiv 2206.05794, for what `ranks` measures.

    Examples
    --------
    >>> from dln.nonlinear import mlp, train
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> net = mlp((5, 16, 2), rng=0)
    >>> history = train(net, X, X[:, 0] > 0, learning_rate=0.1, batch_size=4, epochs=20, weight_decay=1e-3, rng=0)
    >>> history.success, history.ranks.shape, bool(history.train_accuracy[-1] > 0.95)
    (True, (21, 2), True)
    """
    if not isinstance(net, Network):
        raise TypeError(
            f"`net` must be a Network, got {type(net).__name__}. Make one with dln.nonlinear.mlp."
        )
    rule = losses.ALL[checks.one_of(loss, "loss", losses.ALL)]
    update = optimizers.ALL[checks.one_of(optimizer, "optimizer", optimizers.ALL)]
    rates = _rates(learning_rate, schedule, checks.integer(epochs, "epochs", least=1, most=EPOCHS))
    task = Task(net, rule, update(weight_decay, momentum, nesterov, decoupled), rates)
    task.take_data(X, y, test)
    task.take_order(sampling, batch_size, rng)
    live, options = _certificates(task, certify)
    run = Run(task, _engine(engine, net, rule), checks.integer(every, "every", least=1), live)
    if checkpoint is not None:
        run.keep_in(checks.path(checkpoint, "checkpoint"), options)
    return run.history(checks.flag(progress, "progress"))


def _rates(learning_rate: float, schedule: Schedule, epochs: int) -> Array:
    """Learning rate of each epoch."""
    rate = checks.positive(learning_rate, "learning_rate")
    if schedule is None:
        factors: Sequence[Any] = [1.0] * epochs
    elif isinstance(schedule, Mapping):
        starts = [checks.integer(start, "schedule", least=0) for start in schedule]
        factors = [
            math.prod(schedule[start] for start in starts if start <= epoch) for epoch in range(epochs)
        ]
    elif callable(schedule):
        factors = [schedule(epoch) for epoch in range(epochs)]
    elif isinstance(schedule, (Sequence, np.ndarray)) and len(schedule) == epochs:
        factors = schedule
    else:
        raise ValueError(
            f"`schedule` must be a function, a mapping or a factor for each of {epochs} epochs, got {schedule!r}. "
            "Give one of these."
        )
    return rate * np.array([checks.positive(f, f"schedule[{epoch}]") for epoch, f in enumerate(factors)])


def _engine(engine: str, net: Network, loss: losses.Loss) -> type[Plain]:
    able = compiles(net, loss)
    known = {"auto": Compiled if able else Plain, "numpy": Plain, "compiled": Compiled}
    chosen = known[checks.one_of(engine, "engine", known)]
    if chosen is Compiled and not able:
        raise ValueError(
            f"`engine` must be 'numpy' for a net that is no stack of dense layers, got {engine!r}. Or leave it out."
        )
    return chosen


def _certificates(task: Task, certify: bool | Mapping[str, Any]) -> tuple[Certificates | None, Any]:
    """Live certificates and their options, if they are asked for and hold."""
    options = certify if isinstance(certify, Mapping) else {} if checks.flag(certify, "certify") else None
    if options is None:
        return None, None
    net, rule = task.net, task.optimizer
    if not isinstance(rule, optimizers.SGD) or (rule.nesterov and rule.decoupled):
        raise ValueError(
            f"`certify` must be False for {rule}, got {certify!r}. They are those of SGD with a heavy ball, "
            "Nesterov's momentum or decoupled decay."
        )
    for name in options:
        checks.one_of(name, "certify", OPTIONS)
    if not (x := task.rates.max() * rule.weight_decay) < 1:
        raise ValueError(
            f"`learning_rate` times `weight_decay` must be below 1 with certificates, got {x:g}. Lower one of them."
        )
    # "energy" is exact for a batch norm without epsilon alone, and else says nothing until it is asked more of.
    every, window = sparing([W.shape for W in net.weights], net.uses, task.size)
    usual = {"every": every, "window": min(window, task.steps), "batch_norm_tolerance": 1.0}
    if "every" not in options:  # a first one in the first epoch, so that no run is without
        usual["first"] = min(every, task.steps)
    chosen = {**usual, **options}
    live = Certificates(
        net.weights,
        patches=net.uses,
        batch_norm=net.batch_norm,
        momentum=rule.momentum,
        kind="nesterov" if rule.nesterov else "decoupled" if rule.decoupled else "heavy_ball",
        offsets=[p.start for p in net.matrices],
        **chosen,
    )
    return live, {name: float(value) for name, value in chosen.items()}
