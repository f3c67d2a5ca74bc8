"""Tests of kernels whose entries are not all stored: checked, counted, executed as shifts and sums, kept in files."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export.sequences import assert_same

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import FormatError, KernelError, RankError

GEOMETRY = tc.ConvGeometry.of(2, padding=1)


def kernel(entries: str) -> Array:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((4, 3, 3, 3)) * (rng.random((4, 3, 3, 3)) < 0.2)
    scales = np.array([0.5, 2.0, 0.0, 3.0]).reshape(4, 1, 1, 1)
    return {"dense": values, "sparse": values, "binary": scales * np.sign(values), "fixed": (values != 0) * 1.0}[
        entries
    ]


@pytest.mark.parametrize("entries", ["dense", "sparse", "binary", "fixed"])
def test_parameters_products_and_additions(entries: str) -> None:
    layer = tc.ConvLayer(kernel(entries), GEOMETRY, np.ones(4), entries=entries)
    others = np.count_nonzero(layer.kernel)
    parameters, products, additions = {
        "dense": (108, 108, 0),
        "sparse": (others, others, 0),
        "binary": (4, 4, others),
        "fixed": (0, 0, others),
    }[entries]
    assert layer.n_parameters == parameters + 4
    assert layer.macs((5, 6)) == products * 30
    assert layer.additions((5, 6)) == layer.sequence.additions((5, 6)) == additions * 30
    assert layer.sequence.macs((5, 6)) == layer.macs((5, 6))
    assert tc.cost.chain_cost(layer.chain, "parameters", n_bias=4) == layer.n_parameters
    assert str(layer).endswith("padding 1, bias" if entries == "dense" else f"padding 1, {entries}, bias")


def test_a_transposed_layer_adds_at_the_positions_of_its_input() -> None:
    layer = tc.ConvLayer(np.ones((2, 1, 3)), tc.ConvGeometry.of(1, stride=2, transposed=True), entries="fixed")
    assert (layer.macs(5), layer.additions(5)) == (0, 6 * 5)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("entries", ["sparse", "binary", "fixed"])
def test_it_computes_what_the_dense_kernel_does(entries: str, transposed: bool) -> None:
    layer = tc.ConvLayer(kernel(entries), replace(GEOMETRY, transposed=transposed), entries=entries)
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 5))
    # leaving out products with zero changes no sum
    np.testing.assert_array_equal(tc.convolve(x, layer), tc.convolve(x, replace(layer, entries="dense")))


@pytest.mark.parametrize(
    ("entries", "values", "message"),
    [
        ("ternary", [0.0, 1.0], "entries must be one of dense, sparse, binary, fixed, got 'ternary'"),
        ("fixed", [0.0, 0.5], 'entries="fixed" is for kernels of zeros and ones'),
        ("fixed", [0.0, -1.0], 'entries="fixed" is for kernels of zeros and ones'),
        ("binary", [1.0, 0.5], 'entries="binary" is for kernels whose out-channels have one magnitude each'),
    ],
)
def test_a_kernel_of_another_kind_is_refused(entries: str, values: list[float], message: str) -> None:
    with pytest.raises(KernelError, match=message):
        tc.ConvLayer(np.array([[values]]), tc.ConvGeometry.of(1), entries=entries)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_keep_the_kind(tmp_path: Path, suffix: str) -> None:
    sequence = tc.ConvSequence([tc.ConvLayer(kernel("binary"), GEOMETRY, entries="binary")])
    tc.save(tmp_path / f"s{suffix}", sequence)
    loaded = tc.load(tmp_path / f"s{suffix}")
    assert_same(loaded, sequence)
    assert loaded.convolutions[0].entries == "binary"
    assert copy.deepcopy(sequence.layers[0]).entries == "binary"  # type: ignore[union-attr]
    arrays = tc.export.dump(sequence, "numpy")
    arrays["sequence"] = np.array(str(arrays["sequence"]).replace('"binary"', '"fixed"'))
    with pytest.raises(FormatError, match='entries="fixed" is for kernels of zeros and ones'):
        tc.export.load(arrays, "numpy")


def test_a_layer_that_costs_nothing_is_compared_and_not_compressed() -> None:
    fixed = tc.ConvLayer(np.ones((2, 2, 3)), tc.ConvGeometry.of(1), entries="fixed")
    assert "0 -> 0" in str(tc.verify(fixed, fixed))
    assert "of the layer's 0 parameters" in str(tc.svd(fixed, 1))
    with pytest.raises(RankError, match=r"the layer costs no macs as it is \(.*fixed\); there is nothing to save"):
        tc.factorize(fixed, error=0.1)
    with pytest.raises(RankError, match="rank 1 already costs inf of the dense layer"):
        tc.svd(fixed, budget=0.5)
