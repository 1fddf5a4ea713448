"""Integrators of the deep learning libraries, which take velocities of their own tensors: diffrax, torchdiffeq."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import numpy as np

from .base import Job, Method, Solution

__all__ = ["ALL"]

JAX_STEP, TORCH_CALL = 1e-5, 1e-4  # seconds that a step of the one, a call of the other takes at least


def diffrax(job: Job, solver: str, evaluations: int) -> Any:
    """diffrax in float64, all of it under one `jax.jit`; a flat state is faster than a list of layers."""
    import diffrax
    import jax
    import jax.numpy as jnp

    velocity, product = _jax_velocity(job)
    save = diffrax.SaveAt(ts=jnp.asarray(job.times), fn=lambda t, y, args: product(y))
    terms = (
        diffrax.ODETerm(velocity),
        getattr(diffrax, solver)(),
        *job.span,
        None,
        jnp.asarray(job.problem.start),
    )
    options = {"saveat": save, "max_steps": job.limit(JAX_STEP / evaluations) // evaluations, "throw": False}

    @jax.jit  # type: ignore[untyped-decorator]
    def integrate(rtol: Any, atol: Any) -> Any:
        control = diffrax.PIDController(rtol=rtol, atol=atol)
        return diffrax.diffeqsolve(*terms, stepsize_controller=control, **options)

    def solve(rtol: float) -> Solution:
        s = integrate(rtol, job.atol(rtol))
        done = s.result == diffrax.RESULTS.successful
        return Solution(np.asarray(s.ys), evaluations * int(s.stats["num_steps"]), bool(done))

    return solve


def _jax_velocity(job: Job) -> Any:
    """(velocity, A) as functions of flat states of JAX."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    p = job.problem
    target, mask = jnp.asarray(p.target), jnp.asarray(p.mask)
    shapes = [W.shape for W in p.weights]
    cuts = np.cumsum([m * k for m, k in shapes])[:-1].tolist()

    def product(y: Any) -> Any:
        layers = [part.reshape(shape) for part, shape in zip(jnp.split(y, cuts), shapes, strict=True)]
        return functools.reduce(lambda A, W: W @ A, layers)

    def cost(y: Any) -> Any:
        return 0.5 * jnp.sum((mask * (product(y) - target)) ** 2)

    return lambda t, y, args: -jax.grad(cost)(y), product


def torchdiffeq(job: Job, method: str) -> Any:
    """torchdiffeq on the CPU in float64."""
    import torch
    from torchdiffeq import odeint

    torch.set_num_threads(1)
    velocity, data = _torch_velocity(job), job.data
    start, grid = torch.from_numpy(job.problem.start), torch.from_numpy(np.concatenate([[0.0], job.times]))

    def rhs(t: Any, y: Any) -> Any:
        data[0] += 1.0
        return velocity(y) if data[0] <= data[1] else y * np.nan

    def solve(rtol: float) -> Solution:
        with torch.no_grad():
            states = odeint(rhs, start, grid, rtol=rtol, atol=job.atol(rtol), method=method)
        return Solution(states.numpy()[1:], int(data[0]), True)

    return solve


def _torch_velocity(job: Job) -> Any:
    """Velocity of a flat state of torch, by the formula: faster than autograd."""
    import torch

    target, mask = torch.from_numpy(job.problem.target), torch.from_numpy(job.problem.mask)
    shapes = [W.shape for W in job.problem.weights]
    sizes = [m * k for m, k in shapes]

    def velocity(y: Any) -> Any:
        W = [part.view(shape) for part, shape in zip(y.split(sizes), shapes, strict=True)]
        P = list(torch.eye(W[0].shape[1], dtype=y.dtype)[None])
        for V in W:
            P.append(V @ P[-1])
        H, dW = mask * (target - P[-1]), []
        for V, below in zip(W[::-1], P[-2::-1], strict=True):
            dW.append((H @ below.T).reshape(-1))
            H = V.T @ H
        return torch.cat(dW[::-1])

    return velocity


ALL = [
    *(
        Method(
            f"diffrax {name}",
            ("diffrax",),
            partial(diffrax, solver=name, evaluations=evaluations),
            overhead=JAX_STEP / evaluations,
            explicit=True,
        )
        for name, evaluations in (("Tsit5", 6), ("Dopri8", 13))
    ),
    Method(
        "torchdiffeq dopri5",
        ("torchdiffeq", "torch"),
        partial(torchdiffeq, method="dopri5"),
        overhead=TORCH_CALL,
        explicit=True,
    ),
]
