r"""Starts by their entries: independent Gaussian numbers, of a scale given in one of three ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import checks
from ..typing import RNG, Array

__all__ = ["deviation", "gaussian"]


def gaussian(
    widths: Sequence[int],
    *,
    std: float | None = None,
    gamma: float | None = None,
    rho: float | None = None,
    alpha: float = 1.0,
    rng: RNG = None,
) -> list[Array]:
    r"""Layers with independent entries :math:`\alpha\,\mathcal N(0, \sigma^2)`.

    Exactly one of `std`, `gamma`, `rho` gives sigma; w is the largest hidden width.

    Parameters
    ----------
    widths : sequence of int
        (n_0, .., n_L).
    std : float, optional
        sigma itself.
    gamma : float, optional
        :math:`\sigma^2 = w^{-\gamma}`: lazy for gamma < 1, mean field at 1, saddle-to-saddle for gamma > 1.
    rho : float, optional
        :math:`\rho = \sigma \sqrt w`, half the operator norm of a square hidden layer.
    alpha : float
        Factor of the whole start.
    rng : None, int, SeedSequence or Generator
        Source of randomness.

    Raises
    ------
    ValueError, TypeError
        If not exactly one scale is given, a scale is not positive, or gamma or rho is given without a hidden layer.

    References
    ----------
    arXiv 2106.15933, section on the phase transition of the initialisation (J2-T1).

    Examples
    --------
    >>> [W.shape for W in gaussian((3, 5, 2), gamma=1.5, rng=0)]
    [(5, 3), (2, 5)]
    """
    n = checks.widths(widths)
    sigma = deviation(n, std=std, gamma=gamma, rho=rho, alpha=alpha)
    random = checks.generator(rng)
    return [sigma * random.standard_normal(shape) for shape in zip(n[1:], n[:-1], strict=True)]


def deviation(
    n: Sequence[float], *, std: float | None, gamma: float | None, rho: float | None, alpha: float
) -> float:
    """Standard deviation of an entry, from the one scale that is given."""
    scales = {"std": std, "gamma": gamma, "rho": rho}
    given = [name for name, scale in scales.items() if scale is not None]
    if len(given) != 1:
        raise ValueError(
            f"`std`, `gamma`, `rho`: exactly one must be given, got {given or 'none'}. Choose one scale."
        )
    if std is None and len(n) < 3:
        raise ValueError(f"`{given[0]}` must come with a hidden layer, got widths {n}. Give std instead.")
    if std is not None:
        sigma = checks.positive(std, "std")
    elif gamma is not None:
        with np.errstate(over="ignore", under="ignore"):
            sigma = float(np.float64(max(n[1:-1])) ** (-checks.number(gamma, "gamma") / 2))
    else:
        sigma = checks.positive(rho, "rho") / max(n[1:-1]) ** 0.5
    sigma *= checks.positive(alpha, "alpha")
    if not 0 < sigma < math.inf:
        raise ValueError(
            f"`{given[0]}` and `alpha` must give a start that float64 can hold, got {scales[given[0]]} and {alpha}, "
            f"sigma {sigma}. Choose other scales."
        )
    return sigma
