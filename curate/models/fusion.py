"""The ways by which pictures come into a language model: among its tokens, or between its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from curate.models.connectors.table import by_name
from curate.models.gated_attention import GatedConfig
from curate.settings import Settings


class TokensConfig(Settings):
    """A picture's vectors stand among the tokens (LLaVA, BLIP-2, MM1)."""

    type: Literal["tokens"] = "tokens"


AnyFusion = Annotated[TokensConfig | GatedConfig, Field(discriminator="type"), BeforeValidator(by_name)]


def fusion_of(settings: Mapping[str, Any]) -> AnyFusion:
    """The way that plain settings describe. Raises ValueError."""
    found: AnyFusion = TypeAdapter(AnyFusion).validate_python(settings)
    return found
