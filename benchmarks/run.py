"""Work-precision benchmark of `dln` and its rivals.

    python benchmarks/run.py --problems P1,P2 --out benchmarks/results/mine.json

One process, one thread. Prints a table per problem; `--out` also writes what was measured as JSON, with a
picture per problem beside it.
"""

import argparse
import datetime
import json
import os
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA")} | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "DLN_BENCHMARK": "one thread",
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = {"type": lambda text: text.split(","), "metavar": "A,B"}
    parser.add_argument("--problems", **names, default="P1,P2,P3,P6", help="names from problems.py (all)")
    parser.add_argument("--methods", **names, help="names or packages from rivals.py (all)")
    parser.add_argument("--also", action="append", default=[], metavar="FILE", help="file with more methods")
    parser.add_argument("--seed", type=int, default=0, help="which instance of the problems (0)")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs per method and tolerance (15)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where to write (nowhere)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="of the pictures (svg)")
    parser.add_argument("--quick", action="store_true", help="whole decades, 3 repeats, no first use")
    parser.add_argument("--no-first-use", action="store_true", help="no runs in new processes")
    args = parser.parse_args()
    if args.quick:
        args.repeats, args.no_first_use = 3, True
    return args


def main():
    """Measure, print, write."""
    args = arguments()
    if "DLN_BENCHMARK" not in os.environ:  # the libraries read their numbers of threads when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    import problems
    import report
    import rivals

    unknown = set(args.problems) - set(problems.ALL)
    if unknown:
        sys.exit(f"`--problems` must be among {', '.join(problems.ALL)}, got {', '.join(sorted(unknown))}.")
    methods = chosen(rivals.collect(args.also), args.methods)
    command = f"python benchmarks/run.py {shlex.join(sys.argv[1:])}".strip()
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = {"command": command, "date": date, "machine": report.machine(), "versions": report.versions()}
    print(f"{record['machine']['cpu']}, {record['machine']['cores']} cores, one thread used;", end=" ")
    print(", ".join(f"{name} {version}" for name, version in record["versions"].items()), end="\n\n")
    for name in args.problems:
        record[name] = page(problems.make(name, args.seed), methods, args)
        if args.out:  # after every problem: a run that is stopped keeps what it had
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def chosen(methods, names):
    """The methods with the given names, or of the given packages."""
    if names is None:
        return list(methods.values())
    known = {*methods, *(m.package for m in methods.values())}
    if unknown := set(names) - known:
        sys.exit(f"`--methods` must be among {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}.")
    return [m for m in methods.values() if m.name in names or m.package in names]


def page(problem, methods, args):
    """Print the table of one problem, draw its picture, and return its record."""
    import measure
    import reference
    import report
    import velocity
    from rivals import Job

    ref = reference.solve(problem)
    product, seconds = velocity.fastest(problem)
    job = Job(problem, ref.times, product)
    there = [m for m in methods if not m.missing()]
    curves = measure.curves(job, ref, there, measure.tolerances(1 if args.quick else 2), args.repeats)
    if not args.no_first_use:
        for method, curve in zip(there, curves, strict=True):
            curve.first_use = measure.first_use(job, method, args.also)
    for method in methods:
        if missing := " and ".join(method.missing()):
            curves.append(measure.Curve(method.name, message=f"skipped, {missing} not installed"))
    own = [m.name for m in there if m.package == "dln"]
    shape = "-".join(map(str, problem.widths))
    title = f"{problem.name}: widths {shape}, seed {problem.seed}, t = 0 to {ref.times[-1]:.4g}"
    velocities = ", ".join(f"{name} {1e9 * s:.0f} ns" for name, s in seconds.items())
    facts = f"rivals' velocity: {velocities}; reference methods agree to {ref.disagreement:.0e}"
    print(report.table(f"{title}\n{facts}", curves, own), flush=True)
    if args.out:
        picture = args.out.with_name(f"{args.out.stem}-{problem.name}.{args.format}")
        report.picture(picture, title, curves, own)
    return {
        "widths": problem.widths,
        "seed": problem.seed,
        "horizon": ref.times[-1],
        "reference": {"disagreement": ref.disagreement, "taylor_steps": ref.steps},
        "velocity": {"used": product, "seconds": seconds},
        "repeats": args.repeats,
        "methods": {curve.name: report.as_json(curve) for curve in curves},
    }


if __name__ == "__main__":
    main()
