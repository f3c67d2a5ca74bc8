"""The normal equations of a sweep: solved whatever the memory order of the Gram matrix, singular or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tensorconv.arrays import Array
from tensorconv.linalg.cp_sweeps import solve

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "every second entry": lambda gram: np.kron(gram, np.ones((2, 2)))[::2, ::2],
    "reversed rows": lambda gram: gram[::-1].copy()[::-1],
    "one of a stack": lambda gram: np.stack([gram, gram], axis=2)[:, :, 0],
}


@pytest.mark.timeout(10)  # a diagonal that is a copy is raised for ever
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", [6, 2, 0])
@pytest.mark.parametrize("share", [0.0, 1e-12, 1e-6])
def test_any_memory_order_is_solved(layout: str, rank: int, share: float) -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((6, rank))
    gram, target = half @ half.T, rng.standard_normal((9, rank)) @ half.T
    if share == 0 and rank < 6:
        share = 1e-14  # a singular matrix needs some ridge
    given = LAYOUTS[layout](gram)
    assert np.array_equal(given, gram)
    expected = solve(gram.copy(), target, share)
    found = solve(given, target, share)
    # the same numbers, through the same routines or their transposed forms; singular ones up to 1e-12 of the ridge
    np.testing.assert_allclose(found @ gram, expected @ gram, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found @ gram, target, rtol=1e-4, atol=1e-4)
