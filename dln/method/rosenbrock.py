r"""Rosenbrock methods as tables of numbers: RODAS4 and Rodas5P.

A step from ``y`` of size ``h`` is, with ``f`` the velocity and ``J`` its Jacobian at ``y`` (minus the Hessian of the
objective),

.. math::

    (I - h \gamma J)\, u_i &= h \gamma f\Big(y + \sum_{j<i} a_{ij} u_j\Big) + \gamma \sum_{j<i} c_{ij} u_j ,\\
    y_{new} &= y + \sum_i m_i u_i .

These are the variables of E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., 1996, IV.7, in
which no product with J is left; the usual coefficients are :math:`\Gamma = (I / \gamma - c)^{-1}`,
:math:`\alpha = a \Gamma`, :math:`b = m \Gamma`. The flow is autonomous, so nodes are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ..typing import Array
from .base import Method, frozen

__all__ = ["Rosenbrock", "ALL", "count_weights"]

# Nets with up to so many weights form the Hessian and factorise it. On plateaus its eigenvalues come in few clusters,
# so that conjugate gradients need some five products a stage: as fast at 27 weights, 3 times as fast at 75, 17 at 243.
FACTORISED = 32


@dataclass(frozen=True, eq=False)
class Rosenbrock(Method):
    """Coefficients of one Rosenbrock method with error estimate and dense output.

    Parameters
    ----------
    name, title, purpose : str
        Key in `ALL`, the authors' name for the method, and one line on what it is for.
    order : int
        Order of the propagated solution.
    gamma : float
        The number on the diagonal.
    a, c : ndarray, shape (s, s)
        Strictly lower triangular.
    m : ndarray, shape (s,)
        Weights of the solution.
    error : ndarray, shape (rows, s)
        Weights of the error estimate, ``error = sum_i error[0, i] u_i``. No row: fixed step.
    error_exponent : int
        The estimate of one step behaves as ``h**error_exponent``; 0 for a fixed step.
    within : ndarray, shape (d, s)
        Weights of the dense output, ``y + theta (y_new - y) + theta (1 - theta) sum_i theta**i within[i] u``.
    dense_order : int
        Order of this continuous extension: its error within one step is ``O(h**(dense_order + 1))``.
    factorised : int
        Largest number of weights for which the Hessian is formed; above it conjugate gradients are used.

    Raises
    ------
    ValueError
        If the tables do not fit each other or contain NaN.
    """

    name: str
    title: str
    purpose: str
    order: int
    gamma: float
    a: Array
    c: Array
    m: Array
    error: Array
    error_exponent: int
    within: Array
    dense_order: int
    factorised: int = FACTORISED
    curvature = True
    closing = 1

    def __post_init__(self) -> None:
        for table in ("a", "c", "m", "error", "within"):
            values = frozen(getattr(self, table))
            if not np.isfinite(values).all():
                raise ValueError(f"`{table}` must be finite, got {values!r}.")
            object.__setattr__(self, table, values)
        s = self.stages
        for table in ("a", "c"):
            values = getattr(self, table)
            if values.shape != (s, s) or values[np.triu_indices(s)].any():
                rule = f"strictly lower triangular with {s} rows"
                raise ValueError(f"`{table}` of {self.name} must be {rule}, got shape {values.shape}.")
        if self.within.ndim != 2 or self.within.shape[1] != s:
            rule = f"a matrix with {s} columns"
            raise ValueError(f"`within` of {self.name} must be {rule}, got shape {self.within.shape}.")
        if self.error.ndim != 2 or self.error.shape[1] != s or len(self.error) > 1:
            rule = f"at most one row of {s} weights"
            raise ValueError(f"`error` of {self.name} must have {rule}, got shape {self.error.shape}.")

    @property
    def stages(self) -> int:  # type: ignore[override]
        """Number of stages."""
        return len(self.m)

    @property
    def table(self) -> Array:
        """The rows of a, m, the rows of c, gamma in a row of its own, and the rows of the dense output."""
        diagonal = np.zeros(self.stages)
        diagonal[0] = self.gamma
        return np.vstack([self.a, self.m, self.c, diagonal, self.within])

    @cached_property
    def dense(self) -> Array:  # type: ignore[override]
        """Weights of both velocities, which are not used, of the mean velocity, and of the rows of `within` over h."""
        d = len(self.within)
        dense = np.zeros((3 + d, 1 + d))
        dense[2, 0] = 1.0
        for i in range(d):
            dense[3 + i, i : i + 2] = 1.0, -1.0
        return frozen(dense)

    def _is_dense(self, widths: Sequence[int]) -> bool:
        return count_weights(widths) <= self.factorised

    def numbers(self, widths: Sequence[int]) -> Array:
        """Whether H is formed, behind what every method has."""
        return np.append(super().numbers(widths), np.int64(self._is_dense(widths)))

    def memory(self, widths: Sequence[int]) -> Array:
        """No H yet, and a direction to which no mode is orthogonal."""
        from ..core.rosenbrock import HEAD, room

        n = count_weights(widths)
        memory = np.zeros(room(n, self.stages, self._is_dense(widths)))
        memory[0] = -1.0
        direction = np.cos(np.arange(n) ** 2 * 1.0)
        memory[HEAD : HEAD + n] = direction / np.linalg.norm(direction)
        return memory

    @staticmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""
        from ..core import rosenbrock
        from ..core.compile import compiled
        from ..core.steps import STEP

        return compiled(rosenbrock.step, STEP), compiled(rosenbrock.complete, STEP)


def count_weights(widths: Sequence[int]) -> int:
    """Number of weights of a net."""
    return sum(a * b for a, b in pairwise(widths))


def _lower(rows: Sequence[Sequence[float]]) -> Array:
    """Square array from the rows of a triangle."""
    table = np.zeros((len(rows), len(rows)))
    for target, row in zip(table, rows, strict=True):
        target[: len(row)] = row
    return table


def _stiffly_accurate(
    *, name: str, title: str, purpose: str, order: int, gamma: float, a: Array, c: Array, within: Any
) -> Rosenbrock:
    """The last stage begins at the embedded solution and its u is the error: m is the last row of a, and a 1."""
    last = np.eye(len(a))[-1]
    return Rosenbrock(
        name=name, title=title, purpose=purpose, order=order, gamma=gamma, a=a, c=c,
        m=a[-1] + last, error=last[None], error_exponent=order, within=np.array(within), dense_order=order - 1,
    )  # fmt: skip


# fmt: off

# --- E. Hairer, G. Wanner, "Solving Ordinary Differential Equations II", 2nd ed., 1996, IV.7 and IV.10: the first set
#     of coefficients of their code RODAS.
_LAST = [1.221224509226641, 6.019134481288629, 12.53708332932087, -0.6878860361058950]
RODAS4 = _stiffly_accurate(
    name="rodas4", title="RODAS 4(3)",
    purpose="stiff problems: the classical method of its kind, for comparison",
    order=4, gamma=1 / 4,
    a=_lower([
        [],
        [1.544],
        [0.9466785280815826, 0.2557011698983284],
        [3.314825187068521, 2.896124015972201, 0.9986419139977817],
        _LAST,
        [*_LAST, 1.0],
    ]),
    c=_lower([
        [],
        [-5.6688],
        [-2.430093356833875, -0.2063599157091915],
        [-0.1073529058151375, -9.594562251023355, -20.47028614809616],
        [7.496443313967647, -10.24680431464352, -33.99990352819905, 11.70890893206160],
        [8.083246795921522, -7.981132988064893, -31.52159432874371, 16.31930543123136, -6.058818238834054],
    ]),
    within=[
        [10.12623508344586, -7.487995877610167, -34.80091861555747, -7.992771707568823, 1.025137723295662, 0.0],
        [-0.6762803392801253, 6.087714651680015, 16.43084320892478, 24.76722511418386, -6.594389125716872, 0.0],
    ],
)

# --- G. Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within the Julia
#     Differential Equations package", BIT Numer. Math. 63, 2023; its digits as in SciML's OrdinaryDiffEq.
_LAST = [-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946]
RODAS5P = _stiffly_accurate(
    name="rodas5p", title="Rodas5P 5(4)",
    purpose="stiff problems: fewest steps on long plateaus",
    order=5, gamma=0.21193756319429014,
    a=_lower([
        [],
        [3.0],
        [2.849394379747939, 0.45842242204463923],
        [-6.954028509809101, 2.489845061869568, -10.358996098473584],
        [2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641],
        _LAST,
        [*_LAST, 1.0],
        [*_LAST, 1.0, 1.0],
    ]),
    c=_lower([
        [],
        [-14.155112264123755],
        [-17.97296035885952, -2.859693295451294],
        [147.12150275711716, -1.41221402718213, 71.68940251302358],
        [165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306],
        [24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471],
        [30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783, -19.097331116725623,
         -28.087943162872662],
        [37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047, -40.06618937091002,
         -54.66780262877968, -9.48861652309627],
    ]),
    within=[
        [25.948786856663858, -2.5579724845846235, 10.433815404888879, -2.3679251022685204, 0.524948541321073,
         1.1241088310450404, 0.4272876194431874, -0.17202221070155493],
        [-9.91568850695171, -0.9689944594115154, 3.0438037242978453, -24.495224566215796, 20.176138334709044,
         15.98066361424651, -6.789040303419874, -6.710236069923372],
        [11.419903575922262, 2.8879645146136994, 72.92137995996029, 80.12511834622643, -52.072871366152654,
         -59.78993625266729, -0.15582684282751913, 4.883087185713722],
    ],
)
# fmt: on

ALL = {method.name: method for method in (RODAS4, RODAS5P)}
