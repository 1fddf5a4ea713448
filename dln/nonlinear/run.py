"""A run of training: where it stands, what it has measured, how it is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import bar
from ..rank import Certificates, Violation
from ..rank.measures import counted
from . import checkpoint, measure
from .engines import Plain
from .history import History
from .task import Task

__all__ = ["Run"]

LOOK_SECONDS = 0.1  # between looks at the keyboard and the progress bar
SAVE_SECONDS = 2.0  # between checkpoints

MESSAGES = {
    "finished": "All {epochs} epochs are done.",
    "diverged": "The loss or the weights overflowed in epoch {epoch}; the net is as it was before it. "
    "Take a smaller learning_rate.",
    "violated": "In epoch {epoch} {violation} The net is as it was before it.",
    "interrupted": "Interrupted in epoch {epoch} of {epochs}; the net is as it was before it. "
    "A run with a checkpoint goes on from there.",
}


class Run:
    """Takes the steps of a task.

    Parameters
    ----------
    task : Task
    engine : type of engine
    live : Certificates or None
        Is shown every step.
    file : Path or None
        Where the run is saved.
    """

    def __init__(self, task: Task, engine: type[Plain], live: Certificates | None, file: Path | None) -> None:
        net = task.net
        self.task, self.net, self.live, self.file = task, net, live, file
        self.memory = np.zeros((task.optimizer.remembers, net.theta.size), dtype=net.dtype)
        self.engine = engine(net, *task.train, task.loss, task.optimizer, self.memory)
        self.measures = measure.Measures(task)
        self.forgotten = np.array([1.0, 0.0])  # what a start of 1 is now without gradients, and its velocity
        self.tau = np.zeros(1)
        self.rows: list[measure.Row] = []  # what was measured, at the start and after every epoch
        self.saved = time.monotonic()

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
            with bar(progress, "training", len(self.task.rates)) as report:
                while self.done < len(self.task.rates) and status == "finished":
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
        rate = float(self.task.rates[epoch])
        for at, drawn in self._chunks(self.task.order(epoch)):
            if not self._advance(drawn, rate, epoch * self.task.steps + at):
                return "diverged"
            report(epoch + (at + len(drawn)) / self.task.steps, self._text())
        self.forgotten = (
            np.linalg.matrix_power(self.task.optimizer.forgetting(rate), self.task.steps) @ self.forgotten
        )
        self.tau = self.tau + self.task.steps * rate * self.task.optimizer.weight_decay
        row = self.measures.row(self.forgotten[0], self.tau[0])
        if not np.isfinite(row["loss"]):
            return "diverged"
        self.rows.append(row)
        return "finished"

    def _advance(self, drawn: Any, rate: float, t: int) -> bool:
        """Take the steps of these batches; whether everything stayed finite."""
        if self.live is None:
            return len(self.engine.run(drawn, rate, t)) == len(drawn) and self._finite()
        velocity = self.memory[0] if self.task.optimizer.momentum else None
        for i, batch in enumerate(drawn):
            if not len(self.engine.run(batch[None], rate, t + i)) or not self._finite():
                return False
            self.live.step(
                self.net.theta,
                self.net.gradient,
                learning_rate=rate,
                weight_decay=self.task.optimizer.weight_decay,
                batch_size=self.task.size,
                velocity=velocity,
            )
        return True

    def _finite(self) -> bool:
        theta = self.net.theta
        return bool(np.isfinite(theta @ theta) or np.isfinite(theta).all())

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
            str(counted(row[f"values_{l}"], 1e-3, "spectral")) for l in range(len(self.net.matrices))
        )
        return (
            f"epoch {self.done} of {len(self.task.rates)}  loss {row['loss']:.3g}  "
            f"accuracy {row['train_accuracy']:.3f}  ranks {ranks}"
        )

    def _history(self, status: str, violation: Violation | None) -> History:
        columns = measure.columns(self.rows)
        layers = range(len(self.net.matrices))
        message = MESSAGES[status].format(
            epoch=self.done + 1, epochs=len(self.task.rates), violation=violation
        )
        return History(
            singular_values=tuple(columns.pop(f"values_{l}") for l in layers),
            update_singular_values=tuple(columns.pop(f"updates_{l}") for l in layers),
            learning_rates=self.task.rates[: self.done].copy(),
            steps=self.done * self.task.steps,
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
        for name, array in (
            ("theta", self.net.theta),
            ("running", self.net.running),
            ("memory", self.memory),
        ):
            array[:] = state[name]
        self.forgotten, self.tau = state["forgotten"], state["tau"]

    def _settings(self) -> dict[str, Any]:
        return {**self.task.settings(), "engine": type(self.engine).__name__}

    def _save(self) -> None:
        if self.file is not None:
            rows = {f"row_{name}": column for name, column in measure.columns(self.rows).items()}
            extra = {
                "start": self.measures.start,
                "seed": np.array(self.task.seed),
                "rates": self.task.rates[: self.done],
            }
            checkpoint.save(self.file, self._settings(), {**self._state(), **rows, **extra})
            self.saved = time.monotonic()

    def _resume(self) -> bool:
        """Stand where the checkpoint stands, if there is one."""
        arrays = None if self.file is None else checkpoint.load(self.file, self._settings())
        if arrays is None:
            return False
        done = len(arrays["rates"])
        if done > len(self.task.rates) or not np.array_equal(arrays["rates"], self.task.rates[:done]):
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
        self.measures.start, self.task.seed = arrays["start"], int(arrays["seed"])
        names = [name for name in arrays if name.startswith("row_")]
        self.rows = [{name[4:]: arrays[name][epoch] for name in names} for epoch in range(done + 1)]
        return True
