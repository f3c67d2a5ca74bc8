"""Tests of ConvLayer and ConvSequence: layouts against the frameworks' own numbers, adjoints, what a value promises."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import reference_convolution

from tensorconv import cost
from tensorconv.arrays import Array
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry
from tensorconv.layers import (
    ConvLayer,
    ConvSequence,
    as_layer,
    as_sequence,
)
from tensorconv.text import aligned_table


def small_integers(*shape: int, seed: int = 0) -> Array:
    """Return whole numbers from -4 to 4 as float64: their products and sums here are exact, so results are bitwise."""
    values: Array = np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)
    return values


def executed(layer: ConvLayer, x: Array) -> Array:
    """Apply a layer to (C, *L) by the tests' own convolution."""
    y: Array = reference_convolution(x[None], layer.kernel, layer.geometry, layer.bias)[0]
    return y


@st.composite
def layers(draw: st.DrawFn) -> tuple[ConvLayer, tuple[int, ...]]:
    """Draw a layer of any geometry and an input size at which it has an output."""
    ndim = draw(st.integers(1, 3))

    def axes(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(ndim)]

    groups = draw(st.sampled_from([1, 2, 3]))
    geometry = ConvGeometry.of(
        ndim,
        stride=axes(1, 3),
        padding=list(zip(axes(-1, 2), axes(-2, 2), strict=True)),
        dilation=axes(1, 2),
        groups=groups,
        transposed=draw(st.booleans()),
    )
    kernel = small_integers(groups * draw(st.integers(1, 2)), draw(st.integers(1, 2)), *axes(1, 3))
    layer, input_size = ConvLayer(kernel, geometry), tuple(axes(1, 4))
    try:
        output_size = layer.output_size(input_size)
    except GeometryError:
        assume(False)
    assume(math.prod(output_size) <= 400)
    return layer, input_size


@given(layers())
@settings(max_examples=80)
def test_the_adjoint_satisfies_its_defining_equation(drawn: tuple[ConvLayer, tuple[int, ...]]) -> None:
    layer, input_size = drawn
    output_size = layer.output_size(input_size)
    adjoint = layer.adjoint(input_size)
    assert adjoint.output_size(output_size) == input_size
    assert (adjoint.in_channels, adjoint.out_channels) == (layer.out_channels, layer.in_channels)
    x = small_integers(layer.in_channels, *input_size, seed=1)
    u = small_integers(layer.out_channels, *output_size, seed=2)
    assert np.vdot(executed(layer, x), u) == np.vdot(x, executed(adjoint, u))


@given(layers())
@settings(max_examples=80)
def test_the_adjoints_adjoint_is_the_linear_part(drawn: tuple[ConvLayer, tuple[int, ...]]) -> None:
    layer, input_size = drawn
    twice = layer.adjoint(input_size).adjoint(layer.output_size(input_size))
    np.testing.assert_array_equal(twice.kernel, layer.kernel)
    g, extent = (
        layer.geometry,
        [d * (k - 1) + 1 for d, k in zip(layer.geometry.dilation, layer.kernel_size, strict=True)],
    )
    rest = [
        0 if g.transposed else (x + low + high - e) % s
        for x, e, s, (low, high) in zip(input_size, extent, g.stride, g.padding, strict=True)
    ]  # what a stride that does not divide leaves unread at the high end comes off the padding there
    unread = tuple((low, high - r) for (low, high), r in zip(g.padding, rest, strict=True))
    assert twice.geometry == replace(g, padding=unread)
    assert twice.output_size(input_size) == layer.output_size(input_size)


def test_the_adjoint_drops_the_bias_and_keeps_the_name() -> None:
    layer = ConvLayer.of(np.ones((2, 3, 3)), np.ones(2), name="first")
    adjoint = layer.adjoint((8,))
    assert (adjoint.bias, adjoint.name, adjoint.geometry.transposed) == (None, "first", True)


def test_the_bias_takes_the_kernels_type() -> None:
    layer = ConvLayer.of(np.ones((2, 1, 1), "float32"), np.array([1 / 3, 1.0]))
    assert layer.bias is not None
    assert layer.bias.dtype == layer.dtype == np.float32
    assert layer.bias[0] == np.float32(1 / 3)


