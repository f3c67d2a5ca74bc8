"""verify: is this sequence the layer it replaces? Exactly, or how far off, under the real geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tensorconv.arrays import Array, smallest_normal, unit_roundoff
from tensorconv.certificates import U64, gamma, n_roundings, operator_norm_bound, pad_norm_bound, rounding_bound
from tensorconv.convolution import Part, as_data, comparable, compose_parts, convolve, pad_by_values
from tensorconv.errors import GeometryError, KernelTypeError
from tensorconv.integers import per_axis
from tensorconv.layers import ConvLayer, ConvSequence, PadLayer, as_layer, as_sequence
from tensorconv.linalg import as_generator, unit_scale
from tensorconv.verdict import Report

# A backward-stable factorization is off by some float64 roundings of the kernel's norm, whatever the entry. How many
# differs from BLAS to BLAS: of 400 small kernels of low multilinear rank, Tucker was off by more than 8 for 3 %, and by
# 45 at most.
FACTORIZATION_SLACK = 64


def verify(
    layer: Any, sequence: Any, x: Any = None, *, input_size: Sequence[int] | None = None, rng: Any = 0
) -> Report:
    """Check a sequence of convolutions against the layer it stands for.

    Parameters
    ----------
    layer : ConvLayer, array_like or ConvSequence
        The original; a plain (O, I, K1..KN) array means stride 1 without padding. A layer whose input is padded by
        values is the sequence of its :class:`PadLayer` and itself; the replacement must begin with the same padding.
    sequence : ConvLayer, ConvSequence or object with ``.sequence``
        The replacement, from a factorization or written by hand.
    x : array_like, shape (B, C, L1..LN), optional
        Data to measure ``output_error`` on, in float64.
    input_size : sequence of int, optional
        Spatial size for the executed check and the MACs; that of x, or a small one with borders and an inside, if not
        given.
    rng : int or numpy.random.Generator
        Seed of the inputs of the executed check.

    Returns
    -------
    Report
        The findings.

    Raises
    ------
    GeometryError
        If channels or spatial axes of layer and sequence differ, or ``input_size`` does not fit.
    KernelError, KernelTypeError
        If an array cannot be used.

    Notes
    -----
    ``exact`` means ``|compose(s) - W| <= gamma(L, u) compose(|s|)`` elementwise for L factors stored with unit roundoff
    u, plus the float64 roundings of composing and, for more than one layer, 64 of factorizing, relative to ``||W||_F``
    as those of a backward-stable algorithm are. The executed check runs
    in float64 on normal inputs and allows what :func:`tensorconv.certificates.rounding_bound` allows.

    Examples
    --------
    >>> layer = ConvLayer.of(np.ones((4, 4, 3, 3)), padding=1)
    >>> report = verify(layer, layer)
    >>> report.consistent, report.exact, report.operator_bound
    (True, True, 0.0)
    """
    if isinstance(layer, ConvSequence) and isinstance(layer.layers[0], PadLayer):
        return _verify_padded(layer, as_sequence(sequence), x, input_size, rng)
    original, steps = as_layer(layer), as_sequence(sequence)
    _check_channels(original, steps)
    data = None if x is None else as_data(x, original.geometry.ndim).astype(np.float64)
    size = _choose_size(original, steps, data, input_size)
    outputs_differ = _outputs_differ(original, steps, size)
    probe = as_generator(rng).standard_normal((1, original.in_channels, *size))
    composed = _composed(steps)
    bias_error = _relative_distance(_bias(original), _bias(steps.convolutions[-1]))
    consistent, kernel_error, exact, geometries = None, None, False, None
    if composed is None:
        exact = not outputs_differ and _same_output(size, original, steps, rng)
        bound = _operator_norm(original.sequence) + _operator_norm(steps)
    else:
        single = ConvLayer(*composed, _bias(steps.convolutions[-1]))
        del composed  # large kernels are in memory as seldom as can be
        consistent = _is_consistent(probe, steps, single)
        v, w = comparable((single.kernel, single.geometry), (original.kernel, original.geometry))
        if w[0].shape == v[0].shape and w[1] == v[1]:
            difference = w[0].astype(np.float64)
            norm, groups = _norm(difference), w[1].groups
            np.subtract(v[0], difference, out=difference)
            kernel_error = _ratio(_norm(difference), norm)
            n_taps, geometry = math.prod(w[0].shape[2:]), single.geometry
            del single, v, w
            magnitude = _composed_magnitudes(steps)
            rounding = n_taps**0.5 * _norm(magnitude) * _float64_growth(steps) if len(steps) > 1 else 0.0
            magnitude *= gamma(len(steps), unit_roundoff(steps.dtype)) + _float64_growth(steps)
            slack = comparable((magnitude, geometry), (original.kernel, original.geometry))[0][0]
            del magnitude
            more = FACTORIZATION_SLACK * U64 * norm if len(steps) > 1 else 0.0
            is_near = all(bool((np.abs(d) <= s + more).all()) for d, s in zip(difference, slack, strict=True))
            del slack
            exact = consistent and is_near and _same_bias(original, steps)
            bound = operator_norm_bound(difference, groups) + rounding
        else:
            bound = _operator_norm(original.sequence) + _operator_norm(steps)
            geometries = (_in_words(w), _in_words(v))
    return Report(
        consistent=consistent,
        exact=exact,
        kernel_error=kernel_error,
        bias_error=bias_error,
        output_error=None if data is None else _output_error(data, original, steps),
        operator_bound=math.inf if outputs_differ else bound,
        n_parameters=(original.n_parameters, steps.n_parameters),
        macs=(original.macs(size), steps.macs(size)),
        input_size=size,
        geometries=geometries,
    )


def _verify_padded(
    original: ConvSequence, steps: ConvSequence, x: Any, input_size: Sequence[int] | None, rng: Any
) -> Report:
    """Check what follows the padding that original and steps begin with, for the padded input."""
    pad, steps_pad = original.layers[0], steps.layers[0]
    if not isinstance(pad, PadLayer) or not isinstance(steps_pad, PadLayer) or str(pad) != str(steps_pad):
        raise GeometryError(
            f"sequence must begin with the layer's {pad}, got {steps_pad}; put it before what replaces the "
            "convolution: ConvSequence([padding, *replacement])"
        )
    first, *others = original.layers[1:]
    if others and not isinstance(first, PadLayer):
        raise KernelTypeError(
            f"layer must be one convolution after its padding, got {len(original) - 1} steps; compose them first, and "
            "put the padding before the result"
        )
    report = verify(
        ConvSequence(original.layers[1:]) if isinstance(first, PadLayer) else first,
        ConvSequence(steps.layers[1:]),
        None if x is None else pad_by_values(as_data(x, pad.ndim), pad),
        input_size=None if input_size is None else pad.output_size(input_size),
        rng=rng,
    )
    size = report.input_size if input_size is None else per_axis("input_size", input_size, pad.ndim, at_least=1)
    return replace(report, operator_bound=report.operator_bound * pad_norm_bound(pad), input_size=size)


def _composed(steps: ConvSequence) -> Part | None:
    """Return the one convolution that the steps are, or None where there is none."""
    if steps.pads:
        return None
    try:
        return compose_parts([(step.kernel, step.geometry) for step in steps.convolutions])
    except GeometryError:
        return None


def _check_channels(layer: ConvLayer, steps: ConvSequence) -> None:
    ours = (layer.in_channels, layer.out_channels, layer.geometry.ndim)
    theirs = (steps.in_channels, steps.out_channels, steps.ndim)
    if ours != theirs:
        raise GeometryError(
            f"sequence has (in-channels, out-channels, spatial axes) {theirs}, the layer has {ours}; "
            "verify a sequence against the layer it was made from"
        )


def _choose_size(
    layer: ConvLayer, steps: ConvSequence, data: Array | None, input_size: Sequence[int] | None
) -> tuple[int, ...]:
    """Return the size asked for, or the smallest with an inside: two strides more than all extents and crops."""
    if input_size is not None:
        return layer.geometry.spatial_size(input_size)
    if data is not None:
        return tuple(data.shape[2:])
    size = [3] * layer.geometry.ndim
    for step in (layer, *steps.convolutions):
        g = step.geometry
        for axis, k in enumerate(step.kernel_size):
            crop = sum(max(p, 0) if g.transposed else max(-p, 0) for p in g.padding[axis])
            size[axis] = max(size[axis], g.dilation[axis] * (k - 1) + 1 + 2 * g.stride[axis] + crop)
    for _ in range(8):  # a sequence by hand may shrink its input several times
        try:
            steps.output_size(size)
            break
        except GeometryError:
            size = [2 * n for n in size]
    return tuple(size)


def _sizes(layer: ConvLayer, steps: ConvSequence, size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield this size and those a little larger, until the product of all strides.

    What the borders and the sizes of outputs depend on repeats with it, so what agrees over that range agrees for every
    size.
    """
    strides = [step.geometry.stride for step in (layer, *steps.convolutions)]
    period = max(math.prod(axis) for axis in zip(*strides, strict=True))
    yield from (tuple(n + more for n in size) for more in range(period))


