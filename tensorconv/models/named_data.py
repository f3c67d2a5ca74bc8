"""Data of the user as inputs by name, in portions that go through a network together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tensorconv.errors import ModelError

IMAGES = 64  # of a large array that go through a network together


def by_name(names: Sequence[str], data: Any) -> list[dict[str, Any]]:
    """Return what was given as data, every entry by the names of the inputs.

    Parameters
    ----------
    names : sequence of str
        Names of the inputs.
    data : array_like, mapping of str to array_like, or list or tuple of either
        One batch, or several. An array is that of the only input.

    Returns
    -------
    list of dict of str to object
        The entries, each with all inputs.

    Raises
    ------
    ModelError
        If there is none, or an input is missing or unknown.
    """
    entries = list(data) if isinstance(data, (list, tuple)) else [data]
    if not entries:
        raise ModelError("data holds no batch; give an array, several by name, or a list of either")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) and len(names) != 1:
            raise ModelError(
                f"data must be mappings by name, since the network has {len(names)} inputs: {', '.join(names)}"
            )
        named = dict(entry) if isinstance(entry, Mapping) else {names[0]: entry}
        if set(named) != set(names):
            given = ", ".join(map(str, named)) or "none"
            raise ModelError(f"data must have the inputs {', '.join(names)}, got {given}")
        found.append(named)
    return found


def portions(named: Mapping[str, Any], size: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield arrays in slices along their first axis, where all have it in common.

    Parameters
    ----------
    named : mapping of str to array_like
        The arrays.
    size : int, optional
        Images of a slice, if the number of images is a multiple of it; 64 if not given.

    Yields
    ------
    dict of str to ndarray
        The slices, or the arrays as they are.
    """
    arrays = {name: value if hasattr(value, "shape") else np.asarray(value) for name, value in named.items()}
    counts = {array.shape[0] if array.shape else 0 for array in arrays.values()}
    count = counts.pop() if len(counts) == 1 else 0
    step = IMAGES if size is None else size
    if not step or count <= step or (size is not None and count % step):
        yield arrays
        return
    for start in range(0, count, step):
        yield {name: array[start : start + step] for name, array in arrays.items()}
