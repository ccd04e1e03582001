"""Any causal language model of `transformers` behind our face (`curate.models.languages.face`).

Shapes: B rows, T positions, D width, N tokens, V vocabulary.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from curate.models.attention import block_mask
from curate.models.files import ModelError
from curate.models.languages.face import Between
from curate.models.languages.pretrained import PretrainedConfig, PretrainedNetwork, pretrained
from curate.models.languages.tags import TagRows
from curate.tokens.segments import attention_mask


class HfConfig(PretrainedConfig):
    """A causal language model of `transformers`."""

    type: Literal["hf"]

    def build(self, tags: Sequence[str] = ()) -> HfLanguage:
        """The module; the rows of tags that it has not itself are trained whatever else is. Raises ValueError."""
        net = pretrained(self.model, "AutoModelForCausalLM")
        return HfLanguage(net, self.code().vocab_size, self.code(tags).vocab_size, self)


class HfLanguage(PretrainedNetwork):
    """A causal language model of `transformers`: see `curate.models.languages.face`.

    `own_ids`: those of its tokenizer; from there to `vocab_size` are tags that it gets, whose rows are a part of their
    own, trained whatever else is.
    """

    def __init__(self, net: Any, own_ids: int, vocab_size: int, config: HfConfig) -> None:
        _check_face(net, own_ids)
        super().__init__(net, config)
        self._layers, self._own_ids = tuple(_layers_of(net)), own_ids
        embedding, head = net.get_input_embeddings().weight, net.get_output_embeddings().weight
        self.width, self.depth = embedding.shape[1], len(self._layers)
        self.longest = int(getattr(net.config, "max_position_embeddings", 1 << 20))
        self.tags: TagRows | None = None
        if vocab_size > own_ids:
            self.tags = TagRows(embedding, head, vocab_size - own_ids, own_ids)
            self.trained |= {"tags"}

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Its own weights, and those of its adapters and tags."""
        return {**super().parts(), "tags": [] if self.tags is None else list(self.tags.parameters())}

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
        scores_NV: Tensor = self.net.get_output_embeddings()(y_ND)[..., : self._own_ids]
        return scores_NV if self.tags is None else torch.cat((scores_NV, self.tags.logits(y_ND)), -1)

    def _body(self) -> Any:
        return self.net.get_decoder()

    def _mask(self, segments_BT: Tensor) -> Any:
        window = getattr(self.net.config, "sliding_window", None)
        if window is not None and segments_BT.shape[1] > window:
            raise ModelError(
                f"the language model looks back {window} tokens and a pack has {segments_BT.shape[1]}; make"
                " objective.pack.tokens smaller"
            )
        return block_mask(segments_BT) if segments_BT.is_cuda else attention_mask(segments_BT).unsqueeze(1)

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


def _layers_of(net: Any) -> nn.ModuleList:
    """The decoder's layers: the list that has as many as its configuration says. Raises ModelError."""
    depth = net.config.num_hidden_layers
    for module in net.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ModelError(f"{type(net).__name__}: no list of its {depth} layers is found; take another language model")


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
