"""What the commands for whole networks are given: the network, data that fit it, and how good it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorconv.cli.data import read_data
from tensorconv.cli.evaluation import evaluation, load_function, share_of_right_classes
from tensorconv.errors import ModelError
from tensorconv.models.drift import Evaluate
from tensorconv.models.network import Batch

if TYPE_CHECKING:
    from tensorconv.models.onnx_network import OnnxNetwork


@dataclass(frozen=True, eq=False)
class Given:
    """A network with what it is judged by.

    Parameters
    ----------
    network : OnnxNetwork
        The network.
    batches : list of dict or None
        Data.
    evaluate : callable or None
        A score.
    """

    network: OnnxNetwork
    batches: list[Batch] | None
    evaluate: Evaluate | None


def read_given(
    model: Path,
    data: Path | None,
    evaluate: str | None,
    *,
    input_size: int | Sequence[int] | None = None,
    linear: bool = False,
    batch: int | None = None,
    running: bool = True,
) -> Given:
    """Read a network and what it is judged by, all checked.

    Parameters
    ----------
    model : Path
        File of the network.
    data : Path or None
        File of the data.
    evaluate : str or None
        As "FILE.py:function"; without it, labels in the data are the score.
    input_size : int, sequence of int or None
        Spatial size of the inputs.
    linear : bool
        Whether fully connected layers are looked at.
    batch : int or None
        Number of images in the first batch; as many as in the others if not given.
    running : bool
        Whether to run the network once, as one that cannot be run is of no use.

    Returns
    -------
    Given
        The network, its data and score.

    Raises
    ------
    ModelError, FormatError
        If one of them cannot be read, they do not fit one another, or the network cannot be run.
    """
    from tensorconv.models.onnx_network import OnnxNetwork

    if model.suffix.lower() != ".onnx":
        raise ModelError(f"a network must be an .onnx file, got {str(model)!r}")
    function = None if evaluate is None else load_function(evaluate)
    network = OnnxNetwork.read(model, input_size=input_size, linear=linear)
    batches, labels = (None, None) if data is None else read_data(data, network, first=batch)
    score = None if function is None else evaluation(function, batches)
    outputs = network.run(batches[0] if batches else network.example) if running else {}
    if running and batches is not None and labels is not None and score is None:
        score = share_of_right_classes(batches, labels, outputs)
    return Given(network, batches, score)


def run_identity(given: Given, asked: dict[str, Any], evaluate: str | None = None) -> dict[str, Any]:
    """Return what tells one run from another, for the folder of its finished parts.

    Parameters
    ----------
    given : Given
        The network and the data.
    asked : dict
        Settings or plan, in plain values.
    evaluate : str or None
        The user's function, where choices depend on it.

    Returns
    -------
    dict
        Plain values.
    """
    from tensorconv.models.opening import identity

    run = identity(given.network, asked, given.batches)
    if evaluate is not None:
        content = Path(evaluate.rpartition(":")[0]).read_bytes()
        run["evaluate"] = [evaluate, hashlib.sha256(content).hexdigest()]
    return run
