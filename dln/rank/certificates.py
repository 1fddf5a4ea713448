"""Live certificates: every step of SGD with weight decay is held against what the theory proves of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..typing import Array
from .layout import Layout, each
from .measures import rates, threshold
from .momentum import STEPS, below_one
from .probes import ANGLE, NORM, RANK, RESIDUAL, SPARE, TOTAL, Watch
from .record import Record
from .violation import Violation
from .windows import EACH_WINDOW, Window

__all__ = ["Certificates"]

EACH_STEP = ("recursion", "energy", "gradient_rank")
ROUNDING = 8 * np.finfo(float).eps / 2  # of a rank, times the larger dimension


class Certificates(Record):
    r"""Certificates of the weight matrices of any network under SGD with weight decay, checked while it trains.

    Call `step` after every update (or `leap` after several). It knows the weights before, so updates in place are fine.
    With x = learning rate x decay, D the product of 1 - x over a window of n steps and K the sum of the ranks of the
    gradients in it, each certificate leaves a slack, which is negative where it is violated:

    =================  ========================================================================================
    at each step
    "recursion"        the step is :math:`W - \eta(G + \lambda W)`, with momentum V as well
    "energy"           batch norm: :math:`\langle G, W \rangle = 0`, so that squared norms add up
    "gradient_rank"    rank G <= uses in the batch, one less with batch norm (in ranks; inf where that is all)
    at each window
    "update_rank"      :math:`W_T - D W_{T-n}` has rank <= K
    "interlacing"      :math:`\sigma_{k+K}(W_T) \le D \sigma_k(W_{T-n})`, and the same the other way
    "window"           distance of W_T to rank K :math:`\le D \|W_{T-n}\|`, in three norms
    "noise"            :math:`\|W_T - W_{T-n}\|_F \ge (1 - D)` times the distance of W_{T-n} to rank K
    "certified"        W_T is within epsilon of the rank that `dln.rank.certificate` gives
    =================  ========================================================================================

    With momentum the row (a_n, b_n) of the propagator takes the place of D, :math:`a_n W_{T-n} + b_n V_{T-n}` that of
    :math:`D W_{T-n}`; "noise" and "certified" are left out.

    What is proved of every window follows for every step from the two of its own: a step that is
    :math:`(1 - x) W - \eta \Delta^T U + E`, with r rows in the factors, keeps the inequalities with r up to the size of
    E. Windows hold this consequence against singular values, once in `every` steps.

    `step` looks at the weights, which costs one pass over them, and within windows at the singular values of every
    gradient. `dln.nonlinear.train` watches instead (`watch`, `take`): by products with random vectors, which cost less
    and see the factors of every gradient. A window costs three singular value decompositions a layer, and one more for
    each of its steps. Six numbers of each layer are kept for every step.

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
    first : int, optional
        The first window ends at this step, or once it is long enough; `every` by default.
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
        first: int | None = None,
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
        layout = Layout([W.shape for W in matrices], offsets)
        self._names = [str(name) for name in each(names or [l + 1 for l in range(count)], "names", count)]
        uses = [checks.integer(m, "patches", least=1) for m in each(patches, "patches", count)]
        normed = [checks.flag(b, "batch_norm") for b in each(batch_norm, "batch_norm", count)]
        self._uses, self._normed = np.array(uses), np.array(normed)
        self._least = np.array([min(W.shape) for W in matrices])
        self._momentum, self._epsilon = below_one(momentum), threshold(epsilon)
        self._kind = STEPS[checks.one_of(kind, "kind", STEPS)]
        self._every = checks.integer(every, "every", least=1)
        self._length = checks.integer(window, "window", least=1, most=self._every)
        begin = self._every if first is None else checks.integer(first, "first", least=1, most=self._every)
        self._first = max(begin, self._length)
        default, unit = (1e-5, 1e-5) if single else (1e-12, 0.0)
        self._tolerance = default if tolerance is None else checks.positive(tolerance, "tolerance")
        self._rounding = np.array([max(unit, ROUNDING * max(W.shape)) for W in matrices])
        energy = checks.positive(batch_norm_tolerance, "batch_norm_tolerance")
        self._energy = np.where(normed, energy, np.inf)
        self._stop = checks.flag(stop, "stop")
        self.violations: list[Violation] = []
        W = layout.flat(matrices, "weights")
        super().__init__(layout, W, np.zeros_like(W) if self._momentum > 0 else np.zeros(0))
        self._batch: tuple[Any, Any] = (None, self._least)
        self._rates, self._step = (math.nan, math.nan), np.zeros(6)
        self._watch = Watch(layout, self._tolerance, self._energy, self._uses, self._normed)
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
        V, bounds = self._velocity(velocity), self._bounds(batch_size)
        self._set_rates(learning_rate, weight_decay)
        self._watch.stale = True
        last, row, scalars = self._layers.rows[-1], self._layers.next(), self._scalars.next()
        matrices = (self._W, after, self._V, V, G, self._layout.offsets, self._layout.sizes)
        scalars[:] = *self._rates, 0.0, 1.0
        numbers = (self._step, self._tolerance, self._energy)
        wrong = _kernels()[0](*matrices, *numbers, last.ravel(), row.ravel(), self._left, scalars)
        self._now += 1
        row[SPARE] = np.inf
        row[RANK] = bounds if self._window is None else self._measured(gradients, G, bounds, row[SPARE])
        row[TOTAL] = last[TOTAL] + row[RANK]
        if wrong or (row[SPARE] < 0).any():
            known = {"before": self._W} if wrong else {}  # else the kernel has taken over what came after
            self._report_step(row, known | {"after": after, "gradient": G})
        if wrong:
            self._W[:], self._V[:] = after, V
        self._settle()

    def room(self) -> int:
        """Number of steps that `watch` may watch before a window begins, which `step` has to see."""
        return 0 if self._window else self._due - self._length - self._now

    def watch(self, steps: int, *, learning_rate: float, weight_decay: float, batch_size: int) -> Watch:
        """What watches the next steps while they are taken, at most `room`; `take` says what came of them."""
        self._set_rates(learning_rate, weight_decay)
        size, before = checks.integer(batch_size, "batch_size", least=1), self._layers.rows[-1]
        count = checks.integer(steps, "steps", least=1, most=self.room())
        self._watch.begin(self._W, self._V, before, self._layers.next(count), size, self._step)
        return self._watch

    def take(self, taken: int, weights: Any, gradients: Any, velocity: Any = None) -> None:
        """Account for so many of the watched steps, which have led to `weights`; the last had these gradients."""
        after, V = self._layout.flat(weights, "weights"), self._velocity(velocity)
        self._layers.give_back(len(self._watch.rows) - taken)
        row, scalars = self._layers.rows[-1], self._scalars.next(taken)
        scalars[:] = *self._rates, 0.0, 1.0
        _kernels()[1](np.tile(self._step, (taken, 1)), self._left, scalars)
        self._now += taken
        self._W[:], self._V[:] = after, V
        if self._wrong(row).any():  # a watch stops at the first
            self._report_step(row, {"after": after, "gradient": self._layout.flat(gradients, "gradients")})
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
        after, V = self._layout.flat(weights, "weights"), self._velocity(velocity)
        ranks = self._bounds(batch_size)
        norms = np.array([np.linalg.norm(W) for W in self._layout.matrices(after)])
        self._check_finite(norms)
        if self._window is None and self._now + len(lr) >= self._due:
            self._open()
        total, rows = self._layers.rows[-1, TOTAL], self._layers.next(len(lr))
        rows[:, :RANK] = np.nan
        rows[:, RANK] = ranks
        rows[:, TOTAL] = total + np.cumsum(rows[:, RANK], axis=0)
        rows[-1, NORM] = norms
        scalars = self._scalars.next(len(lr))
        scalars[:, 3] = 0.0
        scalars[:, :2] = np.stack([lr, wd], axis=1)
        maps = np.stack(np.broadcast_arrays(*self._kind(lr, wd, self._momentum)), axis=1)
        _kernels()[1](maps, self._left, scalars)
        self._now += len(lr)
        self._watch.stale = True
        self._W[:], self._V[:] = after, V
        self._settle()

    def mark(self) -> dict[str, Array]:
        """Where the record stands; `rewind` forgets what came after."""
        return super().mark() | {"probed": np.zeros(0) if self._watch.stale else self._watch.kept.copy()}

    def rewind(self, mark: Mapping[str, Array]) -> None:
        """Stand where the mark was made."""
        super().rewind(mark)
        self._watch.kept, self._watch.stale = mark["probed"].copy(), mark["probed"].size == 0

    # What it has found

    @property
    def slack(self) -> dict[str, Array]:
        """Slack of every certificate, (rows, layers); at least 0 where it holds, inf where nothing was asked."""
        watched = self._layers.rows[self._watched]
        steps = self._tolerance - watched[:, RESIDUAL], self._energy - watched[:, ANGLE], watched[:, SPARE]
        windows = {name: self._found.rows[:, i].copy() for i, name in enumerate(EACH_WINDOW)}
        return dict(zip(EACH_STEP, steps, strict=True)) | windows

    @property
    def at(self) -> dict[str, Any]:
        """Numbers of the steps after which the rows of `slack` were found, (rows,)."""
        steps, ends = np.flatnonzero(self._watched), self._ends.rows[:, 0].astype(np.int64)
        return dict.fromkeys(EACH_STEP, steps) | dict.fromkeys(EACH_WINDOW, ends)

    @property
    def _watched(self) -> Any:
        return self._scalars.rows[:, 3] == 1.0

    # Bookkeeping

    @property
    def _due(self) -> int:
        """The step at which the window ends that is open, or that comes next."""
        begun = self._now if self._window is None else self._window.start
        return self._first if begun < self._first else (begun // self._every + 1) * self._every

    def _settle(self) -> None:
        """Close or open a window."""
        if self._window is not None and self._now >= self._due:
            self._close(self._window)
        self._open_if_due()

    def _open_if_due(self) -> None:
        if self._window is None and self._now >= self._due - self._length:
            self._open()

    def _open(self) -> None:
        self._window = Window(self._W.copy(), self._V.copy(), self._now)
        self._left[4:8] = 1.0, 0.0, 0.0, 1.0

    def _bounds(self, batch_size: Any) -> Any:
        """A priori bounds on the ranks of the gradients of a batch."""
        if self._batch[0] != batch_size:
            uses = checks.integer(batch_size, "batch_size", least=1) * self._uses - self._normed
            self._batch = batch_size, np.minimum(uses, self._least)
        return self._batch[1]

    def _measured(self, gradients: Any, flat: Array, bounds: Any, spare: Array) -> Any:
        """Ranks of the gradients, where they keep their bounds; what the weights cannot feel counts as rounding."""
        dense, ranks, lr = self._layout.matrices(flat), bounds.copy(), self._rates[0]
        given = dense if isinstance(gradients, np.ndarray) and gradients.ndim == 1 else gradients
        felt = 0.1 * self._tolerance * self._layers.rows[-1, NORM] / lr if lr > 0 else np.zeros(len(dense))
        for l in np.flatnonzero(bounds < self._least):
            rank = _rank(given[l], dense[l], self._rounding[l], felt[l])
            spare[l] = bounds[l] - rank
            ranks[l] = min(bounds[l], rank)
        return ranks

    # Judging

    def _wrong(self, row: Array) -> Any:
        """Which certificates of a step are violated, (certificates, layers); NaN is wrong."""
        return ~np.stack([row[RESIDUAL] <= self._tolerance, row[ANGLE] <= self._energy, row[SPARE] >= 0])

    def _report_step(self, row: Array, flats: Mapping[str, Array]) -> None:
        """Report what is wrong with a step."""
        self._check_finite(row[NORM])
        slack = self._tolerance - row[RESIDUAL], self._energy - row[ANGLE], row[SPARE]
        parts = {kind: self._layout.matrices(flat) for kind, flat in flats.items()}
        for i, l in np.argwhere(self._wrong(row)):
            evidence = {kind: part[l].copy() for kind, part in parts.items()}
            self._report(EACH_STEP[i], int(l), float(slack[i][l]), evidence)

    def _close(self, window: Window) -> None:
        """Hold the weights at the end of a window against those at its beginning."""
        rows, left = self._layers.rows, (self._left[4], self._left[5])
        budget, certified = rows[-1, TOTAL] - rows[window.start, TOTAL], self._certified(self._epsilon)
        slack = window.slack(self._layout, self._W, left, budget, certified, self._epsilon) + self._tolerance
        self._window = None
        self._found.next()[:] = [*slack, budget / self._least]
        self._ends.next()[:] = self._now
        seen = {"after": self._W, "memory": window.memory(*left), "before": window.W}
        for i, l in np.argwhere(~(slack >= 0)):
            evidence = {kind: self._layout.matrices(flat)[l].copy() for kind, flat in seen.items()}
            self._report(EACH_WINDOW[i], int(l), float(slack[i, l]), evidence | {"budget": budget[l : l + 1]})

    def _report(self, name: str, layer: int, slack: float, evidence: dict[str, Array]) -> None:
        violation = Violation(name, self._names[layer], self._now, slack, evidence)
        self.violations.append(violation)
        if self._stop:
            raise violation

    # What comes in

    def _set_rates(self, learning_rate: Any, weight_decay: Any) -> None:
        lr, wd = float(learning_rate), float(weight_decay)
        self._check_rates(lr, wd)
        if self._rates != (lr, wd):
            self._rates, self._step = (lr, wd), np.array(self._kind(lr, wd, self._momentum))

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
