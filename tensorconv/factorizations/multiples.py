"""Ranks with which the channels between the layers are multiples of what hardware works on at a time."""

from __future__ import annotations

from tensorconv.factorizations.scheme import Rank, Scheme


def rounded(scheme: Scheme, rank: Rank, multiple: int) -> Rank:
    """Return the ranks nearest to given ones with which all channels between the layers are multiples.

    Parameters
    ----------
    scheme : Scheme
        The method, bound to a layer.
    rank : tuple of int
        Ranks within their maxima.
    multiple : int
        8, 16, 32: how many channels the hardware works on at a time; 1 for no rounding.

    Returns
    -------
    tuple of int
        Every rank rounded, to at least one multiple and at most its maximum; those of less than two multiples at most
        stay. The given ranks where they fit already, or where rounding does not help.
    """

    def fits(ranks: Rank) -> bool:
        return all(step[0][0] % multiple == 0 for step in scheme.chain(ranks)[:-1])

    if fits(rank):
        return rank
    near = tuple(
        r if most < 2 * multiple else min(max(round(r / multiple), 1) * multiple, most)
        for r, most in zip(rank, scheme.maximum, strict=True)
    )
    return near if fits(near) else rank
