"""A run of training: where it stands, what it has measured, how it is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
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
    every : int
        Epochs between two measurements.
    live : Certificates or None
        Are shown every step.
    """

    def __init__(self, task: Task, engine: type[Plain], every: int, live: Certificates | None) -> None:
        net = task.net
        self.task, self.net, self.every, self.live = task, net, every, live
        self.memory = np.zeros((task.optimizer.remembers, net.theta.size), dtype=net.dtype)
        self.engine = engine(net, *task.train, task.loss, task.optimizer, self.memory)
        self.measures = measure.Measures(task)
        self.forgotten = np.array([1.0, 0.0])  # what a start of 1 is now without gradients, and its velocity
        self.tau = np.zeros(1)
        self.done = 0  # epochs finished
        self.rows: list[measure.Row] = []  # what was measured, at the start and after epochs
        self.file: Path | None = None
        self.piece = 16  # steps between looks

    def keep_in(self, file: Path, certificates: Any) -> None:
        """Save the run in a file, and go on from what is there; the options of certificates are among its settings."""
        self.file, self.certificates, self.due = file, certificates, time.monotonic() + SAVE_SECONDS

    def history(self, progress: bool) -> History:
        """Run the epochs that are left, and put together what was measured."""
        status, violation, self.shown = "finished", None, progress
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if not self._resume():
                self._measure()
            found = self._found()
            with bar(progress, "training", len(self.task.rates)) as report:
                while self.done < len(self.task.rates) and status == "finished":
                    before = self._state()
                    try:
                        status = self._epoch(report)
                    except KeyboardInterrupt:
                        status = "interrupted"
                    except Violation as wrong:
                        status, violation, found = "violated", wrong, self._found()
                    if status != "finished":
                        self._restore(before)
                    elif self.file and time.monotonic() > self.due:
                        self._save()
        self._save()
        return self._history(status, violation, found if violation else self._found())

    def _measure(self) -> bool:
        """A row of what is measured now; whether it is finite."""
        row = self.measures.row(self.forgotten[0], self.tau[0]) | {"measured": self.done}
        if self.rows and not np.isfinite(row["loss"]):
            return False
        self.rows.append(row)
        return True

    def _epoch(self, report: Callable[[float, str], None]) -> str:
        """One epoch and what is measured after it."""
        epoch = self.done
        rate = float(self.task.rates[epoch])
        for at, drawn in self._chunks(self.task.order(epoch)):
            if not self._advance(drawn, rate, epoch * self.task.steps + at):
                return "diverged"
            if self.shown:
                report(epoch + (at + len(drawn)) / self.task.steps, self._text())
        self.forgotten = (
            np.linalg.matrix_power(self.task.optimizer.forgetting(rate), self.task.steps) @ self.forgotten
        )
        self.tau = self.tau + self.task.steps * rate * self.task.optimizer.weight_decay
        self.done += 1
        if self.done % self.every == 0 or self.done == len(self.task.rates):
            return "finished" if self._measure() else "diverged"
        return "finished"

    def _advance(self, drawn: Any, rate: float, t: int) -> bool:
        """Take the steps of these batches; whether everything stayed finite."""
        if self.live is None:
            return len(self.engine.run(drawn, rate, t)) == len(drawn) and self._finite()
        done = 0
        while done < len(drawn):
            taken = self._certified(self.live, drawn[done:], rate, t + done)
            if not taken:
                return False
            done += taken
        return True

    def _certified(self, live: Certificates, drawn: Any, rate: float, t: int) -> int:
        """Take some of the steps of these batches under the eyes of the certificates; how many, 0 for an overflow."""
        rule, room = self.task.optimizer, live.room()
        rates: dict[str, Any] = {
            "learning_rate": rate,
            "weight_decay": rule.weight_decay,
            "batch_size": self.task.size,
        }
        velocity = self.memory[0] if rule.momentum else None
        if room == 0:  # in a window every gradient is looked at
            taken = len(self.engine.run(drawn[:1], rate, t))
            if not taken or not self._norms_finite():
                return 0
            live.step(self.net.theta, self.net.gradient, velocity=velocity, **rates)
            return taken
        watch = live.watch(min(room, len(drawn)), **rates)
        taken = len(self.engine.run(drawn[:room], rate, t, watch))
        if not taken or not self._norms_finite():
            return 0
        live.take(taken, self.net.theta, self.net.gradient, velocity)
        return taken

    def _finite(self) -> bool:
        return self._norms_finite() or bool(np.isfinite(self.net.theta).all())

    def _norms_finite(self) -> bool:
        """Whether the squares of the weights have a sum, which certificates need."""
        return bool(np.isfinite(self.net.theta @ self.net.theta))

    def _chunks(self, order: Any) -> Iterator[tuple[int, Any]]:
        """The steps of an epoch in pieces of some `LOOK_SECONDS`."""
        at = 0
        while at < len(order):
            before, piece = time.perf_counter(), order[at : at + self.piece]
            yield at, piece
            at += len(piece)
            seconds = max(time.perf_counter() - before, 1e-6)
            self.piece = max(1, min(8 * self.piece, int(len(piece) * LOOK_SECONDS / seconds)))

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

    def _found(self) -> dict[str, Any]:
        """What certificates have found."""
        live = self.live
        return {"certificates": live.slack, "certificate_steps": live.at} if live else {}

    def _history(self, status: str, violation: Violation | None, found: dict[str, Any]) -> History:
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
            violation=violation,
            **found,
            **columns,
        )

    # ------------------------------------------------------------------------------------------------------
    # State and checkpoint
    # ------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        """All that the next epoch depends on, copied."""
        marks = self.live.mark() if self.live else {}
        return {
            "theta": self.net.theta.copy(),
            "running": self.net.running.copy(),
            "memory": self.memory.copy(),
            "forgotten": self.forgotten.copy(),
            "tau": self.tau.copy(),
            "done": np.array(self.done),
            **{f"live_{name}": value for name, value in marks.items()},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        for name, array in (
            ("theta", self.net.theta),
            ("running", self.net.running),
            ("memory", self.memory),
        ):
            array[:] = state[name]
        self.forgotten, self.tau, self.done = state["forgotten"], state["tau"], int(state["done"])
        if self.live:
            self.live.rewind(_part(state, "live_"))

    def _settings(self) -> dict[str, Any]:
        own = {"engine": type(self.engine).__name__, "every": self.every, "certify": self.certificates}
        return {**self.task.settings(), **own}

    def _save(self) -> None:
        """Write the checkpoint; the next comes when this one has cost a tenth of the time."""
        if self.file is not None:
            before = time.monotonic()
            rows = {f"row_{name}": column for name, column in measure.columns(self.rows).items()}
            live = {f"live_{name}": value for name, value in self.live.state().items()} if self.live else {}
            extra = {
                "start": self.measures.start,
                "seed": np.array(self.task.seed),
                "rates": self.task.rates[: self.done],
            }
            checkpoint.save(self.file, self._settings(), {**self._state(), **rows, **live, **extra})
            now = time.monotonic()
            self.due = now + max(SAVE_SECONDS, 10 * (now - before))

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
        if self.live:
            self.live.restore(_part(arrays, "live_"))
        self._restore(arrays)
        self.measures.start, self.task.seed = arrays["start"], int(arrays["seed"])
        columns, last = _part(arrays, "row_"), len(self.task.rates)
        # the end of a shorter run is none of this one
        kept = [i for i, epoch in enumerate(columns["measured"]) if epoch % self.every == 0 or epoch == last]
        self.rows = [{name: column[i] for name, column in columns.items()} for i in kept]
        return True


def _part(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
