"""Rank rules, and the searches that turn an error or a budget into ranks."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.integers import is_integer

Array = NDArray[Any]
Rank = tuple[int, ...]
SCANNED = 32  # ranks that are tried one by one
# Singular values per rank, each of shape (slices, n), and the largest useful ranks, to ranks.
Rule = Callable[[Sequence[Array], Rank], Rank]


def energy(share: float) -> Rule:
    """Return the rule that keeps this share of the squared singular values in every rank.

    Parameters
    ----------
    share : float
        Above 0, at most 1. For an SVD the relative error is at most ``sqrt(1 - share)``.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the share is out of range.

    Examples
    --------
    >>> energy(0.9)([np.array([[3.0, 1.0, 0.1]])], (3,))
    (2,)
    """
    if not (isinstance(share, (int, float, np.number)) and 0 < share <= 1):
        raise RankError(f"share must be above 0 and at most 1, got {share!r}; 0.95 keeps 95 % of the energy")

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        tails = map(tail_energy, spectra)
        return tuple(_first_rank(t, (1 - share) * float(t[0]), m) for t, m in zip(tails, maximum, strict=True))

    return rule


def multiple(factor: int, *, of: int | Sequence[int] | Rule) -> Rule:
    """Return the rule that rounds ranks up to multiples that hardware likes, up to the largest useful rank.

    Parameters
    ----------
    factor : int
        8, 16, 32: what the hardware works on at a time.
    of : int, sequence of int, or rule
        The ranks to round.

    Returns
    -------
    callable
        A rule for the argument ``rank`` of a factorization.

    Raises
    ------
    RankError
        If the factor is below 1.
    """
    if not is_integer(factor) or factor < 1:
        raise RankError(f"factor must be at least 1, got {factor!r}")

    def rule(spectra: Sequence[Array], maximum: Rank) -> Rank:
        ranks = of(spectra, maximum) if callable(of) else spread(of, maximum)
        return tuple(min(-(-r // factor) * factor, most) for r, most in zip(ranks, maximum, strict=True))

    return rule


def spread(rank: Any, maximum: Rank) -> Rank:
    """Return one integer per rank, from one for all (each capped at its maximum) or one per rank.

    Parameters
    ----------
    rank : int or sequence of int
        What the caller asked for.
    maximum : tuple of int
        The largest useful ranks.

    Returns
    -------
    tuple of int
        The ranks, not yet checked against the maximum where one per rank was given.

    Raises
    ------
    RankError
        If it is not an integer or a sequence of integers of the right length.
    """
    wanted = f"rank must be an integer{f' or {len(maximum)} integers' * (len(maximum) > 1)}, got {rank!r}"
    several = is_listing(rank)
    entries = list(rank) if several else [rank]
    if not all(map(is_integer, entries)):
        raise RankError(wanted)
    ranks = tuple(map(operator.index, entries))
    if not several:
        return tuple(min(ranks[0], most) if ranks[0] <= max(maximum) else ranks[0] for most in maximum)
    if len(ranks) != len(maximum):
        raise RankError(wanted)
    return ranks


def is_listing(rank: Any) -> bool:
    """Tell whether a rank is given as several entries: a list, a tuple or an array of one axis.

    Parameters
    ----------
    rank : object
        What the caller asked for.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(rank, (list, tuple)) or (isinstance(rank, np.ndarray) and rank.ndim == 1)


def tail_energy(spectrum: Array) -> Array:
    """Return the squared error of every truncation, summed over the slices.

    Parameters
    ----------
    spectrum : ndarray, shape (slices, n)
        Falling singular values.

    Returns
    -------
    ndarray, shape (n + 1,)
        Entry r is the energy lost at rank r.
    """
    energies = np.sum(np.square(spectrum), axis=0)
    return np.concatenate([np.cumsum(energies[::-1])[::-1], [0.0]])


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


def _first_rank(tail: Array, allowed: float, most: int) -> int:
    return min(max(1, int(np.argmax(tail <= allowed * (1 + 1e-12) + 1e-300))), most)


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
