"""Forms of `dln`: methods that "auto" does without, for `dln bench`; and the cost of width, run and reading apart.

dln bench P4 P8 --also benchmarks/forms.py --methods "dln auto,dln weights,dln wide,CyRK,diffrax" --out peers.json
python benchmarks/forms.py peers.json ...     # writes benchmarks/results/forms.{json,txt,png}
"""

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

import dln
from dln import form
from dln.bench import problems
from dln.bench.rivals import Method, Solution

RESULTS = Path(__file__).parent / "results"
RTOL, WIDTHS = 1e-6, {"P8": (100, 500, 1000, 10_000, 100_000), "P4": (200, 500, 1000, 2000, 4000)}
PEERS = {"dln weights": "#0072B2", "diffrax Tsit5": "#009E73", "CyRK DOP853": "#CC79A7"}


def run(job, form):
    p = job.problem
    options = {"t_eval": job.times, "max_steps": job.limit() // 4, "form": form, "keep_weights": False}

    def solve(rtol):
        found = dln.gradient_flow(
            dln.costs.FullyObserved(p.target), p.weights, job.span, rtol=rtol, **options
        )
        return Solution(found.end_to_end, found.nfev, found.success)

    return solve


ALL = [
    Method(f"dln {form}", ("dln",), partial(run, form=form), explicit=True) for form in ("weights", "wide")
]


def least(work, repeats):
    """Least seconds of the processor, which other processes hardly disturb, and what the work returns."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        seconds.append(time.process_time() - start)
    return min(seconds), found


def cost_of_width(name, width):
    """Seconds of a whole run, and of the runs of the small networks in it; the rest is reading the weights."""
    p, repeats = problems.make(f"{name}-{width}"), 3 if width >= 2000 else 8
    cost, times = dln.costs.FullyObserved(p.target), np.linspace(0.1, 9.0 if name == "P8" else 13.0, 64)
    options = {"t_span": (0.0, times[-1]), "rtol": RTOL, "t_eval": times}
    whole, found = least(partial(dln.gradient_flow, cost, p.weights, **options), repeats)
    order = found.stats["order"]
    frames = form.krylov(p.weights, order)
    nets = [frames] if frames.closed else [frames, frames.truncated(order - 1)]
    small = [partial(dln.gradient_flow, cost, net.layers, form="weights", **options) for net in nets]
    seconds = sum(least(go, 8)[0] for go in small)
    return {
        "run": seconds,
        "reading": whole - seconds,
        "dimensions": found.stats["dimensions"],
        "form_error": found.form_error,
        "nfev": found.nfev,
    }


def table(rows):
    lines = [
        f"dln auto at rtol {RTOL:.0e}, least seconds of the processor, one thread",
        "problem      form      directions  run ms  reading ms  velocities",
    ]
    for name, row in rows.items():
        size = " ".join(map(str, row["dimensions"]))
        kind = "gram" if name.startswith("P8") else "subspace"
        lines.append(
            f"{name:<12} {kind:<9} {size:<10} {1e3 * row['run']:>7.2f} {1e3 * row['reading']:>11.2f} {row['nfev']:>11}"
        )
    return "\n".join(lines)


def picture(rows, peers):
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, 2, figsize=(6.8, 2.9), sharey=True, layout="constrained")
        for ax, (name, widths) in zip(axes, WIDTHS.items(), strict=True):
            mine = [rows[f"{name}-{w}"] for w in widths]
            both = [1e3 * (r["run"] + r["reading"]) for r in mine]
            ax.loglog(widths, both, "o-", color="#D55E00", ms=4, label="dln auto")
            ax.loglog(widths, [1e3 * r["run"] for r in mine], "o--", color="#D55E00", ms=3, mfc="w", lw=1,
                      label="its run, without reading")  # fmt: skip
            for (method, colour), marker in zip(PEERS.items(), "s^v", strict=True):
                points = {
                    int(problem.split("-")[1]): page["methods"][method]["points"][0]["seconds"]["best"]
                    for problem, page in peers.items()
                    if problem.startswith(name) and page["methods"].get(method, {}).get("points")
                }
                ax.loglog([*points], [1e3 * s for s in points.values()], marker + "-", color=colour, ms=4, lw=1,
                          label=f"{method}, rtol 1e-3")  # fmt: skip
            ax.set(xlabel="hidden width w", title=f"{name}: {'10-w-10' if name == 'P8' else '10-w-w-10'}")
        axes[0].set_ylabel("time of a run (ms)")
        axes[0].legend(frameon=False, fontsize=7)
        figure.savefig(RESULTS / "forms.png", dpi=200)


def main(files):
    pages = [json.loads(Path(file).read_text()) for file in files]
    peers = {name: page for found in pages for name, page in found["problems"].items()}
    rows = {f"{name}-{w}": cost_of_width(name, w) for name, widths in WIDTHS.items() for w in widths}
    texts = [Path(file).with_suffix(".txt").read_text() for file in files]
    (RESULTS / "forms.txt").write_text("\n\n".join([table(rows), *texts]).rstrip() + "\n")
    about = {key: pages[0][key] for key in ("date", "machine", "versions")} if pages else {}
    found = {"commands": [page["command"] for page in pages], **about, "width": rows, "problems": peers}
    (RESULTS / "forms.json").write_text(json.dumps(found, indent=1) + "\n")
    picture(rows, peers)
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
