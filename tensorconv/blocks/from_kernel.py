"""from_kernel: a dense layer factorized into the linear part of a block."""

from __future__ import annotations

from typing import Any

from tensorconv.blocks.block import Block
from tensorconv.blocks.convolutions import Convolution
from tensorconv.errors import GeometryError, KernelError
from tensorconv.factorizations import Factorization, methods
from tensorconv.layers import ConvLayer, as_layer


def factorized(block: Block, kernel: Any, statistics: Any = None) -> Factorization:
    """Return the factorization of a dense layer that has the widths of a block.

    Parameters
    ----------
    block : Block
        A block whose linear part is a factorization.
    kernel : ConvLayer or array_like, shape (O, I, K1..KN)
        The layer, or its kernel alone.
    statistics : PatchStatistics, optional
        Of data whose responses are to be kept.

    Returns
    -------
    Factorization
        By the block's method, at the block's ranks.

    Raises
    ------
    GeometryError
        If the block is no factorization of one kernel, or the layer has another geometry than its dense layer.
    KernelError
        If the kernel has another shape.
    """
    if block.form is None or len(block.dense) != 1 or not isinstance(block.dense[0], Convolution):
        raise GeometryError(
            f"block {block.name!r} is no factorization of one kernel; a depthwise separable, an inverted residual and "
            "a bottleneck block are, and tc.factorize gives the cheapest sequence of any kind"
        )
    dense = block.dense[0]
    layer = as_layer(kernel)
    if layer.kernel.shape != dense.shape:
        raise KernelError(
            f"kernel must have the shape {dense.shape} of the layer that block {block.name!r} stands for, got "
            f"{layer.kernel.shape}; describe the block with these channels and taps"
        )
    if layer is not kernel:
        layer = ConvLayer(layer.kernel, dense.geometry)
    if layer.geometry != dense.geometry:
        raise GeometryError(
            f"the layer must have the geometry of the one that block {block.name!r} stands for, {dense.geometry}, got "
            f"{layer.geometry}; describe the block with this stride, or factorize by tc.{block.form.method}"
        )
    method, options = methods()[block.form.method], dict(block.form.options)
    found: Factorization = method(layer, block.form.rank, **options, statistics=statistics)
    return found
