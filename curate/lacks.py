"""Tell what a machine lacks from what is wrong with a sample.

What is a sample's fault fails that sample for ever; what is a machine's stops the work until it is mended.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import traceback
from collections.abc import Iterator


class MachineError(RuntimeError):
    """Something that this machine lacks, for an op to raise: the shard is tried again, then the run ends, and no sample
    is failed for it."""


_CODES = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOBUFS", "ENODEV", "ENOEXEC", "ENOLCK", "ENOMEM", "ENOSPC",
        "ENXIO", "EREMOTEIO", "EROFS", "ESTALE",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Numbers of errors of the system that no sample can cause: full, read-only and broken disks, too many files, ..."""

_WORDS = re.compile(
    "|".join(re.escape(os.strerror(code)) for code in sorted(_CODES))
    + r"|out of memory|(can't|cannot|failed to|unable to) allocate|not enough memory|bad_alloc|alloc_failed"
    r"|\b(cuda|hip|cudnn|cublas|nccl|xpu|mps|rocm|tpu|nvrtc)\b[^\n]{0,40}\b(error|failure|initiali[sz]|insufficient)"
    r"|no (cuda|hip) gpus|not compiled with cuda|(cudnn|cublas|cusolver|cufft)_status|no kernel image"
    r"|can't start new thread|cannot open shared object|shared memory object|disk is full|disk i/o error",
    re.IGNORECASE,
)
"""What libraries say of the same where they raise errors of their own. Looked for in the first line alone."""

_FOREIGN = ("torch", "onnxruntime", "sqlite3", "duckdb", "jax", "jaxlib", "cupy", "tensorflow", "fasttext", "_duckdb")
"""Libraries whose errors derive from Exception alone and speak for the machine as RuntimeError does."""


def is_lack(err: BaseException) -> bool:
    """Whether an error, or one that it was raised from, tells of the machine and not of a sample.

    A sample's own words may stand in an error's message; so what is only said is believed of RuntimeError, OSError and
    the errors of libraries that compute, and never of ValueError and its like, with which a parser quotes its input.
    """
    return any(_is_lack(one) for one in _causes(err))


def is_missing_module(err: BaseException) -> bool:
    """Whether a lack is one that no waiting mends: a module, or a library that one is linked with."""
    return any(isinstance(one, ImportError) for one in _causes(err))


def _causes(err: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = err
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__


def _is_lack(err: BaseException) -> bool:
    if isinstance(err, (MachineError, MemoryError, ImportError)):
        return True
    if isinstance(err, OSError) and (err.errno in _CODES or _is_start_of_child(err)):
        return True
    if any(kind.__name__ in ("OutOfMemoryError", "AcceleratorError") for kind in type(err).__mro__):
        return True
    speaks = isinstance(err, (RuntimeError, OSError, AssertionError))
    speaks = speaks or type(err).__module__.partition(".")[0] in _FOREIGN
    return speaks and _WORDS.search(str(err).partition("\n")[0]) is not None


def _is_start_of_child(err: OSError) -> bool:
    """Whether it comes from starting a program, which is not there or may not be run."""
    frames = traceback.walk_tb(err.__traceback__)
    return any(frame.f_code.co_filename == subprocess.__file__ for frame, _ in frames)
