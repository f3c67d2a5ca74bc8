"""Planning: looks at every convolution of a network, and chooses what each is to become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tensorconv.errors import ModelError
from tensorconv.factorizations import Factorization
from tensorconv.layers import ConvSequence
from tensorconv.models.candidates import Candidate, candidates, cost, dense
from tensorconv.models.choosing import Clock, Curve, choose
from tensorconv.models.drift import Evaluate, drift_by_output, scored
from tensorconv.models.network import Batch, Network, Site
from tensorconv.models.plan import Plan, PlannedLayer, fingerprint
from tensorconv.models.progress import Progress, Watch, unwatched
from tensorconv.models.settings import Settings
from tensorconv.models.work import WorkFolder
from tensorconv.parallel import in_parallel
from tensorconv.statistics import PatchStatistics

HOPELESS = 1e12  # squared effect of what makes outputs infinite, or no numbers
LEAST_LOSS = 1e-4  # of a score that a layer is taken to cost, however good its luck
SAMPLE = 64  # images that are enough to see what a layer's error does
PROBED = 0.25  # share of a layer's cost at which that is seen, where no budget says better
Looked = tuple[tuple[Candidate, ...], ConvSequence | None, float]


def make_plan(
    network: Network,
    settings: Settings,
    *,
    batches: Sequence[Batch] | None = None,
    evaluate: Evaluate | None = None,
    clock: Clock | None = None,
    work: WorkFolder | None = None,
    jobs: int | None = None,
    watch: Watch = unwatched,
) -> Plan:
    """Plan what every convolution of a network is to become.

    Parameters
    ----------
    network : Network
        The network.
    settings : Settings
        What is asked.
    batches : sequence of dict, optional
        Data whose responses are to be kept.
    evaluate : callable, optional
        Returns a score, the larger the better, given a function from a batch to outputs by name.
    clock : Clock, optional
        What measures latency; needed if settings ask for it.
    work : WorkFolder, optional
        Where finished parts are kept.
    jobs : int or None
        Processes that look at layers at the same time; None for what joblib is configured to.
    watch : callable
        Is told of the progress.

    Returns
    -------
    Plan
        The choices.

    Raises
    ------
    ModelError
        If the settings do not fit the network, or the budget cannot be met.
    """
    kept = work or WorkFolder(None, {})
    before = kept.get("plan")
    if before is not None:
        return Plan.from_dict(before)
    by = settings.by or ("kernel" if batches is None else "responses")
    if (by == "responses" and batches is None) or (by == "score" and evaluate is None):
        raise ModelError(f"by={by!r} needs {'data' if by == 'responses' else 'an evaluation'}; give it, or by='kernel'")
    if settings.of == "latency" and clock is None:
        raise ModelError("of='latency' needs a clock; give one, or another cost")
    wanted = [site for site in network.sites if settings.wants(site)]
    if network.sites and not wanted:
        names = ", ".join(site.name for site in network.sites[:5])
        raise ModelError(
            f"include={list(settings.include)} and exclude={list(settings.exclude)} leave no layer to look at; the "
            f"network's {len(network.sites)} convolutions have names such as {names}"
        )
    effect = None if by == "kernel" else _Effect(network, batches, evaluate if by == "score" else None)
    looked = _looked(network, wanted, settings, batches, kept, jobs, probed=effect is not None)
    curves = []
    for i, (site, (found, probe, error)) in enumerate(looked):
        watch(Progress("looking at layers", site.name, i, len(wanted)))
        weight = _weight(site, network.sites, settings) if effect is None else kept.get(f"weight {site.name}")
        if weight is None:
            weight = effect.weight(site, probe, error) if effect and probe else 1.0
            kept.put(f"weight {site.name}", weight)
        curves.append(Curve(site, found, weight, settings, clock))
    watch(Progress("choosing and timing", "", 0, 1))
    chosen = choose(curves, [site for site in network.sites if not settings.wants(site)], settings)
    watch(Progress("choosing and timing", "", 1, 1))
    layers = tuple(chosen.get(site.name) or _excluded(site) for site in network.sites)
    plan = Plan(replace(settings, by=by), fingerprint(network.sites), layers, tuple(network.skipped))
    kept.put("plan", plan.to_dict())
    return plan


def observed(site: Site, network: Network, batches: Sequence[Batch], target: Network | None = None) -> PatchStatistics:
    """Return the statistics of what a convolution sees, and of what it should give.

    Parameters
    ----------
    site : Site
        The convolution.
    network : Network
        Where its inputs are taken from.
    batches : sequence of dict
        The data.
    target : Network, optional
        Where its responses are taken from; its own responses are the target if not given.

    Returns
    -------
    PatchStatistics
        The statistics.
    """
    statistics = PatchStatistics(site.layer)
    for batch in batches:
        seen = network.capture([site.name], batch)[site.name]
        wanted = seen if target is None else target.capture([site.name], batch)[site.name]
        for (x, _), (_, response) in zip(seen, wanted, strict=True):
            statistics.update(x, None if target is None else response)
    return statistics


def _looked(
    network: Network,
    wanted: Sequence[Site],
    settings: Settings,
    batches: Sequence[Batch] | None,
    kept: WorkFolder,
    jobs: int | None,
    probed: bool,
) -> Iterator[tuple[Site, Looked]]:
    """Yield every convolution with its candidates, in order; those that were finished before are not made again."""

    def is_finished(site: Site) -> bool:
        content = kept.get(f"candidates {site.name}")
        if content is None or not content["found"] or not probed:
            return content is not None
        return kept.get_sequence(f"probe {site.name}") is not None

    todo = [site for site in wanted if not is_finished(site)]

    def tasks() -> Iterator[tuple[Site, Settings, PatchStatistics | None, bool]]:
        for site in todo:
            yield site, settings, None if batches is None else observed(site, network, batches), probed

    fresh = in_parallel(look, tasks(), jobs)
    for site in wanted:
        if site in todo:
            found, probe, error = next(fresh)
            if probe is not None:
                kept.put_sequence(f"probe {site.name}", probe)
            kept.put(f"candidates {site.name}", {"found": [one.to_dict() for one in found], "error": error})
        else:
            content = kept.get(f"candidates {site.name}")
            found, error = tuple(Candidate.from_dict(one) for one in content["found"]), content["error"]
            probe = kept.get_sequence(f"probe {site.name}")
        yield site, (found, probe, error)


def look(site: Site, settings: Settings, statistics: PatchStatistics | None, probed: bool) -> Looked:
    """Return the candidates of one convolution, and one of them to see what its error does.

    Parameters
    ----------
    site : Site
        The convolution.
    settings : Settings
        What is asked.
    statistics : PatchStatistics or None
        Of its inputs.
    probed : bool
        Whether its effect is to be seen.

    Returns
    -------
    candidates : tuple of Candidate
        What is worth choosing.
    probe : ConvSequence or None
        The one whose cost is nearest to the share that the budget asks for, the best of them; None where it is not
        wanted or there is nothing.
    error : float
        Its error.
    """
    found = candidates(site, settings, statistics)
    if not found or not probed:
        return tuple(one for one, _ in found), None, 0.0
    of, share = "macs" if settings.of == "latency" else settings.of, settings.budget or PROBED
    whole = cost(dense(site), of)

    def distance(pair: tuple[Candidate, Factorization]) -> tuple[float, float]:
        return abs(math.log(max(cost(pair[0], of), 1) / whole / share)), pair[0].error

    nearest, factorization = min(found, key=distance)
    return tuple(one for one, _ in found), factorization.sequence, nearest.error


class _Effect:
    """What one convolution's error does to the outputs of the network, or to its score."""

    def __init__(self, network: Network, batches: Sequence[Batch] | None, evaluate: Evaluate | None) -> None:
        self.network, self.evaluate = network, evaluate
        self.batches = list(_sample(batches or [network.example]))
        self.score = 0.0 if evaluate is None else scored(evaluate, network.run)
        self.outputs = {} if evaluate else {id(batch): network.run(batch) for batch in self.batches}

    def weight(self, site: Site, probe: ConvSequence, error: float) -> float:
        """Return what the squared error of a convolution is to be multiplied by."""
        changed = self.network.replaced({site.name: probe})
        if self.evaluate is not None:
            effect = max(self.score - scored(self.evaluate, changed.run), LEAST_LOSS)
        else:
            drift = drift_by_output(lambda batch: self.outputs[id(batch)], changed.run, self.batches)
            effect = max(drift.values(), default=0.0) ** 2
        return min(effect, HOPELESS) / error**2 if error else 1.0


def _weight(site: Site, sites: Sequence[Site], settings: Settings) -> float:
    return settings.ends**2 if site.name in (sites[0].name, sites[-1].name) else 1.0


def _sample(batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield the first batches, about 64 images in all."""
    n = 0
    for batch in batches:
        if n < SAMPLE:
            yield batch
        n += max((value.shape[0] if value.ndim else 1 for value in batch.values()), default=1)


def _excluded(site: Site) -> PlannedLayer:
    return PlannedLayer(site.name, str(site.layer), dense(site), None, "excluded")
