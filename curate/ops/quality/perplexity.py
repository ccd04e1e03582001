"""Perplexity of texts under a small causal language model."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.extras import require
from curate.models.devices import CPU, Device, Settled
from curate.models.files import ModelError, file_digest
from curate.ops.spec import Columns, Count, Knobs, Natural, op
from curate.tokens.hf import loading, source_of

_CHARACTERS_A_TOKEN = 16
"""Text beyond `max_tokens` times this is not even split into tokens."""


@op(
    reads="text",
    writes={"perplexity": pa.float32(), "perplexity_tokens": pa.int32()},
    version=1,
    batch_size=8,
    needs=("transformers",),
    timeout_s=7200,
    runs_on="accelerator",
    memory_gb=8.0,
)
class perplexity:  # noqa: N801 - ops are named as recipes name them
    """exp of the mean negative log-likelihood a token, and how many tokens were scored; null for a text of one or none.

    `model`: a folder or `.gguf` file as `transformers` reads them, or a name on the hub. Windows of `context_tokens`
    follow one another, each given the last `overlap_tokens` of the one before; text beyond `max_tokens` is left out.
    Idefics2 drops the 5 % with the highest perplexity (Laurençon et al. 2024, section 4.1): `bottom: 0.95`. One text
    at a time, so that no value depends on its neighbours' lengths. With `over: paragraphs`, of each paragraph by
    itself: a heading gives a model nothing to expect its words by, so `spare: [heading]` (OBELICS had a bound of 1500
    on paragraphs, by a KenLM of its own, and switched it off).
    """

    def __init__(
        self, *, model: str, context_tokens: Count = 1024, overlap_tokens: Natural = 256, max_tokens: Count = 4096,
        precision: Settled = "float32", device: Device = CPU,
    ) -> None:  # fmt: skip
        _check_windows(overlap_tokens, context_tokens)
        net, tokenizer = _load(model, precision, device)
        self._scorer = _Scorer(net, tokenizer, device, context_tokens, overlap_tokens, max_tokens)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the model's files; of a hub's model its name alone is known, and that the hub has it."""
        _check_windows(knobs["overlap_tokens"], knobs["context_tokens"])
        return _digest(knobs["model"])

    def __call__(self, texts: Sequence[str]) -> Columns:
        """One perplexity a text."""
        rows = [self._scorer.of(text) for text in texts]
        return {"perplexity": [value for value, _ in rows], "perplexity_tokens": [count for _, count in rows]}


@dataclass(frozen=True)
class _Scorer:
    """A model, and the perplexity of one text under it."""

    net: Any
    tokenizer: Any
    device: Device
    context: int
    overlap: int
    most: int

    def of(self, text: str) -> tuple[float | None, int]:
        """Its perplexity, and how many tokens were scored."""
        readable = text[: self.most * _CHARACTERS_A_TOKEN].encode("utf-8", "replace").decode()
        ids = self.tokenizer(readable, add_special_tokens=False, verbose=False)["input_ids"][: self.most]
        if len(ids) < 2:
            return None, 0
        return math.exp(min(self._loss(ids) / (len(ids) - 1), 80.0)), len(ids) - 1

    def _loss(self, ids: list[int]) -> float:
        """Sum of -ln p over all tokens but the first."""
        import torch

        total, scored = 0.0, 1
        while scored < len(ids):
            begin = max(0, scored - max(1, self.overlap))
            end = min(begin + self.context, len(ids))
            window = self.device.send(torch.tensor([ids[begin:end]]))
            with torch.inference_mode():
                logits = self.net(input_ids=window, use_cache=False).logits[0, scored - begin - 1 : -1].float()
                losses = torch.nn.functional.cross_entropy(logits, window[0, scored - begin :], reduction="sum")
            total, scored = total + float(losses), end
        return total


def _check_windows(overlap: int, context: int) -> None:
    if overlap >= context:
        raise ValueError(f"perplexity: overlap_tokens {overlap} must be less than context_tokens {context}")


def _digest(model: str) -> str:
    path = Path(model)
    if not path.exists():
        _check_on_hub(model)
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return " ".join(f"{p.name}:{file_digest(p)}" for p in files if p.is_file())


@functools.cache
def _check_on_hub(model: str) -> None:
    """Raise ModelError for a model that is no file, and that the hub, or its cache, has not."""
    require("perplexity", "transformers")
    import transformers

    source_of(model, ModelError)
    with loading(f"language model {model}", ModelError):
        transformers.AutoConfig.from_pretrained(model, trust_remote_code=False)
        transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)


def _load(model: str, precision: Settled, device: Device) -> tuple[Any, Any]:
    """Network, on its device, and tokenizer. Raises ModelError; MachineError without such a device."""
    require("perplexity", "transformers")
    import transformers

    where, dtype = device.torch(), device.dtype(precision)
    source, options = source_of(model, ModelError)
    with loading(f"language model {model}", ModelError):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        net = transformers.AutoModelForCausalLM.from_pretrained(
            source, trust_remote_code=False, dtype=dtype, use_safetensors=True, **options
        )
    return net.to(where).eval(), tokenizer
