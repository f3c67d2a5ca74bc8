"""The reference convolution: any geometry, any number of axes, and the one convolution that a sequence is."""

from tensorconv.convolution.canonical import comparable
from tensorconv.convolution.compose import compose, compose_parts
from tensorconv.convolution.run import Prepared, convolve, prepare

__all__ = ["Prepared", "comparable", "compose", "compose_parts", "convolve", "prepare"]
