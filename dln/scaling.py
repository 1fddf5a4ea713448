"""Regimes of a Gaussian start of variance w^-gamma: lazy, mean field, saddle-to-saddle, by powers of the width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import checks

__all__ = ["Regime", "regime"]


@dataclass(frozen=True)
class Regime:
    """What the theory predicts of a start with entries N(0, w^-gamma), as exponents of the width w.

    Attributes
    ----------
    name : str
        "lazy" (1 - 1/L <= gamma < 1; the first is the parametrisation of the neural tangent kernel), "mean field"
        (gamma = 1), "saddle-to-saddle" (gamma > 1), or "exploding" (gamma < 1 - 1/L), where A grows with the width.
    rho : float
        sigma sqrt(w) = w^((1 - gamma)/2), half the norm of a hidden layer.
    entries : float
        Exponent of the entries of A at the start.
    kernel : float
        Exponent of the neural tangent kernel at the start; it is L w^kernel times the identity for gamma < 1.
    kernel_change : float
        Exponent of its relative change in training, inf for gamma > 1.
    to_minimum, to_saddle : float
        Exponents of the distances of the start to the nearest minimum and to the nearest saddle.
    time : float
        Exponent of the training time; for two layers and gamma > 1 it is 0, and the time grows like log w.
    """

    name: str
    rho: float
    entries: float
    kernel: float
    kernel_change: float
    to_minimum: float
    to_saddle: float
    time: float


def regime(widths: Sequence[int], gamma: float) -> Regime:
    r"""Regime of the network with entries of variance :math:`w^{-\gamma}`, and how it scales with the width w.

    Parameters
    ----------
    widths : sequence of int
        (n_0, w, .., w, n_L), L >= 2; all hidden widths are one w.
    gamma : float
        As in `dln.inits.gaussian`.

    Returns
    -------
    Regime

    Raises
    ------
    ValueError, TypeError
        If there is no hidden layer, the hidden widths differ, or gamma is not finite.

    References
    ----------
    arXiv 2106.15933v2: the phase transition of the distances, and its table of regimes.

    Examples
    --------
    >>> regime((10, 100, 100, 10), 2.0).name
    'saddle-to-saddle'
    >>> lazy = regime((10, 100, 100, 10), 0.8)
    >>> lazy.name, round(lazy.to_minimum, 6), round(lazy.to_saddle, 6)
    ('lazy', -0.2, 0.1)
    """
    n = checks.widths(widths)
    if len(n) < 3 or len(set(n[1:-1])) > 1:
        raise ValueError(
            f"`widths` must have hidden layers of one width, got {n}. Give (n_0, w, ..., w, n_L)."
        )
    gamma, L, w = checks.number(gamma, "gamma"), len(n) - 1, n[1]
    small = 1.0 - gamma  # rho = w^(small / 2)
    lazy, bounded = small > 0, gamma >= 1 - 1 / L - 1e-12  # A stays so at the start
    names = ((gamma > 1, "saddle-to-saddle"), (gamma == 1, "mean field"), (bounded, "lazy"))
    return Regime(
        name=next((name for holds, name in names if holds), "exploding"),
        rho=w ** (small / 2),
        entries=(L - 1 - gamma * L) / 2,
        kernel=small * (L - 1),
        kernel_change=-L * small if small >= 0 else math.inf,
        to_minimum=0.0 if not lazy else -small * (L - 1) / 2 if bounded else -gamma / 2,
        to_saddle=small / 2,
        time=-small * (L - 1) if lazy else -small * (L - 2) / 2,
    )
