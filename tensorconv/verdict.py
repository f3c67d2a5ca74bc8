"""Report: what a verification found, for people and for machines."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tensorconv.text import aligned_table


@dataclass(frozen=True)
class Report:
    """What :func:`verify` found; prints as a table.

    Parameters
    ----------
    consistent : bool or None
        Whether the sequence, as executed on seeded inputs, is the one convolution it composes to, to rounding; None
        where no single convolution exists.
    exact : bool
        Whether kernel, bias and geometry are the layer's, to rounding in the data type of the factors. Where no single
        convolution exists: whether the executed outputs agree to rounding, borders included.
    kernel_error : float or None
        Relative Frobenius distance of the kernels; None where the geometries differ, so that it would mean nothing.
    bias_error : float
        Relative distance of the biases (a missing bias is zero).
    output_error : float or None
        Relative error of the output on the given x; None without x, inf where the shapes differ.
    operator_bound : float
        Certified for exact arithmetic, every input and every size:
        ``||(y - b) - (y' - b')||_2 <= operator_bound * ||x||_2``; inf where output sizes differ.
    n_parameters : (int, int)
        Stored entries of the layer and of the sequence.
    macs : (int, int)
        Multiply-accumulates per image of ``input_size``.
    input_size : tuple of int
        Spatial size that ``macs`` and the executed check are for.
    geometries : (str, str) or None
        The layer's geometry and the composed one, in words, where they differ.
    """

    consistent: bool | None
    exact: bool
    kernel_error: float | None
    bias_error: float
    output_error: float | None
    operator_bound: float
    n_parameters: tuple[int, int]
    macs: tuple[int, int]
    input_size: tuple[int, ...]
    geometries: tuple[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary of plain values for JSON, which has no infinite numbers.

        Returns
        -------
        dict
            Field name to bool, int, float, str, tuple of these, or None; None also for an infinite number.
        """
        fields = asdict(self)
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """Return the report whose fields :meth:`to_dict` returned, also after a way through JSON.

        Parameters
        ----------
        values : dict
            Field name to value.

        Returns
        -------
        Report
            The same; where a number must be there and None stands for it, it is infinite.
        """
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        for name in ("bias_error", "operator_bound"):
            fields[name] = math.inf if fields[name] is None else fields[name]
        return cls(**fields)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Every finding in words: check, result, meaning."""
        words = {True: "yes", False: "NO", None: "no single convolution"}
        rows: list[tuple[str, str, str]] = [
            ("consistent", words[self.consistent], "as executed, the sequence is the convolution it composes to"),
            ("exact", "yes" if self.exact else "no", "and that convolution is the layer, to rounding"),
            ("kernel error", _number(self.kernel_error), "relative Frobenius distance of the kernels"),
            ("bias error", _number(self.bias_error), "relative distance of the biases"),
            ("output error", _number(self.output_error), "relative, on the given input"),
            ("operator bound", _number(self.operator_bound), "certified: |output difference| <= bound * |input|"),
            ("parameters", *_change(self.n_parameters)),
            ("MACs", *_change(self.macs)),
        ]
        rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} at input {'x'.join(map(str, self.input_size))}")
        if self.geometries is not None:
            rows.insert(2, ("geometry", "differs", " against ".join(self.geometries)))
        return tuple(row for row in rows if row[1] != "-")

    def __str__(self) -> str:
        return aligned_table([("check", "result", "meaning"), *self.rows])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _change(pair: tuple[int, int]) -> tuple[str, str]:
    share = f"{pair[1] / pair[0]:.1%} of the layer's" if pair[0] else "the layer has none"
    return f"{pair[0]:,} -> {pair[1]:,}", share
