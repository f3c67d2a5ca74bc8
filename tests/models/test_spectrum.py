"""The spectra of a kernel's two channel unfoldings, against kernels of known rank and a direct SVD."""

from __future__ import annotations

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import RankError
from tensorconv.models.spectrum import channel_spectrum, rank_keeping

EPS = np.finfo(float).eps


def test_each_side_has_its_own_unfolding():
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal((5, 2)) @ rng.standard_normal((2, 4 * 3))  # out-channels: rank 2
    layer = tc.ConvLayer.of(kernel.reshape(5, 4, 3))
    values = channel_spectrum(layer, "out")
    assert values.shape == (5,)
    assert rank_keeping(values, 1 - 1e-9) == 2
    np.testing.assert_allclose(values, np.linalg.svd(kernel, compute_uv=False), atol=100 * EPS * values[0])
    unfolded = np.moveaxis(kernel.reshape(5, 4, 3), 1, 0).reshape(4, -1)
    values = channel_spectrum(layer, "in")
    assert values.shape == (4,)
    np.testing.assert_allclose(values, np.linalg.svd(unfolded, compute_uv=False), atol=100 * EPS * values[0])


def test_groups_share_one_rank():
    rng = np.random.default_rng(2)
    blocks = [rng.standard_normal((3, 2, 2, 2)), rng.standard_normal((3, 2, 2, 2))]
    layer = tc.ConvLayer.of(np.concatenate(blocks), groups=2)
    for side in ("in", "out"):
        apart = [channel_spectrum(tc.ConvLayer.of(block), side) for block in blocks]
        together = channel_spectrum(layer, side)
        np.testing.assert_allclose(together, np.hypot(*apart), rtol=100 * EPS)


def test_energy_is_the_kernel_norm_whatever_its_scale():
    for scale in (1e-200, 1.0, 1e200):
        layer = tc.ConvLayer.of(scale * np.arange(1.0, 25.0).reshape(4, 2, 3))
        values = channel_spectrum(layer, "in") / scale
        np.testing.assert_allclose(np.sum(values**2), np.sum(np.arange(1.0, 25.0) ** 2), rtol=100 * EPS)
        assert 1 <= rank_keeping(values * scale, 0.9) <= rank_keeping(values * scale, 1.0) <= 2


def test_rank_keeping():
    values = np.array([2.0, 1.0, 1.0, 0.0])  # energies 4, 1, 1, 0
    assert [rank_keeping(values, share) for share in (0.5, 4 / 6, 0.7, 5 / 6, 0.9, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert rank_keeping(np.zeros(3), 0.9) == 0


def test_refusals():
    layer = tc.ConvLayer.of(np.ones((1, 1, 1)))
    with pytest.raises(RankError, match="side must be"):
        channel_spectrum(layer, "spatial")
    for share in (0, -0.1, 1.1):
        with pytest.raises(RankError, match="share must be above 0 and at most 1"):
            rank_keeping(np.ones(2), share)
