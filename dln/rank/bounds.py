r"""What SGD with weight decay allows: bounds on the rank of a weight matrix, with schedules and momentum.

A step W <- (1 - x) W - eta G, x = eta lambda, forgets a share x of the weights and adds a gradient of rank at most
m B, where B is the batch size and m the number of times that a sample uses the matrix. After n steps

.. math:: W_T = D_n W_{T-n} + U, \qquad \operatorname{rank} U \le m B n, \qquad D_n = \prod (1 - x_s),

so that W_T lies within :math:`D_n \|W_{T-n}\|` of the matrices of rank at most m B n, in every norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array, ArrayLike
from .measures import rates, threshold
from .momentum import below_one, heavy_ball, scalars, without_gradient

__all__ = ["bound", "forgotten", "gradient_bound", "window"]

MOST_STEPS = 2**62


def bound(
    batch_size: int,
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    epsilon: float,
    patches: int = 1,
    momentum: float = 0.0,
    *,
    form: str = "repaired",
) -> float:
    r"""Rank within epsilon of which SGD with weight decay brings a weight matrix, whatever the data.

    If :math:`\|W_{T-1}\| / \|W_T\| \to 1`, then for T large there is a matrix of this rank within
    :math:`\epsilon \|W_T\|` of W_T, in any norm. With x = learning rate x weight decay, m patches and batches of B:

    ============  ===================================================================================
    "repaired"    :math:`m B \lceil \log(2/\epsilon) / x \rceil`
    "sharp"       :math:`m B (\lfloor \log(1/\epsilon) / (-\log(1 - x)) \rfloor + 1)`
    "printed"     :math:`m B \log(2/\epsilon) / x`, as in the paper
    ============  ===================================================================================

    The printed form is false for :math:`x > \log 2` and :math:`2 e^{-x} < \epsilon < 1`, where it asks for less than
    one batch. It holds for every x that is used in practice.

    Parameters
    ----------
    batch_size : int
        B.
    learning_rate, weight_decay : float or array_like, shape (T,)
        Rates with x < 1. Arrays are the schedule of a whole run: the window reaches back from its end, and the bound is
        inf if the run is too short. The first rate of a run says nothing about its end.
    epsilon : float
        Distance in units of the norm of W, 0 < epsilon < 1.
    patches : int
        m, uses of the matrix for each sample: 1 for a dense layer, `patches` for a convolution, the number of tokens
        for attention.
    momentum : float
        beta of the heavy ball, 0 <= beta < 1; constant rates only. The rate of forgetting of `rate` takes the place of
        x. This is the law of rates; the velocity adds to the constant under the logarithm, see `window`.
    form : str
        "repaired", "sharp" or "printed".

    Returns
    -------
    rank : int or float
        An integer, except "printed"; ``inf`` where nothing is forgotten (weight_decay = 0).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or a schedule is combined with momentum or the printed form.

    References
    ----------
    arXiv 2206.05794, the theorem on low-rank bias; the ceiling that its proof needs is restored in "repaired".

    Examples
    --------
    >>> bound(6, 0.1, 8e-3, 0.5)
    10398
    >>> bound(6, 0.1, 8e-3, 0.5, form="sharp"), round(bound(6, 0.1, 8e-3, 0.5, form="printed"), 2)
    (5202, 10397.21)
    >>> bound(8, 0.02, 1e-3, 0.1, momentum=0.9) == bound(8, 0.2, 1e-3, 0.1)
    True
    """
    known = checks.one_of(form, "form", _FORMS)
    uses = checks.integer(batch_size, "batch_size", least=1) * checks.integer(patches, "patches", least=1)
    eps, beta = threshold(epsilon), below_one(momentum)
    if np.ndim(learning_rate) or np.ndim(weight_decay):
        return uses * _scheduled(learning_rate, weight_decay, eps, beta, known)
    lr, wd = _constant(learning_rate, weight_decay)
    x, log = _forgetting_rate(lr, wd, beta)
    return uses * _FORMS[known](eps, x, log) if x > 0 else math.inf


# Steps from (epsilon, x, -log(1 - x)).
_FORMS: dict[str, Callable[[float, float, float], float]] = {
    "repaired": lambda eps, x, log: math.ceil(math.log(2 / eps) / x),
    "sharp": lambda eps, x, log: math.floor(math.log(1 / eps) / log) + 1,
    "printed": lambda eps, x, log: math.log(2 / eps) / x,
}


def window(
    learning_rate: ArrayLike,
    weight_decay: ArrayLike,
    epsilon: float,
    *,
    momentum: float = 0.0,
    growth: float = 1.0,
) -> float:
    r"""Number of steps n after which at most epsilon of the norm of W_T can be older: m B n is a bound on the rank.

    The least n with :math:`c\,D_n \le \epsilon`, where c bounds :math:`\|W_{T-k}\| / \|W_T\|`. With momentum
    :math:`c\,(|a_n| + 2 |b_n| / \eta) \le \epsilon`, as :math:`\eta V` is a difference of two weights.

    Parameters
    ----------
    learning_rate, weight_decay : float or array_like, shape (T,)
        Constant rates with x < 1, or the schedule of a whole run, whose end is the end of the window.
    epsilon : float
        0 < epsilon < 1.
    momentum : float
        beta of the heavy ball; constant rates only.
    growth : float
        c > 0. For weights with :math:`c_- \le \|W_t\| \le c_+` it is :math:`c_+ / c_-`.

    Returns
    -------
    steps : int or float
        At least 1; ``inf`` if nothing is forgotten or the run is too short. Where the heavy ball oscillates
        (:math:`x > (1 - \sqrt\beta)^2`), a number of steps that does, which need not be the least.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or a schedule is combined with momentum.

    Examples
    --------
    >>> window(0.1, 5.0, 0.2), window([0.1] * 2 + [0.01] * 100, 5.0, 0.2)
    (3, 32)
    """
    eps, beta = threshold(epsilon) / checks.positive(growth, "growth"), below_one(momentum)
    if np.ndim(learning_rate) or np.ndim(weight_decay):
        return _scheduled(learning_rate, weight_decay, eps, beta, "window")
    lr, wd = _constant(learning_rate, weight_decay)
    if lr * wd == 0.0:
        return math.inf
    state = without_gradient(heavy_ball(lr, wd, beta))

    def enough(n: int) -> bool:
        a, b = np.linalg.matrix_power(state, n)[0]
        return bool(abs(a) + 2 * abs(b) / lr <= eps)

    high = 1
    while not enough(high):
        high *= 2
        if high > MOST_STEPS:
            return math.inf
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def gradient_bound(
    batch_size: int,
    patches: int = 1,
    *,
    batch_norm: bool = False,
    shape: tuple[int, int] | None = None,
    active: int | None = None,
) -> int:
    r"""Rank that the gradient of a mini-batch with respect to a weight matrix has at most: :math:`\min(m B, \dots)`.

    Each use of the matrix adds an outer product of a signal and an input. With batch normalisation right after the
    layer the signals sum to zero over the batch, which takes one more away.

    Parameters
    ----------
    batch_size : int
        B.
    patches : int
        m, uses of the matrix for each sample.
    batch_norm : bool
        Whether batch normalisation in training mode follows directly.
    shape : (int, int), optional
        Shape of the matrix.
    active : int, optional
        Number of uses in which both signal and input are not zero.

    Returns
    -------
    rank : int

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    References
    ----------
    arXiv 2206.05794, lemma on the rank of the gradient (one sample).

    Examples
    --------
    >>> gradient_bound(16), gradient_bound(16, batch_norm=True), gradient_bound(16, patches=9, shape=(32, 27))
    (16, 15, 27)
    """
    uses = checks.integer(batch_size, "batch_size", least=1) * checks.integer(patches, "patches", least=1)
    limits = [uses - checks.flag(batch_norm, "batch_norm")]
    if shape is not None:
        limits += [checks.integer(n, "shape", least=1) for n in shape]
    if active is not None:
        limits.append(checks.integer(active, "active", least=0))
    return min(limits)


def _scheduled(learning_rate: Any, weight_decay: Any, eps: float, beta: float, form: str) -> float:
    """Least window at the end of a schedule after which the form's condition holds."""
    if beta > 0 or form == "printed":
        raise ValueError(
            "`learning_rate` and `weight_decay` must be constant with momentum and for the printed form, got arrays. "
            "Use `propagator` step by step, or another form."
        )
    x = forgotten(*rates(learning_rate, weight_decay))[::-1]
    kept = np.cumsum(np.log1p(-x))
    conditions = {
        "repaired": np.cumsum(x) >= math.log(2 / eps),
        "sharp": kept < math.log(eps),
        "window": kept <= math.log(eps),
    }
    enough = np.flatnonzero(conditions[form])
    return int(enough[0]) + 1 if len(enough) else math.inf


def _forgetting_rate(lr: float, wd: float, beta: float) -> tuple[float, float]:
    """x and -log(1 - x) by the law of momentum: eta / (1 - beta) while the roots are real, then sqrt(beta)."""
    if lr * wd <= (1.0 - math.sqrt(beta)) ** 2:
        x = lr / (1.0 - beta) * wd
        return x, -math.log1p(-x)
    return -math.log(beta) / 2, -math.log(beta) / 2


def forgotten(lr: Array, wd: Array) -> Array:
    """x of every step, below 1."""
    x = lr * wd
    if not (x < 1).all():
        raise ValueError(
            f"`learning_rate` times `weight_decay` must be below 1, got {x.max()}. Lower one of them."
        )
    return x


def _constant(learning_rate: Any, weight_decay: Any) -> tuple[float, float]:
    lr, wd = scalars(learning_rate, weight_decay)
    forgotten(np.array(lr), np.array(wd))
    return lr, wd
