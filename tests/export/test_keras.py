"""Tests of the exporter "keras": Keras computes what the sequence says, and gives it back bitwise."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
import pytest
from export.sequences import (
    DTYPES,
    EXTENDED,
    GEOMETRIES,
    IN_CHANNELS,
    INPUT_SIZE,
    assert_same,
    chain,
    channelwise,
    data,
    layer,
    padded,
)
from oracles import reference_bound, reference_sequence

from tensorconv.errors import GeometryError, KernelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.keras_channels import ChannelPermutation, ChannelwiseConv, ValuePadding
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer, PermuteLayer

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
BACKEND = keras.config.backend()
ROOT = Path(__file__).parents[2]
# Keras converts its own variables to numpy in a way that numpy 2 warns of
keras_converts = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
SUBSAMPLED = {"policy": ("subsample", "branches")}
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="about JAX")


def float64_enabled(dtype: str = "float64") -> contextlib.AbstractContextManager[Any]:
    """Return a context in which Keras has this data type."""
    return jax.enable_x64(True) if BACKEND == "jax" and dtype == "float64" else contextlib.nullcontext()


def run(model: Any, x: np.ndarray, data_format: str = "channels_last") -> np.ndarray:
    """Return the output of a model for x (B, C, L1..LN), in float64."""
    last = data_format == "channels_last"
    y = model(keras.ops.convert_to_tensor(np.moveaxis(x, 1, -1) if last else x))
    y = np.asarray(y.detach() if hasattr(y, "detach") else y, np.float64)
    return np.moveaxis(y, -1, 1) if last else y


def assert_computes(
    model: Any, sequence: ConvSequence, x: np.ndarray, unit: float = FLOAT32, data_format: str = "channels_last"
) -> None:
    """Assert that Keras agrees with the reference, which rounds in float64, to its own rounding."""
    y, expected = run(model, x, data_format), reference_sequence(x, sequence)
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [unit, FLOAT64]))


def kinds(model: keras.Model) -> list[str]:
    return [type(one).__name__ for one in model.layers]


def depthwise(stride: Any = 1, dilation: Any = 1, ndim: int = 2, *, bias: bool = False, name: str = "") -> ConvLayer:
    """Return a depthwise layer of 4 in-channels and multiplier 2."""
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal((8, 1, *(3, 2, 2)[:ndim]), "float32")
    values = rng.standard_normal(8, "float32") if bias else None
    options = {"stride": stride, "dilation": dilation, "groups": 4}
    return ConvLayer.of(kernel, values, padding=((1, 0),) * ndim, name=name, **options)


def pointwise(in_channels: int = 8, ndim: int = 2, name: str = "", **options: Any) -> ConvLayer:
    rng = np.random.default_rng(4)
    shape = (6, in_channels // options.get("groups", 1), *(1,) * ndim)
    return ConvLayer.of(rng.standard_normal(shape, "float32"), rng.standard_normal(6, "float32"), name=name, **options)


def refused(kind: str, ndim: int) -> bool:
    """Whether no policy says a geometry of the list so that it is read back bitwise."""
    return kind == "transposed" and ndim > 1  # strides and dilation


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("kind", GEOMETRIES | EXTENDED)
def test_keras_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, "float32", bias=bias, name="conv1").sequence
    if refused(kind, ndim):
        with pytest.raises(UnsupportedExportError, match=r"transposed convolution of strides .* give policy='dense'"):
            dump(sequence, "keras", **SUBSAMPLED)
        assert_computes(dump(sequence, "keras", policy="dense"), sequence, data(ndim, "float32"))
        return
    model = dump(sequence, "keras", **SUBSAMPLED)
    if bias or ndim == 1 or BACKEND != "jax":  # JAX compiles long
        assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "keras"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_keras_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim, "float32")
    model = dump(sequence, "keras", policy="branches")
    assert_computes(model, sequence, data(ndim, "float32"))
    loaded = load(model, "keras")
    assert_same(loaded, sequence, names=False)
    assert [one.name for one in loaded] == ["squeeze", "", "", "grow", ""]  # torch has no dots in names


@pytest.mark.parametrize("seed", range(8))
def test_every_transposed_axis_is_said_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strides = rng.integers(1, 4, 3) if seed % 3 else np.ones(3, int)
    dilation = 1 if seed % 3 else rng.integers(1, 4, 3)
    kernel = rng.standard_normal((2, 3, *rng.integers(1, 4, 3)), "float32")  # shorter than the stride too
    padding = rng.integers(-5, 3, (3, 2))
    one = ConvLayer.of(
        kernel, rng.standard_normal(2, "float32"), stride=strides, dilation=dilation, padding=padding, transposed=True
    )
    model = dump(one, "keras")
    assert_computes(model, one.sequence, rng.standard_normal((2, 3, 6, 7, 8)).astype("float32"))
    assert_same(load(model, "keras"), one.sequence)


def test_paddings_of_two_layers_are_told_apart() -> None:
    options: dict[str, Any] = {"transposed": True, "stride": 2}
    first, second = layer("plain", 1, "float32", bias=False).kernel[:4], layer("plain", 1, "float32", seed=1).kernel
    gaps = [(0, 0), (0, 1), (-1, 0), (-1, 2), (1, -3)]
    for own in gaps:
        for following in gaps:
            for forward in (True, False):
                one = ConvLayer.of(first, **options | {"padding": [own]})
                sequence = ConvSequence((one, ConvLayer.of(second, padding=[following], transposed=not forward)))
                assert_same(load(dump(sequence, "keras"), "keras"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_data_type_comes_back_bitwise(dtype: str) -> None:
    with float64_enabled(dtype):
        one = ConvSequence((PadLayer.of(1, 1, "reflect"), *channelwise(1, dtype)))
        sequences = chain(2, dtype), layer("unequal", 3, dtype).sequence, layer("depthwise", 1, dtype).sequence, one
        for sequence in sequences:
            model = dump(sequence, "keras", **SUBSAMPLED)
            assert (
                {weight.dtype for weight in model.weights} == {model.inputs[0].dtype, model.outputs[0].dtype} == {dtype}
            )
            assert_same(load(model, "keras"), sequence, names=False)
        assert {layer.compute_dtype for layer in model.layers} == {dtype}  # without weights, too
        x = keras.ops.cast(np.moveaxis(data(1), 1, -1), dtype)
        assert keras.backend.standardize_dtype(model(x).dtype) == dtype  # of the last one


@pytest.mark.parametrize("kind", ["unequal", "depthwise", "output_padding"])
def test_float64_is_computed_in_float64(kind: str) -> None:
    sequence = layer(kind, 2).sequence
    with float64_enabled():
        assert_computes(dump(sequence, "keras", **SUBSAMPLED), sequence, data(2), FLOAT64)


@only_jax
def test_float64_that_would_become_float32_is_refused() -> None:
    with (
        jax.enable_x64(False),
        pytest.raises(UnsupportedExportError, match=r"turn float64 into float32 on the backend 'jax'.*jax_enable_x64"),
    ):
        dump(layer("plain", 1), "keras")


def test_nothing_depends_on_the_settings_of_keras() -> None:
    sequence = layer("depthwise", 2, "float32").sequence
    before = keras.config.image_data_format(), keras.config.dtype_policy()
    try:
        keras.config.set_image_data_format("channels_first")
        keras.config.set_dtype_policy("mixed_float16")
        model = dump(sequence, "keras")
    finally:
        keras.config.set_image_data_format(before[0])
        keras.config.set_dtype_policy(before[1])
    assert_computes(model, sequence, data(2, "float32"))


@keras_converts
def test_the_kernels_stand_as_keras_wants_them() -> None:
    kernel = np.arange(6 * 2 * 3, dtype="float32").reshape(6, 2, 3)  # (O, I/G, K) with 2 groups
    (forward,) = dump(ConvLayer.of(kernel, groups=2), "keras").weights
    assert forward.shape == (3, 2, 6)
    assert forward.numpy()[2, 1, 4] == kernel[4, 1, 2]
    (per_channel,) = dump(ConvLayer.of(kernel.reshape(6, 1, 6), groups=2), "keras").weights
    assert per_channel.shape == (6, 2, 3)
    assert per_channel.numpy()[5, 1, 2] == kernel.reshape(6, 6)[1 * 3 + 2, 5]
    (backward,) = dump(ConvLayer.of(kernel, transposed=True), "keras").weights
    assert backward.shape == (3, 6, 2)
    assert backward.numpy()[2, 4, 1] == kernel[4, 1, 2]


def test_layers_are_of_the_expected_kinds() -> None:
    assert kinds(dump(layer("plain", 3, "float32"), "keras")) == ["Conv3D"]
    assert kinds(dump(layer("cropping", 2, "float32"), "keras")) == ["ZeroPadding2D", "Cropping2D", "Conv2D"]
    assert kinds(dump(layer("depthwise", 1, "float32"), "keras")) == ["ZeroPadding1D", "DepthwiseConv1D"]
    assert kinds(dump(layer("depthwise", 3, "float32"), "keras")) == ["ZeroPadding3D", "Conv3D"]  # Keras has no other
    model = dump(layer("unequal", 2, "float32"), "keras", policy="subsample")
    assert kinds(model) == ["ZeroPadding2D", "Conv2D", "MaxPooling2D"]
    assert isinstance(model, keras.Sequential)
    assert model.input_shape == (None, None, None, 4)


def test_branches_are_one_convolution_per_group() -> None:
    sequence = layer("output_padding", 2, "float32", name="up").sequence
    model = dump(sequence, "keras", policy="branches")
    names = {one.name: type(one).__name__ for one in model.layers if "Split" not in type(one).__name__}
    assert list(names.values()) == ["InputLayer", "Conv2DTranspose", "Conv2DTranspose", "Concatenate", "Cropping2D"]
    assert names["up"] == "Concatenate"
    assert_same(load(model, "keras"), sequence)


def test_a_dense_kernel_has_the_zeros_of_groups_and_dilation() -> None:
    one = layer("output_padding", 2, "float32")
    model = dump(one, "keras", policy="dense")
    assert_computes(model, one.sequence, data(2, "float32"))
    (loaded,) = load(model, "keras").convolutions
    assert (loaded.geometry.groups, loaded.kernel.shape) == (1, (6, 4, 3, 2))
    assert np.array_equal(loaded.kernel[:3, :2], one.kernel[:3])
    assert np.array_equal(loaded.kernel[3:, 2:], one.kernel[3:])
    assert not loaded.kernel[:3, 2:].any()
    assert not loaded.kernel[3:, :2].any()
    dilated = layer("unequal", 2, "float32")  # stride (2, 1), dilation (1, 2)
    model = dump(dilated, "keras", policy=["dense"])
    assert_computes(model, dilated.sequence, data(2, "float32"))
    (loaded,) = load(model, "keras").convolutions
    assert np.array_equal(loaded.kernel[..., ::2], dilated.kernel)
    assert not loaded.kernel[..., 1].any()
    assert loaded.geometry.dilation == (1, 1)


def test_unequal_strides_are_a_grouped_convolution_or_move_to_the_pointwise_one() -> None:
    for dilation in (1, 2):
        sequence = ConvSequence((depthwise((2, 1), dilation, name="dw"), pointwise(name="pw")))
        moved = dump(sequence, "keras", policy="equal-strides")
        assert kinds(moved) == ["ZeroPadding2D", "DepthwiseConv2D", "Conv2D"]
        assert [moved.get_layer(name).strides for name in ("dw", "pw")] == [(1, 1), (2, 1)]
        assert_computes(moved, sequence, data(2, "float32"))
        loaded = load(moved, "keras")
        assert [one.geometry.stride for one in loaded.convolutions] == [(1, 1), (2, 1)]
        assert loaded.convolutions[0].kernel.tobytes() == sequence.convolutions[0].kernel.tobytes()
    sequence = ConvSequence((depthwise((2, 1)), pointwise()))
    grouped = dump(sequence, "keras")
    assert kinds(grouped) == ["ZeroPadding2D", "Conv2D", "Conv2D"]
    assert_computes(grouped, sequence, data(2, "float32"))
    assert_same(load(grouped, "keras"), sequence)
    for alone in (depthwise((2, 1)).sequence, ConvSequence((depthwise((2, 1)), pointwise(padding=1)))):
        with pytest.raises(UnsupportedExportError, match=r"cannot move strides \(2, 1\).*no pointwise one follows"):
            dump(alone, "keras", policy="equal-strides")


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_layer_is_both(ndim: int, stride: int) -> None:
    sequence = ConvSequence((depthwise(stride, ndim=ndim, name="first"), pointwise(ndim=ndim, name="second")))
    model = dump(sequence, "keras", separable=True)
    assert kinds(model) == [f"ZeroPadding{ndim}D", f"SeparableConv{ndim}D"]
    assert_computes(model, sequence, data(ndim, "float32"))
    loaded = load(model, "keras")
    assert_same(loaded, sequence, names=False)
    assert [one.name for one in loaded] == ["first", ""]
    assert kinds(dump(sequence, "keras"))[1:] == [f"DepthwiseConv{ndim}D", f"Conv{ndim}D"]


def test_a_separable_layer_takes_the_name_that_can_be_used() -> None:
    sequence = ConvSequence((depthwise(2, name="a.b"), pointwise(name="second")))
    assert [one.name for one in load(dump(sequence, "keras", separable=True), "keras")] == ["second", ""]


@pytest.mark.parametrize(
    ("first", "second", "policy"),
    [
        (depthwise(), pointwise(padding=1), ()),
        (depthwise(), pointwise(stride=2), ()),
        (depthwise(), pointwise(dilation=2), ()),
        (depthwise(), pointwise(groups=2), ()),
        (depthwise((2, 1)), pointwise(), ()),
        (depthwise(2, 2), pointwise(), "subsample"),
        (depthwise(ndim=3), pointwise(ndim=3), ()),
        (ConvLayer.of(layer("plain", 2, "float32").kernel), pointwise(6), ()),
    ],
)
def test_what_is_no_separable_layer_stays_two(first: ConvLayer, second: ConvLayer, policy: Any) -> None:
    sequence = ConvSequence((first, second))
    model = dump(sequence, "keras", separable=True, policy=policy)
    assert not any("Separable" in kind for kind in kinds(model))
    assert_computes(model, sequence, data(first.ndim, "float32"))
    assert_same(load(model, "keras"), sequence)


@pytest.mark.parametrize(
    ("given", "policy", "message"),
    [
        (layer("plain", 4, "float32"), (), 'over 1 to 3 spatial axes, got 4; export to "onnx", which runs 4'),
        (layer("plain", 1, "float32"), "strided", "policy must be of branches, dense, equal-strides, subsample, got '"),
        (
            layer("unequal", 2, "float32"),
            "branches",
            r"with dilation \(1, 2\); give policy='subsample",
        ),
        (depthwise(2, 2), (), "give policy='subsample'"),
        (layer("output_padding", 2, "float32"), "subsample", "in groups, got groups=2; give policy='branches'"),
        (channelwise(3, "float32"), (), 'over 1 or 2 spatial axes, .* got 3; export to "onnx" or "jax"'),
    ],
)
def test_what_keras_cannot_say_is_refused_with_a_cure(given: Any, policy: Any, message: str) -> None:
    with pytest.raises(UnsupportedExportError, match=message):
        dump(given, "keras", policy=policy)


def test_names_become_names_where_they_can() -> None:
    kernel = np.ones((1, 1, 1), "float32")
    names = ["stem", "twice", "twice", "a.b", "a/b", "7", "input", "_private", "", "conv_sequence", "Conv2D-x_1"]
    layers = [ConvLayer.of(kernel, padding=[(0, 1)], name=name) for name in names]
    model = dump(ConvSequence(tuple(layers)), "keras")
    assert [one.name for one in model.layers][:4] == ["0", "stem", "2", "3"]
    kept = {"stem", "conv_sequence", "Conv2D-x_1"}
    assert [one.name for one in load(model, "keras")] == [name if name in kept else "" for name in names]


@keras_converts
@pytest.mark.parametrize("kind", ["unequal", "depthwise", "output_padding"])
def test_a_saved_model_is_read_bitwise(kind: str, tmp_path: Path) -> None:
    sequence = layer(kind, 2, "float32", name="conv1").sequence
    model = dump(sequence, "keras", **SUBSAMPLED)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(load(loaded, "keras"), sequence)
    assert_computes(loaded, sequence, data(2, "float32"))
    assert b"tensorconv" not in (tmp_path / "model.keras").read_bytes()  # it opens without this library


@keras_converts
def test_a_model_can_be_trained_and_read_again() -> None:
    sequence = ConvSequence((depthwise(2, name="dw"), pointwise(name="pw")))
    kernels = [one.kernel.tobytes() for one in sequence.convolutions]
    model = dump(sequence, "keras")
    assert len(model.trainable_weights) == 3
    x = np.moveaxis(data(2, "float32"), 1, -1)
    model.compile(optimizer="sgd", loss="mse")
    model.fit(x, np.zeros((2, 3, 3, 6), "float32"), epochs=2, verbose=0)
    loaded = load(model, "keras")
    for ours, theirs in zip(loaded.convolutions, sequence.convolutions, strict=True):
        assert (ours.name, ours.geometry) == (theirs.name, theirs.geometry)
        assert not np.any(ours.kernel == theirs.kernel)
    assert [one.kernel.tobytes() for one in sequence.convolutions] == kernels
    assert_computes(model, loaded, data(2, "float32"))


def test_weights_own_their_memory() -> None:
    one = ConvLayer.of(np.ones((1, 1024, 1), "float32"))  # as Keras lays it out, too
    store = np.ones(one.kernel.nbytes + 64, np.uint8)
    start = -store.ctypes.data % 64  # where JAX does not copy an array but shows it
    aligned = store[start : start + one.kernel.nbytes].view("float32").reshape(one.kernel.shape)
    aligned.flags.writeable = False
    object.__setattr__(one, "kernel", aligned)
    (weight,) = dump(one, "keras").weights
    value = weight.value.detach() if hasattr(weight.value, "detach") else weight.value
    assert not np.shares_memory(np.asarray(value), aligned)


def test_no_global_random_numbers_are_drawn() -> None:
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002  # the global one is meant
    for sequence in (chain(2, "float32"), channelwise(2, "float32")):
        first, second = (dump(sequence, "keras", policy="dense").get_config() for _ in range(2))
        assert first == second
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def built(kind: str, *args: Any, channels: int = IN_CHANNELS, size: Any = None, **options: Any) -> Any:
    """Return a Keras layer with normally distributed weights."""
    constructor = getattr(keras.layers, kind)
    roles = [key for key in inspect.signature(constructor).parameters if key.endswith("_initializer")]
    one = constructor(*args, **options, **dict.fromkeys(roles, "zeros"))  # cheaper than random numbers of JAX
    size = INPUT_SIZE[: one.rank] if size is None else size
    last = one.data_format == "channels_last"
    one.build((None, *size, channels) if last else (None, channels, *size))
    rng = np.random.default_rng(5)
    one.set_weights([rng.standard_normal(weight.shape, "float32") for weight in one.weights])
    return one


SAME: dict[str, Any] = {"padding": "same"}
KERAS_LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Conv1D", (6, 4), SAME),
    ("Conv1D", (6, 4), SAME | {"strides": 2}),
    ("Conv1D", (6, 2), SAME | {"strides": 3, "use_bias": False}),
    ("Conv1D", (6, 3), SAME | {"dilation_rate": 2, "groups": 2}),
    ("Conv1D", (6, 3), {"padding": "causal", "dilation_rate": 2}),
    ("Conv1D", (6, 4), {"padding": "causal", "strides": 2}),
    ("Conv2D", (6, (3, 2)), {"strides": (2, 1), "groups": 2}),
    ("Conv2D", (6, (4, 3)), SAME | {"strides": (2, 3)}),
    ("Conv3D", (6, (3, 2, 2)), SAME | {"strides": (1, 2, 2)}),
    ("DepthwiseConv1D", (4,), SAME | {"depth_multiplier": 3}),
    ("DepthwiseConv2D", ((3, 2),), SAME | {"strides": 2, "depth_multiplier": 2}),
    ("DepthwiseConv2D", (2,), {"dilation_rate": 2, "use_bias": False}),
    ("DepthwiseConv2D", (2,), SAME | {"dilation_rate": 2, "strides": 2}),
    ("SeparableConv1D", (6, 3), SAME | {"strides": 2, "depth_multiplier": 2}),
    ("SeparableConv2D", (6, (3, 2)), {"dilation_rate": 2, "depth_multiplier": 2}),
    ("SeparableConv2D", (6, 4), SAME | {"strides": 2, "use_bias": False}),
    ("Conv2DTranspose", (6, (3, 1)), {"strides": (2, 3)}),
    ("Conv2DTranspose", (6, (3, 4)), SAME | {"strides": 2}),
    ("Conv3DTranspose", (6, 2), SAME | {"dilation_rate": (1, 2, 3)}),
    ("Conv3DTranspose", (6, (2, 3, 1)), {"strides": 3, "output_padding": (0, 1, 2)}),
]


FIRST = {False: "channels_last", True: "channels_first"}
# JAX compiles long: one format of each there
CASES = [
    (*one, FIRST[first])
    for i, one in enumerate(KERAS_LAYERS)
    for first in (False, True)
    if BACKEND != "jax" or first == (i % 3 == 1)
]


@pytest.mark.parametrize(("kind", "args", "options", "data_format"), CASES)
def test_a_single_layer_is_read(kind: str, args: tuple[Any, ...], options: dict[str, Any], data_format: str) -> None:
    one = built(kind, *args, data_format=data_format, name="theirs", **options)
    sequence = load(one, "keras", input_size=INPUT_SIZE[: one.rank])
    assert [step.name for step in sequence] == ["theirs", ""][: len(sequence)]
    assert len(sequence) == 1 + kind.startswith("Separable")
    assert_computes(one, sequence, data(one.rank, "float32"), data_format=data_format)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_transposed_size_is_read(stride: int, padding: str) -> None:
    for extra in (None, *range(stride)):
        for taps, dilation in [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (2, 3), (3, 2)]:
            if stride == 1 or dilation == 1:
                options = {"strides": stride, "dilation_rate": dilation, "output_padding": extra}
                one = built("Conv1DTranspose", 2, taps, padding=padding, **options)
                assert_computes(one, load(one, "keras"), data(1, "float32"))


def test_same_padding_follows_the_size_through_a_model() -> None:
    parts = [
        keras.layers.ZeroPadding2D(((1, 0), (0, 2))),
        built("Conv2D", 4, 3, padding="same", strides=2, use_bias=False),
        keras.layers.Cropping2D(((0, 1), (0, 0))),
        built("Conv2DTranspose", 4, 3, padding="same", strides=2, use_bias=False),
        keras.layers.Cropping2D(((0, 1), (1, 0))),
        built("Conv2D", 4, 2, padding="valid", use_bias=False),
        keras.layers.MaxPooling2D(1, 2),
        built("SeparableConv2D", 5, 4, padding="same", strides=2),
    ]
    model = keras.Sequential([keras.Input((None, None, 4)), *parts])
    for size in [(7, 6), (8, 9)]:
        x = np.random.default_rng(6).standard_normal((1, 4, *size), "float32")
        with pytest.raises(UnsupportedExportError, match="before a transposed"):
            load(model, "keras", input_size=size)
        shorter = keras.Sequential([keras.Input((None, None, 4)), *parts[:2], *parts[3:]])
        assert_computes(shorter, load(shorter, "keras", input_size=size), x)


def test_functional_models_of_others_are_read() -> None:
    start = keras.Input((None, 4))
    x = keras.layers.ZeroPadding1D((2, 0))(start)
    x = built("Conv1D", 6, 3, use_bias=False, name="theirs")(x)
    model = keras.Model(start, built("Conv1D", 2, 3, channels=6)(x))
    sequence = load(model, "keras")
    assert sequence.convolutions[0].name == "theirs"
    assert sequence.convolutions[0].geometry == ConvGeometry.of(1, padding=((2, 0),))
    assert_computes(model, sequence, data(1, "float32"))
    twice = built("Conv1D", 4, 3, use_bias=False)
    model = keras.Model(start, twice(twice(start)))
    assert_computes(model, load(model, "keras"), data(1, "float32"))


def test_the_end_of_an_extended_output_is_read() -> None:
    parts = [built("Conv1DTranspose", 6, 3, use_bias=False), keras.layers.ZeroPadding1D((1, 2))]
    model = keras.Sequential([keras.Input((None, 4)), *parts])
    assert load(model, "keras").convolutions[0].geometry.padding == ((-1, -2),)
    assert_computes(model, load(model, "keras"), data(1, "float32"))


class Doubled(keras.layers.Conv1D):
    """A convolution that does something else."""

    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


def conv(**options: Any) -> Any:
    return built("Conv1D", 4, 3, use_bias=False, **options)


def up(**options: Any) -> Any:
    return built("Conv1DTranspose", 4, 3, use_bias=False, **options)


def with_lora() -> Any:
    one = conv()
    one.enable_lora(1)
    return one


def joined(split: Callable[[Any], list[Any]], *layers: Any, axis: int = -1) -> keras.Model:
    """Return a model that joins one layer per part of its input."""
    start = keras.Input((None, 4))
    parts = [one(part) for one, part in zip(layers, split(start), strict=True)]
    return keras.Model(start, keras.layers.Concatenate(axis, name="join")(parts))


def halves(x: Any) -> list[Any]:
    return list(keras.ops.split(x, 2, axis=-1))


def two_outputs() -> keras.Model:
    start = keras.Input((None, 4))
    return keras.Model(start, [conv()(start), conv()(start)])


def residual() -> keras.Model:
    start = keras.Input((None, 4))
    return keras.Model(start, keras.layers.Add(name="sum")([conv(padding="same")(start), start]))


LAYERS = keras.layers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LAYERS.Dense(3, name="head"), "layer 'head' must be a Conv.* got Dense; load the convolutions"),
        (lambda: LAYERS.Conv1D(4, 3, name="new"), r"layer 'new' has no weights yet; call its build\(input_shape\)"),
        (lambda: keras.Sequential([LAYERS.Conv1D(4, 3)]), "has no weights yet"),
        (lambda: keras.Sequential([], name="none"), "model 'none' must have layers, got none"),
        (lambda: keras.Sequential([keras.Sequential([conv()])]), "got Sequential"),
        (lambda: Doubled(4, 3), "got Doubled"),
        (lambda: built("Conv1D", 4, 3, activation="relu"), "has an activation"),
        (with_lora, "has LoRA weights; merge them first"),
        (lambda: conv(dtype="mixed_bfloat16"), "got the policy mixed_bfloat16; set its dtype_policy to 'float32'"),
        (lambda: [conv(), LAYERS.Activation("linear")], "got Activation"),
        (lambda: [conv(), LAYERS.MaxPooling1D(2)], "must take single positions, got pool_size=\\(2,\\)"),
        (lambda: [LAYERS.MaxPooling1D(1, 2), conv()], "left out by strides \\(2,\\) where no convolution precedes"),
        (lambda: [up(), LAYERS.MaxPooling1D(1, 2)], "where no convolution precedes"),
        (lambda: [conv(), LAYERS.ZeroPadding1D(1), LAYERS.MaxPooling1D(1, 2)], "where no convolution precedes"),
        (
            lambda: [LAYERS.Cropping1D(1), up()],
            "before a transposed convolution cannot be merged into it; crop its output",
        ),
        (lambda: [LAYERS.Cropping1D(1), LAYERS.ZeroPadding1D(1), conv()], "is followed by zero padding"),
        (lambda: [LAYERS.Cropping1D(1), conv(padding="same")], "is followed by zero padding"),
        (lambda: [conv(), LAYERS.ZeroPadding1D(1)], "belongs to no convolution"),
        (lambda: [LAYERS.ZeroPadding1D(1)], "belongs to no convolution"),
        (
            lambda: [built("Conv1DTranspose", 4, 3, padding="same"), LAYERS.ZeroPadding1D(1)],
            "that crops or has a bias cannot be merged",
        ),
        (lambda: [conv(), conv(data_format="channels_first", channels=5)], "must have one data_format"),
        (lambda: [LAYERS.ZeroPadding1D(1, dtype="float16"), conv()], "must have one dtype, got float16 and float32"),
        (two_outputs, "must have one input and one output, got 1 and 2"),
        (residual, "layer 'sum' must have one input, got 2"),
        (lambda: joined(lambda x: [x, x], up(), up()), "layer 'join' must join one transposed convolution per equal"),
        (lambda: joined(lambda x: halves(x)[::-1], up(channels=2), up(channels=2)), "in order"),
        (lambda: joined(halves, conv(channels=2), conv(channels=2)), "layer 'join' must join one transposed"),
        (lambda: joined(halves, up(channels=2), up(channels=2), axis=1), "layer 'join' must join one transposed"),
        (
            lambda: joined(lambda x: keras.ops.split(x, [1], axis=-1), up(channels=1), up(channels=3)),
            "layer 'join' must join one transposed",
        ),
        (
            lambda: joined(lambda x: keras.ops.split(x, 4, axis=-1)[:2], up(channels=1), up(channels=1)),
            "layer 'join' must join one transposed",
        ),
        (lambda: joined(halves, up(channels=2), up(channels=2, strides=2, padding="same")), "alike but for their"),
    ],
)
def test_what_is_no_sequence_is_refused(make: Callable[[], Any], message: str) -> None:
    obj = make()
    if isinstance(obj, list):
        obj = keras.Sequential(obj)
    with pytest.raises(UnsupportedExportError, match=message):
        load(obj, "keras")


def test_same_padding_that_depends_on_the_size_needs_it() -> None:
    with pytest.raises(GeometryError, match="input_size is needed to resolve same padding"):
        load(conv(padding="same", strides=2), "keras")
    with pytest.raises(GeometryError, match="input_size"):
        load(conv(padding="same", strides=2), "keras", input_size=(5, 5))


def test_an_inner_bias_is_refused() -> None:
    with pytest.raises(KernelError, match="layer 0 has a bias; only the last"):
        load(keras.Sequential([built("Conv1D", 4, 3), conv()]), "keras")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2])
def test_steps_along_the_channels_are_computed_and_come_back(ndim: int, bias: bool) -> None:
    sequence = channelwise(ndim, "float32", bias=bias)
    model = dump(sequence, "keras")
    order = "ChannelPermutation"
    assert kinds(model) == [order, f"Conv{ndim}D", order, "ChannelwiseConv", order]
    assert [one.name for one in model.layers] == ["before", "first", "2", "along", "after"]
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "keras"), sequence)
    assert model.output_shape == (*(None,) * (ndim + 1), 9)
    own = model.get_layer("along")
    remade = ChannelwiseConv.from_config(own.get_config())
    assert (remade.use_bias, remade.kernel_initializer.seed) == (bias, own.kernel_initializer.seed)


@pytest.mark.parametrize("seed", range(4))
def test_every_channelwise_axis_is_said_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ndim = 1 + seed % 2
    kernel = rng.standard_normal((2, *rng.integers(1, 4, ndim + 1)), "float32")
    geometry = ConvGeometry.of(
        ndim + 1,
        stride=rng.integers(1, 4, ndim + 1),
        dilation=rng.integers(1, 4, ndim + 1),
        padding=[(4, -3), (-3, 5), (-2, 1)][: ndim + 1] if seed < 3 else rng.integers(0, 3, (ndim + 1, 2)),
    )
    bare = ChannelwiseLayer(kernel, 9, geometry)
    one = ChannelwiseLayer(kernel, 9, geometry, rng.standard_normal(bare.out_channels, "float32"))
    model = dump(ConvSequence([one]), "keras")
    x = rng.standard_normal((2, 9, 9, 8)[: ndim + 2]).astype("float32")
    assert_computes(model, ConvSequence([one]), x)
    (own,) = model.layers
    size = (*x.shape[2:], 9)
    assert own.compute_output_shape((None, *size)) == (None, *one.output_size(x.shape[2:]), one.out_channels)
    assert_same(load(own, "keras"), ConvSequence([one]), names=False)


@keras_converts
def test_a_channelwise_kernel_stands_as_its_class_says() -> None:
    kernel = np.arange(2 * 3 * 4, dtype="float32").reshape(2, 3, 4)  # (J, D, K)
    (weight,) = dump(ConvSequence([ChannelwiseLayer(kernel, 5, ConvGeometry.of(2))]), "keras").weights
    assert weight.shape == (4, 3, 1, 2)
    assert weight.numpy()[3, 2, 0, 1] == kernel[1, 2, 3]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_by_values_is_computed_and_comes_back(mode: str, ndim: int) -> None:
    sequence = padded(ndim, mode, "float32")
    model = dump(sequence, "keras", policy="subsample")
    assert kinds(model)[0] == "ValuePadding"
    assert model.layers[0].compute_output_shape((None, *(None, 6, 5)[:ndim], 4)) == (None, *(None, 7, 9)[:ndim], 4)
    if ndim < 3 or BACKEND != "jax":  # JAX compiles long
        assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "keras"), sequence)


def test_an_input_too_short_to_be_padded_is_refused() -> None:
    for mode, shortest in (("reflect", 3), ("circular", 2)):
        model = dump(ConvSequence((PadLayer(((2, 0),), mode), conv_of(4))), "keras")
        x = data(1, "float32")
        assert run(model, x[..., :shortest]).shape == (2, 4, shortest + 1)
        with pytest.raises(GeometryError, match=f"allows {mode} padding of at most .* longer input"):
            run(model, x[..., : shortest - 1])


@pytest.mark.parametrize("forward", [True, False])
def test_paddings_are_told_apart_beside_other_steps(forward: bool) -> None:
    gaps = [(0, 0), (-1, 2), (1, -3)]
    kernel = layer("plain", 1, "float32", bias=False).kernel[:4]
    along = ChannelwiseLayer(
        np.ones((1, 3, 1), "float32"), 4, ConvGeometry.of(2, padding=((1, 1), (-1, 2))), None, "along"
    )
    for step in (PermuteLayer((3, 0, 1, 2), "order"), along, PadLayer(((1, 0),), "replicate", "border")):
        for own in gaps:
            for following in gaps:
                up = ConvLayer.of(kernel, stride=2, padding=[own], transposed=True)
                last = ConvLayer.of(kernel, padding=[following], transposed=not forward)
                sequence = ConvSequence((step, up, step, last, step))
                loaded = load(dump(sequence, "keras"), "keras")
                assert_same(loaded, sequence, names=False)


def conv_of(channels: int, ndim: int = 1, **options: Any) -> ConvLayer:
    """Return a convolution that keeps the number of channels."""
    rng = np.random.default_rng(7)
    shape = (channels, channels // options.get("groups", 1), *(2,) * ndim)
    return ConvLayer.of(rng.standard_normal(shape, "float32"), **options)


@pytest.mark.parametrize(
    ("policy", "separable"),
    [(("subsample", "branches"), False), (("dense",), True), (("branches", "dense", "equal-strides"), True)],
)
def test_every_policy_works_beside_other_steps(policy: tuple[str, ...], separable: bool) -> None:
    order = PermuteLayer.shuffle(8, 2, "shuffle")
    bare = replace(pointwise(), bias=None)
    along = channelwise(2, "float32", bias=False).layers[3]
    strides = (2, 1) if "equal-strides" in policy else 2
    sequence = ConvSequence(
        (
            PermuteLayer((1, 3, 0, 2)),
            conv_of(4, 2, transposed=True, stride=2, padding=1, groups=2, name="up"),
            PadLayer(((1, 0), (0, 2)), "reflect", "border"),
            depthwise(name="dw"),
            order,
            PadLayer.of(2, 1, "circular"),
            ConvLayer.of(np.ones((8, 1, 2, 2), "float32"), stride=strides, groups=8, name="dws"),
            bare,
            along,
            PermuteLayer.shuffle(9, 3),
            conv_of(9, 2, stride=2, dilation=2, padding=2),
            PermuteLayer.shuffle(9, 3, "after"),
        )
    )
    model = dump(sequence, "keras", policy=policy, separable=separable)
    assert isinstance(model, keras.Sequential) == ("branches" not in policy)
    assert_computes(model, sequence, data(2, "float32"))
    loaded = load(model, "keras")
    assert [type(step) for step in loaded] == [type(step) for step in sequence]
    assert {"up", "border", "dw", "shuffle", "along", "after"} <= {step.name for step in loaded}
    if policy == ("subsample", "branches"):
        assert_same(loaded, sequence, names=False)


@keras_converts
def test_other_steps_are_trained_saved_and_read_bitwise(tmp_path: Path) -> None:
    sequence = ConvSequence((PadLayer(((2, 1), (0, 1)), "circular", "border"), *channelwise(2, "float32")))
    model = dump(sequence, "keras")
    before = run(model, data(2, "float32"))
    assert [weight.path for weight in model.trainable_weights] == ["first/kernel", "along/kernel", "along/bias"]
    model.compile(optimizer="sgd", loss="mse")
    model.fit(np.moveaxis(data(2, "float32"), 1, -1), np.moveaxis(np.ones_like(before), 1, -1), epochs=1, verbose=0)
    trained = load(model, "keras")
    for ours, theirs in zip(trained, sequence, strict=True):
        assert (type(ours), str(ours), ours.name) == (type(theirs), str(theirs), theirs.name)
        if isinstance(ours, (ConvLayer, ChannelwiseLayer)) and isinstance(theirs, (ConvLayer, ChannelwiseLayer)):
            assert not np.any(ours.kernel == theirs.kernel)
    assert_computes(model, trained, data(2, "float32"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [one.get_config() for one in loaded.layers] == [one.get_config() for one in model.layers]
    assert_same(load(loaded, "keras"), trained)
    assert np.array_equal(run(loaded, data(2, "float32")), run(model, data(2, "float32")))


def test_the_size_is_followed_through_other_steps() -> None:
    parts = [
        ChannelPermutation((2, 1, 3, 0)),
        ValuePadding(((1, 0), (0, 1)), "replicate"),
        ChannelwiseConv(1, (1, 1, 1), (2, 1, 1), ((0, 0), (0, 1), (0, 0)), (1, 1, 1), use_bias=False),
        built("Conv2D", 4, 3, padding="same", strides=2),
    ]
    model = keras.Sequential([keras.Input((None, None, 4)), *parts])
    for size in [(7, 6), (8, 7)]:
        x = np.random.default_rng(6).standard_normal((1, 4, *size), "float32")
        assert_computes(model, load(model, "keras", input_size=size), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChannelPermutation((1, 0), name="only"), "'only' only orders channels; load it together with a conv"),
        (lambda: ChannelwiseConv(1, (1, 2), (1, 1), ((0, 0),) * 2, (1, 1), name="new"), "layer 'new' has no weights"),
        (lambda: [LAYERS.ZeroPadding1D(1), ValuePadding(((1, 1),), "reflect"), conv()], "no convolution takes it"),
        (lambda: [conv(), ChannelPermutation(range(4)), LAYERS.MaxPooling1D(1, 2)], "where no convolution precedes"),
        (lambda: [conv(), ValuePadding(((1, 1),), "reflect", dtype="float16")], "must have one dtype"),
        (lambda: [ChannelPermutation(range(4)), conv(data_format="channels_first")], "must have one data_format"),
    ],
)
def test_other_steps_that_are_no_sequence_are_refused(make: Callable[[], Any], message: str) -> None:
    obj = make()
    if isinstance(obj, list):
        obj = keras.Sequential(obj)
    with pytest.raises(UnsupportedExportError, match=message):
        load(obj, "keras")


def test_layers_of_our_own_refuse_what_they_cannot_be() -> None:
    with pytest.raises(KernelError, match="every channel from 0 to 1 once"):
        ChannelPermutation((0, 0))
    with pytest.raises(GeometryError, match="mode must be one of"):
        ValuePadding(((1, 1),), "symmetric")
    with pytest.raises(GeometryError, match="stride"):
        ChannelwiseConv(1, (1, 2), (1, 0), ((0, 0),) * 2, (1, 1))
    with pytest.raises(ValueError, match=r"expected axis -1 .* value 2"):  # Keras's own words
        ChannelPermutation((1, 0))(np.zeros((1, 5, 3), "float32"))


MEMORY = """
import resource, sys, warnings
import numpy as np
from tensorconv.export.keras import dump, load
from tensorconv.layers import ConvLayer, ConvSequence
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
small = ConvLayer.of(np.ones((4, 4, 3, 3), "float32"))
load(dump(small))
rng = np.random.default_rng(0)
layers = [ConvLayer.of(rng.standard_normal((682, 682, 3, 3), "float32"), transposed=i % 3 == 2) for i in range(6)]
sequence = ConvSequence(layers)
before = peak()
model = dump(sequence)
after = peak()
loaded = load(model)
print(sum(one.kernel.nbytes for one in layers), after - before, peak() - after)
"""


def test_the_memory_of_a_large_model_is_one_copy() -> None:
    # what is freed goes back at once, so that the peak is that of what is held
    environment = os.environ | {"KERAS_BACKEND": BACKEND, "MALLOC_MMAP_THRESHOLD_": "65536"}
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    )
    stored, dumped, loaded = map(int, re.findall(r"\d+", answer.stdout))
    # the copy itself, and two of one of the six layers on the way
    assert dumped < (1 + 2 / 6) * stored
    assert loaded < (1 + 2 / 6) * stored


@only_jax
def test_all_of_this_holds_on_the_torch_backend() -> None:
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-n0", "-p", "no:cacheprovider", "-k", "not memory"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert answer.returncode == 0, answer.stdout
