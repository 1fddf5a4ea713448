r"""A local minimum of a narrow network is a saddle of the wider one, strict at depth 2, of order L at depth L.

The narrow network of hidden width k is at the best fit of rank k to a partly observed matrix, G = dC/dA not zero. Zero
neurons are added (`dln.include`): the cost and the gradient stay as they were. For L = 2 every new neuron brings the
eigenvalues :math:`\pm \sigma_i(G)` to the Hessian. For L > 2 it brings zeros, and the escape along
:math:`\epsilon (h v^T, h h^T, \dots, -u h^T)`, with h a new neuron and (u, v) the top singular pair of G, shows in the
cost at order L only: :math:`-\epsilon^L \sigma_1(G)` (A. Jacot et al., arXiv 2106.15933). From such a start the flow
grows the new neuron, of weights u in every layer, as :math:`\dot u = \sigma_1(G)\, u^{L-1}`, and comes to rest at a
minimum of rank k + 1.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import checks, inits, network, progress, schatten
from ..costs import Cost
from ..flow import gradient_flow
from ..landscape import hessian
from ..schatten.fixed_rank import Penalised, Point, newton
from ..symmetries import grow, include
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome, _completion

TITLE = "a local minimum of a narrow network is a saddle of the wider one: spectra, order of the escape, its speed"

COLUMNS = (
    "depth", "k", "cost", "s_1(G)", "least", "index", "index (theory)", "order", "drop / theory",
    "speed / theory", "next rank", "next cost", "off minimum",
)  # fmt: skip
FULL: dict[str, Any] = {"depths": [2, 3, 4], "ranks": [1, 2], "size": 10, "observed": 70}
QUICK: dict[str, Any] = {"depths": [2, 3], "ranks": [1], "size": 7, "observed": 42}
ZERO = 1e-9  # an eigenvalue below minus this is negative
SMOOTHED = 1e-3  # weight decay from whose minimum Newton's method starts
KICKS = np.array([0.2, 0.1, 0.05, 0.02, 0.01])
REST = 20.0  # how long the flow is watched after the escape, in time constants of its slowest mode


@dataclass(frozen=True)
class Case:
    """A narrow minimum A of rank k, and the depth and width of the network that it is put into."""

    cost: Cost
    A: Array
    rank: int
    depth: int
    width: int
    seed: int

    @cached_property
    def narrow(self) -> list[Array]:
        """Balanced layers of width k."""
        n_L, n_0 = self.A.shape
        widths = [n_0, *[self.rank] * (self.depth - 1), n_L]
        return inits.balanced(self.A, self.depth, widths=widths, rng=self.seed)

    @cached_property
    def wide(self) -> list[Array]:
        """The same with zero neurons."""
        return include(self.narrow, self.width)

    @cached_property
    def G(self) -> Array:
        """Gradient of the cost."""
        return self.cost.gradient(self.A)

    @cached_property
    def top(self) -> float:
        """Its largest singular value."""
        return float(np.linalg.norm(self.G, 2))

    @cached_property
    def spectra(self) -> tuple[Array, Array]:
        """Eigenvalues of the Hessian before and after the inclusion."""
        return hessian(self.cost, self.narrow).spectrum(), hessian(self.cost, self.wide).spectrum()

    @cached_property
    def drops(self) -> Array:
        """Fall of the cost for every kick."""
        before = self.cost.value(self.A)
        kicked = [include(grow(self.narrow, self.G, size), self.width) for size in KICKS]
        return np.array([before - self.cost.value(network.end_to_end(weights)) for weights in kicked])

    def escape(self, kick: float) -> tuple[Trajectory, float]:
        """The flow from the kicked network to rest, and the speed of the new neuron over its first doubling.

        Only one new neuron is there: others would stay at zero, until rounding wakes them on the next strict saddle.
        """
        start, doubling = grow(self.narrow, self.G, kick), _duration(kick, 2.0, self.top, self.depth)
        first = gradient_flow(self.cost, start, (0.0, doubling), t_eval=[0.0, doubling], rtol=1e-10)
        assert first.weights is not None
        grown = float(np.linalg.norm(first.weights[0][-1, -1])) / kick
        measured = _duration(kick, grown, 1.0, self.depth) / doubling
        escaped = _duration(kick, 1 / kick, self.top, self.depth)
        there = gradient_flow(self.cost, start, (0.0, 2 * escaped)).end_to_end[-1]
        wait = REST / _slowest(
            self.cost, _newton(self.cost, there, self.rank + 1).A, self.rank + 1, self.depth
        )
        return gradient_flow(self.cost, start, (0.0, 2 * escaped + wait)), measured


def _slowest(cost: Cost, A: Array, rank: int, depth: int) -> float:
    """Rate of the slowest mode of the flow that is not still, at balanced layers of the rank of A."""
    n_L, n_0 = A.shape
    layers = inits.balanced(A, depth, widths=[n_0, *[rank] * (depth - 1), n_L], rng=0)
    rates = hessian(cost, layers).spectrum()
    return float(min(rates[rates > 1e-7 * rates[-1]]))


def _duration(u: float, factor: float, speed: float, depth: int) -> float:
    """Time in which u' = speed u^(depth - 1) multiplies u by a factor."""
    if depth == 2:
        return math.log(factor) / speed
    return u ** (2 - depth) * (1 - factor ** (2 - depth)) / ((depth - 2) * speed)


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", metavar="L", help="(default 2 3 4)")
    add("--ranks", type=int, nargs="+", metavar="K", help="widths of the narrow network (default 1 2)")
    add("--new", type=int, default=2, metavar="M", help="neurons added to every hidden layer (default 2)")
    _completion.options(parser, size=10, singular_values=(3.0, 2.0, 1.5), observed=70, noise=0.1)
    parser.set_defaults(size=None, observed=None)
    add("--kick", type=float, default=0.01, help="size of the perturbation of each layer (default 0.01)")
    add("--seed", type=int, default=0, help="seed of the problem (default 0)")
    add("--quick", action="store_true", help="7 x 7, 42 entries, depths 2 and 3, k = 1 by default")


