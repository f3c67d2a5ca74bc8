"""Numbers that are not finite, refused at the door: LAPACK answers them with an error of its own, or with NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorconv.errors import KernelError


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Refuse an array that holds NaN or inf.

    Parameters
    ----------
    name : str
        What it is, for messages.
    array : ndarray
        Any numbers.

    Raises
    ------
    KernelError
        If one of them is not finite.
    """
    if not np.isfinite(array).all():
        raise KernelError(f"{name} must hold finite numbers only, got NaN or inf; replace or leave them out first")
