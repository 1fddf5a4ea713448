r"""How far the flow from a wide and large start leaves its linear approximation: by :math:`\rho^{-2L}`.

.. math::
    A(t) - A_{\mathrm{lin}}(t) = \frac{L^2 - 1}{6 L \rho^{2L}}\, e^{-\tau}
    (2 \tau - 3 + 4 e^{-\tau} - e^{-2\tau})\, A^* {A^*}^T A^*, \qquad \tau = L \rho^{2L-2} t

It is the answer to the change of the kernel, :math:`(L^2 - 1)/(6 \rho^2) (A A^T \otimes I + I \otimes A^T A)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ...typing import Array
from ..proof import Proof, entrywise, matrix
from ..runs import FULL_OBSERVATION, NO_DECAY, UNIT_RATES, full_observation, gap, product
from ..statement import Statement
from ..trial import Trial
from ..wide import LARGE, ONE_SCALE, SMALL_PRODUCT, WIDE, Wide, draw_wide, jacobian
from . import lazy_flow, lazy_kernel

SIZE, TIME = 1e5, 1.2  # rho^(2L), and the time in units of the kernel


def claim(target: Any, rho: Any, depth: Any, tau: Any, gone: Any) -> Any:
    """A less that of the linear flow, at the time tau in units of the kernel, ``gone = exp(-tau)``."""
    size = (depth**2 - 1) / (6 * depth * rho ** (2 * depth))
    return size * gone * (2 * tau - 3 + 4 * gone - gone**2) * (target @ target.T @ target)


def identities() -> Iterator[tuple[str, Any]]:
    """The linear flow of the error, driven by the change of the kernel along that of A."""
    rho, tau, E = sp.symbols("rho tau E", positive=True)
    for depth, shape in ((2, (2, 2)), (3, (1, 2)), (4, (2, 2))):
        target = matrix("S", *shape)
        error = claim(target, rho, depth, tau, E)
        speed = entrywise(lambda e: sp.diff(e, tau) - E * sp.diff(e, E), error)
        change = lazy_kernel.claim((1 - E) * target, rho, depth) @ np.ravel(E * target)
        driven = change.reshape(shape) / (depth * rho ** (2 * depth - 2))
        yield f"the velocity of the error at L = {depth}", speed + error - driven
        yield f"none at the start at L = {depth}", entrywise(lambda e: e.subs({tau: 0, E: 1}), error)


def residual(run: Wide) -> float:
    """The flow integrated to 12 digits, less that with the kernel of the start."""
    depth, R = len(run.weights), run.gradient_of_cost()
    unit = depth * run.rho ** (2 * depth - 2)
    J = jacobian(run.weights, np.eye(R.size).reshape(-1, *R.shape))
    h, Q = np.linalg.eigh(J @ J.T)
    left = lazy_flow.claim(np.ravel(R), Q, np.exp(-h * TIME / unit)).reshape(R.shape)
    found = product(run.flow(TIME / unit)) - run.cost.target - left
    return gap(found, claim(run.cost.target, run.rho, depth, TIME, np.exp(-TIME)))


def _draw(rng: Generator, depth: int) -> Wide:
    n, m = rng.integers([1, 2], 4)
    target: Array = rng.normal(size=(n, m))
    cost = full_observation(2 * target / np.linalg.norm(target))
    return draw_wide(rng, depth, cost, rho=SIZE ** (0.5 / depth), order=depth)


STATEMENT = Statement(
    title="the flow from a wide and large start leaves its linear approximation by order rho^(-2L)",
    formula="for entries N(0, w^-gamma), 1 - 1/L < gamma < 1, w to infinity, rho = w^((1-gamma)/2), under full "
    "observation: A(t) - A* = exp(-K t) (A(0) - A*) + (L^2 - 1)/(6 L rho^(2L)) e^-q (2 q - 3 + 4 e^-q - e^-2q) "
    "A* A*^T A* (1 + O(rho^(-2L))), K the tangent kernel of the start, q = L rho^(2L-2) t",
    source="derived; lazy regime: A. Jacot et al., arXiv 2106.15933v1, and L. Chizat et al., arXiv 1812.07956",
    symbolic=Proof("the linear equation of the error at L = 2, 3, 4, A of shape (2, 2), (1, 2)", identities),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the network is wide": WIDE,
            "the start is large": LARGE,
            "the product of the start is small": SMALL_PRODUCT,
            "all layers have one variance": ONE_SCALE,
            "the cost is full observation": FULL_OBSERVATION,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=1e-4,
        repeats=2,
    ),
)
