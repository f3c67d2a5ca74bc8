"""The progress of a long run on stderr, where a person is watching: stage, layer, bar, time gone and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tensorconv.cli.output import console
from tensorconv.models.progress import Progress, Watch, unwatched


@contextmanager
def watched(*, quiet: bool = False) -> Iterator[Watch]:
    """Show one bar per stage while work is going on, on a terminal only.

    Parameters
    ----------
    quiet : bool
        Whether to show nothing.

    Yields
    ------
    callable
        What is to be told of the progress.
    """
    terminal = console(stderr=True)
    if quiet or not terminal.is_terminal:
        yield unwatched
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[layer]}", markup=False),
    )
    with Bars(*columns, console=terminal, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
        stages: dict[str, TaskID] = {}

        def watch(progress: Progress) -> None:
            if progress.stage not in stages:
                for earlier in bars.tasks:
                    bars.update(earlier.id, completed=earlier.total, layer="")
                stages[progress.stage] = bars.add_task(progress.stage, layer="")
            bars.update(stages[progress.stage], completed=progress.done, total=progress.total, layer=progress.name)

        yield watch
