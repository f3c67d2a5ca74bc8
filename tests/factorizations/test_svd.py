"""Tests of svd: the best approximation of its rank under every split, and which layer owns which axis."""

from __future__ import annotations

from typing import Any

import cases
import contracts
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array
from tensorconv.errors import RankError

KERNEL = np.random.default_rng(0).standard_normal((6, 5, 3, 2))
SPLITS: list[Any] = ["out", "in", (0,), (1,), (0, 1)]


def unfolded(kernel: Array, split: Any) -> Array:
    """Return the matrix that a split of a kernel with two spatial axes decomposes."""
    letters = {"out": "oikl->oikl", "in": "oikl->okli", (0,): "oikl->olik", (1,): "oikl->okil"}
    letters |= {(0, 1): letters["out"]}
    rows = {"out": 1, "in": 3, (0,): 2, (1,): 2, (0, 1): 1}[split]
    moved = np.einsum(letters[split], kernel)
    return np.asarray(moved.reshape(int(np.prod(moved.shape[:rows])), -1))


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_it_is_the_best_approximation_of_its_rank(split: Any, rank: int) -> None:
    f = tc.svd(KERNEL, rank, split=split)
    u, s, vh = np.linalg.svd(unfolded(KERNEL, split), full_matrices=False)
    # both are stable decompositions: off by a few n u of the norm, over a gap that is about a tenth of it
    slack = 100 * contracts.gamma(KERNEL.size, contracts.U64)
    best = np.sqrt(np.sum(s[rank:] ** 2) / np.sum(s**2))
    assert abs(f.relative_error - best) <= slack
    truncated = (u[:, :rank] * s[:rank]) @ vh[:rank]
    np.testing.assert_allclose(unfolded(f.kernel, split), truncated, rtol=0, atol=slack * s[0])


@pytest.mark.parametrize("split", ["out", "in", (0,), (1,)], ids=str)
def test_groups_are_truncated_together(split: Any) -> None:
    layer = tc.ConvLayer.of(np.concatenate([KERNEL, 3 * KERNEL[::-1]]), groups=2)
    spectra = [np.linalg.svd(unfolded(part, split), compute_uv=False) for part in np.split(layer.kernel, 2)]
    lost, total = (sum(np.sum(s[start:] ** 2) for s in spectra) for start in (2, 0))
    f = tc.svd(layer, 2, split=split)
    assert f.rank == 2
    assert abs(f.relative_error - np.sqrt(lost / total)) <= 100 * contracts.gamma(layer.kernel.size, contracts.U64)


@pytest.mark.parametrize(
    ("split", "first", "second"),
    [
        ("out", ((4, 5, 3, 2), (2, 3), ((1, 0), (0, 2)), (1, 2)), ((6, 4, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))),
        ("in", ((4, 5, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)), ((6, 4, 3, 2), (2, 3), ((1, 0), (0, 2)), (1, 2))),
        ((0,), ((4, 5, 3, 1), (2, 1), ((1, 0), (0, 0)), (1, 1)), ((6, 4, 1, 2), (1, 3), ((0, 0), (0, 2)), (1, 2))),
        ((1,), ((4, 5, 1, 2), (1, 3), ((0, 0), (0, 2)), (1, 2)), ((6, 4, 3, 1), (2, 1), ((1, 0), (0, 0)), (1, 1))),
    ],
    ids=str,
)
def test_every_axis_is_owned_by_one_layer(split: Any, first: Any, second: Any) -> None:
    layer = tc.ConvLayer.of(KERNEL, np.ones(6), stride=(2, 3), padding=((1, 0), (0, 2)), dilation=(1, 2), name="a")
    f = tc.svd(layer, 4, split=split)
    found = [
        (step.kernel.shape, step.geometry.stride, step.geometry.padding, step.geometry.dilation) for step in f.sequence
    ]
    assert found == [first, second]
    assert [step.name for step in f.sequence] == ["a.0", "a.1"]
    assert {name: factor.shape for name, factor in f.factors.items()} == {
        "first": (1, *first[0]),
        "second": (1, *second[0]),
    }