def _outputs_differ(layer: ConvLayer, steps: ConvSequence, size: tuple[int, ...]) -> bool:
    """Whether layer and steps give outputs of different size, for this input or one a little larger."""
    return any(layer.output_size(n) != steps.output_size(n) for n in _sizes(layer, steps, size))


def _bias(layer: ConvLayer) -> Array:
    return np.zeros(layer.out_channels) if layer.bias is None else layer.bias.astype(np.float64)


def _is_consistent(probe: Array, steps: ConvSequence, single: ConvLayer) -> bool:
    """Whether running the steps and running the composed layer agree within both runs' rounding bounds."""
    one, many = convolve(probe, single), convolve(probe, steps)
    if one.shape != many.shape:
        return False
    many_bound = rounding_bound(probe, steps)
    bound = rounding_bound(probe, single) + many_bound * 2  # the kernel was composed with the steps' own roundings
    return bool((np.abs(one - many) <= bound).all())


def _same_output(size: tuple[int, ...], layer: ConvLayer, steps: ConvSequence, rng: Any) -> bool:
    """Whether layer and steps give the same output, to the rounding of stored factors and of both runs."""
    stored = gamma(len(steps), unit_roundoff(steps.dtype))
    generator = as_generator(rng)
    for one in _sizes(layer, steps, size):
        probe = generator.standard_normal((1, layer.in_channels, *one))
        executed = rounding_bound(probe, steps)
        bound = rounding_bound(probe, layer) + executed + stored * executed / _float64_growth(steps)
        if not (np.abs(convolve(probe, layer) - convolve(probe, steps)) <= bound).all():
            return False
    return True


