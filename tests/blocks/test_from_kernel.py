"""Kernels factorized into blocks: the sequence has the shapes, geometries and costs of the block."""

from collections.abc import Sequence

import numpy as np
import pytest

import tensorconv as tc
from tensorconv import blocks
from tensorconv.errors import GeometryError, KernelError, KernelTypeError, RankError

RNG = np.random.default_rng
FORMS = {
    "mobilenet_v1": blocks.mobilenet_v1(6, 8),
    "mobilenet_v1, terms and stride": blocks.mobilenet_v1(6, 8, stride=2, terms=3),
    "mobilenet_v1, 1-D": blocks.mobilenet_v1(6, 8, 5, stride=2, ndim=1),
    "mobilenet_v1, 3-D": blocks.mobilenet_v1(4, 4, (1, 3, 3), stride=(1, 2, 1), ndim=3),
    "xception": blocks.xception(6, 8),
    "xception, terms and stride": blocks.xception(6, 8, stride=2, terms=2),
    "xception, depthwise first": blocks.xception(6, 8, stride=2, terms=2, order="depthwise-first"),
    "mobilenet_v2": blocks.mobilenet_v2(6, 6, expansion=2),
    "mobilenet_v2, stride": blocks.mobilenet_v2(6, 8, stride=2, expansion=2),
    "mobilenet_v2, t = 1": blocks.mobilenet_v2(6, 6, expansion=1),
    "mobilenet_v2, 1-D": blocks.mobilenet_v2(6, 6, expansion=2, ndim=1),
    "resnet_bottleneck": blocks.resnet_bottleneck(8, 8, 4),
    "resnet_bottleneck, stride": blocks.resnet_bottleneck(6, 8, 3, stride=2),
    "resnet_bottleneck, 3-D": blocks.resnet_bottleneck(4, 4, 2, 2, ndim=3),
}


def linear_steps(block: blocks.Block) -> Sequence[blocks.Step]:
    """The convolutions of the block, or of its branch beside the shortcut."""
    (first, *others) = block.steps
    return first.branches[0] if isinstance(first, blocks.Branches) else (first, *others)


def layer_of(block: blocks.Block, bias: bool = False) -> tc.ConvLayer:
    (dense,) = block.dense
    kernel = RNG(0).standard_normal(dense.shape)
    return tc.ConvLayer(kernel, dense.geometry, RNG(1).standard_normal(dense.shape[0]) if bias else None)


@pytest.mark.parametrize("name", FORMS)
def test_the_sequence_is_the_linear_part_of_the_block(name: str) -> None:
    block = FORMS[name]
    f = block.from_kernel(layer_of(block))
    steps = linear_steps(block)
    assert [(step.shape, step.geometry) for step in steps] == f.sequence.chain
    size = (6,) * block.ndim
    part = blocks.Block("part", tuple(steps))
    assert (part.n_parameters, part.macs(size)) == (f.sequence.n_parameters, f.sequence.macs(size))
    assert part.output_size(size) == f.sequence.output_size(size) == f.layer.output_size(size)
    assert part.bytes_moved(size, 8) == tc.cost.chain_cost(f.sequence.chain, "bytes", size, itemsize=8)
    assert 0 < f.relative_error < 1


@pytest.mark.parametrize("name", FORMS)
def test_a_kernel_alone_gets_the_geometry_of_the_block(name: str) -> None:
    block = FORMS[name]
    layer = layer_of(block)
    by_layer, by_kernel = block.from_kernel(layer), block.from_kernel(layer.kernel)
    assert by_kernel.layer.geometry == layer.geometry
    assert np.array_equal(by_layer.kernel, by_kernel.kernel)


def test_a_block_without_shortcut_has_the_counts_of_the_sequence() -> None:
    for name in ("mobilenet_v1", "xception, terms and stride", "mobilenet_v2, stride"):
        block = FORMS[name]
        sequence = block.from_kernel(layer_of(block)).sequence
        assert (block.n_parameters, block.macs(14)) == (sequence.n_parameters, sequence.macs(14))


def test_an_identity_shortcut_costs_nothing() -> None:
    block = FORMS["resnet_bottleneck"]
    sequence = block.from_kernel(layer_of(block)).sequence
    assert (block.n_parameters, block.macs(14)) == (sequence.n_parameters, sequence.macs(14))
    projected = FORMS["resnet_bottleneck, stride"]
    sequence = projected.from_kernel(layer_of(projected)).sequence
    assert projected.n_parameters - sequence.n_parameters == 6 * 8


def test_the_bias_is_the_layers() -> None:
    block = FORMS["xception"]
    layer = layer_of(block, bias=True)
    assert np.array_equal(block.from_kernel(layer).sequence.bias, layer.bias)


def test_statistics_are_handed_on() -> None:
    block = FORMS["mobilenet_v1"]
    layer = layer_of(block, bias=True)
    statistics = tc.PatchStatistics(layer)
    statistics.update(RNG(2).standard_normal((2, 6, 12, 12)))
    assert block.from_kernel(layer, statistics=statistics).response_error is not None


def test_what_is_no_factorization_is_refused() -> None:
    for block in (
        blocks.dense(6, 8),
        blocks.shufflenet_v1(12, 12),
        blocks.resnet_basic(6, 6),
        blocks.effnet(6, 8),
        blocks.depthwise_separable_channelwise(6, 3),
        blocks.networks.mobilenet_v1(),
    ):
        with pytest.raises(GeometryError, match="is no factorization of one kernel"):
            block.from_kernel(np.ones((8, 6, 3, 3)))


def test_layers_of_another_shape_or_geometry_are_refused() -> None:
    block = FORMS["mobilenet_v1"]
    with pytest.raises(KernelError, match=r"shape \(8, 6, 3, 3\) of the layer .* got \(6, 8, 3, 3\)"):
        block.from_kernel(np.ones((6, 8, 3, 3)))
    kernel = RNG(0).standard_normal((8, 6, 3, 3))
    for options in ({}, {"padding": 1, "stride": 2}, {"padding": 2, "dilation": 2}, {"padding": 1, "transposed": True}):
        with pytest.raises(GeometryError, match="must have the geometry of the one that block 'MobileNet v1'"):
            block.from_kernel(tc.ConvLayer.of(kernel, **options))
    with pytest.raises(KernelTypeError, match="layer must be a ConvLayer"):
        block.from_kernel(block.from_kernel(kernel))


def test_widths_that_are_no_ranks_are_refused() -> None:
    with pytest.raises(RankError, match="rank"):
        blocks.mobilenet_v1(6, 8, terms=9).from_kernel(np.ones((8, 6, 3, 3)))
