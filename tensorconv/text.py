"""Text for everything that prints or writes: aligned tables, short tuples, values as JSON holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def aligned_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as aligned columns, numbers to the right.

    Parameters
    ----------
    rows : iterable of sequence of str
        The first row is the header.

    Returns
    -------
    str
        One line per row.
    """
    table = [tuple(row) for row in rows]
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [
        all(cell[:1].isdigit() and " " not in cell and "x" not in cell for cell in column[1:]) for column in columns
    ]
    right = [r and i > 0 for i, r in enumerate(right)]
    lines = (
        "  ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)


def short(values: Iterable[int | tuple[int, ...]]) -> str:
    """Return one value where all axes (and both sides) agree, else all of them.

    Parameters
    ----------
    values : iterable of int or of tuple of int
        One entry per axis.

    Returns
    -------
    str
        Such as "2" or "(1,2)".
    """
    entries = tuple(values)
    flat = {v for entry in entries for v in (entry if isinstance(entry, tuple) else (entry,))}
    return str(flat.pop() if len(flat) == 1 else entries).replace(" ", "")


def product(*letters: str) -> str:
    """Return letters of an error message as a product.

    Parameters
    ----------
    *letters : str
        Sizes such as "I", "K1"; empty ones are left out.

    Returns
    -------
    str
        "I*K1".
    """
    return "*".join(letter for letter in letters if letter)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: tuples as lists, and no number (null) for what is not finite.

    Parameters
    ----------
    value : Any
        A dictionary, sequence, number, text or None.

    Returns
    -------
    Any
        The same in plain values.
    """
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
