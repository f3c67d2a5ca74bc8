"""Peak memory of every method on a large kernel, as a multiple of the kernel's own bytes."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.arrays import Array

MOST = 8  # peak over the bytes of a float32 kernel: two float64 copies of it, and its factors in float64 and float32


def decaying(shape: tuple[int, ...]) -> tc.ConvLayer:
    """Return a float32 layer whose channels matter less and less, as those of trained kernels do."""
    kernel = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    for mode, n in enumerate(shape[:2]):
        kernel *= (1 / (1 + 0.05 * np.arange(n, dtype="float32"))).reshape(
            [-1 if m == mode else 1 for m in range(len(shape))]
        )
    return tc.ConvLayer.of(kernel, padding=1)


def check_peak(call: Callable[[], tc.Factorization], kernel: Array) -> None:
    """The call never holds more than its share beyond what was there before."""
    tracemalloc.start()
    try:
        call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST * kernel.nbytes, f"peak of {peak / kernel.nbytes:.2f} times the kernel"


@pytest.fixture(scope="module")
def large() -> tc.ConvLayer:
    return decaying((512, 512, 3, 3))


@pytest.fixture
def _few_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three sweeps of methods that sweep: every array that a sweep makes has been made by then."""
    module = sys.modules["tensorconv.factorizations.cp_fitter"]
    original = module.cp_als
    monkeypatch.setattr(module, "cp_als", lambda *given, **rest: original(*given, **(rest | {"n_iter_max": 3})))
    for name in ("dictionary", "binary_dictionary"):
        monkeypatch.setattr(sys.modules[f"tensorconv.linalg.{name}"], "SWEEPS", 3)
    monkeypatch.setattr(sys.modules["tensorconv.linalg.dictionary"], "ROUNDS", 3)


VARIANTS = cases.variants(tc.ConvLayer.of(np.ones((4, 4, 3, 3))))
SWEEPING = [pair for pair in VARIANTS if pair[0] == "cp" or pair[1].get("configuration") in ("sparse", "binary")]


@pytest.mark.usefixtures("_few_sweeps")
@pytest.mark.parametrize(("method", "options"), VARIANTS, ids=str)
def test_half_rank(method: str, options: dict[str, Any], large: tc.ConvLayer) -> None:
    rank = 64 if (method, options) in SWEEPING else cases.middle(large, method, options)
    check_peak(lambda: cases.fitted(large, method, options, rank), large.kernel)


@pytest.mark.parametrize(("method", "options"), [pair for pair in VARIANTS if pair not in SWEEPING], ids=str)
@pytest.mark.parametrize("request_", [{"error": 0.3}, {"budget": 0.2}], ids=str)
def test_searches(method: str, options: dict[str, Any], request_: dict[str, Any], large: tc.ConvLayer) -> None:
    check_peak(lambda: tc.methods()[method](large, **request_, **options), large.kernel)


def test_full_width_matrices_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["tensorconv.factorizations.svd_fitter"]

    def full_width(matrices: Array, rank: int, **rest: Any) -> tuple[Array, Array]:
        del rest
        u, s, vh = np.linalg.svd(matrices, full_matrices=True)
        return u[..., :rank] * s[..., None, :rank], vh[..., :rank, :]

    layer = decaying((128, 256, 3, 3))
    check_peak(lambda: tc.svd(layer, 64), layer.kernel)
    monkeypatch.setattr(module, "balanced_svd", full_width)
    with pytest.raises(AssertionError, match="times the kernel"):
        check_peak(lambda: tc.svd(layer, 64), layer.kernel)
