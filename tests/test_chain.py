"""Tests of measured chains: costs, errors, and what they hold."""

from __future__ import annotations

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.chain import MeasuredChain, advance, applied
from tensorconv.errors import KernelError, RankError

FIRST = tc.ConvLayer.of(np.random.default_rng(0).standard_normal((4, 3, 3)), padding=1)
SECOND = tc.ConvLayer.of(np.random.default_rng(1).standard_normal((5, 4, 3)), np.ones(5), stride=2)
X = np.random.default_rng(2).standard_normal((70, 3, 11))


def test_costs_are_those_of_the_layers() -> None:
    chain = MeasuredChain([FIRST, tc.Activation.relu(), SECOND], X, "macs")
    assert chain.sizes == [(11,), (11,)]
    assert [len(batch) for batch in chain.batches] == [64, 6]
    assert chain.dense == FIRST.macs(11) + SECOND.macs(11)
    f = tc.svd(SECOND, 2)
    assert chain.cost(1, f) == f.sequence.macs(11)
    assert MeasuredChain([FIRST], X, "parameters").cost(0, tc.svd(FIRST, 2)) == tc.svd(FIRST, 2).n_parameters + 4


def test_errors_are_relative_to_the_response() -> None:
    chain = MeasuredChain([FIRST, SECOND], X, "macs")
    assert chain.error([FIRST, SECOND]) == 0
    doubled = tc.ConvLayer.of(2 * SECOND.kernel, 2 * np.ones(5), stride=2)
    assert chain.error([FIRST, doubled]) == pytest.approx(1, rel=1e-12)


def test_the_end_of_a_chain_is_judged_on_what_goes_into_it() -> None:
    chain = MeasuredChain([FIRST, np.tanh, SECOND], X, "macs")
    values = [np.tanh(tc.convolve(batch, FIRST)) for batch in chain.batches]
    f = tc.svd(SECOND, 2)
    assert chain.error([f], values) == chain.error([FIRST, np.tanh, f]) > 0
    wanted = tc.convolve(np.tanh(tc.convolve(X, FIRST)), SECOND)
    lost = np.linalg.norm(applied([FIRST, np.tanh, f], X) - wanted) / np.linalg.norm(wanted)
    assert chain.error([f], values) == pytest.approx(lost, rel=1e-12)  # sums of 2e3 squares in another order


def test_a_sample_has_images_of_every_batch() -> None:
    rng = np.random.default_rng(3)
    batches = [rng.standard_normal((n, 3, 11)) for n in (100, 1, 60)]
    sample = MeasuredChain([FIRST, SECOND], batches, "bytes").sample()  # 161 images: every third
    assert [len(batch) for batch in sample.batches] == [34, 1, 20]
    assert all(part.tobytes() == batch[::3].tobytes() for part, batch in zip(sample.batches, batches, strict=True))
    assert (sample.of, sample.steps) == ("bytes", [FIRST, SECOND])
    few = MeasuredChain([FIRST], X[:64], "macs").sample()
    assert few.batches[0].tobytes() == X[:64].tobytes()


def test_batches_advance_in_place() -> None:
    values = [X[:2], X[2:4]]
    advance(FIRST, values)
    advance(np.negative, values)
    assert (
        values[1].tobytes()
        == (-tc.convolve(X[2:4], FIRST)).tobytes()
        == applied([FIRST, np.negative], X[2:4]).tobytes()
    )


def test_what_does_not_fit_is_refused() -> None:
    chain = MeasuredChain([FIRST, SECOND], X, "macs")
    assert chain.checked(0, None) is None
    with pytest.raises(RankError, match="can become a Factorization of itself or None"):
        chain.checked(0, tc.svd(SECOND, 1))
    with pytest.raises(KernelError, match="not zero everywhere"):
        MeasuredChain([FIRST], np.zeros((1, 3, 5)), "macs")
