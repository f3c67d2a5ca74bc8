"""Tests of the door for arrays: every source keeps its values bit for bit, and everything else is refused by name."""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from tensorconv import ConvLayer
from tensorconv.arrays import (
    FLOATS,
    Array,
    as_float_array,
    frozen_copy,
    named_dtype,
    smallest_normal,
    unit_roundoff,
)
from tensorconv.errors import KernelError, KernelTypeError, MissingFrameworkError

VALUES = np.random.default_rng(0).standard_normal((4, 3, 5)).astype("float32")
ROUNDED = VALUES.astype(ml_dtypes.bfloat16)  # what every source of bfloat16 below must arrive as


class OnlyDlpack:
    """An array of an unknown framework that speaks nothing but DLPack."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


SOURCES: dict[str, Callable[[], Any]] = {
    "numpy": lambda: VALUES.copy(),
    "Fortran order": lambda: np.asfortranarray(VALUES),
    "negative strides": lambda: np.ascontiguousarray(VALUES[::-1, :, ::-1])[::-1, :, ::-1],
    "every second entry": lambda: np.repeat(VALUES, 2, axis=1)[:, ::2],
    "read-only": lambda: read_only(VALUES),
    "big-endian": lambda: VALUES.astype(">f4"),
    "little-endian": lambda: VALUES.astype("<f4"),
    "torch": lambda: torch.from_numpy(VALUES.copy()),
    "torch parameter": lambda: torch.nn.Parameter(torch.from_numpy(VALUES.copy())),
    "torch, not contiguous": lambda: torch.from_numpy(VALUES.T.copy()).permute(2, 1, 0),
    "jax": lambda: jnp.asarray(VALUES),
    "DLPack of numpy": lambda: OnlyDlpack(VALUES.copy()),
    "DLPack of torch": lambda: OnlyDlpack(torch.from_numpy(VALUES.copy())),
    "DLPack of jax": lambda: OnlyDlpack(jnp.asarray(VALUES)),
}
BFLOAT16_SOURCES: dict[str, Callable[[], Any]] = {
    "ml_dtypes": lambda: ROUNDED.copy(),
    "torch": lambda: torch.from_numpy(VALUES.copy()).bfloat16(),
    "torch parameter": lambda: torch.nn.Parameter(torch.from_numpy(VALUES.copy()).bfloat16()),
    "jax": lambda: jnp.asarray(VALUES, jnp.bfloat16),
}


def assert_same_bits(got: Array, wanted: Array) -> None:
    assert got.dtype == wanted.dtype
    assert got.dtype.isnative
    assert got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("source", SOURCES)
def test_float32_from_every_source_keeps_its_bits(source: str) -> None:
    assert_same_bits(as_float_array("kernel", SOURCES[source]()), VALUES)
    assert_same_bits(ConvLayer.of(SOURCES[source]()).kernel, VALUES)


@pytest.mark.parametrize("source", BFLOAT16_SOURCES)
def test_bfloat16_from_every_source_keeps_its_bits(source: str) -> None:
    assert_same_bits(as_float_array("kernel", BFLOAT16_SOURCES[source]()), ROUNDED)
    assert_same_bits(ConvLayer.of(BFLOAT16_SOURCES[source]()).kernel, ROUNDED)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_byte_order_becomes_the_native_one(dtype: str, order: Literal["<", ">"]) -> None:
    native = VALUES.astype(dtype)
    assert_same_bits(as_float_array("kernel", native.astype(native.dtype.newbyteorder(order))), native)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_torchs_other_float_types_are_kept(dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(VALUES.copy()).to(dtype)
    assert_same_bits(as_float_array("kernel", tensor), tensor.numpy())


def test_nested_lists_of_floats_become_float64() -> None:
    assert_same_bits(as_float_array("kernel", [[[1.5, 2.0]]]), np.array([[[1.5, 2.0]]]))


def test_a_memory_map_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "kernel.npy"
    np.save(path, VALUES)
    before = path.read_bytes()
    layer = ConvLayer.of(np.load(path, mmap_mode="r"))
    assert type(layer.kernel) is np.ndarray
    assert_same_bits(layer.kernel, VALUES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in ("jax", "read-only", "DLPack of jax")])
def test_a_layer_does_not_share_the_callers_memory(source: str) -> None:
    value = SOURCES[source]()
    layer = ConvLayer.of(value)
    with torch.no_grad():
        caller = value.array if isinstance(value, OnlyDlpack) else value
        caller[...] = 7.0
    assert_same_bits(layer.kernel, VALUES)


def test_a_layers_arrays_are_read_only_contiguous_and_plain() -> None:
    layer = ConvLayer.of(np.asfortranarray(VALUES), VALUES[:, 0, 0])
    for array in (layer.kernel, layer.bias):
        assert array is not None
        assert type(array) is np.ndarray
        assert array.flags.c_contiguous
        assert array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_layer_copies_its_kernel_once() -> None:
    kernel = np.ones((64, 64, 8, 8))
    tracemalloc.start()
    try:
        layer = ConvLayer.of(kernel)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the copy, and before it a byte per entry for the check of NaN and inf; a second copy would be 2 * nbytes
    assert layer.kernel.nbytes <= peak < 1.5 * layer.kernel.nbytes


def test_frozen_copy_leaves_its_argument_writeable() -> None:
    array = VALUES.copy()
    copy = frozen_copy(array)
    array[...] = 0
    assert_same_bits(copy, VALUES)
    assert not copy.flags.writeable


@pytest.mark.parametrize("name", FLOATS)
def test_unit_roundoff_is_the_largest_relative_error_of_rounding(name: str) -> None:
    dtype = named_dtype(name)
    u = unit_roundoff(dtype)
    assert u == {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}[name]
    one = np.ones(1, dtype)
    assert (one + np.array([2 * u]).astype(dtype) != one).all()
    assert (one + np.array([u]).astype(dtype) == one).all()  # halfway, to even


@pytest.mark.parametrize("name", FLOATS)
def test_smallest_normal_is_where_precision_starts_to_go(name: str) -> None:
    dtype = named_dtype(name)
    smallest = smallest_normal(dtype)
    exponent = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}[name]
    assert smallest == 2.0**exponent
    u = unit_roundoff(dtype)
    just_above = smallest * (1 + 2 * u)  # exact in float64, but below its own normal range for float64 only
    assert float(np.array(just_above).astype(dtype)) == just_above
    below = smallest / 2 * (1 + 2 * u)
    assert name == "float64" or float(np.array(below).astype(dtype)) != below


def test_named_dtype_makes_the_four_types() -> None:
    assert [named_dtype(name).name for name in FLOATS] == list(FLOATS)
    assert [named_dtype(name).itemsize for name in FLOATS] == [2, 2, 4, 8]


@pytest.mark.parametrize("name", ["int32", "float", "complex64", "<f4"])
def test_other_dtype_names_are_refused(name: str) -> None:
    message = f"dtype must be one of float16, bfloat16, float32, float64, got {name!r}"
    with pytest.raises(KernelTypeError, match=re.escape(message)):
        named_dtype(name)


def test_bfloat16_without_ml_dtypes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # what the import system does for a missing package
    message = "bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes"
    with pytest.raises(MissingFrameworkError, match=message):
        named_dtype("bfloat16")
    with pytest.raises(MissingFrameworkError, match=message):
        as_float_array("kernel", torch.ones(1, dtype=torch.bfloat16))


TYPE_RULE = "kernel must be of a real floating-point type, float16, bfloat16, float32, float64, got"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (VALUES.astype("int8"), "int8"),
        (VALUES.astype("uint64"), "uint64"),
        (VALUES > 0, "bool"),
        (VALUES.astype("complex64"), "complex64"),
        (VALUES.astype(object), "object"),
        ([[1, 2]], "int64"),
        (None, "object"),
        ("kernel", "<U6"),
        (torch.ones(2, 2, dtype=torch.int32), "int32"),
        (torch.ones(2, 2, dtype=torch.complex64), "complex64"),
        (jnp.ones((2, 2), int), "int32"),
        (VALUES.astype(ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
        pytest.param(
            VALUES.astype(np.longdouble),
            np.dtype(np.longdouble).name,
            marks=pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="longdouble is float64 here"),
        ),
    ],
)
def test_what_is_no_real_float_is_refused_with_the_type_and_the_cure(value: Any, found: str) -> None:
    message = f'{TYPE_RULE} {found}; convert it first, e.g. kernel.astype("float32")'
    with pytest.raises(KernelTypeError, match=re.escape(message)):
        as_float_array("kernel", value)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(dtype: str, bad: float) -> None:
    values = np.ones((2, 3, 4), named_dtype(dtype))
    values[1, 2, 3] = bad
    message = "bias must hold finite numbers only, got NaN or inf; clean or re-load it first"
    with pytest.raises(KernelError, match=message):
        as_float_array("bias", values)


@pytest.mark.parametrize("shape", [(0,), (4, 0, 3), (0, 0, 0)])
def test_empty_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(KernelError, match=re.escape(f"kernel must not be empty, got shape {shape}")):
        as_float_array("kernel", np.empty(shape))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([[1.0], [1.0, 2.0]], id="ragged list"),
        pytest.param(torch.ones(2, 2).to_sparse(), id="sparse tensor"),
        pytest.param(torch.ones(2, 2).bfloat16().to_sparse(), id="sparse bfloat16 tensor"),
        pytest.param(torch.empty(2, 2, device="meta"), id="tensor without data"),
        pytest.param(torch.ones(2, 2).to(torch.float8_e4m3fn), id="float8 tensor"),
        pytest.param(OnlyDlpack(torch.ones(2, 2).bfloat16()), id="DLPack of bfloat16"),
    ],
)
def test_what_cannot_be_read_as_an_array_is_refused_by_name(value: Any) -> None:
    with pytest.raises(KernelTypeError, match=r"kernel cannot be read as an array: .+; pass a numpy array"):
        as_float_array("kernel", value)
