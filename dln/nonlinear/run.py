"""A run of training: what it is given, where it stands, what it has measured, how it is taken up again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..progress import bar
from ..rank import Certificates, Violation
from ..typing import RNG, Array, ArrayLike
from . import batches, checkpoint, measure
from .engines import Plain
from .history import History
from .losses import Loss
from .network import Network
from .optimizers import SGD, Optimizer

__all__ = ["Run"]

LOOK_SECONDS = 0.1  # between looks at the keyboard and the progress bar
SAVE_SECONDS = 2.0  # between checkpoints

MESSAGES = {
    "finished": "All {epochs} epochs are done.",
    "diverged": "The loss or the weights overflowed in epoch {epoch}; the net is as it was before it. "
    "Take a smaller learning_rate.",
    "violated": "In epoch {epoch} {violation} The net is as it was before it.",
    "interrupted": "Interrupted in epoch {epoch} of {epochs}; the net is as it was before it. "
    "Run again with the same checkpoint to go on.",
}


class Run:
    """Takes the steps of `train`, whose arguments fill it."""

    rates: Array  # learning rate of each epoch
    engine: Plain
    measures: measure.Measures
    live: Certificates | None = None
    file: Path | None = None

    def __init__(self, net: Network, loss: Loss, optimizer: Optimizer) -> None:
        if not np.isfinite(net.theta).all():
            raise ValueError("`net` must have finite parameters, got some that are not. Start it anew.")
        self.net, self.optimizer, self.loss = net, optimizer, loss
        self.memory = np.zeros((optimizer.remembers, net.theta.size), dtype=net.dtype)
        self.forgotten = np.array(
            [1.0, 0.0]
        )  # what a start of 1 has become without gradients, and its velocity
        self.tau = np.zeros(1)
        self.rows: list[measure.Row] = []  # what was measured, at the start and after every epoch
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
        self.measures = measure.Measures(self.net, self.loss, (self.X, self.Y), self.test)

    def take_certificates(self, certify: bool | Mapping[str, Any]) -> None:
        """Begin the live certificates, if they are asked for and hold."""
        options = certify if isinstance(certify, Mapping) else {} if checks.flag(certify, "certify") else None
        if options is None:
            return
        if not isinstance(self.optimizer, SGD) or self.optimizer.nesterov or self.optimizer.decoupled:
            raise ValueError(
                f"`certify` must be False for {self.optimizer}, got {certify!r}. The certificates are those of "
                "SGD with coupled weight decay, with a heavy ball or without."
            )
        if self.file is not None:
            raise ValueError(
                "`certify` must be False with a checkpoint, got both. A certificate needs the whole run."
            )
        usual = {"every": min(500, self.steps), "window": min(2, self.steps), "batch_norm_tolerance": 1.0}
        self.live = Certificates(
            self.net.weights,
            patches=self.net.uses,
            batch_norm=self.net.batch_norm,
            momentum=self.optimizer.momentum,
            offsets=self.net.offsets,
            **{**usual, **options},
        )

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
        self.net.try_out(self.X[: self.size], self.Y[: self.size], self.loss)
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
        status, violation = "finished", None
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not self._resume():
                self.rows.append(self.measures.row(1.0, 0.0))
            with bar(progress, "training", len(self.rates)) as report:
                while self.done < len(self.rates) and status == "finished":
                    before = self._state()
                    try:
                        status = self._epoch(report)
                    except KeyboardInterrupt:
                        status = "interrupted"
                    except Violation as found:
                        status, violation = "violated", found
                    if status != "finished":
                        self._restore(before)
                    elif time.monotonic() > self.saved + SAVE_SECONDS:
                        self._save()
        self._save()
        return self._history(status, violation)

    def _epoch(self, report: Callable[[float, str], None]) -> str:
        """One epoch and what is measured after it."""
        epoch = self.done
        rate = float(self.rates[epoch])
        for at, drawn in self._chunks(batches.ALL[self.sampling](len(self.X), self.size, self.seed, epoch)):
            if not self._advance(drawn, rate, epoch * self.steps + at):
                return "diverged"
            report(epoch + (at + len(drawn)) / self.steps, self._text())
        self.forgotten = np.linalg.matrix_power(self.optimizer.forgetting(rate), self.steps) @ self.forgotten
        self.tau = self.tau + self.steps * rate * self.optimizer.weight_decay
        row = self.measures.row(self.forgotten[0], self.tau[0])
        if not np.isfinite(row["loss"]):
            return "diverged"
        self.rows.append(row)
        return "finished"

    def _advance(self, drawn: Any, rate: float, t: int) -> bool:
        """Take the steps of these batches; whether everything stayed finite."""
        if self.live is None:
            return len(self.engine.run(drawn, rate, t)) == len(drawn) and self._finite()
        velocity = self.memory[0] if self.optimizer.momentum else None
        for i, batch in enumerate(drawn):
            if not len(self.engine.run(batch[None], rate, t + i)) or not self._finite():
                return False
            self.live.step(
                self.net.theta,
                self.net.gradient,
                learning_rate=rate,
                weight_decay=self.optimizer.weight_decay,
                batch_size=self.size,
                velocity=velocity,
            )
        return True

    def _finite(self) -> bool:
        return bool(np.isfinite(self.net.theta).all())

    def _chunks(self, order: Any) -> Iterator[tuple[int, Any]]:
        """The steps of an epoch in pieces of some `LOOK_SECONDS`."""
        at, count = 0, 16
        while at < len(order):
            before = time.perf_counter()
            yield at, order[at : at + count]
            at += count
            seconds = max(time.perf_counter() - before, 1e-6)
            count = max(1, int(count * min(8.0, LOOK_SECONDS / seconds)))

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

    def _history(self, status: str, violation: Violation | None) -> History:
        columns = measure.columns(self.rows)
        layers = range(len(self.net.matrices))
        message = MESSAGES[status].format(epoch=self.done + 1, epochs=len(self.rates), violation=violation)
        return History(
            singular_values=tuple(columns.pop(f"values_{l}") for l in layers),
            update_singular_values=tuple(columns.pop(f"updates_{l}") for l in layers),
            learning_rates=self.rates[: self.done].copy(),
            steps=self.done * self.steps,
            status=status,
            message=message,
            certificates=self.live.slack if self.live else {},
            certificate_steps=self.live.at if self.live else {},
            violation=violation,
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
            rows = {f"row_{name}": column for name, column in measure.columns(self.rows).items()}
            extra = {
                "start": self.measures.start,
                "seed": np.array(self.seed),
                "rates": self.rates[: self.done],
            }
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
        if not any(np.array_equal(self.measures.start, arrays[name]) for name in ("start", "theta")):
            raise ValueError(
                f"`checkpoint` must belong to this run, got {str(self.file)!r} of a net that started elsewhere. Give "
                "another name, or the same net."
            )
        self._restore(arrays)
        self.measures.start, self.seed = arrays["start"], int(arrays["seed"])
        names = [name for name in arrays if name.startswith("row_")]
        self.rows = [{name[4:]: arrays[name][epoch] for name in names} for epoch in range(done + 1)]
        return True
