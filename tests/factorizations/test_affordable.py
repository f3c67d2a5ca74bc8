"""Several budgets at once: what is found meets them, and ranks are rounded to the multiples that fit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.factorizations import Request, affordable, registered
from tensorconv.factorizations.affordable import rounded
from tensorconv.factorizations.scheme import Scheme


def layer(out_channels: int, in_channels: int, taps: int = 3, **geometry: Any) -> tc.ConvLayer:
    kernel = np.random.default_rng(0).standard_normal((out_channels, in_channels, taps, taps))
    return tc.ConvLayer.of(kernel, padding=taps // 2, **geometry)


def scheme(method: str, one: tc.ConvLayer, **options: Any) -> Scheme:
    found: Scheme = registered()[method].scheme(one, **options)
    return found


def misfits(one: Scheme, rank: tuple[int, ...], multiple: int) -> list[int]:
    """Return the channels between layers that are no multiples."""
    return [step[0][0] for step in one.chain(rank)[:-1] if step[0][0] % multiple]


@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
@pytest.mark.parametrize("method", ["svd", "tucker", "cp", "tensor_train"])
def test_budgets_are_met_by_falling_ranks(method: str, of: str) -> None:
    one = layer(24, 20)
    shares = [0.15, 0.6, 0.3]
    request = Request(budget=1.0, of=of, input_size=(2, 2))  # small, so that bytes are mostly those of parameters
    found = affordable(scheme(method, one), request, shares)
    dense = request.cost(one, one.chain)
    costs = [float(request.cost(one, f.scheme.chain(f.ranks)) / dense) for f in found]
    assert len(found) == 3
    assert costs == sorted(costs, reverse=True)
    for cost, share in zip(costs, sorted(shares, reverse=True), strict=True):
        assert share / 2 < cost <= share  # a rank more or less costs far less than half of any of these


def test_budgets_below_the_first_rank_have_no_answer_and_equal_ranks_one() -> None:
    one = scheme("svd", layer(8, 8))
    request = Request(budget=1.0, of="parameters", input_size=None)
    # the least of this split costs (72 + 8) / 576 = 0.139, and two of its ranks 0.278
    assert [f.rank for f in affordable(one, request, [0.1, 0.2, 0.25])] == [1]
    assert affordable(one, request, [0.1]) == []


@pytest.mark.parametrize("method", ["svd", "tucker", "cp", "tensor_train"])
def test_one_answer_is_that_of_a_single_request(method: str) -> None:
    one = layer(12, 10)
    (found,) = affordable(scheme(method, one), Request(budget=1.0, of="macs", input_size=(9, 9)), [0.3])
    alone = tc.methods()[method](one, budget=0.3, of="macs", input_size=(9, 9))
    assert found.rank == alone.rank
    assert found.kernel.tobytes() == alone.kernel.tobytes()


@pytest.mark.parametrize(
    ("out_channels", "in_channels", "rank", "expected"),
    [
        (64, 64, 3, 16),  # at least one multiple
        (64, 64, 23, 16),
        (64, 64, 25, 32),
        (64, 64, 32, 32),
        (64, 64, 63, 64),
        (40, 40, 39, 32),  # not above what the maximum holds
        (47, 47, 46, 32),
        (31, 31, 9, 9),  # less than two multiples: it stays
        (32, 32, 9, 16),
    ],
)
def test_ranks_are_rounded_to_multiples(out_channels: int, in_channels: int, rank: int, expected: int) -> None:
    assert rounded(scheme("svd", layer(out_channels, in_channels)), (rank,), 16) == (expected,)


def test_every_rank_that_can_be_rounded_is() -> None:
    one = scheme("tucker", layer(64, 3))
    assert one.maximum[-1] == 3  # input channels, which no rank makes 16
    assert rounded(one, (20, 2), 16) == (16, 2)


def test_what_no_rank_helps_stays() -> None:
    one = scheme("depthwise_separable", layer(20, 9))  # at most 9 terms
    assert misfits(one, (3,), 16)
    assert rounded(one, (3,), 16) == (3,)


@pytest.mark.parametrize("multiple", [1, 2, 8, 16])
@pytest.mark.parametrize("method", ["svd", "tucker", "cp", "tensor_train", "depthwise_separable"])
@pytest.mark.parametrize(("shape", "groups"), [((48, 40), 1), ((48, 20), 2), ((17, 5), 1)])
def test_rounding_never_spoils_and_is_done_once(
    method: str, shape: tuple[int, int], groups: int, multiple: int
) -> None:
    one = scheme(method, layer(*shape, groups=groups))
    for rank in itertools.product(*({1, most // 3 + 1, most // 2 + 1, most} for most in one.maximum)):
        near = rounded(one, rank, multiple)
        assert all(1 <= r <= most for r, most in zip(near, one.maximum, strict=True))
        assert len(misfits(one, near, multiple)) <= len(misfits(one, rank, multiple))
        assert rounded(one, near, multiple) == near
        assert multiple > 1 or near == rank
        if near != rank:
            assert misfits(one, rank, multiple)
            assert all(abs(n - r) < 2 * multiple for n, r in zip(near, rank, strict=True))


def test_quick_fits_are_of_the_same_ranks() -> None:
    one = scheme("cp", layer(16, 16), rng=0)
    request = Request(budget=1.0, of="macs", input_size=(8, 8))
    quick, slow = (affordable(one, request, [0.1, 0.2], quick=quick) for quick in (True, False))
    assert [f.rank for f in quick] == [f.rank for f in slow]
    assert all(f.relative_error >= g.relative_error * 0.999 for f, g in zip(quick, slow, strict=True))
