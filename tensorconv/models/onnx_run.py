"""Values of an ONNX graph, computed by ONNX Runtime: only what is needed for them is run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tensorconv.arrays import Array
from tensorconv.errors import ModelError, TensorconvError
from tensorconv.export.onnx_tensors import STANDARD
from tensorconv.models.onnx_external import Folder, take_in, with_data
from tensorconv.models.onnx_shapes import infer_shapes
from tensorconv.models.onnx_walk import all_names, reads, stored_names, tensors_of
from tensorconv.models.timed_session import runtime_errors

_ALIVE = 3  # sessions, each of which holds the weights it needs
_HANDED_OVER = 2**16  # bytes from which a tensor is handed to the runtime as an array, so that no message gets too long
_SHARED = (np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64)
_FIRST_IR = 4  # before it, stored tensors are inputs too, which could be given other values


@dataclass(frozen=True, eq=False)
class Runner:
    """A model, run as far as is needed.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not changed.
    folder : Path, Added or None
        Where its file is.
    n_threads : int or None
        Threads of one operator; all cores where None.
    """

    model: ModelProto
    folder: Folder
    n_threads: int | None = None
    _checked: set[tuple[Any, ...]] = field(default_factory=set, init=False, repr=False)
    _sessions: OrderedDict[tuple[tuple[str, ...], bool], Any] = field(
        default_factory=OrderedDict, init=False, repr=False
    )

    def values(self, names: Sequence[str], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Return values of the graph.

        Parameters
        ----------
        names : sequence of str
            Values: inputs, stored ones, or any that nodes give.
        batch : mapping of str to ndarray
            The inputs.

        Returns
        -------
        dict of str to ndarray
            The values by name.

        Raises
        ------
        ModelError
            If the runtime cannot do it, or a value is no tensor or would be too large.
        FormatError
            If external data are lost, short or outside the folder.
        """
        stored = {tensor.name: tensor for tensor in self.model.graph.initializer}
        given = {name: np.asarray(batch[name]) for name in names if name in batch}
        given |= {name: numpy_helper.to_array(with_data(stored[name], self.folder)) for name in names if name in stored}
        computed = self._run(tuple(sorted(set(names) - set(given))), batch, shapes=False)
        return {name: (given | computed)[name] for name in names}

    def shapes(self, names: Sequence[str], batch: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of values of the graph, without handing the values over.

        Parameters
        ----------
        names : sequence of str
            Values, as for :meth:`values`.
        batch : mapping of str to ndarray
            The inputs.

        Returns
        -------
        dict of str to tuple of int
            The shapes by name.

        Raises
        ------
        ModelError
            If the runtime cannot do it, or a value is no tensor or would be too large.
        FormatError
            If external data are lost, short or outside the folder.
        """
        found = {tensor.name: tuple(tensor.dims) for tensor in self.model.graph.initializer}
        found |= {name: np.shape(array) for name, array in batch.items()}
        computed = self._run(tuple(sorted(set(names) - set(found))), batch, shapes=True)
        return {name: found[name] if name in found else tuple(computed[name].tolist()) for name in names}

    def _run(self, names: tuple[str, ...], batch: Mapping[str, Array], *, shapes: bool) -> dict[str, Array]:
        if not names:
            return {}
        sizes = {name: np.shape(array) for name, array in batch.items()}
        if (key := tuple(sizes.items())) not in self._checked:
            infer_shapes(self.model, sizes)  # refuses values that would be too large
            self._checked.add(key)
        try:
            session = self._session(names, shapes=shapes)
            inputs = {value.name: np.asarray(batch[value.name]) for value in session.get_inputs()}
            results = session.run(None, inputs)
        except TensorconvError:
            raise
        except KeyError as error:
            raise ModelError(f"batch has no input {error}, which the network needs") from error
        except runtime_errors() as error:
            raise ModelError(f"ONNX Runtime cannot run the network: {_first_line(error)}") from error
        for name, result in zip(names, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise ModelError(f"the value {name!r} is no tensor but a {type(result).__name__}")
        return dict(zip(names, results, strict=True))

    def _session(self, names: tuple[str, ...], *, shapes: bool) -> Any:
        key = (names, shapes)
        if key in self._sessions:
            self._sessions.move_to_end(key)
            return self._sessions[key]
        part = cut(self.model, names)
        if shapes:
            _give_shapes(part)
        self._sessions[key] = _start(part, self.folder, self.n_threads)
        while len(self._sessions) > _ALIVE:
            self._sessions.popitem(last=False)
        return self._sessions[key]


def cut(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return the part of a model that computes some values.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; not changed.
    names : sequence of str
        Values that nodes give.

    Returns
    -------
    onnx.ModelProto
        The nodes, stored tensors and inputs that these values need, the values as outputs without types.
    """
    graph = model.graph
    giver = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed, places, left = set(names), set[int](), list(names)
    while left:
        place = giver.get(left.pop())
        if place is not None and place not in places:
            places.add(place)
            new = reads(graph.node[place]) - needed
            needed |= new
            left += new
    part = ModelProto(ir_version=max(model.ir_version, _FIRST_IR))
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = graph.name or "part"
    part.graph.node.extend(graph.node[i] for i in sorted(places))
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    part.graph.sparse_initializer.extend(sparse for sparse in graph.sparse_initializer if sparse.values.name in needed)
    open_inputs = needed - stored_names(graph)
    part.graph.input.extend(value for value in graph.input if value.name in open_inputs)
    part.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return part


def _give_shapes(part: ModelProto) -> None:
    """Let a model give the shapes of its outputs in their place."""
    taken = all_names(part)
    prefix = "shape"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    shapes = [f"{prefix}{i}" for i in range(len(part.graph.output))]
    for value, shape in zip(part.graph.output, shapes, strict=True):
        part.graph.node.append(helper.make_node("Shape", [value.name], [shape]))
        value.name = shape


def _start(part: ModelProto, folder: Folder, n_threads: int | None) -> Any:
    """Return a session of a model, which is changed: its tensors go over as arrays, no file is named any more."""
    if not any(entry.domain in STANDARD for entry in part.opset_import):
        raise ModelError("ONNX Runtime cannot run the network: it imports no version of ONNX's operators")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    options.intra_op_num_threads = n_threads or 0
    options.enable_cpu_mem_arena = False  # several sessions live on, and would keep what their largest run needed
    options.enable_mem_pattern = False
    arrays = {}
    for tensor in tensors_of(part):
        take_in(tensor, folder)
    for tensor in part.graph.initializer:
        if len(tensor.raw_data) < _HANDED_OVER:
            continue
        array = numpy_helper.to_array(tensor)
        if array.dtype in _SHARED:
            arrays[tensor.name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="handed over")
    options.add_external_initializers(list(arrays), list(arrays.values()))
    return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."
