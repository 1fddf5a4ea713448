r"""Explicit Runge-Kutta methods as tables of numbers: Euler, RK4, BS3, Tsit5, DOPRI5, DOP853.

A step from ``y`` of size ``h`` is, with ``f`` the velocity,

.. math:: k_i = f\Big(y + h \sum_{j<i} A_{ij} k_j\Big), \qquad y_{new} = y + h \sum_{i<s} b_i k_i .

Row ``s`` of ``A`` is ``b``, so ``k_s = f(y_new)`` closes the step and is the first stage of the next one.
Adding a method is adding one `Tableau` to `ALL`; the tests then hold it to every order condition it claims.

Fractions ``p / q`` are exact in the source and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..typing import Array
from .base import Method, frozen

__all__ = ["Tableau", "ALL"]


@dataclass(frozen=True, eq=False)
class Tableau(Method):
    r"""Coefficients of one explicit Runge-Kutta method with error estimate and dense output.

    The tables are copied to C-contiguous float64 that cannot be written to.

    Parameters
    ----------
    name, title, purpose : str
        Key in `ALL`, the authors' name for the method, and one line on what it is for.
    order : int
        Order of the propagated solution.
    stages : int
        Number s of main stages; the stage that closes the step is not among them.
    A : ndarray, shape (S, S)
        Strictly lower triangular, ``S >= s + 1``. Rows ``0 .. s-1`` are the main stages, row ``s`` is ``b``,
        rows ``s+1 ..`` are extra stages that only the dense output needs.
    error : ndarray, shape (rows, s + 1)
        Weights of the error estimate. No row: fixed step. One row: ``error = h sum_i error[0, i] k_i``.
        Two rows ``e5, e3``: ``e5^2 / sqrt(e5^2 + 0.01 e3^2)`` [1]_ (II.10).
    error_exponent : int
        The estimate of one step behaves as ``h**error_exponent``; 0 for a fixed step.
    dense : ndarray, shape (S, d)
        ``y(t + theta h) = y + h sum_i (sum_j dense[i, j] theta**(j+1)) k_i`` for theta in [0, 1].
    dense_order : int
        Order of this continuous extension: its error within one step is ``O(h**(dense_order + 1))``.

    Raises
    ------
    ValueError
        If the tables do not fit each other or contain NaN.

    References
    ----------
    .. [1] E. Hairer, S. P. Norsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed., 1993.

    Examples
    --------
    >>> bs3 = ALL["bs3"]
    >>> bs3.c
    array([0.  , 0.5 , 0.75, 1.  ])
    >>> bs3.b @ bs3.c[: bs3.stages]  # the order condition of the tree with two vertices
    np.float64(0.5)
    """

    name: str
    title: str
    purpose: str
    order: int
    stages: int
    A: Array
    error: Array
    error_exponent: int
    dense: Array
    dense_order: int

    def __post_init__(self) -> None:
        for table in ("A", "error", "dense"):
            values = frozen(getattr(self, table))
            if values.ndim != 2 or not np.isfinite(values).all():
                raise ValueError(f"`{table}` must be a finite matrix, got {values!r}.")
            object.__setattr__(self, table, values)
        S, s = len(self.A), self.stages
        if self.A.shape != (S, S) or not 0 < s < S or self.A[np.triu_indices(S)].any():
            rule = f"strictly lower triangular with rows for {s} stages and b"
            raise ValueError(f"`A` of {self.name} must be {rule}, got shape {self.A.shape}.")
        if self.error.shape[1] != s + 1 or len(self.error) > 2:
            rule = f"at most 2 rows of {s + 1} weights"
            raise ValueError(f"`error` of {self.name} must have {rule}, got shape {self.error.shape}.")
        if len(self.dense) != S:
            rule = f"{S} rows, one for each row of `A`"
            raise ValueError(f"`dense` of {self.name} must have {rule}, got shape {self.dense.shape}.")

    @property
    def b(self) -> Array:
        """Weights of the step, shape (s,)."""
        return self.A[self.stages, : self.stages]

    @property
    def c(self) -> Array:
        """Nodes, the row sums of ``A``, shape (S,)."""
        return np.asarray(self.A.sum(axis=1))

    @cached_property
    def stability(self) -> float:
        """Length of the interval of stability: the largest x with |R(-x')| <= 1 for all x' in [0, x]."""
        powers = [np.ones(self.stages)]
        for _ in range(self.stages - 1):
            powers.append(self.A[: self.stages, : self.stages] @ powers[-1])
        R = np.polynomial.Polynomial([1.0, *(self.b @ power for power in powers)])
        x = np.linspace(0.0, 50.0, 50_001)
        return float(x[np.argmax(np.abs(R(-x)) > 1.0 + 1e-12) - 1])

    @property
    def table(self) -> Array:
        """The rows of A."""
        return self.A

    @staticmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""
        from ..core import explicit
        from ..core.compile import compiled
        from ..core.steps import STEP

        return compiled(explicit.step, STEP), compiled(explicit.complete, STEP)


def _table(rows: Sequence[Sequence[float] | Mapping[int, float]], columns: int) -> Array:
    """Array of shape (len(rows), columns) from rows that are lists, or dicts by column; the rest is zero."""
    table = np.zeros((len(rows), columns))
    for target, row in zip(table, rows, strict=True):
        for j, value in row.items() if isinstance(row, Mapping) else enumerate(row):
            target[j] = value
    return table


# fmt: off
# Columns: powers theta^1 .. theta^7. The last four vanish at both ends together with their slopes.
_HERMITE = np.array([
    [0, 3, -2, 0,  0,  0,  0],  # theta^2 (3 - 2 theta)        times y_new - y
    [1, -2, 1, 0,  0,  0,  0],  # theta (1 - theta)^2          times h k_0
    [0, -1, 1, 0,  0,  0,  0],  # theta^2 (theta - 1)          times h k_s
    [0, 1, -2, 1,  0,  0,  0],  # theta^2 (1 - theta)^2        times h sum_i bumps[0][i] k_i
    [0, 0, 1, -2,  1,  0,  0],  # theta^3 (1 - theta)^2        times h sum_i bumps[1][i] k_i
    [0, 0, 1, -3,  3, -1,  0],  # theta^3 (1 - theta)^3        times h sum_i bumps[2][i] k_i
    [0, 0, 0,  1, -3,  3, -1],  # theta^4 (1 - theta)^3        times h sum_i bumps[3][i] k_i
], dtype=np.float64)
# fmt: on


def _hermite(A: Array, s: int, *bumps: Sequence[float] | Mapping[int, float]) -> Array:
    """Dense table (S, 3 + len(bumps)): cubic Hermite through both ends, plus weighted bumps in between."""
    S = len(A)
    weights = np.vstack([A[s], np.eye(S)[[0, s]], _table(bumps, S)])
    return weights.T @ _HERMITE[: len(weights), : len(weights)]


# fmt: off

# --- Euler, 1768 ------------------------------------------------------------------------------------------
EULER = Tableau(
    name="euler", title="Euler",
    purpose="gradient descent itself: a step of size h is a step of learning rate h",
    order=1, stages=1,
    A=_table([[], [1.0]], 2),
    error=_table([], 2), error_exponent=0,
    dense=_table([[1.0], [0.0]], 1), dense_order=1,
)

# --- The classical fourth-order method: W. Kutta, Z. Math. Phys. 46, 1901 ---------------------------------
_A = _table([
    [],
    [1 / 2],
    [0, 1 / 2],
    [0, 0, 1],
    [1 / 6, 1 / 3, 1 / 3, 1 / 6],
], 5)
RK4 = Tableau(
    name="rk4", title="Runge-Kutta 4",
    purpose="fixed steps: runs whose cost and grid are known beforehand",
    order=4, stages=4,
    A=_A, error=_table([], 5), error_exponent=0,
    dense=_hermite(_A, 4), dense_order=3,
)

# --- P. Bogacki, L. F. Shampine, "A 3(2) pair of Runge-Kutta formulas", Appl. Math. Lett. 2(4), 1989 -------
_A = _table([
    [],
    [1 / 2],
    [0, 3 / 4],
    [2 / 9, 1 / 3, 4 / 9],
], 4)
BS3 = Tableau(
    name="bs3", title="Bogacki-Shampine 3(2)",
    purpose="loose tolerances, 1e-2 and above, with few velocities a step",
    order=3, stages=3,
    A=_A, error=_table([[-5 / 72, 1 / 12, 1 / 9, -1 / 8]], 4), error_exponent=3,
    dense=_hermite(_A, 3), dense_order=3,
)

# --- Ch. Tsitouras, "Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying -----------
#     assumption", Comput. Math. Appl. 62, 2011. Its decimals of A and of the error weights are carried here
#     to 22 digits, where the order conditions hold to 2e-20; as float64 to 1e-14, because A reaches 13.
#     The bump is the coefficient of theta^4 in its interpolant, which is of Hermite type.
_A = _table([
    [],
    [0.161],
    [-0.008480655492356988544427, 0.3354806554923569885444],
    [2.89715305710549343213, -6.359448489975074843148, 4.362295432869581411018],
    [5.325864828439256604429, -11.74888356406282787775, 7.495539342889836208305, -0.0924950663617552492565],
    [5.861455442946420028659, -12.92096931784710929171, 8.15936789857615864318, -0.07158497328140099722453,
     -0.028269050394068382909],
    [0.09646076681806522951817, 0.01, 0.4798896504144995747752, 1.379008574103741893192,
     -3.290069515436080679901, 2.324710524099773982415],
], 7)
TSIT5 = Tableau(
    name="tsit5", title="Tsitouras 5(4)",
    purpose="the default: tolerances from 1e-3 to 1e-8, dense output at no cost",
    order=5, stages=6,
    A=_A, error_exponent=5,
    error=_table([[0.001780011052225771443379, 0.0008164344596567469032236, -0.007880878010261996010315,
                   0.1447110071732629075372, -0.5823571654525552250199, 0.4580821059291869466616,
                   -1 / 66]], 7),
    dense=_hermite(_A, 6, [-1.0530884977290216, 0.1017, 2.490627285651252793, -16.54810288924490272,
                           47.37952196281928122, -34.87065786149660974, 2.5]), dense_order=4,
)

# --- J. R. Dormand, P. J. Prince, "A family of embedded Runge-Kutta formulae", J. Comp. Appl. Math. 6, 1980.
#     Dense output: L. F. Shampine, Math. Comp. 46, 1986, as the bump that Hairer et al. use in their DOPRI5.
_A = _table([
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
], 7)
DOPRI5 = Tableau(
    name="dopri5", title="Dormand-Prince 5(4)",
    purpose="comparison with the solver most others use",
    order=5, stages=6,
    A=_A, error_exponent=5,
    error=_table([[71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]], 7),
    dense=_hermite(_A, 6, [-12715105075 / 11282082432, 0, 87487479700 / 32700410799,
                           -10690763975 / 1880347072, 701980252875 / 199316789632,
                           -1453857185 / 822651844, 69997945 / 29380423]), dense_order=4,
)

# --- E. Hairer, S. P. Norsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed., 1993, II.5,
#     II.6 and II.10: their code DOP853, to 20 digits. Rows 13 .. 15 of A serve the dense output only.
#     As float64 the order conditions hold to 3e-15, those of the dense output to 5e-12 power by power,
#     because A reaches 43 and the dense table 545, and to 2e-13 once the powers are summed.
_B = {0: 0.054293734116568762238, 5: 4.4503128927524088814, 6: 1.891517899314500383,
      7: -5.8012039600105847815, 8: 0.31116436695781989441, 9: -0.15216094966251607856,
      10: 0.20136540080403034837, 11: 0.044710615727772590518}
_A = _table([
    {},
    {0: 0.052600151958767731879},
    {0: 0.019725056984537899454, 1: 0.059175170953613698363},
    {0: 0.029587585476806849182, 2: 0.088762756430420547545},
    {0: 0.2413651341592666855, 2: -0.88454947932828608534, 3: 0.92483400326179200312},
    {0: 0.037037037037037037037, 3: 0.17082860872947387128, 4: 0.12546768756682242502},
    {0: 0.037109375, 3: 0.17025221101954403931, 4: 0.060216538980455960685, 5: -0.017578125},
    {0: 0.037092000118504792711, 3: 0.17038392571223999381, 4: 0.10726203044637328465,
     5: -0.015319437748624401753, 6: 0.0082737891638140228876},
    {0: 0.62411095871607571711, 3: -3.3608926294469412941, 4: -0.86821934684172600682,
     5: 27.592099699446708305, 6: 20.154067550477893409, 7: -43.489884181069958848},
    {0: 0.47766253643826436589, 3: -2.4881146199716676419, 4: -0.59029082683684299637,
     5: 21.230051448181194235, 6: 15.279233632882423583, 7: -33.288210968984862919,
     8: -0.020331201708508626136},
    {0: -0.93714243008598732572, 3: 5.1863724288440637083, 4: 1.0914373489967295782,
     5: -8.1497870107469261251, 6: -18.520065659996959864, 7: 22.739487099350504282,
     8: 2.4936055526796523899, 9: -3.0467644718982195004},
    {0: 2.2733101475165382079, 3: -10.534495466737250198, 4: -2.0008720582248624991,
     5: -17.958931863118798917, 6: 27.948884529419960051, 7: -2.8589982771350236947,
     8: -8.8728569335306295443, 9: 12.360567175794303065, 10: 0.64339274601576353036},
    _B,
    {0: 0.056167502283047952339, 6: 0.25350021021662481109, 7: -0.24623903747080248992,
     8: -0.12419142326381636047, 9: 0.15329179827876569731, 10: 0.0082010522956346898849,
     11: 0.0075678976605456997614, 12: -0.008298},
    {0: 0.031834648163502140506, 5: 0.028300909672366775529, 6: 0.053541988307438567622,
     7: -0.054923748571390988465, 10: -0.00010834732869724932286, 11: 0.00038257109083565841295,
     12: -0.0003404650086874045608, 13: 0.14131244367463250028},
    {0: -0.42889630158379192341, 5: -4.6976214153611638431, 6: 7.6834211960625990418,
     7: 4.0689898183971100797, 8: 0.35672718745528110927, 12: -0.0013990241651590146213,
     13: 2.947514789152772339, 14: -9.1509584721798700108},
], 16)
_E5 = {0: 0.013120044994194880733, 5: -1.2251564463762044407, 6: -0.49575894965725019152,
       7: 1.664377182454986537, 8: -0.35032884874997368169, 9: 0.33417911871301747903,
       10: 0.081923206485115712466, 11: -0.022355307863886295259}
_E3 = {**_B, 0: _B[0] - 0.24409448818897637795, 8: _B[8] - 0.73384668828161185734,
       11: _B[11] - 0.022058823529411764706}
_BUMPS: list[dict[int, float]] = [
    {0: -8.4289382761090128651, 5: 0.56671495351937776963, 6: -3.0689499459498916913,
     7: 2.3846676565120698288, 8: 2.1170345824450282767, 9: -0.87139158377797299207,
     10: 2.2404374302607882759, 11: 0.63157877876946881816, 12: -0.088990336451333310821,
     13: 18.148505520854727257, 14: -9.1946323924783554, 15: -4.4360363875948939664},
    {0: 10.427508642579134603, 5: 242.28349177525818288, 6: 165.20045171727028199, 7: -374.5467547226902028,
     8: -22.113666853125306036, 9: 7.733432668472263839, 10: -30.674084731089398182,
     11: -9.332130526430227873, 12: 15.697238121770843886, 13: -31.139403219565177677,
     14: -9.3529243588444783866, 15: 35.816841486394083752},
    {0: 19.985053242002433821, 5: -387.03730874935176555, 6: -189.17813819516756883,
     7: 527.80815920542364901, 8: -11.573902539959630126, 9: 6.881232694696300017,
     10: -1.0006050966910838403, 11: 0.77771377980534432093, 12: -2.7782057523535084066,
     13: -60.196695231264120758, 14: 84.320405506677161018, 15: 11.992291136182789328},
    {0: -25.693933462703749003, 5: -154.18974869023643374, 6: -231.52937917604549568,
     7: 357.63911791061412378, 8: 93.405324183624310004, 9: -37.458323136451633157,
     10: 104.09964950896230045, 11: 29.840293426660503123, 12: -43.533456590011143754,
     13: 96.324553959188282948, 14: -39.177261675615439165, 15: -149.72683625798562581},
]
DOP853 = Tableau(
    name="dop853", title="Dormand-Prince 8(5,3)",
    purpose="tight tolerances, 1e-8 and below",
    order=8, stages=12,
    A=_A, error=_table([_E5, _E3], 13), error_exponent=8,
    dense=_hermite(_A, 12, *_BUMPS), dense_order=7,
)
# fmt: on

ALL = {method.name: method for method in (EULER, RK4, BS3, TSIT5, DOPRI5, DOP853)}
