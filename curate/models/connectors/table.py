"""Connectors by their names in a settings file: a new one is a file beside this and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from curate.models.connectors.c_abstractor import CAbstractorConfig
from curate.models.connectors.channels import ChannelsConfig
from curate.models.connectors.idefics2_pooling import Idefics2PoolingConfig
from curate.models.connectors.linear import LinearConfig
from curate.models.connectors.mining import MiningConfig
from curate.models.connectors.mlp import MlpConfig
from curate.models.connectors.qformer import QFormerConfig
from curate.models.connectors.resampler import ResamplerConfig
from curate.models.connectors.sva import SvaConfig


def by_name(value: Any) -> Any:
    """Settings of a part as a file says them: one named without settings has its defaults."""
    return {"type": value} if isinstance(value, str) else value


AnyConnector = Annotated[
    LinearConfig
    | MlpConfig
    | CAbstractorConfig
    | ResamplerConfig
    | Idefics2PoolingConfig
    | QFormerConfig
    | SvaConfig
    | ChannelsConfig
    | MiningConfig,
    Field(discriminator="type"),
    BeforeValidator(by_name),
]


def connector_of(settings: Mapping[str, Any]) -> AnyConnector:
    """The connector that plain settings describe. Raises ValueError."""
    found: AnyConnector = TypeAdapter(AnyConnector).validate_python(settings)
    return found
