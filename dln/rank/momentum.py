"""SGD with momentum and weight decay between gradients: a linear map of weights and velocity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array

__all__ = ["STEPS", "below_one", "heavy_ball", "propagator", "rate", "scalars", "without_gradient"]


def rate(learning_rate: float, weight_decay: float, momentum: float = 0.0) -> float:
    r"""Factor per step by which the start is forgotten: the spectral radius of the heavy ball with decay.

    The roots of :math:`z^2 - (1 + \beta - x) z + \beta` are real for :math:`x \le (1 - \sqrt\beta)^2`, and the
    larger is then below :math:`1 - x / (1 - \beta)` and close to it for small x: momentum acts as a learning rate
    :math:`\eta / (1 - \beta)`. For larger x it is :math:`\sqrt\beta`, the best that there is.

    Parameters
    ----------
    learning_rate, weight_decay : float
        Rates >= 0.
    momentum : float
        beta, 0 <= beta < 1.

    Returns
    -------
    factor : float
        At momentum 0 it is abs(1 - x).

    Raises
    ------
    ValueError, TypeError
        If a rate is negative or the momentum is not below 1.

    References
    ----------
    B. T. Polyak, 1964 (heavy ball), applied to the decay term.

    Examples
    --------
    >>> print(round(rate(0.1, 2e-3, momentum=0.9), 6), round(rate(1.0, 1.0, momentum=0.25), 6))
    0.997963 0.5
    """
    lr, wd, beta = *scalars(learning_rate, weight_decay), below_one(momentum)
    x = lr * wd
    half = (1.0 + beta - x) / 2.0
    # half^2 - beta, without cancelling: (x - (1 - sqrt beta)^2) (x - (1 + sqrt beta)^2) / 4
    gap = (x - (1.0 - math.sqrt(beta)) ** 2) * (x - (1.0 + math.sqrt(beta)) ** 2) / 4.0
    return abs(half) + math.sqrt(gap) if gap >= 0 else math.sqrt(beta)


Step = list[Any]  # (a, b, c, d, e, f): W <- a W + b V + c G, V <- d W + e V + f G


def heavy_ball(lr: Any, wd: Any, beta: float) -> Step:
    """The step of SGD as `torch.optim.SGD` takes it."""
    return [1 - lr * wd, -lr * beta, -lr, wd, beta, 1.0]


def nesterov(lr: Any, wd: Any, beta: float) -> Step:
    """The step that looks ahead: W <- W - eta (G + lambda W + beta V)."""
    return [1 - lr * wd * (1 + beta), -lr * beta**2, -lr * (1 + beta), wd, beta, 1.0]


def decoupled(lr: Any, wd: Any, beta: float) -> Step:
    """The step whose decay stays outside of the velocity: W <- (1 - eta lambda) W - eta V."""
    return [1 - lr * wd, -lr * beta, -lr, 0.0, beta, 1.0]


STEPS: dict[str, Callable[[Any, Any, float], Step]] = {
    step.__name__: step for step in (heavy_ball, nesterov, decoupled)
}


def propagator(
    learning_rate: float, weight_decay: float, momentum: float, steps: int = 1, *, kind: str = "heavy_ball"
) -> Array:
    r"""Matrix that takes (W, V) over n steps in which no gradient comes: :math:`A^n`, 2 x 2.

    For the heavy ball :math:`V \leftarrow \beta V + G + \lambda W`, :math:`W \leftarrow W - \eta V`,

    .. math:: A = \begin{pmatrix} 1 - \eta\lambda & -\eta\beta \\ \lambda & \beta \end{pmatrix}, \qquad
              W_T = a_n W_{T-n} + b_n V_{T-n} + R, \quad \operatorname{rank} R \le \sum_s \operatorname{rank} G_s,

    with (a_n, b_n) the first row. So W_T is within :math:`\|a_n W_{T-n} + b_n V_{T-n}\|` of that rank.

    Parameters
    ----------
    learning_rate, weight_decay : float
        Rates >= 0.
    momentum : float
        beta, 0 <= beta < 1.
    steps : int
        n >= 0.
    kind : str
        "heavy_ball", "nesterov", or "decoupled" (weights shrink by 1 - eta lambda outside the velocity).

    Returns
    -------
    A : ndarray, shape (2, 2)

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    The updates are those documented for ``torch.optim.SGD``; "decoupled" is SGDW of arXiv 1711.05101.

    Examples
    --------
    >>> propagator(0.1, 0.5, 0.0, steps=2)[0]
    array([0.9025, 0.    ])
    """
    lr, wd, beta = *scalars(learning_rate, weight_decay), below_one(momentum)
    step = STEPS[checks.one_of(kind, "kind", STEPS)](lr, wd, beta)
    return np.linalg.matrix_power(without_gradient(step), checks.integer(steps, "steps", least=0, most=2**62))


def without_gradient(step: Step) -> Array:
    """Matrix of a step on (W, V)."""
    return np.array(step).reshape(2, 3)[:, :2]


def scalars(learning_rate: Any, weight_decay: Any) -> tuple[float, float]:
    """Both rates as numbers >= 0."""
    return checks.nonnegative(learning_rate, "learning_rate"), checks.nonnegative(
        weight_decay, "weight_decay"
    )


def below_one(momentum: Any) -> float:
    """beta with 0 <= beta < 1."""
    beta = checks.nonnegative(momentum, "momentum")
    if not beta < 1:
        raise ValueError(f"`momentum` must be in [0, 1), got {beta}. At 1 nothing is ever forgotten.")
    return beta
