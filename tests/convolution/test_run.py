"""Tests of convolve and prepare: against a slow oracle, bit for bit over threads and batches, and what they refuse."""

from __future__ import annotations

import os
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from convolution.random_layers import convolutions, whole_numbers
from hypothesis import given, settings
from oracles import reference_convolution, reference_sequence

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.certificates import rounding_bound
from tensorconv.convolution import simple, threads
from tensorconv.errors import GeometryError, KernelError, KernelTypeError, TensorconvError

# name: (kernel shape (O, I/G, K1..KN), input size, attributes)
CORNERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "stride above the kernel": ((3, 2, 2, 2), (9, 7), {"stride": (3, 4)}),
    "kernel above the padded input": ((2, 2, 5, 5), (3, 2), {"padding": 2}),
    "pointwise": ((4, 3, 1, 1), (5, 4), {}),
    "pointwise, strided": ((4, 3, 1, 1), (5, 4), {"stride": 2}),
    "input not divisible by the stride": ((2, 2, 3, 3), (8, 7), {"stride": (3, 2)}),
    "one channel": ((1, 1, 3, 3), (6, 5), {"padding": 1}),
    "depthwise": ((6, 1, 3, 3), (5, 6), {"groups": 3, "padding": 1}),
    "grouped": ((4, 3, 3, 2), (5, 6), {"groups": 2, "dilation": (1, 2)}),
    "output of one position": ((4, 3, 3, 2), (3, 2), {}),
    "all of size one": ((1, 1, 1), (1,), {}),
    "even kernel, asymmetric": ((2, 3, 4, 2), (6, 7), {"padding": ((1, 2), (0, 1))}),
    "padding beyond the kernel": ((2, 2, 2, 3), (3, 4), {"padding": ((5, 0), (0, 6))}),
    "cropped": ((2, 3, 3, 2), (9, 8), {"padding": ((-2, 0), (1, -3)), "stride": 2}),
    "four axes": ((2, 2, 2, 1, 3, 2), (4, 3, 5, 2), {"stride": (1, 2, 2, 1), "padding": ((0, 1),) * 4}),
    "five axes": ((2, 1, 2, 1, 2, 2, 1), (2, 3, 2, 3, 2), {"groups": 2, "padding": ((1, 0),) * 5}),
    "transposed, overlapping": ((3, 2, 3, 4), (4, 3), {"stride": 2, "padding": 1, "transposed": True}),
    "transposed, side by side": ((3, 2, 2, 3), (4, 3), {"stride": (2, 3), "transposed": True}),
    "transposed, with gaps": ((3, 2, 1, 2), (4, 3), {"stride": 3, "transposed": True}),
    "transposed, output padding": (
        (3, 2, 3, 3),
        (4, 3),
        {"stride": (3, 2), "padding": 1, "output_padding": (2, 1), "transposed": True},
    ),
    "transposed, high far negative": ((2, 2, 2, 2), (3, 3), {"padding": ((0, -5), (1, -7)), "transposed": True}),
    "transposed, low negative": ((2, 2, 3), (3,), {"padding": ((-2, 1),), "stride": 2, "transposed": True}),
    "transposed, cropped to one": ((2, 2, 3), (3,), {"padding": ((3, 3),), "stride": 2, "transposed": True}),
    "transposed, grouped, dilated": ((6, 2, 3, 2), (3, 4), {"groups": 3, "dilation": (2, 3), "transposed": True}),
    "transposed, depthwise": ((4, 1, 2, 2), (3, 4), {"groups": 4, "stride": 2, "transposed": True}),
    "transposed, four axes": ((2, 2, 2, 1, 3, 2), (2, 3, 2, 2), {"stride": (1, 2, 2, 3), "transposed": True}),
}


def corner(name: str, dtype: str = "float64") -> tuple[tc.ConvLayer, Array]:
    """Return a layer of normally distributed entries, and a batch of three."""
    shape, size, attributes = CORNERS[name]
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(
        rng.standard_normal(shape).astype(named_dtype(dtype)), rng.standard_normal(shape[0]), **attributes
    )
    data_dtype = dtype if dtype in ("float32", "float64") else "float32"
    return layer, rng.standard_normal((3, layer.in_channels, *size)).astype(data_dtype)


