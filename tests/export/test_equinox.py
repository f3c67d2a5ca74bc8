"""Tests of the exporter "equinox": Equinox computes what the sequence says, and its layers are read as they compute."""

from __future__ import annotations

import io
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from export.jax_memory import peak_of_dump
from export.jax_sequences import mixed
from export.sequences import DTYPES, EXTENDED, GEOMETRIES, assert_same, chain, channelwise, data, layer, padded
from oracles import reference_bound, reference_sequence

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, GeometryError, KernelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.equinox_modules import ChannelPermutation, ChannelwiseConv, Pad
from tensorconv.export.jax_channels import Channelwise
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer

UNITS = [2.0**-24, 2.0**-53]  # Equinox rounds in float32, the reference in float64
KEY = jax.random.PRNGKey(0)


def assert_computes(model: Any, sequence: ConvSequence, x: Array) -> None:
    """Assert that a function of one image agrees with the reference to rounding."""
    y = np.stack([np.asarray(model(image)) for image in x])
    expected = reference_sequence(x, sequence)
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, UNITS))


def kernels(sequence: ConvSequence) -> list[Array]:
    """Return the arrays that are trained."""
    return [step.kernel for step in sequence if isinstance(step, (ConvLayer, ChannelwiseLayer))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", GEOMETRIES | EXTENDED)
def test_equinox_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, "float32", bias=bias).sequence
    model = dump(sequence, "equinox")
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "equinox"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_equinox_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim, "float32")
    model = dump(sequence, "equinox")
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "equinox"), sequence, names=False)  # Equinox has none


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_padding_by_values_is_computed_and_given_back(ndim: int, mode: str) -> None:
    sequence = padded(ndim, mode, "float32")
    model = dump(sequence, "equinox")
    # the first convolution pads by zeros itself, the second leaves its padding_mode to the layer before it
    assert [type(part) for part in model] == [Pad, eqx.nn.Conv, eqx.nn.Conv]
    assert model[2].padding_mode == mode.upper()
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "equinox"), sequence, names=False)


@pytest.mark.parametrize(("ndim", "bias"), [(1, True), (2, False), (3, True)])
def test_steps_along_the_channels_are_computed_and_given_back(ndim: int, bias: bool) -> None:
    sequence = channelwise(ndim, "float32", bias=bias)
    model = dump(sequence, "equinox")
    kinds = [ChannelPermutation, eqx.nn.Conv, ChannelPermutation, ChannelwiseConv, ChannelPermutation]
    assert [type(part) for part in model] == kinds
    assert_computes(model, sequence, data(ndim, "float32"))
    assert_same(load(model, "equinox"), sequence, names=False)


def test_steps_along_the_channels_stand_beside_every_other() -> None:
    model = dump(mixed(), "equinox")
    assert_computes(model, mixed(), data(1, "float32"))
    assert_same(load(model, "equinox"), mixed())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 3])
def test_every_data_type_comes_back_bitwise(ndim: int, dtype: str) -> None:
    for sequence in (chain(ndim, dtype), channelwise(ndim, dtype)):
        with jax.enable_x64(dtype == "float64"):
            model = dump(sequence, "equinox")
            assert {leaf.dtype.name for leaf in jax.tree.leaves(model)} == {dtype}
            assert eqx.filter_eval_shape(model, jnp.asarray(data(ndim)[0]).astype(dtype)).dtype == dtype
            assert_same(load(model, "equinox"), sequence, names=False)


def test_float64_is_refused_where_jax_would_round_it() -> None:
    with pytest.raises(UnsupportedExportError, match=r"float64, which JAX has in its 64-bit .*jax_enable_x64"):
        dump(layer("plain", 1), "equinox")


def test_the_kernels_stand_as_equinox_wants_them() -> None:
    kernel = np.arange(6 * 2 * 3.0, dtype=np.float32).reshape(6, 2, 3)  # (O, I/G, K) with 2 groups
    assert np.array_equal(dump(ConvLayer.of(kernel, groups=2), "equinox")[0].weight, kernel)
    backward = dump(ConvLayer.of(kernel, np.ones(6, np.float32), groups=2, transposed=True), "equinox")[0]
    assert np.array_equal(backward.weight, kernel[:, :, ::-1])
    assert backward.bias.shape == (6, 1)
    assert (backward.in_channels, backward.out_channels) == (4, 6)


TRAINED = [chain(2, "float32"), padded(1, "reflect", "float32"), channelwise(1, "float32")]


@pytest.mark.parametrize("sequence", TRAINED, ids=["chain", "padded", "channelwise"])
def test_a_trained_model_is_read_back(sequence: ConvSequence) -> None:
    model = dump(sequence, "equinox")
    x = data(sequence.ndim, "float32")

    @eqx.filter_value_and_grad
    def loss(model: Any) -> jax.Array:
        return jnp.mean(jnp.square(jax.vmap(model)(x)))

    optimizer = optax.adam(0.01)
    state, step, losses = optimizer.init(eqx.filter(model, eqx.is_array)), eqx.filter_jit(loss), []
    for _ in range(4):
        value, gradients = step(model)
        losses.append(float(value))
        updates, state = optimizer.update(gradients, state)
        model = eqx.apply_updates(model, updates)
    assert losses == sorted(losses, reverse=True)
    loaded = load(model, "equinox")
    assert_computes(model, loaded, x)
    assert [str(one) for one in loaded] == [str(one) for one in sequence]
    assert all(np.all(a != b) for a, b in zip(kernels(loaded), kernels(sequence), strict=True))
    assert_same(
        load(dump(sequence, "equinox"), "equinox"), sequence, names=False
    )  # training wrote into nothing of ours


