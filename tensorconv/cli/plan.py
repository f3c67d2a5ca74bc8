"""``tensorconv plan``: what compressing a network would do to every layer, without doing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from tensorconv.cli.network_files import read_given, run_identity
from tensorconv.cli.network_options import (
    Budget,
    By,
    Cost,
    Dask,
    Data,
    EvaluateOption,
    EvenIfSlower,
    Exclude,
    ImageCount,
    Importance,
    Include,
    Jobs,
    LayerError,
    Linear,
    Methods,
    Multiple,
    NetworkFile,
    NetworkInputSize,
    PlanOut,
    PlanWork,
    Resume,
    Seed,
    check_dask,
    check_plan_file,
    check_work_folder,
)
from tensorconv.cli.options import Json, size
from tensorconv.cli.outcome import resumable
from tensorconv.cli.output import show_json, working
from tensorconv.cli.progress import watched
from tensorconv.errors import ModelError
from tensorconv.models.settings import Settings
from tensorconv.text import plain


def plan(
    model: NetworkFile,
    out: PlanOut = None,
    budget: Budget = None,
    error: LayerError = None,
    of: Annotated[Cost, typer.Option(help="What a budget counts.")] = Cost.MACS,
    data: Data = None,
    evaluate: EvaluateOption = None,
    by: By = None,
    method: Methods = None,
    include: Include = None,
    exclude: Exclude = None,
    multiple: Multiple = 16,
    even_if_slower: EvenIfSlower = False,
    linear: Linear = False,
    input_size: NetworkInputSize = None,
    batch: ImageCount = None,
    jobs: Jobs = None,
    dask: Dask = None,
    work: PlanWork = None,
    resume: Resume = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show what `compress` would do to every layer of a network.

    The network is not changed, and nothing is written but the plan, where --out says so. `apply` carries it out.

    Parameters
    ----------
    model : Path
        The network.
    out : Path or None
        Where the plan goes.
    budget, error : float or None
        Largest cost, or largest error of every layer.
    of : Cost
        What the cost is.
    data : Path or None
        File of the data.
    evaluate : str or None
        Function that gives a score.
    by : Importance or None
        What tells how much a layer's error matters.
    method, include, exclude : list of str or None
        Methods to choose from; layers to look at, and to leave alone.
    multiple : int
        What the channels between new layers are multiples of.
    even_if_slower : bool
        Whether layers are replaced that do not get faster.
    linear : bool
        Whether fully connected layers are looked at.
    input_size : str or None
        Spatial size of the input.
    batch : int or None
        Number of images that latency is measured for.
    jobs : int or None
        Number of processes.
    dask : str or None
        Address of a cluster.
    work : Path or None
        Folder for finished parts.
    resume : bool
        Whether to go on from them.
    seed : int
        Seed of methods with random starts.
    as_json : bool
        Whether to write JSON.
    """
    from tensorconv.models.compressing import plan_network
    from tensorconv.models.opening import images_to_time
    from tensorconv.models.work import WorkFolder
    from tensorconv.parallel import on_cluster

    check_dask(dask, jobs)
    check_plan_file("--out", out)
    check_work_folder(work, resume, out)
    if evaluate is not None and by is not Importance.SCORE:
        raise ModelError("a plan uses --evaluate with --by score only; add that, or leave --evaluate to apply")
    settings = Settings(
        budget=budget,
        error=error,
        of=of.value,
        methods=method or None,
        include=include or ("*",),
        exclude=exclude or (),
        multiple=multiple,
        faster=not even_if_slower,
        by=by and by.value,
        batch=batch or 1,
        input_size=size(input_size),
        linear=linear,
        seed=seed,
    )
    with working("reading", quiet=as_json):
        given = read_given(model, data, evaluate, input_size=settings.input_size, linear=linear, batch=batch)
        if batch is None:
            settings = replace(settings, batch=images_to_time(given.network, given.batches))
        kept = WorkFolder(work, run_identity(given, settings.to_dict(), evaluate), resume=resume)
    with resumable(kept, work), on_cluster(dask), watched(quiet=as_json) as watch:
        made = plan_network(
            given.network, settings, given.batches, evaluate=given.evaluate, work=kept, jobs=jobs, watch=watch
        )
        if out is not None:
            made.save(out)
        kept.remove()
    if as_json:
        show_json({**plain(made.to_dict()), "saved": None if out is None else str(out)})
        return
    typer.echo(f"{made}" if out is None else f"{made}\n\nsaved {out}")
