"""Serve a GGUF file by llama.cpp, in a process of its own: `python -m curate.llm.llamacpp IP PORT ORDER`."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

ERRORS_ALONE = 1
"""llama.cpp's verbosity at which it says what went wrong and nothing else."""


def main(ip: str, port: int, order: dict[str, Any]) -> None:
    """Serve `model` as `name`, `at_once` requests of `context_tokens` each, on `threads` threads; never returns."""
    _check_memory(order["model"])
    import xllamacpp

    threads = order["threads"] or max(1, len(os.sched_getaffinity(0)) // 2)
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = order["model"], {order["name"]}
    params.hostnames, params.port, params.reuse_port = [ip], port, False
    params.n_ctx, params.n_parallel = order["context_tokens"] * order["at_once"], order["at_once"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.verbosity, params.ui, params.endpoint_slots = ERRORS_ALONE, False, False
    params.cache_ram_mib = 0  # of prompts that were answered: else up to 8 GB of them
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as err:  # why, llama.cpp has written to stderr by now
        sys.stderr.write(f"{err}\n")
        sys.stderr.flush()
        os._exit(1)
    assert server.listening_address
    threading.Event().wait()


def _check_memory(model: str) -> None:
    """End with words where the file alone is larger than the memory that is free: it would be read again and again."""
    needed = Path(model).stat().st_size
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable" and (free := int(value.split()[0]) << 10) < needed:
            sys.exit(f"not enough memory: the model has {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
