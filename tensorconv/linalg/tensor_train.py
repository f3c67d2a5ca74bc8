"""Tensor trains: a chain of order-3 cores, by successive truncated SVDs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import RankError
from tensorconv.linalg.svd import singular_values, truncated_svd

Array = NDArray[Any]


def tensor_train_svd(tensor: Array, ranks: Sequence[int] | None = None, *, refine: bool = True) -> list[Array]:
    """Return the tensor train of a tensor by successive truncated SVDs.

    ``T[i1..id] = G1[i1] G2[i2] .. Gd[id]`` with matrices ``Gk[ik]`` of size (r_{k-1}, r_k) (Oseledets, 2011,
    Algorithm 1).
    The squared error is at most the sum of the squared truncation errors of the unfoldings.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more; computed in float64.
    ranks : sequence of int, optional
        The d - 1 ranks between the modes, each from 1 to what its unfolding allows; full ranks if not given.
    refine : bool
        Whether small singular values matter beyond the product, as in :func:`truncated_svd`.

    Returns
    -------
    list of ndarray, shape (r_{k-1}, n_k, r_k)
        The cores, r_0 = r_d = 1; all but the last are orthonormal as matrices (r_{k-1} n_k, r_k).

    Raises
    ------
    RankError
        If there is not one rank between each two modes, or one is out of range.
    KernelError
        If there are numbers that are not finite.

    Examples
    --------
    >>> tensor = np.arange(24.0).reshape(2, 3, 4)
    >>> [core.shape for core in tensor_train_svd(tensor, (2, 2))]
    [(1, 2, 2), (2, 3, 2), (2, 4, 1)]
    """
    data = np.asarray(tensor, np.float64)
    most = unfolding_ranks(data.shape)
    chosen = most if ranks is None else tuple(ranks)
    if len(chosen) != len(most) or any(not 1 <= r <= m for r, m in zip(chosen, most, strict=False)):
        raise RankError(f"ranks must be one between each two modes, from 1 to {most} for this tensor, got {chosen}")
    shape, rest, cores, before = data.shape, data, [], 1
    del tensor, data  # whoever hands over the last reference gets its memory back after the first step
    for size, rank in zip(shape, chosen, strict=False):
        rest = rest.reshape(before * size, -1)
        rank = min(rank, *rest.shape)  # a smaller rank before leaves no more
        u, s, vh = truncated_svd(rest, rank, refine=refine)
        cores.append(u.reshape(before, size, rank))
        vh *= s[:, None]
        rest, before = vh, rank
    return [*cores, rest.reshape(before, shape[-1], 1)]


def unfolding_ranks(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the full ranks of the unfoldings between each two modes.

    Parameters
    ----------
    shape : sequence of int
        Shape of the tensor.

    Returns
    -------
    tuple of int
        ``min(n_1 .. n_k, n_{k+1} .. n_d)`` for k from 1 to d - 1.
    """
    before = np.cumprod(shape)[:-1]
    after = np.cumprod(shape[::-1])[::-1][1:]
    return tuple(int(min(a, b)) for a, b in zip(before, after, strict=True))


def unfolding_spectra(tensor: Array) -> list[Array]:
    """Return the singular values of the unfoldings between each two modes.

    Parameters
    ----------
    tensor : ndarray
        Real tensor of order 2 or more.

    Returns
    -------
    list of ndarray
        Falling singular values of each of the d - 1 unfoldings.
    """
    rows = np.cumprod(tensor.shape)[:-1]
    return [singular_values(tensor.reshape(int(n), -1)) for n in rows]
