"""Live certificates: every step of SGD with weight decay is held against what the theory proves of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array
from . import inequalities
from .layout import Layout, Rows, each
from .measures import rates, threshold
from .momentum import STEPS, below_one

__all__ = ["Certificates", "Violation"]

EACH_STEP = ("recursion", "energy")
EACH_WINDOW = ("gradient_rank", "update_rank", "interlacing", "window", "noise", "certified")
ENTRIES = 4  # of the account that the kernel gives: |W|, |G|, angle of G and W, residual of the recursion
ROUNDING = 8 * np.finfo(float).eps / 2  # of a rank, times the larger dimension


class Violation(ArithmeticError):
    """A step that contradicts a theorem: it was not a step of SGD with these rates, or rounding has taken over.

    Attributes
    ----------
    name : str
        The certificate.
    layer : str
        Name of the layer.
    step : int
        Number of the step, from 1.
    slack : float
        By how much it fails, in the certificate's own unit.
    evidence : dict of ndarray
        What the certificate saw: weights, gradients, singular values.
    """

    def __init__(self, name: str, layer: str, step: int, slack: float, evidence: dict[str, Array]) -> None:
        super().__init__(
            f"the certificate {name!r} of layer {layer} is violated at step {step}: slack {slack:.3g}. "
            f"The step is not that of SGD with these rates and gradients; `evidence` holds {sorted(evidence)}."
        )
        self.name, self.layer, self.step, self.slack, self.evidence = name, layer, step, slack, evidence


class Certificates:
    r"""Certificates of the weight matrices of any network under SGD with weight decay, checked while it trains.

    Call `step` after every update (or `leap` after several). It knows the weights before, so updates in place are fine.
    With x = learning rate x decay, D the product of 1 - x over a window of n steps and K the sum of the ranks of the
    gradients in it, each certificate leaves a slack, which is negative where it is violated:

    =================  ========================================================================================
    at each step
    "recursion"        the step is :math:`W - \eta(G + \lambda W)`, with momentum V as well
    "energy"           batch norm: :math:`\langle G, W \rangle = 0`, so that squared norms add up
    at each window
    "gradient_rank"    rank G <= uses in the batch, one less with batch norm (in ranks; inf where that is all)
    "update_rank"      :math:`W_T - D W_{T-n}` has rank <= K
    "interlacing"      :math:`\sigma_{k+K}(W_T) \le D \sigma_k(W_{T-n})`, and the same the other way
    "window"           distance of W_T to rank K :math:`\le D \|W_{T-n}\|`, in three norms
    "noise"            :math:`\|W_T - W_{T-n}\|_F \ge (1 - D)` times the distance of W_{T-n} to rank K
    "certified"        W_T is within epsilon of the rank that `dln.rank.certificate` gives
    =================  ========================================================================================

    With momentum the row (a_n, b_n) of the propagator takes the place of D, :math:`a_n W_{T-n} + b_n V_{T-n}` that of
    :math:`D W_{T-n}`; "noise" and "certified" are left out.

    A step costs one pass over the weights, some 10 microseconds for five layers of 64 x 64 that come in flat vectors.
    A window costs three singular value decompositions a layer, and one more for each of its steps (a millisecond or
    two for 64 x 64), which `every` makes rare. Six numbers of each layer are kept for every step.

    Parameters
    ----------
    weights : sequence of array_like
        The weight matrices at the start, in any order and of any shapes; kernels flattened.
    names : sequence of str, optional
        Names of the layers, "1", "2", .. by default.
    patches : int or sequence of int
        Uses of the matrix for each sample.
    batch_norm : bool or sequence of bool
        Whether batch normalisation in training mode follows directly.
    batch_norm_tolerance : float
        Of "energy": :math:`|\langle G, W\rangle| \le \text{tolerance}\,\|G\|\|W\|`, exact for a batch normalisation
        that adds nothing to the variance; loosen it otherwise.
    momentum : float
        beta, 0 <= beta < 1.
    kind : str
        "heavy_ball", "nesterov" or "decoupled", see `propagator`.
    every : int
        A window ends at every such step.
    window : int
        Its number of steps n, at most `every`.
    epsilon : float
        Level of "certified".
    tolerance : float, optional
        Relative rounding that is allowed; 1e-12, or 1e-5 for weights in float32.
    offsets : sequence of int, optional
        Where each matrix begins in the flat vectors that `step` accepts; one after the other by default.
    stop : bool
        Whether a violation is raised, or kept in `violations`.

    Attributes
    ----------
    slack : dict of ndarray, shape (rows, layers)
        Slack of every certificate; inf where nothing was asked.
    at : dict of ndarray, shape (rows,)
        Steps of the rows.
    share : ndarray, shape (windows, layers)
        K over the smaller dimension: from 1 on the certificates of the window were empty.
    norms : ndarray, shape (steps + 1, layers)
        Frobenius norms; NaN within leaps.
    gradient_ranks : ndarray, shape (steps, layers)
        Bounds on the ranks of the gradients: measured in windows, a priori elsewhere.
    learning_rates, weight_decays : ndarray, shape (steps,)
    factor, tau : float
        What is left of the start, :math:`D_T` (a_T with momentum), and :math:`\tau = \sum x`.
    violations : list of Violation

    Raises
    ------
    Violation
        From `step` and `leap`, unless `stop` is False.
    ValueError, TypeError
        If an argument is wrong.

    References
    ----------
    arXiv 2206.05794, lemmas on one gradient and on n steps; Weyl's inequalities for the interlacing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> W = rng.normal(size=(6, 5))
    >>> live = Certificates([W], every=4)
    >>> for _ in range(8):
    ...     G = np.outer(rng.normal(size=6), rng.normal(size=5))
    ...     W = W - 0.1 * (G + 0.5 * W)
    ...     live.step([W], [G], learning_rate=0.1, weight_decay=0.5, batch_size=1)
    >>> live.at["interlacing"], bool(min(slack.min() for slack in live.slack.values()) >= 0)
    (array([4, 8]), True)
    """

    def __init__(
        self,
        weights: Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        patches: int | Sequence[int] = 1,
        batch_norm: bool | Sequence[bool] = False,
        batch_norm_tolerance: float = 1e-12,
        momentum: float = 0.0,
        kind: str = "heavy_ball",
        every: int = 1000,
        window: int = 2,
        epsilon: float = 0.1,
        tolerance: float | None = None,
        offsets: Sequence[int] | None = None,
        stop: bool = True,
    ) -> None:
        if not isinstance(weights, (Sequence, np.ndarray)) or len(weights) == 0 or np.ndim(weights[0]) != 2:
            raise TypeError(
                "`weights` must be a sequence of matrices, got something else. Put them in a list."
            )
        matrices = [checks.array(W, f"weights[{l}]", ndim=2) for l, W in enumerate(weights)]
        count, single = len(matrices), all(np.asarray(W).dtype == np.float32 for W in weights)
        self._layout = Layout([W.shape for W in matrices], offsets)
        self._names = [str(name) for name in each(names or [l + 1 for l in range(count)], "names", count)]
        uses = [checks.integer(m, "patches", least=1) for m in each(patches, "patches", count)]
        normed = [checks.flag(b, "batch_norm") for b in each(batch_norm, "batch_norm", count)]
        self._uses, self._normed = np.array(uses), np.array(normed)
        self._least = np.array([min(W.shape) for W in matrices])
        self._momentum, self._epsilon = below_one(momentum), threshold(epsilon)
        self._kind = STEPS[checks.one_of(kind, "kind", STEPS)]
        self._every = checks.integer(every, "every", least=1)
        self._length = checks.integer(window, "window", least=1, most=self._every)
        default, unit = (1e-5, 1e-5) if single else (1e-12, 0.0)
        self._tolerance = default if tolerance is None else checks.positive(tolerance, "tolerance")
        self._rounding = np.array([max(unit, ROUNDING * max(W.shape)) for W in matrices])
        energy = checks.positive(batch_norm_tolerance, "batch_norm_tolerance")
        self._energy = np.where(normed, energy, np.inf)
        self._stop = checks.flag(stop, "stop")
        self.violations: list[Violation] = []
        self._begin(matrices)

    def _begin(self, matrices: list[Array]) -> None:
        count = len(matrices)
        self._W = self._layout.flat(matrices, "weights")
        self._V = np.zeros_like(self._W) if self._momentum > 0 else np.zeros(0)
        self._now, self._due, self._batch = 0, self._every, (None, self._least)
        self._rates, self._step = (math.nan, math.nan), np.zeros(6)
        # what a step without gradients has done to (W, V) since the start and since the window began; tau; log of D_T
        self._left = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
        # of each step and layer: the account, the bound on the rank of the gradient, the sum of these bounds so far
        self._layers = Rows((ENTRIES + 2, count))
        self._scalars = Rows((4,))  # learning rate, decay, log of what is left of the start, whether watched
        self._found = Rows((len(EACH_WINDOW) + 1, count))
        self._ends: list[int] = []
        self._window: _Window | None = None
        self._layers.next()[0] = [np.linalg.norm(W) for W in matrices]
        self._scalars.next()
        self._open_if_due()

    # What a trainer calls

    def step(
        self,
        weights: Any,
        gradients: Any,
        *,
        learning_rate: float,
        weight_decay: float,
        batch_size: int,
        velocity: Any = None,
    ) -> None:
        r"""Check the step that has led to `weights`.

        Parameters
        ----------
        weights : sequence of ndarray, or ndarray
            The matrices after the step; or one flat vector that holds them row by row at `offsets`.
        gradients : sequence, or ndarray
            Gradient of the data loss of the batch, a mean over it, without the decay: for each layer the matrix, or
            the pair of signals (uses, n_out) and inputs (uses, n_in) with :math:`G = \Delta^T U`; or a flat vector.
        learning_rate, weight_decay : float
            Rates of this step, with x < 1.
        batch_size : int
            Samples in the batch.
        velocity : sequence of ndarray, or ndarray, optional
            The velocities V after the step, needed with momentum: V <- beta V + G + lambda W, W <- W - eta V.
        """
        after, G = self._layout.flat(weights, "weights"), self._layout.flat(gradients, "gradients")
        V, ranks = self._velocity(velocity), self._bounds(batch_size)
        lr, wd = float(learning_rate), float(weight_decay)
        self._check_rates(lr, wd)
        if self._rates != (lr, wd):
            self._rates, self._step = (lr, wd), np.array(self._kind(lr, wd, self._momentum))
        last, row = self._layers.rows[-1], self._layers.next()
        matrices = (self._W, after, self._V, V, G, self._layout.offsets, self._layout.sizes)
        scalars = self._scalars.next()
        scalars[0], scalars[1], scalars[3] = lr, wd, 1.0
        numbers = (self._step, self._tolerance, self._energy)
        record = (last.ravel(), row.ravel(), self._left, scalars)
        wrong = _kernels()[0](*matrices, *numbers, *record)
        self._now += 1
        if wrong:
            self._report_step(row, after, V, G)
        if self._window is not None:
            ranks = self._measured(self._window, gradients, G, ranks, lr)
        row[-2] = ranks
        row[-1] = last[-1] + ranks
        self._settle()

    def leap(
        self,
        weights: Any,
        *,
        learning_rate: Any,
        weight_decay: Any,
        batch_size: int,
        steps: int | None = None,
        velocity: Any = None,
    ) -> None:
        r"""Account for several steps at once that have led to `weights`, without their gradients.

        Where a window ends within or at the leap, the leap belongs to it.

        Parameters
        ----------
        weights, velocity
            As in `step`, after the last of the steps.
        learning_rate, weight_decay : float or array_like, shape (n,)
            Rates of the steps.
        batch_size : int
            Samples in each batch.
        steps : int, optional
            n, where both rates are scalars.
        """
        lr, wd = rates(learning_rate, weight_decay, steps)
        self._check_rates(float(lr.max(initial=0.0)), float(wd.max(initial=0.0)))
        after, V, ranks = (
            self._layout.flat(weights, "weights"),
            self._velocity(velocity),
            self._bounds(batch_size),
        )
        norms = np.array([np.linalg.norm(W) for W in self._layout.matrices(after)])
        self._check_finite(norms)
        if self._window is None and self._now + len(lr) >= self._due:
            self._open()
        total, rows = self._layers.rows[-1, -1], self._layers.next(len(lr))
        rows[:, :ENTRIES] = np.nan
        rows[:, -2] = ranks
        rows[:, -1] = total + np.cumsum(rows[:, -2], axis=0)
        rows[-1, 0] = norms
        scalars = self._scalars.next(len(lr))
        scalars[:, :2] = np.stack([lr, wd], axis=1)
        maps = np.stack(np.broadcast_arrays(*self._kind(lr, wd, self._momentum)), axis=1)
        _kernels()[1](maps, self._left, scalars)
        self._now += len(lr)
        self._W[:], self._V[:] = after, V
        self._settle()

    # What it has found

    @property
    def slack(self) -> dict[str, Array]:
        """Slack of every certificate, (rows, layers); at least 0 where it holds, inf where nothing was asked."""
        watched = self._layers.rows[self._watched]
        each = {"recursion": self._tolerance - watched[:, 3], "energy": self._energy - watched[:, 2]}
        return each | {name: self._found.rows[:, i].copy() for i, name in enumerate(EACH_WINDOW)}

    @property
    def at(self) -> dict[str, Any]:
        """Numbers of the steps after which the rows of `slack` were found, (rows,)."""
        steps, ends = np.flatnonzero(self._watched), np.array(self._ends, dtype=np.int64)
        return dict.fromkeys(EACH_STEP, steps) | dict.fromkeys(EACH_WINDOW, ends)

    @property
    def share(self) -> Array:
        """Rank that the gradients of each window could add, over the smaller dimension, (windows, layers)."""
        return self._found.rows[:, -1].copy()

    @property
    def norms(self) -> Array:
        """Frobenius norms of the weights, (steps + 1, layers), NaN within leaps."""
        return self._layers.rows[:, 0].copy()

    @property
    def gradient_ranks(self) -> Array:
        """Bounds on the ranks of the gradients, (steps, layers): measured within windows, a priori elsewhere."""
        return self._layers.rows[1:, -2].copy()

    @property
    def learning_rates(self) -> Array:
        """Rates of the steps, (steps,)."""
        return self._scalars.rows[1:, 0].copy()

    @property
    def weight_decays(self) -> Array:
        """Decays of the steps, (steps,)."""
        return self._scalars.rows[1:, 1].copy()

    @property
    def factor(self) -> float:
        """What is left of the start: W_T is `factor` times W_0 and gradients."""
        return float(self._left[0])

    @property
    def tau(self) -> float:
        """Sum of learning rate times decay over the steps."""
        return float(self._left[8])

    @property
    def _watched(self) -> Any:
        return self._scalars.rows[:, 3] == 1.0

    # Bookkeeping

    def _settle(self) -> None:
        """Close or open a window."""
        if self._now >= self._due:
            self._due = (self._now // self._every + 1) * self._every
            if self._window is not None:
                self._close(self._window)
        self._open_if_due()

    def _open_if_due(self) -> None:
        if self._window is None and self._now >= self._due - self._length:
            self._open()

    def _open(self) -> None:
        self._window = _Window(self._W.copy(), self._V.copy(), self._now, len(self._names))
        self._left[4:8] = 1.0, 0.0, 0.0, 1.0

    def _bounds(self, batch_size: Any) -> Any:
        """A priori bounds on the ranks of the gradients of a batch."""
        if self._batch[0] != batch_size:
            uses = checks.integer(batch_size, "batch_size", least=1) * self._uses - self._normed
            self._batch = batch_size, np.minimum(uses, self._least)
        return self._batch[1]

    def _measured(self, window: _Window, gradients: Any, flat: Array, bounds: Any, lr: float) -> Any:
        """Ranks of the gradients, where they keep their bounds; what the weights cannot feel counts as rounding."""
        dense, bounds = self._layout.matrices(flat), bounds.copy()
        given = dense if isinstance(gradients, np.ndarray) and gradients.ndim == 1 else gradients
        felt = 0.1 * self._tolerance * self._layers.rows[-1, 0] / lr if lr > 0 else np.zeros(len(dense))
        for l in np.flatnonzero(bounds < self._least):
            rank = _rank(given[l], dense[l], self._rounding[l], felt[l])
            window.spare[l] = min(window.spare[l], bounds[l] - rank)
            bounds[l] = min(bounds[l], rank)
        return bounds

    # Judging

    def _report_step(self, row: Array, after: Array, V: Array, G: Array) -> None:
        """Report what is wrong with a step, which the kernel has not taken over; then take it over."""
        self._check_finite(row[0])
        parts = [self._layout.matrices(flat) for flat in (self._W, after, G)]
        for name, values, tolerances in (
            ("recursion", row[3], np.full(len(row[3]), self._tolerance)),
            ("energy", row[2], self._energy),
        ):
            for l in np.flatnonzero(~(values <= tolerances)):  # NaN is wrong
                kinds = ("before", "after", "gradient")
                evidence = {kind: part[l].copy() for kind, part in zip(kinds, parts, strict=True)}
                self._report(name, int(l), float(tolerances[l] - values[l]), evidence)
        self._W[:], self._V[:] = after, V

    def _close(self, window: _Window) -> None:
        """Hold the weights at the end of a window against those at its beginning."""
        self._window = None
        rows, count = self._layers.rows, len(self._names)
        budget, certified = rows[-1, -1] - rows[window.start, -1], self._certified()
        asked = np.minimum(budget, certified) < self._least
        a, b = self._left[4:6]
        memory = a * window.W + b * window.V if self._momentum > 0 else a * window.W
        seen = [self._layout.matrices(flat) for flat in (self._W, memory, window.W)]
        slack = np.full((len(EACH_WINDOW), count), np.inf)
        slack[0] = window.spare
        for shape in sorted(set(self._layout.shapes)):
            chosen = [l for l, other in enumerate(self._layout.shapes) if other == shape and asked[l]]
            if not chosen:
                continue
            W, M, start = (np.stack([matrices[l] for l in chosen]) for matrices in seen)
            slack[1:, chosen] = self._slack(W, M, start, a, budget[chosen], certified[chosen])
        self._found.next()[:] = [*slack, budget / self._least]
        self._ends.append(self._now)
        for i, l in np.argwhere(~(slack >= 0)):
            kinds = ("after", "memory", "before")
            evidence = {kind: matrices[l].copy() for kind, matrices in zip(kinds, seen, strict=True)}
            self._report(EACH_WINDOW[i], int(l), float(slack[i, l]), evidence | {"budget": budget[l : l + 1]})

    def _slack(
        self, W: Array, M: Array, start: Array, a: float, budget: Array, certified: Array
    ) -> list[Array]:
        """Slack of the certificates of a window, in the order of EACH_WINDOW after the first, of equal shapes."""
        K, tolerance = budget.astype(np.int64), self._tolerance
        s, m, u = np.linalg.svd(np.stack([W, start if self._momentum == 0 else M, W - M]), compute_uv=False)
        old, m = (m, a * m) if self._momentum == 0 else (np.zeros_like(m), m)
        size = np.maximum(s[:, 0], m[:, 0])
        step = np.linalg.norm(W - start, axis=(1, 2))
        none = np.full(len(W), np.inf)
        return [
            inequalities.low_rank(u, size, K) + tolerance,
            inequalities.interlacing(s, m, K) + tolerance,
            inequalities.within(s, m, K) + tolerance,
            none if self._momentum > 0 else inequalities.shrinking(step, old, a, K) + tolerance,
            none if self._momentum > 0 else inequalities.near(s, certified, self._epsilon) + tolerance,
        ]

    def _certified(self) -> Any:
        """Rank of the adaptive certificate now, for each layer; inf for none."""
        rows, forgotten = self._layers.rows, self._scalars.rows[:, 2]
        T, reach, result = len(rows) - 1, 64, np.full(len(self._names), np.inf)
        while np.isinf(result).any():
            part = slice(max(0, T - reach), T)
            with np.errstate(divide="ignore", invalid="ignore"):
                left = rows[part, 0] * np.exp(forgotten[-1] - forgotten[part, None])
                enough = left <= self._epsilon * rows[-1, 0]
            for l in np.flatnonzero(enough.any(axis=0) & np.isinf(result)):
                result[l] = rows[-1, -1, l] - rows[part.start + np.flatnonzero(enough[:, l])[-1], -1, l]
            if part.start == 0:
                break
            reach *= 4
        return result

    def _report(self, name: str, layer: int, slack: float, evidence: dict[str, Array]) -> None:
        violation = Violation(name, self._names[layer], self._now, slack, evidence)
        self.violations.append(violation)
        if self._stop:
            raise violation

    # What comes in

    def _check_rates(self, lr: float, wd: float) -> None:
        if not (lr >= 0 and wd >= 0 and lr * wd < 1):
            raise ValueError(
                f"`learning_rate` and `weight_decay` must be zero or positive, their product below 1, got {lr}, {wd}. "
                "Change them."
            )

    def _check_finite(self, norms: Array) -> None:
        if not np.isfinite(norms).all():
            raise ValueError(
                f"`weights` must be finite, got norms {norms} after step {self._now}. The run has diverged; end it."
            )

    def _velocity(self, velocity: Any) -> Array:
        if (velocity is None) != (self._momentum == 0):
            raise ValueError(
                f"`velocity` must be given exactly with momentum, got {type(velocity).__name__} at momentum "
                f"{self._momentum}. It holds the buffers after the step."
            )
        return self._V if velocity is None else self._layout.flat(velocity, "velocity")


class _Window:
    """Weights and velocity where a window began, and what has happened since."""

    def __init__(self, W: Array, V: Array, start: int, layers: int) -> None:
        self.W, self.V, self.start = W, V, start
        self.spare = np.full(layers, np.inf)  # least of bound - rank of a gradient


@functools.cache
def _kernels() -> tuple[Callable[..., int], Callable[..., None]]:
    """The account of a step and of steps that were not watched, loaded when the first is taken."""
    from ..core.sgd import compiled_account, compiled_pass

    return compiled_account(), compiled_pass()


def _rank(given: Array | tuple[Array, Array], dense: Array, rounding: float, felt: float) -> int:
    """Rank of a gradient, from its signals and inputs where these are fewer than the dimensions."""
    if isinstance(given, tuple) and len(given[0]) < min(dense.shape):
        left, right = (np.linalg.qr(part.T).R for part in given)
        s = np.linalg.svd(left @ right.T, compute_uv=False)
    else:
        s = np.linalg.svd(dense, compute_uv=False)
    return int(np.sum(s > max(rounding * s[0], felt)))
