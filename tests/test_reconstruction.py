"""Tests of compressed chains: what is fitted to what, budgets, sweeps, and the errors that are reported."""

from __future__ import annotations

import math
import re
import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tensorconv as tc
from tensorconv import patches as patches_module
from tensorconv.allocation import Option
from tensorconv.arrays import Array
from tensorconv.convolution.threads import n_threads
from tensorconv.cost import chain_cost
from tensorconv.errors import GeometryError, KernelError, RankError
from tensorconv.factorizations import Factorization, refitted
from tensorconv.refit import refitted_after

RELU = tc.Activation.relu()
SHARES = (0.2, 0.35, 0.6)
WEIGHTS = np.random.default_rng(9).standard_normal((6, 4))


def pooled(x: Array) -> Array:
    """Return the mean over 2 x 2 positions."""
    pooled: Array = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean(axis=(3, 5))
    return pooled


def classified(x: Array) -> Array:
    """Return 4 numbers per image."""
    scores: Array = x.mean(axis=(2, 3)) @ WEIGHTS
    return scores


def images(n: int = 24, seed: int = 1) -> Array:
    """Return smooth images of three channels with means."""
    x = np.random.default_rng(seed).standard_normal((n, 3, 12, 12))
    return np.cumsum(np.cumsum(x, axis=2), axis=3) / 4 + 1


def layers() -> list[tc.ConvLayer]:
    rng = np.random.default_rng(0)
    shapes = [(8, 3, 3, 3), (8, 8, 3, 3), (6, 8, 3, 3)]
    return [tc.ConvLayer.of(rng.standard_normal(s) / 5, rng.standard_normal(s[0]), padding=1) for s in shapes]


def network() -> list[Any]:
    first, second, third = layers()
    return [first, RELU, pooled, second, RELU, third, RELU, classified]


def by_hand(chain: Sequence[Any], x: Array) -> Array:
    """Apply a chain step by step."""
    for step in chain:
        x = tc.convolve(x, step) if isinstance(step, (tc.ConvLayer, Factorization)) else step(x)
    return x


