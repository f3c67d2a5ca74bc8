"""Parameters, multiply-accumulates and bytes moved, from shapes and geometry alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.integers import PerAxis, integers

Shape = tuple[int, ...]


class Stored(NamedTuple):
    """What a kernel whose entries are not all stored, or stand for several, costs.

    Parameters
    ----------
    parameters : int
        Stored entries.
    products : int
        Multiply-accumulates per position.
    additions : int
        Additions per position that follow no product.
    """

    parameters: int
    products: int
    additions: int = 0


Chain = Sequence[tuple[Shape, ConvGeometry] | tuple[Shape, ConvGeometry, Stored]]
MEASURES = ("macs", "parameters", "bytes")
IN_WORDS = {"macs": "MACs", "parameters": "parameters", "bytes": "bytes moved"}


def chain_output_size(chain: Chain, input_size: PerAxis) -> Shape:
    """Return the spatial size after the whole chain.

    Parameters
    ----------
    chain : sequence of (shape, geometry) or (shape, geometry, Stored)
        The convolutions in order; without the third, all entries are stored and multiplied.
    input_size : int or sequence of int
        Spatial size of the input.

    Returns
    -------
    tuple of int
        Spatial size of the output.
    """
    size = chain[0][1].spatial_size(input_size) if chain else integers("input_size", input_size, at_least=1)
    for shape, geometry, *_ in chain:
        size = geometry.output_size(size, shape[2:])
    return size


def chain_cost(
    chain: Chain, of: str, input_size: PerAxis | None = None, *, n_bias: int = 0, itemsize: int = 4
) -> Fraction:
    """Return what a chain of convolutions costs.

    Parameters
    ----------
    chain : sequence of (shape, geometry) or (shape, geometry, Stored)
        The convolutions in order; without the third, all entries are stored and multiplied.
    of : {"macs", "parameters", "bytes"}
        Multiply-accumulates per image, stored entries, or bytes moved per image (every layer reads its input and its
        parameters once and writes its output once).
    input_size : int or sequence of int, optional
        Spatial size of the input. Without it, "macs" and "bytes" are per input position in the limit of large inputs,
        where borders and parameters do not count.
    n_bias : int
        Entries of the last layer's bias.
    itemsize : int
        Bytes per entry.

    Returns
    -------
    Fraction
        The exact cost.

    Raises
    ------
    GeometryError
        If ``of`` is not one of the three measures.
    """
    if of not in MEASURES:
        raise GeometryError(f"of must be one of {MEASURES}, got {of!r}")
    counts = [step[2] if len(step) == 3 else Stored(math.prod(step[0]), math.prod(step[0])) for step in chain]
    n_parameters = sum(count.parameters for count in counts) + n_bias
    if of == "parameters":
        return Fraction(n_parameters)
    total: int | Fraction = 0
    size = None if input_size is None or not chain else chain[0][1].spatial_size(input_size)
    positions: int | Fraction = 1 if size is None else math.prod(size)
    for (shape, geometry, *_), count in zip(chain, counts, strict=True):
        before = positions
        if size is None:
            ratio = math.prod(geometry.stride)
            if ratio > 1:  # whole numbers stay such, since these sums are looked at thousands of times
                positions = before * ratio if geometry.transposed else Fraction(before) / ratio
        else:
            size = _output_size(geometry, size, tuple(shape[2:]))
            positions = math.prod(size)
        if of == "macs":
            total += count.products * (before if geometry.transposed else positions)
        else:
            total += itemsize * (shape[1] * geometry.groups * before + shape[0] * positions)
    if of == "bytes" and input_size is not None:
        total += itemsize * n_parameters
    return Fraction(total)


@lru_cache(maxsize=4096)  # searches for ranks ask thousands of times for few sizes
def _output_size(geometry: ConvGeometry, size: tuple[int, ...], kernel_size: tuple[int, ...]) -> tuple[int, ...]:
    return geometry.output_size(size, kernel_size)


def layer_fan_in(step: tuple[Shape, ConvGeometry]) -> Fraction:
    """Return how many entries of its input an output entry of a layer sums over.

    A convolution sums over all ``I K`` entries of a row of its kernel. A transposed one brings K taps to every s
    positions of its output: ``K / s`` per axis, on average over the positions.

    Parameters
    ----------
    step : (tuple of int, ConvGeometry)
        Kernel shape (O, I, K1..KN) and geometry of the layer.

    Returns
    -------
    Fraction
        The mean number over the positions away from borders.
    """
    shape, geometry = step
    return Fraction(math.prod(shape[1:]), math.prod(geometry.stride) if geometry.transposed else 1)
