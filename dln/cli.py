"""Command line: ``dln run``, ``dln list``, ``dln verify``, ``dln bench``, ``dln doctor``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 ended early, 2 wrong input, 130 interrupted, 141 unread.

    The last one is that of a process whose output nobody reads on, as of `dln list | head -1`.
    """
    try:
        try:
            return _status(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what is left in the buffer goes nowhere
        return 141


def _status(arguments: Sequence[str] | None) -> int:
    parser, command = _parser(list(sys.argv[1:] if arguments is None else arguments))
    options = parser.parse_args(arguments)
    options.alone = arguments is None  # the process is ours, not that of somebody who called `main`
    try:
        return command[options.command](options)
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, OSError) as error:
        print(f"dln: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dln: interrupted", file=sys.stderr)
        return 130


Command = Callable[[argparse.Namespace], int]


def _parser(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, dict[str, Command]]:
    from . import __version__

    parser = argparse.ArgumentParser(prog="dln", description="The dynamics of deep linear networks.")
    parser.add_argument("--version", action="version", version=f"dln {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run an experiment (without a name: the main one)")
    listed = commands.add_parser("list", help="experiments, methods, forms, costs, starts, theorems")
    verify = commands.add_parser("verify", help="verify theorems symbolically and numerically")
    bench = commands.add_parser("bench", help="time to a given error, beside other libraries")
    doctor = commands.add_parser("doctor", help="versions, cache of compiled kernels, BLAS threads, GPU")
    verify.add_argument("names", nargs="*", metavar="NAME", help="statements (default: all)")
    verify.add_argument("--seed", type=int, default=0, help="seed of the random cases (default 0)")
    for command in (run, listed, verify, bench, doctor):
        command.add_argument("--json", action="store_true", help="machine-readable output")
    if arguments[:1] == ["run"]:
        _add_experiment(run, arguments[1:])
    if arguments[:1] == ["bench"]:
        from . import bench as engine

        engine.options(bench)
    return parser, {"run": _run, "list": _list, "verify": _verify, "bench": _bench, "doctor": _doctor}


def _add_experiment(run: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """The options of the chosen experiment; only its module is loaded."""
    from . import experiments

    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments[0] if named else experiments.MAIN
    run.add_argument(
        "experiment", nargs="?", default=experiments.MAIN, choices=experiments.names(), metavar="EXPERIMENT"
    )
    run.add_argument(
        "--output", type=Path, default=Path("dln-output"), metavar="FOLDER", help="where figure and result go"
    )
    run.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    run.description = f"Experiments: {', '.join(experiments.names())}."
    if name in experiments.names():
        experiments.load(name).options(run)


def _run(options: argparse.Namespace) -> int:
    from . import experiments

    options.progress = options.progress and not options.json and sys.stderr.isatty()
    _refuse_unwritable(options.output)
    outcome = experiments.load(options.experiment).run(options)
    from .plotting import save_figure

    paths = [
        path for name, figure in outcome.figures.items() for path in save_figure(figure, options.output, name)
    ]
    result = {
        "experiment": options.experiment,
        "title": outcome.title,
        "parameters": outcome.parameters,
        "rows": outcome.rows,
        "figures": [str(path) for path in paths],
    }
    text = json.dumps(_plain(result), indent=1)
    written = options.output / f"{options.experiment}.json"
    written.write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(text)
    else:
        _table(outcome.title, outcome.columns, outcome.rows)
        for note in outcome.notes:
            print(note)
        print("Written:", *paths, written)
    return 0 if outcome.success else 1


def _refuse_unwritable(folder: Path) -> None:
    """An output folder that cannot be made is refused before the run, not after it."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OSError(
            f"`--output` must be a folder that can be written, got {str(folder)!r}. Choose another."
        )


def _list(options: argparse.Namespace) -> int:
    from . import costs, experiments, flow, inits, theorems

    def first(text: str | None) -> str:
        return (text or "").strip().splitlines()[0]

    catalogue = {
        "experiments": {name: experiments.load(name).TITLE for name in experiments.names()},
        "methods": flow.methods(),
        "forms": flow.forms(),
        "costs": {name: cost.purpose for name, cost in costs.ALL.items()},
        "starts": {name: first(start.__doc__) for name, start in inits.ALL.items()},
        "theorems": dict.fromkeys(theorems.names(), ""),
    }
    if options.json:
        print(json.dumps(catalogue, indent=1))
        return 0
    for group, entries in catalogue.items():
        print(group)
        width = max(map(len, entries))
        for name, text in entries.items():
            print(f"  {name:{width}}  {text}".rstrip())
    return 0


def _verify(options: argparse.Namespace) -> int:
    from . import checks, theorems

    verdicts = theorems.verify(options.names or None, rng=checks.integer(options.seed, "--seed", least=0))
    rows = [
        {
            "statement": verdict.name,
            "status": verdict.status,
            "symbolic": _checked(verdict.symbolic),
            "numeric": _checked(verdict.numeric),
            "worst residual": verdict.residual,
            "seconds": round(verdict.seconds, 2),
            "source": verdict.source,
        }
        for verdict in verdicts
    ]
    if options.json:
        print(json.dumps(_plain(rows), indent=1))
    else:
        _table("Ledger of theorems", list(rows[0]), rows)
    return 0 if all(verdict.status in ("verified", "supported") for verdict in verdicts) else 1


def _checked(check: Any) -> str:
    return "-" if check is None else f"{'yes' if check.passed else 'NO'} ({check.cases} cases)"


def _bench(options: argparse.Namespace) -> int:
    from . import bench

    if options.alone:
        bench.one_thread()
    return bench.run(options)


def _doctor(options: argparse.Namespace) -> int:
    from .doctor import findings

    facts = findings()
    if options.json:
        print(json.dumps(facts, indent=1))
    else:
        width = max(map(len, facts))
        for name, fact in facts.items():
            print(f"{name:{width}}  {fact}")
    return 0


def _table(title: str, columns: Sequence[str], rows: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        left = any(isinstance(row[column], str) for row in rows)
        table.add_column(column, justify="left" if left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console = Console()
    if not console.is_terminal:
        console.width = 140
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Values that strict JSON knows: NaN becomes null, infinity a string."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


if __name__ == "__main__":
    sys.exit(main())
