"""Read an ONNX model that is a plain chain of Conv, ConvTranspose and padding nodes, or one such node."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from tensorconv.arrays import Array
from tensorconv.errors import (
    FormatError,
    GeometryError,
    KernelError,
    KernelTypeError,
    ModelError,
    UnsupportedExportError,
)
from tensorconv.export.onnx_channels import channelwise_nodes, read_channelwise, read_order
from tensorconv.export.onnx_node import ATTRIBUTES, checked_size, label, read_attributes, read_convolution
from tensorconv.export.onnx_tensors import STANDARD, read_tensor, stored_tensors
from tensorconv.export.padding import Other, Pairs, merge_padding
from tensorconv.export.source import Source, opened
from tensorconv.integers import PerAxis
from tensorconv.layers import ChannelwiseLayer, ConvLayer, ConvSequence, PadLayer
from tensorconv.layers.pad import NUMPY_MODES

_MODES = {theirs: ours for ours, theirs in NUMPY_MODES.items()}
_Step = ConvLayer | Other | Pairs | Array
_Size = PerAxis | None


def load(
    obj: ModelProto | NodeProto | Source,
    *,
    initializers: Mapping[str, TensorProto | Array] | None = None,
    input_size: PerAxis | None = None,
) -> ConvSequence:
    """Return the sequence of an ONNX model or node, the inverse of :func:`tensorconv.export.onnx.dump`.

    Parameters
    ----------
    obj : onnx.ModelProto, onnx.NodeProto, bytes, str or path
        The model, its bytes, or where it is (data in files beside it are found then); or one node.
    initializers : mapping of str to onnx.TensorProto or ndarray, optional
        For a node: its weights, in ONNX's layout, by the names that the node reads.
    input_size : int or sequence of int, optional
        Spatial size of the input, where padding depends on it and the model leaves it open: ``output_shape``, and
        ``auto_pad`` SAME_UPPER and SAME_LOWER of a Conv at a stride above 1.

    Returns
    -------
    ConvSequence
        Kernels and bias bitwise the model's; a node's name is the layer's name.

    Raises
    ------
    FormatError
        If the model is broken.
    UnsupportedExportError
        If it is more than a chain of convolutions and paddings, or its padding depends on an input size not given.
    ModelError
        If ``input_size`` does not fit the model.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", name="conv1")
    >>> print(load(node, initializers={"w": np.ones((8, 4, 3, 3), "float32")}))
    layer  channels  kernel  geometry             parameters
    conv1  4 -> 8    3x3     stride 1, padding 1         288
    """
    try:
        if isinstance(obj, NodeProto):
            return merge_padding([_Reader({}, None).step(obj, initializers or {}, input_size)])
        if initializers is not None:
            raise UnsupportedExportError("initializers belong to a node, a model holds its own; leave them out")
        return merge_padding(_model_steps(obj, input_size))
    except (GeometryError, KernelError, KernelTypeError) as error:
        raise FormatError(f"the model's nodes make no sequence of convolutions: {error}") from error
    except ModelError as error:
        if input_size is not None:
            raise
        raise FormatError(f"the shape of the model's input does not fit its nodes: {error}") from error


def _model_steps(obj: ModelProto | Source, input_size: PerAxis | None) -> Iterator[_Step]:
    """Return the steps of a model's graph."""
    if isinstance(obj, ModelProto):
        model, folder = obj, None
    else:
        model, folder = _parse(obj), None if isinstance(obj, bytes) else Path(obj).parent
    graph = model.graph
    if not graph.node:
        raise FormatError("the model holds no nodes; is this an ONNX file?")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    outputs = [value.name for value in graph.output]
    if len(inputs) != 1 or len(outputs) != 1 or len(constants) < len(graph.initializer) or graph.sparse_initializer:
        raise UnsupportedExportError(
            "the model must have one input, one output and distinct dense initializers, got inputs "
            f"{[value.name for value in inputs]}, outputs {outputs}"
        )
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    size = _fixed_size(inputs[0], input_size)
    return _Reader(functions, folder).steps(graph.node, constants, inputs[0].name, outputs[0], size)


def _parse(source: Source) -> ModelProto:
    model = ModelProto()
    with opened(source) as file:
        content = file.read()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise FormatError(f"this is no ONNX model: {error}") from error
    return model


def _fixed_size(value: ValueInfoProto, input_size: PerAxis | None) -> PerAxis | None:
    """Return the input size that is given, or that the model says; both must agree."""
    fixed = [dim.dim_value for dim in value.type.tensor_type.shape.dim[2:]]
    if input_size is None:
        return tuple(fixed) if fixed and min(fixed) > 0 else None
    if not fixed:
        return input_size
    size = checked_size(input_size, len(fixed))
    if any(n not in (0, wanted) for n, wanted in zip(fixed, size, strict=True)):
        raise ModelError(f"input_size {size} contradicts the model, whose input is of size {fixed}; leave it out")
    return size


