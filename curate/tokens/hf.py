"""Tokenizers of `transformers`: a folder, a .gguf file, or a name on the hub.

Their special tokens are never spelled by a text, however it reads: only tags and the words of a chat set them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from curate.extras import require

PREFIX = "hf:"
"""Before a model's folder, file or name, it names that model's tokenizer."""


@dataclass(frozen=True)
class HfTokenizer:
    """A tokenizer by the name of its model; pickled, it is that name."""

    model: str

    def encode(self, text: str) -> list[int]:
        """The ids of a text, none of them special."""
        return list(_plain(self.model).encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special ones and those of tags that are not its own left out."""
        own = [n for n in ids if n < self.vocab_size()]
        return str(loaded(self.model).decode(own, skip_special_tokens=True))

    def marks(self) -> tuple[int, int]:
        """(begin, end): its own; where a model has no begin, its end mark stands there, as GPT-2's does.

        Of BERT, [CLS] and [SEP].
        """
        tokenizer = loaded(self.model)
        if tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None:
            return tokenizer.cls_token_id, tokenizer.sep_token_id
        end = tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"tokenizer {self.model}: it has no end mark (eos_token), by which a text would end")
        return (end if tokenizer.bos_token_id is None else tokenizer.bos_token_id), end

    def special(self) -> dict[str, int]:
        """The ids of its special tokens."""
        found = loaded(self.model).added_tokens_decoder
        return {token.content: number for number, token in found.items() if token.special}

    def vocab_size(self) -> int:
        """Its ids, special ones included."""
        return len(loaded(self.model))

    def counting(self) -> str:
        """Names how texts are counted: by what the tokenizer holds, wherever it lies."""
        content = hashlib.sha256(_plain(self.model).to_str().encode()).hexdigest()[:16]
        return f"hf {content} tokenizers {version('tokenizers')}"


@functools.cache
def loaded(model: str) -> Any:
    """The tokenizer of `transformers`, loaded once. Raises ValueError."""
    require(f"tokenizer {PREFIX}{model}", "transformers")
    from transformers import AutoTokenizer

    source, options = source_of(model)
    with loading(f"tokenizer {PREFIX}{model}"):
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    if not tokenizer.is_fast:
        raise ValueError(f"tokenizer {PREFIX}{model}: it has no tokenizer.json; save it with one")
    return tokenizer


@functools.cache
def _plain(model: str) -> Any:
    """A copy that reads special tokens in a text as any other words; it is shared by threads, and never set again."""
    from tokenizers import Tokenizer

    copy = Tokenizer.from_str(loaded(model).backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def source_of(model: str, fault: type[ValueError] = ValueError) -> tuple[str, dict[str, str]]:
    """(what `from_pretrained` takes, its options) of a folder, a .gguf file or a hub's name. Raises `fault`."""
    path = Path(model).expanduser()
    if path.suffix != ".gguf":
        return (str(path) if path.is_dir() else model), {}
    if not path.is_file():
        raise fault(f"language model: no file {model}; give the path of a .gguf file that is there")
    return str(path.parent), {"gguf_file": path.name}


@contextmanager
def loading(what: str, fault: type[ValueError] = ValueError) -> Iterator[None]:
    """Let the library print no progress, and say in one sentence what does not load. Raises `fault`."""
    from transformers.utils import logging

    showed = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # the hub's client, transformers, safetensors and gguf share no base of their errors
        raise fault(
            f"{what}: does not load ({type(error).__name__}: {' '.join(str(error).split())[:300]}); give a folder with"
            " config.json, tokenizer.json and safetensors, a .gguf file, or a name on the hub"
        ) from error
    finally:
        if showed:
            logging.enable_progress_bar()
