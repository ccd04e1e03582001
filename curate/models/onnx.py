"""ONNX models on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.extras import require
from curate.models.files import ModelError


def load_onnx(what: str, path: Path, network: bytes) -> Any:
    """A network for the processor, on one thread, so that floats agree wherever it runs. Raises ModelError."""
    require(what, "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a library prints nothing; what is fatal is raised
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime raises for an unfit file has no public base
        raise ModelError(f"{what}: {path} is not an ONNX network: {str(error)[:200]}") from error
