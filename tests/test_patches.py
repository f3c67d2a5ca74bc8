"""Tests of patches: the kernel times the patches is the convolution, for every geometry, whole and in tiles."""

from __future__ import annotations

import itertools
import math

import cases
import numpy as np
import pytest
from oracles import reference_bound

import tensorconv as tc
from tensorconv import patches as module
from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import GeometryError, KernelError, KernelTypeError
from tensorconv.patches import chunks, patches, tiles


def data(layer: tc.ConvLayer, n_images: int = 3, seed: int = 0) -> Array:
    shape = (n_images, layer.in_channels, *cases.input_size(layer))
    return np.random.default_rng(seed).standard_normal(shape)


def by_definition(x: Array, layer: tc.ConvLayer) -> Array:
    """Look every entry up: tap k at position p sees s p + d k - low, or (p + low - d k) / s where transposed."""
    g, size = layer.geometry, layer.output_size(x.shape[2:])
    per_group = layer.kernel.shape[1]
    found = np.zeros((g.groups, per_group, *layer.kernel_size, len(x), *size))
    for tap in np.ndindex(*layer.kernel_size):
        for place in np.ndindex(*size):
            at = []
            for p, k, s, d, (low, _), n in zip(place, tap, g.stride, g.dilation, g.padding, x.shape[2:], strict=True):
                number, rest = divmod(p + low - d * k, s) if g.transposed else (s * p + d * k - low, 0)
                at += [number] if rest == 0 and 0 <= number < n else []
            if len(at) == len(tap):
                seen = x[(slice(None), slice(None), *at)].reshape(len(x), g.groups, per_group)
                found[(slice(None), slice(None), *tap, slice(None), *place)] = np.moveaxis(seen, 0, 2)
    return found.reshape(g.groups, layer.kernel[0].size, -1)


@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_the_kernel_times_the_patches_is_the_convolution(case: str) -> None:
    one = cases.layer(case)
    layer = tc.ConvLayer(one.kernel, one.geometry)
    x = data(layer)
    expected = tc.convolve(x, layer)
    n_groups = layer.geometry.groups
    product = layer.kernel.reshape(n_groups, -1, layer.kernel[0].size) @ patches(x, layer)
    y = np.moveaxis(product.reshape(layer.out_channels, len(x), *expected.shape[2:]), 0, 1)
    assert np.all(np.abs(y - expected) <= reference_bound(x, layer.sequence, (2.0**-53, 2.0**-53)))


@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_every_entry_is_the_one_of_the_definition(case: str) -> None:
    layer = cases.layer(case)
    x = data(layer, n_images=2)
    np.testing.assert_array_equal(patches(x, layer), by_definition(x, layer))


def test_an_axis_longer_than_the_input_and_taps_that_only_see_padding() -> None:
    layer = tc.ConvLayer.of(np.ones((1, 1, 3)), padding=5, dilation=4)
    found = patches(np.array([[[7.0]]]), layer)
    assert found.shape == (1, 3, 3)
    np.testing.assert_array_equal(found, by_definition(np.array([[[7.0]]]), layer))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_entries_are_those_of_any_type_in_float64(dtype: str) -> None:
    layer = cases.layer("unequal 2d")
    x = data(layer).astype(named_dtype(dtype))
    found = patches(x, layer)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, patches(x.astype(np.float64), layer))


def test_strides_of_the_data_do_not_matter() -> None:
    layer = cases.layer("grouped 2d")
    x = data(layer)
    for view in (np.asfortranarray(x), np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1), x[::-1].copy()[::-1]):
        np.testing.assert_array_equal(patches(view, layer), patches(x, layer))


def test_an_array_is_a_layer_of_stride_one() -> None:
    kernel = np.ones((2, 3, 2, 2))
    x = np.arange(48.0).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(patches(x, kernel), patches(x, tc.ConvLayer.of(kernel)))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 1, 6), (2, 3, 4, 5)])
def test_tiles_hold_every_element_once(shape: tuple[int, ...]) -> None:
    for most in range(1, math.prod(shape) + 2):
        found = np.zeros(shape, int)
        volumes = []
        for tile in tiles(shape, most):
            found[tile] += 1
            volumes.append(math.prod(part.stop - part.start for part in tile))
        assert found.min() == found.max() == 1
        assert volumes[0] == max(volumes) <= most


@pytest.mark.parametrize("case", cases.GEOMETRIES)
def test_chunks_of_any_size_hold_the_patches_and_targets(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = cases.layer(case)
    x = data(layer)
    target = tc.convolve(x, layer)
    whole = patches(x, layer)
    n_groups = layer.geometry.groups
    wanted = np.moveaxis(target, 1, 0).reshape(n_groups, -1, whole.shape[2])
    whole = np.concatenate([whole, wanted], axis=1)
    for positions in (1, 2, 7, 50):
        for name in ("_CHUNK_BYTES", "_MOST_BYTES"):
            monkeypatch.setattr(module, name, 8 * whole.shape[1] * positions)
        parts: dict[int, list[Array]] = {g: [] for g in range(n_groups)}
        for groups, columns in chunks(x, target, layer):
            assert (columns.shape[2] - 1) * len(columns) <= positions
            for g, part in zip(range(n_groups)[groups], columns[:, :, :-1].copy(), strict=True):
                parts[g].append(part)
        for g, found in parts.items():  # tiles come in their own order: compare as sets of columns
            one, other = np.concatenate(found, axis=1), whole[g]
            np.testing.assert_array_equal(one[:, np.lexsort(one)], other[:, np.lexsort(other)])


def test_one_group_and_image_at_a_time_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1)
    layer = tc.ConvLayer.of(np.ones((2, 1, 2)), groups=2)
    x = np.arange(12.0).reshape(2, 2, 3)
    found = [(groups.start, *columns[0, :, 0]) for groups, columns in chunks(x, None, layer)]
    expected = [(g, x[b, g, p], x[b, g, p + 1]) for g, b, p in itertools.product(range(2), range(2), range(2))]
    assert found == expected


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.ones((2, 5, 6)), KernelError, "add a batch axis"),
        (np.ones((2, 4, 6, 6)), KernelError, "5 channels of the layer"),
        (np.ones((0, 5, 6, 6)), KernelError, "not be empty"),
        (np.ones((2, 5, 6, 6), int), KernelTypeError, "floating-point"),
        (np.full((2, 5, 6, 6), np.nan), KernelError, "NaN or inf"),
        (np.full((2, 5, 6, 6), np.inf, "float32"), KernelError, "NaN or inf"),
        (np.ones((2, 5, 1, 6)), GeometryError, "no output on axis 0"),
    ],
)
def test_refusals(x: Array, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        patches(x, np.ones((7, 5, 3, 3)))