def large(transposed: bool) -> tuple[tc.ConvLayer, Array]:
    """Return a layer and an input whose work is worth several threads, float32."""
    rng = np.random.default_rng(1)
    layer = tc.ConvLayer.of(
        rng.standard_normal((12, 6, 5, 5)).astype("float32"),
        rng.standard_normal(12),
        groups=2,
        stride=(1, 2),
        padding=((2, 1), (0, 3)),
        transposed=transposed,
    )
    return layer, rng.standard_normal((3, 12, 50, 47)).astype("float32")


def bits(array: Array) -> bytes:
    return array.tobytes()


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_the_oracles_in_float64(name: str) -> None:
    layer, x = corner(name)
    y, expected = tc.convolve(x, layer), reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    assert y.shape == expected.shape
    assert y.dtype == np.float64
    # both are sums of the same products in some order, so each is within the bound of the exact sum
    assert (np.abs(y - expected) <= 2 * rounding_bound(x, layer)).all()
    assert np.abs(y - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("name", CORNERS)
def test_corner_cases_are_the_oracles_in_float32(name: str) -> None:
    layer, x = corner(name, "float32")
    y, expected = tc.convolve(x, layer), reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    assert y.dtype == np.float32
    in_float64 = rounding_bound(x.astype("float64"), layer)  # the oracle's own distance from the exact sum
    assert (np.abs(y - expected) <= rounding_bound(x, layer) + in_float64).all()


@given(convolutions())
@settings(max_examples=300)
def test_any_convolution_of_integers_is_the_oracles_exactly(case: tuple[tc.ConvLayer, Array]) -> None:
    layer, x = case
    expected = reference_convolution(x, layer.kernel, layer.geometry, layer.bias)
    assert np.array_equal(tc.convolve(x, layer), expected)
    assert np.array_equal(tc.convolve(x.astype("float32"), layer), expected)


def test_the_bias_is_added_at_every_output_position_extended_ones_included() -> None:
    layer = tc.ConvLayer.of([[[2.0]]], [5.0], padding=((-1, -2),), transposed=True)
    assert tc.convolve(np.array([[[1.0, 3.0]]]), layer).tolist() == [[[5.0, 7.0, 11.0, 5.0, 5.0]]]


def test_a_sequence_runs_layer_by_layer() -> None:
    rng = np.random.default_rng(0)
    first = tc.ConvLayer.of(whole_numbers((3, 2, 3, 2), rng), padding=1)
    second = tc.ConvLayer.of(whole_numbers((4, 3, 2, 3), rng), [1.0, 2, 3, 4], stride=2, padding=1, transposed=True)
    x = whole_numbers((2, 2, 6, 5), rng)
    y = tc.convolve(x, tc.ConvSequence((first, second)))
    assert np.array_equal(y, tc.convolve(tc.convolve(x, first), second))
    assert np.array_equal(y, reference_sequence(x, tc.ConvSequence((first, second))))


def test_anything_with_a_sequence_is_run() -> None:
    layer, x = corner("grouped")
    assert bits(tc.convolve(x, tc.svd(layer, rank=2))) == bits(tc.convolve(x, tc.svd(layer, rank=2).sequence))


@pytest.mark.parametrize("transposed", [False, True])
def test_bits_do_not_depend_on_the_number_of_threads(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = large(transposed)
    outputs = set()
    for number in ("1", "2", "3", "7"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        outputs.add(bits(tc.convolve(x, layer)))
    assert len(outputs) == 1


@pytest.mark.parametrize("transposed", [False, True])
def test_the_number_of_threads_is_read_anew_by_every_call(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = large(transposed)
    pools, at_work = threads.ThreadPoolExecutor, list[int]()

    class Recorded(pools):  # type: ignore[misc, valid-type]
        def submit(self, *arguments: Any) -> Any:
            at_work.append(self._max_workers)
            return super().submit(*arguments)

    gather = threads.TEAM.gather
    monkeypatch.setattr(threads.TEAM, "gather", lambda n: (at_work.append(n + 1), gather(n)))
    monkeypatch.setattr(threads, "ThreadPoolExecutor", Recorded)
    monkeypatch.setattr(threads, "_POOLS", {})
    for number in ("2", "1", "3"):
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", number)
        at_work.clear()
        tc.convolve(x, layer)
        assert set(at_work) == (set() if number == "1" else {int(number)})


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", " "])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_bad_number_of_threads_is_refused(transposed: bool, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = large(transposed)
    monkeypatch.setenv("TENSORCONV_NUM_THREADS", value)
    with pytest.raises(TensorconvError, match=f"TENSORCONV_NUM_THREADS must be a positive integer, got '{value}'"):
        tc.convolve(x, layer)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system grants no cores to processes")
@pytest.mark.parametrize("value", [None, ""])
def test_without_a_number_all_cores_granted_are_used(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORCONV_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("TENSORCONV_NUM_THREADS", value)
    assert threads.n_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("transposed", [False, True])
def test_bits_do_not_depend_on_the_batch(transposed: bool) -> None:
    layer, x = large(transposed)
    y = tc.convolve(x, layer)
    for image in range(len(x)):
        assert bits(tc.convolve(x[image : image + 1], layer)) == bits(y[image : image + 1])
    assert bits(tc.convolve(x[::-1], layer)) == bits(y[::-1])


@pytest.mark.parametrize("transposed", [False, True])
def test_the_workspace_is_a_few_tiles(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORCONV_NUM_THREADS", "2")
    layer = tc.ConvLayer.of(np.ones((16, 16, 5, 5), "float32"), padding=2, transposed=transposed)
    x = np.ones((1, 16, 128, 128), "float32")
    tc.convolve(x, layer)  # whatever is compiled or imported on first use
    tracemalloc.start()
    y = tc.convolve(x, layer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    unfolded = 16 * 25 * 128 * 128 * x.itemsize
    tile = simple.TILE_BYTES
    # beside the output: a mask of finite entries (a byte each), and a panel with its offsets for each of two threads
    assert peak <= y.nbytes + x.size + 2 * 2 * tile
    assert peak < unfolded / 8


def test_a_prepared_layer_is_reusable_with_the_same_bits() -> None:
    layer, x = corner("cropped", "float32")
    prepared = tc.prepare(layer, x.shape[2:], "float32")
    first = prepared(x)
    prepared(-x[:1])
    assert bits(prepared(x)) == bits(first) == bits(tc.convolve(x, layer))
    assert (prepared.input_size, prepared.dtype) == ((9, 8), np.dtype("float32"))


def test_outputs_are_new_arrays_and_inputs_are_left_alone() -> None:
    layer, x = corner("pointwise")
    before = bits(x)
    prepared = tc.prepare(layer, x.shape[2:])
    first = prepared(x)
    kept = bits(first)
    prepared(2 * x)
    assert (bits(x), bits(first)) == (before, kept)
    assert first.flags.writeable


@pytest.mark.parametrize("name", ["even kernel, asymmetric", "transposed, overlapping"])
def test_the_memory_order_of_the_input_does_not_matter(name: str) -> None:
    layer, x = corner(name)
    expected = bits(tc.convolve(x, layer))
    frozen = x.copy()
    frozen.flags.writeable = False
    channels_last = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    for same in (np.asfortranarray(x), channels_last, frozen, x.astype(">f8"), x.tolist(), torch.from_numpy(x)):
        assert bits(tc.convolve(same, layer)) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("data_dtype", ["float32", "float64"])
def test_kernels_of_any_type_run_in_the_type_of_the_data(dtype: str, data_dtype: str) -> None:
    layer, x = corner("grouped", dtype)
    x = x.astype(data_dtype)
    converted = tc.ConvLayer(layer.kernel.astype(data_dtype), layer.geometry, layer.bias.astype(data_dtype))  # type: ignore[union-attr]
    assert tc.convolve(x, layer).dtype == np.dtype(data_dtype)
    assert bits(tc.convolve(x, layer)) == bits(tc.convolve(x, converted))


PLAIN = tc.ConvLayer.of(np.ones((2, 3, 3, 3)))
DATA = np.ones((1, 3, 5, 5))
BROKEN = DATA.copy()
BROKEN[0, 1, 2, 3] = np.nan

REFUSALS: dict[str, tuple[Any, type[Exception], str]] = {
    "no batch axis": (DATA[0], KernelError, r"x must have shape \(B, C, 2 spatial axes\), got \(3, 5, 5\).*x\[None\]"),
    "too many axes": (DATA[None], KernelError, r"x must have shape \(B, C, 2 spatial axes\), got \(1, 1, 3, 5, 5\)"),
    "channels": (DATA[:, :2], KernelError, r"x must have shape \(B, 3, 5, 5\) here, got \(1, 2, 5, 5\)"),
    "float16": (DATA.astype("float16"), KernelTypeError, r"x must be float32 or float64, got float16; convert"),
    "integers": (DATA.astype(int), KernelTypeError, r"x must be of a real floating-point type, .*got int64; convert"),
    "complex": (DATA.astype(complex), KernelTypeError, "x must be of a real floating-point type, .*got complex128"),
    "NaN": (BROKEN, KernelError, "x must hold finite numbers only, got NaN or inf"),
    "infinity": (BROKEN * np.inf, KernelError, "x must hold finite numbers only, got NaN or inf"),
    "empty batch": (DATA[:0], KernelError, r"x must not be empty, got shape \(0, 3, 5, 5\)"),
    "too small": (
        DATA[..., :2],
        GeometryError,
        r"input_size \(5, 2\) gives no output on axis 1: a convolution of 3 taps",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_data_that_does_not_fit_is_refused(name: str) -> None:
    x, error, text = REFUSALS[name]
    with pytest.raises(error, match=text):
        tc.convolve(x, PLAIN)


def test_a_prepared_layer_refuses_other_data() -> None:
    prepared = tc.prepare(PLAIN, (5, 5), "float32")
    with pytest.raises(KernelError, match=r"x must have shape \(B, 3, 5, 5\) here, got \(1, 3, 5, 6\)"):
        prepared(np.ones((1, 3, 5, 6), "float32"))
    with pytest.raises(KernelError, match=r"x must have shape \(B, 3, 5, 5\) here, got \(3, 5, 5\)"):
        prepared(np.ones((3, 5, 5), "float32"))
    with pytest.raises(KernelTypeError, match="x must be float32 as prepared, got float64; convert it or prepare anew"):
        prepared(DATA)


def test_what_cannot_be_prepared_is_refused() -> None:
    with pytest.raises(KernelTypeError, match="dtype must be float32 or float64, got int32; convert the data"):
        tc.prepare(PLAIN, (5, 5), "int32")
    with pytest.raises(GeometryError, match=r"input_size must have one entry per spatial axis, 2 here, got \(5,\)"):
        tc.prepare(PLAIN, (5,))
    with pytest.raises(GeometryError, match=r"input_size \(2, 5\) gives no output on axis 0"):
        tc.prepare(PLAIN, (2, 5))
    with pytest.raises(KernelTypeError, match=r"sequence must be a ConvLayer.* or have .sequence, got str"):
        tc.prepare("conv1", (5, 5))


def test_a_kernel_or_bias_beyond_the_datas_type_is_refused() -> None:
    x = np.ones((1, 1, 2), "float32")
    with pytest.raises(KernelError, match="kernel as float32 must hold finite numbers only"):
        tc.convolve(x, tc.ConvLayer.of(np.full((1, 1, 1), 1e39)))
    with pytest.raises(KernelError, match="bias as float32 must hold finite numbers only"):
        tc.convolve(x, tc.ConvLayer.of(np.ones((1, 1, 1)), [1e39]))
