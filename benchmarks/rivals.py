"""The methods that are compared: each a name, the packages it needs, and an adapter of some twelve lines.

An adapter takes a `Job` and returns `solve(rtol)`, which gives back a `Solution`. All that is prepared once
(compilation, buffers) belongs in the adapter, all that a user pays for each run in `solve`. Packages are
imported inside the adapters: one that is missing leaves its methods out, and nothing else.
"""

import functools
import importlib.util
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from problems import Problem, end_to_end, make

MAX_STEPS = 10_000_000


class Solution(NamedTuple):
    """Flat states (T, n) or matrices A (T, n_L, n_0) at the times of the job, and what they took."""

    path: np.ndarray
    nfev: int
    success: bool


@dataclass(frozen=True)
class Job:
    """A problem, the times at which its path is wanted, and the faster of the products of `velocity`."""

    problem: Problem
    times: np.ndarray
    product: str

    @property
    def span(self):
        """From 0 to the last time."""
        return 0.0, float(self.times[-1])

    @cached_property
    def data(self):
        """The last argument of `rhs`; its entry 0 counts the calls."""
        from velocity import new_data

        return new_data(self.problem)

    def rhs(self, order):
        """The compiled velocity with its arguments in the given order, see `velocity.compile_for`."""
        from velocity import compile_for

        return compile_for(self.problem.widths, self.product, order)

    def atol(self, rtol):
        """An absolute tolerance that knows the scale of the start."""
        return rtol * self.problem.scale

    def end_to_end(self, solution):
        """A at the times of the job."""
        path = np.asarray(solution.path)
        return path if path.ndim == 3 else end_to_end(path, self.problem.widths)

    def save(self, path):
        """Write what `load` needs."""
        np.savez(path, name=self.problem.name, seed=self.problem.seed, times=self.times, product=self.product)

    @classmethod
    def load(cls, path):
        """The job that was saved."""
        with np.load(path) as f:
            return cls(make(str(f["name"]), int(f["seed"])), f["times"], str(f["product"]))


@dataclass(frozen=True)
class Method:
    """A contestant: `prepare(job)` returns `solve(rtol) -> Solution`."""

    name: str
    modules: tuple
    prepare: Callable

    @property
    def package(self):
        """The package that is measured."""
        return self.modules[0]

    def missing(self):
        """Names of the modules that are not installed."""
        return [m for m in self.modules if importlib.util.find_spec(m) is None]


def dln(job, method):
    """This library through its front door; a tolerance per layer is its own default."""
    import dln

    p = job.problem
    full, costs = p.fully_observed, dln.costs
    cost = costs.FullyObserved(p.target) if full else costs.MatrixCompletion(p.target, p.mask)

    def solve(rtol):
        traj = dln.gradient_flow(cost, p.weights, job.span, method=method, rtol=rtol, t_eval=job.times)
        return Solution(traj.end_to_end, traj.nfev, traj.success)

    return solve


def scipy(job, method):
    """`scipy.integrate.solve_ivp`: loop in Python, right-hand side compiled."""
    from scipy.integrate import solve_ivp

    velocity, data, dy = job.rhs("y, dy, data"), job.data, np.empty_like(job.problem.start)

    def rhs(t, y):
        velocity(y, dy, data)
        return dy.copy()

    def solve(rtol):
        s = solve_ivp(rhs, job.span, job.problem.start, method, job.times, rtol=rtol, atol=job.atol(rtol))
        return Solution(s.y.T, s.nfev, s.success)

    return solve


def scipy_odeint(job):
    """LSODA of `scipy.integrate.odeint`: its loop is compiled, that of `solve_ivp(method="LSODA")` is not."""
    from scipy.integrate import odeint

    velocity, data, dy = job.rhs("y, dy, data"), job.data, np.empty_like(job.problem.start)
    grid = np.concatenate([[0.0], job.times])

    def rhs(y, t):
        velocity(y, dy, data)
        return dy

    def solve(rtol):
        states, info = odeint(
            rhs, job.problem.start, grid, rtol=rtol, atol=job.atol(rtol), mxstep=MAX_STEPS, full_output=True
        )
        return Solution(states[1:], int(info["nfe"][-1]), info["message"] == "Integration successful.")

    return solve


