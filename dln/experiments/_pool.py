"""Many independent calls at a time, in processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from ..progress import bar

__all__ = ["each"]

I = TypeVar("I")
R = TypeVar("R")
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def each(function: Callable[[I], R], items: Sequence[I], jobs: int, shown: bool, title: str) -> dict[I, R]:
    """Results by item; those that are there when someone interrupts. One BLAS thread for each process."""
    done: dict[I, R] = {}
    with bar(shown, title, len(items)) as report:
        try:
            for item, result in _results(function, items, jobs):
                done[item] = result
                report(len(done), f"{len(done)} of {len(items)}")
        except KeyboardInterrupt:
            if not done:
                raise
    return {item: done[item] for item in items if item in done}


def _results(function: Callable[[I], R], items: Sequence[I], jobs: int) -> Iterator[tuple[I, R]]:
    if jobs == 1:
        yield from ((item, function(item)) for item in items)
        return
    with (
        _one_thread(),
        ProcessPoolExecutor(min(jobs, len(items)), get_context("spawn"), initializer=_deaf) as pool,
    ):
        waiting = {pool.submit(function, item): item for item in items}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _deaf() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _one_thread() -> Iterator[None]:
    """An environment in which new processes have one BLAS thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
