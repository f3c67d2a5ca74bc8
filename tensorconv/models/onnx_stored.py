"""What an ONNX graph holds ready: tensors by the names that nodes know them by, attributes, and who reads a value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from tensorconv.arrays import Array
from tensorconv.errors import FormatError, ModelError
from tensorconv.export.onnx_node import label
from tensorconv.export.onnx_tensors import read_tensor, stored_tensors
from tensorconv.models.onnx_external import Folder, is_external, with_data
from tensorconv.models.onnx_walk import reads


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """A graph, asked for what is known of its values without running it.

    Parameters
    ----------
    graph : onnx.GraphProto
        The graph; not changed.
    folder : Path, Added or None
        Where the model's file is.
    """

    graph: GraphProto
    folder: Folder

    @cached_property
    def tensors(self) -> dict[str, TensorProto]:
        """Initializers and Constant nodes by the name of the value; one tensor, read under two names, is one object."""
        return stored_tensors({tensor.name: tensor for tensor in self.graph.initializer}, self.graph.node)

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """The nodes that read a value, by their places; -1 is the outside, for outputs of the graph."""
        found: dict[str, list[int]] = {value.name: [-1] for value in self.graph.output}
        for i, node in enumerate(self.graph.node):
            for name in reads(node):
                found.setdefault(name, []).append(i)
        return found

    def only_reader(self, name: str) -> int | None:
        """Return the place of the one node that reads a value.

        Parameters
        ----------
        name : str
            The value.

        Returns
        -------
        int or None
            None where there are more, or it is an output of the graph.
        """
        places = self.readers.get(name, [])
        return places[0] if len(places) == 1 and places[0] >= 0 else None

    def is_apart(self, name: str) -> bool:
        """Return whether a stored value lies in another file.

        Parameters
        ----------
        name : str
            The value.

        Returns
        -------
        bool
            Whether it does.
        """
        return name in self.tensors and is_external(self.tensors[name])

    def array(self, name: str, what: str) -> Array:
        """Return a stored value as an array.

        Parameters
        ----------
        name : str
            The value.
        what : str
            What it is to its reader, for the message.

        Returns
        -------
        ndarray
            The array.

        Raises
        ------
        ModelError
            If it is computed or given from outside.
        FormatError
            If the tensor is broken.
        """
        if name in {value.name for value in self.graph.input} and name not in self.tensors:
            raise ModelError(f"{what} {name!r}: an input of the network, not stored in it")
        if name not in self.tensors:
            raise ModelError(f"{what} {name!r}: computed in the network, not stored in it")
        return read_tensor(name, with_data(self.tensors[name], self.folder))

    def key(self, name: str) -> int:
        """Return what tells one stored tensor from another, whatever a node calls it.

        Parameters
        ----------
        name : str
            The value.

        Returns
        -------
        int
            The same number for the same tensor, 0 where it is not stored.
        """
        return id(self.tensors[name]) if name in self.tensors else 0


def input_name(node: NodeProto, place: int) -> str:
    """Return the name of an input of a node.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    place : int
        Which input.

    Returns
    -------
    str
        The name, empty where it has no such input.
    """
    return str(node.input[place]) if place < len(node.input) else ""


def number(node: NodeProto, name: str, default: float) -> float:
    """Return a numeric attribute of a node.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.
    name : str
        The attribute.
    default : float
        Its value where the node lacks it.

    Returns
    -------
    float
        The value.

    Raises
    ------
    FormatError
        If it is no number.
    """
    for attribute in node.attribute:
        if attribute.name == name:
            if attribute.type not in (AttributeProto.INT, AttributeProto.FLOAT) or attribute.ref_attr_name:
                raise FormatError(f"node {label(node)}: attribute {name} must be a number")
            return float(attribute.i if attribute.type == AttributeProto.INT else attribute.f)
    return default
