"""Owns the bars on standard error; nothing is shown where that is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from repo_api.pull import Progress
from repo_api.registry import OnBytes
from repo_api.release import Descriptor


@contextmanager
def bars() -> Iterator[Progress]:
    """Show a bar for each layer that is fetched, as long as the block lasts."""
    if not sys.stderr.isatty():
        yield lambda _layer: lambda _count: None
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        console=Console(stderr=True),
    ) as shown:

        def show(layer: Descriptor) -> OnBytes:
            return partial(shown.advance, shown.add_task(layer.title, total=layer.size))

        yield show
