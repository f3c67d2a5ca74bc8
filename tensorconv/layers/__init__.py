"""The narrow waist of the library: layers and sequences of them, which factorizations make and all else reads."""

from tensorconv.layers.accepted import as_layer, as_sequence
from tensorconv.layers.channelwise import ChannelwiseLayer
from tensorconv.layers.layer import ConvLayer
from tensorconv.layers.layouts import from_layout, merge_groups, spread_taps, swap_channels, to_layout
from tensorconv.layers.pad import PadLayer
from tensorconv.layers.permute import PermuteLayer
from tensorconv.layers.sequence import ConvSequence, Step

__all__ = [
    "ChannelwiseLayer",
    "ConvLayer",
    "ConvSequence",
    "PadLayer",
    "PermuteLayer",
    "Step",
    "as_layer",
    "as_sequence",
    "from_layout",
    "merge_groups",
    "spread_taps",
    "swap_channels",
    "to_layout",
]
