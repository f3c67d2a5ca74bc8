"""How near trained matrices of channels are to channel-wise convolutions, in the best order of channels found.

Run ``python tests/benchmarks/channelwise.py KERNELS [--perturbations 4] [--write docs/channelwise.md]``. KERNELS is a
folder of .npz files with an array ``weight`` each, and an ``index.json`` with their geometry.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import common
import error_costs
import numpy as np

import tensorconv as tc

HEAD = """# How near trained kernels are to channel-wise convolutions

A channel-wise convolution of J kernels of D channels has J D parameters, and D multiply-accumulates per output,
whatever the number of channels. `tc.channelwise` finds the nearest one to a matrix of channels, and orders of the in-
and out-channels in which it is near. The matrices are trained pointwise kernels, and the pointwise part of
`depthwise_separable` with one term of square trained kernels. Errors are relative Frobenius errors: in the order that
the channels have, in the orders found, of a Gaussian matrix of the same size in the orders found, and of an SVD of at
most as many MACs. `python tests/benchmarks/channelwise.py KERNELS --write docs/channelwise.md` makes the page.
"""
NOTES = """
A layer that *is* channel-wise up to the order of its channels is recovered without error, which the tests do for up to
256 channels. Trained layers are not: they are hardly nearer than random ones. The form saves parameters in a network
that is trained with it; to replace a trained layer, take an SVD.
"""


def matrices(kernels: dict[str, tc.ConvLayer]) -> Iterator[tuple[str, tc.ConvLayer]]:
    """Yield pointwise layers, and the pointwise parts of square ones, under their names."""
    for name, layer in kernels.items():
        if math.prod(layer.kernel_size) == 1 and layer.geometry.groups == 1:
            yield name, layer
        elif layer.ndim == 2 and layer.kernel.shape[0] == layer.kernel.shape[1] >= 16 and not layer.geometry.transposed:
            _, pointwise = tc.depthwise_separable(layer, 1).sequence
            yield f"{name}, its pointwise part", pointwise


def settings(layer: tc.ConvLayer) -> list[tuple[int, int]]:
    """Return groups J and lengths D: two short, two longer; the stride along the channels must be whole."""
    square = layer.in_channels == layer.out_channels
    pairs = [(1, 16), (2, 16)] if square else [(2, 16), (8, 64)]
    return [(j, d) for j, d in pairs if (j * layer.in_channels) % layer.out_channels == 0] or [(8, 64)]


def svd_error(layer: tc.ConvLayer, macs: int) -> str:
    """Return the error of the largest SVD with at most so many MACs per position."""
    rank = macs // (layer.in_channels + layer.out_channels)
    return f"{tc.svd(layer, rank).relative_error:.3f}" if rank else "-"


def main(arguments: Sequence[str] | None = None) -> str:
    """Fit every matrix and return the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", type=Path)
    parser.add_argument("--perturbations", type=int, default=4)
    parser.add_argument("--entries", type=int, default=200_000, help="largest kernel to take")
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args(arguments)
    rows = []
    for name, layer in matrices(error_costs.layers(chosen.kernels, chosen.entries)):
        normal = np.random.default_rng(0).standard_normal(layer.kernel.shape).astype("float32")
        for groups, length in settings(layer):
            options = {"groups": groups, "n_perturbations": chosen.perturbations}
            found = tc.channelwise(layer, length, **options)
            plain = tc.channelwise(layer, length, groups=groups, permute=False)
            random = tc.channelwise(tc.ConvLayer(normal, layer.geometry), length, **options)
            macs = found.convolution.stored.products
            share = macs / (layer.in_channels * layer.out_channels)
            errors = [f"{fit.relative_error:.3f}" for fit in (plain, found, random)]
            cells = [f"{groups}, {length}", f"{groups * length}", f"{share:.1%}", *errors, svd_error(layer, macs)]
            rows.append([f"{name}, {layer.out_channels}x{layer.in_channels}", *cells])
    head = ["matrix", "J, D", "parameters", "MACs", "as it is", "ordered", "Gaussian, ordered", "SVD"]
    text = f"{HEAD}\n{common.table(head, rows)}\n{NOTES}"
    if chosen.write:
        common.write(chosen.write, text)
    return text


if __name__ == "__main__":
    print(main())  # noqa: T201 - a program that prints its result
