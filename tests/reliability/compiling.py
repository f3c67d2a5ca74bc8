"""Runs the fast convolutions in a fresh process, which compiles them, and says whether the results are right."""

from __future__ import annotations

import sys

import cases
import numpy as np
from oracles import reference_bound, reference_sequence

import tensorconv as tc


def main() -> None:
    """Compare layers of each path with the tests' own convolution."""
    for case in ("unequal 2d", "depthwise 2d", "transposed grouped 2d"):
        layer = cases.layer(case, "float32")
        x = np.random.default_rng(0).standard_normal((2, layer.in_channels, 9, 11)).astype("float32")
        error = np.abs(tc.convolve(x, layer).astype("float64") - reference_sequence(x, layer.sequence))
        if not np.all(error <= 2 * reference_bound(x, layer.sequence, [2.0**-24])):
            sys.stdout.write(f"{case}: wrong by {error.max()}")
            return
    sys.stdout.write("right")


if __name__ == "__main__":
    main()
