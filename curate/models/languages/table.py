"""Language models by their names in a settings file: a new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from curate.models.languages.decoder import DecoderConfig
from curate.models.languages.encoder_decoder import EncoderDecoderConfig
from curate.models.languages.hf import HfConfig


def _ours_by_default(value: Any) -> Any:
    """Settings that name no type are of our own decoder."""
    return {"type": "decoder", **value} if isinstance(value, Mapping) else value


AnyDecoder = Annotated[
    DecoderConfig | HfConfig,
    Field(discriminator="type"),
    BeforeValidator(_ours_by_default),
]
"""Causal models, which go on with a sequence."""
AnyLanguage = Annotated[
    DecoderConfig | HfConfig | EncoderDecoderConfig,
    Field(discriminator="type"),
    BeforeValidator(_ours_by_default),
]


def language_of(settings: Mapping[str, Any]) -> AnyLanguage:
    """The language model that plain settings describe. Raises ValueError."""
    found: AnyLanguage = TypeAdapter(AnyLanguage).validate_python(settings)
    return found
