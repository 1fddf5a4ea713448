"""Losses of a batch, each the mean over its samples; targets stand as one row a sample.

To add one, add a class with its values and its gradient, and its name to `ALL`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..typing import ArrayLike

__all__ = ["ALL", "CrossEntropy", "Loss", "Squared"]


class Loss(ABC):
    """A loss of the outputs F and the targets Y, both (N, q)."""

    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def values(self, F: Any, Y: Any) -> Any:
        """Loss of each sample, shape (N,)."""

    @abstractmethod
    def gradient(self, F: Any, Y: Any) -> Any:
        """Gradient with respect to F of the mean over the samples."""

    def targets(self, y: ArrayLike, samples: int, outputs: int, name: str = "y") -> Any:
        """Targets (N, q) from labels 0 .. q - 1 or, where the loss allows it, from real numbers."""
        raw = np.asarray(y)
        if not self.needs_labels and (raw.ndim == 2 or outputs == 1):
            values = checks.array(raw.reshape(-1, 1) if raw.ndim == 1 else raw, name, ndim=2)
            if values.shape != (samples, outputs):
                raise ValueError(
                    f"`{name}` must have shape {(samples, outputs)}, got {raw.shape}. One row of targets a sample."
                )
            return values
        values = checks.array(raw, name, ndim=1)
        if len(values) != samples:
            raise ValueError(f"`{name}` must have {samples} labels, got {len(values)}. One label a sample.")
        wrong = (values != np.floor(values)) | (values < 0) | (values >= outputs)
        if wrong.any():
            raise ValueError(
                f"`{name}` must hold labels 0 .. {outputs - 1}, got {values[wrong][0]:g} at index "
                f"{int(np.argmax(wrong))}. The net has one output a class."
            )
        return np.eye(outputs)[values.astype(np.int64)]


class CrossEntropy(Loss):
    """-log softmax(f)_y, the mean over the batch."""

    needs_labels = True

    def values(self, F: Any, Y: Any) -> Any:
        shifted = F - F.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1)) - (Y * shifted).sum(axis=1)

    def gradient(self, F: Any, Y: Any) -> Any:
        P = np.exp(F - F.max(axis=1, keepdims=True))
        return (P / P.sum(axis=1, keepdims=True) - Y) / len(F)


class Squared(Loss):
    """|f - y|^2 / 2, the mean over the batch; labels stand for unit vectors."""

    def values(self, F: Any, Y: Any) -> Any:
        return ((F - Y) ** 2).sum(axis=1) / 2

    def gradient(self, F: Any, Y: Any) -> Any:
        return (F - Y) / len(F)


ALL: dict[str, Loss] = {"cross_entropy": CrossEntropy(), "squared": Squared()}
