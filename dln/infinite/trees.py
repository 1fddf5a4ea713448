"""Any cost at infinite width, on the trees of `dln.inits.reduced_gaussian` of rising order."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from .. import checks
from ..costs import Cost
from ..flow import gradient_flow
from ..inits import reduced_gaussian
from ..problem import Until
from ..trajectory import Trajectory
from ..typing import Array, ArrayLike

MOST_ENTRIES = 350_000  # of the layers of a tree for one mode
STEP, LEAST = 1e-2, 1e-13  # tolerance of a step of a trajectory: this part of `rtol`, and the least


def trajectory(
    cost: Cost,
    depth: int,
    t_span: tuple[float, float],
    *,
    rho: float,
    rtol: float = 1e-6,
    t_eval: ArrayLike | None = None,
    until: Until | None = None,
) -> Trajectory:
    r"""Trajectory of a network of infinite width, for any cost.

    For a fully observed target A* = U S V^T it is :math:`A(t) = U \,\mathrm{diag}(a_i(t))\, V^T`, a_i being `mode`.

    Parameters
    ----------
    cost : Cost
        A cost of a known shape.
    depth : int
        Number of layers L >= 2.
    t_span, t_eval, until
        As for `dln.gradient_flow`.
    rho : float
        :math:`\sigma \sqrt w`, positive.
    rtol : float
        Distance of A from its limit, relative to the largest A, at which orders are no longer raised; steps are allowed
        a hundredth of it.

    Returns
    -------
    Trajectory
        Of the cut network; `form_error` is the distance from the limit over the saved times, estimated as for
        `half_time`.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, or the cost has no shape.
    RuntimeError
        If the trees of the order needed are too large; the message tells what was reached.

    Examples
    --------
    >>> import dln
    >>> run = trajectory(dln.costs.FullyObserved(np.diag([2.0, 1.0])), 3, (0.0, 40.0), rho=0.1)
    >>> [saddle.rank for saddle in dln.find_saddles(run)], run.form_error < 1e-6
    ([0, 1, 2], True)
    """
    if not isinstance(cost, Cost) or cost.shape is None:
        raise TypeError(
            f"`cost` must be a cost from dln.costs with a shape, got {cost!r}. Take FullyObserved, say."
        )
    L = checks.integer(depth, "depth", least=2, most=checks.MOST)
    tolerance, n = checks.positive(rtol, "rtol"), cost.shape
    before, changes = list[Array](), list[float]()

    def followed(layers: list[Array], span: tuple[float, float], **options: Any) -> Trajectory:
        return gradient_flow(cost, layers, span, form="weights", rtol=max(STEP * tolerance, LEAST), **options)

    for order in itertools.count():
        layers = reduced_gaussian((n[1], *[math.inf] * (L - 1), n[0]), order=order, rho=rho)
        if sum(W.size for W in layers) > MOST_ENTRIES * max(n):
            break
        run = followed(layers, t_span, t_eval=t_eval, until=until)
        if not run.success or [W.shape for W in layers] == [W.shape for W in before]:  # closed
            return run
        if before:
            other = followed(before, (run.t_start, max(run.t[-1], run.t_start + 1.0)), t_eval=run.t)
            changes.append(_distance(run.end_to_end, other.end_to_end))
            size = _distance(run.end_to_end, 0.0)
            error = _remainder(changes, tolerance * STEP * size)
            if error <= tolerance * size:
                return replace(run, form_error=error)
        before = layers
    raise RuntimeError(
        f"the tree of order {order} is too large, and the order before changed A by {changes[-1]:.2g}. Raise rtol."
    )


def _distance(left: Array, right: Array | float) -> float:
    """Largest Frobenius norm of a difference over all times."""
    return float(np.linalg.norm(left - right, axis=(1, 2)).max())


def _remainder(changes: list[float], rounding: float) -> float:
    """Twice what is still to come if each change is to the one before as the larger of the last two ratios."""
    if len(changes) < 3:
        return math.inf
    third, second, last = changes[-3:]
    if last <= rounding:
        return last
    ratio = max(last / second, second / third)
    return 2 * last * ratio / (1 - ratio) if ratio < 1 else math.inf
