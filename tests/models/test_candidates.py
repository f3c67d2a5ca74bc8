"""Candidates: costs are those of what is really built, errors are the measured ones, and values survive JSON."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.candidates import Candidate, candidates, cost, dense
from tensorconv.models.network import Site
from tensorconv.models.settings import Settings

COSTS = ("macs", "parameters", "bytes")


def layer(*shape: int, dtype: str = "float32", bias: bool = True, **geometry: Any) -> tc.ConvLayer:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(shape).astype(dtype)
    n_out = shape[0]
    return tc.ConvLayer.of(kernel, rng.standard_normal(n_out).astype(dtype) if bias else None, **geometry)


SITES = {
    "twice": Site("twice", layer(16, 12, 3, 3, padding=1), ((8, 8), (4, 6))),
    "no bias": Site("no bias", layer(16, 12, 3, 3, bias=False, stride=2), ((9, 9),)),
    "grouped": Site("grouped", layer(16, 6, 3, 3, groups=2), ((8, 8),)),
    "transposed": Site("transposed", layer(8, 16, 4, 4, stride=2, transposed=True), ((5, 5),)),
    "one axis": Site("one axis", layer(16, 16, 5, dilation=2), ((32,),)),
    "three axes": Site("three axes", layer(8, 8, 3, 3, 3, padding=1, dtype="float64"), ((4, 5, 6),)),
    "matrix": Site("matrix", layer(16, 16, 1, 1), ((8, 8),)),
    "linear": Site("linear", layer(16, 16, 1), ((1,),), linear=True),
}
ALL = Settings(budget=0.5, shares=[0.15, 0.4, 0.7], multiple=1)


def statistics(site: Site) -> tc.PatchStatistics:
    """Return statistics of correlated inputs of a mean."""
    rng = np.random.default_rng(1)
    found = tc.PatchStatistics(site.layer)
    mix = rng.standard_normal((site.layer.in_channels, site.layer.in_channels))
    for size in site.input_sizes:
        x = np.tensordot(mix, rng.standard_normal((site.layer.in_channels, 20, *size)), 1) + 1
        found.update(np.moveaxis(x, 1, 0).astype(site.layer.dtype))
    return found


def built_costs(site: Site, sequence: tc.ConvSequence) -> dict[str, int]:
    """Return what a sequence costs in place of a layer, counted by itself."""
    moved = 0
    for size in site.input_sizes:
        for step in sequence:
            moved += step.in_channels * math.prod(size)
            size = step.output_size(size)
            moved += step.out_channels * math.prod(size)
    n_entries = moved + sequence.n_parameters * len(site.input_sizes)
    return {
        "macs": sum(sequence.macs(size) for size in site.input_sizes),
        "parameters": sequence.n_parameters,
        "bytes": n_entries * site.layer.dtype.itemsize,
    }


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("name", SITES)
def test_costs_and_errors_are_those_of_what_is_built(name: str, with_data: bool) -> None:
    site = SITES[name]
    seen = statistics(site) if with_data else None
    found = candidates(site, ALL, seen)
    assert found
    assert built_costs(site, tc.ConvSequence((site.layer,))) == {of: cost(dense(site), of) for of in COSTS}
    for one, f in found:
        assert {of: cost(one, of) for of in COSTS} == built_costs(site, f.sequence)
        assert one.error == (f.response_error if with_data else f.relative_error)
        assert 0 < one.error < 1
        assert one.macs < dense(site).macs
        assert one.ratio is None
    if name in ("matrix", "linear"):
        assert {one.method for one, _ in found} == {"svd"}
    else:
        assert len({one.method for one, _ in found}) > 2


@pytest.mark.parametrize("name", SITES)
def test_what_is_timed_has_the_shapes_of_what_is_built(name: str) -> None:
    site = SITES[name]
    for one, f in candidates(site, ALL):
        timed, built = one.sequence(site.layer, 0), f.sequence
        assert [step.kernel.shape for step in timed.plain] == [step.kernel.shape for step in built.plain]
        assert [step.geometry for step in timed.plain] == [step.geometry for step in built.plain]
        assert {step.kernel.dtype for step in timed.plain} == {site.layer.dtype}
        assert timed.plain[-1].bias is not None


@pytest.mark.parametrize("of", COSTS)
def test_they_rise_in_cost_and_each_kind_falls_in_error(of: str) -> None:
    site = Site("small", layer(16, 12, 3, 3, padding=1), ((3, 3),))  # small, so that bytes are mostly of parameters
    found = [one for one, _ in candidates(site, Settings(budget=0.5, of=of, multiple=1))]
    costs = [cost(one, of) for one in found]
    assert costs == sorted(costs)
    assert costs[-1] < cost(dense(site), of)
    kinds = {(one.method, one.options) for one in found}
    assert len(kinds) > 3
    for kind in kinds:
        errors = [one.error for one in found if (one.method, one.options) == kind]
        assert errors == sorted(set(errors), reverse=True)


def test_what_costs_more_for_nothing_is_left_out() -> None:
    kernel = np.einsum("o,ikl->oikl", *(np.random.default_rng(0).integers(1, 4, n) for n in (16, (12, 3, 3))))
    site = Site("rank 1", tc.ConvLayer.of(kernel.astype("float32")), ((8, 8),))
    found = candidates(site, Settings(budget=0.5, methods=["svd"], shares=[0.1, 0.2, 0.3, 0.5, 0.7, 0.9], multiple=1))
    exact = [one for one, _ in found if ("split", "out") in one.options]
    assert len(exact) < 5  # ranks 1 to 5 or more are affordable, and rounding is all that they can differ by
    assert [one.error for one in exact] == sorted({one.error for one in exact}, reverse=True)


def test_channels_between_layers_are_multiples_where_the_maximum_allows() -> None:
    site = Site("large", layer(48, 40, 3, 3, padding=1), ((8, 8),))
    found = candidates(site, Settings(budget=0.5, methods=["svd", "tucker", "cp"], shares=[0.3, 0.6]))
    assert found
    for _, f in found:
        assert all(step.out_channels % 16 == 0 for step in f.sequence.plain[:-1])
    assert any(step.out_channels % 16 for _, f in candidates(site, ALL) for step in f.sequence.plain[:-1])


@pytest.mark.parametrize("with_data", [False, True])
def test_a_candidate_is_fitted_again_as_it_was(with_data: bool) -> None:
    site = SITES["twice"]
    seen = statistics(site) if with_data else None
    for one, f in candidates(site, Settings(budget=0.5, methods=["svd"], shares=[0.3], multiple=1), seen):
        again = one.fitted(site.layer, 0, seen)
        assert (again.rank, again.kernel.tobytes()) == (f.rank, f.kernel.tobytes())
        assert (again.response_error if with_data else again.relative_error) == one.error


@pytest.mark.parametrize("name", ["twice", "grouped", "one axis", "three axes", "linear"])
def test_json_brings_back_the_same(name: str) -> None:
    site = SITES[name]
    found = [one for one, _ in candidates(site, ALL)]
    assert any(one.options for one in found)
    timed = Candidate("cp", (), (3, 4), 1, 2, 3, 0.1, (0.5, 0.4, 0.6))
    for one in [*found, dense(site), timed]:
        again = Candidate.from_dict(json.loads(json.dumps(one.to_dict())))
        assert again == one
        assert hash(again) == hash(one)


GOOD = Candidate("svd", (("split", (0,)),), 2, 10, 5, 7, 0.5).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"method": 3},
        {"rank": "two"},
        {"rank": None},
        {"rank": [1, [2]]},
        {"rank": -1},
        {"macs": "10"},
        {"macs": float("nan")},
        {"n_bytes": None},
        {"error": None},
        {"error": float("inf")},
        {"error": -0.5},
        {"ratio": [1, 2]},
        {"ratio": []},
        {"ratio": 1.0},
        {"ratio": ["a", "b", "c"]},
        {"options": None},
        {"options": [["split", [0]]]},
        {"colour": 1},
    ],
)
def test_values_of_something_else_are_refused(change: dict[str, Any]) -> None:
    assert Candidate.from_dict(GOOD).options == (("split", (0,)),)
    with pytest.raises(ModelError, match="a candidate of the plan cannot be read: "):
        Candidate.from_dict(GOOD | change)


@pytest.mark.parametrize("missing", ["method", "options", "rank", "macs", "n_parameters", "n_bytes", "error"])
def test_missing_values_are_refused(missing: str) -> None:
    with pytest.raises(ModelError, match=f"a candidate of the plan cannot be read: .*{missing}"):
        Candidate.from_dict({name: value for name, value in GOOD.items() if name != missing})


def test_unknown_methods_options_and_ranks_are_named() -> None:
    one = SITES["twice"].layer
    with pytest.raises(ModelError, match=re.escape("method must be one of depthwise_separable, svd, tensor_train")):
        Candidate("magic", (), 1, 0, 0, 0, 0.1).fitted(one, 0)
    with pytest.raises(ModelError, match=re.escape("method svd does not take {'colour': 1}")):
        Candidate("svd", (("colour", 1),), 1, 0, 0, 0, 0.1).fitted(one, 0)
    for rank in (0, 10**6, (1, 2), (), 1.5):
        with pytest.raises(ModelError, match="cannot be written by svd as planned: rank"):
            Candidate("svd", (), rank, 0, 0, 0, 0.1).fitted(one, 0)


def test_methods_that_do_not_exist_or_take_no_data_are_refused() -> None:
    site = SITES["twice"]
    with pytest.raises(ModelError, match=r"methods must be of depthwise_separable, svd, .*, got 'magic'"):
        candidates(site, Settings(budget=0.5, methods=["svd", "magic"]))
    with pytest.raises(ModelError, match=r"methods must be of .*, which take data, got 'tensor_train'"):
        candidates(site, Settings(budget=0.5, methods=["tensor_train"]), statistics(site))


def test_a_cost_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="of must be one of 'macs', 'parameters', 'bytes', got 'latency'"):
        cost(dense(SITES["twice"]), "latency")
