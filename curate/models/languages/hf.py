"""Any causal language model of `transformers` behind our face (`curate.models.languages.face`).

Shapes: B rows, T positions, D width, N tokens, V vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from curate.extras import require
from curate.models.attention import block_mask, document_mask
from curate.models.files import ModelError, file_digest
from curate.models.languages.adapters import AdapterConfig, adapt, is_adapter
from curate.models.languages.face import Between
from curate.models.languages.tags import TagRows
from curate.settings import PathText, Settings
from curate.tokens.chat_templates import HfChat
from curate.tokens.encoders import TextCode, text_code
from curate.tokens.hf import PREFIX, loading, source_of

KERNEL = "curate_documents"
"""The name by which `transformers` knows our choice of a kernel."""


class HfConfig(Settings):
    """A causal language model of `transformers`, with its weights and its own tokenizer."""

    type: Literal["hf"]
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
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        if not path.exists():
            return self.model
        return hashlib.sha256(" ".join(f"{p.name}:{file_digest(p)}" for p in files).encode()).hexdigest()

    def build(self, tags: Sequence[str] = ()) -> HfLanguage:
        """The module; the rows of tags that it has not itself are trained whatever else is. Raises ValueError."""
        return HfLanguage(pretrained(self.model), self.code().vocab_size, self.code(tags).vocab_size, self)


class HfLanguage(nn.Module):
    """A causal language model of `transformers`: see `curate.models.languages.face`.

    `own_ids`: those of its tokenizer; from there to `vocab_size` are tags that it gets, whose rows are a part of their
    own, trained whatever else is.
    """

    def __init__(self, net: Any, own_ids: int, vocab_size: int, config: HfConfig) -> None:
        super().__init__()
        self.net = net
        self._size, self._layers = _size_without_embeddings(net), tuple(_layers_of(net))
        _check_face(net, own_ids)
        self.depth, self._own_ids = len(self._layers), own_ids
        embedding, head = net.get_input_embeddings().weight, net.get_output_embeddings().weight
        self.width, self.longest = embedding.shape[1], int(getattr(net.config, "max_position_embeddings", 1 << 20))
        new = vocab_size - own_ids
        self.tags = TagRows(embedding, head, new, own_ids) if new else None
        self._tied = head is embedding
        if self._tied:  # a second name of one matrix, by which it would be saved twice
            net.set_output_embeddings(nn.Identity())
        if config.adapter is not None:
            adapt(net, config.adapter)
        whole = config.train == "whole" and config.adapter is None
        wanted = {"language": whole, "adapter": config.adapter is not None, "tags": bool(new)}
        self.trained = frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Its own weights, and those of its adapters and tags."""
        named = list(self.net.named_parameters())
        return {
            "language": [p for name, p in named if not is_adapter(name)],
            "adapter": [p for name, p in named if is_adapter(name)],
            "tags": [] if self.tags is None else list(self.tags.parameters()),
        }

    def train(self, mode: bool = True) -> HfLanguage:
        """Set training mode; a network of which nothing trains stays in evaluation mode: nothing of it drops out."""
        super().train(mode)
        self.net.train(mode and any(p.requires_grad for p in self.net.parameters()))
        return self

    def embed(self, ids_BT: Tensor) -> Tensor:
        """x_BTD of ids."""
        own = self.net.get_input_embeddings()
        x_BTD: Tensor = own(ids_BT) if self.tags is None else self.tags.embed(ids_BT, own)
        return x_BTD

    def forward(
        self,
        x_BTD: Tensor,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        between: Between | None = None,
    ) -> Tensor:
        """y_BTD of the last layer, normed. Raises ModelError for packs beyond what its layers look back."""
        mask = None if segments_BT is None else self._mask(segments_BT)
        with self._layered(between):
            out = self._body()(
                inputs_embeds=x_BTD, attention_mask=mask, position_ids=positions_BT, use_cache=False, return_dict=True
            )
        y_BTD: Tensor = out.last_hidden_state
        return y_BTD

    def go_on(self, x_BTD: Tensor, seen: list[Any], between: Between | None = None) -> Tensor:
        """y_BTD of positions that follow those in `seen`, which then holds the model's own cache."""
        from transformers import DynamicCache

        if not seen:
            seen.append(DynamicCache(config=self.net.config))
        before = seen[0].get_seq_length()
        positions_1T = torch.arange(before, before + x_BTD.shape[1], device=x_BTD.device)[None]
        with self._layered(between):
            out = self._body()(
                inputs_embeds=x_BTD,
                position_ids=positions_1T,
                past_key_values=seen[0],
                use_cache=True,
                return_dict=True,
            )
        y_BTD: Tensor = out.last_hidden_state
        return y_BTD

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NV of its own ids that the tokenizer has, then of the tags."""
        tied = self.net.get_input_embeddings().weight if self._tied else None
        scores_NV = self.net.get_output_embeddings()(y_ND) if tied is None else F.linear(y_ND, tied)
        scores_NV = scores_NV[..., : self._own_ids]
        return scores_NV if self.tags is None else torch.cat((scores_NV, self.tags.logits(y_ND)), -1)

    def size(self) -> int:
        """Parameters without embeddings, tags, the output's matrix and adapters."""
        return self._size

    def extra_losses(self) -> Tensor | None:
        """None: a network's own mixtures of experts are not asked for theirs."""
        return None

    def _body(self) -> Any:
        return self.net.get_decoder()

    def _mask(self, segments_BT: Tensor) -> Any:
        window = getattr(self.net.config, "sliding_window", None)
        if window is not None and segments_BT.shape[1] > window:
            raise ModelError(
                f"the language model looks back {window} tokens and a pack has {segments_BT.shape[1]}; make"
                " objective.pack.tokens smaller"
            )
        return block_mask(segments_BT) if segments_BT.is_cuda else document_mask(segments_BT).unsqueeze(1)

    @contextmanager
    def _layered(self, between: Between | None) -> Iterator[None]:
        """For the time of a call, `between` stands before each layer and after the last."""
        hooks: list[RemovableHandle] = []
        if between is not None:
            for number, layer in enumerate(self._layers):
                hook = functools.partial(_before, between, number)
                hooks.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
            hooks.append(self._layers[-1].register_forward_hook(functools.partial(_after, between, self.depth)))
        try:
            yield
        finally:
            for handle in hooks:
                handle.remove()