def test_splits_say_the_same_in_other_words() -> None:
    contracts.check_same(tc.svd(KERNEL, 2, split=(0, 1)), tc.svd(KERNEL, 2, split="out"))
    contracts.check_same(tc.svd(KERNEL, 2, split=[1, 0, 1]), tc.svd(KERNEL, 2))


@pytest.mark.parametrize("split", ["both", (), (2,), (-1,), 0, (0, "1"), None, {"out"}, (0, 0.5)], ids=str)
def test_a_split_that_is_none_is_refused(split: Any) -> None:
    with pytest.raises(RankError) as caught:
        tc.svd(KERNEL, 2, split=split)
    assert str(caught.value) == f'split must be "in", "out" or a tuple of spatial axes from 0 to 1, got {split!r}'


@pytest.mark.parametrize(
    ("split", "most", "rule"),
    [("out", 6, "min(I*K, O)"), ("in", 5, "min(I, O*K)"), ((0,), 12, "min(I*K1, O*K2)"), ((1,), 10, "min(I*K2, O*K1)")],
    ids=str,
)
def test_the_largest_rank_is_named_in_letters(split: Any, most: int, rule: str) -> None:
    assert tc.svd(KERNEL, most, split=split).rank == most
    for rank in (0, -1, most + 1, 40):
        with pytest.raises(RankError) as caught:
            tc.svd(KERNEL, rank, split=split)
        assert str(caught.value) == f"rank must be between 1 and {most} = {rule} for this kernel, got {rank}"


def test_the_largest_rank_is_per_group() -> None:
    layer = tc.ConvLayer.of(KERNEL, groups=2)
    with pytest.raises(RankError, match=r"^rank must be between 1 and 3 = min\(I\*K, O/G\) for this kernel, got 4$"):
        tc.svd(layer, 4)


def test_the_message_of_the_plan() -> None:
    with pytest.raises(RankError, match=r"^rank must be between 1 and 12 = min\(I\*K, O\) for this kernel, got 40$"):
        tc.svd(np.ones((12, 4, 3, 3)), 40)


def test_small_singular_values_are_kept_in_float64() -> None:
    # the eigenvalues of a Gram matrix hide singular values below 1e-8 of the largest; more is asked for
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((n, 8)))[0] for n in (8, 27))
    values = 10.0 ** -np.arange(0, 16, 2)
    kernel = ((left * values) @ right.T).reshape(8, 3, 3, 3)
    for rank in range(1, 7):
        expected = np.sqrt(np.sum(values[rank:] ** 2) / np.sum(values**2))
        # a stable SVD is off by a few n u of the norm
        assert abs(tc.svd(kernel, rank).relative_error - expected) <= contracts.gamma(27, contracts.U64)


def test_variants_are_those_that_differ() -> None:
    for case, splits in {
        "plain 1d": ["out", "in"],
        "one tap on an axis 2d": ["out", "in"],
        "unequal 2d": ["out", "in", (0,), (1,)],
        "grouped 3d": ["out", "in", (0,), (2,), (0, 2)],
    }.items():
        found = [options["split"] for method, options in cases.variants(cases.layer(case)) if method == "svd"]
        assert found == splits


@pytest.mark.parametrize("split", ["out", "in", (0,)], ids=str)
@pytest.mark.parametrize("error", [1e-3, 1e-6, 1e-10])
def test_the_rank_of_a_deficient_kernel_is_found(split: Any, error: float) -> None:
    rng = np.random.default_rng(2)
    kernel = np.einsum("or,rk,ir,rl->oikl", *(rng.standard_normal(shape) for shape in [(8, 2), (2, 3), (6, 2), (2, 3)]))
    contracts.check_exact(tc.ConvLayer.of(kernel), tc.svd(kernel, 2, split=split))
    assert tc.svd(kernel, error=error, split=split).rank == 2
