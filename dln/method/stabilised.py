r"""Stabilised explicit methods: Runge-Kutta-Chebyshev of order 2 and ROCK of order 4.

With s stages they are stable on an interval ``[-l, 0]`` whose length grows as ``s**2``. A stiff flow whose Jacobian is
symmetric, as that of a gradient flow is, then costs velocities in proportion to the root of its stiffness and needs
neither matrices nor linear solves. Each step takes the least s of a ladder whose interval covers h times the spectral
radius.

Stages are increments ``d_j = Y_j - y`` of the state and obey a three-term recurrence,

.. math:: d_j = p_j d_{j-1} + q_j d_{j-2} + h (m_j f(Y_{j-1}) + g_j f(y)), \qquad p_1 = 1, q_1 = 0 .

That is all of RKC. ROCK4 is a recurrence, four stages that start from its end, whose weights bring the composition to
order 4 for nonlinear velocities as well, and a second recurrence.

The dense output of either is the cubic with the values and slopes of both ends. What is left in the stiff modes comes
into it times at most 0.15 h |lambda|, less than into the error estimate, so that it is as accurate as the ends. Second
derivatives would bring it in times ``(h lambda)**2 / 50``; at the end of P6 such a quintic loses two digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ..typing import Array
from .base import Method, frozen

__all__ = ["RKC2", "ROCK4", "Rung", "Stabilised", "rkc2", "rock4"]

# Rows: velocity at the start and at the end, mean velocity. Columns: theta, theta^2, theta^3.
DENSE = frozen([[1.0, -2.0, 1.0], [0.0, -1.0, 1.0], [0.0, 3.0, -2.0]])
DENSE_ORDER = 3

DAMPING = 2 / 13  # of RKC2: |R| <= 1 - 2/13 / 3 away from 0
RADIUS = 0.95  # of ROCK4: |R| <= 0.95 away from 0


@dataclass(frozen=True, eq=False)
class Rung:
    """Coefficients for one number of stages.

    Parameters
    ----------
    before : ndarray, shape (m, 4)
        The numbers m_j, g_j, p_j, q_j of the first recurrence.
    middle : ndarray, shape (0, 4) or (4, 4)
        Four stages that start from ``Y_m``: rows of their strictly lower triangular table without the first, which is
        zero, and their weights.
    after : ndarray, shape (k, 4)
        The second recurrence, which starts from there.
    error : ndarray, shape (8,)
        Weights of the error estimate: of h times the velocity at the start, at the end, and at the four stages in the
        middle; of the solution's increment; of ``d_m``.
    length : float
        Length of the interval of stability.
    """

    before: Array
    middle: Array
    after: Array
    error: Array
    length: float

    @property
    def parts(self) -> tuple[int, int, int]:
        """Velocities of each part."""
        return len(self.before), len(self.middle), len(self.after)

    @property
    def stages(self) -> int:
        """Velocities of one step."""
        return sum(self.parts)

    @cached_property
    def growth(self) -> float:
        """Factor by which the roundings of the stages grow in the stiffest mode, in solution or error estimate."""
        z, weights, stages = -self.length, self.error, np.ones(1)
        for row in self.middle:
            stages = np.append(stages, 1.0 + z * row[: len(stages)] @ stages)
        noise, _ = _transfer(self.before, z)
        more_noise, passed = _transfer(self.after, z)
        last = abs(stages[-1] * passed)
        estimate = z * weights[1] * last + abs(weights[6]) * last
        estimate += abs(z * weights[2 : 1 + len(stages)] @ stages[:-1] + weights[7])
        return noise * max(last, abs(estimate)) + more_noise


def _transfer(rows: Array, z: float) -> tuple[float, float]:
    """What roundings of all stages add up to at the end of a recurrence, and what it makes of a perturbed start."""
    if not len(rows):
        return 0.0, 1.0
    m, _, p, q = rows.T
    pull, q = m * z, np.append(q, 0.0)
    reach = np.zeros(len(m) + 2)  # what a perturbation of Y_j adds to the last stage
    reach[-2] = 1.0
    for j in range(len(m) - 1, -1, -1):
        reach[j] = (p[j] + pull[j]) * reach[j + 1] + q[j + 1] * reach[j + 2]
    return float(np.linalg.norm(np.append(pull * reach[1:-1], 1.0))), float(reach[0])


@dataclass(frozen=True, eq=False)
class Stabilised(Method):
    """A family of stabilised methods, one for each number of stages on a ladder.

    Parameters
    ----------
    name, title, purpose : str
        Key in `ALL`, the authors' name for the method, and one line on what it is for.
    order : int
        Order of the propagated solution.
    error_exponent : int
        The estimate of one step behaves as ``h**error_exponent``; 0 for a fixed step.
    ladder : tuple of int
        Numbers of stages, increasing. A fixed step takes the first.
    rung : callable
        The `Rung` for a number of stages.
    """

    name: str
    title: str
    purpose: str
    order: int
    error_exponent: int
    ladder: tuple[int, ...]
    rung: Callable[[int], Rung]

    dense = DENSE
    closing = 1
    rows = 6  # of K: velocities at both ends, and four stages

    def __post_init__(self) -> None:
        # Where it is below 3, the ends of the step bound it.
        object.__setattr__(self, "dense_order", min(self.order, DENSE_ORDER))

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """Coefficients along the ladder."""
        return tuple(self.rung(s) for s in self.ladder)

    @property
    def stages(self) -> int:  # type: ignore[override]
        """Largest number of stages."""
        return self.ladder[-1]

    @property
    def stability(self) -> float:
        """Length of the interval of stability with the largest number of stages."""
        return self.rungs[-1].length

    @cached_property
    def table(self) -> Array:
        """Length and growth of every rung, then, rung by rung, its three parts."""
        heads = [[rung.length, rung.growth, 0.0, 0.0, 0.0, 0.0] for rung in self.rungs]
        parts = [np.array(heads)]
        for rung in self.rungs:
            for part, free in ((rung.before, (0, 2)), (rung.middle, (2, 0)), (rung.after, (0, 2))):
                parts.append(np.pad(part, ((0, 0), free)))
        return frozen(np.vstack(parts))

    @cached_property
    def error(self) -> Array:  # type: ignore[override]
        """Weights of the error estimate, one row a rung."""
        return frozen([rung.error for rung in self.rungs])

    def numbers(self, widths: Sequence[int]) -> Array:
        """Besides the usual: number of rungs, then for each its first row in the table and its parts."""
        sizes = np.array([rung.parts for rung in self.rungs])
        first = len(sizes) + np.cumsum(sizes.sum(axis=1)) - sizes.sum(axis=1)
        rungs = np.column_stack([first, sizes]).ravel()
        return np.concatenate([super().numbers(widths), [len(sizes)], rungs]).astype(np.int64)

    def memory(self, widths: Sequence[int]) -> Array:
        """Room for the last increment of the first recurrence and for the state it belongs to."""
        return np.zeros(2 * sum(n * m for n, m in pairwise(widths)))

    @staticmethod
    def kernels() -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Compiled `step` and `complete`."""
        from ..core import stabilised
        from ..core.compile import compiled
        from ..core.steps import STEP

        return compiled(stabilised.step, STEP), compiled(stabilised.complete, STEP)


