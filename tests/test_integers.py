"""Tests of what counts as one number: of Python and numpy, but neither truth values nor arrays nor text."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tensorconv.integers import is_integer, is_number

NUMBERS = (1, 0.5, Fraction(1, 3), np.float16(0.5), np.float32(0.5), np.float64(0.5), np.int8(3), np.uint64(3))
OTHERS = (True, np.bool_(True), None, "1", 1j, np.complex64(1), np.array(1.0), np.ones(1), [1])


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_a_number_is_one(value: Any) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_nothing_else_is_a_number(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_an_integer_is_what_can_count(value: Any) -> None:
    assert is_integer(value) == isinstance(value, int | np.integer)
