"""Exporter "numpy": a sequence as a dict of plain arrays, for any framework that has no exporter of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tensorconv.arrays import Array
from tensorconv.errors import FormatError
from tensorconv.export.description import describe, parse
from tensorconv.layers import ConvLayer, ConvSequence, as_sequence


def dump(sequence: Any, layout: str | Callable[[ConvLayer], str] = "OI*") -> dict[str, Array]:
    """Return a sequence as a dict of arrays that own their memory.

    Parameters
    ----------
    sequence : ConvSequence, ConvLayer or object with ``.sequence``
        What to write.
    layout : str or callable
        Order of O, I and * in the kernels, as in :meth:`ConvLayer.of`: "OI*" PyTorch, ONNX, JAX; "*IO" Keras, Flax; or
        a function that says it for each layer.

    Returns
    -------
    dict of str to ndarray
        "0.kernel", "1.kernel", ..., the bias of the last layer (as "1.bias"), and "sequence", a 0-d array of JSON text
        with the format's version and, per layer, geometry, data type, layout and name.

    Raises
    ------
    KernelError
        If the layout is not an order of O, I and *.
    """
    text, arrays = describe(as_sequence(sequence), layout)
    owned = {name: array if array.flags.writeable else np.array(array) for name, array in arrays.items()}
    return {"sequence": np.array(text), **owned}


def load(obj: Mapping[str, Array]) -> ConvSequence:
    """Return the sequence of a dict of arrays, the inverse of :func:`dump`.

    Parameters
    ----------
    obj : mapping of str to ndarray
        The arrays and the text under "sequence".

    Returns
    -------
    ConvSequence
        The sequence, bitwise the one that was dumped.

    Raises
    ------
    FormatError
        If an array is missing, of another type or shape, or the text does not describe these arrays.
    """
    if not isinstance(obj, Mapping):
        raise FormatError(f"obj must be a dict of arrays, got {type(obj).__name__}")
    text = obj.get("sequence")
    if not isinstance(text, np.ndarray) or text.shape != () or text.dtype.kind != "U":
        raise FormatError('obj must hold "sequence", a 0-d array of JSON text, as dump(sequence, "numpy") writes it')
    return parse(str(text), {name: array for name, array in obj.items() if name != "sequence"})
