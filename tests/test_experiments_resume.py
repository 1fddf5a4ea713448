"""Experiments of independent cases: interrupted or killed, they go on from the finished cases, to the same result."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest

from dln import cli, experiments
from dln.experiments import _pool, _store
from dln.progress import Interrupts

SMALL = {
    "width": ("_drawn", ["--depth", "2", "--singular-values", "2", "1", "--draws", "2"]),
    "gammas": ("_end", ["--depths", "2", "--gammas", "2", "--width", "10", "--seeds", "2"]),
    "regimes": ("_measure", ["--depths", "2", "--widths", "16", "32", "--gammas", "1", "--seeds", "1"]),
}
CASES = {"gammas": 4, "regimes": 4, "width": 9}  # with gamma = 1/2, and the whole network


def run(name, folder, *more):
    """Exit status, and what the run says to machines but for the names of its figures."""
    status = cli.main(["run", name, *SMALL[name][1], "--jobs", "1", "--output", str(folder), *more])
    written = folder / f"{name}.json"
    result = json.loads(written.read_text()) if written.exists() else {}
    return status, {key: value for key, value in result.items() if key != "figures"}


def same(one, other):
    """But for the last bits, which depend on where in memory arrays lie."""
    if isinstance(one, dict):
        return [*one] == [*other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == pytest.approx(other, rel=1e-9) if isinstance(one, float) else one == other


@pytest.fixture
def calls(monkeypatch):
    """Cases computed from now on, by experiment; a number says after how many one is interrupted."""
    computed, patience = {name: [] for name in SMALL}, {}
    for name, (function, _) in SMALL.items():
        module = experiments.load(name)
        original = getattr(module, function)

        def counted(case, name=name, original=original):
            if len(computed[name]) == patience.get(name):
                raise KeyboardInterrupt
            computed[name].append(case)
            return original(case)

        monkeypatch.setattr(module, function, functools.wraps(original)(counted))
    return computed, patience


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupted_experiment_goes_on(capsys, tmp_path, calls, name):
    computed, patience = calls
    patience[name] = 3
    status, part = run(name, tmp_path / "broken")
    assert status == (130 if name == "width" else 1)
    assert f"interrupted after 3 of {CASES[name]}" in capsys.readouterr().err
    patience.clear()
    status, result = run(name, tmp_path / "broken")
    assert status == 0
    assert len(computed[name]) == len(set(computed[name])) == CASES[name]
    status, whole = run(name, tmp_path / "whole")
    assert len(computed[name]) == 2 * CASES[name]
    assert same(result, whole)
    assert not same(part, whole)
    assert run(name, tmp_path / "broken") == (0, result)  # to the last bit
    assert len(computed[name]) == 2 * CASES[name]
    assert not same(run(name, tmp_path / "whole", "--seed", "7")[1], whole)  # other cases


def test_a_killed_experiment_goes_on(capsys, tmp_path, calls):
    """Whenever it dies: what is on disk is whole."""
    computed, _ = calls
    command = [sys.executable, "-m", "dln.cli", "run", "gammas", *SMALL["gammas"][1], "--jobs", "1"]
    process = subprocess.Popen([*command, "--output", str(tmp_path)], stdout=subprocess.DEVNULL)
    while process.poll() is None and not [*tmp_path.glob("*-cases/*.npz")]:
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = len([*tmp_path.glob("*-cases/*.npz")])
    status, result = run("gammas", tmp_path)
    assert kept >= 1
    assert len(computed["gammas"]) == CASES["gammas"] - kept
    assert status == 0
    assert same(result, run("gammas", tmp_path / "whole")[1])


@dataclass(frozen=True)
class Case:
    number: int
    factor: float = 1.0


@dataclass(frozen=True)
class Result:
    values: np.ndarray
    parts: tuple[list[float], str]
    nothing: None = None


def compute(case):
    return Result(np.array([math.pi, math.nan]) * case.number, ([0.1, math.inf, 1e-310], "text"))


def interrupted(case):
    """As compiled code does it: the interrupt ends it early, and is heard of no more."""
    if case.number == 2:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            return -1.0
    return float(case.number)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that takes the classes of this file for those of the library."""
    monkeypatch.setattr(_store, "__name__", __name__)
    return _store.Store(tmp_path, "numbers")


def test_results_come_back_to_the_last_bit(store):
    store.put(compute, Case(3), compute(Case(3)))
    [found] = store.get(compute, Case(3))
    expected = compute(Case(3))
    assert np.array_equal(found.values, expected.values, equal_nan=True)
    assert (found.parts, found.nothing) == (expected.parts, None)
    for other in (Case(4), Case(3, 1.0 + 2.0**-52)):
        assert store.get(compute, other) == ()
    assert store.get(interrupted, Case(3)) == ()


def test_other_code_and_broken_files_are_computed_again(store, monkeypatch):
    store.put(compute, Case(1), compute(Case(1)))
    [path] = store.output.glob("*-cases/*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(_store, "_code", lambda: "another")
        assert store.get(compute, Case(1)) == ()
    assert len(store.get(compute, Case(1))) == 1
    path.write_bytes(path.read_bytes()[:-40])
    assert store.get(compute, Case(1)) == ()


def test_what_cannot_be_kept_is_refused(store, monkeypatch):
    with pytest.raises(TypeError, match="`case` must hold plain values"):
        store.get(compute, Result(np.ones(2), ([], "")))
    with pytest.raises(TypeError, match="`value` must be made of"):
        store.put(compute, Case(1), {1, 2})
    store.put(compute, Case(1), compute(Case(1)))
    monkeypatch.setattr(_store, "__name__", "dln.experiments._store")
    assert store.get(compute, Case(1)) == ()  # a file names no class but the library's own


def test_a_swallowed_interrupt_makes_no_result(capsys, store):
    cases = [Case(k) for k in range(4)]
    assert _pool.each(interrupted, cases, 1, False, "numbers", store) == {Case(0): 0.0, Case(1): 1.0}
    assert "interrupted after 2 of 4 numbers; the same command goes on from there" in capsys.readouterr().err
    assert [len(store.get(interrupted, case)) for case in cases] == [1, 1, 0, 0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            Interrupts.heed()
    finally:
        signal.signal(signal.SIGINT, before)


def patient(seconds):
    time.sleep(seconds)
    return seconds


def test_nobody_waits_for_cases_under_way(capsys, store):
    """An interrupt while two processes are busy for long, one case done."""

    def interrupt():
        while not store.get(patient, 0.1):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.perf_counter()
    assert _pool.each(patient, [0.1, 100.0, 101.0], 2, False, "naps", store) == {0.1: 0.1}
    assert time.perf_counter() - began < 60


def test_processes_keep_what_they_finish(store):
    items = [4.0, 9.0, 16.0]
    first = _pool.each(math.sqrt, items[:2], 2, False, "roots", store)
    assert _pool.each(math.sqrt, items, 2, False, "roots", store) == first | {16.0: 4.0}
    assert [store.get(math.sqrt, x) for x in items] == [(2.0,), (3.0,), (4.0,)]
