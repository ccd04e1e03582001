"""Devices of models: kind and precision, settled once by the driver and handed on to every worker.

What a machine has is looked at here alone. An op is told by its `device`, and asks nobody else.
"""

from __future__ import annotations

import functools
import gc
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.lacks import MachineError

if TYPE_CHECKING:
    from torch import Tensor
    from torch import device as TorchDevice
    from torch import dtype as TorchDtype

DeviceKind = Literal["cpu", "cuda"]
"""What models run on. `cuda` is whatever torch calls by this name, AMD's too."""

Precision = Literal["auto", "float32", "bfloat16"]
"""The knob: `auto` is bfloat16 where the device computes in it natively, else float32."""

Settled = Literal["float32", "bfloat16"]

_NO_MEMORY = re.compile(r"(cuda|hip)( error)?: out of memory|(cuda|hip) out of memory|CUBLAS_STATUS_ALLOC_FAILED", re.I)
"""What torch's libraries say of it in errors of other kinds."""

_DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Device:
    """The device of an op: its kind, and what the driver made of `precision: auto` (None in an op made by hand).

    `threads`: how many may prepare what the device computes.
    """

    kind: DeviceKind = "cpu"
    precision: Settled | None = None
    threads: int = 1

    def torch(self) -> TorchDevice:
        """The device for torch. Raises MachineError where this process sees none of the kind."""
        import torch

        if self.kind == "cuda" and not torch.cuda.is_available():
            raise MachineError(
                "this process was to run a model on a GPU, and torch sees none: look at the driver (nvidia-smi), at"
                " CUDA_VISIBLE_DEVICES and at which torch is installed, or run with `--gpus 0`"
            )
        if self.kind == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # by itself it takes ten bits of each float32 for a convolution
        return torch.device(self.kind)

    def settle(self, precision: Precision) -> Settled:
        """The precision that a knob means on this device: what the driver settled, if it did."""
        if precision != "auto":
            return precision
        return self.precision or ("bfloat16" if _computes_bfloat16(self.kind) else "float32")

    def dtype(self, precision: Precision) -> TorchDtype:
        """The same for torch. Raises MachineError where the driver settled what this machine does not compute in."""
        import torch

        settled = self.settle(precision)
        if precision == "auto" and settled == "bfloat16" and not _computes_bfloat16(self.kind):
            raise MachineError(
                "the run computes in bfloat16, as the machine that began it does, and this one does not compute in it:"
                " leave this machine out, or set `precision: float32`"
            )
        found: TorchDtype = getattr(torch, settled)
        return found

    def place(self, precision: Precision) -> Place:
        """The two together. Raises MachineError as they do."""
        return Place(self.torch(), self.dtype(precision))

    def send(self, values: Tensor) -> Tensor:
        """Bring values over: to an accelerator through pinned memory, without waiting for it."""
        if self.kind == "cpu":
            return values
        return values.pin_memory().to(self.kind, non_blocking=True)


@dataclass(frozen=True)
class Place:
    """A device and a precision, as torch says them."""

    device: TorchDevice
    dtype: TorchDtype


CPU = Device()
"""What an op runs on that was told nothing."""


@dataclass(frozen=True)
class Machine:
    """A machine as models see it: its GPUs, the memory of the smallest in GB (10^9 bytes), if they compute in bfloat16.

    `unseen`: GPUs that the system's driver knows and torch does not see. `cpus`: processors that this process may use.
    """

    gpus: int = 0
    gpu_memory_gb: float = 0.0
    bfloat16: bool = False
    unseen: int = 0
    cpus: int = 1


@functools.cache
def this_machine() -> Machine:
    """Look at this machine; torch is imported for it."""
    import torch

    known = len(list(_DRIVER_GPUS.iterdir())) if _DRIVER_GPUS.is_dir() else 0
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus:
        return Machine(unseen=known, cpus=cpus)
    smallest = min(torch.cuda.get_device_properties(n).total_memory for n in range(gpus))
    return Machine(gpus, smallest / 1e9, _computes_bfloat16("cuda"), max(0, known - gpus), cpus)


def is_out_of_device_memory(err: BaseException) -> bool:
    """Whether an error says that an accelerator, and not the machine, has no memory left."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(err).__mro__)
    return named or (isinstance(err, RuntimeError) and _NO_MEMORY.search(str(err)) is not None)


def release_memory() -> None:
    """Give back what torch keeps of an accelerator's memory for its next use."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@functools.cache
def _computes_bfloat16(kind: DeviceKind) -> bool:
    import torch

    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    usable = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # true of any AVX-512, which may only emulate it, slowly
    return bool(usable) and _processor_has_bfloat16()


def _processor_has_bfloat16() -> bool:
    """By the names that Linux gives the instructions on x86 (avx512_bf16, amx_bf16) and on Arm (bf16)."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", described) is not None
