"""The progress bar of a fetch in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from microturn.weights.weight_file import Progress, ProgressCallback, WeightFile


@contextmanager
def progress_bar(
    console: Console, file: WeightFile, also: ProgressCallback | None = None
) -> Iterator[ProgressCallback]:
    """Draw a bar while the block runs; yields what is to be told of progress, which tells `also` too."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(file.name, total=file.size_bytes)

        def report(progress: Progress) -> None:
            bars.update(task, completed=progress.done_bytes)
            if also is not None:
                also(progress)

        yield report
    console.print(f"{file.name}: {file.size_bytes / 1e6:.0f} MB, SHA-256 verified")
