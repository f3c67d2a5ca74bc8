"""Tests of the costs: numbers worked out by hand, taps counted one by one, and the limit of large inputs."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorconv import cost
from tensorconv.errors import GeometryError
from tensorconv.geometry import ConvGeometry

Chain = list[tuple[tuple[int, ...], ConvGeometry]]


def chain(*layers: tuple[tuple[int, ...], dict[str, Any]]) -> Chain:
    return [(shape, ConvGeometry.of(len(shape) - 2, **integers)) for shape, integers in layers]


# a strided 3x3 convolution of c = 4 to n = 6 channels on 8 x 10 positions: P_in = 80, P_out = 4 * 5 = 20, K = 9
FULL = {"stride": 2, "padding": 1}
BY_HAND: dict[str, tuple[Chain, int, int]] = {
    # name: (chain, MACs, parameters)
    "dense": (chain(((6, 4, 3, 3), FULL)), 6 * 4 * 9 * 20, 216),
    "two depthwise terms, then pointwise": (
        chain(((8, 1, 3, 3), {**FULL, "groups": 4}), ((6, 8, 1, 1), {})),
        2 * (4 * 9 + 6 * 4) * 20,
        8 * 9 + 6 * 8,
    ),
    "two pointwise terms, then depthwise": (
        chain(((12, 4, 1, 1), {}), ((6, 2, 3, 3), {**FULL, "groups": 6})),
        2 * (6 * 4 * 80 + 6 * 9 * 20),
        12 * 4 + 6 * 2 * 9,
    ),
    "channel decomposition, full then pointwise": (
        chain(((3, 4, 3, 3), FULL), ((6, 3, 1, 1), {})),
        3 * 4 * 9 * 20 + 6 * 3 * 20,
        3 * 36 + 18,
    ),
    "channel decomposition, pointwise then full": (
        chain(((2, 4, 1, 1), {}), ((6, 2, 3, 3), FULL)),
        2 * 4 * 80 + 6 * 2 * 9 * 20,
        8 + 108,
    ),
    "spatial: the height first, so 4 x 10 positions between": (
        chain(
            ((5, 4, 3, 1), {"stride": (2, 1), "padding": (1, 0)}), ((6, 5, 1, 3), {"stride": (1, 2), "padding": (0, 1)})
        ),
        5 * 4 * 3 * 40 + 6 * 5 * 3 * 20,
        60 + 90,
    ),
    "Tucker-2 of ranks 2 and 3": (
        chain(((2, 4, 1, 1), {}), ((3, 2, 3, 3), FULL), ((6, 3, 1, 1), {})),
        4 * 2 * 80 + 2 * 3 * 9 * 20 + 6 * 3 * 20,
        8 + 54 + 18,
    ),
    "CP of rank 5": (
        chain(
            ((5, 4, 1, 1), {}),
            ((5, 1, 3, 1), {"stride": (2, 1), "padding": (1, 0), "groups": 5}),
            ((5, 1, 1, 3), {"stride": (1, 2), "padding": (0, 1), "groups": 5}),
            ((6, 5, 1, 1), {}),
        ),
        4 * 5 * 80 + 5 * (3 * 40 + 3 * 20) + 6 * 5 * 20,
        5 * (4 + 6 + 3 + 3),
    ),
    "tensor train of ranks 2, 3, 5": (
        chain(
            ((2, 4, 1, 1), {}),
            ((3, 2, 3, 1), {"stride": (2, 1), "padding": (1, 0)}),
            ((5, 3, 1, 3), {"stride": (1, 2), "padding": (0, 1)}),
            ((6, 5, 1, 1), {}),
        ),
        4 * 2 * 80 + 2 * 3 * 3 * 40 + 3 * 5 * 3 * 20 + 6 * 5 * 20,
        8 + 18 + 45 + 30,
    ),
    "transposed, counted at its 80 inputs": (
        chain(((6, 2, 4, 4), {"stride": 2, "padding": 1, "transposed": True, "groups": 2})),
        6 * 2 * 16 * 80,
        192,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_macs_and_parameters_are_the_hand_worked_ones(name: str) -> None:
    layers, macs, n_parameters = BY_HAND[name]
    assert cost.chain_cost(layers, "macs", (8, 10)) == macs
    assert cost.chain_cost(layers, "parameters") == n_parameters
    assert cost.chain_cost(layers, "parameters", (8, 10), n_bias=6) == n_parameters + 6
    assert isinstance(cost.chain_cost(layers, "macs"), Fraction)


@pytest.mark.parametrize("name", [name for name in BY_HAND if not name.startswith("transposed")])
def test_every_chain_of_the_table_ends_at_the_dense_layers_size(name: str) -> None:
    assert cost.chain_output_size(BY_HAND[name][0], (8, 10)) == (4, 5)


def test_bytes_count_each_layers_input_output_and_parameters_once() -> None:
    layers = chain(((8, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 4}), ((6, 8, 1, 1), {}))
    depthwise = 4 * 80 + 8 * 20 + 72
    pointwise = 8 * 20 + 6 * 20 + 48 + 6
    assert cost.chain_cost(layers, "bytes", (8, 10), n_bias=6) == 4 * (depthwise + pointwise)
    assert cost.chain_cost(layers, "bytes", (8, 10), n_bias=6, itemsize=2) == 2 * (depthwise + pointwise)
    assert cost.chain_cost(layers, "bytes", n_bias=6) == 4 * (4 + Fraction(8 + 8 + 6, 4))


def test_bytes_of_a_transposed_layer_grow_with_its_output() -> None:
    layers = chain(((6, 4, 2), {"stride": 2, "transposed": True}))
    assert cost.chain_cost(layers, "bytes", (10,)) == 4 * (4 * 10 + 6 * 20 + 48)
    assert cost.chain_cost(layers, "bytes") == 4 * (4 + 6 * 2)


def test_the_limit_hands_the_stride_on_to_the_later_layers() -> None:
    down_and_up = chain(
        ((2, 3, 1, 1), {"stride": (2, 3)}),
        ((5, 2, 1, 1), {}),
        ((7, 5, 2, 2), {"stride": (4, 1), "transposed": True}),
        ((1, 7, 1, 1), {}),
    )
    assert cost.chain_cost(down_and_up, "macs") == Fraction(6 + 10 + 7 * 5 * 4, 6) + Fraction(7 * 4, 6)


def test_an_empty_chain_costs_nothing() -> None:
    assert cost.chain_cost([], "macs", (4, 4)) == cost.chain_cost([], "bytes") == 0
    assert cost.chain_output_size([], (4, 5)) == (4, 5)


@st.composite
def layers_on_axes(draw: st.DrawFn, ndim: int) -> tuple[tuple[int, ...], ConvGeometry]:
    """Draw a kernel shape and a geometry whose extent is at most 5 on an axis."""

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(ndim))

    transposed, groups = draw(st.booleans()), draw(st.sampled_from([1, 2]))
    geometry = ConvGeometry.of(ndim, stride=axes(1, 3), dilation=axes(1, 2), groups=groups, transposed=transposed)
    return (2 * groups, draw(st.integers(1, 2)), *axes(1, 3)), geometry


def counted_taps(shape: tuple[int, ...], geometry: ConvGeometry, input_size: tuple[int, ...]) -> int:
    """Count one multiply-accumulate at a time: walk positions, channels that see one another, and taps."""
    walked = input_size if geometry.transposed else geometry.output_size(input_size, shape[2:])
    n_in, n_out = shape[1] * geometry.groups, shape[0]
    pairs = sum(
        o // (n_out // geometry.groups) == i // (n_in // geometry.groups) for o in range(n_out) for i in range(n_in)
    )
    return sum(pairs for _ in itertools.product(*map(range, walked), *map(range, shape[2:])))


@given(st.data())
@settings(max_examples=60)
def test_macs_are_the_taps_counted_one_by_one(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape, geometry = data.draw(layers_on_axes(ndim))
    input_size = tuple(data.draw(st.integers(5, 7)) for _ in range(ndim))
    assert cost.chain_cost([(shape, geometry)], "macs", input_size) == counted_taps(shape, geometry, input_size)


@given(st.data())
@settings(max_examples=60)
def test_the_cost_per_position_comes_down_to_the_limit(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    layers = [data.draw(layers_on_axes(ndim)) for _ in range(data.draw(st.integers(1, 3)))]
    length = 6**12
    # A layer's output differs from input / stride (transposed: input * stride) by at most extent + stride <= 5 + 3
    # positions of at least length / 27 on an axis: 9 such factors for 3 layers of 3 axes, doubled for their products.
    # Parameters, at most 4 * 2 * 27 a layer, vanish in the same bound.
    bound = Fraction(2 * 9 * 8 * 27, length)
    for of in ("macs", "bytes"):
        limit = cost.chain_cost(layers, of)
        at_length = cost.chain_cost(layers, of, (length,) * ndim) / Fraction(length) ** ndim
        assert abs(at_length - limit) <= bound * limit


def test_a_measure_that_does_not_exist_is_refused() -> None:
    message = r"of must be one of \('macs', 'parameters', 'bytes'\), got 'flops'"
    with pytest.raises(GeometryError, match=message):
        cost.chain_cost(BY_HAND["dense"][0], "flops")


def test_an_impossible_size_is_refused_at_the_layer_that_cannot_have_it() -> None:
    shrinking = chain(((2, 2, 3), {}), ((2, 2, 3), {}))
    assert cost.chain_output_size(shrinking, (5,)) == (1,)
    for call in (lambda: cost.chain_output_size(shrinking, (4,)), lambda: cost.chain_cost(shrinking, "macs", (4,))):
        with pytest.raises(GeometryError, match=r"input_size \(2,\) gives no output on axis 0"):
            call()
    with pytest.raises(GeometryError, match=r"input_size must have one entry per spatial axis, 1 here, got \(4, 4\)"):
        cost.chain_cost(shrinking, "macs", (4, 4))


@pytest.mark.parametrize("of", ["macs", "bytes"])
def test_one_integer_as_input_size_means_every_axis_or_is_refused_by_name(of: str) -> None:
    dense = BY_HAND["dense"][0]
    try:
        got = cost.chain_cost(dense, of, 8)  # type: ignore[arg-type]
    except GeometryError as error:
        assert "input_size" in str(error)  # noqa: PT017 - both outcomes are fine, a bare TypeError is not
    else:
        assert got == cost.chain_cost(dense, of, (8, 8))


def test_costs_do_not_overflow() -> None:
    huge = chain(((2**20, 2**20, 3, 3), {"padding": 1}))
    assert cost.chain_cost(huge, "macs", (2**20, 2**20)) == 9 * 2**80
    assert math.prod((2**20, 2**20)) * 9 == cost.chain_cost(huge, "parameters")
