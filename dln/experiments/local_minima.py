"""Local minima that generalise better than the global one: noisy matrix completion with weight decay.

A matrix of rank 2 is seen at some entries, with noise. Depth 2 has one minimum. From depth 3 on there are local minima
at nearly every rank; the lowest fits the noise with more modes than the truth has, and the one of the true rank
predicts the other entries better (observation of arXiv 2106.15933v1). The minima of the loss of the layers are those of
C(A) + lambda (L/2) sum s^(2/L), which `dln.schatten.solve` finds rank by rank.

How much better depends on how well the entries seen determine the truth: the fewer they are for each of its parameters,
the more often chance decides (try --size 10 --observed 60).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks, progress, schatten
from . import Outcome, _completion

TITLE = "local minima that generalise better than the global one: noisy matrix completion, by depth and rank"

COLUMNS = (
    "depth", "lambda", "rank", "minima", "kind", "objective", "train cost", "test error",
    "seeds", "lowest", "gain 1/4", "gain 1/2", "gain 3/4", "gain >= 3",
)  # fmt: skip
MUCH = 3.0
FULL = {"size": 30, "observed": 450, "depths": [2, 3, 4], "weight_decays": [0.02, 0.05, 0.1], "seeds": 20}
QUICK = {"size": 10, "observed": 60, "depths": [2, 3], "weight_decays": [0.05, 0.2], "seeds": 2}


@dataclass(frozen=True)
class Found:
    """A minimum, and how it predicts."""

    rank: int
    objective: float
    kind: str
    train: float
    test: float


Minima = list[Found]  # of one problem, by their objective


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add("--depths", type=int, nargs="+", metavar="L", help="(default 2 3 4)")
    add("--weight-decays", type=float, nargs="+", metavar="LAMBDA", help="(default 0.02 0.05 0.1)")
    _completion.options(parser, size=30, singular_values=(10.0, 7.0), observed=450, noise=0.1)
    parser.set_defaults(size=None, observed=None)
    add("--seeds", type=int, help="number of random problems (default 20)")
    add("--seed", type=int, default=0, help="seed of the first, whose minima the table shows (default 0)")
    add("--breadth", type=int, default=1, help="of the search, see `dln.schatten.solve` (default 1)")
    add("--quick", action="store_true", help="10 x 10, 60 entries, depths 2 and 3, 2 seeds by default")


def run(options: argparse.Namespace) -> Outcome:
    """The minima of every depth and weight decay, how they predict, and the figure."""
    for name, usual in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, usual)
    depths = sorted({checks.integer(L, "--depths", least=1, most=checks.MOST) for L in options.depths})
    decays = sorted({checks.positive(decay, "--weight-decays") for decay in options.weight_decays})
    first = checks.integer(options.seed, "--seed", least=0)
    seeds = checks.integer(options.seeds, "--seeds", least=1)
    problems = [_completion.problem(options, seed) for seed in range(first, first + seeds)]
    cells = list(itertools.product(depths, decays))
    found: dict[tuple[int, float], list[Minima]] = {cell: [] for cell in cells}
    with progress.bar(options.progress, "minima", seeds * len(cells)) as report:
        for done, (seed, (depth, decay)) in enumerate(itertools.product(range(seeds), cells)):
            report(done, f"seed {first + seed}, depth {depth}, lambda {decay:g}")
            found[depth, decay].append(_minima(problems[seed], depth, decay, options.breadth))
    return Outcome(
        title=(
            f"{options.size} x {options.size} matrix of rank {len(options.singular_values)}, {options.observed} "
            f"entries observed with noise {options.noise:g}: minima of seed {first}; gains over {seeds} seeds"
        ),
        columns=COLUMNS,
        rows=[row for cell in cells for row in _rows(*cell, found[cell])],
        notes=_notes(found),
        parameters={
            "size": options.size, "singular_values": options.singular_values, "observed": options.observed,
            "noise": options.noise, "seed": first, "seeds": seeds, "breadth": options.breadth,
            "gains": [
                {"depth": depth, "lambda": decay, "best lower rank": _best_gains(runs)}
                for (depth, decay), runs in found.items()
            ],
        },
        figures={"local-minima": _figure(found, depths, decays, len(options.singular_values))},
    )  # fmt: skip


def _minima(problem: _completion.Problem, depth: int, decay: float, breadth: int) -> Minima:
    cost = problem.cost
    return [
        Found(m.rank, m.objective, m.kind, float(cost.value(m.end_to_end)), problem.test_error(m.end_to_end))
        for m in schatten.solve(cost, decay, depth, breadth=breadth)
    ]


def _lowest(minima: Minima) -> dict[int, Found]:
    """The lowest minimum of every rank."""
    return {m.rank: m for m in reversed(minima)}


def _gains(runs: Sequence[Minima], rank: int) -> list[float]:
    """Test error of the lowest minimum over that of the lowest of this rank, for the seeds that have one."""
    return [run[0].test / _lowest(run)[rank].test for run in runs if rank in _lowest(run)]


def _best_gains(runs: Sequence[Minima]) -> list[float]:
    """Test error of the lowest minimum over the best of any smaller rank, NaN where there is none."""
    best = (min((m.test for m in run if m.rank < run[0].rank), default=np.nan) for run in runs)
    return [float(run[0].test / test) for run, test in zip(runs, best, strict=True)]


def _rows(depth: int, decay: float, runs: Sequence[Minima]) -> list[dict[str, Any]]:
    """One row for every rank at which a seed has a minimum."""
    rows = []
    for rank in sorted({m.rank for run in runs for m in run}):
        shown, gains = _lowest(runs[0]).get(rank), _gains(runs, rank)
        same = sum(m.rank == rank for m in runs[0])
        numbers = (
            (None,) * 4
            if shown is None
            else (_kind(shown, runs[0]), shown.objective, shown.train, shown.test)
        )
        values = (
            depth, decay, rank, same, *numbers, len(gains),
            sum(run[0].rank == rank for run in runs),
            *np.percentile(gains, (25, 50, 75)).tolist(), sum(gain >= MUCH for gain in gains),
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _kind(shown: Found, minima: Minima) -> str:
    """The kind as far as it is proved; the lowest of all that were found is called that where no proof exists."""
    return "lowest" if shown is minima[0] and shown.kind == "local minimum" else shown.kind.split()[0]


def _notes(found: dict[tuple[int, float], list[Minima]]) -> list[str]:
    notes = [
        "minima .. test error: minima of that rank for the first seed, and the lowest of them (global: proved to be; "
        "lowest: of all found). Train cost 1/2 ||mask * (A - Y)||^2; test error: mean square over the entries not "
        "observed, against the truth without noise.",
        "seeds, lowest: in how many seeds there is a minimum of that rank, and it is the lowest of all. gain: test "
        "error of the lowest of all over that of the lowest of this rank, quartiles and number of seeds.",
    ]
    for (depth, decay), runs in found.items():
        gains = np.array(_best_gains(runs))
        if np.isfinite(gains).any():
            low, median, high = np.nanpercentile(gains, (25, 50, 75))
            notes.append(
                f"depth {depth}, lambda {decay:g}: best of all smaller ranks: gain {median:.3g} ({low:.3g} to "
                f"{high:.3g}), at least {MUCH:g} in {int(np.sum(gains >= MUCH))} of {len(gains)} seeds"
            )
    return notes


def _figure(
    found: dict[tuple[int, float], list[Minima]], depths: list[int], decays: list[float], rank: int
) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    middle = decays[len(decays) // 2]
    with mpl.rc_context(plotting.STYLE):
        figure, (left, centre, right) = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
        for place, depth in enumerate(depths):
            minima = found[depth, middle][0]
            for ax, name in ((left, "objective"), (centre, "test")):
                values = {m.rank: getattr(m, name) for m in _lowest(minima).values()}
                plotting.plot_by_rank(values, ax, depth=depth, chosen=minima[0].rank)
            gains = {decay: _gains(found[depth, decay], rank) for decay in decays}
            gains = {decay: values for decay, values in gains.items() if values}
            if gains and depth > 2:
                plotting.plot_spread(gains, right, depth=depth, shift=1.08 ** (place - len(depths) / 2))
        left.set(ylabel="objective of the lowest minimum", title=rf"objective, $\lambda$ = {middle:g}")
        centre.set(ylabel="test error of that minimum", title=rf"test error, $\lambda$ = {middle:g}")
        right.axhline(MUCH, color="0.4", lw=0.8, ls="--")
        right.axhline(1.0, color="0.8", lw=0.8)
        right.set(xlabel=r"weight decay $\lambda$", ylabel="gain")
        right.set_title(f"test error of the lowest over that of rank {rank}")
        left.legend(frameon=False, fontsize="small")
    return figure
