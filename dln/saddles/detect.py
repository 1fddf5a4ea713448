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
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .. import checks, critical
from ..network import end_to_end, end_to_end_velocity, tangent_bound
from ..trajectory import Trajectory
from ..typing import Array

__all__ = ["Saddle", "find_saddles"]

LEFT = 0.05  # a plateau is left when this share of the next drop of the objective is done, entered when all but it is
ZOOMS, SAMPLES = 4, 17  # refinement of a time: rounds, and points in each
GRAZE = math.log(3.0)  # least depth of a minimum of log r
LEAST_GAP = 3.0  # least ratio of singular values that justifies a rank
SEEN = 1e-2  # share of the gradient dC/dA that the weights see, relative to the bound; far less at a saddle
SHARES = (0.1, 0.2)  # of the next value of the escaping mode, where its speed is measured


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
        A run. Flows are examined between their saved times too; other runs at their saved times.
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
    return _Search(trajectory, checks.positive(resolution, "resolution")).saddles()


class _Search:
    """The trajectory seen through r(t): slow points, then what each of them is."""

    def __init__(self, trajectory: Trajectory, resolution: float) -> None:
        self.run = trajectory
        self.scale = float(trajectory.singular_values.max())
        self.least = resolution * float(trajectory.objective[0] - trajectory.objective[-1])
        # Between saved times the layers are known only where they can be continued from the last saved ones.
        self.between = trajectory.continue_from is not None and trajectory.weights is not None
        self.turns = trajectory.extrema if len(trajectory.extrema) else self._sampled_turns()

    def saddles(self) -> tuple[Saddle, ...]:
        kept = critical.simplified(self.turns, GRAZE)
        found = []
        for i in range(len(kept) - 1):
            if kept[i, 1] > kept[i + 1, 1]:
                continue
            peaks = kept[[j for j in (i - 1, i + 1) if j >= 0], 1]
            lower = kept[i - 1, 0] if i > 0 else self.run.t_start
            t = self._slowest(lower, kept[i, 0], kept[i + 1, 0])
            saddle = self._describe(t, float(np.exp(peaks.min() - kept[i, 1])), "saddle")
            if saddle.gap >= LEAST_GAP:
                found.append(saddle)
        if (last := self._end(kept)) is not None:
            found.append(last)
        return self._with_times(self._merged(found))

    def _sampled_turns(self) -> Array:
        """Turns of log r at the saved times."""
        run = self.run
        usable = run.gradient_norm > 0
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

    def _times(self, lower: float, upper: float, zoom: int) -> Array:
        """Times to look at between two others: first the saved ones, then a finer and finer grid."""
        t = self.run.t
        if zoom == 0 or not self.between:
            return np.unique(np.r_[lower, t[(t > lower) & (t < upper)], upper])
        return np.linspace(lower, upper, SAMPLES)

    def _layers(self, t: float | Array) -> tuple[Array, ...]:
        """Layers at a time: the saved ones where they are saved, else continued or interpolated."""
        layers = self.run.weights_at(t)
        if layers is None:
            raise ValueError(
                "`trajectory` must know its layers, got weights=None. Run again with keep_weights=True."
            )
        return layers

    def _observe(self, t: Array) -> tuple[Array, Array, Array]:
        """A, objective and gradient norm at times (saved times, where the run keeps no layers)."""
        run = self.run
        if run.weights is None:
            index = np.clip(np.searchsorted(run.t, t), 0, len(run.t) - 1)
            return run.end_to_end[index], run.objective[index], run.gradient_norm[index]
        layers = self._layers(t)
        A = end_to_end(layers)
        size = sum(np.sum(W**2, axis=(-2, -1)) for W in layers)
        objective = run.cost_function.value(A) + 0.5 * run.weight_decay * size
        return A, np.asarray(objective), critical.gradient_norm(run.cost_function, layers, run.weight_decay)

    def _slowest(self, lower: float, t: float, upper: float) -> float:
        """Time of the least rate between two peaks, from the step at which the integrator saw it least."""
        for zoom in range(ZOOMS if self.between else 1):
            times = self._times(lower, upper, zoom)
            if zoom == 0:
                times = np.unique(np.r_[times, t])
            _, objective, norm = self._observe(times)
            with np.errstate(divide="ignore"):
                best = int(np.argmin(2 * np.log(norm) - np.log(objective)))
            t, lower, upper = times[best], times[max(best - 1, 0)], times[min(best + 1, len(times) - 1)]
        return float(t)

    def _describe(self, t: float, depth_of_plateau: float, kind: str) -> Saddle:
        run, cost = self.run, self.run.cost_function
        A, objective, norm = (value[0] for value in self._observe(np.array([t])))
        modes = critical.active_modes(cost, A, run.depth, run.weight_decay, self.scale)
        speed = (
            critical.escape_speed(cost.gradient(A), run.depth) if kind == "saddle" and run.depth > 1 else 0.0
        )
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
            escape_speed=speed,
            measured_speed=math.nan,
            kind=kind,
        )

    def _end(self, kept: Array) -> Saddle | None:
        """The last point of the run, if it is a minimum, or a saddle on which the run ended."""
        run, cost = self.run, self.run.cost_function
        t = float(run.t[-1])
        if len(run.t) < 2:
            return None
        A = run.end_to_end[-1]
        G = cost.gradient(A)
        size = float(np.sum(G * G))
        slow = len(kept) > 1 and kept[-1, 1] < kept[-2, 1] and kept[-1, 0] >= self.turns[-1, 0]
        depth = float(np.exp(kept[-2, 1] - kept[-1, 1])) if slow else 1.0
        if run.status == "saddle":
            return self._describe(t, depth, "saddle")
        if run.weight_decay == 0.0:
            # What a step of steepest descent in A would gain: for full observation all that is left to gain.
            left = (
                0.5 * size**2 / max(float(np.sum(G * cost.hessian_vector(A, G))), 1e-300) if size > 0 else 0.0
            )
            if left <= self.least:
                return self._describe(t, depth, "minimum")
        if depth < math.exp(critical.DEPTH):
            return None
        layers = self._layers(t)
        share = float(run.gradient_norm[-1] ** 2) / (size * tangent_bound(layers)) if size > 0 else 0.0
        if run.weight_decay == 0.0 and share > SEEN:
            return None  # a slow tail: the gradient dC/dA is seen by the weights and still falling
        rank = critical.active_modes(cost, A, run.depth, run.weight_decay).rank
        small = 1e-2 * run.weight_decay
        minimum = critical.is_minimum(cost, layers, rank, small, weight_decay=run.weight_decay)
        return self._describe(t, depth, "minimum" if minimum else "saddle")

    def _with_times(self, found: list[Saddle]) -> tuple[Saddle, ...]:
        """Entry and exit of each plateau, and the measured speed of each escape."""
        run, result = self.run, []
        for i, here in enumerate(found):
            before, after = (found[i - 1] if i > 0 else None), (found[i + 1] if i + 1 < len(found) else None)
            start, stop = run.t_start, math.inf
            if before is not None or here.kind == "minimum":
                above = before.objective if before else float(run.objective[0])
                since = before.t if before else run.t_start
                start = self._fall(since, here.t, here.objective + LEFT * (above - here.objective))
            if here.t < run.t[-1]:
                below = after.objective if after else float(run.objective[-1])
                until = after.t if after else float(run.t[-1])
                stop = self._fall(here.t, until, here.objective - LEFT * (here.objective - below))
            speed = self._measured_speed(here, after)
            result.append(replace(here, start=start, stop=stop, measured_speed=speed))
        return tuple(result)

    def _fall(self, lower: float, upper: float, level: float) -> float:
        """Time between two others at which the objective falls to a level."""
        return self._crossing(lower, upper, lambda times: -self._observe(times)[1], -level)

    def _crossing(self, lower: float, upper: float, rising: Callable[[Array], Array], level: float) -> float:
        """First time between two others at which a quantity reaches a level, interpolated at last."""
        for zoom in range(ZOOMS if self.between else 1):
            times = self._times(lower, upper, zoom)
            values = rising(times)
            passed = int(np.argmax(values >= level)) if (values >= level).any() else len(times) - 1
            if passed == 0:
                return float(times[0])
            lower, upper = float(times[passed - 1]), float(times[passed])
        rise = values[passed] - values[passed - 1]
        return lower + (upper - lower) * float((level - values[passed - 1]) / rise if rise > 0 else 1.0)

    def _measured_speed(self, here: Saddle, after: Saddle | None) -> float:
        """Speed of the escape: a' / (L a^(2 - 2/L)) of the new mode, extrapolated linearly in a to a = 0."""
        L, mode = self.run.depth, here.rank
        if (
            here.kind == "minimum"
            or after is None
            or after.rank <= mode
            or L == 1
            or self.run.weights is None
        ):
            return math.nan
        final = float(np.linalg.svd(after.end_to_end, compute_uv=False)[mode])

        def size(times: Array) -> Array:
            return np.asarray(np.linalg.svd(self._observe(times)[0], compute_uv=False)[..., mode])

        measured = []
        for share in SHARES:
            layers = self._layers(self._crossing(here.t, after.t, size, share * final))
            A = end_to_end(layers)
            U, s, Vt = np.linalg.svd(A)
            growth = U[:, mode] @ end_to_end_velocity(layers, self.run.cost_function.gradient(A)) @ Vt[mode]
            measured.append(growth / (L * s[mode] ** (2 - 2 / L)))
        return float(L ** (-(L - 2) / 2) * (2 * measured[0] - measured[1]))
