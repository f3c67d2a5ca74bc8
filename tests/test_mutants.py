"""Bugs seen in other libraries, planted here one at a time: the check that must catch each of them does."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import cases
import contracts
import numpy as np
import pytest
import tensorly
import torch
from export import sequences
from export.runtimes import assert_onnx_computes
from oracles import reference_bound, reference_sequence
from threadpoolctl import threadpool_info

import tensorconv as tc
from tensorconv.export.padding import Convolution

Patch = pytest.MonkeyPatch
Check = Callable[[], object]


@dataclass(frozen=True)
class Mutant:
    """A bug, how it is planted, and the check that must catch it."""

    name: str
    plant: Callable[[Patch], None]
    check: Check


def module(name: str) -> Any:
    """Return a module of the library; where a function has its name, attributes do not lead there."""
    return importlib.import_module(f"tensorconv.{name}")


class Instead:
    """A module with some of its names replaced, for one that imports it to see."""

    def __init__(self, original: ModuleType, **names: Any) -> None:
        self.original, self.names = original, names

    def __getattr__(self, name: str) -> Any:
        return self.names[name] if name in self.names else getattr(self.original, name)


# ---- checks, on results made afresh while the bug is there


def law(
    check: Callable[..., None], case: str, method: str, rank: Any = None, dtype: str = "float64", **options: Any
) -> Check:
    """Return a check of layer and result; without a rank, of the result at full rank."""

    def run() -> None:
        layer = cases.layer(case, dtype)
        most = cases.maximum(layer, method, options)
        f = cases.fitted(layer, method, options, rank or (most[0] if len(most) == 1 else most))
        check(layer, f, *([cases.input_size(layer)] if check in SIZED else []))

    return run


SIZED = (contracts.check_execution, contracts.check_operator_bound)


def check_torch() -> None:
    """Torch computes transposed layers whose padding it has no words for."""
    for kind in ("transposed_unequal", "extended", "transposed_dilated", "output_padding"):
        sequence = sequences.layer(kind, 2, bias=False).sequence
        x = sequences.data(2)
        with torch.no_grad():
            y = tc.export.dump(sequence, "torch")(torch.from_numpy(x)).numpy()
        expected = reference_sequence(x, sequence)
        assert y.shape == expected.shape
        assert np.all(np.abs(y - expected) <= reference_bound(x, sequence, [contracts.U64, contracts.U64]))


def check_onnx() -> None:
    """ONNX Runtime computes asymmetric padding at stride 2."""
    sequence = sequences.layer("asymmetric", 2, "float32").sequence
    assert_onnx_computes(tc.export.dump(sequence, "onnx"), sequence, sequences.data(2, "float32"))


def check_safetensors() -> None:
    """Arrays that do not lie in memory in order of their axes come back bitwise."""
    sequence = sequences.chain(2)
    described = module("export.safetensors").describe

    def strided(steps: tc.ConvSequence) -> tuple[str, dict[str, Any]]:
        text, arrays = described(steps)
        return text, {name: np.asfortranarray(array) for name, array in arrays.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module("export.safetensors"), "describe", strided)
        content = tc.export.dump(sequence, "safetensors")
    sequences.assert_same(tc.export.load(content, "safetensors"), sequence)


def check_channels() -> None:
    """Orders of channels and a channel-wise convolution of several maps are executed, folded and exported."""
    sequence, x = sequences.channelwise(2), sequences.data(2)
    bound = reference_bound(x, sequence, [contracts.U64, contracts.U64])
    expected = reference_sequence(x, sequence)
    assert np.all(np.abs(tc.convolve(x, sequence) - expected) <= bound)
    assert np.all(np.abs(tc.convolve(x, tc.compose(sequence)) - expected) <= 2 * bound)
    with torch.no_grad():
        y = tc.export.dump(sequence, "torch")(torch.from_numpy(x)).numpy()
    assert np.all(np.abs(y - expected) <= bound)


def check_values_at_borders() -> None:
    """Mirrored values do not repeat the border's own."""
    sequence, x = sequences.padded(2, "reflect"), sequences.data(2)
    expected = reference_sequence(x, sequence)
    assert np.all(np.abs(tc.convolve(x, sequence) - expected) <= reference_bound(x, sequence, [contracts.U64] * 2))