@dataclass(frozen=True)
class _Reader:
    """What nodes need to be read: the model's functions, by domain, name and overload, and the model's folder."""

    functions: Mapping[tuple[str, str, str], FunctionProto]
    folder: Path | None

    def steps(
        self, nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto], start: str, end: str, size: _Size
    ) -> Generator[_Step, None, _Size]:
        """Yield the steps of nodes after checking that each reads what the one before it wrote; return the size."""
        stored = stored_tensors(constants, nodes)
        current, joined = start, 0
        group: list[NodeProto] = []
        for at, node in enumerate(nodes):
            if node.op_type in ("Constant", "Identity") and node.output and node.output[0] in stored:
                continue
            if not node.input or node.input[0] != current or len(node.output) != 1:
                raise UnsupportedExportError(f"node {label(node)} does not continue the chain at {current!r}")
            current = node.output[0]
            joined = joined or channelwise_nodes(nodes[at:])
            if joined:  # the last of several nodes that are one step
                joined -= 1
                group.append(node)
                if not joined:
                    whole = self._channelwise(group, stored)
                    group.clear()
                    yield whole
                    size = _size_after(whole, size)
                continue
            function = self.functions.get((node.domain, node.op_type, node.overload))
            if function is None:
                step = self.step(node, stored, size)
                yield step
                size = _size_after(step, size)
            else:
                size = yield from self._call(function, node, stored, size)
        if current != end:
            raise UnsupportedExportError(f"the chain ends at {current!r}, the model's output is {end!r}")
        return size

    def _call(
        self, function: FunctionProto, node: NodeProto, constants: Mapping[str, TensorProto], size: _Size
    ) -> Generator[_Step, None, _Size]:
        """Yield the steps of a function, whose names are its own; a function within a function is not looked into."""
        formal, actual = list(function.input), list(node.input)
        if len(set(formal)) < len(formal) or len(formal) < len(actual) or len(function.output) != 1:
            raise FormatError(
                f"node {label(node)} has {len(actual)} inputs, its function takes {formal}, gives {function.output}"
            )
        bound = {
            name: constants[given] for name, given in zip(formal[1:], actual[1:], strict=False) if given in constants
        }
        inside = _Reader({}, self.folder)
        return (yield from inside.steps(function.node, bound, formal[0], function.output[0], size))

    def step(self, node: NodeProto, constants: Mapping[str, TensorProto | Array], size: _Size) -> _Step:
        """Return the step that a node is."""
        if node.op_type not in ATTRIBUTES or node.domain not in STANDARD:
            raise UnsupportedExportError(
                f"node {label(node)} must be one of {', '.join(ATTRIBUTES)}; load a network's convolutions one by one"
            )
        arrays = [self._array(name, constants, node) for name in node.input[1:]]
        if node.op_type == "Pad":
            return _read_pad(node, arrays)
        if node.op_type == "Add":
            return _read_bias(node, arrays)
        if node.op_type == "Gather":
            return read_order(node, arrays[0] if len(arrays) == 1 else None)
        if node.op_type in ("Reshape", "Transpose"):
            raise UnsupportedExportError(
                f"node {label(node)} is part of no channel-wise convolution; load a network's convolutions one by one"
            )
        if len(arrays) not in (1, 2) or arrays[0] is None:
            raise FormatError(f"node {label(node)} must have a kernel and at most a bias")
        return read_convolution(node, arrays[0], arrays[1] if len(arrays) == 2 else None, size, node.name)

    def _channelwise(self, nodes: Sequence[NodeProto], constants: Mapping[str, TensorProto]) -> ChannelwiseLayer:
        def array(node: NodeProto) -> Array:
            found = self._array(node.input[1], constants, node) if len(node.input) == 2 else None
            if found is None:
                raise FormatError(f"node {label(node)} must have one initializer")
            return found

        return read_channelwise(nodes, array)

    def _array(self, name: str, constants: Mapping[str, TensorProto | Array], node: NodeProto) -> Array | None:
        if name == "":
            return None
        if name not in constants:
            raise UnsupportedExportError(
                f"node {label(node)} reads {name!r}, which is no initializer; a model must hold it, and one node is "
                "read with initializers={name: array}"
            )
        value = constants[name]
        return read_tensor(name, value, self.folder) if isinstance(value, TensorProto) else np.asarray(value)


def _read_pad(node: NodeProto, arrays: list[Array | None]) -> Pairs | PadLayer:
    mode = read_attributes(node).get("mode", "constant")
    pads, value, axes = (*arrays, None, None, None)[:3]
    if axes is not None or (mode != "constant" and mode not in _MODES):
        raise UnsupportedExportError(
            f"node {label(node)} must pad all axes in one of the modes constant, {', '.join(_MODES)}, got {mode!r}"
        )
    if mode == "constant" and value is not None and value.any():
        raise UnsupportedExportError(f"node {label(node)} must pad by constant zeros, got {value}")
    if pads is None or pads.dtype != np.int64 or pads.ndim != 1 or pads.size < 6 or pads.size % 2:
        raise FormatError(f"node {label(node)} must have its pads as an int64 initializer of (low..., high...)")
    sides = [int(side) for side in pads]
    half = len(sides) // 2
    pairs = tuple(zip(sides[:half], sides[half:], strict=True))
    if any(side for pair in pairs[:2] for side in pair):
        raise UnsupportedExportError(f"node {label(node)} pads the batch or the channels: {pairs}")
    if mode == "constant":
        return pairs[2:]
    if min(sides) < 0:
        raise UnsupportedExportError(f"node {label(node)} crops in mode {mode}: {pairs}; crop in mode constant instead")
    return PadLayer(pairs[2:], _MODES[str(mode)], node.name)


def _read_bias(node: NodeProto, arrays: list[Array | None]) -> Array:
    read_attributes(node)
    bias = arrays[0] if len(arrays) == 1 else None
    if bias is None:
        raise FormatError(f"node {label(node)} must add one initializer")
    return bias


def _size_after(step: _Step, size: _Size) -> _Size:
    """Return the spatial size of a step's output, where that of its input is known."""
    if size is None or isinstance(step, np.ndarray):
        return size
    if isinstance(step, tuple):
        pairs = zip(checked_size(size, len(step)), step, strict=True)
        return tuple(n + low + high for n, (low, high) in pairs)
    try:
        return step.output_size(size)
    except GeometryError as error:
        raise ModelError(str(error)) from error
