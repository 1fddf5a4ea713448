"""What the theory proves of SGD with weight decay, held against every step of networks of all kinds.

At each step: it is W <- a W + b V + c Delta^T U, with no more rows in the factors than the matrix was used, and where a
batch norm follows, <G, W> = 0. At windows of a few steps: what was added has the rank of its gradients; the singular
values interlace; the distance to low rank, and the length of the way, keep their bounds. And each certificate is shown
a step that breaks it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import checks, rank
from ..nonlinear import (
    AveragePool,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    Layer,
    Network,
    ReLU,
    Residual,
    SelfAttention,
    mlp,
    residual,
)
from ..rank.windows import EACH_WINDOW
from . import Outcome, _training
from ._training import CLASSES, HIDDEN, WIDTH, Case, Run

TITLE = (
    "the rank theorems of SGD as live certificates on dense, convolutional, residual and attention networks"
)

SIDE = 8
TOLERANCE = 1e-12
SHOWN = 400  # pieces of a run in the figure
CERTIFICATES = ("recursion", "energy", "gradient_rank", *EACH_WINDOW)


def _normed() -> list[Layer]:
    return [Dense(WIDTH), BatchNorm(epsilon=0.0), ReLU()]  # without epsilon <G, W> is 0 exactly


def _images(rng: Any, normed: bool) -> Network:
    norm = [BatchNorm(epsilon=0.0)] if normed else []
    first, second = Conv2d(32, 3, stride=2, padding=1), Conv2d(64, 3, stride=2, padding=1)
    layers: list[Layer] = [
        first,
        *norm,
        ReLU(),
        second,
        *norm,
        ReLU(),
        AveragePool(2),
        Flatten(),
        Dense(CLASSES),
    ]
    return Network((1, SIDE, SIDE), layers, rng=rng)


NETWORKS: dict[str, Callable[[Any], Network]] = {
    "dense": _training.network,
    "shallow": lambda rng: mlp((WIDTH, WIDTH, CLASSES), rng=rng),
    "batch norm": lambda rng: Network(WIDTH, [*_normed() * HIDDEN, Dense(CLASSES)], rng=rng),
    "residual": lambda rng: residual(WIDTH, WIDTH, 2, CLASSES, rng=rng),
    "convolution": lambda rng: _images(rng, False),
    "normed images": lambda rng: _images(rng, True),
    "attention": lambda rng: Network(
        (SIDE, SIDE), [Dense(WIDTH), Residual([SelfAttention()]), Flatten(), Dense(CLASSES)], rng=rng
    ),
}
# network, what is special, batch size, learning rate, weight decay, thousands of steps, arguments of `train`
RUNS: tuple[tuple[str, str, int, float, float, float, dict[str, Any]], ...] = (
    ("dense", "", 4, 0.1, 4e-3, 20, {}),
    ("dense", "momentum", 4, 0.02, 4e-3, 10, {"momentum": 0.9}),
    ("dense", "nesterov", 4, 0.01, 4e-3, 10, {"momentum": 0.9, "nesterov": True}),
    ("dense", "decoupled", 4, 0.02, 4e-3, 10, {"momentum": 0.9, "decoupled": True}),
    ("dense", "schedule", 4, 0.1, 4e-3, 10, {"schedule": {4: 0.2, 8: 0.2}}),
    ("shallow", "strong decay", 1, 0.1, 0.25, 10, {}),
    ("batch norm", "", 8, 0.1, 1e-2, 10, {}),
    ("batch norm", "momentum", 8, 0.01, 1e-2, 5, {"momentum": 0.9}),
    ("residual", "", 4, 0.05, 4e-3, 10, {}),
    ("convolution", "", 2, 0.05, 4e-3, 10, {}),
    ("normed images", "", 4, 0.05, 4e-3, 5, {}),
    ("attention", "", 1, 0.005, 1e-2, 10, {}),
    ("attention", "momentum", 1, 0.0005, 1e-2, 5, {"momentum": 0.9}),
)
FULL = {"thousands": 1.0, "every": 25, "seeds": 1}
QUICK = {"thousands": 0.03, "every": 25, "seeds": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Command-line options."""
    add = parser.add_argument
    add(
        "--thousands",
        type=float,
        metavar="F",
        help="factor of the numbers of steps: 1 is 125,000 in all (default 1)",
    )
    add("--every", type=int, metavar="N", help="steps from window to window (default 25)")
    _training.options(parser, seeds=1)


def run(options: argparse.Namespace) -> Outcome:
    """The worst of every certificate on every run, and what breaks each of them."""
    _training.settle(options, FULL, QUICK)
    factor = checks.positive(options.thousands, "--thousands")
    every = checks.integer(options.every, "--every", least=10)
    samples = _training.data(options)
    cases = [
        _case(entry, len(samples.X), factor, every, seed)
        for seed in range(options.seed, options.seed + options.seeds)
        for entry in RUNS
    ]
    runs = _training.train_all(cases, samples, options.jobs, options.progress)
    rows, broken = [_row(run) for run in runs], refuted(options.seed)
    steps, held = (
        sum(run.history.steps for run in runs),
        all(run.history.status == "finished" for run in runs),
    )
    caught = [name for name in CERTIFICATES if name in broken]
    return Outcome(
        title=f"{options.data}, float64, {steps} certified steps, a window every {every}",
        columns=list(rows[0]),
        rows=rows,
        notes=[
            "At each step: recursion, the distance from W <- a W + b V + c Delta^T U in units of ||W||, by probes; "
            "energy, the largest |<G, W>| / (||G|| ||W||) before a batch norm; spare, the least bound less rank of a "
            "gradient.",
            "At each window: the least slack of the others, in units of the larger matrix, negative beyond equality; - "
            "where the gradients of the window could fill the matrix and nothing is asked. asked: share of windows and "
            "matrices.",
            f"{'No certificate is' if held else 'A certificate IS'} violated beyond {TOLERANCE:g} in {steps} steps.",
            f"Shown steps that break them, {len(caught)} of {len(CERTIFICATES)} certificates say so: "
            f"{', '.join(caught)}.",
            *(f"{run.case.name}: {run.history.message}" for run in runs if not run.history.success),
        ],
        parameters={
            "data": options.data, "thousands": factor, "every": every, "seed": options.seed, "seeds": options.seeds,
            "steps": steps, "tolerance": TOLERANCE, "refuted": broken,
        },
        success=len(caught) == len(CERTIFICATES) and [run.history.success for run in runs] == [True] * len(cases),
        figures={"sgd-certificates": _figure(runs)},
    )  # fmt: skip


