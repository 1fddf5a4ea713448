r"""Exponential Rosenbrock methods of three stages: exprb53s3.

A step from ``y`` of size ``h`` is, with ``f`` the velocity, ``J`` its Jacobian at ``y`` (minus the Hessian of the
objective) and :math:`D_i = f(U_i) - f(y) - J (U_i - y)`,

.. math::

    U_2 &= y + c_2 h \varphi_1(c_2 h J) f(y) ,\\
    U_3 &= y + c_3 h \varphi_1(c_3 h J) f(y) + h a_{32}(h J) D_2 ,\\
    y_{new} &= y + h \varphi_1(h J) f(y) + h b_2(h J) D_2 + h b_3(h J) D_3 ,

where :math:`b_i` are sums of :math:`\varphi_3` and :math:`\varphi_4`. It is exact where the flow is linear, whatever
the step, for modes that grow as for those that relax. J acts on vectors only: the :math:`\varphi_k(h J)` come from
Lanczos' method; the formulas are in `dln.core.exponential`.

References
----------
V. T. Luan, A. Ostermann, "Exponential Rosenbrock methods of order five: construction, analysis and numerical
comparisons", J. Comput. Appl. Math. 255, 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..typing import Array
from .base import Method, frozen
from .rosenbrock import count_weights

__all__ = ["ExponentialRosenbrock", "ALL"]

# Dimension of the Krylov spaces: with full orthogonalisation the vectors beyond cost more than a shorter step saves.
LARGEST = 128
LEAST = 24
ROOM = 2**22  # numbers in one space, beyond which its dimension is cut


# Rows: both velocities, which are not used, and the values at theta = 1/4, 2/4, 3/4, 1, minus y and over h.
# Columns: theta^1 .. theta^4 of Lagrange's polynomials of these nodes and 0, times 3.
DENSE = frozen(
    np.array(
        [
            [0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0],
            [48.0, -208.0, 288.0, -128.0],
            [-36.0, 228.0, -384.0, 192.0],
            [16.0, -112.0, 224.0, -128.0],
            [-3.0, 22.0, -48.0, 32.0],
        ]
    )
    / 3.0
)


@dataclass(frozen=True, eq=False)
class ExponentialRosenbrock(Method):
    r"""Weights of one method. Their rows are x and the weights of :math:`\varphi_1, \varphi_3, \varphi_4` of ``x h J``.

    Parameters
    ----------
    name, title, purpose : str
        Key in `ALL`, the authors' name for the method, and one line on what it is for.
    order : int
        Order of the propagated solution.
    nodes : (float, float)
        c_2 and c_3.
    inner : ndarray, shape (2, 4)
        The two parts of :math:`a_{32}`; a row of zeros is no part.
    weights : ndarray, shape (3, 4)
        What acts on ``f(y)``, ``D_2``, ``D_3``, all with x = 1.
    error : ndarray, shape (3, 4), or (0, 4)
        The same of the error estimate. No row: fixed step.
    error_exponent : int
        The estimate of one step behaves as ``h**error_exponent``; 0 for a fixed step.
    largest : int
        Largest dimension of a Krylov space.

    Raises
    ------
    ValueError
        If the tables do not fit each other or contain NaN.
    """

    name: str
    title: str
    purpose: str
    order: int
    nodes: tuple[float, float]
    inner: Array
    weights: Array
    error: Array
    error_exponent: int
    largest: int = LARGEST
    curvature = True
    stages = 3
    closing = 1
    dense = DENSE
    dense_order = 4

    def __post_init__(self) -> None:
        for table, heights in (("inner", (2,)), ("weights", (3,)), ("error", (0, 3))):
            values = frozen(getattr(self, table))
            if values.ndim != 2 or values.shape[1] != 4 or len(values) not in heights:
                raise ValueError(
                    f"`{table}` of {self.name} must have four columns, got shape {values.shape}."
                )
            if not np.isfinite(values).all():
                raise ValueError(f"`{table}` must be finite, got {values!r}.")
            object.__setattr__(self, table, values)

    @property
    def table(self) -> Array:
        """The nodes in a row of their own, the rows of `inner` and of `weights`."""
        return np.vstack([[*self.nodes, 0.0, 0.0], self.inner, self.weights])

    def _dimension(self, widths: Sequence[int]) -> int:
        n = count_weights(widths)
        return min(n, self.largest, max(LEAST, ROOM // n))

    def numbers(self, widths: Sequence[int]) -> Array:
        """The largest dimension of a space, behind what every method has."""
        return np.append(super().numbers(widths), np.int64(self._dimension(widths)))

    def memory(self, widths: Sequence[int]) -> Array:
        """No space yet."""
        from ..core.exponential import room

        memory = np.zeros(room(count_weights(widths), self._dimension(widths)))
        memory[0] = -1.0
        return memory

    @staticmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""
        from ..core import exponential
        from ..core.compile import compiled
        from ..core.steps import STEP

        return compiled(exponential.step, STEP), compiled(exponential.complete, STEP)


def _without_fourth(weights: Array) -> Array:
    """The error estimate is what phi_4 contributes."""
    error = np.zeros_like(weights)
    error[1:, 0], error[1:, 3] = weights[1:, 0], weights[1:, 3]
    return error


_WEIGHTS = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 18.0, -60.0], [1.0, 0.0, -250 / 81, 500 / 27]])
EXPRB53S3 = ExponentialRosenbrock(
    name="exprb53s3",
    title="exprb53s3 of Luan, Ostermann",
    purpose="long plateaus of large nets: Hessian products alone, by Lanczos",
    order=5,
    nodes=(1 / 2, 9 / 10),
    inner=np.array([[1 / 2, 0.0, 27 / 25, 0.0], [9 / 10, 0.0, 729 / 125, 0.0]]),
    weights=_WEIGHTS,
    error=_without_fourth(_WEIGHTS),
    error_exponent=4,
)

ALL = {method.name: method for method in (EXPRB53S3,)}
