"""Which path a layer takes, decided once for an input size and a type, and kept for the next call."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tensorconv.arrays import Array, as_float_array
from tensorconv.convolution.fused import plan_fused
from tensorconv.convolution.kept import lent
from tensorconv.convolution.part import Part, joined
from tensorconv.convolution.simple import plan_simple
from tensorconv.convolution.transposed import plan_transposed
from tensorconv.convolution.vectors import VECTOR_BYTES
from tensorconv.layers import ConvLayer

KEPT_BYTES = 2**26  # of weights laid out, and tables, for layers that were run last

Key = tuple[tuple[int, ...], tuple[int, ...], str, bool]


class Path(Protocol):
    """How a layer or a sequence is run: data (B, C, L) into an output (B, O, P)."""

    @property
    def n_bytes(self) -> int:
        """Bytes that are kept for the next call."""

    def __call__(self, x: Array, y: Array) -> bool:
        """Return whether the data are finite for sure."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A layer planned for one input size and data type.

    Parameters
    ----------
    path : Path
        Convolves data into an output, and tells whether the data are finite for sure.
    out_channels : int
        O.
    output_size : tuple of int
        Spatial size of the output.
    """

    path: Path
    out_channels: int
    output_size: tuple[int, ...]

    @cached_property
    def n_bytes(self) -> int:
        """Bytes of weights and tables that the plan keeps."""
        return self.path.n_bytes

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
        y = lent(shape, x.dtype)
        is_finite = self.path(np.ascontiguousarray(x).reshape(len(x), x.shape[1], -1), y) or bool(np.isfinite(x).all())
        return y.reshape(*shape[:2], *self.output_size), is_finite


def planned(layers: tuple[ConvLayer, ...], size: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Plan, ...]:
    """Return the plans of layers that follow one another, kept from the call before or made anew.

    Parameters
    ----------
    layers : tuple of ConvLayer
        The layers.
    size : tuple of int
        Spatial size of the input.
    dtype : dtype
        Type of the computation, float32 or float64.

    Returns
    -------
    tuple of Plan
        One for each layer, or one for all of them.

    Raises
    ------
    GeometryError
        If the output would be empty.
    KernelError
        If kernel or bias do not fit the type.
    """
    if len(layers) > 1:
        together = _planned(layers, size, dtype)
        if together is not None:
            return (together,)
    plans: list[Plan] = []
    while layers:
        pair = _planned(layers[:2], size, dtype) if len(layers) > 2 else None
        n = 1 if pair is None else 2
        plan = pair or _planned(layers[:1], size, dtype)
        plans += [] if plan is None else [plan]
        for layer in layers[:n]:
            size = layer.output_size(size)
        layers = layers[n:]
    return tuple(plans)


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
        self.plans: OrderedDict[Key, tuple[Plan | None, list[weakref.ref[ConvLayer]]]] = OrderedDict()
        self.lock = threading.RLock()  # a layer may die while this thread holds it

    def find(self, key: Key) -> tuple[Plan | None] | None:
        with self.lock:
            if key not in self.plans:
                return None
            self.plans.move_to_end(key)
            return (self.plans[key][0],)

    def keep(self, key: Key, layers: tuple[ConvLayer, ...], plan: Plan | None) -> None:
        with self.lock:
            self.plans[key] = plan, [weakref.ref(layer, lambda _: self.drop(key)) for layer in layers]
            while sum(kept.n_bytes for kept, _ in self.plans.values() if kept is not None) > KEPT_BYTES:
                self.plans.popitem(last=False)

    def drop(self, key: Key) -> None:
        with self.lock:
            self.plans.pop(key, None)


_KEPT = _Kept()


def _planned(layers: tuple[ConvLayer, ...], size: tuple[int, ...], dtype: np.dtype[Any]) -> Plan | None:
    key = (tuple(map(id, layers)), size, dtype.name, is_fast())
    found = _KEPT.find(key)
    if found is not None:
        return found[0]
    plan = _plan(layers, size, dtype, is_fast())
    _KEPT.keep(key, layers, plan)
    return plan


def _plan(layers: tuple[ConvLayer, ...], size: tuple[int, ...], dtype: np.dtype[Any], fast: bool) -> Plan | None:
    """Return the plan of one layer, or of several in bands where that pays."""
    parts = []
    for layer in layers:
        output_size = layer.output_size(size)
        with np.errstate(over="ignore"):
            kernel = as_float_array(f"kernel as {dtype}", layer.kernel.astype(dtype, copy=False))
            bias = np.zeros(layer.out_channels, dtype) if layer.bias is None else layer.bias.astype(dtype)
        bias = as_float_array(f"bias as {dtype}", bias)
        parts.append(Part(layer.geometry, kernel, bias, size, output_size))
        size = output_size
    if len(parts) > 1 and (not fast or any(part.geometry.transposed for part in parts)):
        return None
    parts = joined(parts) if len(parts) > 1 else parts
    path = _path(parts[0], fast) if len(parts) == 1 else plan_fused(parts)
    return None if path is None else Plan(path, layers[-1].out_channels, size)


def _path(part: Part, fast: bool) -> Path | None:
    geometry, kernel = part.geometry, part.kernel
    if not fast:
        return plan_simple(geometry, kernel, part.bias, part.input_size, part.output_size)
    if geometry.transposed:
        return plan_transposed(geometry, kernel, part.bias, part.input_size, part.output_size)
    return part.planned(part.way)
