"""Tests of the exporter "jax": XLA computes what the sequence says, and its parameters give it back bitwise."""

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
from oracles import reference_bound, reference_sequence, reference_step

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, GeometryError, KernelError, UnsupportedExportError
from tensorconv.export import dump, load
from tensorconv.export.jax import Apply
from tensorconv.export.jax_channels import Channelwise, convolve_channels, order_channels
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer

UNITS = [2.0**-24, 2.0**-53]  # JAX rounds in float32, the reference in float64


def assert_computes(params: Any, apply: Apply, sequence: ConvSequence, x: Array) -> None:
    """Assert that XLA agrees with the reference to rounding."""
    y = np.asarray(apply(params, x))  # not compiled as a whole: XLA compiles each convolution once for all tests
    expected = reference_sequence(x, sequence)
    assert y.shape == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, UNITS))


def kernels(sequence: ConvSequence) -> list[Array]:
    """Return the arrays that are trained."""
    return [step.kernel for step in sequence if isinstance(step, (ConvLayer, ChannelwiseLayer))]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", GEOMETRIES | EXTENDED)
def test_jax_computes_the_layer_and_gives_it_back(kind: str, ndim: int, bias: bool) -> None:
    sequence = layer(kind, ndim, "float32", bias=bias, name="conv.1").sequence
    params, apply = dump(sequence, "jax")
    assert_computes(params, apply, sequence, data(ndim, "float32"))
    assert_same(load((params, apply), "jax"), sequence)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_jax_computes_a_chain_and_gives_it_back(ndim: int) -> None:
    sequence = chain(ndim, "float32")
    params, apply = dump(sequence, "jax")
    assert_computes(params, apply, sequence, data(ndim, "float32"))
    assert_same(load((params, apply), "jax"), sequence)


@pytest.mark.parametrize("size", [(5, 6), (8, 7), (11, 10)])
@pytest.mark.parametrize("padding", [((-1, 2), (-1, 2)), ((-1, 1), (-2, -1)), ((-9, 12), (0, 0))])
def test_cropping_before_a_strided_convolution_is_exact(padding: Any, size: tuple[int, int]) -> None:
    # XLA on a CPU computes such ones wrongly if it is given the negative padding
    kernel = np.random.default_rng(0).standard_normal((3, 4, 3, 2), np.float32)
    sequence = ConvLayer.of(kernel, padding=padding, stride=2).sequence
    x = np.random.default_rng(1).standard_normal((2, 4, *size), np.float32)
    assert_computes(*dump(sequence, "jax"), sequence, x)


@pytest.mark.parametrize("transposed", [False, True])
def test_there_may_be_more_than_four_axes(transposed: bool) -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 2, 2, 1, 2, 2, 1, 2), np.float32)
    options: dict[str, Any] = {"padding": ((1, 0), (0, 1), (-1, 0), (0, 0), (1, 1), (0, -1)), "transposed": transposed}
    sequence = ConvLayer.of(kernel, stride=(2, 1, 1, 1, 2, 1), groups=2, **options).sequence
    x = np.random.default_rng(1).standard_normal((1, 4, 3, 2, 4, 3, 2, 3), np.float32)
    params, apply = dump(sequence, "jax")
    assert_computes(params, apply, sequence, x)
    assert_same(load((params, apply), "jax"), sequence)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_padding_by_values_is_computed_and_given_back(ndim: int, mode: str) -> None:
    sequence = padded(ndim, mode, "float32")
    params, apply = dump(sequence, "jax")
    assert [sorted(arrays) for arrays in params] == [[], ["kernel"], [], ["kernel"]]
    assert_computes(params, apply, sequence, data(ndim, "float32"))
    assert_same(load((params, apply), "jax"), sequence)


@pytest.mark.parametrize(("ndim", "bias"), [(1, True), (2, False), (3, True), (4, True)])
def test_steps_along_the_channels_are_computed_and_given_back(ndim: int, bias: bool) -> None:
    sequence = channelwise(ndim, "float32", bias=bias)
    params, apply = dump(sequence, "jax")
    assert [{key: array.ndim for key, array in arrays.items()} for arrays in params] == [
        {},
        {"kernel": ndim + 2},
        {},
        {"kernel": ndim + 3} | ({"bias": 1} if bias else {}),
        {},
    ]
    assert_computes(params, apply, sequence, data(ndim, "float32"))
    assert_same(load((params, apply), "jax"), sequence)


