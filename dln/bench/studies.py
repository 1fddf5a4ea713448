"""Two questions that take several problems: what a smaller start costs, and what a wider network costs.

Each is answered by the time and the velocity evaluations to errors of 1e-3 and 1e-6, method by method, along a series
of problems that differ in one number. Work is velocity evaluations with products and factorisations at their price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .measure import Curve
from .report import aligned, ms

if TYPE_CHECKING:
    from .pages import Page

__all__ = ["LEVELS", "METHODS", "Study", "conclude", "names"]

LEVELS = (1e-3, 1e-6)
# Study -> series: (name, what varies, the problems by the value of it).
SERIES: dict[str, tuple[tuple[str, str, dict[float, str]], ...]] = {
    "alpha": (
        ("alpha-L3", "size of the start alpha", {10.0**-k: f"P7-L3-1e-{k}" for k in range(2, 7)}),
        ("alpha-L4", "size of the start alpha", {10.0**-k: f"P7-L4-1e-{k}" for k in range(1, 5)}),
    ),
    "width": (
        ("width-L3", "hidden width w", {w: f"P4-{w}" for w in (100, 500, 1000)}),
        ("width-L2", "hidden width w", {w: f"P8-{w}" for w in (100, 1000, 10_000, 100_000)}),
    ),
}
METHODS = {
    "alpha": (
        "dln auto", "dln dop853", "numbalsoda lsoda", "sksundae CVODE", "sksundae CVODE-GMRES", "scipy Radau",
        "CyRK DOP853",
    ),
    "width": ("dln auto", "dln dop853", "CyRK DOP853", "diffrax Tsit5", "torchdiffeq dopri5", "sksundae CVODE-GMRES"),
}  # fmt: skip
QUICK = 3  # problems of a series


@dataclass
class Study:
    """Time and velocity evaluations to an error of `level` against x, for every method; nan where it is not reached."""

    name: str
    level: float
    label: str
    x: list[float]
    problems: list[str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    nfev: dict[str, list[float]] = field(default_factory=dict)
    work: dict[str, list[float]] = field(default_factory=dict)  # velocities, other work at its price in them
    own: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def factor_per_decade(self, values: Sequence[float]) -> float:
        """By what a decade of x multiplies the values, on average from the first to the last that were reached."""
        there = [i for i, value in enumerate(values) if math.isfinite(value)]
        if len(there) < 2:
            return math.nan
        first, last = there[0], there[-1]
        decades = abs(math.log10(self.x[last] / self.x[first]))
        return float((values[last] / values[first]) ** (1.0 / decades))

    def text(self) -> str:
        """The study as a table: milliseconds and velocity evaluations for every x, and their factors per decade."""
        columns = [["method", "", *self.seconds]]
        for i, x in enumerate(self.x):
            columns.append([f"{x:g}", "ms", *(ms(s[i]) for s in self.seconds.values())])
            columns.append(["", "velocities", *(_number(n[i], ".0f") for n in self.nfev.values())])
            if self.work:
                columns.append(["", "work", *(_number(n[i], ".0f") for n in self.work.values())])
        averages = [("per decade", "time x", self.seconds), ("", "velocities x", self.nfev)]
        for title, unit, values in [*averages, *([("", "work x", self.work)] if self.work else [])]:
            columns.append(
                [title, unit, *(_number(self.factor_per_decade(v), ".2f") for v in values.values())]
            )
        title = f"{self.name}: time to an error of {self.level:.0e} against the {self.label}"
        return "\n".join([title, "", *aligned(columns), "", *self.messages]).rstrip() + "\n"

    def record(self) -> dict[str, Any]:
        """The study as plain numbers."""
        methods = {
            name: {
                "seconds": self.seconds[name],
                "nfev": self.nfev[name],
                **({"work": self.work[name]} if self.work else {}),
                "factor_per_decade": {
                    "seconds": self.factor_per_decade(self.seconds[name]),
                    "nfev": self.factor_per_decade(self.nfev[name]),
                    **({"work": self.factor_per_decade(self.work[name])} if self.work else {}),
                },
            }
            for name in self.seconds
        }
        return {
            "error": self.level,
            "x": self.x,
            "label": self.label,
            "problems": self.problems,
            "methods": methods,
        }


def names(study: str, quick: bool) -> list[str]:
    """The problems of a study."""
    return [
        name for _, _, series in SERIES[study] for name in list(series.values())[: QUICK if quick else None]
    ]


def conclude(study: str, pages: Sequence[Page]) -> list[Study]:
    """What the pages say; a series of which fewer than two problems were measured is left out."""
    done = {page.problem.name: page for page in pages}
    out: list[Study] = []
    for name, label, series in SERIES[study]:
        asked = {x: done[problem] for x, problem in series.items() if problem in done}
        there = {x: page for x, page in asked.items() if page.curves}
        left_out = [page.message for page in asked.values() if page.message]
        if len(there) >= 2:
            out.extend(_study(f"{name}-{level:.0e}", level, label, there, left_out) for level in LEVELS)
    return out


def _study(
    name: str, level: float, label: str, pages: Mapping[float, Page], messages: Sequence[str]
) -> Study:
    found = Study(name, level, label, list(pages), [page.problem.name for page in pages.values()])
    found.own, found.messages = next(iter(pages.values())).own, list(messages)
    for method in dict.fromkeys(curve.name for page in pages.values() for curve in page.curves):
        curves = [_curve(page, method) for page in pages.values()]
        found.seconds[method] = [curve.seconds_at(level) for curve in curves]
        found.nfev[method] = [curve.nfev_at(level) for curve in curves]
        if all(page.prices for page in pages.values()):
            works = [c.work_at(level, page.prices) for c, page in zip(curves, pages.values(), strict=True)]
            found.work[method] = works if method in found.own else [math.nan] * len(works)
    for page in pages.values():
        if page.found and 10.0 * page.found.disagreement > level:
            found.messages.append(
                f"{page.problem.name}: its reference is good to {page.found.disagreement:.0e}"
            )
    return found


def _curve(page: Page, method: str) -> Curve:
    return next((curve for curve in page.curves if curve.name == method), Curve(method))


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if math.isfinite(value) else "-"
