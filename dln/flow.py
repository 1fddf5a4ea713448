"""The front door of gradient flow: matrices in, a Trajectory out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from . import form as forms_
from .costs import Cost
from .method import ALL as METHODS
from .method import Method
from .network import finite_product
from .problem import Problem, Until
from .progress import bar
from .trajectory import KEEP_BYTES, ContinuationError, Trajectory
from .typing import Array, ArrayLike, Layers
from .watch import Watch

if TYPE_CHECKING:
    from .backends.integrate import Integration

__all__ = ["gradient_flow", "methods", "forms"]

MAX_STEPS = 10_000_000
# "auto": an explicit method, and from a plateau on a stiff one, each for two ranges of tolerances.
PLAIN, TIGHT, LOOSE = "tsit5", "dop853", 1e-4
STIFF, STIFF_TIGHT, STIFF_TIGHT_FROM = "radau9", "radau13", 1e-4
# Entries of the stiff eigenvectors up to which they are cheap; for larger nets a method without matrices.
STIFF_LARGE, COLLOCATE_UP_TO = "rkc2", 2_000_000
LEAST_RTOL = 100 * float(np.finfo(float).eps)

MESSAGES = {
    "finished": "The end of the time span is reached.",
    "cost": "The cost asked for is reached.",
    "gradient_norm": "The gradient norm asked for is reached, and the point is no saddle.",
    "rank": "As many modes as asked for are active.",
    "saddle": "As many saddles as asked for are visited; the run ends at the slowest point of the last.",
    "max_steps": "max_steps = {max_steps} steps did not reach the end. Raise max_steps or rtol, or shorten t_span.",
    "underflow": "The step fell below the spacing of the numbers at t = {t:.6g}. Shorten t_span, or raise rtol.",
    "not_finite": "The state overflowed, or the stages of a step could not be solved, at t = {t:.6g}. "
    "Take a smaller step, or an adaptive method.",
    "stationary": "The start is a critical point: nothing moves. Perturb it, or give a finite t_span.",
    "at_rest": "The flow came to rest at t = {t:.6g} without meeting `until`. Ask for what this problem can reach.",
    "interrupted": "Interrupted at t = {t:.6g}; what was reached is here. Run on from the last weights.",
}


def gradient_flow(
    cost: Cost,
    weights: Layers,
    t_span: tuple[float, float],
    *,
    weight_decay: float = 0.0,
    method: str = "auto",
    form: str = "auto",
    rtol: float = 1e-8,
    atol: float | None = None,
    step: float | None = None,
    t_eval: ArrayLike | None = None,
    until: Until | None = None,
    max_steps: int | None = None,
    keep_weights: bool | None = None,
    progress: bool = False,
) -> Trajectory:
    r"""Trajectory of the gradient flow of a deep linear network.

    .. math:: \dot W_l = -\frac{\partial}{\partial W_l} C(W_L \cdots W_1) - \lambda W_l .

    Parameters
    ----------
    cost : Cost
        A cost from `dln.costs`.
    weights : sequence of array_like
        Layers [W_1, .., W_L] at t0, W_l of shape (n_l, n_{l-1}).
    t_span : (float, float)
        Start and end. The end may be inf if `until` is given.
    weight_decay : float
        lambda >= 0.
    method : str
        A name from `dln.methods()`, or "auto": Dormand-Prince 8(5,3) (Tsitouras 5(4) for rtol > 1e-4) and, while the
        flow waits at a small start or on a plateau, Radau IIA of order 13 (9 for rtol > 1e-4), or
        Runge-Kutta-Chebyshev for large nets.
        ``stats["used"]`` lists which was used from which time and step on.
    form : str
        A name from `dln.forms()`, or "auto". Two layers much wider than n_0 + n_L are integrated as n_0 + n_L hidden
        directions ("gram"), deeper nets in invariant subspaces of their hidden layers, or in Krylov subspaces whose
        error, seen from lower orders, is at most `rtol` times the largest norm of A ("subspace"): smaller networks with
        the same end-to-end matrix. What was taken stands in `form`, `form_error` and `message` of the trajectory.
    rtol : float
        Allowed error of a step of a layer, relative to the Frobenius norm of that layer. There is no absolute floor, so
        a start of size 1e-12 is integrated as well as one of size 1.
    atol : float, optional
        Added to the allowed error of a step of a layer; by default 0.
    step : float, optional
        Steps of this size, without control of the error. Euler and the classical Runge-Kutta method need it.
    t_eval : array_like, optional
        Increasing times in t_span to save. By default up to 512 times spaced by arc length, so that transitions are
        resolved.
    until : Until, optional
        What ends the run earlier.
    max_steps : int, optional
        Largest number of steps, accepted or not; by default 10 million.
    keep_weights : bool, optional
        Whether the layers at the saved times are kept; by default where that takes at most 512 MB.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Trajectory
        Also when the run fails: then `success` is False and `message` says what to change; what was reached is there.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; before anything is computed.

    References
    ----------
    arXiv 2106.15933. Methods: see `dln.method`; forms: `dln.form`.

    Examples
    --------
    >>> import dln
    >>> cost = dln.costs.FullyObserved([[2.0, 0.0], [0.0, 1.0]])
    >>> start = dln.inits.aligned(cost.target, 2, scale=1e-4)
    >>> run = dln.gradient_flow(cost, start, (0.0, 20.0))
    >>> run.success, np.round(run.end_to_end[-1], 6)
    (True, array([[2., 0.],
           [0., 1.]]))
    """
    problem = Problem.checked(cost, weights, weight_decay)
    if until is not None and not isinstance(until, Until):
        raise TypeError(f"`until` must be a dln.Until, got {until!r}. For example dln.Until(cost=1e-8).")
    span = checks.time_span(t_span, infinite=until is not None)
    rtol = checks.positive(rtol, "rtol")
    if rtol < LEAST_RTOL:
        raise ValueError(f"`rtol` must be at least {LEAST_RTOL:.2g}, got {rtol:g}. Float64 resolves no more.")
    wanted = checks.one_of(form, "form", ("auto", *forms_.NAMES))
    methods, fixed = _methods(method, rtol, step, problem)
    options = partial(
        _Options,
        atol=0.0 if atol is None else checks.nonnegative(atol, "atol"),
        step=fixed,
        max_steps=MAX_STEPS if max_steps is None else checks.integer(max_steps, "max_steps", least=1),
    )
    output = None if t_eval is None else _output_times(t_eval, span)
    progress = checks.flag(progress, "progress")

    def kept(net: Problem) -> bool:
        saved = 512 if output is None else len(output)
        if keep_weights is None:
            return saved * net.parameters * 8 <= KEEP_BYTES
        return checks.flag(keep_weights, "keep_weights") and (
            net is problem or saved * net.parameters <= 2**40
        )

    def run(net: Problem, /, *, like: Trajectory | None = None, times: Array | None = None) -> Trajectory:
        first = net if like is None else replace(net, weights=like.start)
        suited = options(rtol=rtol, methods=_methods(method, rtol, step, first)[0], form="weights")
        if like is None:
            return _run(net, span, suited, output, until, kept(net), progress)
        return _run(net, (span[0], float(like.steps[-1])), suited, times, None, True, False, like)

    keep = kept(problem)
    if wanted == forms_.MODES:
        return _closed(problem, method, span, output, until)
    if (found := forms_.run_reduced(problem, wanted, rtol, run, keep)) is not None:
        return found
    methods, name = _form(wanted, methods, method, problem, rtol)
    suited = options(rtol=rtol, methods=methods, form=name)
    if name == forms_.END_TO_END.name:
        small = replace(problem, weights=forms_.END_TO_END.balanced(problem))
        suited = replace(suited, rtol=max(LEAST_RTOL, rtol * forms_.END_TO_END.smallest(problem)))
        found = _run(small, span, suited, output, until, False, progress)
        return replace(found, start=problem.weights, continue_from=None, reduced=found)
    return _run(problem, span, suited, output, until, keep, progress)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """How a flow is integrated: what it takes to continue it from any of its points."""

    methods: tuple[Method, ...]  # one, or an explicit and a stiff one that take turns
    form: str
    rtol: float
    atol: float
    step: float | None
    max_steps: int

    def integration(
        self, problem: Problem, span: tuple[float, float], times: Array | None, keep: bool, **more: Any
    ) -> Integration:
        from .backends.integrate import Integration
        from .backends.system import System

        goals = {"cost_goal": -math.inf, "dissipation_goal": -1.0, **more}
        return Integration(
            system=System.of(problem, forms_.ALL[self.form]),
            methods=self.methods,
            t_span=span,
            rtol=self.rtol,
            atol=self.atol,
            step=self.step,
            times=times,
            keep_states=keep,
            max_steps=self.max_steps,
            **goals,
        )


def _run(
    problem: Problem,
    span: tuple[float, float],
    options: _Options,
    times: Array | None,
    until: Until | None,
    keep: bool,
    progress: bool,
    like: Trajectory | None = None,
) -> Trajectory:
    watch, retrace = Watch(problem, until), list[tuple[str, Array]]()
    if like is not None:
        used = like.stats["used"]
        parts = np.split(like.steps, [before for _, _, before in used[1:]])
        retrace = [(name, ends.copy()) for (name, *_), ends in zip(used, parts, strict=True) if len(ends)]
    with np.errstate(over="ignore", invalid="ignore"):
        integration = options.integration(problem, span, times, keep, retrace=retrace, **watch.goals)
    total = None if math.isinf(span[1]) else span[1] - span[0]
    with bar(progress, "gradient flow", total) as report, np.errstate(over="ignore", invalid="ignore"):
        status = integration.run(watch.look, report)
    t, rows, measured = integration.saved()
    widths, name = problem.widths, status.split(":")[0]
    layers = forms_.ALL[options.form].layers(rows, widths) if keep else None
    if name in MESSAGES:
        message = MESSAGES[name].format(t=integration.t, max_steps=options.max_steps)
    else:
        message = f"The cost's own code {status}. Mend it and run on from the last weights."
    trajectory = Trajectory(
        t=t,
        end_to_end=finite_product(layers) if layers is not None else rows.reshape(-1, widths[-1], widths[0]),
        weights=layers,
        t_start=span[0],
        start=problem.weights,
        cost_function=problem.cost,
        depth=problem.depth,
        weight_decay=problem.weight_decay,
        status=name,
        message=message,
        nfev=integration.count("nfev"),
        n_steps=integration.count("steps"),
        method=" + ".join(
            m.name for m in options.methods if m.name in {name for name, *_ in integration.used}
        ),
        form=options.form,
        state_size=len(integration.y),
        stats={
            **{name: integration.count(name) for name in ("rejected", "products", "factorisations")},
            "used": [list(entry) for entry in integration.used],
            "rtol": options.rtol,
            "atol": options.atol,
            "step": options.step,
        },
        extrema=integration.turns(),
        measured=measured,
        steps=integration.steps,
        continue_from=_continuation(problem.cost, problem.weight_decay, options),
    )
    return watch.cut(trajectory)


def _closed(
    problem: Problem, method: str, span: tuple[float, float], times: Array | None, until: Until | None
) -> Trajectory:
    """The run of an aligned start, in closed form."""
    from .exact.follow import follow
    from .exact.modes import aligned_law

    if method != "auto":
        raise ValueError(
            f'`method` must be left out with form="modes", got {method!r}. Nothing is integrated.'
        )
    try:
        law, size = aligned_law(problem)
    except ValueError as error:
        raise ValueError(f'`form` must suit the problem, got "modes". {error}') from error
    found = follow(problem, law, span, times, until, method=forms_.MODES, state_size=size)
    return replace(found, message=MESSAGES[found.status].format(t=found.t[-1]))


def methods() -> dict[str, str]:
    """Names of the integration methods, each with its authors, order and purpose."""
    return {
        name: f"{m.title}, order {m.order}, {'adaptive' if m.adaptive else 'fixed step'}: {m.purpose}"
        for name, m in METHODS.items()
    }


def forms() -> dict[str, str]:
    """Names of the forms of the flow, each with its purpose."""
    known: tuple[forms_.Weights | forms_.Reduced, ...] = (*forms_.ALL.values(), *forms_.REDUCED.values())
    texts = {
        form.name: f"{'exact' if form.exact else 'exact or truncated'}: {form.purpose}" for form in known
    }
    return texts | {
        forms_.MODES: "exact: starts aligned with a target, in closed form: nothing is integrated"
    }


def continuation(
    cost: Cost, weight_decay: float, method: str, stats: Mapping[str, Any]
) -> Callable[[tuple[Array, ...], float, Array], list[Array]] | None:
    """How a loaded trajectory is continued from its saved layers; None if it is not a flow."""
    names = method.split(" + ")
    if not set(names) <= set(METHODS):
        return None
    options = _Options(
        methods=tuple(METHODS[name] if stats["step"] is None else METHODS[name].fixed() for name in names),
        form="weights",
        rtol=stats["rtol"],
        atol=stats["atol"],
        step=stats["step"],
        max_steps=MAX_STEPS,
    )
    return _continuation(cost, weight_decay, options)


def _continuation(
    cost: Cost, weight_decay: float, options: _Options
) -> Callable[[tuple[Array, ...], float, Array], list[Array]]:
    options = replace(options, max_steps=MAX_STEPS)  # the steps of the run may be too few to begin anew

    def layers_at(weights: tuple[Array, ...], since: float, times: Array) -> list[Array]:
        problem = Problem(cost, weights, weight_decay)
        if times[-1] <= since:
            return [np.repeat(W[None], len(times), axis=0) for W in weights]
        # The flow is autonomous: time from `since` on, as late times are too far apart for its steps.
        integration = options.integration(problem, (0.0, float(times[-1] - since)), times - since, True)
        status = integration.run(lambda *_: "", lambda *_: None)
        if status != "finished":
            raise ContinuationError(
                f"the flow could not be continued from t = {since:g} to {times[-1]:g}: status {status!r}. "
                "Keep the layers (keep_weights), or save more times (t_eval)."
            )
        return list(forms_.ALL[options.form].layers(integration.saved()[1], problem.widths))

    return layers_at


def _methods(
    method: Any, rtol: float, step: Any, problem: Problem
) -> tuple[tuple[Method, ...], float | None]:
    """Methods that take turns, and the fixed step if there is one."""
    name = checks.one_of(method, "method", ("auto", *METHODS))
    if name == "auto":
        if step is not None:
            raise ValueError(f'`step` must be left out with method="auto", got {step!r}. Name a method.')
        n, entries = problem.parameters, problem.widths[0] * problem.widths[-1]
        small = n * entries <= COLLOCATE_UP_TO
        stiff = (STIFF if rtol > STIFF_TIGHT_FROM else STIFF_TIGHT) if small else STIFF_LARGE
        return (METHODS[PLAIN if rtol > LOOSE else TIGHT], METHODS[stiff]), None
    if step is not None:
        return (METHODS[name].fixed(),), checks.positive(step, "step")
    if not METHODS[name].adaptive:
        raise ValueError(
            f"`step` must be given with the method {name!r}, got None. It steps at a fixed size."
        )
    return (METHODS[name],), None


def _form(
    name: str, methods: tuple[Method, ...], asked: str, problem: Problem, rtol: float
) -> tuple[tuple[Method, ...], str]:
    """The form, and the methods that know it: where they take turns, those of them that do."""
    if name == "auto":
        wide = forms_.WIDE.takes(methods[0]) and not forms_.WIDE.refusal(problem, rtol)
        name = forms_.WIDE.name if wide and forms_.WIDE.pays(problem) else forms_.WEIGHTS.name
    form = forms_.ALL[name]
    if asked == "auto":
        stiff = [method for method in (methods[1], METHODS[STIFF_LARGE]) if form.takes(method)]
        # Steps held to the smallest mode are too close for the low order of a stabilised method.
        methods = methods[:1] if name == forms_.END_TO_END.name else (methods[0], *stiff[:1])
    reason = form.refusal(problem, rtol)
    if not all(form.takes(method) for method in methods):
        reason = f"the method {asked!r}, which cannot integrate it"
    if reason:
        raise ValueError(f"`form` must suit the problem, got {name!r} and {reason}. Leave `form` out.")
    return methods, name


def _output_times(t_eval: ArrayLike, span: tuple[float, float]) -> Array:
    times = checks.array(t_eval, "t_eval", ndim=1)
    if (np.diff(times) <= 0).any():
        raise ValueError(
            "`t_eval` must increase strictly, got repeated or falling times. Sort it with np.unique."
        )
    if times[0] < span[0] or times[-1] > span[1]:
        raise ValueError(
            f"`t_eval` must lie in t_span = {span}, got {times[0]:g} .. {times[-1]:g}. Widen t_span."
        )
    return times