def run(options: argparse.Namespace) -> Outcome:
    """Spectra, drops and escapes for every depth and width, and the figure."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    depths = sorted({checks.integer(L, "--depths", least=2, most=checks.MOST) for L in options.depths})
    ranks = sorted({checks.integer(k, "--ranks", least=1, most=checks.MOST) for k in options.ranks})
    new = checks.integer(options.new, "--new", least=1, most=checks.MOST)
    kick = checks.positive(options.kick, "--kick")
    if not kick < 0.5:
        raise ValueError(
            f"`--kick` must be less than 0.5, got {kick}. The new neuron has to grow from near zero."
        )
    seed = checks.integer(options.seed, "--seed", least=0)
    cost = _completion.problem(options, seed).cost
    fits = {k: _fit(cost, k) for k in ranks}
    cases = [Case(cost, fits[k], k, L, k + new, seed) for L, k in itertools.product(depths, ranks)]
    rows, runs = [], []
    with progress.bar(options.progress, "escapes", len(cases)) as report:
        for done, case in enumerate(cases):
            report(done, f"depth {case.depth}, k = {case.rank}")
            trajectory, speed = case.escape(kick)
            runs.append(trajectory)
            rows.append(_row(case, trajectory, speed))
    return Outcome(
        title=(
            f"{options.size} x {options.size} matrix, {options.observed} entries observed with noise "
            f"{options.noise:g}: minima of width k, {new} neurons added"
        ),
        columns=COLUMNS,
        rows=rows,
        notes=[
            "least, index: least eigenvalue and number of negative eigenvalues of the Hessian with the new neurons. In "
            "theory -s_1(G) and (neurons added) rank G for L = 2, else 0; none is negative without them.",
            f"order: exponent of the drop of the cost in the kick, from {KICKS[-2]:g} to {KICKS[-1]:g}; drop / theory: "
            f"that of {KICKS[-1]:g} over eps^L s_1(G). speed: of the new neuron while its weights double.",
            "off minimum: distance from where the flow comes to rest to the minimum of that rank that Newton's method "
            "finds from there, relative.",
        ],
        parameters={
            "size": options.size, "singular_values": options.singular_values, "observed": options.observed,
            "noise": options.noise, "seed": seed, "kick": kick, "new": new, "kicks": KICKS.tolist(),
            "cases": [
                {"depth": case.depth, "k": case.rank, "before": case.spectra[0].tolist(),
                 "after": case.spectra[1].tolist(), "drops": case.drops.tolist()}
                for case in cases
            ],
        },
        success=all(trajectory.success for trajectory in runs),
        figures={"narrow-minimum": _figure(cases, runs, kick)},
    )  # fmt: skip


def _fit(cost: Cost, rank: int) -> Array:
    """The best fit of a rank that Newton's method finds from that with a little weight decay."""
    smooth = schatten.solve(cost, SMOOTHED, 2, width=rank)[0]
    fit = _newton(cost, smooth.end_to_end, rank)
    top = float(np.linalg.norm(cost.gradient(fit.A), 2))
    if smooth.rank < rank or fit.rank < rank or top < 1e-6 * float(np.linalg.norm(fit.A)):
        raise ValueError(
            f"`--ranks` must be ranks at which no matrix fits all observed entries, got {rank}. Take smaller ones."
        )
    return fit.A


