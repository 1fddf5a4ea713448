"""Rivals that are packages, called as their users call them; imported only when they run."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from .rivals import settled

MOST = 20_000  # iterations

PRECISIONS = (1e-5, 1e-7, 1e-9)  # asked of the conic solvers, one solve after another, each timed alone


class Settled(Exception):
    """Stops a package whose own tolerances look at objectives only."""


def pyproximal_fista(problem, watch):
    """pyproximal's accelerated proximal gradient; for L > 2 its penalty on singular values gets skglm's prox."""
    from pyproximal.optimization.primal import ProximalGradient

    _pyproximal(problem, watch, ProximalGradient, acceleration="fista")


def pyproximal_anderson(problem, watch):
    """pyproximal's proximal gradient with Anderson acceleration, safeguarded where the penalty is not convex."""
    from pyproximal.optimization.primal import AndersonProximalGradient

    _pyproximal(problem, watch, AndersonProximalGradient, safeguard=problem.depth > 2)


def _pyproximal(problem, watch, method, **options):
    import pylops
    from pyproximal import L2, Nuclear
    from pyproximal.proximal import SingularValuePenalty

    shape, seen = problem.mask.shape, np.flatnonzero(problem.mask)
    fit = L2(Op=pylops.Restriction(problem.mask.size, seen), b=problem.observed.ravel()[seen])
    if problem.depth == 2:
        penalty = Nuclear(shape, problem.weight_decay)
    else:
        penalty = SingularValuePenalty(shape, _power_penalty(problem))
    last = np.zeros(shape)

    def note(x):
        nonlocal last
        before, last = last, x.reshape(shape).copy()
        watch(last)
        if settled(last, before):
            raise Settled

    with warnings.catch_warnings(), contextlib.suppress(Settled):
        warnings.simplefilter("ignore")
        method(fit, penalty, x0=problem.observed.ravel(), tau=1.0, niter=MOST, callback=note, **options)


def _power_penalty(problem):
    from pyproximal import ProxOperator
    from skglm.utils import prox_funcs

    prox = {3: prox_funcs.prox_2_3, 4: prox_funcs.prox_05}[problem.depth]

    class Power(ProxOperator):
        def __init__(self):
            super().__init__(None, False)

        def __call__(self, s):
            return problem.weight_decay * problem.depth / 2 * np.sum(s**problem.power)

        def prox(self, s, tau):
            u = np.ravel(tau)[0] * problem.weight_decay * problem.depth / 2
            return np.array([prox(value, u) for value in s])

    return Power()


def cvxpy_scs(problem, watch):
    """The convex problem, L = 2, as cvxpy writes it, solved by SCS."""
    _cvxpy(
        problem,
        watch,
        "SCS",
        lambda precision: {"eps_abs": precision, "eps_rel": precision, "max_iters": 10**6},
    )


def cvxpy_clarabel(problem, watch):
    """The convex problem, L = 2, as cvxpy writes it, solved by Clarabel."""
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
    _cvxpy(problem, watch, "CLARABEL", lambda precision: dict.fromkeys(names, precision))


def _cvxpy(problem, watch, solver, options):
    import cvxpy

    seen = np.nonzero(problem.mask)
    for precision in PRECISIONS:
        watch.restart()
        A = cvxpy.Variable(problem.mask.shape)
        fit = 0.5 * cvxpy.sum_squares(A[seen] - problem.observed[seen])
        task = cvxpy.Problem(cvxpy.Minimize(fit + problem.weight_decay * cvxpy.normNuc(A)))
        limit = {"SCS": "time_limit_secs", "CLARABEL": "time_limit"}[solver]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task.solve(solver=solver, **options(precision), **{limit: watch.cap})
        watch(A.value)
