"""Checked integers, one for all spatial axes or one per axis; checked truth values; what is a number."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from tensorconv.errors import GeometryError

PerAxis = int | Sequence[int]
Padding = int | Sequence[int | tuple[int, int]]


def is_integer(value: object) -> bool:
    """Tell whether a value is one integer: of Python, numpy or a framework, but no bool and no float.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is.
    """
    if isinstance(value, (bool, str)) or getattr(value, "ndim", 0) != 0:
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def is_number(value: object) -> bool:
    """Tell whether a value is one real number: of Python or numpy, but no bool and no array.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def integer(name: str, value: Any, at_least: int | None = None) -> int:
    """Return a checked integer.

    Parameters
    ----------
    name : str
        What it is, for messages.
    value : int
        The value.
    at_least : int, optional
        The smallest one allowed.

    Returns
    -------
    int
        The value as a plain int.

    Raises
    ------
    GeometryError
        If it is no integer or too small.
    """
    if not is_integer(value):
        raise GeometryError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if at_least is not None and number < at_least:
        raise GeometryError(f"{name} must be at least {at_least}, got {number}")
    return number


def integers(name: str, values: Any, at_least: int) -> tuple[int, ...]:
    """Return checked integers.

    Parameters
    ----------
    name : str
        What they are, for messages.
    values : iterable of int
        The values.
    at_least : int
        The smallest one allowed.

    Returns
    -------
    tuple of int
        The values as plain ints.

    Raises
    ------
    GeometryError
        If it is no iterable of integers, or one is too small.
    """
    if not _is_listing(values):
        raise GeometryError(f"{name} must be a tuple of integers, one per spatial axis, got {values!r}")
    return tuple(integer(name, value, at_least) for value in values)


def per_axis(name: str, value: Any, ndim: int, at_least: int) -> tuple[int, ...]:
    """Return one checked integer per axis, from one for all or one per axis.

    Parameters
    ----------
    name : str
        What they are, for messages.
    value : int or iterable of int
        One for all axes, or one per axis.
    ndim : int
        Number of spatial axes.
    at_least : int
        The smallest one allowed.

    Returns
    -------
    tuple of int
        One integer per axis.

    Raises
    ------
    GeometryError
        If there are too many or too few, or one is no integer or too small.
    """
    numbers = (integer(name, value, at_least),) * ndim if is_integer(value) else integers(name, value, at_least)
    if len(numbers) != ndim:
        raise GeometryError(f"{name} must have one entry per spatial axis, {ndim} here, got {value!r}")
    return numbers


def pairs_per_axis(ndim: int, padding: Any) -> tuple[tuple[int, int], ...]:
    """Return one checked (low, high) padding per axis, from one integer or one pair per axis.

    Parameters
    ----------
    ndim : int
        Number of spatial axes.
    padding : iterable of int or of (int, int)
        One entry per axis.

    Returns
    -------
    tuple of (int, int)
        One pair per axis.

    Raises
    ------
    GeometryError
        If there are too many or too few entries, or one is no integer or pair of integers.
    """
    rule = f"padding must be one integer or one (low, high) pair per spatial axis, {ndim} here, got {padding!r}"
    if not _is_listing(padding):
        raise GeometryError(rule)
    entries = [(entry, entry) if is_integer(entry) else entry for entry in padding]
    if len(entries) != ndim:
        raise GeometryError(rule)
    pairs = []
    for entry in entries:
        if not _is_listing(entry):
            raise GeometryError(rule)
        sides = tuple(integer("padding", side) for side in entry)
        if len(sides) != 2:
            raise GeometryError(rule)
        pairs.append((sides[0], sides[1]))
    return tuple(pairs)


def _is_listing(value: Any) -> bool:
    """Whether a value holds several entries; an array without axes, such as a float of numpy, does not."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def flag(name: str, value: Any) -> bool:
    """Return a checked truth value.

    Parameters
    ----------
    name : str
        What it is, for messages.
    value : bool
        A bool of Python or numpy.

    Returns
    -------
    bool
        The value as a plain bool.

    Raises
    ------
    GeometryError
        If it is anything else, such as the text "False".
    """
    if type(value).__name__ not in ("bool", "bool_"):
        raise GeometryError(f"{name} must be True or False, got {value!r}")
    return bool(value)
