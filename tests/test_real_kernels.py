"""Every method on trained kernels of published networks, under their real geometry."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.factorizations import registered

LARGEST = 100_000  # entries; the larger ones add seconds, not cases
LARGEST_SEARCHED = 10_000


def padding(entry: dict[str, Any]) -> Any:
    """Return the padding of an entry, which says some of it in words."""
    given = entry["padding"]
    if isinstance(given, list):
        return given
    if numbers := re.fullmatch(r"asym\[(\d+), (\d+)\]", given):
        return [tuple(int(number) for number in numbers.groups())]
    if entry["transposed"]:  # TensorFlow's SAME drops what is beyond stride times input, at the high end
        return [(0, max(k - s, 0)) for k, s in zip(entry["shape"][2:], entry["stride"], strict=True)]
    size = [8 * s for s in entry["stride"]]
    return tc.ConvGeometry.same(entry["shape"][2:], input_size=size, stride=entry["stride"]).padding


def trained_layers(folder: Path) -> list[tc.ConvLayer]:
    """Return the layers of the folder, by falling size."""
    found = []
    for entry in json.loads((folder / "index.json").read_text(encoding="utf-8")):
        with np.load(folder / entry["file"]) as arrays:
            kernel = arrays["weight"]
        found.append(
            tc.ConvLayer.of(
                kernel,
                stride=entry["stride"],
                padding=padding(entry),
                dilation=entry["dilation"],
                groups=entry["groups"],
                transposed=entry["transposed"],
                layout=entry["layout"][:2] + "*",
                name=entry["name"],
            )
        )
    return sorted(found, key=lambda layer: -layer.kernel.size)


@pytest.fixture(scope="module")
def layers(trained_kernels: Path) -> list[tc.ConvLayer]:
    return trained_layers(trained_kernels)


def check(layer: tc.ConvLayer, method: str, error: float) -> None:
    """Factorize to an error and check all laws that concern one result."""
    f = contracts.check_meets_error(layer, method, {}, error)
    contracts.check_composition(layer, f)
    contracts.check_error(layer, f)
    contracts.check_types(layer, f)
    contracts.check_verified(layer, f)


def check_all(layers: list[tc.ConvLayer], method: str, error: float, largest: int) -> None:
    chosen = [layer for layer in layers if layer.kernel.size <= largest and registered()[method].variants(layer)]
    assert chosen
    for layer in chosen:
        try:
            check(layer, method, error)
        except AssertionError as broken:
            raise AssertionError(f"{method} of {layer.name}") from broken


@pytest.mark.parametrize("method", [name for name, method in registered().items() if not method.searches])
def test_an_error_of_a_fifth_is_met(method: str, layers: list[tc.ConvLayer]) -> None:
    check_all(layers, method, 0.2, LARGEST)


@pytest.mark.parametrize("method", [name for name, method in registered().items() if method.searches])
def test_an_error_of_a_half_is_met_by_searching(method: str, layers: list[tc.ConvLayer]) -> None:
    check_all(layers, method, 0.5, LARGEST_SEARCHED)


def test_no_input_is_amplified_beyond_the_bound(layers: list[tc.ConvLayer]) -> None:
    for layer in layers:
        if layer.kernel.size <= LARGEST_SEARCHED:
            size = tuple(n + 6 for n in cases.input_size(layer))
            for method in ("svd", "depthwise_separable"):
                contracts.check_operator_bound(layer, contracts.check_meets_error(layer, method, {}, 0.2), size)


def test_the_geometry_is_read_as_it_is(layers: list[tc.ConvLayer]) -> None:
    by_name = {layer.name: layer for layer in layers}
    same = by_name["efflite0_stem_32x3_3x3_s2"]
    assert same.output_size((224, 224)) == (112, 112)
    assert same.geometry.padding == ((0, 1), (0, 1))
    upsampling = by_name["deepbrain_deconv1_32x16_3x3x3_s2"]
    assert (upsampling.in_channels, upsampling.output_size((4, 5, 6))) == (32, (8, 10, 12))
    assert by_name["crepe_tiny_conv2_16x128_k64_1d"].output_size((32,)) == (32,)
    assert by_name["efflite0_dw672_5x5"].geometry.groups == by_name["efflite0_dw672_5x5"].in_channels == 672
