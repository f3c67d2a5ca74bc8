"""The narrow waist of the library: layers and sequences of them, which factorizations make and all else reads."""

from tensorconv.layers.layer import ConvLayer, as_layer
from tensorconv.layers.layouts import from_layout, swap_channels, to_layout
from tensorconv.layers.pad import PadLayer
from tensorconv.layers.sequence import ConvSequence, as_sequence

__all__ = [
    "ConvLayer",
    "ConvSequence",
    "PadLayer",
    "as_layer",
    "as_sequence",
    "from_layout",
    "swap_channels",
    "to_layout",
]
