"""Searches for a rank: the smallest that meets an error, the largest that is affordable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import RankError

SCANNED = 32  # ranks that are tried one by one


def first_meeting(
    attempt: Callable[[int], float], error: float, predicted: Array, maximum: int, *, noise: float = 1e-6
) -> int:
    """Return the smallest rank that meets an error where the error of every rank is known but for rounding.

    Parameters
    ----------
    attempt : callable
        The true relative error at a rank.
    error : float
        The error asked for.
    predicted : ndarray
        Entry r is the relative error expected at rank r, falling.
    maximum : int
        The largest rank to try.
    noise : float
        How far the true error may be from the expected one; ranks this close to the request are tried one by one, or
        by bisection where they are many.

    Returns
    -------
    int
        The rank.

    Raises
    ------
    RankError
        If the largest rank does not meet the error.
    """
    low, sure = (_first(predicted, error + side, maximum) for side in (noise, -noise))
    if sure - low > SCANNED:
        return bisect_meeting(attempt, error, low, maximum, bounded=False, precise=True)
    failed, rank, step = low - 1, low, 1
    while attempt(rank) > error:
        if rank == maximum:
            raise RankError(unmet(error, attempt(maximum), maximum))
        failed, rank = rank, min(rank + step, maximum)
        if rank > sure:  # past what rounding explains the steps grow
            step *= 2
    return _narrowed(attempt, error, failed, rank, 0)


def _narrowed(attempt: Callable[[int], float], error: float, failed: int, met: int, precision: int) -> int:
    """Bisect between a rank that fails and one that meets, down to one in ``precision`` of it (0: to the last rank)."""
    while met - failed > 1 + (met // precision if precision else 0):
        middle = (failed + met) // 2
        if attempt(middle) <= error:
            met = middle
        else:
            failed = middle
    return met


def _first(predicted: Array, error: float, maximum: int) -> int:
    """Return the first rank from 1 on that is expected to meet an error, the maximum if none is."""
    meets = predicted[1:] <= error
    return min(int(np.argmax(meets)) + 1, maximum) if meets.any() else maximum


def bisect_meeting(
    attempt: Callable[[int], float], error: float, low: int, maximum: int, *, bounded: bool, precise: bool = False
) -> int:
    """Return a rank that meets an error where only trying tells, close to the smallest.

    Parameters
    ----------
    attempt : callable
        The true relative error at a rank.
    error : float
        The error asked for.
    low : int
        A rank below which no attempt can succeed.
    maximum : int
        The largest rank to try.
    bounded : bool
        Whether ``maximum`` is a limit that may well be missed, and is tried first.
    precise : bool
        Whether to search to the last rank, not to 3 %.

    Returns
    -------
    int
        The rank; a neighbour about 3 % smaller, or just below, was seen to fail.

    Raises
    ------
    RankError
        If the largest rank does not meet the error.
    """
    if low > maximum or (bounded and attempt(maximum) > error):
        raise RankError(unmet(error, attempt(maximum), maximum))
    failed, rank = low - 1, maximum if bounded else low
    while attempt(rank) > error:
        if rank == maximum:
            raise RankError(unmet(error, attempt(maximum), maximum))
        failed, rank = rank, min(rank + max(1, rank // 2), maximum)
    return _narrowed(attempt, error, failed, rank, 0 if precise else 32)


def nearest_meeting(attempt: Callable[[int], float], error: float, guess: int, maximum: int) -> int:
    """Return the smallest rank that meets an error that falls with rank, from a guess on either side.

    Parameters
    ----------
    attempt : callable
        The true error at a rank.
    error : float
        The error asked for.
    guess : int
        A rank not far from it, from 1 to the maximum.
    maximum : int
        The largest rank to try.

    Returns
    -------
    int
        The rank.

    Raises
    ------
    RankError
        If the largest rank does not meet the error.
    """
    step = max(1, guess // 8)
    if attempt(guess) <= error:
        met = guess
        while met - step > 0 and attempt(met - step) <= error:
            met, step = met - step, 2 * step
        return _narrowed(attempt, error, max(met - step, 0), met, 0)
    failed = guess
    while failed < maximum:
        met = min(failed + step, maximum)
        if attempt(met) <= error:
            return _narrowed(attempt, error, failed, met, 0)
        failed, step = met, 2 * step
    raise RankError(unmet(error, attempt(maximum), maximum))


def largest_affordable(affordable: Callable[[int], bool], maximum: int) -> int:
    """Return the largest rank whose cost is affordable, by bisection of a cost that grows with rank.

    Parameters
    ----------
    affordable : callable
        Whether a rank is affordable.
    maximum : int
        The largest useful rank.

    Returns
    -------
    int
        The rank; 0 if not even 1 is affordable.
    """
    low, high = 0, maximum
    while low < high:
        middle = (low + high + 1) // 2
        if affordable(middle):
            low = middle
        else:
            high = middle - 1
    return low


def unmet(error: float, best: float, rank: Any) -> str:
    """Return the message of an error that cannot be met.

    Parameters
    ----------
    error : float
        The error asked for.
    best : float
        The best attained.
    rank : int or tuple of int
        Where it was attained.

    Returns
    -------
    str
        What was asked, what was found, and the cure.
    """
    return (
        f"error={error:g} cannot be met: the best attained is {best:.3g}, at rank {rank}; "
        "ask for a larger error, or try another method or a wider data type"
    )
