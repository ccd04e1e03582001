"""Connectors by their names in a settings file: a new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from curate.models.connectors.mlp import MlpConfig
from curate.models.connectors.qformer import QFormerConfig


def _by_name(value: Any) -> Any:
    """A connector named without settings has its defaults."""
    return {"type": value} if isinstance(value, str) else value


AnyConnector = Annotated[
    MlpConfig | QFormerConfig,
    Field(discriminator="type"),
    BeforeValidator(_by_name),
]


def connector_of(settings: Mapping[str, Any]) -> AnyConnector:
    """The connector that plain settings describe. Raises ValueError."""
    found: AnyConnector = TypeAdapter(AnyConnector).validate_python(settings)
    return found