def check_deficient() -> None:
    """Terms that are all the same, and more than are needed, are fitted."""
    try:
        f = tc.cp(np.ones((8, 6, 3, 3)), 5)
    except np.linalg.LinAlgError as failure:
        raise AssertionError(f"a singular system: {failure}") from failure
    assert f.relative_error < 1e-6


def separate_groups() -> None:
    contracts.check_groups(cases.layer("grouped 2d", "float32"), "svd", {}, 2)


def within_budget() -> None:
    contracts.check_budget(cases.layer("unequal 2d"), "svd", {}, 0.7)


def balanced(layer: tc.ConvLayer, f: tc.Factorization) -> None:
    del layer
    contracts.check_balanced(f)


# ---- bugs


def geometry(change: Callable[[tc.ConvGeometry], tc.ConvGeometry]) -> Callable[[Patch], None]:
    """Plant a change of every geometry that a factorization hands to a layer with spatial axes."""
    original = tc.ConvGeometry.on_axes

    def planted(self: tc.ConvGeometry, axes: Any, groups: int = 1) -> tc.ConvGeometry:
        return change(original(self, axes, groups))

    return lambda patch: patch.setattr(tc.ConvGeometry, "on_axes", planted)


def layers(method: str, change: Callable[[tc.ConvLayer], tc.ConvLayer]) -> Callable[[Patch], None]:
    """Plant a change of the layer that a method is given."""

    def plant(patch: Patch) -> None:
        home = module(f"factorizations.{method}")
        original = home.as_layer
        patch.setattr(home, "as_layer", lambda value: change(original(value)))

    return plant


def svd_factors(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Patch], None]:
    """Plant a change of the factors that svd finds."""

    def plant(patch: Patch) -> None:
        fitter = module("factorizations.svd").SplitSVDFitter
        original = fitter.factors
        patch.setattr(fitter, "factors", lambda self, rank: change(original(self, rank)))

    return plant


def errors(formula: Callable[[Any, Any], float]) -> Callable[[Patch], None]:
    """Plant another way to compute the error: from the kernel and from what the factors mean, both (G, O/G, I, K..)."""

    def planted(scheme: Any, factors: Any) -> float:
        kernel = scheme.layer.kernel.reshape(scheme.block_shape).astype(np.float64)
        return formula(kernel, scheme.reconstruct(dict(factors), slice(None)))

    return lambda patch: patch.setattr(module("factorizations.solve"), "relative_error", planted)


def by_inner_products(kernel: Any, other: Any) -> float:
    squared = np.sum(kernel**2) - 2 * np.sum(kernel * other) + np.sum(other**2)
    return float(np.sqrt(max(squared, 0.0) / np.sum(kernel**2)))


def before_storage(kernel: Any, other: Any) -> float:
    return float(np.linalg.norm((kernel - other).ravel()) / np.linalg.norm(kernel.ravel()))


def too_small(kernel: Any, other: Any) -> float:
    return 0.8 * before_storage(kernel, other)


def mixed_groups(patch: Patch) -> None:
    fitter = module("factorizations.svd").SplitSVDFitter
    original = fitter.unfolding.func
    patch.setattr(fitter, "unfolding", property(lambda self: original(self)[::-1].copy()))


