"""Tables and plain numbers of what was measured."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .fresh import CACHES, RTOL
from .measure import LEVELS, Curve

__all__ = ["aligned", "as_json", "best_at", "heading", "machine", "ms", "table", "versions", "without_nan"]

PACKAGES = (
    "dln", "numpy", "scipy", "numba", "numbalsoda", "CyRK", "diffrax", "jax", "torchdiffeq", "torch", "scikit-sundae",
)  # fmt: skip
COUNTED = 1e-6  # the error at which work is counted


def heading(record: Mapping[str, Any]) -> str:
    """Where and with what it was measured."""
    machine, versions = record["machine"], record["versions"]
    threads = "one thread" if machine["threads"] == 1 else "threads not limited"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine['cpu']}, {machine['cores']} cores, {threads}, {record['date']}; {packages}\n"


def table(title: str, curves: Sequence[Curve], own: Sequence[str], floor: float = 0.0) -> str:
    """One problem as text: time to each achieved error, work, and what else was asked for.

    `own` are the names of the methods that the rivals are compared with, `floor` the error of the reference.
    """
    there = [c for c in curves if c.points]
    reached = [
        level for level in LEVELS if level > 10.0 * floor and any(c.seconds_at(level) > 0.0 for c in there)
    ]
    columns = [_names(there), *(_times(there, level) for level in reached), *_work(there), *_extras(there)]
    notes = [f"{c.name}: {note}" for c in curves for note in _notes(c)]
    ranking = [_rank(there, own, level) for level in reached]
    return "\n".join([title, "", *aligned(columns), "", *ranking, "", *notes]).rstrip() + "\n"


def best_at(curves: Sequence[Curve], level: float) -> tuple[float, str]:
    """Shortest time to an error of `level`, and whose it is; nan if nobody reaches it."""
    reached = {c.name: s for c in curves if not math.isnan(s := c.seconds_at(level))}
    name = min(reached, key=lambda name: reached[name], default="nobody")
    return reached.get(name, math.nan), name


def aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text as lines, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]


def ms(seconds: float) -> str:
    """Milliseconds to three digits, "-" where there are none."""
    if not math.isfinite(seconds):
        return "-"
    return f"{1e3 * seconds:.3g}" if seconds < 1.0 else f"{1e3 * seconds:.0f}"


def _names(curves: Sequence[Curve]) -> list[str]:
    return ["method", "", *(c.name for c in curves)]


def _times(curves: Sequence[Curve], level: float) -> list[str]:
    return [f"{level:.0e}", "ms", *(ms(c.seconds_at(level)) for c in curves)]


def _work(curves: Sequence[Curve]) -> Iterator[list[str]]:
    """Velocity evaluations, and other work if anybody did some."""
    unit = f"at {COUNTED:.0e}"
    yield ["velocities", unit, *(_count(c.nfev_at(COUNTED)) for c in curves)]
    kinds = {kind: None for c in curves for p in c.points for kind, n in p.counts.items() if n}
    for kind in kinds:
        yield [kind, unit, *(_count(c.counts_at(COUNTED).get(kind, math.nan)) for c in curves)]


def _extras(curves: Sequence[Curve]) -> Iterator[list[str]]:
    """First use and memory, where they were measured."""
    if any(c.first_use for c in curves):
        for cache in CACHES:
            yield [cache, "s", *(_first(c, cache) for c in curves)]
        steady = ([p.best for p in c.points if math.isclose(p.rtol, RTOL)] for c in curves)
        yield ["steady", "ms", *(ms(min(times, default=math.nan)) for times in steady)]
    if any(c.memory for c in curves):
        sizes = (c.memory.get("megabytes", math.nan) for c in curves)
        yield ["memory", "MB", *(f"{size:.1f}" if math.isfinite(size) else "-" for size in sizes)]


def _count(number: float) -> str:
    return f"{number:.0f}" if math.isfinite(number) else "-"


def _first(curve: Curve, cache: str) -> str:
    seconds = sum(curve.first_use.get(cache, {}).get(part, math.nan) for part in ("import", "solve"))
    return f"{seconds:.2f}" if math.isfinite(seconds) else "-"


def _rank(curves: Sequence[Curve], own: Sequence[str], level: float) -> str:
    rival, his = best_at([c for c in curves if c.name not in own], level)
    dln, mine = best_at([c for c in curves if c.name in own], level)
    text = f"error {level:.0e}: best rival {ms(rival)} ms ({his}), best dln {ms(dln)} ms ({mine})"
    if not math.isfinite(rival / dln):
        return text
    return f"{text}, best rival / best dln = {rival / dln:.2f}{'' if rival > dln else ', dln loses'}"


def _notes(curve: Curve) -> Iterator[str]:
    """What a reader must know of a method: why it is absent, and successes it claimed and did not have."""
    if curve.message:
        yield curve.message
    gave_up = [p.rtol for p in curve.points if not p.claims_success]
    if gave_up:
        yield f"gives up at {len(gave_up)} of {len(curve.points)} tolerances, first at rtol {gave_up[0]:.1e}"
    silent = [p for p in curve.points if p.claims_success and not p.error <= 0.1]
    if silent:
        worst = max(silent, key=lambda p: math.inf if math.isnan(p.error) else p.error)
        yield f"reports success at rtol {worst.rtol:.1e} with an error of {worst.error:.2g}"


def as_json(curve: Curve) -> dict[str, Any]:
    """A curve as plain numbers."""
    record = {name: getattr(curve, name) for name in ("message", "first_use", "memory")}
    record["points"] = []
    for point in curve.points:
        seconds = {"best": point.best, "median": point.median, "runs": len(point.seconds)}
        record["points"].append(asdict(point) | {"seconds": seconds})
    for pick in ("best", "median"):
        record[f"{pick}_seconds_at"] = {f"{level:.0e}": curve.seconds_at(level, pick) for level in LEVELS}
    record["nfev_at"] = {f"{level:.0e}": curve.nfev_at(level) for level in LEVELS}
    return record


def without_nan(x: Any) -> Any:
    """Numbers that strict JSON knows; what is not a number becomes null."""
    if isinstance(x, dict):
        return {k: without_nan(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [without_nan(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def machine() -> dict[str, Any]:
    """The processor, its cores, and the system."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
