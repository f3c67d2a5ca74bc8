"""``tensorconv apply``: carries out a plan for a network, and saves the result if it is good enough."""

from __future__ import annotations

from tensorconv.cli.network_files import read_given, run_identity
from tensorconv.cli.network_options import (
    Dask,
    Data,
    EvaluateOption,
    Jobs,
    MaxDrift,
    MinScore,
    NetworkFile,
    NetworkOut,
    PlanFile,
    ReportFile,
    Resume,
    WithoutRunning,
    Work,
    check_dask,
    check_network_file,
    check_report_file,
    check_work_folder,
)
from tensorconv.cli.options import Json
from tensorconv.cli.outcome import Limits, resumable, show_outcome
from tensorconv.cli.output import working
from tensorconv.cli.progress import watched


def apply(
    model: NetworkFile,
    plan: PlanFile,
    out: NetworkOut,
    data: Data = None,
    evaluate: EvaluateOption = None,
    jobs: Jobs = None,
    dask: Dask = None,
    without_running: WithoutRunning = False,
    work: Work = None,
    resume: Resume = False,
    max_drift: MaxDrift = None,
    min_score: MinScore = None,
    report: ReportFile = None,
    as_json: Json = False,
) -> None:
    """Carry out a plan for a network.

    MODEL is the one that the plan was made for. OUT is replaced whole, at the end, and only
    if --max-drift and --min-score are met; otherwise the exit code is 1. The page of --report is written in either
    case, since it shows why. An interrupted run goes on with --resume.

    Parameters
    ----------
    model, plan, out : Path
        The network, the plan, and where the compressed network goes.
    data : Path or None
        File of the data.
    evaluate : str or None
        Function that gives a score.
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
    as_json : bool
        Whether to write JSON.
    """
    from tensorconv.models.compressing import apply_plan
    from tensorconv.models.plan import Plan
    from tensorconv.models.work import WorkFolder
    from tensorconv.parallel import on_cluster

    check_dask(dask, jobs)
    check_network_file(out, model)
    folder = work or out.with_name(f"{out.name}.work")
    check_report_file(report, model, plan, data, out)
    check_work_folder(folder, resume, out, plan, report)
    limits = Limits(max_drift, min_score)
    with working("reading", quiet=as_json):
        chosen = Plan.load(plan)
        asked = chosen.settings
        given = read_given(
            model,
            data,
            evaluate,
            input_size=asked.input_size,
            linear=asked.linear,
            batch=asked.batch,
            running=not without_running,
        )
        limits.check(has_score=given.evaluate is not None, is_run=not without_running)
        kept = WorkFolder(folder, run_identity(given, chosen.to_dict()), resume=resume)
    with resumable(kept, folder, planned=True), on_cluster(dask), watched(quiet=as_json) as watch:
        done = apply_plan(
            given.network,
            chosen,
            given.batches,
            evaluate=given.evaluate,
            comparing=not without_running,
            work=kept,
            jobs=jobs,
            watch=watch,
        )
        missed = limits.missed(done.comparison)
        if report is not None:
            done.report(report, title=model.name, missed=missed)
        if not missed:
            done.save(out)
        kept.remove()
    show_outcome(done, out, missed, plan, report, as_json=as_json)
