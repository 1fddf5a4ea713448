"""Saddle-to-saddle dynamics on a partly observed matrix: the plateaus, their ranks, and what is learned on each.

Without a file this is the setting of Figure 1 of arXiv 2106.15933v2: depth 4, width 100, entries of variance
w^-2, and a 10 x 10 matrix of rank 3 with 70 observed entries. (The paper's singular values are not known; ours are
10, 7, 5.) The figure shows A(t) beside the limit path on the plane through the first three saddles, the train and test
cost, and the singular values.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks, costs, files, inits
from ..flow import gradient_flow
from ..method import ALL as METHODS
from ..problem import Until
from ..saddles import Saddle, SaddlePath, find_saddles, saddle_to_saddle
from ..trajectory import Trajectory
from ..typing import Array
from . import Outcome

TITLE = "saddle-to-saddle dynamics of matrix completion: plateaus, ranks, test error"

SINGULAR_VALUES = (10.0, 7.0, 5.0)
OBSERVED = 70  # of the 100 entries
DRAWN = 3  # segments of the limit path in the figure,
LARGE = 2500  # and the number of entries from which on there is none
COLUMNS = ("rank", "kind", "start", "stop", "train cost", "test cost", "speed (theory)", "speed (measured)")


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add(
        "--target",
        type=Path,
        metavar="FILE",
        help="your matrix: .csv (empty or NaN = unobserved), .npy or .npz",
    )
    add(
        "--test-fraction",
        type=float,
        default=None,
        metavar="F",
        help="share of the known entries held out for testing",
    )
    add("--depth", type=int, default=4, help="number of layers L >= 2 (default 4)")
    add("--width", type=int, default=100, help="width of the hidden layers (default 100)")
    add("--gamma", type=float, default=2.0, help="start of variance width^-gamma (default 2)")
    add(
        "--alpha",
        type=float,
        default=None,
        help="factor of the start (default 1; with --target, s_1^(1/L) / 10^(1/L))",
    )
    add(
        "--method",
        default="auto",
        choices=("auto", *(n for n, m in METHODS.items() if m.adaptive)),
        help="integrator",
    )
    add("--rtol", type=float, default=1e-8, help="relative tolerance of a step (default 1e-8)")
    add(
        "--stop",
        type=float,
        default=None,
        metavar="F",
        help="end at this share of the first cost (default 1e-6; file: 1e-3)",
    )
    add("--max-steps", type=int, default=50_000, help="give up after so many steps (default 50000)")
    add("--seed", type=int, default=0, help="seed of data and start (default 0)")


def run(options: argparse.Namespace) -> Outcome:
    """The trajectory, its saddles as a table, and the figure."""
    random = checks.generator(checks.integer(options.seed, "--seed", least=0))
    depth = checks.integer(options.depth, "--depth", least=2)
    width = checks.integer(options.width, "--width", least=1)
    known, train, source = _data(options, random)
    target = np.where(known == 1.0, source, 0.0)
    test = known - train
    cost = costs.MatrixCompletion(target, train)
    n_L, n_0 = target.shape
    top = float(np.linalg.norm(train * target, 2))
    with np.errstate(over="ignore"):
        first = float(cost.raw_value(np.zeros_like(target)))
    if not (top > 0 and np.isfinite(first)):
        raise ValueError(
            f"`--target` must hold numbers that are not all zero and whose squares float64 can hold, got "
            f"{str(options.target)!r}. Rescale the matrix."
        )
    natural = 1.0 if options.target is None else (top / SINGULAR_VALUES[0]) ** (1 / depth)
    alpha = natural if options.alpha is None else checks.positive(options.alpha, "--alpha")
    start = inits.gaussian((n_0, *[width] * (depth - 1), n_L), gamma=options.gamma, alpha=alpha, rng=random)
    usual = 1e-6 if options.target is None else 1e-3
    stop = usual if options.stop is None else checks.positive(options.stop, "--stop")
    trajectory = gradient_flow(
        cost,
        start,
        (0.0, np.inf),
        method=options.method,
        rtol=options.rtol,
        until=Until(cost=stop * first),
        max_steps=options.max_steps,
        progress=options.progress,
    )
    saddles = find_saddles(trajectory)

    def test_cost(A: Array) -> Array:
        return np.asarray(np.sum((test * (A - target)) ** 2, axis=(-2, -1)) / max(test.sum(), 1.0))

    has_test = bool(test.any())
    tested = test_cost(trajectory.end_to_end) if has_test else None
    rows = [_row(saddle, float(test_cost(saddle.end_to_end)) if has_test else None) for saddle in saddles]
    observed = f"{int(train.sum())} of {train.size} entries observed, {int(test.sum())} held out"
    return Outcome(
        title=f"depth {depth}, width {width}, {n_L} x {n_0} matrix, {observed}",
        columns=COLUMNS,
        rows=rows,
        notes=_notes(trajectory, saddles),
        parameters={
            "depth": depth, "width": width, "gamma": options.gamma, "alpha": alpha, "seed": options.seed,
            "method": trajectory.method, "rtol": options.rtol, "steps": trajectory.n_steps, "nfev": trajectory.nfev,
            "status": trajectory.status, "shape": [n_L, n_0], "observed": int(train.sum()), "test": int(test.sum()),
            "final_test_cost": None if tested is None else float(tested[-1]),
        },
        success=trajectory.success,
        figures={"saddle-to-saddle": _figure(trajectory, saddles, tested, _limit(cost, depth))},
    )  # fmt: skip


def _data(options: argparse.Namespace, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Mask of the known entries, mask of those trained on, and the matrix."""
    if options.target is None:
        n, rank = 10, len(SINGULAR_VALUES)
        U, V = (np.linalg.qr(random.normal(size=(n, rank)))[0] for _ in range(2))
        source = U @ np.diag(SINGULAR_VALUES) @ V.T
        known = np.ones((n, n))
        count = OBSERVED if options.test_fraction is None else _kept(n * n, options.test_fraction)
    else:
        source, known = files.read_matrix(options.target)
        count = (
            int(known.sum())
            if options.test_fraction is None
            else _kept(int(known.sum()), options.test_fraction)
        )
    train = np.zeros(source.size)
    train[np.flatnonzero(known)[random.permutation(int(known.sum()))[:count]]] = 1.0
    return known, train.reshape(source.shape), source