# --- B. P. Sommeijer, L. F. Shampine, J. G. Verwer, "RKC: an explicit solver for parabolic PDEs", J. Comp. Appl. ------
#     Math. 88, 1997


@cache
def rkc2(s: int) -> Rung:
    r"""Runge-Kutta-Chebyshev of order 2: ``R(z) = a_s + b_s T_s(w_0 + w_1 z)``.

    The error estimate is ``0.8 (y - y_new) + 0.4 h (f(y) + f(y_new))``.
    """
    w0 = 1 + DAMPING / s**2
    T, T1, T2 = np.ones(s + 1), np.zeros(s + 1), np.zeros(s + 1)  # T_j(w0) and its first two derivatives
    T[1], T1[1] = w0, 1.0
    for j in range(2, s + 1):
        T[j] = 2 * w0 * T[j - 1] - T[j - 2]
        T1[j] = 2 * T[j - 1] + 2 * w0 * T1[j - 1] - T1[j - 2]
        T2[j] = 4 * T1[j - 1] + 2 * w0 * T2[j - 1] - T2[j - 2]
    w1 = T1[s] / T2[s]
    b = np.ones(s + 1)
    b[2:] = T2[2:] / T1[2:] ** 2
    b[:2] = b[2]
    a = 1 - b * T
    rows = np.zeros((s, 4))
    rows[0, [0, 2]] = b[1] * w1, 1.0
    ratio = b[2:] / b[1:-1]
    rows[1:, 0] = 2 * w1 * ratio
    rows[1:, 1] = -a[1:-1] * rows[1:, 0]
    rows[1:, 2] = 2 * w0 * ratio
    rows[1:, 3] = -b[2:] / b[:-2]
    error = [0.4, 0.4, 0.0, 0.0, 0.0, 0.0, -0.8, 0.0]
    none = frozen(np.zeros((0, 4)))
    return Rung(frozen(rows), none, none, frozen(error), (w0 + 1) / w1)


