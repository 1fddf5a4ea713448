"""What is measured of a net at the start and after every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from .task import Pair, Task

__all__ = ["Measures", "Row", "columns"]

Row = dict[str, Any]


class Measures:
    """Measures a net against the start it had, on the data of its task."""

    def __init__(self, task: Task) -> None:
        self.task, self.start = task, task.net.theta.copy()
        self.classes = {id(pair): _classes(pair[1]) for pair in (task.train, task.test) if pair}

    def row(self, retained: float, tau: float) -> Row:
        """Everything, as a row of the history; `retained` is the share of the start that is left in the weights."""
        net, test = self.task.net, self.task.test
        loss, accuracy = self._evaluate(self.task.train)
        row: Row = {
            "loss": loss,
            "train_accuracy": accuracy,
            "test_accuracy": self._evaluate(test)[1] if test else np.nan,
            "norms": [np.linalg.norm(W.astype(np.float64)) for W in net.weights],
            "tau": tau,
            "retained": retained,
        }
        for l, p in enumerate(net.matrices):
            W, start = (
                part[p.start : p.start + p.size].reshape(p.shape).astype(np.float64)
                for part in (net.theta, self.start)
            )
            row[f"values_{l}"] = np.linalg.svd(W, compute_uv=False)
            row[f"updates_{l}"] = np.linalg.svd(W - retained * start, compute_uv=False)
        return row

    def _evaluate(self, pair: Pair) -> tuple[float, float]:
        """Loss and accuracy on all samples, in evaluation; the accuracy is NaN where targets are no classes."""
        F, classes = self.task.net.outputs_of(pair[0]), self.classes[id(pair)]
        loss = float(self.task.loss.values(F, pair[1]).mean(dtype=np.float64))
        return loss, np.nan if classes is None else float((F.argmax(axis=1) == classes).mean())


def _classes(Y: Any) -> Any:
    """Class of each sample where every target is a unit vector, else None."""
    unit = Y.shape[1] > 1 and ((Y == 0) | (Y == 1)).all() and (Y.sum(axis=1) == 1).all()
    return Y.argmax(axis=1) if unit else None


def columns(rows: list[Row]) -> dict[str, Any]:
    """Rows as arrays, one entry a row."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