def test_a_layers_numbers() -> None:
    layer = ConvLayer.of(np.ones((6, 2, 3, 5)), np.ones(6), stride=(2, 1), padding=(1, 2), groups=2, name="conv1")
    assert (layer.in_channels, layer.out_channels, layer.kernel_size) == (4, 6, (3, 5))
    assert layer.n_parameters == 6 * 2 * 15 + 6
    assert layer.output_size((9, 7)) == (5, 7)
    assert layer.macs((9, 7)) == 6 * 2 * 15 * 35
    assert type(layer.macs((9, 7))) is int
    assert ConvLayer.of(np.ones((6, 2, 3, 5)), stride=2, transposed=True).macs((9, 7)) == 6 * 2 * 15 * 63
    assert str(layer) == "4 -> 6, kernel 3x5, stride (2,1), padding ((1,1),(2,2)), groups 2, bias"
    assert repr(layer) == f"<ConvLayer 'conv1': {layer}, float64>"
    assert as_sequence(layer).layers == (layer,)


def test_a_layer_is_a_value_that_does_not_change() -> None:
    layer = ConvLayer.of(np.ones((2, 1, 1)), np.ones(2))
    with pytest.raises(FrozenInstanceError):
        layer.kernel = np.zeros((2, 1, 1))  # type: ignore[misc]
    assert layer != ConvLayer(layer.kernel, layer.geometry, layer.bias)  # by identity: arrays have no single truth
    assert len({layer, layer}) == 1


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])  # noqa: S301
def test_copies_of_a_layer_are_read_only_too(again: Any) -> None:
    layer = again(ConvLayer.of(np.ones((2, 1, 1)), np.ones(2)))
    assert not layer.kernel.flags.writeable
    assert not layer.bias.flags.writeable


def test_a_sequences_numbers_are_the_sums_over_its_layers() -> None:
    first = ConvLayer.of(np.ones((4, 1, 3, 3)), stride=2, padding=1, groups=4)
    last = ConvLayer.of(np.ones((7, 4, 1, 1)), np.ones(7))
    sequence = ConvSequence(iter([first, last]))  # type: ignore[arg-type]
    assert sequence.layers == (first, last) == tuple(sequence)
    assert len(sequence) == 2
    assert sequence.chain == [((4, 1, 3, 3), first.geometry), ((7, 4, 1, 1), last.geometry)]
    assert (sequence.in_channels, sequence.out_channels, sequence.dtype) == (4, 7, np.dtype(np.float64))
    assert sequence.bias is last.bias
    assert sequence.n_parameters == 36 + 28 + 7
    assert sequence.output_size((8, 9)) == (4, 5)
    assert sequence.macs((8, 9)) == first.macs((8, 9)) + last.macs((4, 5)) == (36 + 28) * 20
    assert type(sequence.macs((8, 9))) is int
    assert sequence.macs((8, 9)) == cost.chain_cost(sequence.chain, "macs", (8, 9))
    assert repr(sequence) == "<ConvSequence of 2: (4, 1, 3, 3), (7, 4, 1, 1), float64>"


def test_a_sequence_prints_as_a_table() -> None:
    first = ConvLayer.of(np.ones((40, 20, 3)), padding=1, name="conv1/in")
    sequence = ConvSequence((first, ConvLayer.of(np.ones((7, 40, 1)), np.ones(7))))
    assert str(sequence).splitlines() == [
        "layer     channels  kernel  geometry                   parameters",
        "conv1/in  20 -> 40       3  stride 1, padding 1             2,400",
        "1         40 -> 7        1  stride 1, padding 0, bias         287",
    ]


def test_aligned_table_puts_numbers_to_the_right_and_leaves_no_trailing_space() -> None:
    assert aligned_table([("a", "n", "b"), ("xx", "10", "yyy"), ("x", "9", "y")]) == "a    n  b\nxx  10  yyy\nx    9  y"


def sources_of_a_sequence(layer: ConvLayer) -> Iterator[Any]:
    class Factorized:
        sequence = as_sequence(layer)

    yield from (layer, as_sequence(layer), Factorized())


def test_as_sequence_and_as_layer_take_what_means_one() -> None:
    layer = ConvLayer.of(np.ones((2, 3, 4)))
    for source in sources_of_a_sequence(layer):
        assert as_sequence(source).layers == (layer,)
    assert as_layer(layer) is layer
    assert as_layer([[[1.0, 2.0]]]).geometry == ConvGeometry.of(1)


@pytest.mark.parametrize("number", ["macs", "output_size", "adjoint"])
def test_one_integer_as_input_size_means_every_axis_or_is_refused_by_name(number: str) -> None:
    layer = ConvLayer.of(np.ones((2, 3, 3, 3)))
    for target in (layer, as_sequence(layer)) if number != "adjoint" else (layer,):
        try:
            got = getattr(target, number)(8)
        except GeometryError as error:
            assert "input_size" in str(error)  # noqa: PT017 - both outcomes are fine, a bare TypeError is not
        else:
            assert str(got) == str(getattr(target, number)((8, 8)))
