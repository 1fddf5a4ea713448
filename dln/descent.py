"""The front doors of discrete time: gradient descent and mini-batch SGD, with momentum and weight decay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import checks
from . import form as forms_
from .network import finite_product
from .problem import Problem
from .progress import bar
from .trajectory import KEEP_BYTES, Trajectory
from .typing import RNG, Array, Layers

__all__ = ["gradient_descent", "sgd"]

LOOK_SECONDS = 0.1
TRUNCATION = 1e-8  # relative error that a truncated form may have
LARGEST = 2**40  # bytes of saved end-to-end matrices

MESSAGES = {
    "finished": "All {steps} steps are done.",
    "not_finite": "The weights overflowed after {done} steps. Take a smaller learning_rate.",
    "interrupted": "Interrupted after {done} of {steps} steps; what was reached is here. Run on from the last weights.",
}


def gradient_descent(
    cost: Any,
    weights: Layers,
    learning_rate: float,
    steps: int,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    form: str = "auto",
    every: int = 1,
    keep_weights: bool | None = None,
    progress: bool = False,
) -> Trajectory:
    r"""Trajectory of gradient descent, with heavy ball and weight decay as in ``torch.optim.SGD``.

    .. math:: V \leftarrow \beta V + \partial_W C + \lambda W, \qquad W \leftarrow W - \eta V .

    Parameters
    ----------
    cost : Cost
        A cost from `dln.costs`.
    weights : sequence of array_like
        Layers [W_1, .., W_L] at the start.
    learning_rate : float
        eta > 0.
    steps : int
        Number of steps, at least 1.
    momentum : float
        beta, 0 <= beta < 1.
    weight_decay : float
        lambda >= 0.
    form : str
        "weights", "gram" (two layers), "subspace" (three or more), or "auto": as in `gradient_flow`, where a truncated
        form may err by 1e-8 of the largest norm of A.
    every : int
        Step 0 and every `every`-th step are saved: ``steps // every + 1`` times.
    keep_weights : bool, optional
        Whether the layers at the saved steps are kept; by default where that takes at most 512 MB.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Trajectory
        Its times are ``learning_rate * step``. Also when the run diverges: then `success` is False.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; before anything is computed.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[1.0]])
    >>> run = dln.gradient_descent(cost, [[[0.5]], [[0.5]]], learning_rate=0.1, steps=200)
    >>> len(run.t), bool(abs(run.end_to_end[-1, 0, 0] - 1.0) < 1e-12)
    (201, True)
    """
    problem = Problem.checked(cost, weights, weight_decay)
    run = _Descent(problem, learning_rate, steps, momentum, every, keep_weights)
    progress = checks.flag(progress, "progress")
    return run.in_form(form, lambda net: net.trajectory("gradient_descent", None, 0, progress))


def sgd(
    cost: Any,
    weights: Layers,
    learning_rate: float,
    steps: int,
    *,
    batch_size: int,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    sampling: str = "replacement",
    rng: RNG = None,
    form: str = "auto",
    every: int = 1,
    keep_weights: bool | None = None,
    progress: bool = False,
) -> Trajectory:
    r"""Trajectory of mini-batch stochastic gradient descent.

    Each step takes `batch_size` samples of the cost: entries of a target, observed entries, measurements, or columns of
    a data set. The batch gradient is scaled so that on average it is the gradient of the whole cost. Otherwise as
    `gradient_descent`.

    Parameters
    ----------
    cost, weights, learning_rate, steps, momentum, weight_decay, form, every, keep_weights, progress
        As in `gradient_descent`.
    batch_size : int
        Samples a step, from 1 to the number of samples of the cost.
    sampling : str
        "replacement": every sample is drawn independently. "shuffle": every epoch is a new random order of all samples,
        cut into batches; what is left over at its end is skipped.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Returns
    -------
    Trajectory
        The cost and objective along it are those of all samples.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or the cost has no samples.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.MatrixCompletion([[1.0, 2.0], [2.0, 4.0]], [[1, 1], [1, 0]])
    >>> start = dln.inits.gaussian((2, 3, 2), std=0.1, rng=0)
    >>> run = dln.sgd(cost, start, learning_rate=0.05, steps=2000, batch_size=1, rng=0, every=100)
    >>> len(run.t), bool(run.cost[-1] < 1e-6)
    (21, True)
    """
    problem = Problem.checked(cost, weights, weight_decay)
    if problem.cost.samples == 0:
        raise ValueError(
            f"`cost` must have samples to draw from, got {problem.cost!r}. Use gradient_descent."
        )
    size = checks.integer(batch_size, "batch_size", least=1)
    if size > problem.cost.samples:
        raise ValueError(
            f"`batch_size` must be at most the number of samples, {problem.cost.samples}, got {size}. Draw fewer."
        )
    draw = {"replacement": _with_replacement, "shuffle": _shuffled}
    drawn, random = draw[checks.one_of(sampling, "sampling", draw)], checks.generator(rng)
    run = _Descent(problem, learning_rate, steps, momentum, every, keep_weights)
    progress, before = checks.flag(progress, "progress"), random.bit_generator.state

    def go(net: _Descent) -> Trajectory:
        random.bit_generator.state = before  # every order of a truncated form sees the same samples
        return net.trajectory("sgd", drawn(random, problem.cost.samples, size), size, progress)

    return run.in_form(form, go)


# Drawn samples: a stream that is sent a number of steps and gives the samples of those steps.
Stream = Callable[[int], Array]


def _with_replacement(random: np.random.Generator, samples: int, size: int) -> Any:
    return lambda steps: random.integers(samples, size=steps * size)


def _shuffled(random: np.random.Generator, samples: int, size: int) -> Any:
    def batches() -> Iterator[Any]:
        while True:
            order = random.permutation(samples)
            yield from order[: samples // size * size].reshape(-1, size)

    endless = batches()
    return lambda steps: np.concatenate([next(endless) for _ in range(steps)])


class _Descent:
    """A checked run of descent."""

    def __init__(
        self,
        problem: Problem,
        learning_rate: Any,
        steps: Any,
        momentum: Any,
        every: Any,
        keep_weights: bool | None,
    ) -> None:
        self.problem = problem
        self.learning_rate = checks.positive(learning_rate, "learning_rate")
        self.steps = checks.integer(steps, "steps", least=1)
        self.momentum = checks.nonnegative(momentum, "momentum")
        if self.momentum >= 1.0:
            raise ValueError(
                f"`momentum` must be in [0, 1), got {self.momentum}. At 1 nothing is ever forgotten."
            )
        self.every = checks.integer(every, "every", least=1)
        if max(self.steps, self.every) >= 2**62:
            raise ValueError(
                f"`steps` must be below 2^62, and `every` too, got {self.steps} and {self.every}. No run ends then."
            )
        self.rows = self.steps // self.every + 1
        size = self.rows * problem.parameters * 8
        if self.rows * problem.widths[0] * problem.widths[-1] * 8 > LARGEST:
            raise ValueError(
                f"`steps` must leave room for {self.rows} saved matrices, got {self.steps}. Raise `every`."
            )
        self.keep = size <= KEEP_BYTES if keep_weights is None else checks.flag(keep_weights, "keep_weights")

    def in_form(self, form: Any, go: Callable[[_Descent], Trajectory]) -> Trajectory:
        """The run in the form asked for."""
        name = checks.one_of(form, "form", ("auto", "weights", *forms_.REDUCED))

        def run(net: Problem, /, **_: Any) -> Trajectory:
            return go(_Descent(net, self.learning_rate, self.steps, self.momentum, self.every, None))

        found = forms_.run_reduced(self.problem, name, TRUNCATION, run, self.keep)
        return go(self) if found is None else found

    def trajectory(self, method: str, stream: Stream | None, batch_size: int, progress: bool) -> Trajectory:
        """Run, a bounded number of steps at a time, and put together what came out."""
        from .backends.system import System, record
        from .core import descent as core

        problem = self.problem
        form = forms_.ALL["weights"]
        system = System.of(problem, form)
        y, widths = system.state.copy(), problem.widths
        with np.errstate(over="ignore", invalid="ignore"):
            _, A, measured_now, status = system.evaluate(y)
        out = np.empty((self.rows, len(y) if self.keep else len(A)))
        measured = np.empty(1 if self.keep else 3 * self.rows)
        out[0] = y if self.keep else A
        if not self.keep:
            measured[:3] = measured_now
        control = record(core.CONTROL)
        control["learning_rate"], control["momentum"] = self.learning_rate, self.momentum
        control["every"], control["batch_size"], control["saved"] = self.every, batch_size, 1
        arguments = (y, np.zeros_like(y), np.empty_like(y))
        no_samples, chunk = np.empty(0, np.int64), 100
        with bar(progress, "descent", self.steps) as report:
            while not status and (done := int(control["step"][0])) < self.steps:
                count, before = min(chunk, self.steps - done), time.perf_counter()
                drawn = no_samples if stream is None else stream(count)
                more = (drawn, out, measured, int(self.keep), control, count)
                code = system.call(core.compiled_descend(), *arguments, *more)
                if code != core.RUNNING:
                    status = code if isinstance(code, str) else "not_finite"
                seconds = max(time.perf_counter() - before, 1e-6)
                chunk = max(1, int(count * min(4.0, LOOK_SECONDS / seconds)))
                report(done, f"step {done}")
        status = status or "finished"
        saved, done = int(control["saved"][0]), int(control["step"][0])
        rows = _finite(problem, out[:saved], form if self.keep else None)
        if len(rows) < saved:
            status, saved = "not_finite", len(rows)
        layers = form.layers(rows, widths) if self.keep else None
        name = status.split(":")[0]
        if name in MESSAGES:
            message = MESSAGES[name].format(steps=self.steps, done=done)
        else:
            message = f"The cost's own code {status}. Mend it and run on from the last weights."
        return Trajectory(
            t=self.learning_rate * self.every * np.arange(saved, dtype=np.float64),
            end_to_end=finite_product(layers) if layers else rows.reshape(-1, widths[-1], widths[0]),
            weights=layers,
            start=problem.weights,
            cost_function=problem.cost,
            depth=problem.depth,
            weight_decay=problem.weight_decay,
            status=name,
            message=message,
            nfev=int(control["nfev"][0]),
            n_steps=done,
            method=method,
            state_size=len(y),
            stats={
                "learning_rate": self.learning_rate,
                "momentum": self.momentum,
                "batch_size": batch_size,
                "every": self.every,
            },
            measured=None if self.keep else measured[: 3 * saved].reshape(saved, 3).copy(),
        )


def _finite(problem: Problem, rows: Array, form: Any) -> Array:
    """The saved rows before the first whose A or cost overflows (form: of the layers; None: rows are A already)."""
    shape = (len(rows), problem.widths[-1], problem.widths[0])
    with np.errstate(over="ignore", invalid="ignore"):
        A = rows.reshape(shape) if form is None else finite_product(form.layers(rows, problem.widths))
        finite = np.isfinite(A).all(axis=(1, 2))
        count = len(rows) if finite.all() else int(np.argmin(finite))
        if count > 1 and problem.cost.arguments:  # a Custom cost is not asked: it may raise
            value = np.isfinite(problem.cost.raw_value(A[:count]))
            count = count if value.all() else int(np.argmin(value))
    return rows[: max(1, count)].copy()
