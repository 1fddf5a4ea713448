"""Completion with the Schatten regulariser: `dln.schatten` beside its rivals, at equal objectives.

python benchmarks/schatten --out benchmarks/results/schatten.json
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
PACKAGES = ("cvxpy", "scs", "clarabel", "pyproximal", "pylops", "skglm", "proxop")


def main():
    import dln
    from dln.bench.report import machine, versions
    from dln.progress import bar
    from schatten import measure, problems, proxes

    options = _options([method.name for method in measure.ALL])
    methods = [m for m in measure.ALL if options.methods is None or m.name in options.methods]
    missing = {m.name: m.missing() for m in methods if m.missing()}
    methods = [m for m in methods if m.name not in missing]
    there = {"dln": dln.__version__} | {p: importlib.metadata.version(p) for p in PACKAGES if _installed(p)}
    record = {
        "command": shlex.join(["python", "benchmarks/schatten", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine() | {"threads": 1 if "DLN_BENCH" in os.environ else "not limited"},
        "versions": there | versions(),
        "settings": {"seed": options.seed, "cap": options.cap, "equal": measure.EQUAL},
        "missing": "\n".join(
            f"{name} is left out: {', '.join(m)} is not installed." for name, m in missing.items()
        ),
        "problems": [],
        "prox": {},
    }
    chosen, status = problems.everything(options.seed, 30 if options.quick else 100), 0
    try:
        with bar(sys.stderr.isatty(), "schatten", len(chosen)) as tell:
            tell(0, "warming up")
            for method in methods:  # compiles and imports what it needs
                for problem in chosen[: len(problems.DEPTHS)]:
                    if method.takes(problem):
                        measure.run(method, problem, 1.0)
            for i, problem in enumerate(chosen):
                tell(i, problem.name)
                record["problems"].append(measure.compare(problem, methods, options.cap))
                _write(options.out, record)  # so that a run that is killed keeps what it had
        record["prox"] = {"matrix": proxes.matrix(options.seed), "scalar": proxes.scalar(options.seed)}
    except KeyboardInterrupt:
        status = 130
    print(_write(options.out, record))
    return status


def _write(out, record):
    """The report, which is written with the numbers and the picture where a file is asked for."""
    from dln.bench.report import heading, without_nan
    from schatten import report

    whole = f"{heading(record)}\n{report.text(record)}"
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(without_nan(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        out.with_suffix(".txt").write_text(whole, encoding="utf-8")
        if record["problems"]:
            report.picture(out.with_suffix(".png"), record["problems"])
    return whole


def _options(names):
    parser = argparse.ArgumentParser(prog="benchmarks/schatten", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the problems of size up to 30 only")
    parser.add_argument(
        "--methods", type=lambda text: text.split(","), metavar="A,B", help="some methods, by name"
    )
    parser.add_argument("--cap", type=float, default=10.0, help="seconds that a method has (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="which instances of the problems (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write numbers, tables and picture")
    options = parser.parse_args()
    unknown = set(options.methods or ()) - set(names)
    if unknown:
        parser.error(
            f"`--methods` must be among {', '.join(names)}; got {', '.join(sorted(unknown))}. Choose of them."
        )
    if not options.cap > 0:
        parser.error(f"`--cap` must be positive, got {options.cap}. Give seconds.")
    if options.seed < 0:
        parser.error(f"`--seed` must be zero or positive, got {options.seed}. Choose another.")
    return options


def _installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    from dln import bench

    bench.one_thread()
    sys.exit(main())
