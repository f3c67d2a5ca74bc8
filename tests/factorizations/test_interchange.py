"""from_tensorly: what TensorLy decomposed is the same kernel here, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorly
from tensorly.decomposition import parafac, tensor_train, tucker

import tensorconv as tc
from tensorconv.errors import KernelError

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 2))
GEOMETRY = tc.ConvGeometry.of(2, stride=(2, 1), padding=((1, 2), (0, 1)))
BIAS = np.arange(8.0)
# products of at most four float64 matrices of at most 12 columns and entries below 100: a few hundred roundings of them
CLOSE = {"rtol": 0, "atol": 1e-11}


def assert_is(f: tc.Factorization, kernel: np.ndarray) -> None:
    np.testing.assert_allclose(f.layer.kernel, kernel, **CLOSE)
    np.testing.assert_allclose(tc.compose(f.sequence).kernel, kernel, **CLOSE)
    report = tc.verify(f.layer, f)
    assert report.consistent
    assert report.exact
    assert f.layer.geometry == GEOMETRY
    assert f.sequence.bias is not None
    assert f.sequence.bias.tolist() == BIAS.tolist()


def test_cp_of_tensorly() -> None:
    found = parafac(KERNEL, 4, n_iter_max=20, init="random", random_state=0, normalize_factors=True)
    f = tc.from_tensorly(found, GEOMETRY, BIAS)
    assert (f.method, f.rank) == ("cp", 4)
    assert_is(f, tensorly.cp_to_tensor(found))
    norms = [np.linalg.norm(f.factors[n], axis=a) for n, a in (("in", 2), ("out", 1), ("axis0", 2), ("axis1", 2))]
    for other in norms[1:]:
        np.testing.assert_allclose(other, norms[0], rtol=1e-12)
    assert_is(tc.from_tensorly((None, found.factors), GEOMETRY, BIAS), tensorly.cp_to_tensor((None, found.factors)))


def test_tucker_of_tensorly() -> None:
    found = tucker(KERNEL, (5, 4, 2, 2), n_iter_max=5)
    f = tc.from_tensorly(found, GEOMETRY, BIAS)
    assert (f.method, f.rank) == ("tucker", (5, 4, 2, 2))
    assert_is(f, tensorly.tucker_to_tensor(found))
    assert_is(tc.from_tensorly((found.core, found.factors), GEOMETRY, BIAS), tensorly.tucker_to_tensor(found))


def test_tensor_train_of_tensorly() -> None:
    found = tensor_train(np.moveaxis(KERNEL, 0, -1), (1, 4, 5, 6, 1))
    f = tc.from_tensorly(found, GEOMETRY, BIAS)
    assert (f.method, f.rank) == ("tensor_train", (4, 5, 6))
    assert_is(f, np.moveaxis(tensorly.tt_to_tensor(found), -1, 0))


def test_an_axis_of_one_tap_has_no_layer_of_its_own() -> None:
    found = parafac(KERNEL[..., :1], 3, n_iter_max=5, init="random", random_state=0)
    f = tc.from_tensorly(found, GEOMETRY)
    assert set(f.factors) == {"in", "out", "axis0"}
    np.testing.assert_allclose(f.kernel, tensorly.cp_to_tensor(found), **CLOSE)
    assert tc.compose(f.sequence).geometry == GEOMETRY


@pytest.mark.parametrize("method", [tc.cp, tc.tucker, tc.tensor_train])
def test_there_and_back(method: Any) -> None:
    f = method(KERNEL.astype("f4"), 3)
    again = tc.from_tensorly(f.to_tensorly(), f.layer.geometry)
    assert again.layer.dtype == np.float32
    # each of up to five factors is stored once more: five roundings of each term
    bound = 8 * 2.0**-24 * np.abs(f.kernel).max() * 6
    np.testing.assert_allclose(again.kernel, f.kernel, rtol=0, atol=bound)


def test_refusals() -> None:
    with pytest.raises(KernelError, match=r"factors must be 4 matrices for \(O, I, 2 spatial axes\), got \[\(8, 2\)\]"):
        tc.from_tensorly((None, [np.ones((8, 2))]), GEOMETRY)
    factors = [np.ones((n, 2)) for n in (8, 6, 3, 2)]
    with pytest.raises(KernelError, match=r"weights and factors must have one column per term, got \(3,\) and"):
        tc.from_tensorly((np.ones(3), factors), GEOMETRY)
    with pytest.raises(KernelError, match=r"core must have the shape of the factors' columns, got \(2, 2, 2, 3\) and"):
        tc.from_tensorly((np.ones((2, 2, 2, 3)), factors), GEOMETRY)
    with pytest.raises(KernelError, match="obj must be a CPTensor, TuckerTensor, TTTensor or a pair, got int"):
        tc.from_tensorly(3, GEOMETRY)
    with pytest.raises(KernelError, match="geometry must be of one group, as the tensor is, got groups=2"):
        tc.from_tensorly((None, factors), tc.ConvGeometry.of(2, groups=2))
