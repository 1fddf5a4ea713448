"""One critical point of the regularised loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..typing import Array
from .modes import aligned_layers
from .spectra import spectrum

if TYPE_CHECKING:
    from .points import Landscape

__all__ = ["CriticalPoint"]


@dataclass(frozen=True, slots=True)
class CriticalPoint:
    r"""A critical matrix :math:`A = \sum_i x_i u_i v_i^T`, or a connected family of them.

    Attributes
    ----------
    branches : tuple of str
        For each singular value of the target, from the largest down: "+" or "-" for the upper or lower root x, "0" for
        x = 0, "+-" where both roots are one.
    objective : float
        Value of the regularised loss.
    morse_index : int
        Number of negative eigenvalues of the Hessian with respect to the weights.
    kind : str
        "global minimum", "local minimum", "strict saddle" (it has a negative eigenvalue), or "degenerate": none is
        negative, but a mode stands at the saddle-node ("+-"), from where the loss falls like a cube.
    dimension : int
        0 if A is isolated among the critical matrices. Equal singular values make it one of a connected family of this
        dimension, which shares all these numbers.
    """

    branches: tuple[str, ...]
    objective: float
    morse_index: int
    kind: str
    dimension: int
    landscape: Landscape = field(repr=False)

    @property
    def rank(self) -> int:
        """Rank of A."""
        return sum(branch != "0" for branch in self.branches)

    @property
    def singular_values(self) -> Array:
        """The x_i, one for each singular value of the target, in the order of `branches`."""
        return np.array([sizes[b] for sizes, b in zip(self.landscape.sizes, self.branches, strict=True)])

    @property
    def end_to_end(self) -> Array:
        """A, shape (n_L, n_0)."""
        return np.asarray((self.landscape.U * self.singular_values) @ self.landscape.Vt)

    @property
    def weights(self) -> list[Array]:
        """Balanced layers with product A, one point of the orbit of rotations."""
        space = self.landscape
        return aligned_layers(space.U, self.singular_values, space.Vt, space.widths)

    def spectrum(self) -> Array:
        """All eigenvalues of the Hessian with respect to the weights, ascending, in closed form."""
        space = self.landscape
        return spectrum(space.singular_values, self.singular_values, space.widths, space.weight_decay)
