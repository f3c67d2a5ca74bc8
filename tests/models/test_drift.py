"""Tests of drift: how far outputs are from others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tensorconv.errors import ModelError
from tensorconv.models.drift import Run, drift_by_output


def given(*outputs: Any) -> Run:
    return lambda _: {str(i): np.asarray(value) for i, value in enumerate(outputs)}


@pytest.mark.parametrize(
    ("expected", "got", "drift"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1.0], math.inf),
        ([np.inf, np.nan, 4.0], [np.inf, np.nan, 5.0], 0.25),
        ([np.inf, 4.0], [1.0, 4.0], math.inf),
        ([1.0, 4.0], [np.nan, 4.0], math.inf),
        ([1.0, 4.0], [1.0], math.inf),
        ([True, True, True, True], [True, False, True, True], 0.5),
        (["a", "b", "c", "d"], ["a", "b", "c", "e"], 0.5),
        ([], [], 0.0),
    ],
)
def test_drift_of_one_output(expected: list[Any], got: list[Any], drift: float) -> None:
    assert drift_by_output(given(expected), given(got), [{}, {}])["0"] == drift


def test_large_numbers_do_not_overflow() -> None:
    large = np.full(4, 3e38, "float32")
    assert drift_by_output(given(large), given(large / 2), [{}])["0"] == 0.5


def test_other_outputs_are_refused() -> None:
    with pytest.raises(ModelError, match=r"after must have the outputs of before, \['0'\], got \['0', '1'\]"):
        drift_by_output(given(1.0), given(1.0, 2.0), [{}])
