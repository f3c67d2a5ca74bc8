"""Random walks through the library: layers are made, fitted, composed, saved, verified; laws hold at each step."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cases
import contracts
import hypothesis
import numpy as np
from export.sequences import assert_same
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule, run_state_machine_as_test
from reliability.outcome import Clock, Outcome

import tensorconv as tc
from tensorconv.arrays import Array, named_dtype
from tensorconv.errors import GeometryError, RankError
from tensorconv.factorizations import Factorization, registered

SHAPES = ("normal", "outer product", "copied channels", "zero channel", "tiny", "zero")
DTYPES = ("float64", "float32", "float16", "bfloat16")
MOST_ENTRIES = 400  # of a kernel: the walks are to be many


@st.composite
def any_layer(draw: Any) -> tc.ConvLayer:
    """Return a layer of any geometry, data type and kind of kernel."""
    ndim = draw(st.integers(1, 3))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    size = draw(st.tuples(*[st.integers(1, 4 if ndim == 1 else 3)] * ndim))
    shape = (groups * draw(st.integers(1, 6 // groups)), draw(st.integers(1, 5)), *size)
    hypothesis.assume(math.prod(shape) <= MOST_ENTRIES)
    kind, dtype = draw(st.sampled_from(SHAPES)), named_dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kernel = rng.standard_normal(shape)
    if kind == "outer product":
        kernel = cases.rank_one(tc.ConvLayer.of(kernel[: shape[0] // groups])).kernel.repeat(groups, 0)
    if kind == "copied channels":
        kernel[-1] = kernel[0]
    if kind == "zero channel":
        kernel[0] = 0
    kernel = kernel * {"tiny": 2.0**-8, "zero": 0.0}.get(kind, 1.0)
    transposed = draw(st.booleans())
    return tc.ConvLayer(
        kernel.astype(dtype),
        tc.ConvGeometry(
            draw(st.tuples(*[st.integers(1, 3)] * ndim)),
            draw(st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(-1, 2))] * ndim)),
            draw(st.tuples(*[st.integers(1, 2)] * ndim)),
            groups,
            transposed,
        ),
        rng.standard_normal(shape[0]).astype(dtype) if draw(st.booleans()) else None,
        draw(st.sampled_from(("", "conv", "größe/1"))),
    )


@dataclass(frozen=True, eq=False)
class Fit:
    """A factorization with the layer, bias corrected, that it stands for."""

    layer: tc.ConvLayer
    f: Factorization


@dataclass(frozen=True, eq=False)
class Data:
    """Statistics with the data that went into them."""

    layer: tc.ConvLayer
    x: Array
    square_root: bool
    statistics: tc.PatchStatistics


class Walk(RuleBasedStateMachine):
    """What anyone may do with the library, in any order."""

    steps: ClassVar[Outcome] = Outcome()

    layers: Bundle[tc.ConvLayer] = Bundle("layers")
    fits: Bundle[Fit] = Bundle("fits")
    data: Bundle[Data] = Bundle("data")

    def _count(self, what: str) -> None:
        type(self).steps.add(what)

    @rule(target=layers, layer=any_layer())
    def make(self, layer: tc.ConvLayer) -> tc.ConvLayer:
        """A layer is what it was given."""
        self._count("layers made")
        assert layer.n_parameters == layer.kernel.size + (0 if layer.bias is None else layer.bias.size)
        contracts.check_verified(layer, tc.svd(layer, cases.maximum(layer, "svd", {})[0]))
        return layer

    @rule(target=fits, layer=layers, which=st.integers(0, 99), share=st.floats(0, 1))
    def fit_a_rank(self, layer: tc.ConvLayer, which: int, share: float) -> Fit:
        """Every rank up to the largest gives a factorization that keeps the laws."""
        method, options = self._variant(layer, which)
        ranks = tuple(1 + round(share * (most - 1)) for most in cases.maximum(layer, method, options))
        f = cases.fitted(layer, method, options, ranks[0] if len(ranks) == 1 else ranks)
        self._count("ranks fitted")
        return self._checked(layer, f)

    @rule(target=fits, layer=layers, which=st.integers(0, 99), error=st.sampled_from((0.9, 0.5, 0.2)))
    def fit_an_error(self, layer: tc.ConvLayer, which: int, error: float) -> Fit:
        """An error is met, or the best is named; leaving the method open always ends well."""
        method, options = self._variant(layer, which)
        self._count("errors asked for")
        try:
            f = tc.methods()[method](layer, error=error, **options)
        except RankError as refusal:
            self._refused(refusal, "the best attained is")
            f = tc.factorize(layer, error=error)
        assert f.relative_error <= error
        return self._checked(layer, f)

    @rule(target=fits, layer=layers, which=st.integers(0, 99), budget=st.sampled_from((0.4, 0.8, 1.3)))
    def fit_a_budget(self, layer: tc.ConvLayer, which: int, budget: float) -> Any:
        """A budget is met, or the least cost is named."""
        method, options = self._variant(layer, which)
        self._count("budgets asked for")
        if options.get("configuration") not in ("sparse", "binary"):
            f = contracts.check_budget(layer, method, options, budget)
            return multiple() if f is None else self._checked(layer, f)
        try:  # what is stored depends on the kernel, and may come out below what the budget was held against
            f = tc.methods()[method](layer, budget=budget, **options)
        except RankError as refusal:
            self._refused(refusal, f"budget={budget} of macs cannot be met")
            return multiple()
        assert contracts.cost(f.sequence, "macs", None) <= budget * contracts.cost(layer.sequence, "macs", None)
        return self._checked(layer, f)

    @rule(target=layers, fit=fits)
    def compose(self, fit: Fit) -> tc.ConvLayer:
        """What a sequence composes to is a layer like any other, and a sequence verifies against it."""
        self._count("sequences composed")
        composed = tc.compose(fit.f.sequence)
        assert tc.verify(composed, fit.f.sequence).consistent
        return composed

    @rule(fit=fits, suffix=st.sampled_from((".npz", ".safetensors", ".onnx", "torch")))
    def keep(self, fit: Fit, suffix: str) -> None:
        """What is saved or exported comes back to the bit."""
        self._count("sequences kept")
        sequence = fit.f.sequence
        if suffix == "torch":
            try:
                module = tc.export.dump(sequence, "torch")
            except tc.errors.UnsupportedExportError:
                return
            assert_same(tc.export.load(module, "torch"), sequence, names=False)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"kept{suffix}"
            tc.save(path, sequence)
            dense = [replace(s, entries="dense") if isinstance(s, tc.ConvLayer) else s for s in sequence]
            assert_same(tc.load(path), tc.ConvSequence(dense) if suffix == ".onnx" else sequence)

    @rule(fit=fits, other=layers)
    def chain(self, fit: Fit, other: tc.ConvLayer) -> None:
        """Two sequences in a row are one where their channels fit; composed or not, they are judged the same way."""
        before = fit.f.sequence
        same_axes = other.geometry.ndim == fit.layer.geometry.ndim and other.dtype == fit.layer.dtype
        if before.layers[-1].bias is not None or other.in_channels != before.out_channels or not same_axes:
            return
        self._count("sequences chained")
        both = tc.ConvSequence((*before.layers, other))
        try:
            composed = tc.compose(both)
        except GeometryError:
            return
        assert composed.kernel.shape[0] == other.out_channels
        assert tc.verify(composed, both).consistent

    @rule(target=data, layer=layers, seed=st.integers(0, 99), square_root=st.booleans())
    def gather(self, layer: tc.ConvLayer, seed: int, square_root: bool) -> Data:
        """Statistics count the positions that they saw."""
        x = contracts.correlated_inputs(layer, 3, seed)
        statistics = tc.PatchStatistics(layer, square_root=square_root)
        statistics.update(x)
        self._count("statistics gathered")
        assert statistics.n_samples == len(x) * math.prod(layer.output_size(x.shape[2:]))
        return Data(layer, x, square_root, statistics)

    @rule(target=data, one=consumes(data), seed=st.integers(100, 199))
    def merge(self, one: Data, seed: int) -> Data:
        """Merging is what updating would have been, in either order, up to rounding."""
        x = contracts.correlated_inputs(one.layer, 2, seed)
        other = tc.PatchStatistics(one.layer, square_root=one.square_root)
        other.update(x)
        merged, flipped = one.statistics + other, other + one.statistics
        self._count("statistics merged")
        everything = tc.PatchStatistics(one.layer, square_root=one.square_root)
        everything.update(np.concatenate([one.x, x]))
        size = float(np.abs(everything.second_moment).max())
        n = merged.n_samples + one.layer.kernel[0].size
        slack = 64 * contracts.gamma(n, contracts.U64) * size
        for found in (merged, flipped):
            assert found.n_samples == everything.n_samples
            assert np.all(np.abs(found.second_moment - everything.second_moment) <= slack)
        return replace(one, x=np.concatenate([one.x, x]), statistics=merged)

    @rule(target=data, one=consumes(data))
    def keep_statistics(self, one: Data) -> Data:
        """Statistics come back from their file to the bit."""
        self._count("statistics kept")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "statistics.npz"
            one.statistics.save(path)
            content = path.read_bytes()
            loaded = tc.PatchStatistics.load(path)
            loaded.save(path)
            assert path.read_bytes() == content
        return replace(one, statistics=loaded)

    @rule(target=fits, one=data, which=st.integers(0, 99), share=st.floats(0, 1))
    def fit_responses(self, one: Data, which: int, share: float) -> Any:
        """A fit to responses keeps the laws with its own bias, and its error is that of the data."""
        found = [pair for pair in cases.variants(one.layer) if registered()[pair[0]].takes_statistics]
        method, options = found[which % len(found)]
        ranks = tuple(1 + round(share * (most - 1)) for most in cases.maximum(one.layer, method, options))
        self._count("responses fitted")
        request = ranks[0] if len(ranks) == 1 else ranks
        f = cases.fitted(one.layer, method, options, request, statistics=one.statistics)
        assert f.response_error is not None
        return self._checked(contracts.corrected(one.layer, f), f)

    def _refused(self, refusal: RankError, words: str) -> None:
        assert words in str(refusal)

    def _variant(self, layer: tc.ConvLayer, which: int) -> tuple[str, dict[str, Any]]:
        found = cases.variants(layer)
        return found[which % len(found)]

    def _checked(self, layer: tc.ConvLayer, f: Factorization) -> Fit:
        contracts.check_composition(layer, f)
        contracts.check_execution(layer, f, cases.input_size(layer))
        contracts.check_types(layer, f)
        if layer.kernel.any():
            contracts.check_error(layer, f)
        else:
            assert f.relative_error == 0
        report = tc.verify(layer, f)
        assert report.consistent
        assert report.operator_bound >= 0
        return Fit(layer, f)


def run(walks: int, steps: int, *, seed: int = 0) -> Outcome:
    """Walk, and count what was done; a law that is broken ends the walks and is a loss."""
    outcome = Outcome()
    Walk.steps = outcome
    chosen = settings(
        max_examples=walks,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    with Clock(outcome):
        try:
            run_state_machine_as_test(hypothesis.seed(seed)(Walk), settings=chosen)
        except (AssertionError, ArithmeticError, ValueError, TypeError, LookupError, RuntimeError, Warning) as error:
            notes = "\n".join(getattr(error, "__notes__", ()))
            outcome.losses.append(f"seed {seed}: {type(error).__name__}: {error}\n{notes}")
    return outcome
