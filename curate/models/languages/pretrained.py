"""Language models of `transformers`: settings, loading, adapters and parts that both kinds have in common."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from curate.extras import require
from curate.models.files import file_digest
from curate.models.languages.adapters import AdapterConfig, adapt, is_adapter
from curate.settings import PathText, Settings
from curate.tokens.chat_templates import HfChat
from curate.tokens.encoders import TextCode, text_code
from curate.tokens.hf import PREFIX, loading, source_of

KERNEL = "curate_documents"
"""The name by which `transformers` knows our choice of a kernel."""


class PretrainedConfig(Settings):
    """A language model of `transformers`, with its weights and its own tokenizer."""

    model: PathText
    """A folder, a .gguf file, or a name on the hub."""
    train: Literal["whole", "nothing"] = "whole"
    """What of its own weights is trained, unless a stage says otherwise; of an adapted one, nothing."""
    adapter: AdapterConfig | None = None

    def code(self, tags: Sequence[str] = ()) -> TextCode:
        """Its spelling of texts, with tags that it has or, as the last ids, gets. Raises ValueError."""
        return text_code(PREFIX + self.model, tags)

    def chat(self) -> HfChat:
        """The words that its tokenizer puts around turns."""
        return HfChat(self.model)

    def digest(self) -> str:
        """SHA-256 of the model's files; of a hub's model, its name."""
        path = Path(self.model)
        if not path.exists():
            return self.model
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return "sha256:" + hashlib.sha256(" ".join(f"{p.name}:{file_digest(p)}" for p in files).encode()).hexdigest()


class PretrainedNetwork(nn.Module):
    """A network of `transformers` with its adapters, of which parts train: its own weights, the adapters'.

    Matrices that it has under several names are saved once.
    """

    def __init__(self, net: Any, config: PretrainedConfig) -> None:
        super().__init__()
        self.net = net
        self._size = _size_without_embeddings(net)
        if config.adapter is not None:
            adapt(net, config.adapter)
        own = "language" if config.train == "whole" and config.adapter is None else None
        adapter = "adapter" if config.adapter is not None else None
        self.trained = frozenset(name for name in (own, adapter) if name)
        _save_once(net)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Its own weights, and those of its adapters."""
        named = list(self.net.named_parameters())
        return {
            "language": [p for name, p in named if not is_adapter(name)],
            "adapter": [p for name, p in named if is_adapter(name)],
        }

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a network of which nothing trains stays in evaluation mode: nothing of it drops out."""
        super().train(mode)
        self.net.train(mode and any(p.requires_grad for p in self.net.parameters()))
        return self

    def size(self) -> int:
        """Parameters without embeddings, tags, the output's matrix and adapters."""
        return self._size

    def extra_losses(self) -> Tensor | None:
        """None: a network's own mixtures of experts are not asked for theirs."""
        return None


def _save_once(net: Any) -> None:
    """Leave second names of a parameter out of the network's state, and take them from the first when it is loaded."""
    first: dict[int, str] = {}
    again: dict[str, str] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            again[name] = first[id(parameter)]

    def leave_out(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
        for name in again:
            state.pop(prefix + name, None)

    def take_again(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        state.update({prefix + name: state[prefix + kept] for name, kept in again.items() if prefix + kept in state})

    net.register_state_dict_post_hook(leave_out)
    net.register_load_state_dict_pre_hook(take_again)


def _size_without_embeddings(net: Any) -> int:
    outside = {id(net.get_input_embeddings().weight), id(net.get_output_embeddings().weight)}
    return sum(p.numel() for p in net.parameters() if id(p) not in outside)


def pretrained(model: str, kind: Literal["AutoModelForCausalLM", "AutoModelForSeq2SeqLM"]) -> Any:
    """The language model with its weights, in fp32 on the CPU. Raises ValueError."""
    require(f"language model {model}", "transformers")
    import transformers

    register_kernel()
    source, options = source_of(model)
    with loading(f"language model {model}"):
        return getattr(transformers, kind).from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=KERNEL,
            **options,
        )


@functools.cache
def register_kernel() -> None:
    """Tell `transformers` of a kernel that is flex attention for masks by blocks, and torch's own for all others."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.flex_attention import flex_attention_forward
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, attention_mask: Any, **options: Any) -> Any:
        whole = attention_mask is None or isinstance(attention_mask, Tensor)
        kernel = sdpa_attention_forward if whole else flex_attention_forward
        return kernel(module, q, k, v, attention_mask, **options)

    AttentionInterface.register(KERNEL, attend)
    AttentionMaskInterface.register(KERNEL, sdpa_mask)
