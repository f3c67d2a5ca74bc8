"""Which path a layer takes, decided once for an input size and a type, and kept for the next call."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution.simple import plan_simple
from tensorconv.convolution.tiles import walk
from tensorconv.convolution.transposed import plan_transposed
from tensorconv.convolution.vectors import VECTOR_BYTES
from tensorconv.convolution.walks import plan_walk
from tensorconv.layers import ConvLayer

KEPT_BYTES = 2**26  # of weights laid out for layers that were run last
ALIGNMENT = 64

Path = Callable[[Array, Array], bool]
Key = tuple[int, tuple[int, ...], str, bool]


@dataclass(frozen=True, eq=False)
class Plan:
    """A layer planned for one input size and data type.

    Parameters
    ----------
    path : callable
        Convolves data (B, C, L) into an output (B, O, P), and returns whether the data are finite.
    out_channels : int
        O.
    output_size : tuple of int
        Spatial size of the output.
    n_bytes : int
        What the plan keeps of the weights.
    """

    path: Path
    out_channels: int
    output_size: tuple[int, ...]
    n_bytes: int

    def __call__(self, x: Array) -> Array:
        """Apply the layer to x of shape (B, C, *L) and of the planned size and type."""
        return self.judge(x)[0]

    def judge(self, x: Array) -> tuple[Array, bool]:
        """Apply the layer, and tell whether the data are finite.

        Parameters
        ----------
        x : ndarray, shape (B, C, L1..LN)
            Data of the planned size and type.

        Returns
        -------
        (ndarray, bool)
            The output, and whether x holds neither NaN nor inf.
        """
        shape = (len(x), self.out_channels, math.prod(self.output_size))
        y = _aligned(shape, x.dtype)
        is_finite = self.path(np.ascontiguousarray(x).reshape(len(x), x.shape[1], -1), y)
        return y.reshape(*shape[:2], *self.output_size), is_finite


def planned(layer: ConvLayer, size: tuple[int, ...], dtype: np.dtype[Any]) -> Plan:
    """Return the plan of a layer, kept from the call before or made anew.

    Parameters
    ----------
    layer : ConvLayer
        The layer.
    size : tuple of int
        Spatial size of the input.
    dtype : dtype
        Type of the computation, float32 or float64.

    Returns
    -------
    Plan
        A callable from array to array.

    Raises
    ------
    GeometryError
        If the output would be empty.
    KernelError
        If kernel or bias do not fit the type.
    """
    key = (id(layer), size, dtype.name, is_fast())
    plan = _KEPT.find(key)
    if plan is None:
        plan = _plan(layer, size, dtype, is_fast())
        _KEPT.keep(key, layer, plan)
    return plan


def is_fast() -> bool:
    """Return whether the fast paths are wanted, which TENSORCONV_FAST=0 turns off, and known for this machine.

    Returns
    -------
    bool
        Whether they are taken.
    """
    return VECTOR_BYTES > 0 and os.environ.get("TENSORCONV_FAST", "") != "0"


class _Kept:
    """The plans used last, up to a number of bytes, each as long as its layer lives."""

    def __init__(self) -> None:
        self.plans: OrderedDict[Key, tuple[Plan, weakref.ref[ConvLayer]]] = OrderedDict()
        self.lock = threading.RLock()  # a layer may die while this thread holds it

    def find(self, key: Key) -> Plan | None:
        with self.lock:
            if key not in self.plans:
                return None
            self.plans.move_to_end(key)
            return self.plans[key][0]

    def keep(self, key: Key, layer: ConvLayer, plan: Plan) -> None:
        with self.lock:
            self.plans[key] = plan, weakref.ref(layer, lambda _: self.drop(key))
            while sum(kept.n_bytes for kept, _ in self.plans.values()) > KEPT_BYTES:
                self.plans.popitem(last=False)

    def drop(self, key: Key) -> None:
        with self.lock:
            self.plans.pop(key, None)


_KEPT = _Kept()


def _plan(layer: ConvLayer, size: tuple[int, ...], dtype: np.dtype[Any], fast: bool) -> Plan:
    geometry, output_size = layer.geometry, layer.output_size(size)
    with np.errstate(over="ignore"):
        kernel = as_float_array(f"kernel as {dtype}", layer.kernel.astype(dtype))
        bias = np.zeros(layer.out_channels, dtype) if layer.bias is None else layer.bias.astype(dtype)
    bias = as_float_array(f"bias as {dtype}", bias)
    path: Path
    if not fast:
        path = plan_simple(geometry, kernel, bias, size, output_size)
    elif geometry.transposed:
        path = plan_transposed(geometry, kernel, bias, size, output_size)
    else:
        low = tuple(pair[0] for pair in geometry.padding)
        way = walk(output_size, geometry.stride, geometry.dilation, low, size, layer.kernel_size, dtype.itemsize)
        path = plan_walk(way, kernel.reshape(*kernel.shape[:2], -1), bias, geometry.groups)
    return Plan(path, layer.out_channels, output_size, kernel.nbytes)


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a new array that begins with a cache line."""
    n_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(n_bytes + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + n_bytes].view(dtype).reshape(shape)
