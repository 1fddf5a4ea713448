"""Forms that are smaller networks: two layers by a factor of their Gram matrix, deeper nets in invariant subspaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..network import balances, finite_product, include
from ..problem import Problem
from ..trajectory import Trajectory
from ..typing import Array
from .subspaces import Frames, Krylov, norm

__all__ = ["REDUCED", "Lift", "Reduced", "Run", "run_reduced"]

# Worth entering: nets from so many weights on, whose number falls at least by such factors. Two layers cost one
# factorisation, more of them several; a truncated form is run two or three times and breaks even at 2 (measured).
SMALL, SMALL_DEEP = 400, 3_000
GAIN, GAIN_TRUNCATED = 2.0, 3.0
# Gains of an order that are taken for sure, by depth (4: and more), and how much is left to chance. Starts above the
# size LAZY, and those of which A grows by less than GROWN, gain far more: a third run tells.
SURE_GAINS, SAFETY, LAZY, GROWN = {3: 8.0, 4: 4.0}, 2.0, 0.1, 10.0
ROUNDING = 3e-14  # of the frames, in terms of the largest A: no error is less
LEAST_GAIN = 3.0  # of an order, from which on it tells how many more are needed
# Relative errors at order 0 of a start of rho = 0.1, and gains of an order, by depth (5: and more).
FIRST_ERROR, GAINS = {3: 0.35, 4: 0.5, 5: 1.0}, {4: 7.0, 5: 4.0}
DENSE = 48  # saved times from which on the largest error is looked for at them alone


@dataclass(frozen=True)
class Reduced:
    """A form that is a smaller network: its name, what it is for, and the depths that it is for."""

    name: str
    purpose: str
    exact: bool
    refusal: str  # what a network of another depth is told
    depths: Callable[[int], bool]


REDUCED = {
    form.name: form
    for form in (
        Reduced(
            "gram",
            "two layers in n_0 + n_L hidden directions, whatever their width, start and cost",
            True,
            'must be for two layers to be "gram"',
            lambda depth: depth == 2,
        ),
        Reduced(
            "subspace",
            "three layers or more in invariant subspaces, or in Krylov subspaces with an estimate of the error",
            False,
            'must have two hidden layers or more to be "subspace"',
            lambda depth: depth >= 3,
        ),
    )
}


class Run(Protocol):
    """Run a network: as it was asked for, or in the steps of another run, saved at `times` (None: as it chooses)."""

    def __call__(
        self, net: Problem, /, *, like: Trajectory | None = None, times: Array | None = None
    ) -> Trajectory:
        """The trajectory."""


@dataclass(frozen=True)
class Lift:
    """Layers of the wide network from those between its frames.

    W_l = P_l R_l P_{l-1}^T + C_l, where C_l is constant, or decays as weight decay has it: then the last diagonal entry
    of an inner R_l is the norm of C_l, a neuron by itself that sees no gradient.
    """

    bases: tuple[Array, ...]
    start: tuple[Array, ...]  # of the wide network
    small: tuple[Array, ...]  # between the frames at the start, with the lonely neuron if there is one

    @staticmethod
    def of(frames: Frames, problem: Problem) -> Lift:
        """The small network of a problem, with a neuron for what decays outside of it."""
        small = [np.ascontiguousarray(R) for R in frames.layers]
        if problem.weight_decay > 0.0 and problem.depth > 2:
            outside = [
                math.sqrt(max(0.0, float(norm) ** 2 - float(np.sum(R**2))))
                for norm, R in zip(frames.norms[1:-1], small[1:-1], strict=True)
            ]
            small = include(small, [len(R) + 1 for R in small[:-1]])
            for R, norm in zip(small[1:-1], outside, strict=True):
                R[-1, -1] = norm
        return Lift(frames.bases, problem.weights, tuple(small))

    def __call__(self, layers: Sequence[Array]) -> tuple[Array, ...]:
        """Layers of the wide network, over leading axes."""
        within, shares = self._within(layers), self._shares(layers)
        inner = [
            share * W_0 + Q @ (R - share * R_0) @ P.T
            for R, R_0, W_0, share, (P, Q) in zip(
                within[1:-1],
                self._within(self.small)[1:-1],
                self.start[1:-1],
                shares,
                pairwise(self.bases),
                strict=True,
            )
        ]
        return self.bases[0] @ within[0], *inner, within[-1] @ self.bases[-1].T

    def curved(self, layers: Sequence[Array]) -> list[Array]:
        """The small layers at one time, with spectral norms of the C_l in place of those of Frobenius.

        What C_l sends on, weights beside it see with its spectral norm: so large is the share of dC/dA in the second
        derivatives there, which the decay outweighs or not.
        """
        result = [np.array(R) for R in layers]
        lonely = zip(result[1:-1], self.small[1:-1], self._spectral, strict=True)
        for R, R_0, spectral in lonely:
            if spectral > 0.0:
                R[-1, -1] *= spectral / R_0[-1, -1]
        return result

    @cached_property
    def _spectral(self) -> list[float]:
        """Spectral norms of the C_l of the inner layers at the start; 0 where no neuron stands for them."""
        from scipy.sparse.linalg import svds

        norms = []
        inner = zip(
            self.start[1:-1],
            self._within(self.small)[1:-1],
            self.small[1:-1],
            pairwise(self.bases),
            strict=True,
        )
        for W, R, whole, (P, Q) in inner:
            if len(whole) == len(R) or not whole[-1, -1] > 0.0 or min(W.shape) == 1:
                norms.append(0.0)
                continue
            first = np.random.default_rng(0).standard_normal(min(W.shape))
            norms.append(float(svds(W - Q @ R @ P.T, k=1, v0=first, return_singular_vectors=False)[0]))
        return norms

    def lifted(self, run: Trajectory, keep: bool, **more: Any) -> Trajectory:
        """A run of the small network as one of the wide network, whose layers are computed when they are asked for."""
        layers = run.weights if keep else None
        return replace(
            run,
            weights=None if layers is None else lambda: self(layers),
            start=self.start,
            continue_from=None,
            reduced=run,
            lift=self,
            **more,
        )

    def _within(self, layers: Sequence[Array]) -> list[Array]:
        """The layers without the lonely neuron."""
        m = [P.shape[1] for P in self.bases]
        ends = zip([*m, None], [None, *m], strict=True)
        return [R[..., :rows, :columns] for R, (rows, columns) in zip(layers, ends, strict=True)]

    def _shares(self, layers: Sequence[Array]) -> list[Any]:
        """What is left of C_l, of the inner layers."""
        lonely = [
            len(R) > P.shape[1] and R[-1, -1] > 0.0
            for R, P in zip(self.small[1:-1], self.bases[1:], strict=True)
        ]
        return [
            R[..., -1:, -1:] / R_0[-1, -1] if there else 1.0
            for R, R_0, there in zip(layers[1:-1], self.small[1:-1], lonely, strict=True)
        ]

    def sizes(self, layers: Sequence[Array]) -> list[Array]:
        """Squared Frobenius norms of the layers of the wide network."""
        shares = [1.0, *self._shares(layers), 1.0]
        return [
            np.sum(R**2, axis=(-2, -1))
            + np.ravel(share) ** 2 * (max(0.0, norm(W) ** 2 - float(np.sum(R_0**2))))
            for R, R_0, W, share in zip(
                self._within(layers), self._within(self.small), self.start, shares, strict=True
            )
        ]

    def imbalances(self, layers: Sequence[Array]) -> list[Array]:
        """Frobenius norms of the balance matrices of the wide network: that of the C_l only decays."""
        within, at_first = balances(self._within(layers)), balances(self._within(self.small))
        # All C_l that are there decay alike.
        share = np.ravel(next((share for share in self._shares(layers) if np.ndim(share) > 0), 1.0))
        return [
            np.sqrt(
                np.sum(D**2, axis=(-2, -1)) + share**4 * max(0.0, float(np.sum(whole**2) - np.sum(D_0**2)))
            )
            for D, D_0, whole in zip(within, at_first, balances(self.start), strict=True)
        ]


def run_reduced(problem: Problem, asked: str, rtol: float, run: Run, keep: bool) -> Trajectory | None:
    """The run in fewer numbers; None where none is asked for, or "auto" finds nothing that is right and pays.

    Parameters
    ----------
    rtol : float
        Largest truncation error, relative to the size of A over the run, that "auto" takes.
    keep : bool
        Whether the layers of the wide network are there in the end.
    """
    auto = asked == "auto"
    if not auto and asked not in REDUCED:
        return None
    if auto:
        if problem.parameters < SMALL:
            return None
        first = [min(n, problem.widths[0] + problem.widths[-1]) for n in problem.widths[1:-1]]
        if problem.depth == 1 or not _pays(problem, first, GAIN):
            return None
    elif not REDUCED[asked].depths(problem.depth):
        raise ValueError(
            f"`weights` {REDUCED[asked].refusal}, got {problem.depth} {'layer' if problem.depth == 1 else 'layers'}. "
            f"Leave `form` out, or take {_instead(problem.depth)}."
        )
    return _Search(problem, rtol, run, keep, auto).trajectory()


def _instead(depth: int) -> str:
    """What applies to a network of this depth."""
    return " or ".join(f'"{form.name}"' for form in REDUCED.values() if form.depths(depth)) or '"weights"'


def _pays(problem: Problem, hidden: Sequence[int], gain: float) -> bool:
    """Whether a net with these hidden widths has so many weights less."""
    ends = (problem.widths[0], *hidden, problem.widths[-1])
    large = problem.parameters >= (SMALL if problem.depth == 2 else SMALL_DEEP)
    return large and gain * sum(a * b for a, b in pairwise(ends)) <= problem.parameters


class _Search:
    """Frames that are invariant, or of an order whose error, as lower orders show it, is small enough."""

    def __init__(self, problem: Problem, rtol: float, run: Run, keep: bool, auto: bool) -> None:
        self.problem, self.rtol, self.run, self.keep, self.auto = problem, rtol, run, keep, auto
        self.space = Krylov(problem.weights)
        self.size = 0.0 if self.space.closed else _size(problem, self.space.frames())

    def trajectory(self) -> Trajectory | None:
        """The run, None where it does not pay."""
        order = _first_order(self.problem.depth, self.size, self.rtol)
        while True:
            while self.space.order < order and not self.space.closed:
                if self.auto and not self._pays(order):
                    return None
                self.space.extend()
            frames = self.space.frames()
            if frames.closed:
                if self.auto and not self._pays(self.space.order):
                    return None
                return self._leave(self._integrate(frames), frames, 0.0)
            top = self._integrate(frames)
            if top.status == "interrupted":
                return self._leave(top, frames, math.inf)
            size = _largest(top.end_to_end)
            allowed = self.rtol * size
            estimate, gain = self._estimate(frames, top, allowed)
            if not estimate > allowed or not top.success or gain == 0.0:
                return self._leave(top, frames, max(estimate, ROUNDING * size))
            order += math.ceil(math.log(estimate / allowed) / math.log(gain)) if gain > LEAST_GAIN else 1

    def _pays(self, order: int) -> bool:
        """Whether an order pays; what is closed, or is about to close, needs the smaller gain."""
        if self.space.closed or self.space.deficient:
            return _pays(self.problem, self.space.foreseen(self.space.order + 1), GAIN)
        return _pays(self.problem, self.space.foreseen(order), GAIN_TRUNCATED)

    def _integrate(self, frames: Frames, **more: Any) -> Trajectory:
        return self.run(replace(self.problem, weights=Lift.of(frames, self.problem).small), **more)

    def _estimate(self, frames: Frames, top: Trajectory, allowed: float) -> tuple[float, float]:
        """Error of an order as the runs of one or two lower orders show it, and the gain of an order (0: interrupted).

        With d_k, the difference of the orders k and k - 1, the error is less than d_k over the gain that is sure; where
        that is too large, or small starts are not met, a third run tells the gain d_{k-1} / d_k, and the next one is
        larger for three layers, and for more at least the sure one. All orders take the same steps, whose errors then
        differ by no more than the orders do.
        """
        if top.t[-1] <= top.t_start:
            return 0.0, math.inf
        at_first, later = _largest(finite_product(frames.layers)[None]), _largest(top.end_to_end)
        small = self.size < LAZY and later > GROWN * at_first
        first = top
        if len(top.t) < DENSE and len(top.steps):
            first = self._integrate(frames, like=top)
        runs, three = [first], self.problem.depth == 3
        sure = SURE_GAINS[min(self.problem.depth, 4)]
        for i in (1, 2):
            lower, times = frames.truncated(frames.order - i), first.t.copy()
            runs.append(self._integrate(lower, like=top, times=times))
            if runs[-1].status == "interrupted":
                return math.inf, 0.0
            if top.success and not all(run.success for run in runs):
                return math.inf, 1.0
            d = _largest(*_at_common_times(*runs[:2]))
            if i == 1 and SAFETY * d / sure <= allowed and small:
                return SAFETY * d / sure, math.inf
        gain = _largest(*_at_common_times(*runs[1:])) / d if d > 0.0 else math.inf
        foreseen = gain if three else min(gain, sure)
        return (min(d, SAFETY * d / foreseen) if foreseen > 0.0 else d), gain

    def _leave(self, small: Trajectory, frames: Frames, error: float) -> Trajectory:
        """The run as one of the wide network."""
        problem = self.problem
        name = next(form.name for form in REDUCED.values() if form.depths(problem.depth))
        lift = Lift.of(frames, problem)
        hidden, m = problem.widths[1:-1], [P.shape[1] for P in frames.bases]
        seen = (
            f"error at most about {error:.1g}"
            if error < math.inf
            else "interrupted before its error was known"
        )
        how = "exact" if frames.closed else f"order {frames.order}, {seen}"
        what = f"{name}, {' '.join(map(str, m))} of {' '.join(map(str, hidden))} hidden directions, {how}"
        return lift.lifted(
            small,
            self.keep,
            status=small.status if error < math.inf else "interrupted",
            form=name,
            form_error=error,
            message=f"{small.message} Form: {what}.",
            stats={**small.stats, "order": frames.order, "dimensions": m},
        )


def _at_common_times(one: Trajectory, other: Trajectory) -> tuple[Array, Array]:
    """End-to-end matrices of both."""
    _, i, j = np.intersect1d(one.t, other.t, assume_unique=True, return_indices=True)
    return one.end_to_end[i], other.end_to_end[j]


def _largest(A: Array, minus: Array | float = 0.0) -> float:
    """Largest Frobenius norm of the matrices, or of their differences."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm(A - minus, axis=(1, 2)).max(initial=0.0))


