"""What takes long: one progress bar for all of it, and a Ctrl-C that no compiled code swallows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Interrupts", "bar"]


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


class Interrupts:
    """While it is entered, a Ctrl-C that the code within swallows is remembered, and raised by `heed`."""

    pending = False

    def __enter__(self) -> None:
        Interrupts.pending = False
        here = threading.current_thread() is threading.main_thread()
        self.ours = here and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        if self.ours:
            self.before = signal.signal(signal.SIGINT, self._came)

    def __exit__(self, *reason: object) -> None:
        if self.ours:
            signal.signal(signal.SIGINT, self.before)

    @staticmethod
    def _came(number: int, frame: object) -> None:
        Interrupts.pending = True
        raise KeyboardInterrupt

    @staticmethod
    def heed() -> None:
        """Raise the interrupt that was swallowed."""
        if Interrupts.pending:
            Interrupts.pending = False
            raise KeyboardInterrupt
