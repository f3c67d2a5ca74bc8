"""Tests that numbers which are not finite are refused by every decomposition, with an error of ours that names them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorconv import linalg
from tensorconv.errors import KernelError
from tensorconv.linalg.finite import check_finite


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape)


LEFT, RIGHT = ("or", numbers(4, 2)), ("ri", numbers(2, 5))
# the argument as messages call it, a good one, and what to call with it
CASES: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
    "binary_dictionary": ("blocks", numbers(4, 3, 5), lambda a: linalg.binary_dictionary(a, 3, 4)),
    "compensated_slices, metric": ("metric", np.eye(9), lambda a: linalg.compensated_slices(numbers(4, 3, 3), a, 1)),
    "compensated_slices, target": ("target", numbers(4, 3, 3), lambda a: linalg.compensated_slices(a, np.eye(9), 1)),
    "cp_als": ("tensor", numbers(4, 4, 3), lambda a: linalg.cp_als(a, 2)),
    "cp_als, float32": ("tensor", numbers(4, 4, 3).astype(np.float32), lambda a: linalg.cp_als(a, 2)),
    "cp_epc": ("tensor", numbers(4, 4, 3), lambda a: linalg.cp_epc(a, linalg.cp_als(numbers(4, 4, 3), 2))),
    "evbmf": ("matrix", numbers(4, 5), linalg.evbmf),
    "gsvd, a": ("a", numbers(4, 3), lambda a: linalg.gsvd(a, numbers(5, 3))),
    "gsvd, b": ("b", numbers(4, 3), lambda b: linalg.gsvd(numbers(5, 3), b)),
    "hooi": ("tensor", numbers(40, 40, 3), lambda a: linalg.hooi(a, (2, 2, 2))),
    "hosvd": ("tensor", numbers(4, 4, 3).astype(np.float32), lambda a: linalg.hosvd(a, (2, 2, 2))),
    "metric_als, metric": ("metric", np.eye(5), lambda c: linalg.metric_als([LEFT, RIGHT], "oi", numbers(4, 5), c)),
    "metric_als, target": ("target", numbers(4, 5), lambda t: linalg.metric_als([LEFT, RIGHT], "oi", t, np.eye(5))),
    "metric_svd": ("a", numbers(4, 3), linalg.metric_svd),
    "metric_svd, rows": ("row_metric", np.eye(4), lambda c: linalg.metric_svd(numbers(4, 3), c)),
    "metric_svd, columns": ("column_metric", np.ones(3), lambda c: linalg.metric_svd(numbers(4, 3), None, c)),
    "posterior_spectrum": ("values", np.array([3.0, 2.0, 1.0]), lambda a: linalg.posterior_spectrum(a, (3, 5))),
    "reduced_rank_regression, y": ("y", numbers(3, 9), lambda y: linalg.reduced_rank_regression(numbers(4, 9), y, 2)),
    "reduced_rank_regression, z": ("z", numbers(4, 9), lambda z: linalg.reduced_rank_regression(z, numbers(3, 9), 2)),
    "singular_values": ("matrices", numbers(2, 4, 5), linalg.singular_values),
    "slice_svd": ("matrices", numbers(4, 5, 3), lambda a: linalg.slice_svd(a, 2)),
    "sparse_dictionary": ("blocks", numbers(4, 3, 5), lambda a: linalg.sparse_dictionary(a, 3, 4)),
    "tensor_train_svd": ("matrices", numbers(4, 5, 3), lambda a: linalg.tensor_train_svd(a, (2, 2))),
    "toeplitz_seriation": (
        "matrix",
        numbers(6, 6),
        lambda a: linalg.toeplitz_seriation(a, linalg.ToeplitzBand(1, 6, 6, 3)),
    ),
    "truncated_svd": ("matrices", numbers(4, 5).astype(np.float32), lambda a: linalg.truncated_svd(a, 2)),
    "truncated_svd, refined": ("matrices", numbers(3, 4, 5), linalg.truncated_svd),
}


@pytest.mark.parametrize("case", CASES)
def test_finite_numbers_are_taken(case: str) -> None:
    _, good, call = CASES[case]
    call(good)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", CASES)
def test_numbers_that_are_not_finite_are_refused(case: str, value: float) -> None:
    name, good, call = CASES[case]
    bad = good.copy()
    bad.flat[1 if good.ndim == 1 else -1] = value
    with np.errstate(invalid="ignore"), pytest.raises(KernelError, match=rf"{name}.* must (hold|be) finite"):
        call(bad)


def test_every_decomposition_is_asked() -> None:
    helpers = {"as_generator", "balance", "balanced_svd", "contracted", "mode_product", "multi_mode_product"}
    helpers |= {
        "one_blas_thread",
        "slice_values",
        "square_safe_scale",
        "unfolding_ranks",
        "unfolding_spectra",
        "unit_scale",
    }
    functions = {name for name in linalg.__all__ if not isinstance(getattr(linalg, name), type)}
    assert functions - helpers == {case.partition(",")[0] for case in CASES}


def test_the_message_names_the_array() -> None:
    check_finite("x", np.ones(3))
    with pytest.raises(
        KernelError, match=r"x must hold finite numbers only, got NaN or inf; replace or leave them out"
    ):
        check_finite("x", np.array([1.0, np.inf]))
