"""An example of the inputs of an ONNX network: seeded numbers, of sizes that are given or found by trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorconv.errors import GeometryError, ModelError
from tensorconv.export.onnx_tensors import TYPES
from tensorconv.integers import integer, integers
from tensorconv.models.onnx_inputs import Batch, Input, Shape, shown

SIZES = (224, 64, 32, 48, 28, 256, 299, 128, 512, 1024, 16000, 16, 8, 1)
LARGEST_EXAMPLE = 2**28  # bytes


def checked_size(input_size: Any) -> int | Shape | None:
    """Return a size as plain integers.

    Parameters
    ----------
    input_size : int, sequence of int or None
        Size of the spatial axes, one for all or one per axis.

    Returns
    -------
    int, tuple of int or None
        The size.

    Raises
    ------
    ModelError
        If an entry is no integer from 1.
    """
    try:
        if isinstance(input_size, Sequence):
            return integers("input_size", input_size, at_least=1)
        return None if input_size is None else integer("input_size", input_size, at_least=1)
    except GeometryError as error:
        raise ModelError(str(error)) from error


def example_batch(
    inputs: tuple[Input, ...], input_size: int | Shape | None, try_run: Callable[[Batch], object]
) -> Batch:
    """Return a seeded batch: standard normal floats, and ones for integers.

    Parameters
    ----------
    inputs : tuple of Input
        The inputs.
    input_size : int, tuple of int or None
        Size of the spatial axes where they are open.
    try_run : callable
        Runs the network on a batch, or raises ModelError; asked only where a size is open and not given.

    Returns
    -------
    dict of str to ndarray
        The batch; axes that are still open have the first of ``SIZES`` with which the network runs.

    Raises
    ------
    ModelError
        If there is none, or the inputs would have more than ``LARGEST_EXAMPLE`` bytes.
    """
    if isinstance(input_size, tuple) and all(len(i.shape) != len(input_size) + 2 for i in inputs):
        names = ", ".join(f"{i.name!r} {shown(i.shape)}" for i in inputs)
        raise ModelError(
            f"input_size {input_size} has {len(input_size)} spatial axes, no input of the network has: {names}"
        )
    if all(i.filled(input_size, 1) == i.filled(input_size, 2) for i in inputs):
        return _drawn(inputs, input_size, 1)
    reason = ""
    for size in SIZES:
        try:
            batch = _drawn(inputs, input_size, size)
            try_run(batch)
        except ModelError as error:
            reason = reason or str(error)
            continue
        return batch
    raise ModelError(
        f"the network leaves the size of its input open and runs with none of {', '.join(map(str, SIZES))}; give "
        f"input_size. At {SIZES[0]}: {reason}"
    )


def _drawn(inputs: tuple[Input, ...], input_size: int | Shape | None, other: int) -> Batch:
    shapes = [i.filled(input_size, other) for i in inputs]
    size = sum(math.prod(shape) * i.dtype.itemsize for shape, i in zip(shapes, inputs, strict=True))
    if size > LARGEST_EXAMPLE:
        raise ModelError(
            f"an example of the inputs, {', '.join(map(shown, shapes))}, would have {size} bytes, more than "
            f"{LARGEST_EXAMPLE}; give a smaller input_size, or a network with open sizes"
        )
    rng = np.random.default_rng(0)
    return {
        i.name: (rng.standard_normal(shape, np.float32) if i.dtype.name in TYPES else np.ones(shape)).astype(i.dtype)
        for i, shape in zip(inputs, shapes, strict=True)
    }
