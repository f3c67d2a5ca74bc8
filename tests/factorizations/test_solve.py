"""Tests of requests: ranks by number and by rule, what is refused, the registry, and the bridge to TensorLy."""

from __future__ import annotations

import copy
import math
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import cases
import contracts
import numpy as np
import pytest
import tensorly
from tensorly.cp_tensor import cp_to_tensor
from tensorly.tt_tensor import tt_to_tensor
from tensorly.tucker_tensor import tucker_to_tensor

import tensorconv as tc
from tensorconv.errors import GeometryError, KernelError, RankError, TensorconvError, UnsupportedExportError
from tensorconv.factorizations import Factorization, Request, affordable, register, registered, solve

KERNEL = np.random.default_rng(0).standard_normal((8, 6, 3, 3))


# ---- ranks by number


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize(
    "rank",
    [True, "3", 2.0, None, [2.0], (1, 2, 3, 4, 5), (), {"rank": 2}, np.float64(2), (True, "2"), 1 + 0j],
    ids=repr,
)
def test_what_is_no_rank_is_refused(method: str, rank: Any) -> None:
    n = len(cases.maximum(tc.ConvLayer.of(KERNEL), method, {}))
    if rank is None:
        message = "exactly one of rank, error and budget must be given, got none"
    else:
        message = f"rank must be an integer{f' or {n} integers' if n > 1 else ''}, got {rank!r}"
    with pytest.raises(RankError) as caught:
        tc.methods()[method](KERNEL, rank)
    assert str(caught.value) == message


@pytest.mark.parametrize("rank", [3, np.int64(3), np.uint8(3), (3,), [3], np.array([3])], ids=repr)
def test_integers_of_every_kind_are_ranks(rank: Any) -> None:
    f = tc.svd(KERNEL, rank)
    assert f.rank == 3
    assert type(f.rank) is int
    assert all(type(r) is int for r in tc.tucker(KERNEL, np.array([4, 3])).rank)  # type: ignore[union-attr]


def test_an_array_of_ranks_is_as_good_as_a_tuple() -> None:
    contracts.check_same(tc.tucker(KERNEL, np.array([4, 3, 2, 1])), tc.tucker(KERNEL, (4, 3, 2, 1)))
    contracts.check_same(tc.tucker(KERNEL, np.array([4, 3]), spatial=True), tc.tucker(KERNEL, (4, 3), spatial=True))


# ---- ranks by rule


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("method", ["svd", "depthwise_separable"])
def test_energy_is_the_smallest_rank_that_keeps_its_share(method: str, share: float) -> None:
    f = tc.methods()[method](KERNEL, tc.ranks.energy(share))
    allowed = math.sqrt(1 - share) + contracts.gamma(KERNEL.size, contracts.U64)
    assert f.relative_error <= allowed
    if f.rank > 1:
        assert tc.methods()[method](KERNEL, f.rank - 1).relative_error > math.sqrt(1 - share)


def test_energy_is_kept_in_every_mode_of_a_tucker() -> None:
    for spatial, n_modes in ((False, 2), (True, 4)):
        f = tc.tucker(KERNEL, tc.ranks.energy(0.8), spatial=spatial)
        for mode, rank in enumerate(f.rank[:n_modes]):  # type: ignore[index]
            unfolding = np.moveaxis(KERNEL, mode, 0).reshape(KERNEL.shape[mode], -1)
            energies = np.linalg.svd(unfolding, compute_uv=False) ** 2
            kept = np.cumsum(energies) / energies.sum()
            assert rank == int(np.argmax(kept >= 0.8)) + 1


def test_groups_share_the_rank_of_a_rule() -> None:
    layer = tc.ConvLayer.of(np.concatenate([KERNEL, 0.01 * KERNEL]), groups=2)
    rank = tc.svd(layer, tc.ranks.energy(0.8)).rank
    assert rank == tc.svd(KERNEL, tc.ranks.energy(0.8)).rank  # the energy of both, and one of them has hardly any


