"""Tests of compressed chains: what is fitted to what, budgets, sweeps, and the errors that are reported."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.cost import chain_cost
from tensorconv.errors import KernelError, RankError
from tensorconv.factorizations import Factorization, refitted

RELU = tc.Activation.relu()
WEIGHTS = np.random.default_rng(9).standard_normal((6, 4))


def pooled(x: Array) -> Array:
    """Return the mean over 2 x 2 positions."""
    pooled: Array = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean(axis=(3, 5))
    return pooled


def classified(x: Array) -> Array:
    """Return 4 numbers per image."""
    scores: Array = x.mean(axis=(2, 3)) @ WEIGHTS
    return scores


def images(n: int = 24, seed: int = 1) -> Array:
    """Return smooth images of three channels with means."""
    x = np.random.default_rng(seed).standard_normal((n, 3, 12, 12))
    return np.cumsum(np.cumsum(x, axis=2), axis=3) / 4 + 1


def layers() -> list[tc.ConvLayer]:
    rng = np.random.default_rng(0)
    shapes = [(8, 3, 3, 3), (8, 8, 3, 3), (6, 8, 3, 3)]
    return [tc.ConvLayer.of(rng.standard_normal(s) / 5, rng.standard_normal(s[0]), padding=1) for s in shapes]


def network() -> list[Any]:
    first, second, third = layers()
    return [first, RELU, pooled, second, RELU, third, RELU, classified]


def by_hand(chain: Sequence[Any], x: Array) -> Array:
    """Apply a chain step by step."""
    for step in chain:
        x = tc.convolve(x, step) if isinstance(step, (tc.ConvLayer, Factorization)) else step(x)
    return x


def relative(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(scope="module")
def half() -> tc.Reconstruction:
    return tc.reconstruct(network(), images(), budget=0.7, methods=["svd", "cp"], keep=(0,))


def test_the_result_is_the_chain_it_says(half: tc.Reconstruction) -> None:
    x = images(5, seed=2)
    assert half(x).tobytes() == by_hand(half.chain, x).tobytes()
    # norms of a few thousand numbers in another order: well below 1e-12
    assert half.error == pytest.approx(relative(by_hand(half.chain, images()), by_hand(network(), images())), rel=1e-10)
    assert half.error == half.history[-1]
    assert all(later < earlier for earlier, later in zip(half.history, half.history[1:], strict=False))
    assert isinstance(half.chain[0], tc.ConvLayer)
    assert sum(isinstance(step, Factorization) for step in half.chain) == 2
    assert half.error < 0.3
    text = str(half)
    assert f"final response error {half.error:.3g}" in text
    assert len(text.splitlines()) == 2 + 3


@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
def test_the_budget_holds(of: str) -> None:
    found = tc.reconstruct(network(), images(8), budget=0.9, of=of, methods=["svd"], n_sweeps=1)

    def cost(step: Any, layer: tc.ConvLayer, size: tuple[int, ...]) -> Fraction:
        sequence = tc.ConvSequence((step,)) if isinstance(step, tc.ConvLayer) else step.sequence
        n_bias = sequence.layers[-1].out_channels
        pairs = [(one.kernel.shape, one.geometry) for one in sequence.layers]
        return chain_cost(pairs, of, size, n_bias=n_bias, itemsize=layer.dtype.itemsize)

    sizes = [(12, 12), (6, 6), (6, 6)]
    at = [i for i, step in enumerate(network()) if isinstance(step, tc.ConvLayer)]
    dense = sum(cost(layer, layer, size) for layer, size in zip(layers(), sizes, strict=True))
    used = sum(cost(found.chain[i], layer, size) for i, layer, size in zip(at, layers(), sizes, strict=True))
    assert found.cost == used / dense
    assert found.cost <= Fraction(0.9)


def test_inputs_are_the_compressed_ones_and_targets_the_originals() -> None:
    first, second, third = layers()
    x = images()
    statistics = tc.PatchStatistics(second)
    statistics.update(pooled(RELU(tc.convolve(x, first))))
    start = tc.svd(second, 3, statistics=statistics)
    statistics = tc.PatchStatistics(first)
    statistics.update(x)
    before = tc.svd(first, 2, statistics=statistics)
    found = tc.reconstruct(network(), [x], choices=[before, start, None], n_sweeps=1)

    compressed = found.chain[0]
    asymmetric = tc.PatchStatistics(second)
    asymmetric.update(
        pooled(RELU(tc.convolve(x, compressed))), tc.convolve(pooled(RELU(tc.convolve(x, first))), second)
    )
    expected = refitted(start, asymmetric)
    assert found.chain[3].kernel.tobytes() == expected.kernel.tobytes()
    np.testing.assert_array_equal(found.chain[3].bias, expected.bias)
    assert np.array_equal(found.chain[5].kernel, third.kernel)
    # with a pointwise second layer the fit is the optimum, so on its own response it cannot lose
    wanted = tc.convolve(pooled(RELU(tc.convolve(x, first))), second)
    symmetric = relative(by_hand([compressed, RELU, pooled, start], x), wanted)
    assert relative(by_hand(found.chain[:4], x), wanted) < 0.97 * symmetric


def test_batches_and_curves_change_nothing_but_the_time(half: tc.Reconstruction) -> None:
    x = images()
    again = tc.reconstruct(network(), [x[:10], x[10:]], budget=0.7, methods=["svd", "cp"], keep=(0,))
    # moments of other batches differ by rounding; the choices and all but rounding of the fits are the same
    assert [getattr(s, "rank", None) for s in again.chain] == [getattr(s, "rank", None) for s in half.chain]
    assert again.error == pytest.approx(half.error, rel=1e-5)
    reused = tc.reconstruct(network(), x, budget=0.7, curves=half.curves, keep=(0,))
    assert reused.error == half.error
    smaller = tc.reconstruct(network(), x, budget=0.55, curves=half.curves, keep=(0,))
    assert smaller.cost <= 0.55
    assert smaller.error > half.error


def test_the_same_input_gives_the_same_bits() -> None:
    one, other = (
        tc.reconstruct(network(), images(6), budget=0.5, methods=["cp"], shares=(0.3,), n_sweeps=1) for _ in range(2)
    )
    for a, b in zip(one.chain, other.chain, strict=True):
        if isinstance(a, Factorization):
            assert all(a.factors[name].tobytes() == b.factors[name].tobytes() for name in a.factors)


def test_a_budget_of_one_leaves_the_chain_as_it_is() -> None:
    found = tc.reconstruct(network(), images(4), budget=1.0, methods=["svd"])
    assert found.error == 0
    assert found.cost == 1
    assert [type(step) for step in found.chain] == [type(step) for step in network()]


def test_a_layer_that_matters_more_gets_more() -> None:
    rng = np.random.default_rng(3)
    kernels = [rng.standard_normal((6, 6, 3)) for _ in range(2)]
    first, second = (tc.ConvLayer.of(kernel, padding=1) for kernel in kernels)
    x = np.cumsum(rng.standard_normal((6, 6, 40)), axis=2)

    def ranks(chain: list[Any], at: list[int]) -> list[int]:
        found = tc.reconstruct(chain, x, budget=0.6, methods=["svd"], n_sweeps=1)
        return [getattr(found.chain[i], "rank", 99) for i in at]

    ramp = 50 * np.cumsum(rng.standard_normal((1, 6, 40)), axis=2)
    coarse = [first, lambda y: y / 1000 + ramp, second]  # errors of the first layer hardly count
    plain = [first, second]
    (less, more), (usual, other) = ranks(coarse, [0, 2]), ranks(plain, [0, 1])
    assert less < usual
    assert more > other


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"chain": [RELU]}, KernelError, "at least one ConvLayer"),
        ({"chain": [layers()[0], "relu"]}, KernelError, r"chain\[1\] must be a ConvLayer or a callable, got str"),
        ({"data": []}, KernelError, "data must be"),
        ({"data": np.full((1, 3, 12, 12), np.nan)}, KernelError, "finite"),
        ({"data": np.ones((1, 4, 12, 12))}, KernelError, "4"),
        ({"budget": None}, RankError, "exactly one of budget and choices must be given, got none"),
        ({"choices": [None] * 3}, RankError, "exactly one of budget and choices must be given, got both"),
        ({"budget": None, "choices": [None]}, RankError, "choices must have one entry per layer, 3 here, got 1"),
        ({"curves": [()]}, RankError, "curves must have one entry per layer, 3 here, got 1"),
        ({"keep": (3,)}, RankError, "keep must count layers from 0 to 2, got 3"),
        ({"n_sweeps": 0}, RankError, "n_sweeps must be an integer of at least 1, got 0"),
        ({"methods": ["tensor_train"]}, RankError, "which take statistics, got 'tensor_train'"),
        ({"budget": 0.01}, RankError, "budget=0.01 of macs cannot be met"),
        ({"budget": -1}, RankError, "budget must be a finite number above 0"),
    ],
)
def test_what_cannot_be_done_is_said(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"chain": network(), "data": images(2), "budget": 0.5, "methods": ["svd"]} | change
    chain, data = given.pop("chain"), given.pop("data")
    with pytest.raises(error, match=message):
        tc.reconstruct(chain, data, **given)
