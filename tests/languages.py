"""Tiny language models of `transformers`, at random weights."""

from __future__ import annotations

from typing import Any

import torch

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "gpt_neox": {"intermediate_size": 48},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}


def hf_network(kind: str, kernel: str = "sdpa", **changed: Any) -> Any:
    """A causal language model of `transformers`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from curate.models.languages.hf import register_kernel

    register_kernel()
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, **CONFIGS[kind], **changed})
    return AutoModelForCausalLM.from_config(config, attn_implementation=kernel).eval()


def hf_language(kind: str, tags: int = 0, **settings: Any) -> Any:
    """The same behind our face, with so many new tags; its tokenizer has as many ids as it has."""
    from curate.models.languages.hf import KERNEL, HfConfig, HfLanguage

    ids = SHAPE["vocab_size"]
    return HfLanguage(hf_network(kind, KERNEL), ids, ids + tags, HfConfig(type="hf", model="tiny", **settings)).eval()
