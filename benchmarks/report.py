"""Tables, JSON and pictures of what was measured."""

import importlib.metadata
import math
import os
import platform
from dataclasses import asdict
from pathlib import Path

from measure import CACHES, FIRST_USE_RTOL, LEVELS

PACKAGES = ("dln", "numpy", "scipy", "numba", "numbalsoda", "CyRK", "diffrax", "jax")
HEAD = ("method", *(f"{level:.0e}" for level in LEVELS), "calls", "cold", "cached", "steady")
UNITS = ("", *("ms" for _ in LEVELS), "at 1e-06", "s", "s", "ms")


def table(title, curves, own):
    """One problem as text: time to each achieved error, velocity calls, first use, steady time at rtol 1e-6.

    `own` are the names of the methods that the rivals are compared with.
    """
    rows = [HEAD, UNITS, *map(_row, curves)]
    notes = [f"{c.name}: {note}" for c in curves for note in _notes(c)]
    ranking = [_rank(curves, own, level) for level in LEVELS]
    return "\n".join([title, "", *_aligned(rows), "", *ranking, "", *notes]).rstrip() + "\n"


def best_at(curves, level):
    """Shortest time to an error of `level`, and whose it is; nan if nobody reaches it."""
    reached = {c.name: s for c in curves if not math.isnan(s := c.seconds_at(level))}
    name = min(reached, key=reached.get, default="nobody")
    return reached.get(name, math.nan), name


def _rank(curves, own, level):
    rival, his = best_at([c for c in curves if c.name not in own], level)
    dln, mine = best_at([c for c in curves if c.name in own], level)
    text = f"error {level:.0e}: best rival {_ms(rival)} ms ({his}), best dln {_ms(dln)} ms ({mine})"
    return f"{text}, best rival / best dln = {rival / dln:.2f}" if math.isfinite(rival / dln) else text


def _row(curve):
    steady = [p.best for p in curve.points if math.isclose(p.rtol, FIRST_USE_RTOL)]
    times = [_ms(curve.seconds_at(level)) for level in LEVELS]
    first = [_first(curve, cache) for cache in CACHES]
    return curve.name, *times, str(curve.nfev_at(1e-6) or "-"), *first, _ms(min(steady, default=math.nan))


def _first(curve, cache):
    seconds = sum(curve.first_use.get(cache, {}).get(part, math.nan) for part in ("import", "solve"))
    return f"{seconds:.2f}" if math.isfinite(seconds) else "-"


def _ms(seconds):
    return f"{1e3 * seconds:.3g}" if math.isfinite(seconds) else "-"


def _notes(curve):
    """What a reader must know of a method: why it is absent, and successes it claimed and did not have."""
    if curve.message:
        yield curve.message
    silent = [p for p in curve.points if p.claims_success and not p.error <= 0.1]
    if silent:
        worst = max(silent, key=lambda p: math.inf if math.isnan(p.error) else p.error)
        yield f"reports success at rtol {worst.rtol:.1e} with an error of {worst.error:.2g}"


def _aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def as_json(curve):
    """A curve as plain numbers; what is not a number becomes null."""
    record = {"message": curve.message, "first_use": curve.first_use, "points": []}
    for point in curve.points:
        seconds = {"best": point.best, "median": point.median, "runs": len(point.seconds)}
        record["points"].append(asdict(point) | {"seconds": seconds})
    for pick in ("best", "median"):
        record[f"{pick}_seconds_at"] = {f"{level:.0e}": curve.seconds_at(level, pick) for level in LEVELS}
    return _without_nan(record)


def _without_nan(x):
    if isinstance(x, dict):
        return {k: _without_nan(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_without_nan(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def machine():
    """The processor, its cores, and the system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def versions():
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def picture(path, title, curves, own):
    """Write the picture of work against precision, log-log: left is accurate, down is fast."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "dln"
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(7.5, 5.0), layout="constrained")
    colours, markers = plt.get_cmap("tab20").colors, "osD^v<>p*hX"
    for i, curve in enumerate(c for c in curves if c.points):
        x, y = [p.error for p in curve.points], [1e3 * p.best for p in curve.points]
        style = {"lw": 2.2, "ms": 6} if curve.name in own else {"lw": 1.0, "ms": 4, "ls": "--"}
        style |= {"color": colours[i % len(colours)], "marker": markers[i % len(markers)]}
        ax.loglog(x, y, label=curve.name, **style)
    ax.set(title=title, xlim=(1e-11, 1.0), ylabel="time (ms)")
    ax.set_xlabel(r"achieved error, $\max_t \|A - A_{\rm ref}\|_F / \|A^*\|_F$")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
    plt.close(fig)
