"""One progress bar for everything that can take long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["bar"]


@contextmanager
def bar(shown: bool, title: str, total: float | None) -> Iterator[Callable[[float, str], None]]:
    """Report function ``(completed, text)`` of a bar, or one that does nothing; `total` None means without an end."""
    if not shown:
        yield lambda completed, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda completed, text: progress.update(task, completed=completed, description=text)
