"""Tests of the exporter "flax": Flax computes what the sequence says, and its layers are read as they compute."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from export.jax_memory import peak_of_dump
from export.jax_sequences import mixed
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, channelwise, data, layer, padded
from flax import linen, nnx
from oracles import reference_bound, reference_sequence

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, GeometryError, KernelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.flax_modules import ChannelPermutation, ChannelwiseConv, Pad
from tensorconv.export.jax_channels import Channelwise
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer

UNITS = [2.0**-24, 2.0**-53]  # Flax rounds in float32, the reference in float64


def assert_computes(model: Any, sequence: ConvSequence, x: Array) -> None:
    """Assert that a function of (B, L1..LN, C) agrees with the reference to rounding."""
    y = np.moveaxis(np.asarray(model(jnp.asarray(np.moveaxis(x, 1, -1)))), -1, 1)
    expected = reference_sequence(x, sequence)
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, UNITS))


def kernels(sequence: ConvSequence) -> list[Array]:
    """Return the arrays that are trained."""
    return [step.kernel for step in sequence if isinstance(step, (ConvLayer, ChannelwiseLayer))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", GEOMETRIES | EXTENDED)
def test_flax_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, "float32", bias=bias, name="conv.1").sequence
    model = dump(sequence, "flax")
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "flax"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_flax_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim, "float32")
    model = dump(sequence, "flax")
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "flax"), sequence)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_padding_by_values_is_computed_and_given_back(ndim: int, mode: str) -> None:
    sequence = padded(ndim, mode, "float32")
    model = dump(sequence, "flax")
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "flax"), sequence)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("name", ["", "border"])
def test_padding_by_values_is_the_layers_own_where_flax_has_it(mode: str, name: str) -> None:
    one = layer("plain", 2, "float32")  # 3 x 2 taps: Flax pads by (1, 1) and (0, 1)
    sequence = ConvSequence((PadLayer(((1, 1), (0, 1)), mode, name), one))
    model = dump(sequence, "flax")
    own = mode != "replicate" and not name
    assert [type(part) for part in model.layers] == [nnx.Conv] if own else [Pad, nnx.Conv]
    assert_computes(model, sequence, data(2, "float32"))
    assert_same(load(model, "flax"), sequence)


@pytest.mark.parametrize(("ndim", "bias"), [(1, True), (2, False), (3, True)])
def test_steps_along_the_channels_are_computed_and_given_back(ndim: int, bias: bool) -> None:
    sequence = channelwise(ndim, "float32", bias=bias)
    model = dump(sequence, "flax")
    kinds = [ChannelPermutation, nnx.Conv, ChannelPermutation, ChannelwiseConv, ChannelPermutation]
    assert [type(part) for part in model.layers] == kinds
    assert model.layers[3].kernel.shape == (4, *(2, 3, 1, 2)[:ndim], 1, 3)  # Flax's order, the channels an axis
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "flax"), sequence)


def test_steps_along_the_channels_stand_beside_every_other() -> None:
    model = dump(mixed(), "flax")
    assert_computes(model, mixed(), data(1, "float32"))
    assert_same(load(model, "flax"), mixed())


def test_a_channelwise_convolution_computes_in_the_common_data_type() -> None:
    last = dump(channelwise(1, "bfloat16"), "flax").layers[3]
    x = jax.ShapeDtypeStruct((2, 7, 6), "float32")
    convolution = nnx.Conv(6, 6, (1,), param_dtype="bfloat16", rngs=nnx.Rngs(0))
    assert nnx.eval_shape(last, x).dtype == nnx.eval_shape(convolution, x).dtype == "float32"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 3])
def test_every_data_type_comes_back_bitwise(ndim: int, dtype: str) -> None:
    for sequence in (chain(ndim, dtype), channelwise(ndim, dtype)):
        with jax.enable_x64(dtype == "float64"):
            model = dump(sequence, "flax")
            assert {leaf.dtype.name for leaf in jax.tree.leaves(nnx.state(model))} == {dtype}
            x = jax.ShapeDtypeStruct(np.moveaxis(data(ndim), 1, -1).shape, dtype)
            assert nnx.eval_shape(model, x).dtype == dtype
            assert_same(load(model, "flax"), sequence)


def test_float64_is_refused_where_jax_would_round_it() -> None:
    with pytest.raises(UnsupportedExportError, match=r"float64, which JAX has in its 64-bit .*jax_enable_x64"):
        dump(layer("plain", 1), "flax")


def test_the_kernels_stand_as_flax_wants_them() -> None:
    kernel = np.arange(6 * 2 * 3.0, dtype=np.float32).reshape(6, 2, 3)  # (O, I/G, K) with 2 groups
    forward = dump(ConvLayer.of(kernel, groups=2), "flax").layers[0]
    assert forward.kernel.shape == (3, 2, 6)
    assert forward.kernel[2, 1, 4] == kernel[4, 1, 2]
    backward = dump(ConvLayer.of(kernel, groups=2, transposed=True), "flax").layers[0]
    assert backward.input_dilation == (1,)  # given per axis: a transposed convolution, of stride 1 too
    assert backward.kernel[0, 1, 4] == kernel[4, 1, 2]  # flipped


TRAINED = [chain(2, "float32"), padded(1, "reflect", "float32"), channelwise(1, "float32")]


@pytest.mark.parametrize("sequence", TRAINED, ids=["chain", "padded", "channelwise"])
def test_a_trained_model_is_read_back(sequence: ConvSequence) -> None:
    model = dump(sequence, "flax")
    x = jnp.asarray(np.moveaxis(data(sequence.ndim, "float32"), 1, -1))
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)

    @nnx.jit
    def step(model: nnx.Sequential, optimizer: nnx.Optimizer[nnx.Sequential]) -> jax.Array:
        loss, gradients = nnx.value_and_grad(lambda model: jnp.mean(jnp.square(model(x))))(model)
        optimizer.update(model, gradients)
        return jnp.asarray(loss)

    losses = [float(step(model, optimizer)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    loaded = load(model, "flax")
    assert_computes(model, loaded, data(sequence.ndim, "float32"))
    assert [str(one) for one in loaded] == [str(one) for one in sequence]
    assert all(np.all(a != b) for a, b in zip(kernels(loaded), kernels(sequence), strict=True))
    assert_same(load(dump(sequence, "flax"), "flax"), sequence)  # training wrote into nothing of ours


@pytest.mark.parametrize("sequence", TRAINED[1:], ids=["padded", "channelwise"])
def test_a_model_can_be_split_merged_and_saved(sequence: ConvSequence) -> None:
    graph, state = nnx.split(dump(sequence, "flax"))
    assert_same(load(nnx.merge(graph, state), "flax"), sequence)
    saved = pickle.loads(pickle.dumps(nnx.to_pure_dict(state)))  # noqa: S301  # our own bytes
    other = dump(sequence, "flax")
    empty = jax.tree.map(jnp.zeros_like, nnx.state(other))
    nnx.replace_by_pure_dict(empty, saved)
    nnx.update(other, empty)
    assert_same(load(other, "flax"), sequence)


def test_compiling_twice_is_not_needed() -> None:
    traced = []

    @nnx.jit
    def run(model: nnx.Sequential, x: jax.Array) -> Any:
        traced.append(1)
        return model(x)

    for _ in range(2):  # two models of equal layers
        run(dump(padded(1, "reflect", "float32"), "flax"), jnp.ones((1, 7, 4)))
    assert len(traced) == 1
    for _ in range(2):
        run(dump(channelwise(1, "float32"), "flax"), jnp.ones((1, 7, 4)))
    assert len(traced) == 2


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same": {},
    "same strided": {"strides": (2, 3), "kernel_dilation": (1, 2)},
    "same, one tap": {"strides": 2, "kernel_size": (1, 1)},
    "same_lower": {"padding": "SAME_LOWER", "kernel_size": (2, 4)},
    "valid": {"padding": "valid", "strides": 2, "use_bias": False},
    "int": {"padding": 2, "kernel_dilation": 2, "feature_group_count": 2},
    "ints": {"padding": (1, (0, 2)), "strides": (1, 2)},
    "circular": {"padding": "CIRCULAR", "kernel_size": (4, 3), "kernel_dilation": (1, 2), "strides": 2},
    "reflect": {"padding": "REFLECT", "kernel_size": (4, 3), "feature_group_count": 4},
    "circular, one tap": {"padding": "CIRCULAR", "kernel_size": (1, 1)},
    "causal": {"padding": "CAUSAL", "kernel_size": (3,), "kernel_dilation": 2, "strides": 2},
    "transposed": {"input_dilation": (2, 3), "padding": ((1, 3), (0, 1)), "feature_group_count": 2},
    "transposed, one for all": {"input_dilation": 2, "padding": 1, "use_bias": False},
    "transposed, stride 1, same": {"input_dilation": (1, 1), "kernel_size": (4, 3)},
    "transposed, stride 1, circular": {"input_dilation": (1, 1), "padding": "CIRCULAR", "kernel_size": (4, 3)},
    "transposed, stride 1": {"input_dilation": (1, 1), "padding": ((1, 3), (0, 1))},
    "stride, dilation 1 per axis": {"input_dilation": (1, 1), "strides": (1, 2), "padding": 1},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "same": {},
    "same strided": {"strides": (2, 3), "kernel_size": (2, 4)},
    "same dilated": {"strides": (3, 2), "kernel_dilation": (2, 1), "kernel_size": (2, 4)},
    "valid": {"padding": "VALID", "strides": (2, 1), "kernel_size": (4, 2)},
    "valid, gaps": {"padding": "VALID", "strides": (4, 3), "kernel_size": (2, 1), "use_bias": False},
    "pairs": {"padding": ((1, 2), (0, 3)), "strides": (2, 1)},
    "pairs with a negative": {"padding": ((1, 0), (4, -1)), "strides": (2, 3), "kernel_dilation": (2, 1)},
    "int": {"padding": 1},
    "circular": {"padding": "CIRCULAR", "strides": (2, 3), "kernel_size": (4, 5)},
    "circular, odd": {"padding": "CIRCULAR", "strides": (2, 1), "kernel_size": (5, 4), "kernel_dilation": (1, 2)},
    "circular, gaps": {"padding": "CIRCULAR", "strides": (3, 4), "kernel_size": (3, 2)},
}


def random_entries(_: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Return an array as Flax's initializers do, without compiling a generator for each shape."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, dtype))


RANDOM: dict[str, Any] = {"kernel_init": random_entries, "bias_init": random_entries}


def parameters(module: Any) -> dict[str, jax.Array]:
    """Return the parameters of an NNX layer as those of a Linen layer."""
    return {"kernel": module.kernel[...]} | ({"bias": module.bias[...]} if module.use_bias else {})


def inputs(options: dict[str, Any]) -> Array:
    """Return an input with as many axes as the layer's kernel."""
    size = options.get("kernel_size", (3, 2))
    return np.random.default_rng(5).standard_normal((2, 4, *(9, 8)[: np.size(size)]), np.float32)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_flax_convolution_is_read_as_it_computes(case: str) -> None:
    options: dict[str, Any] = {"kernel_size": (3, 2)} | CONVOLUTIONS[case]
    x = inputs(options)
    one = nnx.Conv(4, 8, rngs=nnx.Rngs(0), **RANDOM, **options)
    sequence = load(one, "flax", input_size=x.shape[2:])
    assert_computes(one, sequence, x)
    assert_same(load(dump(sequence, "flax"), "flax"), sequence)
    same, variables = linen.Conv(8, **options), {"params": parameters(one)}
    sequence = load((same, variables), "flax", input_size=x.shape[2:])
    assert_computes(lambda x: same.apply(variables, x), sequence, x)
    assert_same(load((same, variables["params"]), "flax", input_size=x.shape[2:]), sequence)


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_flax_transposed_convolution_is_read_as_it_computes(case: str, transpose_kernel: bool) -> None:
    options: dict[str, Any] = {"kernel_size": (3, 2), "transpose_kernel": transpose_kernel} | TRANSPOSED[case]
    x = inputs(options)
    one = nnx.ConvTranspose(4, 8, rngs=nnx.Rngs(0), **RANDOM, **options)
    sequence = load(one, "flax")
    assert_computes(one, sequence, x)
    assert_same(load(dump(sequence, "flax"), "flax"), sequence)
    same, variables = linen.ConvTranspose(8, name="up", **options), {"params": parameters(one)}
    sequence = load((same, variables), "flax")
    assert_computes(lambda x: same.apply(variables, x), sequence, x)
    assert sequence.layers[-1].name == "up"


