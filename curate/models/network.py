"""Networks that a user names by their file: ONNX or TorchScript, float32 in, float32 out, one sample at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.extras import require
from curate.models.files import ModelError
from curate.models.onnx import load_onnx

Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""From an array (1, ...) to the network's only answer."""


def load_network(what: str, path: Path) -> Network:
    """A network of the file `path`: `.onnx`, else TorchScript. Runs on the processor. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{what}: no file {path}")
    return _load_onnx(what, path) if path.suffix == ".onnx" else _load_script(what, path)


def _load_onnx(what: str, path: Path) -> Network:
    session = load_onnx(what, path, path.read_bytes())
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        takes = [(each.name, each.shape) for each in inputs]
        raise ModelError(f"{what}: {path} takes {takes}, expected one input of [n, 3, side, side]")
    name = inputs[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


def _load_script(what: str, path: Path) -> Network:
    require(what, "torch")
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch would rather have another format; SSCD is published in this one
            model = torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:  # torch raises RuntimeError or what its archive reader has
        raise ModelError(f"{what}: {path} is not a TorchScript network: {str(error)[:200]}") from error

    def run(batch: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(batch)).numpy())

    return run