def _newton(cost: Cost, A: Array, rank: int) -> Point:
    """Minimum of the cost over the matrices of one rank near A."""
    U, s, Vt = np.linalg.svd(A)
    return newton(Point(Penalised(cost, 0.0, 2), U[:, :rank], s[:rank], Vt[:rank].T))


def _row(case: Case, trajectory: Trajectory, speed: float) -> dict[str, Any]:
    (_, after), drops, s = case.spectra, case.drops, case.top
    end = trajectory.end_to_end[-1]
    rank = int(trajectory.rank()[-1])
    minimum = _newton(case.cost, end, rank).A
    shallow = case.depth == 2
    values = (
        case.depth, case.rank, case.cost.value(case.A), s, after[0],
        int(np.sum(after < -ZERO)),
        (case.width - case.rank) * int(np.linalg.matrix_rank(case.G, tol=ZERO)) if shallow else 0,
        math.log(drops[-2] / drops[-1]) / math.log(KICKS[-2] / KICKS[-1]), drops[-1] / (KICKS[-1] ** case.depth * s),
        speed / s,
        rank, trajectory.cost[-1], np.linalg.norm(end - minimum) / np.linalg.norm(minimum),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _figure(cases: list[Case], runs: list[Trajectory], kick: float) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        figure, (left, centre, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
        for place, (case, trajectory) in enumerate(zip(cases, runs, strict=True)):
            shade, dashed = plotting.colour(case.depth - 2), "-" if case.rank == cases[0].rank else "--"
            name = f"L = {case.depth}, k = {case.rank}"
            plotting.plot_strip(case.spectra[0], place - 0.2, left, color="0.55")
            plotting.plot_strip(case.spectra[1], place + 0.2, left, color=shade)
            centre.plot(KICKS, KICKS**case.depth * case.top, color=shade, ls=dashed, lw=1.0)
            centre.plot(
                KICKS, case.drops, "o", color=shade, ms=4, label=name, mfc="w" if dashed == "--" else None
            )
            predicted = _duration(kick, 1 / kick, case.top, case.depth)
            right.plot(trajectory.t / predicted, trajectory.cost, color=shade, ls=dashed, lw=1.4, label=name)
        left.axhline(0.0, color="0.8", lw=0.8, zorder=0)
        left.set_yscale("symlog", linthresh=0.1)
        left.set_xticks(range(len(cases)), [f"L={case.depth}\nk={case.rank}" for case in cases])
        left.set(ylabel="eigenvalues of the Hessian", title="narrow (grey) and with zero neurons (colour)")
        centre.set(xscale="log", yscale="log", xlabel=r"kick $\epsilon$", ylabel="drop of the cost")
        centre.set_title(r"drop, and $\epsilon^L s_1(G)$ as lines")
        centre.legend(frameon=False, fontsize="small")
        right.set(xlim=(0, 2), xlabel="time / predicted time of the escape", ylabel="cost C(A)")
        right.set_title("flow from the kicked network")
    return figure