def test_steps_along_the_channels_stand_beside_every_other() -> None:
    params, apply = dump(mixed(), "jax")
    assert_computes(params, apply, mixed(), data(1, "float32"))
    assert_same(load((params, apply), "jax"), mixed())


CROPPING = Channelwise(7, ConvGeometry((2, 1, 2), ((-1, 2), (1, 0), (2, -2)), (1, 2, 1)))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gradient_flows_through_a_channelwise_convolution(channels_last: bool) -> None:
    rng = np.random.default_rng(3)
    kernel, direction = (rng.standard_normal((2, 3, 2, 3), np.float32) for _ in range(2))
    x = rng.standard_normal((2, 7, 6, 8), np.float32)
    own, moved = (ChannelwiseLayer(one, CROPPING.in_channels, CROPPING.geometry) for one in (kernel, direction))
    weight = np.moveaxis(kernel, 0, -1)[..., None, :] if channels_last else kernel[:, None]
    weights_of_y = rng.standard_normal(reference_step(x, own).shape, np.float32)

    def loss(weight: Any) -> jax.Array:
        view = np.moveaxis(x, 1, -1) if channels_last else x
        y = convolve_channels(view, weight, CROPPING, channels_last=channels_last, precision="highest")
        return jnp.sum((jnp.moveaxis(y, -1, 1) if channels_last else y) * weights_of_y)

    gradient = np.asarray(jax.grad(loss)(weight), np.float64)
    gradient = np.moveaxis(gradient, (-1, -2), (0, 1))[:, 0] if channels_last else gradient[:, 0]
    # linear in the kernel; an entry of the gradient sums at most as many products as a map has outputs
    expected = np.sum(weights_of_y * reference_step(x, moved))
    n = weights_of_y[:, : weights_of_y.shape[1] // 2].size
    bound = n * 2.0**-24 / (1 - n * 2.0**-24) * np.sum(abs(weights_of_y) * reference_step(abs(x), moved, absolute=True))
    assert abs(np.sum(gradient * direction) - expected) <= 1.01 * bound  # a hundredth for the sums in float64
    assert abs(expected) > 100 * bound


@pytest.mark.parametrize("channels_last", [False, True])
def test_negative_padding_never_goes_to_lax(channels_last: bool) -> None:
    kernel = np.ones((3, 2, 3, 1, 2) if channels_last else (2, 1, 3, 2, 3), np.float32)
    x = np.ones((2, 6, 8, 7) if channels_last else (2, 7, 6, 8), np.float32)
    run = jax.make_jaxpr(lambda x: convolve_channels(x, kernel, CROPPING, channels_last=channels_last))(x)
    (convolution,) = (one for one in run.eqns if one.primitive.name == "conv_general_dilated")
    assert convolution.params["padding"] == ((0, 0),) * 3


def test_other_channels_or_axes_are_refused() -> None:
    for channels_last, shape in [(False, (2, 8, 5)), (True, (2, 5, 8))]:
        with pytest.raises(KernelError, match="x must have 6 channels, got 8; check the order of its axes"):
            order_channels(np.ones(shape), range(6), channels_last=channels_last)
    kernel = np.ones((1, 1, 3, 2, 3), np.float32)
    with pytest.raises(KernelError, match="x must have 7 channels, got 9"):
        convolve_channels(np.ones((1, 9, 6, 8), np.float32), kernel, CROPPING)
    with pytest.raises(GeometryError, match="one entry per spatial axis, 3 here"):
        convolve_channels(np.ones((1, 7, 6), np.float32), kernel, CROPPING)
    with pytest.raises(GeometryError, match="gives no output on axis 2"):
        convolve_channels(np.ones((1, 7, 6, 1), np.float32), kernel, CROPPING)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [1, 3])
