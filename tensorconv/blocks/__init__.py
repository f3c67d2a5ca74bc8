"""Blocks of well-known networks as descriptions: their steps, channels, sizes and costs, without any array."""

from tensorconv.blocks import networks
from tensorconv.blocks.block import Block, Form
from tensorconv.blocks.branches import Branches
from tensorconv.blocks.channelwise import (
    channelwise,
    convolutional_classifier,
    depthwise_separable_channelwise,
    group_channelwise_module,
    group_module,
)
from tensorconv.blocks.convolutions import ChannelConvolution, Convolution, convolution
from tensorconv.blocks.movement import ChannelShuffle, Pooling
from tensorconv.blocks.residual import mobilenet_v2, resnet_basic, resnet_bottleneck
from tensorconv.blocks.separable import dense, effnet, mobilenet_v1, xception
from tensorconv.blocks.shuffle import shufflenet_v1, shufflenet_v2
from tensorconv.blocks.steps import Step

__all__ = [
    "Block",
    "Branches",
    "ChannelConvolution",
    "ChannelShuffle",
    "Convolution",
    "Form",
    "Pooling",
    "Step",
    "channelwise",
    "convolution",
    "convolutional_classifier",
    "dense",
    "depthwise_separable_channelwise",
    "effnet",
    "group_channelwise_module",
    "group_module",
    "mobilenet_v1",
    "mobilenet_v2",
    "networks",
    "resnet_basic",
    "resnet_bottleneck",
    "shufflenet_v1",
    "shufflenet_v2",
    "xception",
]
