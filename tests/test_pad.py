"""Tests of padding by values as a step of a sequence: executed, counted, checked, saved; no convolution itself."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from export.sequences import assert_same, data, padded
from oracles import reference_bound, reference_padding, reference_sequence

import tensorconv as tc
from tensorconv.certificates import pad_norm_bound, rounding_bound
from tensorconv.errors import FormatError, GeometryError, KernelError, KernelTypeError
from tensorconv.layers.pad import PAD_MODES

FLOAT64 = 2.0**-53


def reflect(*pairs: tuple[int, int]) -> tc.PadLayer:
    return tc.PadLayer(pairs, "reflect")


def test_a_step_is_made_from_integers() -> None:
    assert tc.PadLayer.of(2, 1, "circular") == tc.PadLayer(((1, 1), (1, 1)), "circular")
    assert tc.PadLayer.of(2, (1, 2), "circular").padding == ((1, 1), (2, 2))
    assert tc.PadLayer.of(2, [(1, 0), (0, 2)], "circular", "border") == tc.PadLayer(
        [[1, 0], [0, 2]], "circular", "border"
    )  # type: ignore[arg-type]
    assert str(reflect((1, 2), (0, 0))) == "reflect padding ((1,2),(0,0))"
    assert len({reflect((1, 1)), reflect((1, 1)), reflect((1, 2))}) == 2


@pytest.mark.parametrize(
    ("padding", "mode", "message"),
    [
        (((1, -1),), "reflect", "at least 0 per spatial axis, got .*negative padding of a convolution"),
        ((), "reflect", "pair of at least 0 per spatial axis"),
        (((1, 1),), "zeros", "mode must be one of reflect, replicate, circular, got 'zeros'; padding by zeros"),
        (((1, 1),), ["reflect"], "mode must be one of"),
        (1, "reflect", "use PadLayer.of"),
        (((1, 1.5),), "reflect", "padding must be an integer, got 1.5"),
        (((1, 1, 1),), "reflect", "padding must be one integer or one"),
    ],
)
def test_what_is_no_padding_is_refused(padding: object, mode: object, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        tc.PadLayer(padding, mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "most"), [("reflect", 3), ("circular", 4)])
def test_an_axis_too_short_is_refused_before_it_is_padded(mode: str, most: int) -> None:
    layers = [tc.PadLayer(((most, most + 1),), mode), tc.ConvLayer.of(np.ones((1, 1, 1)))]
    with pytest.raises(GeometryError, match=rf"{mode} padding of at most {most} on axis 0, got \({most}, {most + 1}\)"):
        tc.convolve(np.ones((1, 1, 4)), tc.ConvSequence(layers))
    assert tc.PadLayer(((most, most),), mode).output_size(4) == (4 + 2 * most,)


def test_a_border_may_be_repeated_any_number_of_times() -> None:
    one = tc.ConvSequence([tc.PadLayer(((0, 5),), "replicate"), tc.ConvLayer.of(np.ones((1, 1, 1)))])
    np.testing.assert_array_equal(tc.convolve(np.array([[[1.0, 2.0]]]), one), [[[1, 2, 2, 2, 2, 2, 2]]])


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_reference_pads_as_torch_does(ndim: int, mode: str) -> None:
    pad = tc.PadLayer(((2, 1), (0, 3), (1, 1))[:ndim], mode)
    sides = [side for pair in reversed(pad.padding) for side in pair]
    x = data(ndim)
    expected = torch.nn.functional.pad(torch.from_numpy(x), sides, mode).numpy()
    np.testing.assert_array_equal(reference_padding(x, pad), expected)
    assert pad.output_size(x.shape[2:]) == expected.shape[2:]


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_a_sequence_with_paddings_is_executed_and_counted(ndim: int, mode: str) -> None:
    sequence, x = padded(ndim, mode), data(ndim)
    y = tc.convolve(x, sequence)
    expected = reference_sequence(x, sequence)
    assert y.shape == (2, 6, *sequence.output_size(x.shape[2:])) == expected.shape
    assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [FLOAT64, FLOAT64]))
    np.testing.assert_array_equal(tc.prepare(sequence, x.shape[2:])(x), y)
    first, second = sequence.convolutions
    size = sequence.layers[0].output_size(x.shape[2:])
    between = sequence.layers[2].output_size(first.output_size(size))
    assert sequence.macs(x.shape[2:]) == first.macs(size) + second.macs(between)
    assert sequence.n_parameters == first.n_parameters + second.n_parameters
    assert (sequence.in_channels, sequence.out_channels, sequence.ndim) == (4, 6, ndim)
    assert sequence.bias is second.bias


def test_a_sequence_prints_its_paddings() -> None:
    assert str(padded(1, "circular")).splitlines()[1:4:2] == [
        "border                    circular padding ((1,2),)               0",
        "2                         circular padding ((1,0),)               0",
    ]
    assert repr(padded(1, "circular")).startswith("<ConvSequence of 4: circular padding ((1,2),), (6, 4, 3)")


def test_what_does_not_chain_around_a_padding_is_refused() -> None:
    one, other = tc.ConvLayer.of(np.ones((2, 3, 1))), tc.ConvLayer.of(np.ones((2, 2, 1)), np.ones(2))
    pad = reflect((1, 1))
    with pytest.raises(KernelError, match="layer 2 takes 3 channels, layer 0 gives 2"):
        tc.ConvSequence([one, pad, one])
    with pytest.raises(KernelError, match="layer 0 has a bias; only the last convolution may"):
        tc.ConvSequence([other, pad, other])
    with pytest.raises(KernelError, match="at least one ConvLayer, got 1 steps without a kernel"):
        tc.ConvSequence([pad])
    with pytest.raises(GeometryError, match="got 1 in layer 0 and 2 in layer 1"):
        tc.ConvSequence([one, reflect((1, 1), (1, 1))])
    with pytest.raises(KernelTypeError, match="put one layer in a list"):
        tc.ConvSequence(pad)  # type: ignore[arg-type]
    with pytest.raises(KernelTypeError, match="float64 in layer 0 and float32 in layer 2"):
        tc.ConvSequence([other.sequence.layers[0].adjoint(3), pad, tc.ConvLayer.of(np.ones((1, 2, 1), "float32"))])
    assert tc.ConvSequence([other, pad]).bias is not None


def test_a_padded_sequence_is_no_single_convolution() -> None:
    with pytest.raises(GeometryError, match="pads by values is no single convolution at its borders; compose the"):
        tc.compose(padded(2, "reflect"))


def test_the_rounding_bound_goes_through_paddings() -> None:
    sequence, x = padded(2, "replicate"), data(2, "float32")
    y = tc.convolve(x, sequence)
    error = np.abs(y - tc.convolve(x.astype("float64"), sequence))
    bound = rounding_bound(x, sequence)
    assert np.all(error <= bound)
    assert error.max() > 1e-3 * bound.max()  # it is no bound that anything meets


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("padding", [((0, 0),), ((1, 0),), ((2, 3),), ((1, 2), (0, 3))])
def test_the_norm_of_a_padding_is_bounded_tightly(padding: tuple[tuple[int, int], ...], mode: str) -> None:
    pad = tc.PadLayer(padding, mode)
    norms = []
    for size in itertools.product(*(range(max(pair) + 1, max(pair) + 3) for pair in padding)):
        columns = reference_padding(np.eye(int(np.prod(size))).reshape(-1, 1, *size), pad).reshape(np.prod(size), -1)
        norms.append(np.linalg.norm(columns, 2))
    assert max(norms) <= pad_norm_bound(pad)
    assert max(norms) >= pad_norm_bound(pad) / 2 ** (0.5 * len(padding))  # both sides of an entry seldom meet


def test_verify_judges_what_follows_a_common_padding() -> None:
    rng = np.random.default_rng(0)
    layer = tc.ConvLayer.of(rng.standard_normal((6, 4, 3, 3)), rng.standard_normal(6), stride=2)
    pads = [reflect((1, 1), (2, 0)), tc.PadLayer(((0, 1), (0, 0)), "circular")]
    original = tc.ConvSequence([*pads, layer])
    x = rng.standard_normal((2, 4, 7, 6))
    exact, near = tc.svd(layer, 6), tc.svd(layer, 4)
    for found in (exact, near):
        replaced = tc.ConvSequence([*pads, *found.sequence])
        report = tc.verify(original, replaced, x)
        assert report.consistent
        assert report.exact == (found is exact)
        assert report.kernel_error == pytest.approx(found.relative_error, abs=1e-15)
        y, z = tc.convolve(x, original), tc.convolve(x, replaced)
        # both are quotients of norms of the same arrays, summed in another order
        assert report.output_error == pytest.approx(np.linalg.norm(z - y) / np.linalg.norm(y), rel=1e-12, abs=1e-14)
        assert np.linalg.norm(z - y) <= report.operator_bound * np.linalg.norm(x) + 1e-12
    with pytest.raises(
        GeometryError, match=r"must begin with the layer's reflect padding .*, got 4 -> .*put it before"
    ):
        tc.verify(original, near)
    with pytest.raises(GeometryError, match="must begin with the layer's reflect padding"):
        tc.verify(original, tc.ConvSequence([*pads[1:], *near.sequence]))


def test_verify_executes_where_only_the_sequence_pads() -> None:
    layer = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((3, 3, 3)), padding=1)
    inside = tc.ConvLayer(layer.kernel, layer.geometry.on_axes(()))
    report = tc.verify(layer, tc.ConvSequence([reflect((1, 1)), inside]))
    assert report.consistent is None
    assert report.kernel_error is None
    assert not report.exact  # zeros and mirrored values differ at the border
    nothing = tc.ConvSequence([reflect((0, 0)), layer])
    assert tc.verify(layer, nothing).exact


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".onnx"])
@pytest.mark.parametrize("mode", PAD_MODES)
def test_a_saved_sequence_keeps_its_paddings(tmp_path: Path, mode: str, suffix: str) -> None:
    sequence = padded(2, mode)
    tc.save(tmp_path / f"padded{suffix}", sequence)
    assert_same(tc.load(tmp_path / f"padded{suffix}"), sequence)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "zeros"}, "mode must be one of reflect"),
        ({"mode": 1}, "mode must be of type str"),
        ({"padding": [[-1, 0], [0, 0]]}, "pair of at least 0"),
        ({"padding": [1, 2]}, "padding must be .low, high. pairs"),
        ({"stride": [1, 1]}, "unknown .'stride'."),
    ],
)
def test_a_wrong_description_of_a_padding_is_refused(changes: dict[str, object], message: str) -> None:
    arrays = tc.export.dump(padded(2, "reflect"), "numpy")
    head = json.loads(str(arrays["sequence"]))
    head["layers"][0].update(changes)
    arrays["sequence"] = np.array(json.dumps(head))
    with pytest.raises(FormatError, match=message):
        tc.export.load(arrays, "numpy")


def test_verify_judges_one_convolution_after_its_padding() -> None:
    rng = np.random.default_rng(0)
    pad, (one, two) = reflect((1, 1)), (tc.ConvLayer.of(rng.standard_normal((2, 2, 3))) for _ in "ab")
    for steps in ([pad, one, two], [pad, one, tc.PermuteLayer((1, 0))], [pad, tc.PermuteLayer((1, 0)), one]):
        with pytest.raises(KernelTypeError, match="layer must be one convolution after its padding, got 2 steps"):
            tc.verify(tc.ConvSequence(steps), tc.ConvSequence([pad, one]))
    whole = tc.ConvSequence([pad, one])
    assert tc.verify(whole, whole, input_size=(5,)).input_size == (5,)


def test_verify_tries_every_size_that_a_stride_tells_apart() -> None:
    kernel = np.random.default_rng(0).standard_normal((2, 2, 3))
    layer = tc.ConvLayer.of(kernel, stride=3, padding=1)
    mirrored = [tc.PadLayer(((0, 1),), "reflect"), tc.ConvLayer.of(kernel, stride=3, padding=((1, 0),))]
    assert not tc.verify(layer, tc.ConvSequence(mirrored)).exact  # at size 9 no output reaches the high end
