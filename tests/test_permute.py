"""Tests of an order of channels as a step: executed, folded into kernels, counted as nothing, saved."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from export.sequences import assert_same

import tensorconv as tc
from tensorconv.errors import FormatError, GeometryError, KernelError


def test_an_order_says_which_channel_comes_next() -> None:
    x = np.arange(4.0).reshape(1, 4, 1)
    one = tc.ConvLayer.of(np.eye(4)[:, :, None])
    y = tc.convolve(x, tc.ConvSequence([tc.PermuteLayer((2, 0, 3, 1)), one]))
    np.testing.assert_array_equal(y.ravel(), [2, 0, 3, 1])
    assert tc.PermuteLayer(np.array([1, 0])) == tc.PermuteLayer((1, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (6, 3), (12, 4), (4, 1), (4, 4), (1, 1)])
def test_a_shuffle_is_torchs(channels: int, groups: int) -> None:
    layer = tc.PermuteLayer.shuffle(channels, groups)
    x = torch.arange(float(channels)).reshape(1, channels, 1, 1)
    assert list(layer.order) == torch.nn.ChannelShuffle(groups)(x).ravel().tolist()
    assert layer.shuffle_groups == (1 if groups == channels else groups)  # one channel per group: nothing moves
    assert (layer.in_channels, layer.out_channels, layer.output_size((5, 4))) == (channels, channels, (5, 4))


def test_every_order_of_four_channels_is_a_shuffle_or_none() -> None:
    shuffles = {tc.PermuteLayer.shuffle(4, groups).order for groups in (1, 2, 4)}
    for order in itertools.permutations(range(4)):
        assert (tc.PermuteLayer(order).shuffle_groups is not None) == (order in shuffles)


def test_the_inverse_undoes_an_order() -> None:
    layer = tc.PermuteLayer(tuple(np.random.default_rng(0).permutation(20).tolist()))
    assert [layer.order[c] for c in layer.inverse.order] == list(range(20))
    assert str(layer) == f"order ({', '.join(map(str, layer.order[:6]))}, ...)"
    assert str(tc.PermuteLayer.shuffle(6, 3)) == "shuffle of 3 groups"


@pytest.mark.parametrize("order", [(), (0, 0), (1, 2), (0, 2), (0, 1, 3)])
def test_what_is_no_order_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(KernelError, match=r"order must hold every channel from 0 to .* once, got"):
        tc.PermuteLayer(order)


def test_other_wrong_values_are_refused() -> None:
    with pytest.raises(GeometryError, match=r"order must be an integer, got 0\.5"):
        tc.PermuteLayer((0.5, 1))  # type: ignore[arg-type]
    with pytest.raises(GeometryError, match="order must be at least 0, got -1"):
        tc.PermuteLayer((-1, 0))
    with pytest.raises(KernelError, match="groups must divide the channels, got 4 groups of 6 channels"):
        tc.PermuteLayer.shuffle(6, 4)


def shuffled() -> tc.ConvSequence:
    """Return a ShuffleNet-like chain: grouped pointwise, shuffle, depthwise, order of the biased outputs."""
    rng = np.random.default_rng(0)
    return tc.ConvSequence(
        [
            tc.PermuteLayer((3, 1, 0, 2)),
            tc.ConvLayer.of(rng.standard_normal((6, 2, 1, 1)), groups=2),
            tc.PermuteLayer.shuffle(6, 2, "shuffle"),
            tc.ConvLayer.of(rng.standard_normal((6, 1, 3, 3)), rng.standard_normal(6), padding=1, stride=2, groups=6),
            tc.PermuteLayer((5, 0, 4, 1, 3, 2)),
        ]
    )


def test_orders_fold_into_the_one_convolution() -> None:
    sequence, x = shuffled(), np.random.default_rng(1).standard_normal((2, 4, 6, 7))
    composed = tc.compose(sequence)
    report = tc.verify(composed, sequence, x)
    assert report.consistent
    assert report.exact
    np.testing.assert_array_equal(composed.bias, sequence.bias)
    inner = sequence.layers[3]
    assert isinstance(inner, tc.ConvLayer)
    assert inner.bias is not None
    np.testing.assert_array_equal(sequence.bias, inner.bias[[5, 0, 4, 1, 3, 2]])


def test_orders_cost_nothing_but_their_movement() -> None:
    sequence = shuffled()
    kernels = [layer for layer in sequence if isinstance(layer, tc.ConvLayer)]
    assert sequence.n_parameters == sum(layer.n_parameters for layer in kernels)
    assert sequence.macs((6, 6)) == kernels[0].macs((6, 6)) + kernels[1].macs((6, 6))
    assert sequence.additions((6, 6)) == 0
    moved = tc.cost.chain_cost(sequence.chain, "bytes", (6, 6), n_bias=6)
    plain = tc.cost.chain_cost([layer.chain[0] for layer in kernels], "bytes", (6, 6), n_bias=6)
    assert moved - plain == 4 * (2 * 4 * 36 + 2 * 6 * 36 + 2 * 6 * 9)


def test_orders_that_do_not_chain_are_refused() -> None:
    one = tc.ConvLayer.of(np.ones((3, 2, 1)))
    with pytest.raises(KernelError, match="layer 1 takes 2 channels, layer 0 gives 3"):
        tc.ConvSequence([one, tc.PermuteLayer((1, 0))])
    with pytest.raises(KernelError, match="at least one ConvLayer, got 1 steps without a kernel"):
        tc.ConvSequence([tc.PermuteLayer((1, 0))])
    biased = tc.ConvLayer.of(np.ones((2, 2, 1)), np.ones(2))
    with pytest.raises(KernelError, match="layer 0 has a bias"):
        tc.ConvSequence([biased, tc.PermuteLayer((1, 0)), biased])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".onnx"])
def test_orders_are_saved(tmp_path: Path, suffix: str) -> None:
    tc.save(tmp_path / f"s{suffix}", shuffled())
    assert_same(tc.load(tmp_path / f"s{suffix}"), shuffled())


def test_a_broken_order_in_a_file_is_refused() -> None:
    arrays = tc.export.dump(shuffled(), "numpy")
    arrays["sequence"] = np.array(str(arrays["sequence"]).replace("[3, 1, 0, 2]", "[3, 1, 0, 0]"))
    with pytest.raises(FormatError, match="order must hold every channel"):
        tc.export.load(arrays, "numpy")
