"""Names for what users hand in and get back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Array", "ArrayLike", "Layers", "RNG"]

Array: TypeAlias = NDArray[np.float64]
Layers: TypeAlias = Sequence[ArrayLike]
RNG: TypeAlias = int | np.random.SeedSequence | np.random.Generator | None
