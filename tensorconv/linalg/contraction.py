"""Products of any number of factors, summed over letters, in the cheapest order of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Term = tuple[str, Array]
ENTRIES = 2**40  # no limit of intermediate products: with numpy's, three factors at a time miss the BLAS
FEW = 5  # factors whose orders are all tried


def contracted(terms: Sequence[Term], output: str) -> Array:
    """Return the product of factors.

    Parameters
    ----------
    terms : sequence of (str, ndarray)
        Arrays and the letters of their axes.
    output : str
        Letters of the result.

    Returns
    -------
    ndarray
        The sum over all other letters.
    """
    formula = ",".join(letters for letters, _ in terms) + "->" + output
    path = _path(formula, *(array.shape for _, array in terms)) if len(terms) > 1 else False
    product: Array = np.einsum(formula, *(array for _, array in terms), optimize=path)
    return product


@lru_cache
def _path(formula: str, *shapes: tuple[int, ...]) -> Any:
    """Return the order of pairwise products with the fewest operations; few are looked at where factors are many."""
    kind = "optimal" if len(shapes) <= FEW else "greedy"
    return np.einsum_path(formula, *(np.broadcast_to(0.0, shape) for shape in shapes), optimize=(kind, ENTRIES))[0]
