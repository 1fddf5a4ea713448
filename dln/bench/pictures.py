"""Pictures of work against precision, log-log, in colours that the colour-blind can tell apart (Okabe and Ito)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from .measure import LEVELS, Curve
from .studies import Study

__all__ = ["page", "study"]

OWN, COLOURS = "#D55E00", ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS, LINES = "osD^vX<>", ("-", "--", ":", "-.")
STYLE = {"svg.hashsalt": "dln", "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}


def page(path: Path, title: str, curves: Sequence[Curve], own: Sequence[str]) -> None:
    """Write the picture of one problem: left is accurate, down is fast.

    The methods that are their package's fastest at some error have names and colours, the others are thin and grey.
    """
    with _axes(path, 1) as (ax,):
        lines = [c for c in curves if c.points]
        named = {name for package in _packages(lines).values() for name in _fastest(package)} | set(own[:1])
        for curve in lines:
            if curve.name not in named:
                ax.loglog(*_points(curve), color="0.8", lw=0.8, zorder=1)
        for curve, style in _styles([c for c in lines if c.name in named], own):
            ax.loglog(*_points(curve), label=curve.name, **style)
        if len(named) < len(lines):
            ax.plot([], [], color="0.8", lw=0.8, label="slower of the same package")
        ax.set(title=title, xlim=(1e-11, 1.0), ylabel="time of one solve (ms)")
        ax.set_xlabel(r"achieved error, $\max_t \|A - A_{\rm ref}\|_F \,/\, \|A^*\|_F$")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def study(path: Path, found: Study) -> None:
    """Write the picture of a study: time, and velocity evaluations, against what varies."""
    with _axes(path, 2) as (left, right):
        for curve, style in _styles([Curve(name) for name in found.seconds], found.own):
            left.loglog(found.x, [1e3 * s for s in found.seconds[curve.name]], label=curve.name, **style)
            right.loglog(found.x, found.nfev[curve.name], **style)
        left.set(ylabel=f"time to an error of {found.level:.0e} (ms)", title=found.name)
        right.set(ylabel=f"velocity evaluations to an error of {found.level:.0e}")
        for ax in (left, right):
            ax.set_xlabel(found.label)
            ax.set_xlim(found.x[0] ** 1.02 / found.x[-1] ** 0.02, found.x[-1] ** 1.02 / found.x[0] ** 0.02)
        left.figure.legend(fontsize=8, loc="outside right center", frameon=False)


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    return [p.error for p in curve.points], [1e3 * p.best for p in curve.points]


def _packages(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """Curves by the first word of their names."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.name.split()[0], []).append(curve)
    return groups


def _fastest(curves: Sequence[Curve]) -> set[str]:
    """Names of the curves that are the fastest of these at some error; all where none reaches any."""
    names = set()
    for level in LEVELS:
        reached = {c.name: s for c in curves if not math.isnan(s := c.seconds_at(level))}
        if reached:
            names.add(min(reached, key=lambda name: reached[name]))
    return names or {c.name for c in curves}


def _styles(curves: Sequence[Curve], own: Sequence[str]) -> Iterator[tuple[Curve, dict[str, Any]]]:
    """A colour for each package, a marker for each of its methods; thick lines for `own`."""
    colours = iter(COLOURS * len(curves))
    for package in _packages(curves).values():
        mine = package[0].name in own
        colour = OWN if mine else next(colours)
        for curve, i in zip(package, count(), strict=False):
            width = {"lw": 2.4, "ms": 6, "zorder": 3} if mine else {"lw": 1.2, "ms": 4, "zorder": 2}
            marker, line = MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
            yield curve, {"color": colour, "marker": marker, "ls": line, **width}


@contextmanager
def _axes(path: Path, columns: int) -> Iterator[tuple[Any, ...]]:
    """Axes of a figure that is written when they are done; the same bytes every time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 + 4.6 * columns, 4.8), layout="constrained", dpi=130)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for ax in axes:
            ax.grid(alpha=0.25)
        yield tuple(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
