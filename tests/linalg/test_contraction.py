"""Products of factors in the cheapest order: numpy's own sums as the reference, few and many factors."""

from __future__ import annotations

import numpy as np
import pytest

from tensorconv.linalg import contracted

SIZES = {"o": 4, "i": 3, "x": 2, "r": 5, "s": 2}


@pytest.mark.parametrize(
    ("factors", "output"),
    [
        ("oix", "xoi"),
        ("or ri", "oi"),
        ("or ri rx", "oix"),
        ("or rs si sx", "ixo"),
        ("or ri rx rs s oi", "ox"),  # more than are tried in all orders
        ("ir oir", "oi"),
        ("r r", ""),
    ],
)
def test_a_product_is_the_sum_over_all_other_letters(factors: str, output: str) -> None:
    rng = np.random.default_rng(0)
    terms = [(letters, rng.standard_normal([SIZES[c] for c in letters])) for letters in factors.split()]
    expected = np.einsum(",".join(factors.split()) + "->" + output, *(array for _, array in terms), optimize=False)
    # sums of at most 240 products of six numbers below 4
    np.testing.assert_allclose(contracted(terms, output), expected, rtol=0, atol=240 * 6 * 2.0**-53 * 4**6)
