"""The inputs that an ONNX network must be given, and data of the user checked against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from tensorconv.arrays import Array, as_float_array, named_dtype
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.export.onnx_tensors import STANDARD, TYPES
from tensorconv.models.named_data import by_name, portions
from tensorconv.models.onnx_shapes import dimensions
from tensorconv.models.onnx_walk import stored_names

Shape = tuple[int, ...]
Open = tuple[int | None, ...]
Batch = dict[str, Array]
_FLOATS = {number: name for name, number in TYPES.items()}
_OTHERS: tuple[int, ...] = (TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
_OTHERS += (TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64)


@dataclass(frozen=True)
class Input:
    """One input of a network.

    Parameters
    ----------
    name : str
        Its name.
    dtype : dtype
        Its type.
    shape : tuple of (int or None)
        Its sizes, None where one is open.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Open

    def filled(self, input_size: int | Shape | None, other: int) -> Shape:
        """Return a shape that the input can have.

        Parameters
        ----------
        input_size : int, tuple of int or None
            Size of the spatial axes; these follow the channels, or lie between batch and channels where only that fits.
        other : int
            Size of every open axis that is not said by it; the batch is 1.

        Returns
        -------
        tuple of int
            The shape.

        Raises
        ------
        ModelError
            If the sizes contradict those that are fixed.
        """
        shape = list(self.shape)
        ndim = len(shape) - 2
        if isinstance(input_size, int):
            input_size = (input_size,) * ndim
        if input_size is not None and ndim == len(input_size) > 0:
            places = (range(2, ndim + 2), range(1, ndim + 1))
            fitting = [
                p for p in places if all(shape[i] in (None, size) for i, size in zip(p, input_size, strict=True))
            ]
            if not fitting:
                raise ModelError(
                    f"input_size {input_size} contradicts the network, whose input {self.name!r} has the shape "
                    f"{shown(self.shape)}; leave input_size out"
                )
            for i, size in zip(fitting[0], input_size, strict=True):
                shape[i] = size
        if shape and shape[0] is None:
            shape[0] = 1
        return tuple(other if size is None else size for size in shape)

    def accept(self, value: Any) -> Array:
        """Return data as an array that the input takes.

        Parameters
        ----------
        value : array_like
            The data.

        Returns
        -------
        ndarray
            The array, of the input's type.

        Raises
        ------
        ModelError
            If its shape does not fit, or its values are of another kind.
        """
        try:
            if self.dtype.name in TYPES:
                with np.errstate(over="ignore"):  # what is too large becomes inf and is refused
                    array = as_float_array(f"data for input {self.name!r}", value).astype(self.dtype, copy=False)
                array = as_float_array(f"data for input {self.name!r} as {self.dtype}", array)
            else:
                array = np.asarray(value)
                cast = array.astype(self.dtype)
                if array.dtype.kind not in "biu" or not np.array_equal(array, cast):
                    raise ModelError(f"data for input {self.name!r} must be of type {self.dtype}, got {array.dtype}")
                array = cast
        except TensorconvError as error:
            raise ModelError(str(error)) from error
        fits = len(array.shape) == len(self.shape)
        if not fits or any(size not in (None, got) for size, got in zip(self.shape, array.shape, strict=True)):
            raise ModelError(
                f"data for input {self.name!r} must have the shape {shown(self.shape)}, got {shown(array.shape)}"
            )
        return array


def read_inputs(model: ModelProto) -> tuple[Input, ...]:
    """Return the inputs that a network must be given.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; stored tensors that are inputs, too, keep their values.

    Returns
    -------
    tuple of Input
        The inputs; channels that are open are those of a convolution that reads the input.

    Raises
    ------
    ModelError
        If one is no tensor of numbers, or its number of axes is not known.
    """
    stored = stored_names(model.graph)
    return tuple(_input(model, value) for value in model.graph.input if value.name not in stored)


def check_batches(inputs: tuple[Input, ...], data: Any) -> list[Batch]:
    """Return data as batches.

    Parameters
    ----------
    inputs : tuple of Input
        The inputs.
    data : array_like, mapping of str to array_like, or list or tuple of either
        One batch, or several. An array is that of the only input. Where the network fixes the size of a batch,
        a multiple of it is split; where it is open, more than 64 images are.

    Returns
    -------
    list of dict of str to ndarray
        The batches, each of all inputs.

    Raises
    ------
    ModelError
        If an input is missing, unknown, or does not fit.
    """
    sizes = {i.shape[0] if i.shape else 0 for i in inputs}
    size = sizes.pop() if len(sizes) == 1 else 0
    return [
        {i.name: i.accept(part[i.name]) for i in inputs}
        for named in by_name([i.name for i in inputs], data)
        for part in portions(named, size)
    ]


def _input(model: ModelProto, value: Any) -> Input:
    shape = dimensions(value)
    number = value.type.tensor_type.elem_type
    channels = _read_by_convolution(model, value.name)
    if shape is None and value.type.HasField("tensor_type") and channels is not None:
        shape = (None,) * channels[0]
    if shape is None or (number not in _FLOATS and number not in _OTHERS):
        raise ModelError(
            f"input {value.name!r} of the network must be a tensor of numbers with a known number of axes; write its "
            "shape into the network"
        )
    if channels is not None and channels[0] == len(shape) and shape[1] is None:
        shape = (shape[0], channels[1], *shape[2:])
    name = _FLOATS.get(number)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(number)) if name is None else named_dtype(name)
    return Input(value.name, dtype, shape)


def _read_by_convolution(model: ModelProto, name: str) -> tuple[int, int] | None:
    """Return axes and channels of a value that a convolution with stored weights reads."""
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in STANDARD or len(node.input) < 2:
            continue
        dims = stored.get(node.input[1], ())
        if node.input[0] == name and len(dims) > 2:
            groups = max([a.i for a in node.attribute if a.name == "group"] or [1])
            return len(dims), dims[0] if node.op_type == "ConvTranspose" else dims[1] * groups
    return None


def shown(shape: Open) -> str:
    """Return a shape as text.

    Parameters
    ----------
    shape : tuple of (int or None)
        The sizes, None where one is open.

    Returns
    -------
    str
        Such as "(any, 3, 224, 224)".
    """
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"
