"""Low-rank adapters on named parts of a network, by `peft`.

LoRA (Hu et al. 2106.09685) and DoRA (Liu et al. 2402.09353).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from curate.extras import require
from curate.models.files import ModelError
from curate.settings import Settings, unknown_message


class AdapterConfig(Settings):
    """Settings of adapters. `parts`: names of linear layers as the model has them, or the ends of such (`q_proj`).

    The update is scaled by `alpha` / `rank`; `dropout` is of what goes into it.
    """

    type: Literal["lora", "dora"] = "lora"
    parts: Annotated[tuple[str, ...], Field(min_length=1)]
    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


def adapt(net: nn.Module, config: AdapterConfig) -> None:
    """Put adapters into `net`, which at first change nothing. Raises ModelError for a part that names no layer."""
    require(f"{config.type} adapters", "peft")
    from peft import LoraConfig, inject_adapter_in_model

    _check_parts(net, config.parts)
    inject_adapter_in_model(
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]  # a scale, of any value
            lora_dropout=config.dropout,
            target_modules=list(config.parts),
            use_dora=config.type == "dora",
        ),
        net,
    )


def is_adapter(name: str) -> bool:
    """Whether a parameter of an adapted network is an adapter's, by its name."""
    return ".lora_" in name


def _check_parts(net: nn.Module, parts: tuple[str, ...]) -> None:
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear) or _is_conv1d(module)]
    ends = {name.rsplit(".", 1)[-1] for name in linear}
    for part in parts:
        if not any(name == part or name.endswith(f".{part}") for name in linear):
            raise ModelError(unknown_message("part to adapt", part, sorted({*ends, *linear} if "." in part else ends)))


def _is_conv1d(module: nn.Module) -> bool:
    """Whether it is the linear layer that GPT-2 has, its weight turned."""
    return type(module).__name__ == "Conv1D"
