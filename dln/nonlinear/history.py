"""What a training run leaves: one row an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import checks
from ..rank import Violation
from ..rank.measures import tails, threshold
from ..typing import Array

__all__ = ["NORMS", "History"]

NORMS = ("spectral", "frobenius")


@dataclass(frozen=True, eq=False, repr=False)
class History:
    r"""A training run, measured at the start (row 0) and after epochs; "layers" are the weight matrices.

    What was forgotten of the start is known exactly: W_T = D_T W_0 + U_T with D_T the product of all 1 - lr wd (with
    momentum, its counterpart). While D_T W_0 is not small, the rank of W_T is that of the random start; that of U_T
    is what training has made.

    Attributes
    ----------
    measured : ndarray of int, shape (rows,)
        Epochs finished at each row: 0, 1, .., or every k-th and the last.
    loss, train_accuracy, test_accuracy : ndarray, shape (rows,)
        On all training samples and all test samples; NaN without test data, or where targets are no classes.
    singular_values, update_singular_values : tuple of ndarray, each (rows, min(n_l, n_{l-1}))
        Of each W_T, and of each U_T, the largest first.
    norms : ndarray, shape (rows, layers)
        Frobenius norms of W_T.
    tau : ndarray, shape (rows,)
        Sum of lr wd over the steps taken.
    retained : ndarray, shape (rows,)
        D_T.
    learning_rates : ndarray, shape (epochs,)
        That of each epoch.
    certificates : mapping
        Name -> slack of each step looked at and each layer: all >= 0 where nothing is violated, inf where nothing was
        asked (see `dln.rank.Certificates`). Empty unless asked for.
    certificate_steps : mapping
        Name -> numbers of these steps, from 1.
    violation : Violation or None
        What stopped a run with status "violated": the certificate, step, layer and `evidence`.
    steps : int
        Steps taken.
    status : str
        "finished", "diverged", "violated" or "interrupted".
    message : str
        The status as a sentence that says what to change where something went wrong.
    """

    measured: Any
    loss: Array
    train_accuracy: Array
    test_accuracy: Array
    singular_values: tuple[Array, ...]
    update_singular_values: tuple[Array, ...]
    norms: Array
    tau: Array
    retained: Array
    learning_rates: Array
    steps: int
    status: str
    message: str
    certificates: Mapping[str, Array] = field(default_factory=dict)
    certificate_steps: Mapping[str, Any] = field(default_factory=dict)
    violation: Violation | None = None

    def __post_init__(self) -> None:
        for value in vars(self).values():
            arrays = (
                value.values()
                if isinstance(value, Mapping)
                else value
                if isinstance(value, tuple)
                else [value]
            )
            for array in arrays:
                if isinstance(array, np.ndarray):
                    array.setflags(write=False)

    @property
    def success(self) -> bool:
        """Whether all epochs were run."""
        return self.status == "finished"

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return len(self.learning_rates)

    @property
    def ranks(self) -> Any:
        """Ranks of W_T at eps = 1e-3 and the spectral norm, (rows, layers); `rank` gives others."""
        return self.rank()

    @property
    def corrected_ranks(self) -> Any:
        """Ranks of U_T, the weights without what is left of the start, at eps = 1e-3 and the spectral norm of W_T."""
        return self.rank(corrected=True)

    def rank(self, epsilon: float = 1e-3, norm: str = "spectral", *, corrected: bool = False) -> Any:
        r"""Numerical ranks :math:`\#\{i : s_i > \epsilon \|W_T\|\}` of W_T, or of U_T, shape (rows, layers).

        Parameters
        ----------
        epsilon : float
            Threshold, 0 < epsilon < 1.
        norm : str
            "spectral" or "frobenius": that of W_T.
        corrected : bool
            Take the singular values of U_T.

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong.
        """
        small, norm = threshold(epsilon), checks.one_of(norm, "norm", NORMS)
        counted = self.update_singular_values if checks.flag(corrected, "corrected") else self.singular_values
        counts = [
            (s > small * tails(of_W, norm)[:, :1]).sum(axis=1)
            for s, of_W in zip(counted, self.singular_values, strict=True)
        ]
        return np.stack(counts, axis=1)

    def __repr__(self) -> str:
        return (
            f"History({self.status}: {self.epochs} epochs, {self.steps} steps, loss {self.loss[-1]:.4g}, "
            f"accuracy {self.train_accuracy[-1]:.4g}, ranks {self.ranks[-1].tolist()})"
        )