# --- A. Abdulle, "Fourth order Chebyshev methods with recurrence relation", SIAM J. Sci. Comput. 23, 2002 -------------
#
# R(z) = w(z) P(z), where P of degree s - 4 is orthogonal on [-1, 1] for the weight w^2 / sqrt(1 - x^2). By a theorem of
# Bernstein |w P| then oscillates between nearly equal extrema. z = sigma (x - a), a > 1. The five unknowns are the
# zeros of w, two pairs of complex ones, and a. They are determined here from five equations:
#   log R = z + O(z^5), order 4: the sums over the zeros x_i of R of (a - x_i)^-k vanish for k = 2, 3, 4, while k = 1
#   gives sigma;
#   R'(1) = 0: the oscillations begin at x = 1 with a maximum, so that [-1, a] is as long as can be;
#   |R(-1)| = RADIUS, the largest extremum.

# Solution for s = infinity: real and imaginary parts of the zeros of w, in units of z, and a - 1.
START = (-2.512, 1.326, -0.304, 3.598, 8.115)


def _orthogonal(w: Array, x: Array, degree: int) -> tuple[Array, Array]:
    """Recurrence ``p_{j+1} = (x - A_j) p_j - B_j p_{j-1}`` for weights w^2 at the nodes x, the last axis; B_0 = 0."""
    A, B = np.zeros((degree, *w.shape[:-1])), np.zeros((degree, *w.shape[:-1]))
    older, p = np.zeros_like(w), w / np.linalg.norm(w, axis=-1, keepdims=True)  # orthonormal, times w
    for j in range(degree):
        A[j] = (p * p) @ x
        if j + 1 == degree:
            break
        rest = (x - A[j, ..., None]) * p - (np.sqrt(B[j])[..., None] * older if j else 0.0)
        square = (rest * rest).sum(axis=-1)
        older, p = p, rest / np.sqrt(square)[..., None]
        B[j + 1] = square
    return A, B


def _normalised(A: Array, B: Array, a: Array) -> Array:
    """Ratios ``r_j = p_{j+1}(a) / p_j(a)``."""
    r = np.zeros_like(A)
    for j in range(len(A)):
        r[j] = a - A[j] - (B[j] / r[j - 1] if j else 0.0)
    return r


def _quartic(zeros: Array, x: Array) -> Array:
    """The monic polynomial with two pairs of complex zeros."""
    return ((x - zeros[..., :1]) ** 2 + zeros[..., 1:2] ** 2) * (
        (x - zeros[..., 2:3]) ** 2 + zeros[..., 3:] ** 2
    )


def _system(u: Array, s: int) -> tuple[Array, tuple[Any, ...]]:
    """The five equations at unknowns of shape (k, 5), and what the coefficients are made of."""
    unit = 1 / (0.175 * (s * s - 8.1))  # so many x are one z, nearly
    a = 1 + u[:, 4] * unit
    zeros = u[:, :4] * unit
    zeros[:, ::2] += a[:, None]
    nodes = s + 6  # Gauss-Chebyshev, exact to degree 2 (s - 4) + 8
    x = np.cos((np.arange(nodes) + 0.5) * np.pi / nodes)
    A, B = _orthogonal(_quartic(zeros, x), x, s - 4)
    r = _normalised(A, B, a)
    # p_j / p_j(a): four derivatives / k! at a, value and derivative at 1, value at -1.
    k = len(u)
    taylor, older = np.zeros((5, k)), np.zeros((5, k))
    values, before = np.zeros((3, k)), np.zeros((3, k))
    taylor[0] = values[0] = values[2] = 1.0
    for j in range(s - 4):
        back = B[j] / r[j - 1] if j else 0.0 * a
        new = (a - A[j]) * taylor - back * older
        new[1:] += taylor[:-1]
        taylor, older = new / r[j], taylor
        new = (np.array([1.0, 1.0, -1.0])[:, None] - A[j]) * values - back * before
        new[1] += values[0]
        values, before = new / r[j], values
    _, c1, c2, c3, c4 = taylor  # P(a + d) = 1 + c1 d + ..: power sums by the logarithm
    sums = np.array(
        [
            c1,
            -2 * (c2 - c1**2 / 2),
            3 * (c3 - c1 * c2 + c1**3 / 3),
            -4 * (c4 - c1 * c3 - c2**2 / 2 + c1**2 * c2 - c1**4 / 4),
        ]
    )
    pairs = a[:, None] - zeros[:, ::2] - 1j * zeros[:, 1::2]
    sums += np.array([2 * (pairs**-power).real.sum(axis=1) for power in range(1, 5)])
    at_one = 1 - zeros[:, ::2]
    slope = values[1] / values[0] + (2 * at_one / (at_one**2 + zeros[:, 1::2] ** 2)).sum(axis=1)
    left = (_quartic(zeros, -np.ones((k, 1))) / _quartic(zeros, a[:, None]))[:, 0] * values[2]
    sigma = sums[0]
    equations = [
        sums[1] / sigma**2,
        sums[2] / sigma**3,
        sums[3] / sigma**4,
        slope / sigma,
        abs(left) - RADIUS,
    ]
    return np.array(equations).T, (zeros[0], a[0], sigma[0], A[:, 0], B[:, 0])


