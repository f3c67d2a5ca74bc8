"""compress: a whole network, smaller and faster, with the proof of how far it is from the original."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tensorconv.models.comparison import Comparison, compare
from tensorconv.models.compression import Compression
from tensorconv.models.drift import Evaluate
from tensorconv.models.fitting import fit
from tensorconv.models.in_place import faster_in_place
from tensorconv.models.latency import Stopwatch
from tensorconv.models.network import Batch, Network
from tensorconv.models.opening import identity, images_to_time, open_network
from tensorconv.models.plan import Plan
from tensorconv.models.planning import make_plan
from tensorconv.models.progress import Progress, Watch, unwatched
from tensorconv.models.settings import SHARES, Settings
from tensorconv.models.work import WorkFolder


def compress(
    model: Any,
    *,
    budget: float | None = None,
    error: float | None = None,
    of: str = "macs",
    methods: Sequence[str] | None = None,
    data: Any = None,
    evaluate: Evaluate | None = None,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    multiple: int = 16,
    faster: bool = True,
    by: str | None = None,
    ends: float = 4.0,
    comparing: bool = True,
    batch: int | None = None,
    input_size: int | Sequence[int] | None = None,
    linear: bool = False,
    jobs: int | None = None,
    seed: int = 0,
    work: str | os.PathLike[str] | None = None,
    resume: bool = False,
    watch: Watch = unwatched,
) -> Compression:
    """Compress a network: choose a factorization for every convolution, fit it, put it in place, and measure the whole.

    Every convolution is factorized by all methods at several costs. Which layer gets which share of the budget is an
    integer program over the errors, weighted by what one layer's error does to the outputs. A layer whose replacement
    is not measured to be faster is left alone. With data, layers are fitted one after the other, to the responses of
    the original network on the inputs that the compressed layers before give, with the bias corrected.

    Parameters
    ----------
    model : path, onnx.ModelProto or torch.nn.Module
        The network; it is not changed.
    budget : float, optional
        Largest share of the cost of all convolutions together, such as 0.5.
    error : float, optional
        Instead of a budget, the largest relative error of every layer.
    of : {"macs", "parameters", "bytes", "latency"}
        The cost.
    methods : sequence of str, optional
        Names of the methods to choose from.
    data : array, dict of arrays, or list of batches, optional
        Inputs whose responses are to be kept; tens to hundreds of images, without labels.
    evaluate : callable, optional
        Returns a score, the larger the better, given a function from a batch (a dict of inputs) to outputs by name.
    include, exclude : sequence of str
        Patterns of names of layers to look at, and to leave alone.
    shares : sequence of float
        Shares of a layer's cost to choose from.
    multiple : int
        Channels between the new layers are multiples of this where possible; runtimes are several times slower at
        others.
    faster : bool
        Whether to leave layers alone that do not get faster; needs ONNX Runtime.
    by : {"kernel", "responses", "score"}, optional
        What tells how much a layer's error matters, see :class:`tensorconv.models.Settings`.
    ends : float
        How many times the errors of the first and last convolution count, where nothing tells how much they matter.
    comparing : bool
        Whether to run the network before and after, and compare. Without, a network with external data is never loaded
        as a whole: see :doc:`/scaling`.
    batch : int, optional
        Number of images that latency is measured for; by default that of the first batch of data, or fewer where these
        take long.
    input_size : int or sequence of int, optional
        Spatial size of the inputs, where the network leaves it open.
    linear : bool
        Whether to compress fully connected layers too.
    jobs : int or None
        Number of processes; None for what ``joblib.parallel_config`` says, and one where it says nothing.
    seed : int
        Seed for methods with random starts.
    work : path-like, optional
        Folder for finished parts, so that an interrupted run can be resumed; delete it when the result is saved.
    resume : bool
        Whether to go on from what the folder holds.
    watch : callable
        Is called with a :class:`tensorconv.models.Progress`.

    Returns
    -------
    Compression
        The network, the plan, a proof for every layer, and the comparison of the whole, unless it is left out.

    Raises
    ------
    ModelError
        If the model cannot be read or run, or the request does not fit it or cannot be met.
    MissingFrameworkError
        If a package is not installed.

    Examples
    --------
    >>> import tensorconv as tc
    >>> from tensorconv.demo import NETWORK
    >>> c = tc.compress(NETWORK, budget=0.6, methods=["svd"], faster=False)
    >>> c.plan.share("macs") <= 0.6, c.comparison.largest_drift < 1
    (True, True)
    """
    network = open_network(model, data=data, input_size=input_size, linear=linear)
    batches = None if data is None else network.batches(data)
    settings = Settings(
        budget=budget,
        error=error,
        of=of,
        methods=methods,
        include=include,
        exclude=exclude,
        shares=shares,
        multiple=multiple,
        faster=faster,
        by=by,
        ends=ends,
        batch=images_to_time(network, batches) if batch is None else batch,
        input_size=input_size,
        linear=linear,
        seed=seed,
    )
    kept = WorkFolder(work, identity(network, settings.to_dict(), batches), resume=resume)
    plan = plan_network(network, settings, batches, evaluate=evaluate, work=kept, jobs=jobs, watch=watch)
    return apply_plan(network, plan, batches, evaluate=evaluate, comparing=comparing, work=kept, jobs=jobs, watch=watch)


def plan_network(
    network: Network,
    settings: Settings,
    batches: Sequence[Batch] | None = None,
    *,
    evaluate: Evaluate | None = None,
    work: WorkFolder | None = None,
    jobs: int | None = None,
    watch: Watch = unwatched,
) -> Plan:
    """Plan the compression of a network: the first half of :func:`tensorconv.compress`.

    Parameters
    ----------
    network : Network
        The network.
    settings : Settings
        What is asked.
    batches : sequence of dict, optional
        Data.
    evaluate : callable, optional
        A score.
    work : WorkFolder, optional
        Where finished parts are kept.
    jobs : int or None
        Number of processes; None for what ``joblib.parallel_config`` says, and one where it says nothing.
    watch : callable
        Is told of the progress.

    Returns
    -------
    Plan
        The choices; ModelError is raised if the request does not fit the network or cannot be met.
    """
    clock = Stopwatch(batch=settings.batch) if settings.faster or settings.of == "latency" else None
    return make_plan(
        network, settings, batches=batches, evaluate=evaluate, clock=clock, work=work, jobs=jobs, watch=watch
    )


def apply_plan(
    network: Network,
    plan: Plan,
    batches: Sequence[Batch] | None = None,
    *,
    evaluate: Evaluate | None = None,
    comparing: bool = True,
    work: WorkFolder | None = None,
    jobs: int | None = None,
    watch: Watch = unwatched,
) -> Compression:
    """Carry out a plan and measure the whole: the second half of :func:`tensorconv.compress`.

    Parameters
    ----------
    network : Network
        The network that the plan was made for.
    plan : Plan
        The choices.
    batches : sequence of dict, optional
        Data that the layers are fitted to.
    evaluate : callable, optional
        A score.
    comparing : bool
        Whether to run the network before and after, and compare; where not, that each layer is faster alone must do.
    work : WorkFolder, optional
        Where finished parts are kept.
    jobs : int or None
        Number of processes; None for what ``joblib.parallel_config`` says, and one where it says nothing.
    watch : callable
        Is told of the progress.

    Returns
    -------
    Compression
        The network and its proof; ModelError is raised if the plan is for another network.
    """
    after, layers = fit(network, plan, batches=batches, work=work, jobs=jobs, watch=watch)
    key_map = dict(getattr(after, "key_map", {}))
    if not comparing:
        return Compression(after, plan, layers, None, key_map)
    watch(Progress("comparing", "", 0, 1))

    def compared(one: Network) -> Comparison:
        return compare(network, one, list(batches or [network.example]), evaluate=evaluate)

    if plan.settings.faster:
        after, layers, comparison = faster_in_place(network, after, layers, compared, work or WorkFolder(None, {}))
        plan = replace(plan, layers=tuple(one.planned for one in layers))
    else:
        comparison = compared(after)
    watch(Progress("comparing", "", 1, 1))
    return Compression(after, plan, layers, comparison, dict(getattr(after, "key_map", {})))