@pytest.mark.parametrize("method", ["svd", "depthwise_separable", "tucker", "cp"])
def test_a_zero_kernel_has_rank_one_by_every_rule(method: str) -> None:
    f = tc.methods()[method](np.zeros((8, 6, 3, 3)), tc.ranks.energy(0.9))
    assert set(np.ravel(f.rank)) == {1}
    assert f.relative_error == 0.0


def in_noise(kernel: Any, noise: float = 0.1, dtype: str = "float64") -> Any:
    return (kernel + noise * np.random.default_rng(1).standard_normal(kernel.shape)).astype(dtype)


def normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape)


def by_channel(*terms: int) -> Any:
    """Return a kernel (64, channels, 5, 5) with as many depthwise separable terms per channel as given."""
    return np.stack([(normal(64, r) @ normal(r, 25)).reshape(64, 5, 5) for r in terms], axis=1)


PLANTED: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
    "svd out": ("svd", {}, np.tensordot(normal(32, 3), normal(3, 16, 3, 3), 1), 3),
    "svd in": ("svd", {"split": "in"}, np.einsum("orhw,ri->oihw", normal(32, 5, 3, 3), normal(5, 16)), 5),
    "depthwise first": ("depthwise_separable", {}, by_channel(1, 3, 2), 3),
    "pointwise first": ("depthwise_separable", {"order": "pointwise-first"}, by_channel(2, 4).swapaxes(0, 1), 4),
    "tucker": ("tucker", {}, np.einsum("oa,abhw,bi->oihw", normal(32, 3), normal(3, 2, 3, 3), normal(2, 16)), (3, 2)),
    "tucker of one column": (
        "tucker",
        {"spatial": True},
        np.einsum("oa,abt,bi,ht->oih", normal(32, 3), normal(3, 2, 2), normal(2, 16), normal(5, 2))[..., None],
        (3, 2, 2, 1),
    ),
    "cp": ("cp", {}, np.einsum("or,ir,hr,wr->oihw", normal(32, 3), normal(16, 3), normal(3, 3), normal(3, 3)), 3),
    "tensor train": (
        "tensor_train",
        {},
        np.einsum("ia,ahb,bwc,co->oihw", normal(16, 2), normal(2, 3, 4), normal(4, 3, 3), normal(3, 32)),
        (2, 4, 3),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("planted", PLANTED)
def test_evbmf_finds_the_rank_that_was_planted_in_noise(planted: str, dtype: str) -> None:
    method, options, kernel, rank = PLANTED[planted]
    for scale in (1.0, 1e-30):
        layer = tc.ConvLayer.of(in_noise(kernel, 0.1, dtype) * np.asarray(scale, dtype))
        f = tc.methods()[method](layer, rank=tc.ranks.evbmf(), **options)
        assert f.rank == rank
        contracts.check_same(f, tc.methods()[method](layer, rank=rank, **options))
    grouped = tc.ConvLayer.of(np.concatenate([in_noise(kernel), in_noise(0 * kernel)]), groups=2)
    assert tc.methods()[method](grouped, tc.ranks.evbmf(), **options).rank == rank  # the other group is noise


def test_multiples_of_what_evbmf_finds() -> None:
    rule = tc.ranks.multiple(8, of=tc.ranks.evbmf())
    assert tc.svd(in_noise(PLANTED["svd out"][2]), rule).rank == 8
    assert tc.tucker(in_noise(PLANTED["tucker"][2]), rule).rank == (8, 8)


@pytest.mark.parametrize("method", list(tc.methods()))
def test_evbmf_is_honest_about_noise(method: str) -> None:
    with pytest.raises(RankError, match=r"^evbmf finds rank 0.* unfolding: no singular value stands out from noise;"):
        tc.methods()[method](normal(64, 8, 5, 5), tc.ranks.evbmf())
    with pytest.raises(RankError, match=r"^evbmf finds rank 0"):
        tc.methods()[method](np.zeros((8, 6, 3, 3)), tc.ranks.evbmf())


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("svd", {}, [{4, 45}]),
        ("svd", {"split": "in"}, [{3, 60}]),
        ("svd", {"split": (0,)}, [{9, 20}]),
        ("svd", {"split": (1,)}, [{12, 15}]),
        ("depthwise_separable", {}, [{4, 15}]),
        ("depthwise_separable", {"order": "pointwise-first"}, [{3, 15}]),
        ("tucker", {}, [{4, 45}, {3, 60}]),
        ("tucker", {"spatial": True}, [{4, 45}, {3, 60}, {3, 60}, {5, 36}]),
        ("tensor_train", {}, [{3, 60}, {9, 20}, {45, 4}]),
        ("cp", {}, [{4, 45}, {3, 60}]),
        ("cp", {"merge_spatial": True}, [{4, 45}, {3, 60}]),
    ],
)
def test_rules_are_told_the_sides_of_the_unfoldings(
    method: str, options: dict[str, Any], expected: list[set[int]]
) -> None:
    seen: list[Any] = []

    def rule(spectra: Any, maximum: tuple[int, ...]) -> tuple[int, ...]:
        seen.append((spectra.shapes, [values.shape for values in spectra], maximum))
        return maximum

    tc.methods()[method](tc.ConvLayer.of(normal(8, 3, 3, 5), groups=2), rule, **options)
    [(shapes, sizes, maximum)] = seen
    assert [set(shape) for shape in shapes] == expected
    slices = {"depthwise-first": 6, "pointwise-first": 8}.get(options.get("order", "depthwise-first"), 0)
    assert sizes == [
        (slices if method == "depthwise_separable" else size[0], min(sides))
        for size, sides in zip(sizes, shapes, strict=True)
    ]
    most = tc.cp(normal(4, 3, 3, 5), 1, **options).scheme.maximum * 2 if method == "cp" else None
    assert maximum == (most or tuple(min(sides) for sides in shapes))


