"""Tests of compose: the convolution it returns is the sequence, bit for bit, and what it refuses is none."""

from __future__ import annotations

import itertools
import math
import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from convolution.random_layers import seeds, smallest_size, whole_numbers
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype, unit_roundoff
from tensorconv.certificates import rounding_bound
from tensorconv.convolution import compose_parts
from tensorconv.errors import GeometryError, KernelError

LEGAL, ANY = "legal", "any"


@st.composite
def sequences(draw: st.DrawFn, *, n_layers: int, padding: str) -> tc.ConvSequence:
    """Draw layers of small integers: of one kind, but for pointwise layers of either; groups as they come.

    With padding LEGAL, no axis is padded after its first kernel (transposed: cropped before its last).
    """
    ndim, transposed = draw(st.integers(1, 2)), draw(st.booleans())
    channels = [draw(st.sampled_from([2, 4, 6])) for _ in range(n_layers + 1)]
    rng = np.random.default_rng(draw(seeds))
    layers = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(channels)):
        groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 6) if n_in % g == n_out % g == 0]))
        taps, stride, dilation, pairs = (1,) * ndim, (1,) * ndim, (1,) * ndim, ((0, 0),) * ndim
        kind = transposed
        if draw(st.integers(0, 3)) == 0:
            kind = draw(st.booleans())  # a pointwise layer, of either kind
        else:
            taps, stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in range(ndim)) for _ in range(3))
            free = padding == ANY or i == (n_layers - 1 if transposed else 0)
            sides = st.integers(-2, 2) if free else st.integers(-2, 0)
            pairs = tuple((draw(sides), draw(sides)) for _ in range(ndim))
        geometry = tc.ConvGeometry(stride, pairs, dilation, groups, kind)
        layers.append(tc.ConvLayer(whole_numbers((n_out, n_in // groups, *taps), rng), geometry))
    last = layers[-1]
    bias: Any = whole_numbers((last.out_channels,), rng) if draw(st.booleans()) else None
    return tc.ConvSequence((*layers[:-1], tc.ConvLayer(last.kernel, last.geometry, bias)))


def sizes(sequence: tc.ConvSequence) -> list[tuple[int, ...]]:
    """Return the three smallest sizes, equal on all axes, that the sequence takes, and one much larger."""
    first = sequence.layers[0]
    least, found = max(smallest_size(first.geometry, first.kernel_size)), list[tuple[int, ...]]()
    for n in range(least, least + 60):
        try:
            sequence.output_size((n,) * first.geometry.ndim)
        except GeometryError:
            continue
        found.append((n,) * first.geometry.ndim)
        if len(found) == 3:
            return [*found, (n + 7,) * first.geometry.ndim]
    return found


def assert_is_the_sequence(single: tc.ConvLayer, sequence: tc.ConvSequence) -> None:
    for size in sizes(sequence):
        x = whole_numbers((1, sequence.in_channels, *size), np.random.default_rng(size))
        # integers: both sides are exact
        assert np.array_equal(tc.convolve(x, single), tc.convolve(x, sequence)), size


@given(st.integers(2, 3).flatmap(lambda n: sequences(n_layers=n, padding=LEGAL)))
@settings(max_examples=250)
def test_padding_first_and_crops_last_always_compose(sequence: tc.ConvSequence) -> None:
    single = tc.compose(sequence)
    assert_is_the_sequence(single, sequence)
    assert single.geometry.groups == math.gcd(*(layer.geometry.groups for layer in sequence))


@given(st.integers(2, 3).flatmap(lambda n: sequences(n_layers=n, padding=ANY)))
@settings(max_examples=250)
def test_any_padding_is_composed_rightly_or_refused(sequence: tc.ConvSequence) -> None:
    try:
        single = tc.compose(sequence)
    except GeometryError:
        return
    assert_is_the_sequence(single, sequence)


@given(sequences(n_layers=3, padding=LEGAL))
@settings(max_examples=150)
def test_composition_is_associative(sequence: tc.ConvSequence) -> None:
    first, second, third = sequence
    left = tc.compose(tc.ConvSequence((tc.compose(tc.ConvSequence((first, second))), third)))
    right = tc.compose(tc.ConvSequence((first, tc.compose(tc.ConvSequence((second, third))))))
    assert left.geometry == right.geometry == tc.compose(sequence).geometry
    assert np.array_equal(left.kernel, right.kernel)
    assert np.array_equal(left.kernel, tc.compose(sequence).kernel)


def test_real_numbers_compose_to_rounding() -> None:
    rng = np.random.default_rng(0)
    layers = (
        tc.ConvLayer.of(rng.standard_normal((6, 2, 3, 3)), stride=2, padding=1, groups=2),
        tc.ConvLayer.of(rng.standard_normal((6, 2, 2, 3)), dilation=2, groups=3),
        tc.ConvLayer.of(rng.standard_normal((5, 6, 1, 1)), rng.standard_normal(5)),
    )
    sequence, x = tc.ConvSequence(layers), rng.standard_normal((2, 4, 17, 19))
    single = tc.compose(sequence)
    # the single kernel carries roundings of its own, no more than the sequence has: one bound for each
    bound = rounding_bound(x, single) + 2 * rounding_bound(x, sequence)
    assert (np.abs(tc.convolve(x, single) - tc.convolve(x, sequence)) <= bound).all()


GROUPS = (1, 2, 3, 4, 6, 12)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", list(itertools.product(GROUPS, GROUPS)))
def test_any_two_group_counts_compose(groups: tuple[int, int], transposed: bool) -> None:
    rng = np.random.default_rng(groups)
    shapes = ((12, 12 // groups[0], 2), (24, 12 // groups[1], 2))
    layers = [
        tc.ConvLayer.of(whole_numbers(shape, rng), groups=g, transposed=transposed)
        for shape, g in zip(shapes, groups, strict=True)
    ]
    single = tc.compose(tc.ConvSequence(tuple(layers)))
    assert single.geometry.groups == math.gcd(*groups)
    assert single.kernel.shape == (24, 12 // math.gcd(*groups), 3)
    assert_is_the_sequence(single, tc.ConvSequence(tuple(layers)))


# (taps, stride, dilation, low, high) of two layers of one axis, and what they compose to: taps at s1 d2 k2 + d1 k1,
# stride s1 s2, padding p1 + s1 p2; transposed: taps at s2 d1 k1 + d2 k2, padding s2 p1 + p2; zeros between are kept
Axis = tuple[int, int, int, int, int]
FORMULAS: dict[str, tuple[bool, Axis, Axis, Axis]] = {
    "plain": (False, (3, 1, 1, 1, 1), (2, 1, 1, 0, 0), (4, 1, 1, 1, 1)),
    "strides multiply": (False, (3, 2, 1, 1, 1), (2, 3, 1, 0, 0), (5, 6, 1, 1, 1)),
    "crops scale by the first stride": (False, (3, 2, 1, 1, 0), (2, 1, 1, -1, -2), (5, 2, 1, -1, -4)),
    "padding after one tap": (False, (1, 3, 1, 0, 1), (2, 1, 1, 1, 2), (2, 3, 3, 3, 7)),
    "dilation of the first, alone with taps": (False, (3, 2, 4, 1, 1), (1, 1, 5, 0, 0), (3, 2, 4, 1, 1)),
    "dilation of the second, scaled": (False, (1, 2, 5, 0, 0), (3, 1, 3, 1, 1), (3, 2, 6, 2, 2)),
    "gcd of both": (False, (3, 1, 4, 0, 0), (3, 1, 6, 0, 0), (11, 1, 2, 0, 0)),
    "one tap each: the larger": (False, (1, 1, 2, 0, 0), (1, 1, 5, 0, 0), (1, 1, 5, 0, 0)),
    "transposed": (True, (3, 2, 1, 0, 0), (2, 3, 1, 1, 2), (8, 6, 1, 1, 2)),
    "transposed, extended first": (True, (3, 2, 1, -1, -2), (2, 3, 1, 1, 1), (8, 6, 1, -2, -5)),
    "transposed, crop before one tap": (True, (2, 2, 1, 1, 1), (1, 3, 1, 0, 1), (2, 6, 3, 3, 4)),
    "transposed, dilation of the first, scaled": (True, (3, 1, 3, 0, 0), (1, 2, 5, 0, 0), (3, 2, 6, 0, 0)),
    "transposed, dilation of the second": (True, (1, 2, 5, 0, 0), (3, 2, 4, 1, 1), (3, 4, 4, 1, 1)),
}


def axis_layer(axis: Axis, transposed: bool, weights: Array | None = None) -> tc.ConvLayer:
    taps, stride, dilation, low, high = axis
    kernel = np.arange(1.0, taps + 1) if weights is None else weights
    return tc.ConvLayer.of(
        kernel[None, None], stride=stride, dilation=dilation, padding=((low, high),), transposed=transposed
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_geometries_follow_the_formulas(name: str) -> None:
    transposed, first, second, expected = FORMULAS[name]
    sequence = tc.ConvSequence((axis_layer(first, transposed), axis_layer(second, transposed)))
    single = tc.compose(sequence)
    geometry = single.geometry
    found = (*single.kernel_size, *geometry.stride, *geometry.dilation, *geometry.padding[0])
    assert found == expected
    assert geometry.transposed == transposed
    assert_is_the_sequence(single, sequence)


def test_a_kernel_by_hand() -> None:
    first = tc.ConvLayer.of([[[1.0, 2.0]]], stride=2)
    second = tc.ConvLayer.of([[[3.0, 0.0, 5.0]]])
    assert tc.compose(tc.ConvSequence((first, second))).kernel.tolist() == [[[3.0, 6.0, 0.0, 0.0, 5.0, 10.0]]]
    back = [tc.ConvLayer.of(layer.kernel, stride=layer.geometry.stride, transposed=True) for layer in (second, first)]
    assert tc.compose(tc.ConvSequence(tuple(back))).kernel.tolist() == [[[3.0, 6.0, 0.0, 0.0, 5.0, 10.0]]]


def weights(n_taps: int, first: bool) -> tuple[float, ...]:
    """Return weights whose sums of products do not vanish."""
    return ((2.0, 3.0, 5.0) if first else (7.0, 11.0, 13.0))[:n_taps]


@cache
def matrix(taps: tuple[float, ...], axis: Axis, transposed: bool, size: int) -> Array | None:
    """Return the matrix of a one-channel layer of one axis, None where it has no output."""
    _, stride, dilation, low, high = axis
    extent = dilation * (len(taps) - 1) + 1
    n_out = stride * (size - 1) + extent - low - high if transposed else (size + low + high - extent) // stride + 1
    if n_out < 1:
        return None
    rows = np.zeros((n_out, size))
    few, many = (rows.T, n_out) if transposed else (rows, size)
    for k, weight in enumerate(taps):
        for p in range(len(few)):
            at = stride * p + dilation * k - low
            if 0 <= at < many:
                few[p, at] += weight
    return rows


def composed(first: Axis, second: Axis, transposed: bool) -> tuple[tuple[float, ...], Axis]:
    """Return what the formulas make of any two layers, borders or not, with a dilation of 1."""
    (k1, s1, d1, l1, h1), (k2, s2, d2, l2, h2) = first, second
    taps: dict[int, float] = {}
    for (i, a), (j, b) in itertools.product(enumerate(weights(k1, True)), enumerate(weights(k2, False))):
        at = s2 * d1 * i + d2 * j if transposed else s1 * d2 * j + d1 * i
        taps[at] = taps.get(at, 0.0) + a * b
    n = max(taps) + 1
    low, high = (s2 * l1 + l2, s2 * h1 + h2) if transposed else (l1 + s1 * l2, h1 + s1 * h2)
    return tuple(taps.get(at, 0.0) for at in range(n)), (n, s1 * s2, 1, low, high)


def formula_holds(first: Axis, second: Axis, transposed: bool) -> bool:
    """Whether the composed formula is the two layers at every size up to 20: long enough for any remainder."""
    taps, axis = composed(first, second, transposed)
    for size in range(1, 21):
        one = matrix(weights(first[0], True), first, transposed, size)
        two = None if one is None else matrix(weights(second[0], False), second, transposed, len(one))
        if one is None or two is None:
            continue
        single = matrix(taps, axis, transposed, size)
        if single is None or single.shape != (len(two), size) or not np.array_equal(single, two @ one):
            return False
    return True


PADDINGS = ((0, 0), (1, 1), (0, 1), (2, 2), (-1, 0))
AXES = [(k, s, d, *pair) for k in (1, 2, 3) for s in (1, 2) for d in ((1, 2) if k > 1 else (1,)) for pair in PADDINGS]
# Refused though the formula holds: the rule looks at taps, padding and crops only, not at whether the first layer's own
# padding or stride already keeps its taps off the zeros (a kernel of two taps at stride 2 padded low, a kernel of three
# taps padded by two all round; transposed: a second layer whose taps do not reach back over what was cropped), or
# whether the second layer's stride steps over them. A wiser rule lowers these counts.
CAUTIOUS = {False: 306, True: 442}


@pytest.mark.parametrize("transposed", [False, True])
def test_every_pair_is_composed_rightly_or_refused_for_cause(transposed: bool) -> None:
    layers = [
        [axis_layer(axis, transposed, np.array(weights(axis[0], first))) for axis in AXES] for first in (True, False)
    ]
    outcomes = {(refused, holds): 0 for refused in (True, False) for holds in (True, False)}
    for (i, first), (j, second) in itertools.product(enumerate(AXES), enumerate(AXES)):
        sequence = tc.ConvSequence((layers[0][i], layers[1][j]))
        try:
            tc.compose(sequence)
            refused = False
        except GeometryError:
            refused = True
        outcomes[refused, formula_holds(first, second, transposed)] += 1
    assert outcomes[False, False] == 0
    assert outcomes[True, True] <= CAUTIOUS[transposed]
    assert outcomes[False, True] > 1000
    assert outcomes[True, False] > 300


def pair(first: dict[str, Any], second: dict[str, Any], taps: tuple[int, int] = (3, 3)) -> tc.ConvSequence:
    """Return two layers of one channel, with two axes of which the last is as told."""
    layers = []
    for n_taps, attributes in zip(taps, (first, second), strict=True):
        geometry = tc.ConvGeometry(
            stride=(1, attributes.get("stride", 1)),
            padding=((0, 0), attributes.get("padding", (0, 0))),
            dilation=(1, 1),
            transposed=attributes.get("transposed", False),
        )
        layers.append(tc.ConvLayer(np.ones((1, 1, 1, n_taps)), geometry))
    return tc.ConvSequence(tuple(layers))


BACK = {"transposed": True}
KINDS = "a convolution and a transposed convolution are one convolution only where one of them has kernel size 1"
REFUSALS: dict[str, tuple[tc.ConvSequence, str]] = {
    "padding after taps": (
        pair({}, {"padding": (1, 0)}),
        "layer 2 pads axis 1 by 1 after a layer of 3 taps and padding 0: no single convolution has zeros there; "
        "give the whole padding to the first layer of the axis",
    ),
    "high padding after taps": (pair({}, {"padding": (-1, 2)}), "layer 2 pads axis 1 by 2 after a layer of 3 taps"),
    "padding after a crop": (
        pair({"padding": (-1, 0)}, {"padding": (1, 1)}, (1, 3)),
        "layer 2 pads axis 1 by 1 after a layer of 1 taps and padding -1",
    ),
    "transposed crop before taps": (
        pair({**BACK, "padding": (0, 2)}, BACK),
        "transposed layer 1 crops axis 1 by 2 before a layer of 3 taps and padding 0, which would spread what was "
        "cropped; give the whole crop to the last layer of the axis",
    ),
    "transposed crop before an extension": (
        pair({**BACK, "padding": (1, 0)}, {**BACK, "padding": (-1, 0)}, (3, 1)),
        "transposed layer 1 crops axis 1 by 1 before a layer of 1 taps and padding -1",
    ),
    "up, then down": (pair({**BACK, "stride": 2}, {"stride": 3}), KINDS),
    "down, then up": (pair({"stride": 2}, {**BACK, "stride": 2}), KINDS),
    "one tap, but strided": (pair({"stride": 2}, {**BACK, "stride": 2}, (1, 1)), KINDS),
    "one tap, but padded": (pair({}, {**BACK, "padding": (1, 0)}, (3, 1)), KINDS),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_why_and_what_to_do(name: str) -> None:
    sequence, text = REFUSALS[name]
    with pytest.raises(GeometryError, match=re.escape(text)):
        tc.compose(sequence)


@pytest.mark.parametrize("kind", [False, True])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_pointwise_layers_go_with_either_kind(kind: bool, other: bool, first: bool) -> None:
    rng = np.random.default_rng(0)
    strided = tc.ConvLayer.of(whole_numbers((2, 2, 3), rng), stride=2, padding=1, transposed=kind)
    pointwise = tc.ConvLayer.of(whole_numbers((2, 2, 1), rng), transposed=other)
    layers = (pointwise, strided) if first else (strided, pointwise)
    single = tc.compose(tc.ConvSequence(layers))
    assert single.geometry.transposed == kind
    assert_is_the_sequence(single, tc.ConvSequence(layers))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_data_type_is_kept_and_rounded_to_once(dtype: str) -> None:
    rng = np.random.default_rng(0)
    shapes = ((5, 3, 3), (4, 5, 2), (6, 4, 2))
    kernels = [rng.standard_normal(shape).astype(named_dtype(dtype)) for shape in shapes]
    single = tc.compose(tc.ConvSequence(tuple(tc.ConvLayer.of(kernel) for kernel in kernels)))
    wide = tc.compose(tc.ConvSequence(tuple(tc.ConvLayer.of(kernel.astype("float64")) for kernel in kernels)))
    assert single.dtype == named_dtype(dtype)
    assert single.kernel.tobytes() == wide.kernel.astype(named_dtype(dtype)).tobytes()
    error = np.linalg.norm(single.kernel.astype("float64") - wide.kernel)
    assert error <= unit_roundoff(single.dtype) * np.linalg.norm(wide.kernel)


def test_a_composition_beyond_the_data_type_is_refused() -> None:
    layer = tc.ConvLayer.of(np.full((1, 1, 1), 300, "float16"))
    with pytest.raises(KernelError, match="kernel must hold finite numbers only, got NaN or inf"):
        tc.compose(tc.ConvSequence((layer, layer)))  # 90000 > 65504


def test_the_last_layers_bias_is_kept() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 2, 1)), [1.0, 2.0])
    single = tc.compose(tc.ConvSequence((tc.ConvLayer.of(np.ones((2, 2, 3))), layer)))
    assert single.bias is not None
    assert single.bias.tolist() == [1.0, 2.0]


def test_one_layer_is_its_own_composition() -> None:
    layer = tc.ConvLayer.of(np.ones((2, 2, 1)), [1.0, 2.0])
    assert tc.compose(layer) is layer
    assert tc.compose(tc.ConvSequence((layer,))) is layer


def test_plain_kernels_compose_in_float64() -> None:
    rng = np.random.default_rng(0)
    layers = [tc.ConvLayer.of(rng.standard_normal(shape).astype("float32")) for shape in ((3, 2, 3), (2, 3, 2))]
    kernel, geometry = compose_parts([(layer.kernel, layer.geometry) for layer in layers])
    assert kernel.dtype == np.float64
    single = tc.compose(tc.ConvSequence(tuple(layers)))
    assert single.geometry == geometry
    assert np.array_equal(kernel.astype("float32"), single.kernel)
    assert not np.array_equal(kernel, single.kernel)
