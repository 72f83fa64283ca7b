"""Owns showing how far something is; silent where standard error is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]


@contextmanager
def rounds(what: str, total: int) -> Iterator[Advance]:
    """Show a bar over training rounds; the value takes how many more are done."""
    with _bar(what, total, MofNCompleteColumn()) as advance:
        yield advance


@contextmanager
def transfer(what: str, total: int) -> Iterator[Advance]:
    """Show a bar over bytes; the value takes how many more are through."""
    with _bar(what, total, DownloadColumn(binary_units=True), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int, *columns: object) -> Iterator[Advance]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,  # type: ignore[arg-type]  # rich takes columns and strings
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)
