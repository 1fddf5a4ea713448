r"""Plateaus of a trajectory.

On a plateau the relative rate of decrease of the objective E,

.. math:: r(t) = -\dot E / E = \|\dot\theta\|^2 / E ,

has a deep minimum: it falls while the flow arrives and rises exponentially while the next mode escapes. The slowest
point is where both contributions balance, and there the objective is closest to that of the critical point. A run that
never comes near a critical point has a falling r, and no such minimum. The integrator follows r at every step, so the
answer does not depend on which times were saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import checks, critical
from ..network import end_to_end, end_to_end_velocity, tangent_bound
from ..trajectory import ContinuationError, Trajectory
from ..typing import Array
from .view import View

__all__ = ["Saddle", "find_saddles"]

LEFT = 0.05  # a plateau is left when this share of the next drop of the objective is done, entered when all but it is
GRAZE = math.log(3.0)  # least depth of a minimum of log r
LEAST_GAP = 3.0  # least ratio of singular values that justifies a rank
SEEN = 1e-2  # share of the gradient dC/dA that the weights see, relative to the bound; far less at a saddle
SHARES = (0.15, 0.3)  # of the next drop of the objective, where the speed of the escape is measured
FALL = 1e-6  # a rise of the rate counts once the objective has fallen by this share of itself (else it was rounding)


@dataclass(frozen=True)
class Saddle:
    """A critical point that a trajectory came close to.

    Attributes
    ----------
    rank : int
        Number of active modes.
    start, stop : float
        Times at which the plateau is entered and left: 5 % of the drop of the objective from the previous, or to the
        next, critical point remain, or are done. `stop` is inf where the run ends on it.
    t : float
        Time of the slowest point, the closest approach; what follows is measured there.
    cost, objective : float
        C(A), and with weight decay the objective.
    end_to_end : ndarray, shape (n_L, n_0)
        A.
    gradient_norm : float
        Frobenius norm of the gradient of the objective with respect to the weights.
    gap : float
        Ratio of the last active to the first inactive singular value: what justifies the rank. At rank 0, the largest
        singular value of the whole run to the largest one here.
    depth_of_plateau : float
        Factor by which the relative rate of decrease falls below its peaks around this point; at least 10 for a
        plateau, less for one that is only grazed.
    escape_speed : float
        Predicted speed of the fastest escape, `dln.escape_speed` of the gradient dC/dA; 0 for a minimum.
    measured_speed : float
        The same from the growth of the escaping mode; NaN where none escapes or the network has one layer.
    kind : str
        "saddle" or "minimum".
    """

    rank: int
    start: float
    stop: float
    t: float
    cost: float
    objective: float
    end_to_end: Array
    gradient_norm: float
    gap: float
    depth_of_plateau: float
    escape_speed: float
    measured_speed: float
    kind: str

    @property
    def grazed(self) -> bool:
        """Whether the trajectory only passed by: a saddle without a plateau of its own."""
        return self.kind == "saddle" and self.depth_of_plateau < math.exp(critical.DEPTH)

    def __repr__(self) -> str:
        return (
            f"Saddle(rank={self.rank}, start={self.start:.4g}, stop={self.stop:.4g}, cost={self.cost:.6g}, "
            f"escape_speed={self.escape_speed:.4g}, kind={self.kind!r})"
        )


def find_saddles(trajectory: Trajectory, *, resolution: float = 1e-4) -> tuple[Saddle, ...]:
    r"""Critical points that a trajectory visited, in order; a final minimum comes last.

    Parameters
    ----------
    trajectory : Trajectory
        A run. Flows are examined between their saved times too; other runs at their saved times, and flows that
        cannot be continued from there, since their late times are too far apart in float64.
    resolution : float
        Changes of the objective below this share of its whole drop are not told apart: the end of a run counts as a
        minimum when less than that is left to gain, by the decrement of a steepest-descent step in A.

    Returns
    -------
    tuple of Saddle
        Empty if the run neither stalls nor converges.

    Raises
    ------
    ValueError, TypeError
        If the resolution is not positive, the objective is not, or the argument is no trajectory.

    Notes
    -----
    The relative rate needs a positive objective: add a constant to a cost that has negative values. A minimum of it
    counts if it is at least a factor 3 below its peaks on both sides (at the start: after it) and its rank is justified
    by a gap of at least 3. It is a plateau from a factor 10 on, otherwise it is *grazed*. The rank is the number of
    modes that are stationary by Newton's estimate (see `dln.critical`).

    References
    ----------
    arXiv 2106.15933, saddle-to-saddle conjecture (J2-C1) and optimal escape (J2-P3).

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved(np.diag([4.0, 1.0]))
    >>> run = dln.gradient_flow(cost, dln.inits.aligned(cost.target, 2, scale=1e-6), (0.0, 40.0))
    >>> for saddle in find_saddles(run):
    ...     print(saddle.rank, saddle.kind, round(saddle.cost, 3), round(saddle.escape_speed, 3))
    0 saddle 8.5 4.0
    1 saddle 0.5 1.0
    2 minimum 0.0 0.0
    """
    if not isinstance(trajectory, Trajectory):
        raise TypeError(
            f"`trajectory` must be a Trajectory, got {type(trajectory).__name__}. Run gradient_flow first."
        )
    if not (trajectory.objective > 0).all() and trajectory.objective.min() < 0:
        raise ValueError(
            f"`trajectory` must have a positive objective, got {trajectory.objective.min():g}. "
            "Add a constant to the cost."
        )
    resolution = checks.positive(resolution, "resolution")
    try:
        return _Search(trajectory, resolution).saddles()
    except ContinuationError:
        return _Search(trajectory, resolution, between=False).saddles()


class _Search:
    """The trajectory seen through r(t): slow points, then what each of them is."""

    def __init__(self, trajectory: Trajectory, resolution: float, between: bool = True) -> None:
        self.view = view = View(trajectory.reduced or trajectory, between)
        self.run, self.first, self.t_end = view.run, view.first, view.t_end
        self.lift = trajectory.lift
        self.highest = float(self.view.observe(np.array([self.first]))[1][0])
        self.least = resolution * (self.highest - float(self.run.objective[-1]))
        self.turns = self._turns()

    def saddles(self) -> tuple[Saddle, ...]:
        kept = critical.simplified(self.turns, GRAZE)
        found = []
        for i in range(len(kept) - 1):
            if kept[i, 1] > kept[i + 1, 1] or kept[i, 0] >= self.t_end:
                continue
            lower = kept[i - 1, 0] if i > 0 else self.first
            t = self.view.slowest(lower, kept[i, 0], min(kept[i + 1, 0], self.t_end))
            peaks = kept[[j for j in (i - 1, i + 1) if j >= 0], 1]
            if i + 2 == len(kept) and kept[i + 1, 0] >= self.t_end:  # the rise is not over
                peaks[-1] = max(peaks[-1], self._peak_to_come(self.view.observe(np.array([t]))[0][0]))
            saddle = self._describe(t, float(np.exp(peaks.min() - kept[i, 1])), "saddle")
            if saddle.gap >= LEAST_GAP:
                found.append(saddle)
        if (last := self._end(kept)) is not None:
            found.append(last)
        return self._with_times(self._merged(found))

    def _turns(self) -> Array:
        """Turns of log r, up to the last saved time (beyond it only where the run was cut at a saddle)."""
        run = self.run
        turns = run.extrema if len(run.extrema) else self._sampled_turns()
        if run.status == "saddle" or len(turns) == 0:
            return turns
        turns = turns[turns[:, 0] <= self.t_end]
        if len(turns) == 0 or turns[-1, 0] < self.t_end:
            with np.errstate(divide="ignore", invalid="ignore"):
                rate = 2 * np.log(run.gradient_norm[-1]) - np.log(run.objective[-1])
            if len(turns) > 1 and (turns[-1, 1] > turns[-2, 1]) == (rate > turns[-1, 1]):
                turns = turns[:-1]  # the rate went on as before
            if np.isfinite(rate):
                turns = np.vstack([turns, [self.t_end, rate, run.objective[-1]]])
        # What follows the last minimum is rounding if the objective has not fallen since.
        minima = np.flatnonzero(turns[:-1, 1] < turns[1:, 1])
        if len(minima) and turns[minima[-1], 2] - turns[-1, 2] < FALL * turns[minima[-1], 2]:
            turns = turns[: minima[-1] + 1]
        return turns

    def _sampled_turns(self) -> Array:
        """Turns of log r at the saved times."""
        run = self.run
        usable = (run.gradient_norm > 0) & (run.objective > 0)
        t, E = run.t[usable], run.objective[usable]
        rate = 2 * np.log(run.gradient_norm[usable]) - np.log(E)
        if len(t) < 3:
            return np.empty((0, 3))
        turn = np.r_[True, np.diff(np.sign(np.diff(rate))) != 0, True]
        return np.column_stack([t, rate, E])[turn]

    def _merged(self, found: list[Saddle]) -> list[Saddle]:
        """Without what is the same point twice, or merely a slower stretch on the way to a point of the same rank."""
        kept: list[Saddle] = []
        for here in found:
            if kept:
                last = kept[-1]
                same = abs(last.objective - here.objective) <= self.least
                if same or (last.rank == here.rank and last.grazed):
                    if here.kind == "saddle" and here.depth_of_plateau < last.depth_of_plateau:
                        continue
                    kept.pop()
                elif last.rank == here.rank and here.grazed:
                    continue
            kept.append(here)
        return kept

    def _describe(self, t: float, depth_of_plateau: float, kind: str) -> Saddle:
        run, cost = self.run, self.run.cost_function
        A, objective, norm = (value[0] for value in self.view.observe(np.array([t])))
        modes = self.view.modes(t, A)
        escapes = kind == "saddle" and run.depth > 1
        return Saddle(
            rank=modes.rank,
            start=t,
            stop=math.inf,
            t=t,
            cost=float(cost.value(A)),
            objective=float(objective),
            end_to_end=A,
            gradient_norm=float(norm),
            gap=modes.gap,
            depth_of_plateau=depth_of_plateau,
            escape_speed=critical.escape_speed(cost.gradient(A), run.depth) if escapes else 0.0,
            measured_speed=math.nan,
            kind=kind,
        )

    def _end(self, kept: Array) -> Saddle | None:
        """The last point of the run, if it is a minimum, or a saddle on which the run ended."""
        run, cost = self.run, self.run.cost_function
        if self.t_end <= self.first and run.status != "saddle":
            return None
        if run.status == "saddle":
            turns = critical.simplified(self.turns)
            place = int(np.argmin(np.abs(turns[:, 0] - self.t_end)))
            around = [turns[j, 1] for j in (place - 1, place + 1) if 0 <= j < len(turns)]
            return self._describe(self.t_end, float(np.exp(min(around) - turns[place, 1])), "saddle")
        A = run.end_to_end[-1]
        slow = len(kept) > 1 and kept[-1, 1] < kept[-2, 1]
        depth = float(np.exp(kept[-2, 1] - kept[-1, 1])) if slow else 1.0
        if self._left_to_gain(A) <= self.least:
            return self._describe(self.t_end, depth, "minimum")
        if run.depth == 1:
            return None
        if len(kept) == 1:  # no turn: has the run left its start?
            modes = self.view.modes(self.t_end, A)
            if modes.rank == 0 and modes.gap >= LEAST_GAP:
                depth = math.exp(self._peak_to_come(A) - kept[0, 1])
        if depth < math.exp(critical.DEPTH):
            return None
        t = self.view.slowest(kept[-2, 0], kept[-1, 0], self.t_end) if slow else self.t_end
        layers = self.view.layers(t)
        if layers is None:
            return self._describe(t, depth, "saddle")
        G, norm = cost.gradient(end_to_end(layers)), critical.gradient_norm(cost, layers, run.weight_decay)
        if run.weight_decay == 0.0 and slow and norm**2 > SEEN * np.sum(G * G) * tangent_bound(layers):
            return None  # a slow tail: the gradient dC/dA is seen by the weights and still falling
        if self._is_minimum(layers, self.view.modes(t, end_to_end(layers)).rank):
            return self._describe(self.t_end, depth, "minimum")
        return self._describe(t, depth, "saddle")

    def _left_to_gain(self, A: Array) -> float:
        """What a steepest-descent step would gain: in A without weight decay, else in the weights at a minimum."""
        run, cost = self.run, self.run.cost_function
        if run.weight_decay > 0.0:
            left, layers = (
                float(run.gradient_norm[-1] ** 2) / (2 * run.weight_decay),
                self.view.layers(self.t_end),
            )
            if layers is None or left > self.least:
                return math.inf
            return left if self._is_minimum(layers, self.view.modes(self.t_end, A).rank) else math.inf
        G = cost.gradient(A)
        size = float(np.sum(G * G))
        return 0.5 * size**2 / max(float(np.sum(G * cost.hessian_vector(A, G))), 1e-300) if size > 0 else 0.0

    def _is_minimum(self, layers: Sequence[Array], rank: int) -> bool:
        """Whether a slow point is a minimum of the network, also where a smaller one stands for it."""
        run, lift = self.run, self.lift
        if lift is not None:
            layers = lift.curved(layers)
        small = 1e-2 * run.weight_decay
        return critical.is_minimum(run.cost_function, layers, rank, small, weight_decay=run.weight_decay)

    def _peak_to_come(self, A: Array) -> float:
        """Log rate half way through the fastest escape from a saddle, by Newton's estimate."""
        run = self.run
        speed, size, gain = critical.escape(run.cost_function, A)
        if not math.isfinite(size) or size == 0.0:
            return -math.inf
        power = run.depth * (size / 2) ** (2 - 2 / run.depth) * (speed / 2) ** 2
        objective = float(run.objective[-1])
        if not objective > 0:
            return -math.inf
        return math.log(power / max(objective - 0.75 * gain, 0.25 * objective))

    def _with_times(self, found: list[Saddle]) -> tuple[Saddle, ...]:
        """Entry and exit of each plateau, and the measured speed of each escape."""
        result = []
        for i, here in enumerate(found):
            before, after = (found[i - 1] if i > 0 else None), (found[i + 1] if i + 1 < len(found) else None)
            start, stop, speed = self.first, math.inf, math.nan
            if before is not None or here.kind == "minimum":
                above = before.objective if before else self.highest
                since = before.t if before else self.first
                start = self.view.fall(since, here.t, here.objective + LEFT * (above - here.objective))
            if here.kind == "saddle":
                until = after.t if after else self.t_end
                below = after.objective if after else self._next(here)
                drop = here.objective - below
                stop = self.view.fall(here.t, until, here.objective - LEFT * drop)
                if after is not None and after.rank > here.rank:
                    speed = self._measured_speed(here, after)
            result.append(replace(here, start=start, stop=stop, measured_speed=speed))
        return tuple(result)

    def _next(self, here: Saddle) -> float:
        """Objective to which the escape from a saddle leads at least, where the run does not show it."""
        gain = critical.escape(self.run.cost_function, here.end_to_end)[2]
        return min(float(self.run.objective[-1]), here.objective - (gain if math.isfinite(gain) else 0.0))

    def _measured_speed(self, here: Saddle, after: Saddle) -> float:
        """Speed of the escape: a' / (L a^(2 - 2/L)) of the new mode, extrapolated linearly in a to a = 0."""
        L, mode, cost = self.run.depth, here.rank, self.run.cost_function
        sizes, speeds = [], []
        for share in SHARES:
            t = self.view.fall(here.t, after.t, here.objective - share * (here.objective - after.objective))
            layers = self.view.layers(t) if math.isfinite(t) else None
            if L == 1 or layers is None:
                return math.nan
            A = end_to_end(layers)
            U, s, Vt = np.linalg.svd(A)
            growth = U[:, mode] @ end_to_end_velocity(layers, cost.gradient(A)) @ Vt[mode]
            sizes.append(float(s[mode]))
            speeds.append(float(growth / (L * s[mode] ** (2 - 2 / L))))
        slope = (speeds[1] - speeds[0]) / (sizes[1] - sizes[0]) if sizes[1] > sizes[0] else 0.0
        return float(L ** (-(L - 2) / 2) * (speeds[0] - slope * sizes[0]))
