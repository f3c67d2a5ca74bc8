"""Figures of kernels, factorizations and what they lose, by matplotlib; every function returns the axes it drew on."""

from tensorconv.plots.curves import error_curve, labelled_curves, spectra
from tensorconv.plots.diagram import chain
from tensorconv.plots.images import factors, responses

__all__ = ["chain", "error_curve", "factors", "labelled_curves", "responses", "spectra"]
