r"""How little the tangent kernel of a wide and large start changes: by a share of order :math:`\rho^{-2L}`.

.. math:: \Theta(t) - \Theta(0) = \frac{L^2 - 1}{6 \rho^2} (A A^T \otimes I + I \otimes A^T A)\, (1 + O(\rho^{-2L}))

At the start :math:`X = F_{m-1}^T W_{m-1} \cdots W_{l+1} B_l^T` is of mean zero and small for all l < m. It grows to
:math:`(m - l) \rho^{2 (m - l - 1)} A^T`: each of its layers brings in its gradient, and with k = m - l - 1 the sum is
that of second moments, i + 1, of products of i = 0 .. k Gaussian matrices. The kernel moves by :math:`-G X` alone.
For gamma = 1 - 1/L both A(0) and X are of order one from the start: the change is as small, but not the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from numpy.random import Generator

from ... import network
from ...inits import reduced_gaussian
from ..proof import Proof, derivative, entrywise, matrix
from ..runs import NO_DECAY, UNIT_RATES, Quadratic, gap, product
from ..statement import Statement
from ..trial import Trial
from ..wide import LARGE, ONE_SCALE, SMALL_PRODUCT, WIDE, Wide, draw_wide, jacobian

SIZE, TIME = 1e5, 0.4  # rho^(2L), and the time in units of the kernel


def claim(A: Any, rho: Any, depth: Any) -> Any:
    """Change of the kernel, as it acts on the entries of G row by row."""
    n, m = (np.eye(size, dtype=int) for size in A.shape)
    return (depth**2 - 1) / (6 * rho**2) * (np.kron(A @ A.T, m) + np.kron(n, A.T @ A))


def identities() -> Iterator[tuple[str, Any]]:
    """Two pulls -E and -H, one after the other; the kernel feels those of any cost in such pairs."""
    x, y, rho = sp.symbols("x y rho", positive=True)
    for depth, m, n in [(2, 2, 2), (3, 2, 1), (4, 1, 1)]:
        widths = (m, *[math.inf] * (depth - 1), n)
        start = [rho * W.astype(int) for W in reduced_gaussian(widths, order=depth - 2, rho=1.0)]
        E, H = (matrix(name, n, m) for name in "EH")
        first, second = (network.layer_gradients(start, pull) for pull in (E, H))
        turned = [derivative(partial(_pulled, H, l), start, first) for l in range(depth)]
        steps = zip(start, first, second, turned, strict=True)
        J = jacobian([W + x * S + y * T + x * y * Z for W, S, T, Z in steps], _units(n, m))
        J_x, J_y = (entrywise(partial(_slope, v), J) for v in (x, y))
        J_xy = entrywise(partial(_slope, y), J_x)
        J, J_x, J_y, J_xy = (entrywise(lambda e: e.subs({x: 0, y: 0}), M) for M in (J, J_x, J_y, J_xy))
        yield f"no change at first order at L = {depth}", J_x @ J.T + J @ J_x.T
        moves = [network.end_to_end_velocity(start, -pull) for pull in (E, H)]
        law = claim(moves[0] + moves[1], rho, depth) - sum(claim(A, rho, depth) for A in moves)
        yield f"the change at L = {depth}", J_xy @ J.T + J_x @ J_y.T + J_y @ J_x.T + J @ J_xy.T - law


def _pulled(pull: Any, l: int, weights: list[Any]) -> Any:
    return network.layer_gradients(weights, pull)[l]


def _slope(variable: Any, expression: Any) -> Any:
    return sp.diff(expression, variable)


def _units(n: int, m: int) -> Any:
    return np.eye(n * m, dtype=int).reshape(-1, n, m)


def residual(run: Wide) -> float:
    """Kernels before and after the flow, integrated to 12 digits."""
    depth, units = len(run.weights), _units(*run.cost.target.shape)
    end = run.flow(TIME * run.rho ** (2 - 2 * depth) / depth)
    before, after = (jacobian(weights, units) for weights in (run.weights, end))
    return gap(after @ after.T - before @ before.T, claim(product(end), run.rho, depth))


def _draw(rng: Generator, depth: int) -> Wide:
    """Any cost."""
    n, m = rng.integers([1, 2], 4)
    S = rng.normal(size=(n * m, n * m))
    target = rng.normal(size=(n, m))
    cost = Quadratic(2 * target / np.linalg.norm(target), 0.5 * np.eye(n * m) + S @ S.T / (n * m))
    return draw_wide(rng, depth, cost, rho=SIZE ** (0.5 / depth), order=depth)


STATEMENT = Statement(
    title="the tangent kernel of a wide and large start changes by a share of order rho^(-2L)",
    formula="for entries N(0, w^-gamma), 1 - 1/L < gamma < 1, w to infinity, rho = w^((1-gamma)/2), any cost, times "
    "of order rho^(2-2L): K(t) - K(0) = (L^2 - 1)/(6 rho^2) (A A^T x I + I x A^T A) (1 + O(rho^(-2L))), where K(0) = "
    "L rho^(2L-2) I",
    source="derived; constancy of the kernel: A. Jacot et al., arXiv 2106.15933v2, regimes",
    symbolic=Proof(
        "infinite width, A of shape (2, 2), (1, 2), (1, 1) at L = 2, 3, 4; second order in time", identities
    ),
    numeric=Trial(
        draw=_draw,
        hypotheses={
            "the network is wide": WIDE,
            "the start is large": LARGE,
            "the product of the start is small": SMALL_PRODUCT,
            "all layers have one variance": ONE_SCALE,
            "there is no weight decay": NO_DECAY,
            "all layers move at one rate": UNIT_RATES,
        },
        residual=residual,
        tolerance=2e-4,
        repeats=2,
    ),
)
