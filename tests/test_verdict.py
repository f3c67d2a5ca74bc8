"""Report and what verify must not claim: tables, JSON, and sequences that are nearly, or elsewhere, the layer."""

import json
import math

import numpy as np
import pytest

import tensorconv as tc

KERNEL = np.random.default_rng(0).standard_normal((4, 3, 3, 3))


def test_one_layer_is_exact_only_entry_by_entry() -> None:
    kernel = np.ones((2, 2, 3), "f4")
    kernel[0, 0, 0] = 1e16  # beside it, an entry of 40 instead of 1 is less than a rounding of the norm
    other = kernel.copy()
    other[1] = 40
    assert not tc.verify(kernel, tc.ConvLayer.of(other)).exact
    assert tc.verify(kernel, tc.ConvLayer.of(kernel)).exact


def test_a_float64_entry_off_by_thousands_of_roundings_is_seen_in_a_factorization() -> None:
    kernel = np.random.default_rng(1).standard_normal((64, 64, 3, 3))
    f = tc.svd(kernel, rank=64)
    assert tc.verify(kernel, f).exact
    other = kernel.copy()
    other[0, 0, 0, 0] += 2e-12  # 8 u times the norm of 192 is 1.7e-13
    assert not tc.verify(other, f).exact


def test_a_wrong_padding_is_named_and_its_kernel_error_is_not() -> None:
    report = tc.verify(tc.ConvLayer.of(KERNEL, padding=1), tc.ConvLayer.of(KERNEL))
    assert report.kernel_error is None
    assert report.geometries == ("kernel 3x3, stride 1, padding 1", "kernel 3x3, stride 1, padding 0")
    assert "kernel 3x3, stride 1, padding 1 against kernel 3x3, stride 1, padding 0" in str(report)


def test_sizes_that_part_only_now_and_then_are_found() -> None:
    first, second = (tc.ConvLayer.of(np.ones((1, 1, 1)), stride=s) for s in (16, 17))
    layer = tc.ConvLayer.of(np.ones((1, 1, 1)), stride=272, padding=[(0, 1)])
    assert layer.output_size(272) != tc.ConvSequence([first, second]).output_size(272)
    assert tc.verify(layer, tc.ConvSequence([first, second])).operator_bound == math.inf


def test_json_has_no_infinite_numbers() -> None:
    report = tc.verify(tc.ConvLayer.of(KERNEL, padding=1), tc.ConvLayer.of(KERNEL), np.ones((1, 3, 5, 5)))
    assert report.operator_bound == report.output_error == math.inf
    said = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert said["operator_bound"] is None
    assert said["output_error"] is None


def test_arguments_the_wrong_way_round_are_named() -> None:
    f = tc.svd(KERNEL, rank=2)
    with pytest.raises(tc.errors.KernelTypeError, match="the layer comes first, then what is to replace it"):
        tc.verify(f, tc.ConvLayer.of(KERNEL))