def test_every_data_type_comes_back_bitwise(ndim: int, dtype: str) -> None:
    for sequence in (chain(ndim, dtype), channelwise(ndim, dtype)):
        with jax.enable_x64(dtype == "float64"):
            params, apply = dump(sequence, "jax")
            assert {array.dtype.name for arrays in params for array in arrays.values()} == {dtype}
            x = jax.ShapeDtypeStruct(data(ndim).shape, dtype)
            assert jax.eval_shape(apply, params, x).dtype == dtype
            assert_same(load((params, apply), "jax"), sequence)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_data_type_is_computed(dtype: str) -> None:
    sequence = chain(1, dtype)
    with jax.enable_x64(dtype == "float64"):
        params, apply = dump(sequence, "jax")
        y = jax.jit(apply)(params, jnp.asarray(data(1)).astype(dtype))
    assert y.dtype == dtype
    unit = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}[dtype]
    # rounding the input to the type is one more rounding per product of the first layer, n u covers 5 layers of them
    bound = reference_bound(data(1), sequence, [unit, unit])
    assert np.all(np.abs(np.asarray(y, np.float64) - reference_sequence(data(1), sequence)) <= bound)


def test_float64_is_refused_where_jax_would_round_it() -> None:
    with pytest.raises(UnsupportedExportError, match=r"float64, which JAX has in its 64-bit .*jax_enable_x64"):
        dump(layer("plain", 1), "jax")


def test_the_function_can_be_hashed_compared_and_pickled() -> None:
    for sequence in (channelwise(1, "float32"), padded(2, "reflect", "float32")):
        _, apply = dump(sequence, "jax")
        again = pickle.loads(pickle.dumps(apply))  # noqa: S301  # our own bytes
        assert again == apply
        assert hash(again) == hash(apply)
    assert apply != dump(padded(2, "circular", "float32"), "jax")[1]


def test_the_function_is_a_static_argument_and_takes_maps() -> None:
    sequence, x = chain(2, "float32"), data(2, "float32", batch=3)
    params, apply = dump(sequence, "jax")
    run = jax.jit(lambda apply, params, x: apply(params, x), static_argnums=0)
    one_by_one = jax.vmap(lambda image: apply(params, image[None])[0])(x)
    bound = reference_bound(x, sequence, UNITS)
    for y in (run(apply, params, x), one_by_one):
        assert np.all(np.abs(np.asarray(y) - reference_sequence(x, sequence)) <= bound)


TRAINED = [chain(2, "float32"), padded(1, "reflect", "float32"), channelwise(1, "float32")]


@pytest.mark.parametrize("sequence", TRAINED, ids=["chain", "padded", "channelwise"])
def test_trained_parameters_are_read_back(sequence: ConvSequence) -> None:
    params, apply = dump(sequence, "jax")
    x = data(sequence.ndim, "float32")

    def loss(params: Any) -> jax.Array:
        return jnp.mean(jnp.square(apply(params, x)))

    optimizer = optax.adam(0.01)
    state, before, step = optimizer.init(params), params, jax.jit(jax.value_and_grad(loss))
    losses = []
    for _ in range(4):
        value, gradients = step(params)
        losses.append(float(value))
        updates, state = optimizer.update(gradients, state)
        params = optax.apply_updates(params, updates)
    assert losses == sorted(losses, reverse=True)
    loaded = load((params, apply), "jax")
    assert_computes(params, apply, loaded, x)
    assert [str(one) for one in loaded] == [str(one) for one in sequence]
    assert all(np.all(a != b) for a, b in zip(kernels(loaded), kernels(sequence), strict=True))
    assert_same(load((before, apply), "jax"), sequence)  # training wrote into nothing of ours
    as_numpy = [{key: np.asarray(array) for key, array in arrays.items()} for arrays in params]
    assert_same(load((as_numpy, apply), "jax"), loaded)


def test_the_arrays_own_their_memory() -> None:
    layers = [layer("plain", 2, "float32", seed=seed) for seed in range(20)]  # some are aligned as XLA likes it
    for one in layers:
        params, _ = dump(one, "jax")
        kernel = params[0]["kernel"]
        assert kernel.unsafe_buffer_pointer() != one.kernel.ctypes.data
    jax.block_until_ready(jax.jit(lambda a: a * 0, donate_argnums=0)(kernel))  # writes into the donated array
    assert np.all(layers[-1].kernel != 0)


def test_too_small_inputs_are_refused() -> None:
    kernel = np.ones((1, 1, 3), np.float32)
    params, apply = dump(ConvSequence((PadLayer(((3, 0),), "reflect"), ConvLayer.of(kernel))), "jax")
    assert apply(params, jnp.ones((1, 1, 4))).shape == (1, 1, 5)
    with pytest.raises(GeometryError, match="allows reflect padding of at most 2"):
        apply(params, jnp.ones((1, 1, 3)))
    params, apply = dump(ConvLayer.of(kernel), "jax")
    with pytest.raises(GeometryError, match="gives no output"):
        apply(params, jnp.ones((1, 1, 2)))
    with pytest.raises(GeometryError, match="one entry per spatial axis, 1 here"):
        apply(params, jnp.ones((1, 1, 5, 5)))