@cache
def _solved(s: int) -> tuple[tuple[float, ...], tuple[Any, ...]]:
    """Unknowns for s stages, by Newton's method from those for a few more stages."""
    above = [rung for rung in (6, 7, 8, 10, 14, 20, 40) if rung > s]
    u = np.array(_solved(above[0])[0] if above else START)
    for _ in range(20):
        steps = 1e-7 * np.maximum(np.abs(u), 0.1)
        values, _parts = _system(np.vstack([u, u + np.diag(steps)]), s)
        change = np.linalg.solve((values[1:] - values[0]).T / steps, values[0])
        u = u - change
        if np.abs(change).max() < 1e-9:  # the next change would be its square
            return tuple(u.tolist()), _system(u[None], s)[1]
    raise ArithmeticError(f"no stability polynomial of degree {s} was found")


def _velocity_weights(c: Array) -> Array:
    """Of h f(Y), from those of Y, over the trees t, [t], [tt], [[t]], [ttt], [t[t]], [[tt]], [[[t]]]."""
    one, two, bush, chain = c[0], c[1], c[2], c[3]
    return np.array([np.ones_like(one), one, one**2, two, one**3, one * two, bush, chain])


EXACT = 1 / np.array([1.0, 2.0, 3.0, 6.0, 4.0, 8.0, 12.0, 24.0])  # 1 / gamma
ORDERS = np.array([1, 2, 3, 3, 4, 4, 4, 4])


def _weights_after(rows: Array, start: Array) -> Array:
    """Elementary weights at the end of a recurrence, from those at its start."""
    older, now = start, start
    for m, _, p, q in rows:
        older, now = now, p * now + q * older + m * _velocity_weights(now)
    return now


def _weights_needed(rows: Array) -> Array:
    """Elementary weights at the start of a recurrence that is to end with EXACT."""
    start = np.zeros(8)
    for order in range(1, 5):  # those of lower order are right already
        lack = EXACT - _weights_after(rows, start)
        start += np.where(order == ORDERS, lack, 0.0)
    return start


def _sums(p: Array, goal: Array) -> Array:
    """Sums ``b``, ``bc``, ``bc^2``, ``bAc``, ``bc^3``, ``bcAc``, ``bAc^2``, ``bAAc`` that four stages from Y must have.

    The elementary weights of Y are p, those wanted after the stages are the goal. A stage from Y has the weights of
    `_velocity_weights` of p + sum_j a_ij (..), multiplied out here tree by tree.
    """
    one, two, bush, chain = p[:4]
    w = np.zeros(8)
    lack = goal - p
    w[0] = lack[0]
    w[1] = lack[1] - one * w[0]
    w[2] = lack[2] - one**2 * w[0] - 2 * one * w[1]
    w[3] = lack[3] - two * w[0] - one * w[1]
    w[4] = lack[4] - one**3 * w[0] - 3 * one**2 * w[1] - 3 * one * w[2]
    w[5] = lack[5] - one * two * w[0] - (one**2 + two) * w[1] - one * (w[2] + w[3])
    w[6] = lack[6] - bush * w[0] - one**2 * w[1] - 2 * one * w[3]
    w[7] = lack[7] - chain * w[0] - two * w[1] - one * w[3]
    return w


NODES = 0.3, 0.55  # c_2 and c_3 in units of sum b: small coefficients, small errors of order 5


