"""Fitting: carries out a plan, layer by layer, each on what the layers before it have become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tensorconv.errors import ModelError
from tensorconv.models.compressed_layer import CompressedLayer, StoredLayer, sequences_of
from tensorconv.models.network import Batch, Network, Site, StoredSite
from tensorconv.models.plan import Plan, PlannedLayer, fingerprint
from tensorconv.models.planning import observed
from tensorconv.models.progress import Progress, Watch, unwatched
from tensorconv.models.work import WorkFolder
from tensorconv.parallel import in_parallel
from tensorconv.statistics import PatchStatistics
from tensorconv.verdict import Report
from tensorconv.verification import verify


def fit(
    network: Network,
    plan: Plan,
    *,
    batches: Sequence[Batch] | None = None,
    work: WorkFolder | None = None,
    jobs: int | None = None,
    watch: Watch = unwatched,
) -> tuple[Network, tuple[CompressedLayer, ...]]:
    """Carry out a plan.

    With data, layers are fitted in order and asymmetrically (Zhang, Zou, He, Sun, 2015, section 2.3): to the responses
    of the original network, on the inputs that the layers before them, compressed, give. The bias is corrected.

    Parameters
    ----------
    network : Network
        The network that the plan was made for.
    plan : Plan
        What every convolution is to become.
    batches : sequence of dict, optional
        Data whose responses are to be kept.
    work : WorkFolder, optional
        Where finished layers are kept.
    jobs : int or None
        Processes that fit layers at the same time, where there are no data; None for what joblib is configured to.
    watch : callable
        Is told of the progress.

    Returns
    -------
    network : Network
        The compressed network.
    layers : tuple of CompressedLayer
        Its convolutions, each with its check.

    Raises
    ------
    ModelError
        If the plan is for another network, or a choice does not fit its layer.
    """
    kept = work or WorkFolder(None, {})
    if plan.network != fingerprint(network.sites):
        raise ModelError("the plan is for another network, or for other input sizes; make it again for this one")
    sites = {site.name: site for site in network.sites}
    if [one.name for one in plan.layers] != [*sites]:
        raise ModelError(f"the plan must name every convolution once, in order: {', '.join(sites)}; make it again")
    todo = [one for one in plan.layers if one.choice is not None]
    done: dict[str, CompressedLayer] = {}
    fresh = _fresh(network, plan, todo, done, batches, kept, jobs)
    for i, one in enumerate(todo):
        watch(Progress("fitting layers", one.name, i, len(todo)))
        done[one.name] = _kept_layer(one, sites[one.name], kept) or _keep(next(fresh), sites[one.name], kept)
    layers = tuple(done.get(one.name) or _left_alone(one, sites[one.name]) for one in plan.layers)
    return network.replaced(sequences_of(layers), json.dumps(record(layers))), layers


def _fresh(
    network: Network,
    plan: Plan,
    todo: Sequence[PlannedLayer],
    done: dict[str, CompressedLayer],
    batches: Sequence[Batch] | None,
    kept: WorkFolder,
    jobs: int | None,
) -> Iterator[CompressedLayer]:
    """Yield the layers that were not finished before, in order; with data, each looks at those that are done."""
    sites = {site.name: site for site in network.sites}

    def tasks() -> Iterator[tuple[Any, ...]]:
        for one in todo:
            site = sites[one.name]
            if _kept_layer(one, site, kept) is None:
                statistics = None
                if batches is not None:
                    statistics = observed(site, network.replaced(sequences_of(tuple(done.values()))), batches, network)
                yield one, site, plan.settings.seed, statistics

    return in_parallel(fit_layer, tasks(), jobs if batches is None else 1)


def fit_layer(one: PlannedLayer, site: Site, seed: int, statistics: PatchStatistics | None) -> CompressedLayer:
    """Return one convolution as planned, with its check.

    Parameters
    ----------
    one : PlannedLayer
        The choice.
    site : Site
        The convolution.
    seed : int
        Seed of a method with random starts.
    statistics : PatchStatistics or None
        Of its inputs and of the responses that it should give.

    Returns
    -------
    CompressedLayer
        The layer.

    Raises
    ------
    ModelError
        If the choice does not fit the layer.
    """
    if one.choice is None:
        return CompressedLayer(one, site.layer)
    f = one.choice.fitted(site.layer, seed, statistics)
    return CompressedLayer(one, site.layer, f.sequence, f.relative_error, f.response_error, verify(site.layer, f))


def _left_alone(one: PlannedLayer, site: Site) -> CompressedLayer:
    return StoredLayer(one, site) if isinstance(site, StoredSite) else CompressedLayer(one, site.layer)


def _keep(layer: CompressedLayer, site: Site, kept: WorkFolder) -> CompressedLayer:
    """Keep a finished layer; the sequence first, so that what is found is whole. What can be read again is let go."""
    if layer.sequence is not None and layer.report is not None:
        kept.put_sequence(f"layer {layer.name}", layer.sequence)
        values = {"errors": [layer.relative_error, layer.response_error], "report": layer.report.to_dict()}
        kept.put(f"layer {layer.name}", values)
        if kept.is_kept and isinstance(site, StoredSite):
            return StoredLayer(layer.planned, site, kept, layer.relative_error, layer.response_error, layer.report)
    return layer


def _kept_layer(one: PlannedLayer, site: Site, kept: WorkFolder) -> CompressedLayer | None:
    values, sequence = kept.get(f"layer {one.name}"), kept.get_sequence(f"layer {one.name}")
    if values is None or sequence is None:
        return None
    kernel, response = values["errors"]
    report = Report.from_dict(values["report"])
    if isinstance(site, StoredSite):
        return StoredLayer(one, site, kept, kernel, response, report)
    return CompressedLayer(one, site.layer, sequence, kernel, response, report)


def record(layers: Sequence[CompressedLayer]) -> dict[str, Any]:
    """Return what was done, for the network's metadata.

    Parameters
    ----------
    layers : sequence of CompressedLayer
        The convolutions.

    Returns
    -------
    dict
        Of those that were replaced: method, options, rank and errors.
    """
    return {
        layer.name: {
            "method": layer.planned.choice.method,
            "options": dict(layer.planned.choice.options),
            "rank": layer.planned.choice.rank,
            "relative_error": layer.relative_error,
            "response_error": layer.response_error,
        }
        for layer in layers
        if layer.planned.choice is not None
    }