def skipped_step(patch: Patch) -> None:
    scheme = module("factorizations.cp").CP

    def skipping(original: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def planted(self: Any, argument: Any) -> list[Any]:
            first, *middle, last = original(self, argument)
            return [first, last] if self.merge_spatial and self.layer.geometry.ndim > 3 else [first, *middle, last]

        return planted

    patch.setattr(scheme, "chain", skipping(scheme.chain))
    patch.setattr(scheme, "kernels", skipping(scheme.kernels))


def padded_twice(patch: Patch) -> None:
    scheme = module("factorizations.scheme").Scheme
    padded = lambda self, groups: tc.ConvGeometry.of(self.layer.geometry.ndim, padding=1, groups=groups)  # noqa: E731
    patch.setattr(scheme, "pointwise", padded)


def dense_sequence(patch: Patch) -> None:
    rebuilt = property(lambda self: tc.ConvSequence((tc.ConvLayer(self.kernel, self.layer.geometry, self.layer.bias),)))
    patch.setattr(tc.Factorization, "sequence", rebuilt)


def global_start(patch: Patch) -> None:
    home = module("factorizations.cp_fitter")
    original = home.cp_als

    def planted(tensor: Any, rank: int, *, rng: Any = 0, start: Any = None, **rest: Any) -> Any:
        del rng
        gaussian = np.random.standard_normal  # the bug
        return original(tensor, rank, start=start or [gaussian((n, rank)) for n in tensor.shape], **rest)

    patch.setattr(home, "cp_als", planted)


def own_state(patch: Patch) -> None:
    home = module("factorizations.cp_fitter")
    original, seeds = home.cp_als, itertools.count()
    patch.setattr(home, "cp_als", lambda *arguments, **rest: original(*arguments, **(rest | {"rng": next(seeds)})))


def solved_as_they_are(patch: Patch) -> None:
    patch.setattr(module("linalg.cp_sweeps"), "solve", lambda gram, target, _: np.linalg.solve(gram, target.T).T)


def many_threads(patch: Patch) -> None:
    patch.setattr(module("factorizations.solve"), "one_blas_thread", contextlib.nullcontext)

    def change(found: dict[str, Any]) -> dict[str, Any]:
        threads = max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return found | {"first": found["first"] * (1 + 2.0**-50 * threads)}

    svd_factors(change)(patch)


def swapped_ranks(patch: Patch) -> None:
    home = module("factorizations.tucker")
    original = home.solve
    patch.setattr(home, "solve", lambda scheme, request: original(scheme, replace(request, rank=request.rank[::-1])))


def one_rank_more(patch: Patch) -> None:
    searches = module("searches")
    original = searches.first_meeting

    def planted(attempt: Any, error: float, predicted: Any, maximum: int, **rest: Any) -> int:
        rank = min(original(attempt, error, predicted, maximum, **rest) + 1, maximum)
        attempt(rank)
        return int(rank)

    patch.setattr(searches, "first_meeting", planted)


def rank_zero(patch: Patch) -> None:
    ranks = module("ranks")
    first = lambda tail, allowed, most: min(int(np.argmax(tail <= allowed)), most)  # noqa: E731
    patch.setattr(ranks, "_first_rank", first)


def signed_comparison(patch: Patch) -> None:
    patch.setattr(module("verification"), "np", Instead(np, abs=lambda a: a))


def matrix_norm(patch: Patch) -> None:
    def planted(kernel: Any, groups: int) -> float:
        return max(float(np.linalg.norm(part.reshape(len(part), -1), 2)) for part in np.split(kernel, groups))

    patch.setattr(module("verification"), "operator_norm_bound", planted)


def memory_as_it_lies(patch: Patch) -> None:
    patch.setattr(module("export.safetensors"), "_bits", lambda array: array.ravel(order="K").view(np.uint8))


def interleaved_maps(patch: Patch) -> None:
    def planted(x: Any, view: Any, bias: Any) -> Any:
        y = np.moveaxis(view(x[:, None]), 1, 2)
        y = y.reshape(len(y), -1, *y.shape[3:])
        return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))

    patch.setattr(module("convolution.run"), "convolve_channels", planted)


def backward_order(patch: Patch) -> None:
    planted = lambda x, layer: np.take(x, layer.inverse.order, axis=1)  # noqa: E731
    patch.setattr(module("convolution.run"), "permute_channels", planted)