def test_the_input_size_runs_through_the_layers() -> None:
    rngs = nnx.Rngs(0)
    layers = [nnx.Conv(4, 4, (3, 4), strides=(2, 3), use_bias=False, rngs=rngs) for _ in range(2)]
    model = nnx.Sequential(*layers, Pad(((1, 2), (3, 0))), nnx.Conv(4, 4, (3, 4), padding="VALID", rngs=rngs))
    x = np.random.default_rng(5).standard_normal((2, 4, 14, 13), np.float32)
    assert_computes(model, load(model, "flax", input_size=(14, 13)), x)
    with pytest.raises(GeometryError, match="input_size is needed to resolve same padding"):
        load(model, "flax")


def test_the_input_size_runs_through_steps_along_the_channels() -> None:
    shrinking = Channelwise(4, ConvGeometry((1, 2, 3), ((0, 0), (0, 0), (1, 0)), (1, 1, 1)))
    last = nnx.Conv(4, 4, (3, 4), strides=(2, 3), rngs=nnx.Rngs(0), **RANDOM)
    along = ChannelwiseConv(jnp.ones((1, 2, 1, 1, 1)), None, shrinking)
    model = nnx.Sequential(ChannelPermutation((1, 0, 3, 2)), along, last)
    x = np.random.default_rng(5).standard_normal((2, 4, 14, 14), np.float32)
    assert_computes(model, load(model, "flax", input_size=14), x)


