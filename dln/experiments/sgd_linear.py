"""SGD with weight decay on a deep linear network: where the low-rank bias of both papers is the same one.

The decay of the layers is the Schatten-2/L penalty of their product (arXiv 2106.15933), so the minima of the
regularised loss, and their ranks, are known without any training. SGD (arXiv 2206.05794) forgets its start and ends
near one of them: the rank is that of the minimum, whatever the batch size, while the noise of the batches sets the
distance. Without weight decay the layers keep the rank of their start.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks, costs, inits, progress, rank, schatten
from ..data import teacher
from ..descent import sgd
from ..trajectory import Trajectory
from . import Outcome

TITLE = "SGD with weight decay on a deep linear network, beside the minima of the Schatten-2/L penalty"

SIZE, WIDTH, SAMPLES, RANK, NOISE = 20, 40, 400, 4, 0.3
EPSILON = 1e-2
KEPT = 100  # steps of each run that are kept
COLUMNS = (
    "lambda", "B", "tau", "start left", "rank of layers", "rank of A", "nearest minimum", "lowest", "distance",
    "objective", "of the minimum", "bound / width",
)  # fmt: skip
FULL = {
    "batch_sizes": [4, 20, 100, 400], "weight_decays": [0.0, 0.03, 0.1, 0.3, 0.6, 1.2], "depth": 3, "tau": 20.0,
}  # fmt: skip
QUICK = FULL | {"batch_sizes": [4, 40, 400], "weight_decays": [0.0, 0.1, 0.6], "tau": 12.0}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--batch-sizes", type=int, nargs="+", metavar="B", help="(default 4 20 100 400)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0 0.03 0.1 0.3 0.6 1.2)")
    add("--depth", type=int, metavar="L", help="number of layers L >= 2 (default 3)")
    add("--learning-rate", type=float, default=0.02, metavar="ETA", help="(default 0.02)")
    add("--tau", type=float, help="eta lambda steps, the length of each run (default 20)")
    add("--seed", type=int, default=0, help="seed of data, start and batches (default 0)")
    add("--quick", action="store_true", help="fewer batch sizes and decays")


def run(options: argparse.Namespace) -> Outcome:
    """Where every run ends beside the minima, and the course of the singular values."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    seed = checks.integer(options.seed, "--seed", least=0)
    data = teacher(SIZE, SIZE, SAMPLES * 5 // 4, rank=RANK, noise=NOISE, labels=False, rng=seed)
    sizes = sorted(
        {checks.integer(B, "--batch-sizes", least=1, most=len(data.X)) for B in options.batch_sizes}
    )
    decays = sorted({checks.nonnegative(wd, "--weight-decays") for wd in options.weight_decays})
    depth = checks.integer(options.depth, "--depth", least=2, most=checks.MOST)
    rate = checks.positive(options.learning_rate, "--learning-rate")
    tau = checks.positive(options.tau, "--tau")
    rows: list[dict[str, Any]] = []
    ends: dict[tuple[float, int], Trajectory] = {}
    shortest = min((wd for wd in decays if wd > 0), default=1.0)
    with progress.bar(options.progress, "runs", len(decays) * len(sizes)) as report:
        for wd in decays:
            cost = costs.SquareLoss(data.X.T, data.y.T)
            minima = schatten.solve(cost, wd, depth) if wd > 0 else ()
            for B in sizes:
                report(len(rows), f"lambda {wd:g}, B {B}")
                steps = KEPT * max(1, round(tau / (rate * (wd or shortest)) / KEPT))
                ends[wd, B] = _trained(cost, depth, rate, wd, B, steps, seed)
                rows.append(_row(ends[wd, B], minima, rate, wd, B, steps))
    return Outcome(
        title=(
            f"{SIZE} x {SIZE} teacher of rank {RANK}, {len(data.X)} samples, noise {NOISE:g}; depth {depth}, "
            f"width {WIDTH}"
        ),
        columns=COLUMNS,
        rows=rows,
        notes=_notes(rows, [end.message for end in ends.values() if not end.success]),
        parameters={
            "depth": depth, "learning_rate": rate, "tau": tau, "batch_sizes": sizes, "weight_decays": decays,
            "seed": seed,
        },
        success=all(end.success for end in ends.values()),
        figures={"sgd-linear": _figure(rows, ends, sizes)},
    )  # fmt: skip


def _trained(
    cost: Any, depth: int, rate: float, wd: float, batch_size: int, steps: int, seed: int
) -> Trajectory:
    start = inits.gaussian((SIZE, *[WIDTH] * (depth - 1), SIZE), std=WIDTH**-0.5, rng=seed)
    return sgd(
        cost, start, rate, steps, batch_size=batch_size, weight_decay=wd, sampling="shuffle", rng=seed,
        every=steps // KEPT, keep_weights=True,
    )  # fmt: skip


def _row(
    end: Trajectory, minima: Sequence[schatten.Minimum], rate: float, wd: float, batch_size: int, steps: int
) -> dict[str, Any]:
    if not end.success:
        return dict.fromkeys(COLUMNS, None) | {"lambda": wd, "B": batch_size}
    A, weights = end.end_to_end[-1], [W[-1] for W in end.weights or ()]
    distances = [float(np.linalg.norm(A - minimum.end_to_end)) for minimum in minima]
    nearest = minima[int(np.argmin(distances))] if minima else None
    bound = float(rank.bound(batch_size, rate, wd, EPSILON)) / WIDTH
    values = (
        wd, batch_size, rate * wd * steps, (1 - rate * wd) ** steps,
        float(np.mean([rank.numerical(W, EPSILON, norm="frobenius") for W in weights])),
        int(rank.numerical(A, EPSILON, norm="frobenius")),
        nearest.rank if nearest else None, minima[0].rank if minima else None,
        min(distances) / float(np.linalg.norm(A)) if minima else None,
        float(end.objective[-1]), nearest.objective if nearest else None, bound,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _notes(rows: Sequence[dict[str, Any]], failures: Sequence[str]) -> list[str]:
    notes = [
        f"rank of layers: mean over the layers of #{{s_i > {EPSILON:g} ||W||_F}}; start left: D_T; nearest minimum, "
        "lowest: rank of the minimum of C(A) + lambda (L/2) sum s^(2/L) that is nearest to A, and of the lowest one.",
        "distance: ||A - minimum|| / ||A||; objective: C(A) + lambda/2 sum ||W_l||^2, and that of the minimum.",
    ]
    settled = [row for row in rows if row["nearest minimum"] is not None]
    if settled:
        hits = sum(row["rank of layers"] == row["nearest minimum"] for row in settled)
        notes.append(
            f"The rank of all layers is that of the minimum in {hits} of {len(settled)} runs with weight decay."
        )
    undecayed = [row["rank of layers"] for row in rows if row["lambda"] == 0 and row["rank of layers"]]
    if undecayed:
        notes.append(
            f"Without weight decay the layers have rank {min(undecayed):.4g} to {max(undecayed):.4g}: no bias."
        )
    return [*notes, *dict.fromkeys(failures)]


def _figure(
    rows: Sequence[dict[str, Any]], ends: Mapping[tuple[float, int], Trajectory], sizes: Sequence[int]
) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    decays = sorted({row["lambda"] for row in rows})
    cells = {(row["lambda"], row["B"]): row for row in rows}
    lowest = [cells[wd, sizes[0]]["lowest"] for wd in decays]
    shown = decays[len(decays) // 2], sizes[0]
    with mpl.rc_context(plotting.STYLE):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12.5, 3.8), layout="constrained")
        for place, B in enumerate(sizes):
            ranks = np.array([cells[wd, B]["rank of layers"] for wd in decays], dtype=float)
            at = np.arange(len(decays)) + 0.07 * (place - (len(sizes) - 1) / 2)
            left.semilogy(at, ranks, "o", ms=4, color=plotting.graded(place, len(sizes)), label=f"B = {B}")
        left.plot(range(len(decays)), np.array(lowest, dtype=float), "k_", ms=18, label="lowest minimum")
        left.set_xticks(range(len(decays)), [f"{wd:g}" for wd in decays])
        left.set(xlabel=r"weight decay $\lambda$", ylabel="mean rank of the layers")
        plotting.plain_ticks(left.yaxis)
        for mode, s in enumerate(ends[shown].singular_values.T):
            middle.semilogy(shown[0] * ends[shown].t, s, color=plotting.colour(mode), lw=1.2)
        middle.set(xlabel=r"$\tau$", ylabel="singular values of A", ylim=(1e-12, None))
        middle.set_title(rf"$\lambda$ = {shown[0]:g}, B = {shown[1]}", fontsize="medium")
        for place, wd in enumerate(wd for wd in decays if wd > 0):
            distances = np.array([cells[wd, B]["distance"] for B in sizes], dtype=float)
            right.loglog(sizes, distances, "o-", ms=4, lw=1, color=plotting.graded(place, len(decays)),
                         label=rf"$\lambda$ = {wd:g}")  # fmt: skip
        right.set(xlabel="batch size B", ylabel=r"distance to the nearest minimum / $\|A\|$")
        plotting.plain_ticks(right.xaxis)
        left.legend(frameon=False, fontsize="small")
        right.legend(frameon=False, fontsize="small")
    return figure
