"""What of a kernel is stored and multiplied: all of it, what is not zero, signs and scales, or nothing."""

from __future__ import annotations

import numpy as np

from tensorconv.arrays import Array
from tensorconv.cost import Stored
from tensorconv.errors import KernelError

ENTRIES = ("dense", "sparse", "binary", "fixed")


def check_entries(kernel: Array, entries: str) -> None:
    """Refuse a kernel that is not of the kind that it is called.

    Parameters
    ----------
    kernel : ndarray, shape (O, I, K1..KN)
        The kernel.
    entries : {"dense", "sparse", "binary", "fixed"}
        All entries are stored; those that are not zero; signs and one scale per out-channel; or none, being 0 and 1.

    Raises
    ------
    KernelError
        If it is another word, or the kernel is not of that kind.
    """
    if entries not in ENTRIES:
        raise KernelError(f"entries must be one of {', '.join(ENTRIES)}, got {entries!r}")
    if entries == "fixed" and not np.isin(kernel, (0, 1)).all():
        raise KernelError('entries="fixed" is for kernels of zeros and ones; call them "sparse" or "dense"')
    if entries == "binary":
        rows = np.abs(kernel.reshape(len(kernel), -1).astype(np.float64))
        if not ((rows == 0) | (rows == rows.max(axis=1, keepdims=True))).all():
            raise KernelError(
                'entries="binary" is for kernels whose out-channels have one magnitude each beside zeros; call them '
                '"sparse" or "dense"'
            )


def stored(kernel: Array, entries: str) -> Stored:
    """Return how many entries of a kernel are stored, multiplied and only added.

    Parameters
    ----------
    kernel : ndarray, shape (O, I, K1..KN)
        The kernel.
    entries : {"dense", "sparse", "binary", "fixed"}
        How its entries are stored.

    Returns
    -------
    Stored
        For "binary" one scale per out-channel is stored and multiplied; signs and positions are not counted.
    """
    if entries == "dense":
        return Stored(kernel.size, kernel.size)
    others = int(np.count_nonzero(kernel))
    if entries == "sparse":
        return Stored(others, others)
    scales = len(kernel) if entries == "binary" else 0
    return Stored(scales, scales, others)