def _case(entry: Any, samples: int, factor: float, every: int, seed: int) -> Case:
    name, special, B, lr, wd, thousands, more = entry
    epochs = max(1, round(1000 * thousands * factor / (samples // B)))
    window = {1: 8, 2: 4, 4: 4, 8: 2}[B]
    certify = {
        "every": every,
        "window": window,
        "epsilon": 0.3,
        "tolerance": TOLERANCE,
        "batch_norm_tolerance": TOLERANCE,
    }
    return Case(
        B, lr, wd, epochs, seed, build=NETWORKS[name], name=f"{name}, {special}" if special else name, every=epochs,
        momentum=more.get("momentum", 0.0), schedule=more.get("schedule"),
        more={"certify": certify} | {key: more[key] for key in ("nesterov", "decoupled") if key in more},
    )  # fmt: skip


def _row(run: Run) -> dict[str, Any]:
    found = run.history.certificates
    spare, asked = found["gradient_rank"], np.isfinite(found["interlacing"])
    return {
        "network": run.case.name, "B": run.case.batch_size, "steps": len(found["recursion"]),
        "recursion": _finite(TOLERANCE - found["recursion"], max),
        "energy": _finite(TOLERANCE - found["energy"], max), "spare": _finite(spare, min),
        "windows": len(asked), "asked": float(asked.mean()) if asked.size else None,
    } | {name.removesuffix("_rank"): _finite(found[name] - TOLERANCE, min) for name in EACH_WINDOW}  # fmt: skip


def _finite(values: Any, extreme: Callable[..., Any]) -> float | None:
    """Extreme of the finite values to two digits, None where there is none."""
    kept = values[np.isfinite(values)].tolist()
    return float(f"{extreme(kept):.2g}") if kept else None


def refuted(seed: int) -> dict[str, str]:
    """What was seen to break each certificate: name -> a sentence."""
    rng = np.random.default_rng(seed)
    W, G = rng.normal(size=(12, 10)), np.outer(rng.normal(size=12), rng.normal(size=10))
    rates: dict[str, Any] = {"learning_rate": 0.5, "weight_decay": 0.8, "batch_size": 1}
    attempts: dict[str, tuple[dict[str, Any], Any, Any]] = {
        "a step of Adam": ({}, W - 0.5 * G / np.abs(G), G),
        "weights that do not decay": ({"epsilon": 0.7}, W, None),
        "a gradient of full rank": ({}, 0.6 * W - 0.5 * W[::-1], W[::-1]),
        "a batch norm that is not there": ({"batch_norm": True}, 0.6 * W - 0.5 * G, G),
    }
    broken: dict[str, str] = {}
    for words, (claims, after, gradient) in attempts.items():
        live = rank.Certificates([W], every=1, window=1, stop=False, **claims)
        if gradient is None:
            live.leap([after], steps=1, **rates)
        else:
            live.step([after], [gradient], **rates)
        for violation in live.violations:
            broken.setdefault(violation.name, words)
    return broken


def _figure(runs: Sequence[Run]) -> Any:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    from .. import plotting

    with mpl.rc_context(plotting.STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.0), layout="constrained")
        for place, name in enumerate(NETWORKS):
            mine = [run for run in runs if run.case.name == name or run.case.name.startswith(f"{name},")][:1]
            for run in mine:
                if not run.history.steps:
                    continue
                left.semilogy(*_worst(TOLERANCE - run.history.certificates["recursion"].min(axis=1)), lw=1.0,
                              color=plotting.colour(place))  # fmt: skip
                slack = run.history.certificates["interlacing"].min(axis=1)
                shown = np.isfinite(slack)
                at = run.history.certificate_steps["interlacing"][shown]
                right.semilogy(at, np.maximum(slack[shown], 1e-16), ".", ms=2, color=plotting.colour(place))
                right.plot([], [], "o", ms=4, color=plotting.colour(place), label=name)
        left.axhline(TOLERANCE, color="0.3", lw=0.9, ls="--")
        left.text(0, 1.2 * TOLERANCE, "tolerated", fontsize="small", color="0.3", va="bottom")
        left.set(
            xlabel="steps",
            ylabel=r"$\|E\| / \|W\|$ by probes",
            title="each step: what is not SGD",
            ylim=(None, 8e-12),
        )
        right.set(xlabel="steps", ylabel="least slack of the interlacing", title="each window")
        if right.lines:
            right.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _worst(values: Any) -> tuple[Any, Any]:
    """The largest of each of at most `SHOWN` pieces, against their ends."""
    pieces = np.array_split(values, min(SHOWN, len(values)))
    return np.cumsum([len(piece) for piece in pieces]), np.array([piece.max() for piece in pieces])