def numbalsoda(job, routine):
    """Fortran's DOP853 or C's LSODA, called with the address of the right-hand side."""
    import numbalsoda

    rhs, data, integrate = job.rhs("t, y, dy, data"), job.data, getattr(numbalsoda, routine)
    grid = np.concatenate([[0.0], job.times])

    def solve(rtol):
        data[0] = 0.0
        tolerances = rtol, job.atol(rtol)
        states, success = integrate(rhs.address, job.problem.start, grid, data, *tolerances, MAX_STEPS)
        return Solution(states[1:], int(data[0]), success)

    return solve


def cyrk(job, method):
    """CyRK's C++ solvers, called from compiled code with the address of the right-hand side."""
    rhs, data, integrate = job.rhs("dy, t, y, data"), job.data, _compiled_cyrk()

    def solve(rtol):
        data[0] = 0.0
        arguments = (rhs.address, job.span, job.problem.start, method, job.times, data, rtol, job.atol(rtol))
        states, calls, success = integrate(*arguments)
        return Solution(states, int(calls), success)

    return solve


@functools.cache
def _compiled_cyrk():
    """`nbsolve2_ivp`, the copy and the release of its result in one compiled function: saves 0.07 ms."""
    from CyRK import nbsolve2_ivp
    from CyRK.nb.numba_solver import c_get_args_ptr
    from numba import carray, njit

    @njit
    def integrate(address, span, start, method, times, data, rtol, atol):
        result = nbsolve2_ivp(address, span, start, method, times, False, data, rtol, atol)
        states, success = result.y.T.copy(), result.success
        calls = carray(c_get_args_ptr(result._ptr), (8,)).view(np.float64)[0]  # CyRK works on a copy of data
        result.free()
        return states, calls, success

    return integrate


def diffrax(job, solver, evaluations):
    """diffrax in float64, all of it under one `jax.jit`; a flat state is faster than a list of layers."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    p = job.problem
    target, mask, start, times = map(jnp.asarray, (p.target, p.mask, p.start, job.times))
    shapes = [W.shape for W in p.weights]
    cuts = np.cumsum([m * k for m, k in shapes])[:-1].tolist()

    def layers(y):
        return [part.reshape(shape) for part, shape in zip(jnp.split(y, cuts), shapes, strict=True)]

    def product(weights):
        return functools.reduce(lambda A, W: W @ A, weights)

    def cost(weights):
        return 0.5 * jnp.sum((mask * (product(weights) - target)) ** 2)

    def velocity(t, y, args):
        return -jnp.concatenate([G.ravel() for G in jax.grad(cost)(layers(y))])

    def read(t, y, args):
        return product(layers(y))

    @jax.jit
    def integrate(rtol, atol):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            getattr(diffrax, solver)(),
            *job.span,
            dt0=None,
            y0=start,
            saveat=diffrax.SaveAt(ts=times, fn=read),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=MAX_STEPS,
            throw=False,
        )

    def solve(rtol):
        s = integrate(rtol, job.atol(rtol))
        nfev = evaluations * int(s.stats["num_steps"])
        return Solution(np.asarray(s.ys), nfev, bool(s.result == diffrax.RESULTS.successful))

    return solve


def _family(package, prepare, modules, **options):
    """One method per value of the single option, e.g. `method=("DOP853", "RK45")`."""
    ((option, values),) = options.items()
    return [Method(f"{package} {v}", modules, partial(prepare, **{option: v})) for v in values]


ALL = {
    method.name: method
    for method in (
        *_family("dln", dln, ("dln",), method=("dop853", "tsit5", "dopri5", "bs3")),
        *_family("scipy", scipy, ("scipy", "numba"), method=("DOP853", "RK45")),
        Method("scipy LSODA", ("scipy", "numba"), scipy_odeint),
        *_family("numbalsoda", numbalsoda, ("numbalsoda",), routine=("dop853", "lsoda")),
        *_family("CyRK", cyrk, ("CyRK",), method=("DOP853", "RK45", "Tsit5", "Vern7", "Vern8")),
        Method("diffrax Tsit5", ("diffrax",), partial(diffrax, solver="Tsit5", evaluations=6)),
        Method("diffrax Dopri8", ("diffrax",), partial(diffrax, solver="Dopri8", evaluations=13)),
    )
}


def collect(files=()):
    """`ALL`, together with the lists or mappings named `ALL` in the given Python files."""
    methods = dict(ALL)
    for file in files:
        own = runpy.run_path(file)["ALL"]
        methods.update({m.name: m for m in (own.values() if isinstance(own, dict) else own)})
    return methods