def _float64_growth(steps: ConvSequence) -> float:
    return gamma(sum(map(n_roundings, steps.convolutions)), U64)


def _composed_magnitudes(steps: ConvSequence) -> Array:
    """Return the composition of absolute values, which times some roundings bounds what they do to the composed kernel.

    Each stored entry f is off by at most u |f| plus half the smallest subnormal, that is u (|f| + smallest normal).
    """
    tiny = smallest_normal(steps.dtype)
    kernels = [np.abs(step.kernel.astype(np.float64)) for step in steps.convolutions]
    kernels = [kernel + tiny * (kernel.max() > 0) for kernel in kernels]
    return compose_parts([(kernel, step.geometry) for kernel, step in zip(kernels, steps.convolutions, strict=True)])[0]


def _same_bias(layer: ConvLayer, steps: ConvSequence) -> bool:
    ours, theirs = _bias(layer), _bias(steps.convolutions[-1])
    return bool(
        (np.abs(ours - theirs) <= unit_roundoff(steps.dtype) * np.abs(ours) + smallest_normal(steps.dtype)).all()
    )


def _operator_norm(steps: ConvSequence) -> float:
    return math.prod(
        pad_norm_bound(step) if isinstance(step, PadLayer) else operator_norm_bound(step.kernel, step.geometry.groups)
        for step in steps.plain
    )


def _relative_distance(reference: Array, other: Array) -> float:
    """Return ||other - reference|| / ||reference||; 0 for equal arrays, inf for a zero reference that is missed."""
    return _ratio(_norm(other - reference), _norm(reference))


def _ratio(distance: float, norm: float) -> float:
    return 0.0 if distance == 0 else distance / norm if norm else math.inf


def _norm(array: Array) -> float:
    """Return the Frobenius norm, safe from overflow and underflow of squares."""
    scale = unit_scale(array) if np.isfinite(array).all() else 1.0
    return scale * math.hypot(*(float(np.linalg.norm(part.ravel() / scale)) for part in array))


def _output_error(data: Array, layer: ConvLayer, steps: ConvSequence) -> float:
    before, after = convolve(data, layer), convolve(data, steps)
    return _relative_distance(before, after) if before.shape == after.shape else math.inf


def _in_words(part: Part) -> str:
    return f"kernel {'x'.join(map(str, part[0].shape[2:]))}, {part[1]}"
