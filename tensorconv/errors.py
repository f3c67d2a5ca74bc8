"""Every error that tensorconv raises on purpose; each message names the argument, the value, the rule and the cure."""


class TensorconvError(Exception):
    """Base of all errors of this library: catch it to catch them all."""


class GeometryError(TensorconvError, ValueError):
    """A stride, padding, dilation, group count, size or composition that no convolution has."""


class KernelError(TensorconvError, ValueError):
    """A kernel, bias or data array whose shape or values cannot be used."""


class KernelTypeError(TensorconvError, TypeError):
    """An array of a data type that is not a real floating-point number."""


class RankError(TensorconvError, ValueError):
    """A rank, error or budget that cannot be met; the message names the best attained."""


class UnsupportedExportError(TensorconvError, NotImplementedError):
    """A sequence that the target framework cannot express exactly."""


class MissingFrameworkError(TensorconvError, ImportError):
    """A package that is needed for this call and not installed; the message names the extra."""


class FormatError(TensorconvError, ValueError):
    """A file that is broken, hostile, or of another kind than its name says."""


class ModelError(TensorconvError, ValueError):
    """A network that cannot be read or rewritten."""