@pytest.mark.parametrize("sequence", TRAINED[1:], ids=["padded", "channelwise"])
def test_a_model_can_be_saved(sequence: ConvSequence) -> None:
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, dump(sequence, "equinox"))
    file.seek(0)
    like = eqx.filter_eval_shape(lambda: jax.tree.map(jnp.zeros_like, dump(sequence, "equinox")))
    assert_same(load(eqx.tree_deserialise_leaves(file, like), "equinox"), sequence, names=False)


@pytest.mark.parametrize("sequence", TRAINED[1:], ids=["padded", "channelwise"])
def test_a_model_is_an_argument_of_a_compiled_function(sequence: ConvSequence) -> None:
    x = data(1, "float32")
    traced = []

    @jax.jit  # JAX's own takes it, since all leaves are arrays
    def run(model: Any, x: Any) -> Any:
        traced.append(1)
        return jax.vmap(model)(x)

    for _ in range(2):
        model = dump(sequence, "equinox")
        y = run(model, x)
    assert len(traced) == 1
    bound = reference_bound(x, sequence, UNITS)
    assert np.all(np.abs(np.asarray(y) - reference_sequence(x, sequence)) <= bound)
    assert model(x[0], key=KEY).shape == y.shape[1:]


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"padding": "same", "kernel_size": (2, 4), "dilation": (1, 2)},
    "same_lower": {"padding": "SAME_LOWER", "kernel_size": (2, 4)},
    "same strided": {"padding": "SAME", "stride": (2, 3), "groups": 2},
    "same, one tap": {"padding": "SAME", "stride": 2, "kernel_size": 1},
    "valid": {"padding": "VALID", "stride": 2, "use_bias": False},
    "pairs": {"padding": ((1, 2), (0, 3)), "dilation": 2},
    "reflect": {"padding": (1, 2), "padding_mode": "reflect", "stride": 2},
    "replicate": {"padding": ((1, 2), (3, 0)), "padding_mode": "REPLICATE"},
    "circular": {"padding": "SAME", "padding_mode": "CIRCULAR", "stride": (2, 3), "kernel_size": (4, 3)},
    "circular by none": {"padding": 0, "padding_mode": "CIRCULAR"},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "output_padding": {"stride": (2, 3), "padding": 1, "output_padding": (1, 2), "groups": 2},
    "pairs": {"stride": 2, "padding": ((0, 1), (3, -1)), "dilation": (2, 1)},
    "valid": {"padding": "VALID", "stride": 3},
    "same": {"padding": "SAME", "stride": (2, 3), "kernel_size": (4, 5), "use_bias": False},
    "same, gaps": {"padding": "SAME", "stride": (4, 3), "kernel_size": (2, 1)},
    "same_lower": {"padding": "SAME_LOWER", "stride": (2, 3), "kernel_size": (5, 4), "output_padding": (1, 0)},
    "circular": {"padding": "SAME", "padding_mode": "CIRCULAR", "stride": (2, 1), "kernel_size": (4, 3)},
    "circular, lower": {
        "padding": "SAME_LOWER",
        "padding_mode": "CIRCULAR",
        "stride": (1, 3),
        "kernel_size": (4, 4),
        "dilation": (2, 1),
    },
}


def cases() -> list[Any]:
    """Return kind and options of every layer."""
    kinds = [(eqx.nn.Conv2d, CONVOLUTIONS), (eqx.nn.ConvTranspose2d, TRANSPOSED)]
    return [
        pytest.param(kind, options, id=f"{kind.__name__}-{case}")
        for kind, all_ in kinds
        for case, options in all_.items()
    ]


@pytest.mark.parametrize(("kind", "options"), cases())
def test_an_equinox_layer_is_read_as_it_computes(kind: Any, options: dict[str, Any]) -> None:
    options = {"kernel_size": (3, 2)} | options
    rng = np.random.default_rng(5)
    one = eqx.filter_eval_shape(kind, 4, 6, key=KEY, **options)
    one = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, leaf.dtype)), one)
    x = rng.standard_normal((2, 4, 9, 8), np.float32)
    sequence = load(one, "equinox", input_size=x.shape[2:])
    assert_computes(one, sequence, x)
    assert_same(load(dump(sequence, "equinox"), "equinox"), sequence)