def conv(**options: Any) -> nnx.Conv:
    """Return a small layer."""
    return nnx.Conv(2, 2, (3,), rngs=nnx.Rngs(0), **options)


def reshaped() -> nnx.Conv:
    """Return a layer whose kernel someone replaced."""
    one = conv()
    one.kernel = nnx.Param(jnp.ones((3, 2, 5)))
    return one


class Doubled(nnx.Conv):
    """A convolution that does something else."""


class Reversed(ChannelPermutation):
    """An order that does something else."""


REFUSED: dict[str, tuple[Any, str]] = {
    "order alone": (nnx.Sequential(conv(), Pad(((1, 0),)), ChannelPermutation((1, 0))), "no convolution takes it"),
    "subclass of an order": (Reversed((1, 0)), "got Reversed"),
    "activation": (nnx.relu, "got .*; load the convolutions of a larger model one by one"),
    "linear": (nnx.Sequential(conv(), nnx.Linear(2, 2, rngs=nnx.Rngs(0))), "got Linear"),
    "nested": (nnx.Sequential(nnx.Sequential(conv())), "got Sequential"),
    "subclass": (Doubled(2, 2, (3,), rngs=nnx.Rngs(0)), "got Doubled"),
    "mask": (conv(mask=jnp.ones((3, 2, 2))), "a mask of its own .*apply it to the kernel"),
    "promotion": (conv(promote_dtype=lambda arrays, **_: arrays), "promote_dtype of its own .*to its default"),
    "function": (conv(conv_general_dilated=lambda *_, **__: None), "a conv_general_dilated of its own"),
    "element type": (conv(preferred_element_type=jnp.float32), "a preferred_element_type of its own"),
    "dtype": (conv(dtype=jnp.bfloat16), "float32 parameters computes in dtype=bfloat16; set its dtype to None"),
    "both": (conv(strides=2, input_dilation=3), r"strides \(2,\) and input_dilation \(3,\) is neither.*two layers"),
    "word over a dilated input": (conv(input_dilation=2), "no padding 'SAME' over a dilated input; give .low, high"),
    "word": (conv(padding="EXPLICIT"), "no convolution is defined by padding 'EXPLICIT'"),
    "transposed word": (
        nnx.ConvTranspose(2, 2, (3,), padding="CAUSAL", rngs=nnx.Rngs(0)),
        "no transposed convolution is defined by padding 'CAUSAL'",
    ),
    "pad alone": (nnx.Sequential(conv(), Pad(((1, 0),))), "belongs to no convolution"),
    "linen without bias": ((linen.Conv(2, (3,)), {"kernel": np.ones((3, 2, 2))}), r"bias and kernel, got \['kernel'\]"),
    "linen without parameters": ((linen.Conv(2, (3,)), None), "bias and kernel, got NoneType"),
    "linen dense": ((linen.Dense(2), {"kernel": np.ones((2, 2))}), "got tuple"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_sequence_is_refused(case: str) -> None:
    obj, message = REFUSED[case]
    with pytest.raises(UnsupportedExportError, match=message):
        load(obj, "flax")


def test_arrays_that_do_not_fit_their_layer_are_refused() -> None:
    with pytest.raises(FormatError, match=r"shape \(3, 2, 2\) holds one of \(3, 2, 5\)"):
        load(reshaped(), "flax")
    with pytest.raises(FormatError, match="one data type, got float32 and float64"):
        load((linen.Conv(2, (3,)), {"kernel": np.ones((3, 2, 2), np.float32), "bias": np.ones(2)}), "flax")
    with pytest.raises(KernelError, match="layer 0 has a bias"):
        load(nnx.Sequential(conv(), conv()), "flax")
    step = Channelwise(6, ConvGeometry.of(2))
    for shape, bias, message in [
        ((3, 2, 5), None, r"must have one in-channel.*got shape \(5, 2, 3\)"),
        ((3,), None, r"got shape \(3,\)"),
        ((3, 2, 1, 5), jnp.ones(4), r"bias must have shape \(20,\)"),
    ]:
        with pytest.raises(FormatError, match=message):
            load(ChannelwiseConv(jnp.ones(shape), bias, step), "flax")


def test_too_small_inputs_are_refused() -> None:
    kernel = np.ones((1, 1, 3), np.float32)
    model = dump(ConvSequence((PadLayer(((3, 0),), "reflect"), ConvLayer.of(kernel))), "flax")
    with pytest.raises(GeometryError, match="allows reflect padding of at most 2"):
        model(jnp.ones((1, 3, 1)))
    model = dump(ConvLayer.of(kernel, padding=((-4, 0),)), "flax")
    with pytest.raises(GeometryError, match="gives no output"):
        model(jnp.ones((1, 4, 1)))


def test_other_channels_are_refused() -> None:
    model = dump(channelwise(1, "float32"), "flax")
    for i, channels in [(2, 6), (3, 6)]:
        with pytest.raises(KernelError, match=f"x must have {channels} channels, got 7"):
            model.layers[i](jnp.ones((2, 5, 7)))


def test_a_dump_takes_one_copy() -> None:
    assert peak_of_dump("flax") < 1.1  # the arrays, and a tenth for what does not grow with them


def test_paddings_in_lists_are_read() -> None:
    layer = nnx.Conv(2, 3, (3, 3), padding=[(1, 1), (0, 2)], rngs=nnx.Rngs(0))
    assert load(layer, "flax").convolutions[0].geometry.padding == ((1, 1), (0, 2))
