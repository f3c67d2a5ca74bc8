"""The trade-off of a plan: the least error that other budgets would allow, from the candidates that were looked at."""

from __future__ import annotations

from contextlib import suppress

from tensorconv.allocation import Option, allocate
from tensorconv.errors import RankError
from tensorconv.models.candidates import Candidate, cost
from tensorconv.models.plan import Plan, PlannedLayer

BUDGETS = 40


def counted(plan: Plan) -> str:
    """Return the cost that a trade-off is drawn over: the budget's, or MACs where that is latency.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    {"macs", "parameters", "bytes"}
        The cost.
    """
    return "macs" if plan.settings.of == "latency" else plan.settings.of


def trade_off(plan: Plan) -> list[tuple[float, float]]:
    """Return the least total error that budgets allow, by the integer program that shares out a budget.

    Candidates that were measured not to be faster are left out if the plan asks for speed; those that nobody timed are
    taken to be fast enough.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    list of (float, float)
        Share of the cost, rising, and sum of the weighted squared errors, falling; empty where the plan does not say
        what was looked at.
    """
    of = counted(plan)
    if not any(layer.candidates for layer in plan.layers):
        return []
    rows = [_options(layer, of, plan.settings.faster) for layer in plan.layers]
    whole = sum(int(row[0].cost) for row in rows)
    least = sum(int(min(option.cost for option in row)) for row in rows)
    points: list[tuple[float, float]] = []
    for i in range(BUDGETS + 1):
        with suppress(RankError):  # too many choices tie
            chosen = allocate(rows, least + (whole - least) * i // BUDGETS)
            options = [row[at] for row, at in zip(rows, chosen, strict=True)]
            point = sum(int(one.cost) for one in options) / whole, sum(one.error for one in options)
            if not points or point[1] < points[-1][1]:
                points.append(point)
    return points


def planned_error(plan: Plan) -> float:
    """Return the total error that a plan expects: what choosing makes small.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    float
        Sum of the weighted squared errors of what was chosen.
    """
    return sum(layer.weight * layer.choice.error**2 for layer in plan.layers if layer.choice)


def _options(layer: PlannedLayer, of: str, faster: bool) -> list[Option]:
    def may_be_chosen(one: Candidate) -> bool:
        return not faster or one.ratio is None or one.ratio[2] < 1

    worth = [one for one in layer.candidates if may_be_chosen(one)]
    return [Option(cost(one, of), layer.weight * one.error**2) for one in (layer.before, *worth)]
