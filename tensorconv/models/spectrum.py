"""How the energy of a kernel spreads over the singular values of its two channel unfoldings."""

from __future__ import annotations

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import RankError
from tensorconv.layers import ConvLayer

SIDES = ("in", "out")


def channel_spectrum(layer: ConvLayer, side: str) -> Array:
    """Return the singular values of a kernel's unfolding with in-channels, or out-channels, as rows.

    A quick fall says that few intermediate channels carry the kernel, on that side. A grouped kernel has one unfolding
    per group and one rank for all groups, so value ``r`` is ``sqrt(sum over groups of s[g, r] ** 2)``.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    side : {"in", "out"}
        "in" unfolds each group to (I, O/G * K), "out" to (O/G, I * K).

    Returns
    -------
    ndarray, shape (R,)
        Singular values in falling order, in float64.

    Raises
    ------
    RankError
        If ``side`` is neither "in" nor "out".
    """
    if side not in SIDES:
        raise RankError(f'side must be "in" or "out", got {side!r}')
    groups = layer.geometry.groups
    blocks = layer.kernel.astype(np.float64).reshape(groups, layer.out_channels // groups, *layer.kernel.shape[1:])
    if side == "in":
        blocks = np.swapaxes(blocks, 1, 2)
    values = np.linalg.svd(blocks.reshape(groups, blocks.shape[1], -1), compute_uv=False)
    result: Array = np.hypot.reduce(values, axis=0)
    return result


def rank_keeping(singular_values: Array, share: float) -> int:
    """Return the smallest rank whose singular values hold a share of the energy, the sum of their squares.

    Parameters
    ----------
    singular_values : ndarray, shape (R,)
        Singular values in falling order.
    share : float
        Share of the energy, above 0 and at most 1.

    Returns
    -------
    int
        The rank; 0 where there is no energy at all.

    Raises
    ------
    RankError
        If the share is not above 0 and at most 1.

    Examples
    --------
    >>> rank_keeping(np.array([3.0, 1.0]), 0.9)
    1
    """
    if not 0 < share <= 1:
        raise RankError(f"share must be above 0 and at most 1, got {share}")
    if not np.any(singular_values):
        return 0
    kept = np.cumsum((singular_values / np.max(singular_values)) ** 2)
    return int(np.searchsorted(kept, share * kept[-1])) + 1
