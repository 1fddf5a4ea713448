"""A step of SGD beside PyTorch's, what certificates cost, and what measurements cost.

python benchmarks/nonlinear.py --out benchmarks/results/nonlinear.json
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SAMPLES, CLASSES = 1437, 10
# name -> (widths or channels, batch size, steps that are timed)
STEPS = {
    "64-64-64-64-64-10, B = 4": ((64,) * 5, 4, 400),
    "64-64-64-64-64-10, B = 16": ((64,) * 5, 16, 200),
    "64-64-64-64-64-10, B = 128": ((64,) * 5, 128, 60),
    "1024-1024-1024-10, B = 16": ((1024,) * 3, 16, 10),
    "1024-1024-1024-10, B = 64": ((1024,) * 3, 64, 6),
    "images 8 x 8, convolutions 32, 64, 64, B = 16": ("images", 16, 40),
}
WIDTHS, SIZES = (16, 32, 64), (1, 4, 16, 64)


def main() -> int:
    """Measure, print, and write where a file is asked for."""
    from dln.bench.report import heading, machine, without_nan

    parser = argparse.ArgumentParser(prog="benchmarks/nonlinear.py", description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="rounds, of which the best counts (default 7)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, without the networks of width 1024")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write numbers and tables")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"`--repeats` must be at least 1, got {options.repeats}. Give a whole number.")
    rounds = 3 if options.quick else options.repeats
    record = {
        "command": shlex.join(["python", "benchmarks/nonlinear.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine() | {"threads": 1},
        "versions": versions(),
        "steps": [steps(name, rounds) for name in STEPS if not (options.quick and "1024" in name)],
        "certificates": [certified(width, B, rounds) for width in WIDTHS for B in SIZES],
    }
    text = f"{heading(record)}\n{tables(record)}"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(without_nan(record), indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".txt").write_text(text, encoding="utf-8")
    print(text)
    return 0


def versions():
    """Versions of what was measured."""
    from dln.bench import report

    torch = rival()
    return ({"torch": torch.__version__} if torch else {}) | report.versions()


def rival():
    """PyTorch with one thread, where it is installed."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def data(inputs):
    """Samples and labels; what they are does not matter here."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(SAMPLES, inputs)), rng.integers(CLASSES, size=SAMPLES)


def best(rounds, *calls):
    """Least processor time of each call, taken in turn."""
    for call in calls:
        call()
    least = [np.inf] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            before = time.process_time()
            call()
            least[i] = min(least[i], time.process_time() - before)
    return least


# ----------------------------------------------------------------------------------------------------------
# A step
# ----------------------------------------------------------------------------------------------------------


def steps(name, rounds):
    """Microseconds of a step, in float64, of `dln` and of PyTorch."""
    kind, B, count = STEPS[name]
    inputs = 64 if kind == "images" else kind[0]
    X, y = data(inputs)
    drawn = np.random.default_rng(1).integers(SAMPLES, size=(count, B))
    calls = [own(kind, X, y, drawn)]
    if rival():
        calls.append(torch_steps(kind, X, y, drawn))
    seconds = best(rounds, *calls)
    row = {"name": name, "dln": 1e6 * seconds[0] / count}
    return row | ({"torch": 1e6 * seconds[1] / count} if len(seconds) > 1 else {})


def own(kind, X, y, drawn):
    """Steps of `dln`, by the engine that `train` would take."""
    from dln.nonlinear import conv, engines, losses, mlp, optimizers

    net = conv((1, 8, 8), (32, 64, 64), CLASSES, rng=0) if kind == "images" else mlp((*kind, CLASSES), rng=0)
    rule = losses.ALL["cross_entropy"]
    engine = engines.Compiled if engines.compiles(net, rule) else engines.Plain
    samples, memory = X.reshape(-1, *net.shape), np.zeros((1, net.theta.size))
    loop = engine(net, samples, rule.targets(y, SAMPLES, CLASSES), rule, optimizers.SGD(1e-3), memory)
    return lambda: loop.run(drawn, 0.01, 0)


def torch_steps(kind, X, y, drawn):
    """The same by PyTorch as its users write it."""
    torch = rival()
    nn, double = torch.nn, {"dtype": torch.float64}
    if kind == "images":
        layers = []
        for before, after in ((1, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, **double), nn.ReLU()]
        layers += [nn.Flatten(), nn.Linear(64, CLASSES, **double)]
        X = X.reshape(-1, 1, 8, 8)
    else:
        pairs = list(zip(kind, (*kind[1:], CLASSES), strict=True))
        layers = [layer for a, b in pairs for layer in (nn.Linear(a, b, **double), nn.ReLU())][:-1]
    net, loss = nn.Sequential(*layers), nn.CrossEntropyLoss()
    rule = torch.optim.SGD(net.parameters(), lr=0.01, weight_decay=1e-3)
    samples, labels, batches = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(drawn)

    def run():
        for batch in batches:
            rule.zero_grad()
            loss(net(samples[batch]), labels[batch]).backward()
            rule.step()

    return run


# ----------------------------------------------------------------------------------------------------------
# What is looked at
# ----------------------------------------------------------------------------------------------------------


def certified(width, B, rounds):
    """Microseconds of a step of `train`, with and without certificates and what is measured after every epoch."""
    X, y = data(width)
    epochs = max(2, 10000 * B // SAMPLES)
    count = epochs * (SAMPLES // B)
    ways = {"plain": (False, epochs), "certified": (True, epochs), "measured": (False, 1), "both": (True, 1)}
    seconds = best(min(rounds, 3), *(training(width, X, y, B, epochs, *way) for way in ways.values()))
    return {"width": width, "B": B, "steps": count} | {
        way: 1e6 * s / count for way, s in zip(ways, seconds, strict=True)
    }


def training(width, X, y, B, epochs, certify, every):
    """A run of five layers of one width."""
    from dln.nonlinear import mlp, train

    options = {"learning_rate": 0.05, "weight_decay": 1e-3, "batch_size": B, "epochs": epochs, "rng": 0}
    net = mlp((*(width,) * 5, CLASSES), rng=0)
    return lambda: train(net.copy(), X, y, certify=certify, every=every, **options)


def tables(record):
    """What was measured, as text."""
    from dln.bench.report import aligned

    def number(x):
        return "-" if x is None else f"{x:.3g}"

    rows = [["step, microseconds", "dln", "torch", "dln / torch"]]
    for row in record["steps"]:
        torch = row.get("torch")
        rows.append([row["name"], number(row["dln"]), number(torch), number(torch and row["dln"] / torch)])
    held = [["width", "B", "plain", "certified", "more", "measured", "both", "more"]]
    for row in record["certificates"]:
        kinds = ("plain", "certified"), ("measured", "both")
        pairs = [[row[kind] for kind in pair] for pair in kinds]
        cells = [[number(a), number(b), f"{b / a - 1:.0%}"] for a, b in pairs]
        held.append([str(row["width"]), str(row["B"]), *cells[0], *cells[1]])
    return "\n".join(
        [
            *aligned(list(zip(*rows, strict=True))), "",
            "A step of `train`, five matrices, microseconds: alone and certified, and both with all that is measured",
            "of 1437 samples after every epoch:", "",
            *aligned(list(zip(*held, strict=True))), "",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    from dln import bench

    bench.one_thread()
    sys.exit(main())
