"""What `until` asks beyond a cost: looks at the state between compiled calls."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from . import critical
from .network import finite_product
from .problem import Problem, Until
from .trajectory import Trajectory
from .typing import Array

if TYPE_CHECKING:
    from .backends.integrate import Integration

__all__ = ["Watch", "slowest"]

REST = 1e-10  # share of the first gradient dC/dA below which a state that does not move is a minimum
WATCH_ARC = 0.02  # arc length between two looks for active modes and saddles


class Watch:
    """Looks at the state between compiled calls, for what `until` asks beyond a cost."""

    def __init__(self, problem: Problem, until: Until | None) -> None:
        self.problem, self.until = problem, until
        self.saddle: Array | None = None

    @property
    def goals(self) -> dict[str, Any]:
        if self.until is None:
            return {}
        return {
            "cost_goal": self.until.cost_goal,
            "dissipation_goal": self.until.dissipation_goal,
            "watch_arc": math.inf if self.until.rank is None and self.until.saddle is None else WATCH_ARC,
        }

    def look(self, integration: Integration, code: int) -> str:
        """Status that ends the run, or "" to go on."""
        from .backends.integrate import AT_REST
        from .core import loop

        if code == AT_REST:
            first = np.linalg.norm(self.problem.cost.gradient(finite_product(self.problem.weights)), 2)
            return "at_rest" if self._at_minimum(integration, REST * float(first)) else ""
        if self.until is None:
            return ""
        until = self.until
        if code == loop.GRADIENT:
            goal = cast(float, until.gradient_norm)
            if self._at_minimum(integration, goal):
                return "gradient_norm"
            # A saddle: to be asked again when the gradient has halved, or when it has been left.
            integration.control["dissipation_goal"] = integration.control["dissipation"] / 4.0
            integration.control["watch_arc"] = WATCH_ARC
            return ""
        if until.gradient_norm is not None and integration.control["dissipation"][0] > until.dissipation_goal:
            integration.control["dissipation_goal"] = until.dissipation_goal
        if until.rank is not None and self._rank(integration) >= until.rank:
            return "rank"
        if until.saddle is not None:
            visited = critical.slow_points(integration.turns())
            if len(visited) >= until.saddle:
                self.saddle = visited[until.saddle - 1]
                return "saddle"
        return ""

    def _rank(self, integration: Integration) -> int:
        problem, (layers, A) = self.problem, integration.point()
        elapsed = integration.t - integration.t_span[0]
        modes = critical.active_modes(
            problem.cost, A, problem.depth, problem.weight_decay, layers=layers, elapsed=elapsed
        )
        return modes.rank

    def _at_minimum(self, integration: Integration, small: float) -> bool:
        problem, (layers, _) = self.problem, integration.point()
        rank = self._rank(integration)
        return critical.is_minimum(problem.cost, layers, rank, small, weight_decay=problem.weight_decay)

    def cut(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory up to the saddle that ended the run."""
        if self.saddle is None:
            return trajectory
        time = slowest(trajectory, float(self.saddle[0]))
        keep = trajectory.t < time
        layers = tuple(W[0] for W in trajectory.continued(np.array([time])))
        joined = None
        if trajectory.weights is not None:
            joined = tuple(
                np.concatenate([W[keep], w[None]]) for W, w in zip(trajectory.weights, layers, strict=True)
            )
        measured = trajectory.measured
        if measured is not None:
            cost = trajectory.cost_function.value(finite_product(layers))
            objective = cost + 0.5 * trajectory.weight_decay * sum(float(np.sum(W**2)) for W in layers)
            norm = critical.gradient_norm(trajectory.cost_function, layers, trajectory.weight_decay)
            measured = np.vstack([measured[keep], [cost, objective, float(norm) ** 2]])
        turns = trajectory.extrema
        turn = int(np.argmin(np.abs(turns[:, 0] - self.saddle[0])))
        return replace(
            trajectory,
            t=np.append(trajectory.t[keep], time),
            end_to_end=np.concatenate([trajectory.end_to_end[keep], finite_product(layers)[None]]),
            weights=joined,
            measured=measured,
            extrema=turns[: turn + 2],  # with the rise that followed
        )


def slowest(trajectory: Trajectory, t: float) -> float:
    """Time of the least relative rate of decrease between two turns, near the step at which it was seen least."""
    turns = trajectory.extrema[:, 0]
    place = int(np.argmin(np.abs(turns - t)))
    lower = float(turns[place - 1]) if place > 0 else trajectory.t_start
    upper = float(turns[min(place + 1, len(turns) - 1)])
    cost, weight_decay = trajectory.cost_function, trajectory.weight_decay
    for _ in range(6):
        times = np.unique(np.r_[np.linspace(lower, upper, 17), t])
        layers = trajectory.continued(times)
        size = sum(np.sum(W**2, axis=(-2, -1)) for W in layers)
        objective = cost.value(finite_product(layers)) + 0.5 * weight_decay * size
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = critical.gradient_norm(cost, layers, weight_decay) ** 2 / objective
        best = int(np.argmin(np.where(np.isnan(rate), np.inf, rate)))  # NaN where the objective is 0
        t, lower, upper = times[best], times[max(best - 1, 0)], times[min(best + 1, len(times) - 1)]
    return float(t)