def test_multiples_are_rounded_up_and_capped() -> None:
    assert tc.svd(KERNEL, tc.ranks.multiple(4, of=3)).rank == 4
    assert tc.svd(KERNEL, tc.ranks.multiple(4, of=4)).rank == 4
    assert tc.svd(KERNEL, tc.ranks.multiple(5, of=6)).rank == 8  # the largest of this kernel
    assert tc.tucker(KERNEL, tc.ranks.multiple(4, of=(3, 5))).rank == (4, 6)
    assert tc.tucker(KERNEL, tc.ranks.multiple(2, of=3), spatial=True).rank == (4, 4, 3, 3)
    by_energy = tc.svd(KERNEL, tc.ranks.energy(0.8)).rank
    assert tc.svd(KERNEL, tc.ranks.multiple(3, of=tc.ranks.energy(0.8))).rank == min(8, -(-by_energy // 3) * 3)  # type: ignore[operator]


def test_a_rule_of_ones_own_is_checked_like_a_number() -> None:
    seen: list[Any] = []

    def rule(spectra: Any, maximum: tuple[int, ...]) -> tuple[int, ...]:
        seen.append(([spectrum.shape for spectrum in spectra], maximum))
        return (2,)

    assert tc.svd(KERNEL, rule).rank == 2
    assert seen == [([(1, 8)], (8,))]
    with pytest.raises(RankError, match=r"^rank must be between 1 and 8 = min\(I\*K, O\) for this kernel, got \(0,\)$"):
        tc.svd(KERNEL, lambda *_: (0,))
    with pytest.raises(RankError, match=r"^rank must be an integer or 2 integers, got \(2,\)$"):
        tc.tucker(KERNEL, lambda *_: (2,))


@pytest.mark.parametrize("share", [0, -0.1, 1.1, math.nan])
def test_a_share_of_energy_is_a_share(share: float) -> None:
    with pytest.raises(RankError) as caught:
        tc.ranks.energy(share)
    assert str(caught.value) == f"share must be above 0 and at most 1, got {share}; 0.95 keeps 95 % of the energy"


def test_a_multiple_is_of_a_positive_integer() -> None:
    with pytest.raises(RankError, match=r"^factor must be at least 1, got 0$"):
        tc.ranks.multiple(0, of=3)


# ---- requests


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"rank": 2, "error": 0.1}, "exactly one of rank, error and budget must be given, got rank, error"),
        ({"rank": 2, "budget": 0.1}, "exactly one of rank, error and budget must be given, got rank, budget"),
        ({"error": -0.1}, "error must be a finite number at least 0, as a share (0.1 is 10 %), got -0.1"),
        ({"error": math.nan}, "error must be a finite number at least 0, as a share (0.1 is 10 %), got nan"),
        ({"error": "0.1"}, "error must be a finite number at least 0, as a share (0.1 is 10 %), got '0.1'"),
        ({"error": True}, "error must be a finite number at least 0, as a share (0.1 is 10 %), got True"),
        ({"budget": 0}, "budget must be a finite number above 0, as a share (0.1 is 10 %), got 0"),
        ({"budget": math.inf}, "budget must be a finite number above 0, as a share (0.1 is 10 %), got inf"),
        ({"budget": -1}, "budget must be a finite number above 0, as a share (0.1 is 10 %), got -1"),
    ],
)
def test_a_request_names_argument_value_and_rule(method: str, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(RankError) as caught:
        tc.methods()[method](KERNEL, **request_)
    assert str(caught.value) == message


@pytest.mark.parametrize("method", tc.methods())
def test_a_cost_that_is_none_is_refused(method: str) -> None:
    with pytest.raises(tc.errors.GeometryError, match=r"of must be one of .*macs.*, got 'flops'"):
        tc.methods()[method](KERNEL, budget=0.5, of="flops")


def test_an_error_of_a_hundred_percent_is_met_by_rank_one() -> None:
    for method, options in cases.variants(tc.ConvLayer.of(KERNEL)):
        f = tc.methods()[method](KERNEL, error=1.0, **options)
        assert set(np.ravel(f.rank)) == {1}


def test_solve_takes_a_scheme_and_a_request() -> None:
    layer = tc.ConvLayer.of(KERNEL)
    scheme = registered()["svd"].scheme(layer, split="in")
    contracts.check_same(solve(scheme, Request(rank=3)), tc.svd(layer, 3, split="in"))
    assert solve(scheme, Request(error=0.5)).relative_error <= 0.5


def test_factors_that_a_type_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fitter = sys.modules["tensorconv.factorizations.svd"].SplitSVDFitter
    original = fitter.factors

    def lopsided(self: Any, rank: Any) -> Any:
        factors = original(self, rank)
        return {"first": factors["first"] * 1e6, "second": factors["second"] * 1e-6}

    monkeypatch.setattr(fitter, "factors", lopsided)
    with pytest.raises(
        KernelError, match=r"^factor 'first' overflows float16; convert the kernel to a wider type first$"
    ):
        tc.svd(KERNEL.astype("float16"), 2)


@pytest.mark.parametrize("method", tc.methods())
@pytest.mark.parametrize(("dtype", "size"), [("float16", 65504), ("float32", 3e38), ("float64", 1e-310)])
def test_kernels_at_the_ends_of_their_type_are_truncated_or_refused(method: str, dtype: str, size: float) -> None:
    signs = np.sign(KERNEL) if size > 1 else KERNEL
    layer = tc.ConvLayer.of((signs * size).astype(dtype))
    try:
        f = tc.methods()[method](layer, 2)
    except KernelError as refusal:
        assert "overflows" in str(refusal)  # noqa: PT017 - a refusal is fine, a warning or an inf is not
    else:
        assert 0 < f.relative_error < 1
        assert np.isfinite(f.kernel).all()


@pytest.mark.parametrize("method", tc.methods())
def test_numbers_of_numpy_are_numbers(method: str) -> None:
    contracts.check_same(
        tc.methods()[method](KERNEL, budget=np.float32(0.75)), tc.methods()[method](KERNEL, budget=0.75)
    )
    contracts.check_same(tc.methods()[method](KERNEL, error=np.float64(0.75)), tc.methods()[method](KERNEL, error=0.75))


WRONG: dict[str, Callable[[], object]] = {
    "a truth value among the ranks": lambda: tc.tucker(KERNEL, (True, 2)),
    "bytes as ranks": lambda: tc.tucker(KERNEL, b"ab"),
    "a rule that gives one integer": lambda: tc.svd(KERNEL, lambda *_: 3),
    "a rule that gives nothing": lambda: tc.svd(KERNEL, lambda *_: None),
    "a split that is no set": lambda: tc.svd(KERNEL, 2, split=(0, [1])),  # type: ignore[arg-type]
    "a split of fractions": lambda: tc.svd(KERNEL, 2, split=(0.0,)),  # type: ignore[arg-type]
    "a factor of a half": lambda: tc.ranks.multiple(2.5, of=3),  # type: ignore[arg-type]
    "a group that is not there": lambda: tc.cp(KERNEL, 2).to_tensorly(1),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_by_an_error_of_ours(wrong: str) -> None:
    with pytest.raises(TensorconvError):
        WRONG[wrong]()


# ---- requests with data


def test_the_bias_that_data_give_is_counted() -> None:
    for bias in (None, np.ones(8)):
        layer = tc.ConvLayer.of(KERNEL, bias)
        stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer))
        chain = [((3, 6, 3, 3), layer.geometry), ((8, 3, 1, 1), tc.ConvGeometry.of(2))]
        n_bias = 0 if bias is None else 8
        for given, corrected in ((None, n_bias), (stats, 8)):
            request = Request(rank=3, of="parameters", statistics=given)
            assert request.cost(layer, layer.chain) == KERNEL.size + n_bias  # the layer stays as it is
            assert request.cost(layer, chain) == 3 * 54 + 24 + corrected
            assert request.cost(layer, tc.svd(layer, 3, statistics=given).sequence.chain) == 3 * 54 + 24 + corrected