def test_the_input_size_runs_through_the_layers() -> None:
    options: dict[str, Any] = {"stride": (2, 3), "padding": "SAME", "use_bias": False, "key": KEY}
    strided = [eqx.nn.Conv2d(4, 4, (3, 4), **options) for _ in range(2)]
    model = eqx.nn.Sequential([*strided, Pad(((1, 2), (3, 0))), eqx.nn.Conv2d(4, 4, (3, 4), key=KEY)])
    x = np.random.default_rng(5).standard_normal((2, 4, 14, 13), np.float32)
    assert_computes(model, load(model, "equinox", input_size=(14, 13)), x)
    with pytest.raises(GeometryError, match="input_size is needed to resolve same padding"):
        load(model, "equinox")


def test_the_input_size_runs_through_steps_along_the_channels() -> None:
    shrinking = Channelwise(4, ConvGeometry((1, 2, 3), ((0, 0), (0, 0), (1, 0)), (1, 1, 1)))
    along = ChannelwiseConv(jnp.ones((1, 1, 1, 2, 1)), None, shrinking)
    rng = np.random.default_rng(5)
    last = eqx.filter_eval_shape(eqx.nn.Conv2d, 4, 4, (3, 4), stride=(2, 3), padding="SAME", key=KEY)
    last = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, leaf.dtype)), last)
    model = eqx.nn.Sequential([ChannelPermutation((1, 0, 3, 2)), along, last])
    x = rng.standard_normal((2, 4, 14, 14), np.float32)
    assert_computes(model, load(model, "equinox", input_size=14), x)


class Doubled(eqx.nn.Conv):
    """A convolution that does something else."""


CONV: dict[str, Any] = {"in_channels": 2, "out_channels": 2, "kernel_size": 3, "key": KEY}
REFUSED: dict[str, tuple[Any, str]] = {
    "activation": (jax.nn.relu, "load the convolutions of a larger model one by one"),
    "lambda": (eqx.nn.Sequential([eqx.nn.Conv1d(**CONV), eqx.nn.Lambda(jax.nn.relu)]), "got Lambda"),
    "nested": (eqx.nn.Sequential([eqx.nn.Sequential([eqx.nn.Conv1d(**CONV)])]), "got Sequential"),
    "subclass": (Doubled(1, **CONV), "got Doubled"),
    "order after a padding": (
        eqx.nn.Sequential([eqx.nn.Conv1d(**CONV), Pad(((1, 0),)), ChannelPermutation((1, 0))]),
        "no convolution takes it",
    ),
    "pad alone": (eqx.nn.Sequential([eqx.nn.Conv1d(**CONV), Pad(((1, 0),))]), "belongs to no convolution"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_sequence_is_refused(case: str) -> None:
    obj, message = REFUSED[case]
    with pytest.raises(UnsupportedExportError, match=message):
        load(obj, "equinox")


def test_arrays_that_do_not_fit_their_layer_are_refused() -> None:
    one = eqx.nn.Conv1d(**CONV)
    with pytest.raises(FormatError, match=r"weight of shape \(2, 2, 3\) .* holds \(2, 2, 4\)"):
        load(eqx.tree_at(lambda one: one.weight, one, jnp.ones((2, 2, 4))), "equinox")
    with pytest.raises(FormatError, match=r"a bias of \(2, 1\) holds .* and \(2,\)"):
        load(eqx.tree_at(lambda one: one.bias, one, jnp.ones(2)), "equinox")
    with pytest.raises(FormatError, match="one data type, got float32 and float16"):
        load(eqx.tree_at(lambda one: one.bias, one, jnp.ones((2, 1), jnp.float16)), "equinox")
    with pytest.raises(KernelError, match="layer 0 has a bias"):
        load(eqx.nn.Sequential([one, one]), "equinox")
    along = ChannelwiseConv(jnp.ones((5, 1, 3, 2)), jnp.ones(20), Channelwise(6, ConvGeometry.of(2)))
    assert load(along, "equinox").out_channels == 20
    with pytest.raises(FormatError, match=r"must have one in-channel.*got shape \(5, 3, 2\)"):
        load(eqx.tree_at(lambda one: one.weight, along, jnp.ones((5, 3, 2))), "equinox")
    with pytest.raises(FormatError, match=r"bias must have shape \(20,\)"):
        load(eqx.tree_at(lambda one: one.bias, along, jnp.ones(5)), "equinox")


def test_too_small_inputs_are_refused() -> None:
    kernel = np.ones((1, 1, 3), np.float32)
    convolution = ConvLayer.of(kernel, padding=1)
    model = dump(ConvSequence((PadLayer(((3, 0),), "reflect"), convolution)), "equinox")
    with pytest.raises(GeometryError, match="allows reflect padding of at most 2"):
        model(jnp.ones((1, 3)))
    model = dump(ConvLayer.of(kernel, padding=((-4, 0),)), "equinox")
    with pytest.raises(GeometryError, match="gives no output"):
        model(jnp.ones((1, 4)))


def test_other_channels_are_refused() -> None:
    model = dump(channelwise(1, "float32"), "equinox")
    for i in (2, 3):
        with pytest.raises(KernelError, match="x must have 6 channels, got 7"):
            model[i](jnp.ones((7, 5)))


def test_a_dump_takes_one_copy() -> None:
    assert peak_of_dump("equinox") < 1.1  # the arrays, and a tenth for what does not grow with them
