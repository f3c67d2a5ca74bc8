"""tensor_train_svd: exact at full ranks, within its bound below, orthonormal, and in TensorLy's convention."""

import numpy as np
import pytest
import tensorly

from tensorconv.errors import RankError
from tensorconv.linalg import tensor_train_svd, unfolding_ranks, unfolding_spectra

TENSOR = np.random.default_rng(0).standard_normal((5, 3, 4, 6))


def test_full_ranks_are_exact() -> None:
    cores = tensor_train_svd(TENSOR)
    assert [core.shape for core in cores] == [(1, 5, 5), (5, 3, 15), (15, 4, 6), (6, 6, 1)]
    # four orthogonal projections of a tensor of norm 19, each off by a few dozen float64 roundings of it
    np.testing.assert_allclose(tensorly.tt_to_tensor(cores), TENSOR, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ranks", [(2, 4, 3), (5, 1, 6), (1, 1, 1), (4, 12, 2)])
def test_the_error_is_within_the_tails_and_all_but_the_last_core_are_orthonormal(ranks: tuple[int, ...]) -> None:
    cores = tensor_train_svd(TENSOR, ranks)
    for core in cores[:-1]:
        matrix = core.reshape(-1, core.shape[-1])
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(core.shape[-1]), rtol=0, atol=1e-13)
    lost = np.linalg.norm(tensorly.tt_to_tensor(cores) - TENSOR)
    tails = [float(np.sum(s[r:] ** 2)) for s, r in zip(unfolding_spectra(TENSOR), ranks, strict=True)]
    assert max(tails) * (1 - 1e-12) <= lost**2 <= sum(tails) * (1 + 1e-12)


def test_unfolding_ranks() -> None:
    assert unfolding_ranks((5, 3, 4, 6)) == (5, 15, 6)
    assert unfolding_ranks((2, 9)) == (2,)


def test_ranks_out_of_range_are_refused() -> None:
    text = r"ranks must be one between each two modes, from 1 to \(5, 15, 6\) for this tensor, got \(5, 16, 6\)"
    with pytest.raises(RankError, match=text):
        tensor_train_svd(TENSOR, (5, 16, 6))
    with pytest.raises(RankError, match="one between each two modes"):
        tensor_train_svd(TENSOR, (5, 15))
