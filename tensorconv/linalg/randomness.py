"""Randomness only ever comes from a generator that the caller passes or seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorconv.errors import KernelError


def as_generator(rng: Any) -> np.random.Generator:
    """Return the generator that a seed means, or the generator itself.

    Parameters
    ----------
    rng : int, sequence of int or numpy.random.Generator
        A seed, or a generator to draw from.

    Returns
    -------
    numpy.random.Generator
        The generator; numpy's global one is never touched.

    Raises
    ------
    KernelError
        If it is neither.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise KernelError(f"rng must be a seed of at least 0 or a numpy.random.Generator, got {rng!r}") from error