def unordered_bias(patch: Patch) -> None:
    bias = property(lambda self: [layer for layer in self if isinstance(layer, tc.ChannelwiseLayer)][-1].bias)
    patch.setattr(tc.ConvSequence, "bias", bias)


def repeated_border(patch: Patch) -> None:
    modes = {"reflect": "symmetric", "replicate": "edge", "circular": "wrap"}
    patch.setattr(module("convolution.pad"), "NUMPY_MODES", modes)


def clamped_padding(patch: Patch) -> None:
    def planted(sequence: tc.ConvSequence, says: Any, framework: str) -> Iterator[Convolution]:
        del says, framework
        for layer in sequence.convolutions:
            g = layer.geometry
            pairs = tuple(
                (max(low, 0), max(low, 0) - min(max(low - high, 0), s - 1))
                for s, (low, high) in zip(g.stride, g.padding, strict=True)
            )
            yield Convolution(layer, pairs)

    patch.setattr(module("export.torch"), "split_padding", planted)


def automatic_padding(patch: Patch) -> None:
    helper = module("export.onnx").helper
    original = helper.make_node

    def planted(kind: str, *arguments: Any, **attributes: Any) -> Any:
        if kind == "Conv":
            del attributes["pads"]
            attributes["auto_pad"] = "SAME_UPPER"
        return original(kind, *arguments, **attributes)

    patch.setattr(module("export.onnx"), "helper", Instead(helper, make_node=planted))


def flipped_backend(patch: Patch) -> None:
    bridge = module("factorizations.tensorly")
    original = bridge.cp_tensor

    def planted(*arguments: Any) -> Any:
        tensorly.set_backend("pytorch")
        return original(*arguments)

    patch.setattr(bridge, "cp_tensor", planted)


def first_of(field: str) -> Callable[[tc.ConvGeometry], tc.ConvGeometry]:
    """Take the entry of axis 0 for every axis."""

    def change(g: tc.ConvGeometry) -> tc.ConvGeometry:
        values: dict[str, Any] = {field: (getattr(g, field)[0],) * g.ndim}
        return replace(g, **values)

    return change


def no_dilation(g: tc.ConvGeometry) -> tc.ConvGeometry:
    return replace(g, dilation=(1,) * g.ndim)


def low_at_both_ends(g: tc.ConvGeometry) -> tc.ConvGeometry:
    return replace(g, padding=tuple((low, low) for low, _ in g.padding))


def forward(g: tc.ConvGeometry) -> tc.ConvGeometry:
    return replace(g, transposed=False)


def no_groups(layer: tc.ConvLayer) -> tc.ConvLayer:
    return tc.ConvLayer(layer.kernel, replace(layer.geometry, groups=1), layer.bias)


def no_bias(layer: tc.ConvLayer) -> tc.ConvLayer:
    return tc.ConvLayer(layer.kernel, layer.geometry)


def reversed_components(found: dict[str, Any]) -> dict[str, Any]:
    return found | {"first": found["first"][:, ::-1].copy()}


def untrained(found: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(factor.shape) for name, factor in found.items()}


def lopsided(found: dict[str, Any]) -> dict[str, Any]:
    return {"first": 2 * found["first"], "second": found["second"] / 2}


# ---- the table

