"""Data of the user: inputs by name, whatever form they have, in portions that lose and repeat nothing."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tensorconv.errors import ModelError
from tensorconv.models.named_data import IMAGES, by_name, portions

X = np.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("data", "n"), [(X, 1), ([X], 1), ((X, X), 2), ({"x": X}, 1), ([{"x": X}, X], 2), ([X, {"x": X}, X], 3)]
)
def test_an_array_is_that_of_the_only_input(data: Any, n: int) -> None:
    found = by_name(["x"], data)
    assert len(found) == n
    assert all(list(entry) == ["x"] and entry["x"] is X for entry in found)


@pytest.mark.parametrize(
    ("names", "data", "text"),
    [
        (["x"], [], "data holds no batch; give an array, several by name, or a list of either"),
        (["x"], (), "data holds no batch"),
        (["x", "y"], X, "data must be mappings by name, since the network has 2 inputs: x, y"),
        (["x", "y"], [{"x": X, "y": X}, X], "data must be mappings by name"),
        ([], X, "data must be mappings by name, since the network has 0 inputs: "),
        (["x", "y"], {"x": X}, "data must have the inputs x, y, got x"),
        (["x"], {"x": X, "z": X}, "data must have the inputs x, got x, z"),
        (["x"], [X, {}], "data must have the inputs x, got none"),
        (["x"], {1: X}, "data must have the inputs x, got 1"),
    ],
)
def test_missing_and_unknown_inputs_are_named(names: list[str], data: Any, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        by_name(names, data)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (IMAGES, None, [IMAGES]),
        (IMAGES + 1, None, [IMAGES, 1]),
        (3 * IMAGES, None, [IMAGES] * 3),
        (0, None, [0]),
        (6, 2, [2, 2, 2]),
        (2, 2, [2]),
        (6, 4, [6]),  # no multiple: what runs it says so
        (1, 4, [1]),
        (6, 1, [1] * 6),
        (6, 0, [6]),
    ],
)
def test_portions_are_all_there_is_in_order(count: int, size: int | None, sizes: list[int]) -> None:
    x, y = np.arange(2.0 * count).reshape(count, 2), np.arange(count)
    found = list(portions({"x": x, "y": y}, size))
    assert [len(one["x"]) for one in found] == [len(one["y"]) for one in found] == sizes
    assert (np.concatenate([one["x"] for one in found]) == x).all()
    assert (np.concatenate([one["y"] for one in found]) == y).all()


@pytest.mark.parametrize("other", [np.float32(2), np.zeros(3), np.zeros((IMAGES, 2))])
def test_arrays_with_nothing_in_common_stay_whole(other: Any) -> None:
    x = np.zeros((2 * IMAGES, 2))
    (found,) = portions({"x": x, "y": other})
    assert found["x"] is x
    assert found["y"] is other


def test_lists_become_arrays() -> None:
    (found,) = portions({"x": [[1.0, 2.0]]})
    assert isinstance(found["x"], np.ndarray)
    assert found["x"].shape == (1, 2)