def _four_stages(w: Array) -> tuple[Array, Array]:
    """Table A and weights b of four explicit stages with the eight sums w, by nodes c_2, c_3 given and c_4 sought."""
    c2, c3 = NODES[0] * w[0], NODES[1] * w[0]

    def given(c4: float) -> tuple[float, Array, Array]:
        c = np.array([0.0, c2, c3, c4])
        b = np.append(0.0, np.linalg.solve([c[1:], c[1:] ** 2, c[1:] ** 3], w[[1, 2, 4]]))
        b[0] = w[0] - b.sum()
        Ac = np.zeros(4)
        Ac[2:] = np.linalg.solve([b[2:], b[2:] * c[2:]], w[[3, 5]])
        A = np.zeros((4, 4))
        A[3, 2] = (w[6] - c2 * w[3]) / (b[3] * c3 * (c3 - c2))
        A[2, 1] = Ac[2] / c2
        A[3, 1] = (Ac[3] - A[3, 2] * c3) / c2
        A[:, 0] = c - A.sum(axis=1)
        return float(b[3] * A[3, 2] * Ac[2] - w[7]), A, b

    low, high = 1.0 * w[0], 1.06 * w[0]
    f_low, f_high = given(low)[0], given(high)[0]
    while f_high != f_low and abs(high - low) > 1e-15:
        low, high, f_low = high, high - f_high * (high - low) / (f_high - f_low), f_high
        f_high, A, b = given(high)
    return A, b


def _recurrence(A: Array, B: Array, a: float, sigma: float) -> Array:
    """Rows of the recurrence of ``p_j(x) / p_j(a)`` in z = sigma (x - a)."""
    rows = np.zeros((len(A), 4))
    if len(A):
        r = _normalised(A, B, np.asarray(a))
        rows[:, 0] = 1 / (sigma * r)
        rows[1:, 3] = -B[1:] / (r[:-1] * r[1:])
        rows[:, 2] = 1 - rows[:, 3]
    return rows


@cache
def rock4(s: int) -> Rung:
    """ROCK of order 4 with s >= 5 stages, computed from its stability polynomial.

    Three things differ from Abdulle's code as it is commonly described. The quartic factor of the polynomial, tabulated
    there, is solved for.

    There the recurrence runs through all of P before the four stages, which then amplify the roundings of its end
    by the quartic: as s^8, 1e13 for 150 stages. Here every other zero of P goes into a recurrence of its own after
    the four stages. It damps what they amplify, and s^4 remains. Each half is orthogonal on its own zeros for the
    weight w, so that its stages stay as bounded as those of P. Between the halves the stiff modes still swing out
    by the root of the quartic. On a curved slow manifold that, seen by the error estimate, bounds the useful s near
    50.

    His error estimate takes the last four stages and the velocity after them. Here it takes what those roundings do not
    reach: velocity and increment at the end of either recurrence and the velocity at the start, by the weights that
    vanish on all trees up to order 3. It is h^4 / 24 times the fourth derivative, nearly.
    """
    zeros, a, sigma, A, B = _solved(s)[1]
    nodes = np.linalg.eigvalsh(np.diag(A) + np.diag(np.sqrt(B[1:]), 1) + np.diag(np.sqrt(B[1:]), -1))
    halves = []
    for half in (nodes[::-2][::-1], nodes[:-1][::-2][::-1]):
        halves.append(_recurrence(*_orthogonal(np.sqrt(_quartic(zeros, half)), half, len(half)), a, sigma))
    before, after = halves
    p = _weights_after(before, np.zeros(8))
    A, b = _four_stages(_sums(p, _weights_needed(after)))
    stages = np.zeros((8, 4))
    for i in range(4):
        stages[:, i] = _velocity_weights(p + stages @ A[i])
    used = np.array([0, 1, 2, 6, 7] if len(before) > 1 else [2, 3, 4, 5, 7])
    start, end = _velocity_weights(np.zeros(8)), _velocity_weights(EXACT)
    weights = np.column_stack([start, end, stages, EXACT, p])[:, used]
    e = np.linalg.svd(weights[:4])[2][-1]
    error = np.zeros(8)
    error[used] = e / (24 * (weights[7] @ e))
    middle = frozen(np.vstack([A[1:], b]))
    return Rung(frozen(before), middle, frozen(after), frozen(error), float(sigma * (a + 1)))


def _ladder(first: int, last: int) -> tuple[int, ...]:
    """Numbers of stages, a tenth more from one to the next."""
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(min(last, max(numbers[-1] + 1, round(1.1 * numbers[-1]))))
    return tuple(numbers)


RKC2 = Stabilised(
    name="rkc2",
    title="Runge-Kutta-Chebyshev 2",
    purpose="stiff flows at tolerances of 1e-5 and above: few velocities, no matrices",
    order=2,
    error_exponent=3,
    ladder=_ladder(2, 250),
    rung=rkc2,
)

ROCK4 = Stabilised(
    name="rock4",
    title="Abdulle's ROCK4",
    purpose="stiff flows at tighter tolerances: few velocities, no matrices",
    order=4,
    error_exponent=4,
    ladder=_ladder(5, 150),
    rung=rock4,
)

ALL: dict[str, Method] = {method.name: method for method in (RKC2, ROCK4)}
