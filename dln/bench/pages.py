"""A run of the benchmark: problem after problem, then what they say together; an interrupted run keeps what it has."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checks
from ..progress import bar
from . import fresh, measure, pictures, problems, reference, report, studies, velocity
from .problems import Problem
from .rivals import LONGEST, Job, Method, choose, collect

__all__ = ["Page", "run"]

USUAL, QUICK = ("P1", "P2", "P3", "P6"), ("P1",)


@dataclass
class Page:
    """One problem and the curves of all methods on it; `message` says why there are none."""

    problem: Problem
    own: list[str]
    repeats: int
    curves: list[measure.Curve] = field(default_factory=list)
    message: str = ""
    found: reference.Reference | None = None
    product: str = ""
    velocities: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)  # of other work than velocities, in velocities

    @property
    def title(self) -> str:
        """Name, widths, seed and horizon."""
        p = self.problem
        horizon = f", t = 0 to {self.found.times[-1]:.4g}" if self.found else ""
        return f"{p.name}: widths {'-'.join(map(str, p.widths))}, seed {p.seed}{horizon}"

    def text(self) -> str:
        """The page as a table with its notes."""
        if self.found is None:
            return f"{self.title}\n\n{self.message}\n"
        times = ", ".join(f"{name} {1e9 * s:.0f} ns" for name, s in self.velocities.items())
        one, other = self.found.methods
        facts = (
            f"rivals' velocity: {times}; reference: {one} and {other} differ by {self.found.disagreement:.0e}"
        )
        if self.prices:
            facts += "\nin velocities of dln: " + ", ".join(
                f"{x:.3g} for {name}" for name, x in self.prices.items()
            )
        return report.table(f"{self.title}\n{facts}", self.curves, self.own, self.found.disagreement)

    def record(self) -> dict[str, Any]:
        """The page as plain numbers."""
        p, found = self.problem, self.found
        facts = {"widths": p.widths, "seed": p.seed, "message": self.message, "repeats": self.repeats}
        if found:
            facts["horizon"] = found.times[-1]
            facts["reference"] = {"disagreement": found.disagreement, "methods": found.methods}
            facts["velocity"] = {"used": self.product, "seconds": self.velocities}
            facts["prices"] = self.prices
        return facts | {"methods": {curve.name: report.as_json(curve) for curve in self.curves}}

    def measure(self, methods: Sequence[Method], options: argparse.Namespace, tell: measure.Report) -> None:
        """Fill the page in; when interrupted it keeps what it has."""
        tell(0.0, f"{self.problem.name}: reference")
        self.message = "interrupted before its reference was known"
        try:
            with measure.quiet():
                found = reference.solve(self.problem)
        except reference.NoReference as reason:
            self.message = str(reason)
            return
        self.product, self.velocities = velocity.fastest(self.problem)
        self.found, self.message = found, ""
        if options.study == "alpha" and self.own and self.problem.fully_observed:
            from . import price

            self.prices = price.prices(self.problem, float(found.times[-1]))
        job = Job(self.problem, found.times, self.product, self.velocities[self.product], options.longest)
        rtols = measure.tolerances(1 if options.quick or options.study else 2)
        enough = min(studies.LEVELS) if options.study else 0.0
        measure.curves(
            job,
            found,
            methods,
            rtols,
            self.repeats,
            into=self.curves,
            report=tell,
            enough=enough,
            files=options.also,
        )
        for method, curve in zip(methods, self.curves, strict=True):
            if curve.points and options.first_use:
                tell(1.0, f"{self.problem.name}: first use of {method.name}")
                curve.first_use = fresh.first_use(job, method, options.also)
            if curve.points and options.memory:
                tell(1.0, f"{self.problem.name}: memory of {method.name}")
                curve.memory = fresh.peak_memory(job, method, options.also)


def run(options: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    checks.integer(options.seed, "--seed", least=0)
    methods = choose(
        collect(options.also), options.methods or (options.study and studies.METHODS[options.study])
    )
    names = problems.expand(options.problems) or list(_usual(options))
    repeats = options.repeats or (3 if options.quick else 5 if options.study else 15)
    repeats = checks.integer(repeats, "--repeats", least=1)
    longest = LONGEST if options.longest is None else options.longest
    options.longest = checks.positive(longest, "--longest")
    record = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": report.machine() | {"threads": 1 if "DLN_BENCH" in os.environ else "not limited"},
        "versions": report.versions(),
    }
    own = [method.name for method in methods if method.package == "dln"]
    done: list[Page] = []

    def say(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    say(report.heading(record))
    shown, status = options.progress and not options.json and sys.stderr.isatty(), 0
    with bar(shown, "dln bench", len(names)) as tell:
        for i, name in enumerate(names):
            done.append(Page(problems.make(name, options.seed), own, repeats))
            try:
                done[-1].measure(methods, options, lambda part, text, i=i: tell(i + part, text))  # type: ignore[misc]
            except KeyboardInterrupt:
                status = 130
            status = status or (1 if done[-1].message else 0)
            say(done[-1].text())
            if options.out:  # after every problem, so that a run that is killed keeps what it had
                _write(options, record, done)
            if status == 130:
                break
    found = studies.conclude(options.study, done) if options.study else []
    for study in found:
        say(study.text())
    if options.out:
        _write(options, record, done, found)
    if options.json:
        print(_text(record, done, found))
    return status


def _usual(options: argparse.Namespace) -> Sequence[str]:
    if options.study:
        return studies.names(options.study, options.quick)
    return QUICK if options.quick else USUAL


def _text(record: dict[str, Any], done: Sequence[Page], found: Sequence[studies.Study]) -> str:
    whole = record | {"problems": {page.problem.name: page.record() for page in done}}
    if found:
        whole["studies"] = {study.name: study.record() for study in found}
    return json.dumps(report.without_nan(whole), indent=1, allow_nan=False)


def _write(
    options: argparse.Namespace,
    record: dict[str, Any],
    done: Sequence[Page],
    found: Sequence[studies.Study] = (),
) -> None:
    out: Path = options.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_text(record, done, found) + "\n", encoding="utf-8")
    text = "\n".join(
        [report.heading(record), *(page.text() for page in done), *(study.text() for study in found)]
    )
    out.with_suffix(".txt").write_text(text, encoding="utf-8")
    if found:
        for study in found:
            pictures.study(out.with_name(f"{out.stem}-{study.name}.{options.format}"), study)
    elif done[-1].found and not options.study:
        picture = out.with_name(f"{out.stem}-{done[-1].problem.name}.{options.format}")
        pictures.page(picture, done[-1].title, done[-1].curves, done[-1].own)
