"""Sessions of ONNX Runtime set up for timing one against another in one process."""

from __future__ import annotations

import importlib
import os
from typing import Any

from tensorconv.errors import MissingFrameworkError


def onnx_runtime() -> Any:
    """Import ONNX Runtime.

    Returns
    -------
    module
        The package onnxruntime.

    Raises
    ------
    MissingFrameworkError
        If it is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingFrameworkError(
            "measuring latency needs the packages onnx and onnxruntime: pip install 'tensorconv[cli]'"
        ) from error


def open_session(model: bytes | str, n_threads: int) -> Any:
    """Open a network in ONNX Runtime on the CPU.

    Parameters
    ----------
    model : bytes or str
        The network or the path of its file.
    n_threads : int
        Threads that share the work of one operator.

    Returns
    -------
    onnxruntime.InferenceSession
        The session. Its threads stop waiting for work as soon as a run ends, else they would take the cores from the
        other session that it is timed against.

    Raises
    ------
    MissingFrameworkError
        If ONNX Runtime is not installed.
    """
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return the errors that ONNX Runtime raises, which have no base of their own: its binding raises Python's too.

    Returns
    -------
    tuple of type
        The classes.
    """
    binary = onnx_runtime().capi.onnxruntime_pybind11_state
    every = (getattr(binary, name) for name in dir(binary))
    own = (one for one in every if isinstance(one, type) and issubclass(one, Exception))
    return (*own, RuntimeError, ValueError, TypeError, IndexError, MemoryError)


def n_cores() -> int:
    """Return the number of cores granted to this process.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
