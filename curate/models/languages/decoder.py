"""Settings of our own decoder (`curate.models.language`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NoReturn

from pydantic import Field, model_validator

from curate.models.experts import ExpertsConfig
from curate.models.language import LanguageModel
from curate.settings import Settings
from curate.tokens.encoders import TextCode, text_code

Count = Annotated[int, Field(ge=1)]


class Transformer(Settings):
    """Blocks of a small transformer: RMSNorm, rotary positions, SwiGLU."""

    width: Count = 256
    layers: Count = 4
    heads: Count = 4

    @model_validator(mode="after")
    def _whole_heads(self) -> Transformer:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads ({2 * self.heads})")
        return self


class DecoderConfig(Transformer):
    """The small causal language model, from random weights."""

    type: Literal["decoder"] = "decoder"
    tokenizer: Literal["bytes", "simple"] = "bytes"
    experts: ExpertsConfig | None = None
    """Mixtures of experts in the place of some feed-forwards; nothing: none."""

    @model_validator(mode="after")
    def _has_experts(self) -> DecoderConfig:
        if self.experts is not None and self.experts.every > self.layers:
            raise ValueError(f"experts.every {self.experts.every} of {self.layers} layers is none; make it smaller")
        return self

    def code(self, tags: Sequence[str] = ()) -> TextCode:
        """Its spelling of texts, `tags` beside them."""
        return text_code(self.tokenizer, tags)

    def chat(self) -> NoReturn:
        """None: raises ValueError."""
        raise ValueError("form.chat: own is for a model of `transformers`, which brings a template; name another chat")

    def build(self, tags: Sequence[str] = ()) -> LanguageModel:
        """The module."""
        return LanguageModel(self.code(tags).vocab_size, self.width, self.layers, self.heads, self.experts)
