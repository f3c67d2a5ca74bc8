"""Activations: values, types, and the auxiliary variable against a grid and against its closed form."""

from __future__ import annotations

import tracemalloc

import ml_dtypes
import numpy as np
import pytest

import tensorconv as tc
from tensorconv.activations import CHUNK
from tensorconv.arrays import Array
from tensorconv.errors import KernelError

RELU = tc.Activation.relu()
ACTIVATIONS = {
    "relu": RELU,
    "leaky": tc.Activation.leaky_relu(0.1),
    "relu6": tc.Activation.clipped_relu(6.0),
    "clipped low": tc.Activation.clipped_relu(0.5),
    "steep": tc.Activation(slope=2.0),
    "folded": tc.Activation(slope=-0.5),
    "leaky and clipped": tc.Activation(slope=0.2, cap=1.0),
    "none": tc.Activation(slope=1.0),
}
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())


def test_values() -> None:
    z = np.array([-3.0, -0.0, 0.0, 0.25, 3.0])
    np.testing.assert_array_equal(RELU(z), [0, 0, 0, 0.25, 3])
    np.testing.assert_array_equal(tc.Activation.leaky_relu(0.5)(z), [-1.5, 0, 0, 0.25, 3])
    np.testing.assert_array_equal(tc.Activation.clipped_relu(2.0)(z), [0, 0, 0, 0.25, 2])
    np.testing.assert_array_equal(tc.Activation(slope=1.0)(z), z)
    assert tc.Activation.leaky_relu() == tc.Activation(slope=0.01)
    assert tc.Activation.clipped_relu() == tc.Activation(cap=6.0)


@each_activation
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_the_type_is_kept(activation: tc.Activation, dtype: type) -> None:
    z: Array = np.array([[-2.0, 0.5], [9.0, 0.0]]).astype(dtype)
    found = activation(z)
    assert found.dtype == dtype
    assert found.shape == z.shape


def penalised(activation: tc.Activation, z: Array, wanted: Array, response: Array, weight: float) -> Array:
    return np.asarray((wanted - activation(z)) ** 2 + weight * (z - response) ** 2)


@each_activation
@pytest.mark.parametrize("weight", [0.01, 0.3, 1.0, 20.0])
def test_no_point_of_a_grid_beats_the_auxiliary_variable(activation: tc.Activation, weight: float) -> None:
    rng = np.random.default_rng(0)
    wanted, response = activation(rng.normal(0, 3, 400)), rng.normal(0, 3, 400)
    wanted[::4] = rng.normal(0, 3, 100)  # also what no activation gives
    found = activation.auxiliary(wanted, response, weight)
    grid = np.linspace(-40, 40, 16001)
    on_grid = penalised(activation, grid, wanted[:, None], response[:, None], weight).min(axis=1)
    attained = penalised(activation, found, wanted, response, weight)
    assert (attained <= on_grid + 1e-13).all()  # a few roundings of squares below 1e3


@pytest.mark.parametrize("weight", [0.01, 1.0])
def test_the_closed_form_for_relu(weight: float) -> None:
    rng = np.random.default_rng(1)
    y, response = rng.standard_normal(1000), rng.standard_normal(1000)
    wanted = np.maximum(y, 0)
    below = np.minimum(response, 0)
    above = np.maximum((weight * response + wanted) / (weight + 1), 0)
    costs = [penalised(RELU, z, wanted, response, weight) for z in (below, above)]
    found = RELU.auxiliary(wanted, response, weight)
    np.testing.assert_allclose(found, np.where(costs[0] <= costs[1], below, above), rtol=1e-14)


def test_any_layout_of_any_size_gives_the_same_auxiliary_variable_in_little_memory() -> None:
    rng = np.random.default_rng(2)
    wanted, response = rng.standard_normal((2, 3, 7 * CHUNK + 5))
    expected = [RELU.auxiliary(w, r, 0.5) for w, r in zip(wanted.T[:4], response.T[:4], strict=True)]
    assert np.array_equal(RELU.auxiliary(wanted.T[:4], response.T[:4], 0.5), expected)
    tracemalloc.start()
    found = RELU.auxiliary(wanted, response, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= found.nbytes + 12 * 8 * CHUNK  # the answer, and a dozen temporaries of one chunk
    assert np.array_equal(found[:, -4:], RELU.auxiliary(wanted[:, -4:], response[:, -4:], 0.5))
    assert RELU.auxiliary(np.array(1, np.float32), np.array(0, np.float32), 1.0).shape == ()


def test_refusals() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50))
    with pytest.raises(KernelError, match=r"slope must be finite and cap above 0 .* got slope=nan and cap=inf"):
        tc.Activation(slope=float("nan"))
    with pytest.raises(KernelError, match=r"slope must be finite and cap above 0 .* got slope=0.0 and cap=0"):
        tc.Activation.clipped_relu(0)
    with pytest.raises(KernelError, match=r"weight must be a finite number above 0, got 0"):
        RELU.auxiliary(x, x, 0)
    with pytest.raises(KernelError, match=r"of one shape, got \(4, 50\) and \(3, 50\)"):
        RELU.auxiliary(x, x[:3], 1)