def relative(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def layer(shape: tuple[int, ...], seed: int, *, bias: bool = True, **options: Any) -> tc.ConvLayer:
    rng = np.random.default_rng(seed)
    n_out = shape[1] * options.get("groups", 1) if options.get("layout") == "IO*" else shape[0]
    kernel = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    return tc.ConvLayer.of(kernel, rng.standard_normal(n_out) / 4 if bias else None, **options)


def smooth(shape: tuple[int, ...], seed: int) -> Array:
    """Return data of one distribution, correlated along the last axis and between channels, with means."""
    law = np.random.default_rng(shape[1])
    mixing = law.standard_normal((shape[1], shape[1])) * np.logspace(0, -1, shape[1])
    x = np.cumsum(np.random.default_rng(seed).standard_normal(shape), axis=-1) / 3
    mean = law.standard_normal((shape[1], *(1,) * (len(shape) - 2)))
    return np.asarray(np.einsum("cd,bd...->bc...", mixing, x)) + mean


def flat(x: Array) -> Array:
    return np.asarray(x.reshape(len(x), -1))


# geometries that differ from layer to layer, with the inputs of each chain
CHAINS: dict[str, tuple[list[Any], Array]] = {
    "1d": (
        [
            layer((8, 4, 5), 1, bias=False, stride=2, padding=2),
            tc.Activation.leaky_relu(0.2),
            layer((8, 4, 3), 2, groups=2, padding=(1,), dilation=2),
            np.tanh,
            layer((6, 8, 4), 3, transposed=True, stride=2, padding=1),
        ],
        smooth((12, 4, 41), 4),
    ),
    "2d": (
        [
            layer((8, 3, 3, 3), 5, stride=(1, 2), padding=1),
            tc.Activation.clipped_relu(1.0),
            layer((8, 8, 3, 2), 6, bias=False, padding=(1, 0)),
            lambda x: x[:, :, ::2],
            layer((6, 4, 3, 3), 7, groups=2, padding=1, stride=2),
            RELU,
            flat,
        ],
        smooth((10, 3, 11, 14), 8),
    ),
    "linear": ([layer((8, 5, 3), 9), layer((7, 8, 3), 10, bias=False)], smooth((10, 5, 30), 11)),
}


def places(chain: Sequence[Any]) -> list[int]:
    """Return which steps are layers."""
    return [i for i, step in enumerate(chain) if isinstance(step, tc.ConvLayer)]


def cost_by_hand(chain: Sequence[Any], original: Sequence[Any], x: Array, of: str) -> Fraction:
    """Return what the layers of a chain cost on images of the data's size."""
    total = Fraction(0)
    for step, before in zip(chain, original, strict=True):
        if isinstance(before, tc.ConvLayer):
            steps = step.sequence
            n_bias = 0 if steps.bias is None else len(steps.bias)
            total += chain_cost(steps.chain, of, x.shape[2:], n_bias=n_bias, itemsize=before.dtype.itemsize)
        x = by_hand([before], x)
    return total


def started(
    chain: Sequence[Any], x: Array, ranks: Sequence[int | None], method: str = "svd", **options: Any
) -> list[Any]:
    """Return every layer's fit to its own responses to its original inputs, or None."""
    picks = []
    for step in chain:
        if isinstance(step, tc.ConvLayer):
            rank, statistics = ranks[len(picks)], tc.PatchStatistics(step)
            statistics.update(x)
            picks.append(rank and tc.factorize(step, method, rank=rank, statistics=statistics, **options))
        x = by_hand([step], x)
    return picks


def sweep_by_hand(chain: Sequence[Any], x: Array, picks: Sequence[Any], shrinkage: float | None = None) -> list[Any]:
    """Fit every layer to the original's responses, on what the layers fitted so far give."""
    steps = list[Any]()
    for i, step in enumerate(chain):
        if isinstance(step, tc.ConvLayer) and (pick := picks[places(chain).index(i)]) is not None:
            statistics = tc.PatchStatistics(step, shrinkage=shrinkage)
            statistics.update(by_hand(steps, x), by_hand(chain[: i + 1], x))
            step = refitted(pick, statistics)
        steps.append(step)
    return steps


def assert_same_steps(found: Sequence[Any], expected: Sequence[Any]) -> None:
    """Bitwise."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, Factorization):
            assert (one.method, one.rank) == (other.method, other.rank)
            assert [f.tobytes() for f in one.factors.values()] == [f.tobytes() for f in other.factors.values()]
            assert one.bias.tobytes() == other.bias.tobytes()
            assert one.response_error == other.response_error
        else:
            assert one is other


@pytest.fixture(scope="module")
def half() -> tc.Reconstruction:
    return tc.reconstruct(network(), images(), budget=0.7, methods=["svd", "cp"], keep=(0,), shares=SHARES)


def test_the_result_is_the_chain_it_says(half: tc.Reconstruction) -> None:
    x = images(5, seed=2)
    assert half(x).tobytes() == by_hand(half.chain, x).tobytes()
    # norms of a few thousand numbers in another order: well below 1e-12
    assert half.error == pytest.approx(relative(by_hand(half.chain, images()), by_hand(network(), images())), rel=1e-10)
    assert half.error == half.history[-1]
    assert all(later < earlier for earlier, later in zip(half.history, half.history[1:], strict=False))
    assert isinstance(half.chain[0], tc.ConvLayer)
    assert sum(isinstance(step, Factorization) for step in half.chain) == 2
    assert half.error < 0.3
    text = str(half)
    assert f"final response error {half.error:.3g}" in text
    assert len(text.splitlines()) == 2 + 3


@pytest.mark.parametrize("of", ["macs", "parameters", "bytes"])
def test_the_budget_holds(of: str) -> None:
    found = tc.reconstruct(network(), images(8), budget=0.9, of=of, methods=["svd"], n_sweeps=1)

    def cost(step: Any, layer: tc.ConvLayer, size: tuple[int, ...]) -> Fraction:
        sequence = tc.ConvSequence((step,)) if isinstance(step, tc.ConvLayer) else step.sequence
        n_bias = sequence.layers[-1].out_channels
        pairs = [(one.kernel.shape, one.geometry) for one in sequence.layers]
        return chain_cost(pairs, of, size, n_bias=n_bias, itemsize=layer.dtype.itemsize)

    sizes = [(12, 12), (6, 6), (6, 6)]
    at = [i for i, step in enumerate(network()) if isinstance(step, tc.ConvLayer)]
    dense = sum(cost(layer, layer, size) for layer, size in zip(layers(), sizes, strict=True))
    used = sum(cost(found.chain[i], layer, size) for i, layer, size in zip(at, layers(), sizes, strict=True))
    assert found.cost == used / dense
    assert found.cost <= Fraction(0.9)


def test_inputs_are_the_compressed_ones_and_targets_the_originals() -> None:
    first, second, third = layers()
    x = images()
    statistics = tc.PatchStatistics(second)
    statistics.update(pooled(RELU(tc.convolve(x, first))))
    start = tc.svd(second, 3, statistics=statistics)
    statistics = tc.PatchStatistics(first)
    statistics.update(x)
    before = tc.svd(first, 2, statistics=statistics)
    found = tc.reconstruct(network(), [x], choices=[before, start, None], n_sweeps=1)

    compressed = found.chain[0]
    asymmetric = tc.PatchStatistics(second)
    asymmetric.update(
        pooled(RELU(tc.convolve(x, compressed))), tc.convolve(pooled(RELU(tc.convolve(x, first))), second)
    )
    expected = refitted(start, asymmetric)
    assert found.chain[3].kernel.tobytes() == expected.kernel.tobytes()
    np.testing.assert_array_equal(found.chain[3].bias, expected.bias)
    assert np.array_equal(found.chain[5].kernel, third.kernel)
    # with a pointwise second layer the fit is the optimum, so on its own response it cannot lose
    wanted = tc.convolve(pooled(RELU(tc.convolve(x, first))), second)
    symmetric = relative(by_hand([compressed, RELU, pooled, start], x), wanted)
    assert relative(by_hand(found.chain[:4], x), wanted) < 0.97 * symmetric


def test_batches_and_curves_change_nothing_but_the_time(half: tc.Reconstruction) -> None:
    x = images()
    again = tc.reconstruct(network(), [x[:10], x[10:]], budget=0.7, methods=["svd", "cp"], keep=(0,), shares=SHARES)
    # moments of other batches differ by rounding; the choices and all but rounding of the fits are the same
    assert [getattr(s, "rank", None) for s in again.chain] == [getattr(s, "rank", None) for s in half.chain]
    assert again.error == pytest.approx(half.error, rel=1e-5)
    reused = tc.reconstruct(network(), x, budget=0.7, curves=half.curves, keep=(0,))
    assert reused.error == half.error
    smaller = tc.reconstruct(network(), x, budget=0.55, curves=half.curves, keep=(0,))
    assert smaller.cost <= 0.55
    assert smaller.error > half.error


def test_the_same_input_gives_the_same_bits() -> None:
    one, other = (
        tc.reconstruct(network(), images(6), budget=0.5, methods=["cp"], shares=(0.3,), n_sweeps=1) for _ in range(2)
    )
    for a, b in zip(one.chain, other.chain, strict=True):
        if isinstance(a, Factorization):
            assert all(a.factors[name].tobytes() == b.factors[name].tobytes() for name in a.factors)


def test_a_budget_of_one_leaves_the_chain_as_it_is() -> None:
    found = tc.reconstruct(network(), images(4), budget=1.0, methods=["svd"])
    assert found.error == 0
    assert found.cost == 1
    assert [type(step) for step in found.chain] == [type(step) for step in network()]


def test_a_layer_that_matters_more_gets_more() -> None:
    rng = np.random.default_rng(3)
    kernels = [rng.standard_normal((6, 6, 3)) for _ in range(2)]
    first, second = (tc.ConvLayer.of(kernel, padding=1) for kernel in kernels)
    x = np.cumsum(rng.standard_normal((6, 6, 40)), axis=2)

    def ranks(chain: list[Any], at: list[int]) -> list[int]:
        found = tc.reconstruct(chain, x, budget=0.6, methods=["svd"], n_sweeps=1)
        return [getattr(found.chain[i], "rank", 99) for i in at]

    ramp = 50 * np.cumsum(rng.standard_normal((1, 6, 40)), axis=2)
    coarse = [first, lambda y: y / 1000 + ramp, second]  # errors of the first layer hardly count
    plain = [first, second]
    (less, more), (usual, other) = ranks(coarse, [0, 2]), ranks(plain, [0, 1])
    assert less < usual
    assert more > other


@pytest.mark.parametrize("of", ["macs", "parameters"])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_any_geometry(name: str, of: str) -> None:
    chain, x = CHAINS[name]
    budget = {"macs": 0.6, "parameters": 0.8}[of]
    found = tc.reconstruct(chain, x, budget=budget, of=of, methods=["svd", "depthwise_separable"], n_sweeps=1)
    wanted = by_hand(chain, x)
    assert found.cost == cost_by_hand(found.chain, chain, x, of) / cost_by_hand(chain, chain, x, of)
    assert found.cost <= Fraction(budget)
    assert any(isinstance(step, Factorization) for step in found.chain)
    assert found(x).tobytes() == by_hand(found.chain, x).tobytes()
    assert found.error == pytest.approx(relative(found(x), wanted), rel=1e-12)  # sums of 1e4 squares in another order
    assert 0 < found.error < 1
    for step, before in zip(found.chain, chain, strict=True):
        assert step is before or step.layer is before


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.1])
@pytest.mark.parametrize("name", CHAINS)
def test_every_layer_is_fitted_to_the_original_on_what_the_others_give(name: str, shrinkage: float | None) -> None:
    chain, x = CHAINS[name]
    picks = started(chain, x, [2] * len(places(chain)))
    found = tc.reconstruct(chain, x, choices=picks, n_sweeps=1, shrinkage=shrinkage)
    assert_same_steps(found.chain, sweep_by_hand(chain, x, picks, shrinkage))


def deep() -> tuple[list[Any], Array]:
    """Return six layers with ReLU between, and data."""
    chain = list[Any]()
    for i in range(6):
        chain += [layer((10, 10, 3), 20 + i, padding=1), RELU]
    return chain[:-1], smooth((48, 10, 40), 30)


def test_what_was_lost_before_a_layer_is_made_good() -> None:
    chain, x = deep()
    chosen = iter(picks := started(chain, x, [4] * 6))
    symmetric = [next(chosen) if isinstance(step, tc.ConvLayer) else step for step in chain]
    found = tc.reconstruct(chain, x, choices=picks, n_sweeps=1)
    assert found.error < 0.85 * relative(
        by_hand(symmetric, x), by_hand(chain, x)
    )  # measured: 0.76, others 0.68 to 0.86
    unseen = smooth((48, 10, 40), 31)
    wanted = by_hand(chain, unseen)
    assert relative(found(unseen), wanted) < 0.95 * relative(by_hand(symmetric, unseen), wanted)  # measured: 0.85


def test_further_sweeps_go_on_from_the_factors_found_while_the_response_improves() -> None:
    chain, x = deep()
    picks = started(chain, x, [12, None, 12, None, 12, None], "cp")
    errors, steps = list[float](), list[list[Any]]()
    for _ in range(3):
        once = tc.reconstruct(chain, x, choices=picks, n_sweeps=1)
        errors.append(once.error)
        steps.append(list(once.chain))
        picks = [step if isinstance(step, Factorization) else None for i, step in enumerate(once.chain) if i % 2 == 0]
    assert errors[1] < errors[0]
    n = 3 if errors[2] < errors[1] else 2
    found = tc.reconstruct(chain, x, choices=started(chain, x, [12, None, 12, None, 12, None], "cp"), n_sweeps=3)
    assert found.history == tuple(errors[:n])
    assert_same_steps(
        [s for s in found.chain if isinstance(s, Factorization)],
        [s for s in steps[n - 1] if isinstance(s, Factorization)],
    )
    assert found.error == found.history[-1]


def test_a_sweep_that_brings_nothing_does_not_count() -> None:
    chain, x = CHAINS["linear"]
    picks = started(chain, x, [3, 3])  # reduced-rank regression does not depend on where it starts
    found = tc.reconstruct(chain, x, choices=picks, n_sweeps=5)
    assert len(found.history) == 1
    assert_same_steps(found.chain, sweep_by_hand(chain, x, picks))


def test_curves_say_what_each_choice_alone_does_to_the_final_response() -> None:
    chain, x = CHAINS["2d"]
    found = tc.reconstruct(chain, x, budget=0.8, methods=["svd", "tucker"], keep=(1,), n_sweeps=1)
    wanted = by_hand(chain, x)
    assert [len(curve) > 4 for curve in found.curves] == [True, False, True]
    for n, (at, curve) in enumerate(zip(places(chain), found.curves, strict=True)):
        assert (curve[0].label, curve[0].error) == (None, 0.0)
        tried = curve[1:]
        for option in curve:
            replaced = [option.label or step if i == at else step for i, step in enumerate(chain)]
            assert option.error == pytest.approx(relative(by_hand(replaced, x), wanted) ** 2, rel=1e-10)
        assert [option.cost for option in tried] == sorted({option.cost for option in tried})
        responses = [option.label.response_error for option in tried]
        assert responses == sorted(set(responses), reverse=True)
        assert n != 1 or not tried
    chosen = tc.allocate(found.curves, Fraction(0.8) * cost_by_hand(chain, chain, x, "macs"))
    for i, at, curve in zip(chosen, places(chain), found.curves, strict=True):
        label = curve[i].label
        assert (found.chain[at] is chain[at]) if label is None else (found.chain[at].rank == label.rank)


def test_effects_that_do_not_grow_with_errors_are_seen() -> None:
    """The last layer's response hardly counts until it is off by much: one weight per layer would starve it."""
    first, second = layer((8, 8, 3), 40, padding=1), layer((8, 8, 3), 41, padding=1)
    steep: Callable[[Array], Array] = lambda y: y + 30 * np.maximum(np.abs(y) - 3, 0)  # noqa: E731
    chain, x = [first, second, steep], smooth((12, 8, 40), 42)
    found = tc.reconstruct(chain, x, budget=0.3, methods=["svd"])
    best = min(
        tc.reconstruct(chain, x, choices=picks, n_sweeps=1).error
        for a in found.curves[0]
        for b in found.curves[1]
        for picks in [[a.label, b.label]]
        if a.cost + b.cost <= Fraction(0.3) * cost_by_hand(chain, chain, x, "macs")
    )
    assert found.history[0] <= 1.5 * best


def test_curves_are_priced_anew() -> None:
    chain, x = CHAINS["1d"]
    found = tc.reconstruct(chain, x, budget=0.7, methods=["svd"], n_sweeps=1)
    other = tc.reconstruct(chain, x, budget=0.8, of="parameters", curves=found.curves, keep=(2,), n_sweeps=1)
    assert other.chain[4] is chain[4]
    assert other.cost == cost_by_hand(other.chain, chain, x, "parameters") / cost_by_hand(chain, chain, x, "parameters")
    assert other.cost <= Fraction(0.8)
    assert [len(curve) for curve in other.curves] == [len(found.curves[0]), len(found.curves[1]), 1]


def test_methods_are_looked_at_once_for_all_layers() -> None:
    chain, x = CHAINS["linear"]
    found = tc.reconstruct(chain, x, budget=0.6, methods=iter(["svd"]), n_sweeps=1)
    assert all({option.label.method for option in curve[1:]} == {"svd"} for curve in found.curves)


def test_a_budget_that_cannot_be_met_names_one_that_can() -> None:
    chain, x = CHAINS["2d"]
    with pytest.raises(RankError, match="layers that are kept included") as refused:
        tc.reconstruct(chain, x, budget=0.05, methods=["svd"], keep=[2])
    named = re.search(r"cost ([0-9.]+) of the chain", str(refused.value))
    assert named
    least = float(named.group(1))
    found = tc.reconstruct(chain, x, budget=least, methods=["svd"], keep=[2], n_sweeps=1)
    assert least - 1e-4 <= found.cost <= least


@pytest.mark.parametrize("batches", [1, 3])
def test_fits_behind_activations_are_those_by_hand(batches: int) -> None:
    chain, x = CHAINS["2d"]
    picks = started(chain, x, [3, None, 2])
    data = list(np.array_split(x, batches))
    found = tc.reconstruct(chain, data, choices=picks, n_sweeps=1, nonlinear=True, shrinkage=0.05, rng=5)
    (first,) = sweep_by_hand(chain[:1], x, picks[:1], 0.05)
    first = refitted_after(chain[1], first, [x], [by_hand(chain[:1], x)], shrinkage=0.05, rng=5)
    given, wanted = by_hand([first, *chain[1:4]], x), by_hand(chain[:5], x)
    statistics = tc.PatchStatistics(chain[4], shrinkage=0.05)
    statistics.update(given, wanted)
    last = refitted_after(RELU, refitted(picks[2], statistics), [given], [wanted], shrinkage=0.05, rng=5)
    if batches == 1:
        assert_same_steps(found.chain, [first, *chain[1:4], last, *chain[5:]])
    else:  # moments of batches differ by rounding, and rounds of fits carry it on
        assert relative(found(x), by_hand([first, *chain[1:4], last, *chain[5:]], x)) < 1e-6


def test_the_positions_of_fits_behind_activations_are_drawn_by_the_seed() -> None:
    chain, x = [layer((4, 3, 3), 43), RELU], smooth((3, 3, 10_002), 44)
    picks = started(chain, x, [1])
    one, same, other = (
        tc.reconstruct(chain, x, choices=picks, n_sweeps=1, nonlinear=True, rng=seed).chain for seed in (1, 1, 2)
    )
    assert_same_steps(one, same)
    assert one[0].kernel.tobytes() != other[0].kernel.tobytes()
    plain = tc.reconstruct(chain, x, choices=picks, n_sweeps=1).chain[0]
    assert_same_steps(one[:1], [refitted_after(RELU, plain, [x], [tc.convolve(x, chain[0])], rng=1)])


def test_layers_to_keep_are_kept_whatever_they_were_to_become() -> None:
    chain, x = CHAINS["linear"]
    found = tc.reconstruct(chain, x, choices=started(chain, x, [2, 2]), keep=[0], n_sweeps=1)
    assert found.chain[0] is chain[0]
    assert isinstance(found.chain[1], Factorization)
    assert found.curves == ()


def test_it_holds_about_two_activations_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches_module, "_CHUNK_BYTES", 2**18)
    chain = list[Any]([layer((12, 2, 3), 50, padding=1), RELU])
    for i in range(5):
        chain += [layer((12, 12, 3), 51 + i, padding=1), RELU]
    chain.append(layer((2, 12, 3), 60, padding=1))
    data = [smooth((8, 2, 1600), 61 + i) for i in range(8)]
    options: dict[str, Any] = {"methods": ["svd"], "shares": (0.4,), "n_sweeps": 1, "budget": 0.8}
    tc.reconstruct(chain, [batch[:1, :, :64] for batch in data], **options)  # compiles what is compiled
    activation = sum(batch.nbytes for batch in data) * 12 / 2
    tracemalloc.start()
    try:
        tc.reconstruct(chain, data, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # two activations, a batch on its way (1/8), the final response (1/6), chunks of patches, what a thread may keep;
    # all layers would be 12
    assert peak < 3 * activation + 2**22 * n_threads()


@pytest.mark.parametrize("nonlinear", [False, True])
def test_the_same_input_gives_the_same_bits_everywhere(nonlinear: bool) -> None:
    chain, x = CHAINS["2d"]
    one, other = (
        tc.reconstruct(
            chain, x, budget=0.5, methods=["svd", "cp"], shares=(0.3, 0.5), n_sweeps=2, nonlinear=nonlinear, rng=7
        )
        for _ in range(2)
    )
    assert_same_steps(one.chain, other.chain)
    assert one.history == other.history
    assert [[o.error for o in curve] for curve in one.curves] == [[o.error for o in curve] for curve in other.curves]


def test_images_may_be_of_several_sizes_and_types() -> None:
    chain, x = CHAINS["1d"]
    single = [
        tc.ConvLayer(s.kernel.astype("f4"), s.geometry, s.bias) if isinstance(s, tc.ConvLayer) else s for s in chain
    ]
    found = tc.reconstruct(single, [x.astype("f4"), x[:, :, :23].astype("f4")], budget=0.6, methods=["svd"], n_sweeps=1)
    assert found.cost == cost_by_hand(found.chain, single, x, "macs") / cost_by_hand(single, single, x, "macs")
    assert found(x.astype("f4")).dtype == np.float32
    nested = tc.reconstruct(chain, [x[:6], x[6:]], budget=0.6, methods=["svd"], n_sweeps=1)
    whole = tc.reconstruct(chain, x, budget=0.6, methods=["svd"], n_sweeps=1)
    # moments that differ by rounding only, and fits in closed form or of few sweeps
    assert nested.error == pytest.approx(whole.error, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"chain": [RELU]}, KernelError, "at least one ConvLayer"),
        ({"chain": [layers()[0], "relu"]}, KernelError, r"chain\[1\] must be a ConvLayer or a callable, got str"),
        ({"data": []}, KernelError, "data must be"),
        ({"data": np.full((1, 3, 12, 12), np.nan)}, KernelError, "finite"),
        ({"data": np.ones((1, 4, 12, 12))}, KernelError, "4"),
        ({"budget": None}, RankError, "exactly one of budget and choices must be given, got none"),
        ({"choices": [None] * 3}, RankError, "exactly one of budget and choices must be given, got both"),
        ({"budget": None, "choices": [None]}, RankError, "choices must have one entry per layer, 3 here, got 1"),
        ({"curves": [()]}, RankError, "curves must have one entry per layer, 3 here, got 1"),
        ({"keep": (3,)}, RankError, "keep must count layers from 0 to 2, got 3"),
        ({"n_sweeps": 0}, RankError, "n_sweeps must be an integer of at least 1, got 0"),
        ({"methods": ["tensor_train"]}, RankError, "which take statistics, got 'tensor_train'"),
        ({"budget": 0.01}, RankError, "budget=0.01 of macs cannot be met"),
        ({"budget": -1}, RankError, "budget must be a finite number above 0"),
        ({"budget": math.nan}, RankError, "budget must be a finite number above 0"),
        ({"of": "joules"}, GeometryError, "of must be one of"),
        ({"data": np.float64(1.0)}, KernelError, "x must have shape"),
        ({"data": images(2)[0]}, KernelError, "x must have shape"),
        ({"data": [images(2), np.full((1, 3, 12, 12), np.inf)]}, KernelError, "data must hold finite numbers"),
        ({"chain": [layers()[0], layers()[0]]}, KernelError, "x must have shape"),
        ({"chain": [layers()[0], np.zeros_like]}, KernelError, "not zero everywhere"),
        ({"chain": [layers()[0], lambda x: x * np.inf]}, KernelError, "the chain's response must hold finite"),
        ({"keep": (-1,)}, RankError, "keep must count layers from 0 to 2, got -1"),
        ({"keep": (0.5,)}, RankError, "keep must count layers from 0 to 2, got 0.5"),
        ({"n_sweeps": 1.5}, RankError, "n_sweeps must be an integer of at least 1, got 1.5"),
        ({"shares": (0.5, math.nan)}, RankError, "shares must be numbers above 0"),
        ({"shrinkage": 2.0}, KernelError, "shrinkage must be a number from 0 to 1"),
        ({"budget": None, "choices": [None, 3, None]}, RankError, "layer 1 of the chain, .*, can become"),
        (
            {"budget": None, "choices": [None, tc.svd(layers()[2], 2), None]},
            RankError,
            "layer 1 of the chain, .*, can become",
        ),
        ({"budget": None, "choices": [tc.tensor_train(layers()[0], 2), None, None]}, RankError, "takes no statistics"),
        ({"curves": [[Option(1, 0.0, "rank 1")]] * 3}, RankError, "layer 0 of the chain, .*, can become"),
    ],
)
def test_what_cannot_be_done_is_said(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given: dict[str, Any] = {"chain": network(), "data": images(2), "budget": 0.5, "methods": ["svd"]} | change
    chain, data = given.pop("chain"), given.pop("data")
    with pytest.raises(error, match=message):
        tc.reconstruct(chain, data, **given)