@pytest.mark.parametrize("case", ["uneven 1d", "grouped 2d"])
@pytest.mark.parametrize("method", ["svd", "depthwise_separable", "tucker"])
@pytest.mark.parametrize("with_data", [False, True])
def test_several_budgets_are_met_as_one_after_another(case: str, method: str, with_data: bool) -> None:
    layer = cases.layer(case)
    stats = contracts.statistics_of(layer, contracts.correlated_inputs(layer)) if with_data else None
    scheme, shares = registered()[method].scheme(layer), (0.001, 0.3, 0.5, 0.7, 0.71, 0.9)
    found = affordable(scheme, Request(budget=1.0, of="parameters", statistics=stats), shares)
    expected: dict[Any, Factorization] = {}
    for share in shares:
        try:
            f = tc.methods()[method](layer, budget=share, of="parameters", statistics=stats)
        except RankError:
            continue
        expected[f.rank] = f
    assert [f.rank for f in found] == list(expected)[::-1]
    for f in found:
        contracts.check_same(f, expected[f.rank])


# ---- what a result says


def test_a_factorization_prints_what_it_is() -> None:
    f = tc.svd(tc.ConvLayer.of(KERNEL, np.ones(8)), 3)
    head, *table = str(f).splitlines()
    assert head == (
        f"svd, rank 3, relative error {f.relative_error:.3g}, {f.n_parameters / 440:.1%} of the layer's 440 parameters"
    )
    assert "\n".join(table) == str(f.sequence)
    assert repr(f) == f"<Factorization by svd, rank 3, relative error {f.relative_error:.3g}>"
    assert f.n_parameters == f.sequence.n_parameters == 3 * 54 + 8 * 3 + 8
    assert (f.response_error, f.tried, f.layer.bias is not None) == (None, (), True)


