"""How the commands speak: tables and text to stdout, progress to stderr, JSON alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# a file or pipe has no width; a table takes what it needs of this and is never cut
_WIDTH_OF_A_PIPE = 4096


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints names as they are: no markup, no emoji codes, no colouring of numbers.

    Parameters
    ----------
    stderr : bool
        Whether it prints there.

    Returns
    -------
    Console
        As wide as the terminal, or as a line may be.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _WIDTH_OF_A_PIPE
    return made


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print an aligned table to stdout.

    Parameters
    ----------
    header : sequence of str
        One title per column.
    rows : iterable of sequence of str
        The cells.
    right : sequence of str
        Titles of the columns that are aligned to the right.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in header:
        table.add_column(title, justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    pipe = console()
    with pipe.capture() as captured:
        pipe.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def show_json(value: Mapping[str, Any]) -> None:
    """Print a JSON object to stdout.

    Parameters
    ----------
    value : mapping
        What to print.
    """
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def working(on: str, *, done: int = 0, total: int | None = None, quiet: bool = False) -> Iterator[None]:
    """Show a progress bar on stderr while work is going on, where a person is watching.

    Parameters
    ----------
    on : str
        What is being done.
    done : int
        Steps done before.
    total : int or None
        Steps in all; None where they are not known.
    quiet : bool
        Whether to show nothing.

    Yields
    ------
    None
        Nothing.
    """
    terminal = console(stderr=True)
    if quiet or not terminal.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        bar.add_task(on, completed=done, total=total)
        yield


def can_draw() -> bool:
    """Return whether stdout can show block characters.

    Returns
    -------
    bool
        Whether its encoding is a Unicode one.
    """
    return console().encoding.startswith("utf")