def _size(problem: Problem, frames: Frames) -> float:
    """x = rho^L / s for Gaussian layers of operator norm 2 rho and a first gradient dC/dA of norm s; 0 where unknown.

    The flow knows this ratio alone: where it is small the layers wait to grow, where it is large A moves before them.
    """
    rho = [norm / math.sqrt(min(W.shape)) for norm, W in zip(frames.norms, problem.weights, strict=True)]
    try:
        s = float(np.linalg.norm(problem.cost.gradient(finite_product(frames.layers)), 2))
    except Exception:  # of a cost of the user's own: the run will tell
        return 0.0
    x = math.prod(rho) / s if s > 0.0 else 0.0
    return x if x < math.inf else 0.0


def _first_order(depth: int, x: float, rtol: float) -> int:
    """Order that should do, as infinitely wide Gaussian nets show it: a guess that the runs then judge."""
    if depth == 2 or not x > 0.0:
        return 2
    error, order = FIRST_ERROR[min(depth, 5)] * max(1.0, (1e-3 / x) ** ((depth - 2) / depth)), 0
    while order < 2 or (error > rtol / SAFETY and order < 40):
        order += 1
        error /= (6.0 * (order + 1) if depth == 3 else GAINS[min(depth, 5)]) * (1.0 + 5.0 * x)
    return order