def test_results_cannot_be_changed() -> None:
    f = tc.tucker(KERNEL, (4, 3))
    with pytest.raises(TypeError, match="does not support item assignment"):
        f.factors["core"] = np.zeros(3)  # type: ignore[index]
    for array in (f.kernel, *f.factors.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert f.kernel is f.kernel
    assert f.sequence is f.sequence


# ---- the registry


def test_methods_are_the_public_functions_and_those_that_search_come_last() -> None:
    for name, function in tc.methods().items():
        assert function is getattr(tc, name)
        assert registered()[name].function is function
    assert {"depthwise_separable", "svd", "tucker", "cp"} <= set(tc.methods())
    searching = [method.searches for method in registered().values()]
    assert searching == sorted(searching)
    assert list(tc.methods())[-2:] == ["cp", "decoupled"]
    with pytest.raises(TypeError, match="does not support item assignment"):
        tc.methods()["mine"] = tc.svd  # type: ignore[index]


def test_a_name_is_registered_once() -> None:
    def svd() -> None: ...

    with pytest.raises(RankError, match=r"^method 'svd' is registered already; choose another name$"):
        register(lambda _: [], registered()["svd"].scheme)(svd)
    assert tc.methods()["svd"] is tc.svd


# ---- TensorLy


RECONSTRUCT: dict[str, Callable[[Any], Any]] = {
    "cp": cp_to_tensor,
    "tucker": tucker_to_tensor,
    "tensor_train": lambda train: np.moveaxis(tt_to_tensor(train), -1, 0),  # the out-channels stand last there
}


def tensorly_cases() -> list[tuple[str, dict[str, Any], str]]:
    return [
        (method, options, case)
        for case in ("unequal 2d", "grouped 2d", "one tap on an axis 2d", "grouped 3d", "transposed 1d", "depthwise 2d")
        for method, options in cases.variants(cases.layer(case))
        if method in RECONSTRUCT
    ]


@pytest.mark.parametrize(("method", "options", "case"), tensorly_cases(), ids=str)
def test_tensorly_reconstructs_the_kernel(method: str, options: dict[str, Any], case: str) -> None:
    layer = cases.layer(case)
    f = cases.fitted(layer, method, options, cases.middle(layer, method, options))
    bound = contracts.reconstruction_bound(f)
    blocks, bounds = (np.split(array, layer.geometry.groups) for array in (f.kernel, bound))
    with tensorly.backend_context("numpy", local_threadsafe=True):
        for group, (block, slack) in enumerate(zip(blocks, bounds, strict=True)):
            whole = RECONSTRUCT[method](f.to_tensorly(group))
            # merged axes are one mode there
            assert np.all(np.abs(whole.reshape(block.shape) - block) <= slack)


@pytest.mark.parametrize("method", RECONSTRUCT)
def test_tensorlys_backend_stays_what_it_was(method: str) -> None:
    contracts.check_tensorly(method)


@pytest.mark.parametrize("method", ["svd", "depthwise_separable"])
def test_what_tensorly_does_not_have_is_refused(method: str) -> None:
    message = f"TensorLy has no decomposition for method {method!r}; use f.factors, or method "
    with pytest.raises(UnsupportedExportError, match=f"^{re.escape(message)}.*cp"):
        tc.methods()[method](KERNEL, 2).to_tensorly()


def test_the_class_of_results_is_public() -> None:
    assert isinstance(tc.svd(KERNEL, 1), Factorization)
    assert tc.Factorization is Factorization


def test_results_survive_copies_and_processes() -> None:
    f = tc.tucker(np.random.default_rng(0).standard_normal((6, 5, 3, 3)).astype("f4"), rank=(4, 3))
    for again in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f)):  # noqa: S301 - our own bytes
        assert again.rank == f.rank
        assert again.kernel.tobytes() == f.kernel.tobytes()
        assert not any(factor.flags.writeable for factor in again.factors.values())
        assert not again.sequence.layers[0].kernel.flags.writeable


@pytest.mark.parametrize("call", [lambda k: tc.cp(k, 2, merge_spatial="no"), lambda k: tc.tucker(k, 2, spatial="no")])
def test_text_is_no_truth_value(call: Any) -> None:
    with pytest.raises(GeometryError, match="must be True or False, got 'no'"):
        call(np.ones((4, 3, 3, 3)))