def _before(between: Between, number: int, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    if args:
        return (between(number, args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": between(number, kwargs["hidden_states"])}


def _after(between: Between, number: int, _: nn.Module, __: Any, out: Any) -> Any:
    if isinstance(out, tuple):
        return (between(number, out[0]), *out[1:])
    return between(number, out)


def pretrained(model: str) -> Any:
    """The causal language model with its weights, in fp32 on the CPU. Raises ValueError."""
    require(f"language model {model}", "transformers")
    from transformers import AutoModelForCausalLM

    register_kernel()
    source, options = source_of(model)
    with loading(f"language model {model}"):
        return AutoModelForCausalLM.from_pretrained(
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


def _layers_of(net: Any) -> nn.ModuleList:
    """The decoder's layers: the list that has as many as its configuration says. Raises ModelError."""
    depth = net.config.num_hidden_layers
    for module in net.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ModelError(f"{type(net).__name__}: no list of its {depth} layers is found; take another language model")


def _size_without_embeddings(net: Any) -> int:
    outside = {id(net.get_input_embeddings().weight), id(net.get_output_embeddings().weight)}
    return sum(p.numel() for p in net.parameters() if id(p) not in outside)


def _check_face(net: Any, ids: int) -> None:
    """Raise ModelError for a network whose logits are not its output matrix times its last state, or that lacks ids."""
    name, embedding, head = type(net).__name__, net.get_input_embeddings(), net.get_output_embeddings()
    if min(embedding.num_embeddings, head.weight.shape[0]) < ids:
        raise ModelError(f"{name}: its tokenizer has {ids} ids and its embedding {embedding.num_embeddings}")
    if "position_ids" not in inspect.signature(net.get_decoder().forward).parameters:
        raise ModelError(f"{name}: it takes no positions, which documents in a pack need; take another language model")
    if embedding.weight.is_meta:
        return
    ids_BT = torch.arange(3)[None] % ids
    net.eval()
    with torch.no_grad():
        own = net(input_ids=ids_BT, use_cache=False).logits
        ours = head(net.get_decoder()(inputs_embeds=embedding(ids_BT), use_cache=False).last_hidden_state)
    if embedding.embedding_dim != net.config.hidden_size or not torch.allclose(own, ours, rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"{name}: it does more to its embeddings or scores than look them up and multiply (scales or caps them,"
            " say), which is not followed here; take another language model"
        )
