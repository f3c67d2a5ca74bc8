"""The options that the commands for whole networks share, and what is refused before any work is done."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tensorconv.errors import FormatError, ModelError


class Cost(StrEnum):
    """What a budget for a network counts."""

    MACS = "macs"
    PARAMETERS = "parameters"
    BYTES = "bytes"
    LATENCY = "latency"


class Importance(StrEnum):
    """What tells how much a layer's error matters."""

    KERNEL = "kernel"
    RESPONSES = "responses"
    SCORE = "score"


NetworkFile = Annotated[
    Path, typer.Argument(metavar="MODEL", exists=True, dir_okay=False, help="The network, an .onnx file.")
]
NetworkOut = Annotated[Path, typer.Argument(metavar="OUT", dir_okay=False, help="Where it goes, an .onnx file.")]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", exists=True, dir_okay=False, help="What `plan` wrote.")]
Budget = Annotated[float | None, typer.Option(help="Largest share of the cost of all layers together, as 0.5.")]
LayerError = Annotated[
    float | None, typer.Option("--error", help="Instead of a budget: largest relative error of every layer.")
]
By = Annotated[
    Importance | None,
    typer.Option(help="What tells how much a layer's error matters; by default responses where there are data."),
]
Methods = Annotated[list[str] | None, typer.Option("--method", help="A method to choose from; may be repeated.")]
Include = Annotated[list[str] | None, typer.Option(help='Layers to look at, as "block4.*"; may be repeated.')]
Exclude = Annotated[list[str] | None, typer.Option(help="Layers to leave alone; may be repeated.")]
Multiple = Annotated[int, typer.Option(min=1, help="Channels between new layers are multiples of this.")]
EvenIfSlower = Annotated[
    bool, typer.Option("--even-if-slower", help="Replace layers also where it is not measured to be faster.")
]
Linear = Annotated[bool, typer.Option("--linear", help="Fully connected layers too.")]
NetworkInputSize = Annotated[
    str | None, typer.Option("--input-size", help="Spatial size of the input, as 320x320, where MODEL leaves it open.")
]
ImageCount = Annotated[
    int | None,
    typer.Option("--batch", min=1, help="Number of images that latency is measured for, up to 64 if not given."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of methods with random starts.")]
Data = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help='Inputs to keep the responses to: .npz by the names of the inputs, or .npy. "labels" in it are classes.',
    ),
]
EvaluateOption = Annotated[
    str | None,
    typer.Option(
        "--evaluate",
        metavar="FILE.py:FUNCTION",
        help="Score, larger is better: FUNCTION(run), or FUNCTION(run, batches); run takes and gives dicts of arrays.",
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Number of processes on this machine; one if not given.")]
Dask = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Scheduler of a Dask cluster that does the work, as tcp://HOST:8786."),
]
WithoutRunning = Annotated[
    bool,
    typer.Option(
        "--without-running",
        help="Never run the networks as a whole: no comparison, and weights in other files are read layer by layer.",
    ),
]
PlanOut = Annotated[Path | None, typer.Option(help="Where the plan goes, a .json file.")]
SavePlan = Annotated[Path | None, typer.Option(help="Where the plan goes, a .json file.")]
Work = Annotated[Path | None, typer.Option(help="Folder for finished parts; without it OUT.work.")]
PlanWork = Annotated[Path | None, typer.Option("--work", help="Folder for finished parts; without it none are kept.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from what an interrupted run has finished.")]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", help="Where a page about the result goes, an .html file; replaced at the end."),
]
MaxDrift = Annotated[
    float | None, typer.Option(min=0, help="Largest relative error of the outputs with which OUT is written.")
]
MinScore = Annotated[float | None, typer.Option(help="Least score with which OUT is written.")]


def check_network_file(out: Path, model: Path) -> None:
    """Refuse a file that a network cannot be saved to.

    Parameters
    ----------
    out : Path
        Where the network is to go.
    model : Path
        Where it comes from.

    Raises
    ------
    FormatError
        If the suffix is not .onnx, the folder does not exist, or it is the file of the model itself.
    """
    if out.suffix.lower() != ".onnx":
        raise FormatError(f"OUT must end in .onnx, got {str(out)!r}")
    _check_place("OUT", out)
    if out.resolve() == model.resolve() or (out.exists() and out.samefile(model)):
        raise FormatError(f"OUT must be another file than MODEL, got {str(out)!r} for both; the original would be lost")


def check_plan_file(option: str, path: Path | None) -> None:
    """Refuse a file that a plan cannot be saved to.

    Parameters
    ----------
    option : str
        The option's name, for the message.
    path : Path or None
        Where the plan is to go.

    Raises
    ------
    FormatError
        If the suffix is not .json, or the folder does not exist.
    """
    if path is None:
        return
    if path.suffix.lower() != ".json":
        raise FormatError(f"{option} must end in .json, got {str(path)!r}")
    _check_place(option, path)


def check_report_file(path: Path | None, *others: Path | None) -> None:
    """Refuse a file that the page cannot be written to.

    Parameters
    ----------
    path : Path or None
        Where the page is to go.
    *others : Path or None
        What the run reads and what else it writes.

    Raises
    ------
    FormatError
        If the suffix is not .html, the folder does not exist, or it is one of the other files.
    """
    if path is None:
        return
    if path.suffix.lower() != ".html":
        raise FormatError(f"--report must end in .html, got {str(path)!r}")
    _check_place("--report", path)
    for other in others:
        if other is not None and (path.resolve() == other.resolve() or _is_same(path, other)):
            raise FormatError(f"--report must be another file than {str(other)!r}, which it would overwrite")


def check_dask(dask: str | None, jobs: int | None) -> None:
    """Refuse a cluster beside a number of processes.

    Parameters
    ----------
    dask : str or None
        Address of the cluster.
    jobs : int or None
        Processes on this machine.

    Raises
    ------
    ModelError
        If both are given.
    """
    if dask is not None and jobs is not None:
        raise ModelError("--jobs is for processes on this machine, --dask for a cluster; give one of them")


def check_work_folder(work: Path | None, resume: bool, *results: Path | None) -> None:
    """Refuse to resume what has no folder, and a folder that cannot be made, or not be deleted at the end.

    Parameters
    ----------
    work : Path or None
        The folder.
    resume : bool
        Whether to go on from what it holds.
    *results : Path or None
        What the run writes.

    Raises
    ------
    ModelError
        If there is nothing to resume from, the folder is a file or in a folder that does not exist, or a result would
        lie in it.
    """
    if work is None:
        if resume:
            raise ModelError("--resume needs the folder of the interrupted run; name it by --work")
        return
    if work.exists() and not work.is_dir():
        raise ModelError(f"--work must be a folder, got the file {str(work)!r}; name another")
    if not work.absolute().parent.is_dir():
        raise ModelError(f"the folder of --work must exist, got {str(work)!r}; make {str(work.parent)!r} first")
    for result in results:
        if result is not None and work.resolve() in result.resolve().parents:
            raise ModelError(
                f"--work must not hold what is to stay, got {str(work)!r} for {str(result)!r}: the folder is deleted "
                "at the end; name another"
            )


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _check_place(option: str, path: Path) -> None:
    if path.is_dir():
        raise FormatError(f"{option} must be a file, got the folder {str(path)!r}; name a file in it")
    if not path.parent.is_dir():
        raise FormatError(f"the folder of {option} must exist, got {str(path)!r}; make {str(path.parent)!r} first")
