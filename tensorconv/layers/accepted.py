"""What callers may hand in: a layer or a plain array, a sequence or what has one."""

from __future__ import annotations

from typing import Any

from tensorconv.errors import KernelTypeError
from tensorconv.layers.layer import ConvLayer
from tensorconv.layers.sequence import ConvSequence


def as_sequence(value: Any) -> ConvSequence:
    """Return the sequence that a layer, a sequence, or anything with ``.sequence`` means.

    Parameters
    ----------
    value : ConvLayer, ConvSequence or object with ``.sequence``
        What to execute, check or export.

    Returns
    -------
    ConvSequence
        The sequence.

    Raises
    ------
    KernelTypeError
        If it is none of these.
    """
    sequence = getattr(value, "sequence", None)
    if not isinstance(sequence, ConvSequence):
        raise KernelTypeError(
            f"sequence must be a ConvLayer, a ConvSequence or have .sequence, got {type(value).__name__}; "
            "a plain array becomes a layer by ConvLayer.of(array, stride=..., padding=...)"
        )
    return sequence


def as_layer(value: Any) -> ConvLayer:
    """Return the layer itself, or a layer of stride 1 without padding from a plain (O, I, K1..KN) array.

    Parameters
    ----------
    value : ConvLayer or array_like
        What to factorize.

    Returns
    -------
    ConvLayer
        The layer.

    Raises
    ------
    KernelTypeError
        If it is a sequence or a factorization, or cannot be read as an array of floats.
    """
    if hasattr(value, "sequence") and not isinstance(value, ConvLayer):
        raise KernelTypeError(
            f"layer must be a ConvLayer or an array, got {type(value).__name__}; the layer comes first, then what is "
            "to replace it; one layer of a sequence is sequence.layers[0]"
        )
    return value if isinstance(value, ConvLayer) else ConvLayer.of(value)
