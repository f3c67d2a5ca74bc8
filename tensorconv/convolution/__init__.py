"""The reference convolution: any geometry, any number of axes, and the one convolution that a sequence is."""

from tensorconv.convolution.canonical import comparable
from tensorconv.convolution.compose import Part, compose, compose_parts
from tensorconv.convolution.pad import pad_by_values
from tensorconv.convolution.run import Prepared, as_data, convolve, prepare

__all__ = [
    "Part",
    "Prepared",
    "as_data",
    "comparable",
    "compose",
    "compose_parts",
    "convolve",
    "pad_by_values",
    "prepare",
]
