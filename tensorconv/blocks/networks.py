"""Whole networks as blocks of blocks, classifier included, as their papers' tables have them."""

from __future__ import annotations

from collections.abc import Iterable

from tensorconv.blocks.block import Block
from tensorconv.blocks.channelwise import (
    convolutional_classifier,
    depthwise_separable_channelwise,
    group_channelwise_module,
    group_module,
)
from tensorconv.blocks.convolutions import Convolution, convolution
from tensorconv.blocks.movement import Pooling
from tensorconv.blocks.residual import resnet_bottleneck
from tensorconv.blocks.separable import mobilenet_v1 as separable
from tensorconv.blocks.shuffle import shufflenet_v1 as shuffle_unit
from tensorconv.blocks.steps import Step
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry

_FIRST_SIX = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2))  # (width, stride)
_HALVES = ConvGeometry.of(2, stride=2, padding=1)


def vgg16(n_classes: int = 1000) -> Block:
    """Describe VGG-16 for inputs of 224x224.

    Thirteen dense 3x3 convolutions with biases in five stages, each ended by a pooling, and three fully connected
    layers, written as convolutions over 7x7 and 1x1 (Simonyan, Zisserman, 2015, table 1, column D).

    Parameters
    ----------
    n_classes : int
        Number of classes.

    Returns
    -------
    Block
        A block "features" and a block "classifier".
    """
    features: list[Step] = []
    channels = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            features.append(convolution(channels, width, 3, bias=True))
            channels = width
        features.append(Pooling(width, (2, 2), ConvGeometry.of(2, stride=2)))
    classifier = (
        Convolution((4096, 512, 7, 7), ConvGeometry.of(2), bias=True),
        convolution(4096, 4096, bias=True),
        convolution(4096, n_classes, bias=True),
    )
    return Block("VGG-16", (Block("features", tuple(features)), Block("classifier", classifier)))


def mobilenet_v1(n_classes: int = 1000) -> Block:
    """Describe MobileNet v1 of width 1.0.

    A dense convolution of stride 2 and thirteen depthwise separable ones (Howard and others, 2017, table 1), a batch
    normalization after each convolution.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    Returns
    -------
    Block
        A stem, blocks, and a classifier.
    """
    rest = ((512, 1),) * 5 + ((1024, 2), (1024, 1))
    steps = (_stem(32), *_separables(32, (*_FIRST_SIX, *rest)), _classifier(1024, n_classes))
    return Block("MobileNet v1", steps)


def resnet50(n_classes: int = 1000) -> Block:
    """Describe ResNet-50 v1.5: strides on the 3x3 convolutions.

    A dense 7x7 convolution of stride 2, a pooling, and sixteen bottlenecks (He, Zhang, Ren, Sun, 2016, table 1), a
    batch normalization after each convolution.

    Parameters
    ----------
    n_classes : int
        Number of classes.

    Returns
    -------
    Block
        A stem, blocks, and a classifier.
    """
    stem = Block("stem", (convolution(3, 64, 7, stride=2, norm=True), Pooling(64, (3, 3), _HALVES)))
    blocks: list[Step] = []
    channels = 64
    for stage, (width, depth) in enumerate(((256, 3), (512, 4), (1024, 6), (2048, 3))):
        for unit in range(depth):
            stride = 2 if stage and not unit else 1
            blocks.append(resnet_bottleneck(channels, width, stride=stride, norm=True))
            channels = width
    return Block("ResNet-50 v1.5", (stem, *blocks, _classifier(channels, n_classes)))


def shufflenet_v1(scale: int = 2, n_classes: int = 1000) -> Block:
    """Describe ShuffleNet with 3 groups, all widths times a scale.

    A dense convolution of stride 2, a pooling, and sixteen units (Zhang, Zhou, Lin, Sun, 2018, table 1), the first
    pointwise convolution of the first unit without groups (section 3.3), a batch normalization after each convolution.

    Parameters
    ----------
    scale : int
        What the widths of "1x", the stem's 24 among them, are multiplied by.
    n_classes : int
        Number of classes.

    Returns
    -------
    Block
        A stem, blocks, and a classifier.
    """
    channels = 24 * scale
    stem = Block("stem", (convolution(3, channels, 3, stride=2, norm=True), Pooling(channels, (3, 3), _HALVES)))
    units: list[Step] = []
    for stage, (width, depth) in enumerate(((240, 4), (480, 8), (960, 4))):
        for unit in range(depth):
            first = 3 if stage or unit else 1
            units.append(
                shuffle_unit(channels, width * scale, 3, stride=1 if unit else 2, first_groups=first, norm=True)
            )
            channels = width * scale
    return Block(f"ShuffleNet v1 {scale}x", (stem, *units, _classifier(channels, n_classes)))


def channelnet(version: int = 1, n_classes: int = 1000) -> Block:
    """Describe ChannelNet-v1, v2 or v3.

    MobileNet v1 with two group channel-wise modules and a group module, of 2 groups and kernels of 8 channels, in the
    place of its layers from 512 to 512 channels: the paper says six of them, one more than MobileNet has (Gao, Wang,
    Ji, 2018, section 3.5). In v2 the last depthwise separable convolution is channel-wise, over 64 channels; in v3 the
    classification layer is convolutional too, over 7x7 positions.

    Parameters
    ----------
    version : {1, 2, 3}
        Which.
    n_classes : int
        Number of classes.

    Returns
    -------
    Block
        A stem, blocks, and a classifier.

    Raises
    ------
    GeometryError
        If there is no such version.
    """
    if version not in (1, 2, 3):
        raise GeometryError(f"version must be 1, 2 or 3, got {version!r}")
    fused, grouped = group_channelwise_module(512, norm=True), group_module(512, norm=True)
    (wide,), (last,) = _separables(512, [(1024, 2)]), _separables(1024, [(1024, 1)])
    if version > 1:
        last = depthwise_separable_channelwise(1024)
    classifier = convolutional_classifier(1024, n_classes) if version > 2 else _classifier(1024, n_classes)
    middle = (*_separables(32, _FIRST_SIX), fused, fused, grouped, wide, last)
    return Block(f"ChannelNet-v{version}", (_stem(32), *middle, classifier))


def _stem(channels: int) -> Block:
    """A dense convolution of stride 2 on an image."""
    return Block("stem", (convolution(3, channels, 3, stride=2, norm=True),))


def _separables(channels: int, plan: Iterable[tuple[int, int]]) -> list[Block]:
    """Depthwise separable convolutions to these widths, at these strides."""
    blocks = []
    for width, stride in plan:
        blocks.append(separable(channels, width, stride=stride, norm=True))
        channels = width
    return blocks


def _classifier(channels: int, n_classes: int) -> Block:
    """Global pooling and a fully connected layer."""
    return Block("classifier", (Pooling.over_all(channels), convolution(channels, n_classes, bias=True)))
