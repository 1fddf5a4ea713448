"""What is measured of a net at the start and after every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from .losses import Loss
from .network import Network

__all__ = ["Measures", "Row", "columns"]

Row = dict[str, Any]


class Measures:
    """Measures a net against the start it had, on its data.

    Parameters
    ----------
    net : Network
    loss : Loss
    train, test : pair of samples and targets
        `test` may be None.
    """

    def __init__(
        self, net: Network, loss: Loss, train: tuple[Any, Any], test: tuple[Any, Any] | None
    ) -> None:
        self.net, self.loss, self.train, self.test = net, loss, train, test
        self.start = net.theta.copy()

    def row(self, retained: float, tau: float) -> Row:
        """Everything, as a row of the history; `retained` is the share of the start that is left in the weights."""
        loss, accuracy = self._evaluate(*self.train)
        row: Row = {
            "loss": loss,
            "train_accuracy": accuracy,
            "test_accuracy": self._evaluate(*self.test)[1] if self.test else np.nan,
            "norms": [np.linalg.norm(W.astype(np.float64)) for W in self.net.weights],
            "tau": tau,
            "retained": retained,
        }
        for l, (p, at) in enumerate(zip(self.net.matrices, self.net.offsets, strict=True)):
            W, start = p.value.astype(np.float64), self.start[at : at + p.size].reshape(p.shape)
            row[f"values_{l}"] = np.linalg.svd(W, compute_uv=False)
            row[f"updates_{l}"] = np.linalg.svd(W - retained * start, compute_uv=False)
        return row

    def _evaluate(self, X: Any, Y: Any) -> tuple[float, float]:
        """Loss and accuracy on all samples, in evaluation; the accuracy is NaN where targets are no classes."""
        F = self.net.outputs_of(X)
        loss = float(self.loss.values(F, Y).mean(dtype=np.float64))
        classes = Y.shape[1] > 1 and bool(((Y == 0) | (Y == 1)).all() and (Y.sum(axis=1) == 1).all())
        return loss, float((F.argmax(axis=1) == Y.argmax(axis=1)).mean()) if classes else np.nan


def columns(rows: list[Row]) -> dict[str, Any]:
    """Rows as arrays, one entry a row."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
