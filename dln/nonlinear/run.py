"""A run of training: what it is given, where it stands, what it has measured, how it is taken up again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..progress import bar
from ..typing import RNG, Array, ArrayLike
from . import batches, checkpoint
from .engines import Plain
from .history import History
from .losses import Loss
from .network import Network
from .optimizers import Optimizer

__all__ = ["Run"]

LOOK_SECONDS = 0.1  # between looks at the keyboard and the progress bar
SAVE_SECONDS = 2.0  # between checkpoints

MESSAGES = {
    "finished": "All {epochs} epochs are done.",
    "diverged": "The loss or the weights overflowed in epoch {epoch}; the net is as it was before it. "
    "Take a smaller learning_rate.",
    "interrupted": "Interrupted in epoch {epoch} of {epochs}; the net is as it was before it. "
    "Run again with the same checkpoint to go on.",
}


class Run:
    """Takes the steps of `train`, whose arguments fill it."""

    rates: Array  # learning rate of each epoch
    engine: Plain
    file: Path | None

    def __init__(self, net: Network, loss: Loss, optimizer: Optimizer) -> None:
        if not np.isfinite(net.theta).all():
            raise ValueError("`net` must have finite parameters, got some that are not. Start it anew.")
        self.net, self.optimizer, self.loss = net, optimizer, loss
        self.start = net.theta.copy()
        self.memory = np.zeros((optimizer.remembers, net.theta.size), dtype=net.dtype)
        self.forgotten = np.array(
            [1.0, 0.0]
        )  # what a start of 1 has become without gradients, and its velocity
        self.tau = np.zeros(1)
        self.rows: list[dict[str, Any]] = []  # what was measured, at the start and after every epoch
        self.saved = time.monotonic()

    # ------------------------------------------------------------------------------------------------------
    # What it is given
    # ------------------------------------------------------------------------------------------------------

    def take_data(self, X: ArrayLike, y: ArrayLike, test: Any) -> None:
        """Check samples and targets."""
        self.X, self.Y = self._pair(X, y, "X", "y")
        self.test = None
        if test is not None:
            if not isinstance(test, (tuple, list)) or len(test) != 2:
                raise TypeError(
                    f"`test` must be a pair (X, y), got {type(test).__name__}. Give samples and labels."
                )
            self.test = self._pair(*test, "test[0]", "test[1]")

    def _pair(self, X: ArrayLike, y: ArrayLike, *names: str) -> tuple[Any, Any]:
        samples = self.net.samples(X, names[0])
        targets = self.loss.targets(y, len(samples), self.net.outputs, names[1])
        return samples, targets.astype(self.net.dtype)

    def take_order(self, sampling: str, batch_size: int, rng: RNG) -> None:
        """Check which samples the steps take."""
        self.sampling = checks.one_of(sampling, "sampling", batches.ALL)
        self.size = checks.integer(batch_size, "batch_size", least=1)
        if self.size > len(self.X):
            raise ValueError(
                f"`batch_size` must be at most the number of samples, {len(self.X)}, got {self.size}. Take fewer."
            )
        # The order of every epoch follows from this one number, so that a run can be taken up at any of them.
        self.seed = int(checks.generator(rng).integers(2**63))
        self.seeded = rng is not None

    # ------------------------------------------------------------------------------------------------------
    # Epochs
    # ------------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.X) // self.size

    @property
    def done(self) -> int:
        """Epochs finished."""
        return len(self.rows) - 1

    def history(self, progress: bool) -> History:
        """Run the epochs that are left, and put together what was measured."""
        status = "finished"
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not self._resume():
                self.rows.append(self._measures())
            with bar(progress, "training", len(self.rates)) as report:
                while self.done < len(self.rates) and status == "finished":
                    before = self._state()
                    try:
                        status = self._epoch(report)
                    except KeyboardInterrupt:
                        status = "interrupted"
                    if status != "finished":
                        self._restore(before)
                    elif time.monotonic() > self.saved + SAVE_SECONDS:
                        self._save()
        self._save()
        return self._history(status)

    def _epoch(self, report: Callable[[float, str], None]) -> str:
        """One epoch and what is measured after it."""
        epoch = self.done
        rate = float(self.rates[epoch])
        for at, drawn in self._chunks(batches.ALL[self.sampling](len(self.X), self.size, self.seed, epoch)):
            if len(self.engine.run(drawn, rate, epoch * self.steps + at)) < len(drawn):
                return "diverged"
            report(epoch + (at + len(drawn)) / self.steps, self._text())
        if not np.isfinite(self.net.theta).all():
            return "diverged"
        self.forgotten = np.linalg.matrix_power(self.optimizer.forgetting(rate), self.steps) @ self.forgotten
        self.tau = self.tau + self.steps * rate * self.optimizer.weight_decay
        row = self._measures()
        if not np.isfinite(row["loss"]):
            return "diverged"
        self.rows.append(row)
        return "finished"

    def _chunks(self, order: Any) -> Iterator[tuple[int, Any]]:
        """The steps of an epoch in pieces of some `LOOK_SECONDS`."""
        at, count = 0, 16
        while at < len(order):
            before = time.perf_counter()
            yield at, order[at : at + count]
            at += count
            seconds = max(time.perf_counter() - before, 1e-6)
            count = max(1, int(count * min(8.0, LOOK_SECONDS / seconds)))

    def _measures(self) -> dict[str, Any]:
        net = self.net
        loss, train_accuracy = self._evaluate(self.X, self.Y)
        row = {
            "loss": loss,
            "train_accuracy": train_accuracy,
            "test_accuracy": self._evaluate(*self.test)[1] if self.test else np.nan,
            "norms": [np.linalg.norm(W.astype(np.float64)) for W in net.weights],
            "tau": self.tau[0],
            "retained": self.forgotten[0],
        }
        first = 0
        starts = {}
        for p in net.body.parameters:
            starts[id(p)] = self.start[first : first + p.size].reshape(p.shape)
            first += p.size
        for l, p in enumerate(net.matrices):
            W = p.value.astype(np.float64)
            row[f"values_{l}"] = np.linalg.svd(W, compute_uv=False)
            row[f"updates_{l}"] = np.linalg.svd(W - self.forgotten[0] * starts[id(p)], compute_uv=False)
        return row

    def _evaluate(self, X: Any, Y: Any) -> tuple[float, float]:
        """Loss and accuracy on all samples, in evaluation."""
        F = self.net.outputs_of(X)
        loss = float(self.loss.values(F, Y).mean(dtype=np.float64))
        classes = Y.shape[1] > 1 and bool(((Y == 0) | (Y == 1)).all() and (Y.sum(axis=1) == 1).all())
        return loss, float((F.argmax(axis=1) == Y.argmax(axis=1)).mean()) if classes else np.nan

    def _text(self) -> str:
        """The progress bar's line."""
        row = self.rows[-1]
        ranks = " ".join(
            str((row[f"values_{l}"] > 1e-3 * row[f"values_{l}"][0]).sum()) for l in range(len(row["norms"]))
        )
        return (
            f"epoch {self.done} of {len(self.rates)}  loss {row['loss']:.3g}  "
            f"accuracy {row['train_accuracy']:.3f}  ranks {ranks}"
        )

    def _history(self, status: str) -> History:
        columns: dict[str, Any] = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        layers = range(len(self.net.matrices))
        return History(
            singular_values=tuple(columns.pop(f"values_{l}") for l in layers),
            update_singular_values=tuple(columns.pop(f"updates_{l}") for l in layers),
            learning_rates=self.rates[: self.done].copy(),
            steps=self.done * self.steps,
            status=status,
            message=MESSAGES[status].format(epoch=self.done + 1, epochs=len(self.rates)),
            **columns,
        )

    # ------------------------------------------------------------------------------------------------------
    # State and checkpoint
    # ------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        """All that the next epoch depends on, copied."""
        return {
            "theta": self.net.theta.copy(),
            "running": self.net.running.copy(),
            "memory": self.memory.copy(),
            "forgotten": self.forgotten.copy(),
            "tau": self.tau.copy(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.net.theta[:], self.net.running[:], self.memory[:] = (
            state["theta"],
            state["running"],
            state["memory"],
        )
        self.forgotten, self.tau = state["forgotten"], state["tau"]

    def _settings(self) -> dict[str, Any]:
        """What makes this run the one that it is, but for the rates and the start, which may have gone on."""
        digest = hashlib.sha256()
        for values in (self.X, self.Y, *(self.test or ())):
            digest.update(values.tobytes())
        return {
            "net": repr(self.net),
            "optimizer": repr(self.optimizer),
            "loss": type(self.loss).__name__,
            "engine": type(self.engine).__name__,
            "sampling": self.sampling,
            "batch_size": self.size,
            "seed": self.seed if self.seeded else None,
            "data": digest.hexdigest(),
        }

    def _save(self) -> None:
        if self.file is not None:
            rows = {f"row_{name}": np.array([row[name] for row in self.rows]) for name in self.rows[0]}
            extra = {"start": self.start, "seed": np.array(self.seed), "rates": self.rates[: self.done]}
            checkpoint.save(self.file, self._settings(), {**self._state(), **rows, **extra})
            self.saved = time.monotonic()

    def _resume(self) -> bool:
        """Stand where the checkpoint stands, if there is one."""
        arrays = None if self.file is None else checkpoint.load(self.file, self._settings())
        if arrays is None:
            return False
        done = len(arrays["rates"])
        if done > len(self.rates) or not np.array_equal(arrays["rates"], self.rates[:done]):
            raise ValueError(
                f"`checkpoint` must belong to this run, got {str(self.file)!r} of {done} epochs with other learning "
                "rates. Give another name, or the same schedule and at least as many epochs."
            )
        if not any(np.array_equal(self.start, arrays[name]) for name in ("start", "theta")):
            raise ValueError(
                f"`checkpoint` must belong to this run, got {str(self.file)!r} of a net that started elsewhere. Give "
                "another name, or the same net."
            )
        self._restore(arrays)
        self.start, self.seed = arrays["start"], int(arrays["seed"])
        names = [name for name in arrays if name.startswith("row_")]
        self.rows = [{name[4:]: arrays[name][epoch] for name in names} for epoch in range(done + 1)]
        return True
