"""The one place that touches TensorLy: our factors in its containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorly
from tensorly.cp_tensor import CPTensor
from tensorly.tt_tensor import TTTensor
from tensorly.tucker_tensor import TuckerTensor

from tensorconv.factorizations.scheme import Array


def cp_tensor(weights: Array, factors: Sequence[Array]) -> Any:
    """Return a CPTensor.

    Parameters
    ----------
    weights : ndarray, shape (R,)
        Weights of the terms.
    factors : sequence of ndarray, shape (size, R)
        One matrix per mode.

    Returns
    -------
    tensorly.cp_tensor.CPTensor
        The same arrays in TensorLy's container.
    """
    with tensorly.backend_context("numpy", local_threadsafe=True):
        return CPTensor((weights, list(factors)))


def tucker_tensor(core: Array, factors: Sequence[Array]) -> Any:
    """Return a TuckerTensor.

    Parameters
    ----------
    core : ndarray
        The core.
    factors : sequence of ndarray, shape (size, rank)
        One matrix per mode.

    Returns
    -------
    tensorly.tucker_tensor.TuckerTensor
        The same arrays in TensorLy's container.
    """
    with tensorly.backend_context("numpy", local_threadsafe=True):
        return TuckerTensor((core, list(factors)))


def train_tensor(cores: Sequence[Array]) -> Any:
    """Return a TTTensor.

    Parameters
    ----------
    cores : sequence of ndarray, shape (r_before, size, r_after)
        One core per mode.

    Returns
    -------
    tensorly.tt_tensor.TTTensor
        The same arrays in TensorLy's container.
    """
    with tensorly.backend_context("numpy", local_threadsafe=True):
        return TTTensor(list(cores))
