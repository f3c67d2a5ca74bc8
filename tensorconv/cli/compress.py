"""``tensorconv compress``: a whole network, smaller and faster, measured, and saved if it is good enough."""

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
    MaxDrift,
    Methods,
    MinScore,
    Multiple,
    NetworkFile,
    NetworkInputSize,
    NetworkOut,
    ReportFile,
    Resume,
    SavePlan,
    Seed,
    WithoutRunning,
    Work,
    check_dask,
    check_network_file,
    check_plan_file,
    check_report_file,
    check_work_folder,
)
from tensorconv.cli.options import Json, size
from tensorconv.cli.outcome import Limits, resumable, show_outcome
from tensorconv.cli.output import working
from tensorconv.cli.progress import watched
from tensorconv.models.settings import Settings


def compress(
    model: NetworkFile,
    out: NetworkOut,
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
    without_running: WithoutRunning = False,
    work: Work = None,
    resume: Resume = False,
    max_drift: MaxDrift = None,
    min_score: MinScore = None,
    report: ReportFile = None,
    save_plan: SavePlan = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compress a whole network.

    Chooses a cheaper sequence for every convolution of MODEL, fits it, and measures the whole before and after. Give
    --budget or --error. Layers that are not measured to be faster are left alone. With --data, the network's responses
    to them are kept.

    OUT is replaced whole, at the end, and only if --max-drift and --min-score are met; otherwise the exit code is 1,
    and the plan is saved beside OUT. The page of --report is written in either case, since it shows why. An interrupted
    run goes on with --resume.

    Parameters
    ----------
    model, out : Path
        The network, and where it goes.
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
    without_running : bool
        Whether the networks are never run as a whole.
    work : Path or None
        Folder for finished parts.
    resume : bool
        Whether to go on from them.
    max_drift, min_score : float or None
        What the compressed network must meet.
    report : Path or None
        Where a page about the result goes.
    save_plan : Path or None
        Where the plan goes.
    seed : int
        Seed of methods with random starts.
    as_json : bool
        Whether to write JSON.
    """
    from tensorconv.models.compressing import apply_plan, plan_network
    from tensorconv.models.opening import images_to_time
    from tensorconv.models.work import WorkFolder
    from tensorconv.parallel import on_cluster

    check_dask(dask, jobs)
    check_network_file(out, model)
    check_plan_file("--save-plan", save_plan)
    folder = work or out.with_name(f"{out.name}.work")
    check_report_file(report, model, data, out, save_plan)
    check_work_folder(folder, resume, out, save_plan, report)
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
    limits = Limits(max_drift, min_score)
    with working("reading", quiet=as_json):
        given = read_given(
            model,
            data,
            evaluate,
            input_size=settings.input_size,
            linear=linear,
            batch=batch,
            running=not without_running,
        )
        if batch is None:
            settings = replace(settings, batch=images_to_time(given.network, given.batches))
        limits.check(has_score=given.evaluate is not None, is_run=not without_running)
        chosen_by = evaluate if by is Importance.SCORE else None
        kept = WorkFolder(folder, run_identity(given, settings.to_dict(), chosen_by), resume=resume)
    with resumable(kept, folder), on_cluster(dask), watched(quiet=as_json) as watch:
        network, batches, score = given.network, given.batches, given.evaluate
        plan = plan_network(network, settings, batches, evaluate=score, work=kept, jobs=jobs, watch=watch)
        done = apply_plan(
            network, plan, batches, evaluate=score, comparing=not without_running, work=kept, jobs=jobs, watch=watch
        )
        missed = limits.missed(done.comparison)
        plan_file = save_plan or (out.with_name(f"{out.name}.plan.json") if missed else None)
        if plan_file is not None:
            plan.save(plan_file)
        if report is not None:
            done.report(report, title=model.name, missed=missed)
        if not missed:
            done.save(out)
        kept.remove()
    show_outcome(done, out, missed, plan_file, report, as_json=as_json)
