"""What was measured as text and as a picture."""

from __future__ import annotations

import math

import numpy as np

from dln.bench.report import aligned, ms

from .measure import EQUAL, EVERY, OWN

FACTORS = np.geomspace(1.0, 1e3, 400)


def text(record):
    """All tables."""
    parts = [summary(record["problems"]), each(record["problems"])] if record["problems"] else []
    parts += [record["missing"]] if record["missing"] else []
    return "\n\n".join([*parts, *(prox(record["prox"]) if record["prox"] else [])]) + "\n"


def summary(problems):
    """A line for each method: how often it was best, how far off else, how near the truth, and how fast."""
    names = list(dict.fromkeys(name for problem in problems for name in problem["methods"]))
    head = [
        "method", "best", "worst excess", "error", "nearest", "ms", "ms end", "time / dln", "from", "to", "dln faster",
        "dln ends first",
    ]  # fmt: skip
    lines = [head, *([name, *_summary(problems, name)] for name in names)]
    note = (
        f"{len(problems)} problems. best: objective within {EQUAL:.0e} of the best of all; worst excess: of the "
        "objective over that, relative;\nerror: median of ||A - truth||_F / ||truth||_F; nearest: error within 1 "
        "percent of the best of all; ms: median time to the\nbest objective, where it is reached; ms end: until the "
        "method ends by itself, or is ended; time / dln: median, least and\nlargest ratio to the whole of "
        "dln.schatten.solve, where both reach the best; dln faster: or alone in reaching it; dln ends first: the same\n"
        "by the time until each method ends by itself, converged to a relative change of 1e-9 of A."
    )
    return "\n".join([*aligned(list(zip(*lines, strict=True))), "", note])


def _summary(problems, name):
    rows = [(problem["methods"][name], problem) for problem in problems if name in problem["methods"]]
    own = [
        problem["methods"].get(OWN, {"seconds_to_best": math.nan})["seconds_to_best"] for _, problem in rows
    ]
    mine = [row["seconds_to_best"] for row, _ in rows]
    solved = [s for s in mine if math.isfinite(s)]
    ratios = [s / o for s, o in zip(mine, own, strict=True) if math.isfinite(s / o)]
    nearest = sum(row["error"] <= 1.01 * min(m["error"] for m in p["methods"].values()) for row, p in rows)
    wins = sum(math.isfinite(o) and not s <= o for s, o in zip(mine, own, strict=True))
    ends_first = sum(
        not math.isfinite(row["seconds_to_best"]) or row["seconds"] > problem["methods"][OWN]["seconds"]
        for row, problem in rows
        if OWN in problem["methods"]
    )
    spread = [f"{x:.3g}" for x in (np.median(ratios), min(ratios), max(ratios))] if ratios else ["-"] * 3
    ends = np.median([row["seconds"] for row, _ in rows])
    faster = ["-"] * 2 if name in (OWN, EVERY) else [f"{n}/{len(rows)}" for n in (wins, ends_first)]
    return [
        f"{len(solved)}/{len(rows)}", f"{max(row['excess'] for row, _ in rows):.1e}",
        f"{np.median([row['error'] for row, _ in rows]):.3f}", f"{nearest}/{len(rows)}",
        ms(np.median(solved)) if solved else "-", ms(ends), *spread, *faster,
    ]  # fmt: skip


def each(problems):
    """A line for each problem: what dln found, and the fastest of the rivals that found as much."""
    head = ["problem", "objective", "rank", "error", "minima", "dln ms", "fastest rival", "ms", "ratio"]
    lines = [head, *map(_each, problems)]
    failed = [
        f"{name}, {problem['problem']}: {row['failed']}"
        for problem in problems
        for name, row in problem["methods"].items()
        if "failed" in row
    ]
    return "\n".join([*aligned(list(zip(*lines, strict=True))), *([""] if failed else []), *failed])


def _each(problem):
    own = problem["methods"].get(OWN, {})
    reached = _reached(problem)
    mine, _ = reached.pop(OWN, math.nan), reached.pop(EVERY, None)
    fastest = min(reached, key=lambda name: reached[name], default="nobody")
    seconds = reached.get(fastest, math.nan)
    ratio = f"{seconds / mine:.2f}" if math.isfinite(seconds / mine) else "-"
    return [
        problem["problem"], f"{problem['objective']:.6g}", str(own.get("rank", "-")),
        f"{own.get('error', math.nan):.4f}", str(own.get("minima", "-")), ms(mine), fastest, ms(seconds), ratio,
    ]  # fmt: skip


def _reached(problem):
    """Seconds to the best objective, of the methods that reach it."""
    seconds = {name: row["seconds_to_best"] for name, row in problem["methods"].items()}
    return {name: s for name, s in seconds.items() if math.isfinite(s)}


def prox(found):
    """Cost of the operators beside the SVD and beside other packages, and their errors."""
    matrix, scalar = found["matrix"], found["scalar"]
    lines = [["200x200", "svd ms", "prox ms", "ratio"]]
    lines += [
        [name, ms(t["svd"]), ms(t["prox"]), f"{t['prox'] / t['svd']:.3f}"] for name, t in matrix.items()
    ]
    yield "\n".join(aligned(list(zip(*lines, strict=True))))
    lines = [["10^6 values", "", "ms", "error", "wrong", "error at jump", "wrong at jump"]]
    for name, packages in scalar.items():
        for package, row in packages.items():
            lines.append([
                name, package, ms(row["seconds"]), f"{row['worst']:.1e}", f"{row['wrong']:.1%}",
                f"{row['worst near the jump']:.1e}", f"{row['wrong near the jump']:.1%}",
            ])  # fmt: skip
    yield "\n".join(aligned(list(zip(*lines, strict=True))))


def picture(path, problems):
    """Write the performance profile: the share of problems solved within a factor of the fastest's time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from dln.bench.pictures import COLOURS, LINES, STYLE
    from dln.bench.pictures import OWN as ORANGE

    names = list(dict.fromkeys(name for problem in problems for name in problem["methods"]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.8), layout="constrained", dpi=130)
        ax = figure.subplots()
        for i, name in enumerate(names):
            style = {"color": ORANGE, "lw": 2.6, "zorder": 3}
            if name == EVERY:
                style = {"color": ORANGE, "lw": 1.6, "ls": "--", "zorder": 3}
            elif name != OWN:
                style = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i // len(COLOURS)], "lw": 1.3}
            ax.semilogx(FACTORS, _profile(problems, name), label=name, **style)
        ax.set(xlim=(1, FACTORS[-1]), ylim=(0, 1.02), ylabel="share of the problems")
        ax.set_xlabel(f"time to an objective within {EQUAL:.0e} of the best, relative to the fastest")
        ax.grid(alpha=0.25)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def _profile(problems, name):
    """Shares at `FACTORS`, of the problems that the method takes."""
    mine = [_reached(problem) for problem in problems if name in problem["methods"]]
    factors = np.array([seconds.get(name, math.inf) / min(seconds.values()) for seconds in mine])
    return np.mean(factors[:, None] <= FACTORS, axis=0)