def test_the_precision_is_the_highest_unless_asked_for_less() -> None:
    params, apply = dump(layer("plain", 1, "float32"), "jax")
    x = data(1, "float32")
    assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in str(jax.make_jaxpr(apply)(params, x)).replace(
        "\n", " "
    )
    fast = Apply(apply.steps, apply.names, precision=None)
    assert "HIGHEST" not in str(jax.make_jaxpr(fast)(params, x))


PARAMS, APPLY = dump(layer("plain", 1, "float32"), "jax")
BROKEN: dict[str, tuple[Any, str]] = {
    "none": ([], "one dict per step, 1 in all, got list of 0"),
    "dict": ({"0": PARAMS[0]}, "got dict of 1"),
    "other": (None, "got NoneType"),
    "no dict": ([np.ones(3)], r"params\[0\] must be a dict .*got ndarray"),
    "no kernel": ([{"bias": PARAMS[0]["bias"]}], r"params\[0\] must be .*kernel.*got \['bias'\]"),
    "more": ([PARAMS[0] | {"scale": 1}], r"got \['bias', 'kernel', 'scale'\]"),
    "axes": ([{"kernel": np.ones((2, 2, 2, 2), np.float32)}], "geometry has 1 spatial axes"),
    "bias": ([PARAMS[0] | {"bias": np.ones(5, np.float32)}], r"bias must have shape \(6,\)"),
    "dtype": ([PARAMS[0] | {"bias": np.ones(6)}], "one data type, got float32 and float64"),
    "integers": ([{"kernel": np.ones((2, 2, 2), int)}], "real floating-point type"),
    "nan": ([{"kernel": np.full((2, 2, 2), np.nan, np.float32)}], "finite numbers only"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_parameters_of_another_structure_are_refused(case: str) -> None:
    params, message = BROKEN[case]
    with pytest.raises(FormatError, match=message):
        load((params, APPLY), "jax")


def test_arrays_of_another_channelwise_convolution_are_refused() -> None:
    params, apply = dump(channelwise(1, "float32"), "jax")
    kernel, bias = params[3]["kernel"], params[3]["bias"]
    for arrays, message in [
        ({"kernel": kernel[0]}, r"over 1 spatial axes must have one in-channel.*got shape \(1, 4, 2\)"),
        ({"kernel": jnp.concatenate([kernel] * 2, axis=1)}, r"got shape \(3, 2, 4, 2\)"),
        ({"kernel": kernel[:2], "bias": bias}, r"bias must have shape \(6,\).*got \(9,\)"),
        ({"kernel": jnp.concatenate([kernel] * 3, axis=2)}, "no channel-wise convolution: input_size .* no output"),
        ({"kernel": kernel, "bias": bias.astype("float16")}, "one data type, got float32 and float16"),
        ({}, r"params\[3\] must be a dict of arrays kernel and"),
    ]:
        with pytest.raises(FormatError, match=message):
            load(([*params[:3], arrays, params[4]], apply), "jax")
    with pytest.raises(
        FormatError, match=r"params\[2\] must be a dict of nothing, for shuffle of 2 groups, got \['kernel"
    ):
        load(([*params[:2], params[1], *params[3:]], apply), "jax")


def test_arrays_of_a_padding_are_refused() -> None:
    params, apply = dump(padded(1, "reflect", "float32"), "jax")
    with pytest.raises(
        FormatError, match=r"params\[0\] must be a dict of nothing, for reflect padding .*, got \['kernel'\]"
    ):
        load(([params[1], *params[1:]], apply), "jax")


@pytest.mark.parametrize("obj", [PARAMS, (PARAMS, dump), (PARAMS,), APPLY])
def test_what_is_no_pair_is_refused(obj: Any) -> None:
    with pytest.raises(UnsupportedExportError, match=r"pair \(params, apply\).*ConvLayer.of"):
        load(obj, "jax")


def test_a_dump_takes_one_copy() -> None:
    assert peak_of_dump("jax") < 1.1  # the arrays, and a tenth for what does not grow with them
