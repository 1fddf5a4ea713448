"""Many independent calls at a time, in processes of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import TypeVar

from ..progress import Interrupts, bar
from ._store import Store

__all__ = ["each"]

I = TypeVar("I")
R = TypeVar("R")
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def each(
    function: Callable[[I], R],
    items: Sequence[I],
    jobs: int,
    shown: bool,
    title: str,
    store: Store | None = None,
) -> dict[I, R]:
    """Results by item; those that are there when someone interrupts. One BLAS thread for each process.

    What the store holds is not computed again, and what is finished is put there at once.
    """
    kept = {} if store is None else {item: found for item in items for found in store.get(function, item)}
    todo, done = [item for item in items if item not in kept], dict(kept)
    with bar(shown, title, len(items)) as report, Interrupts():
        report(len(done), f"{len(done)} of {len(items)}")
        try:
            for item, result in _results(function, todo, jobs):
                if store is not None:
                    store.put(function, item, result)
                done[item] = result
                report(len(done), f"{len(done)} of {len(items)}")
        except KeyboardInterrupt:
            if not done:
                raise
            left = "" if store is None else "; the same command goes on from there"
            print(f"dln: interrupted after {len(done)} of {len(items)} {title}{left}", file=sys.stderr)
    return {item: done[item] for item in items if item in done}


def _results(function: Callable[[I], R], items: Sequence[I], jobs: int) -> Iterator[tuple[I, R]]:
    if jobs == 1 or not items:
        yield from _one_by_one(function, items)
        return
    others = active_children()
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
            if waiting:  # nobody waits for cases of minutes
                for worker in active_children():
                    if worker not in others:
                        worker.terminate()
            pool.shutdown(wait=False, cancel_futures=True)


def _one_by_one(function: Callable[[I], R], items: Sequence[I]) -> Iterator[tuple[I, R]]:
    """In this process, where a flow that is interrupted ends early without raising: what comes of it is no result."""
    for item in items:
        result = function(item)
        Interrupts.heed()
        yield item, result


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