composition, execution = contracts.check_composition, contracts.check_execution
exact, true = contracts.check_exact, contracts.check_error
few = cases.layer("unequal 2d")
MUTANTS = [
    Mutant("stride[0] on every axis", geometry(first_of("stride")), law(composition, "unequal 2d", "svd", 3)),
    Mutant("stride[0] on every axis, run", geometry(first_of("stride")), law(execution, "unequal 2d", "svd", 3)),
    Mutant("padding[0] on every axis", geometry(first_of("padding")), law(composition, "unequal 2d", "cp", 3)),
    Mutant("padding[0] on every axis, run", geometry(first_of("padding")), law(execution, "even 2d", "tucker", 2)),
    Mutant("low padding at both ends", geometry(low_at_both_ends), law(execution, "cropping 2d", "svd", 2, split=(0,))),
    Mutant("output padding dropped", geometry(low_at_both_ends), law(execution, "transposed 1d", "tucker", 2)),
    Mutant("dilation dropped", geometry(no_dilation), law(composition, "grouped 2d", "depthwise_separable", 2)),
    Mutant("dilation dropped, run", geometry(no_dilation), law(execution, "unequal 3d", "cp", 4)),
    Mutant("transposition dropped", geometry(forward), law(composition, "transposed 2d", "svd", 2)),
    Mutant("padding of the pointwise layer too", padded_twice, law(composition, "plain 1d", "depthwise_separable", 2)),
    Mutant("groups ignored", layers("svd", no_groups), law(composition, "grouped 2d", "svd", 2)),
    Mutant("groups mixed", mixed_groups, separate_groups),
    Mutant("groups mixed, at full rank", mixed_groups, law(exact, "grouped 2d", "svd")),
    Mutant("bias lost", layers("tucker", no_bias), law(contracts.check_bias, "unequal 2d", "tucker", 2)),
    Mutant("bias lost, run", layers("cp", no_bias), law(execution, "unequal 2d", "cp", 2)),
    Mutant("merged step skipped on 4 axes", skipped_step, law(composition, "unequal 4d", "cp", 4, merge_spatial=True)),
    Mutant("factors that do not reconstruct", svd_factors(reversed_components), law(exact, "even 2d", "svd")),
    Mutant("trained weights discarded", svd_factors(untrained), law(exact, "even 2d", "svd")),
    Mutant("dense kernel rebuilt", dense_sequence, within_budget),
    Mutant("singular values on one side", svd_factors(lopsided), law(balanced, "even 2d", "svd", 2)),
    Mutant("error from inner products", errors(by_inner_products), law(true, "even 2d", "svd")),
    Mutant("error before storage", errors(before_storage), law(true, "even 2d", "svd", 3, "float16")),
    Mutant("start from the global generator", global_start, lambda: contracts.check_repeatable(lambda: tc.cp(few, 4))),
    Mutant("start from a state of its own", own_state, lambda: contracts.check_repeatable(lambda: tc.cp(few, 4))),
    Mutant("singular systems", solved_as_they_are, check_deficient),
    Mutant("any number of BLAS threads", many_threads, lambda: contracts.check_threads("svd")),
    Mutant("ranks swapped", swapped_ranks, lambda: contracts.check_rank_order("tucker", few, (4, 3))),
    Mutant("one rank more than needed", one_rank_more, lambda: contracts.check_smallest_rank(few, "svd", {})),
    Mutant("error reported too small", errors(too_small), lambda: contracts.check_meets_error(few, "cp", {}, 0.5)),
    Mutant("rank 0", rank_zero, lambda: contracts.check_rule_of_zeros("svd")),
    Mutant("comparison without abs", signed_comparison, lambda: contracts.check_verify_is_strict(few)),
    Mutant(
        "norm of a matrix for that of a map", matrix_norm, law(contracts.check_operator_bound, "plain 1d", "svd", 1)
    ),
    Mutant("memory saved as it lies", memory_as_it_lies, check_safetensors),
    Mutant("transposed padding clamped", clamped_padding, check_torch),
    Mutant("maps of a channel-wise convolution interleaved", interleaved_maps, check_channels),
    Mutant("order of channels backwards", backward_order, check_channels),
    Mutant("bias not ordered with its channels", unordered_bias, check_channels),
    Mutant("mirrored border repeated", repeated_border, check_values_at_borders),
    Mutant("auto_pad", automatic_padding, check_onnx),
    Mutant("TensorLy's backend flipped", flipped_backend, lambda: contracts.check_tensorly("cp")),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_check_catches_the_bug(mutant: Mutant) -> None:
    mutant.check()
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(patch)
        with pytest.raises(AssertionError):
            mutant.check()
    tensorly.set_backend("numpy")  # what one of the bugs leaves behind
    mutant.check()