def _kept(entries: int, test_fraction: float) -> int:
    fraction = checks.number(test_fraction, "--test-fraction")
    if not 0 <= fraction < 1:
        raise ValueError(
            f"`--test-fraction` must be in [0, 1), got {fraction}. Hold out a share of the known entries."
        )
    return max(1, entries - round(fraction * entries))


def _row(saddle: Saddle, test: float | None) -> dict[str, Any]:
    values = (
        saddle.rank, "grazed" if saddle.grazed else saddle.kind, saddle.start, saddle.stop, saddle.cost, test,
        saddle.escape_speed, saddle.measured_speed,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _notes(trajectory: Trajectory, saddles: tuple[Saddle, ...]) -> list[str]:
    notes = [
        f"{trajectory.message} t = {trajectory.t[-1]:.4g}, {trajectory.n_steps} steps of {trajectory.method}, "
        f"{trajectory.nfev} velocities.",
        "Times in gradient-flow time; train cost 1/2 ||mask * (A - target)||^2; test cost: mean square of held-out "
        "entries; speed s of the escape c' = s c^(L-1).",
    ]
    if not saddles:
        notes.append(
            "The run meets no saddle. A smaller start (larger --gamma or smaller --alpha) brings plateaus."
        )
    return notes


def _limit(cost: costs.MatrixCompletion, depth: int) -> SaddlePath | None:
    """The beginning of the limit path, to draw it; none for matrices where it would take longer than the run."""
    if cost.target.size > LARGE:
        return None
    rank = min(DRAWN, *cost.target.shape)
    return saddle_to_saddle(cost, depth, max_rank=rank, rtol=1e-4, method="dop853", max_steps=20_000)


def _figure(
    trajectory: Trajectory, saddles: tuple[Saddle, ...], test_cost: Array | None, path: SaddlePath | None
) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        panels = 2 if path is None else 3
        figure, axes = plt.subplots(1, panels, figsize=(1 + 4 * panels, 3.8), layout="constrained")
        if path is not None:
            plotting.plot_plane(trajectory, path, axes[0])
        plotting.plot_cost(trajectory, axes[-2], test_cost=test_cost, saddles=saddles)
        plotting.plot_trajectory(trajectory, axes[-1], saddles=saddles)
        figure.suptitle("Plateaus (grey) and their rank (above)", fontsize="medium")
    return figure
