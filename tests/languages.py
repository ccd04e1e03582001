"""Tiny language models of `transformers`, at random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SENTENCES = ("a red apple on a wooden table", "two dogs run in the snow", "what is it? a boat, in the harbour")
CHAT = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
)
"""ChatML, with the trimming that many templates have."""
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

    from curate.models.languages.pretrained import register_kernel

    register_kernel()
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SHAPE, **CONFIGS[kind], **changed})
    return AutoModelForCausalLM.from_config(config, attn_implementation=kernel).eval()


def hf_language(kind: str, tags: int = 0, **settings: Any) -> Any:
    """The same behind our face, with so many new tags; its tokenizer has as many ids as it has."""
    from curate.models.languages.hf import HfConfig, HfLanguage
    from curate.models.languages.pretrained import KERNEL

    ids = SHAPE["vocab_size"]
    return HfLanguage(hf_network(kind, KERNEL), ids, ids + tags, HfConfig(type="hf", model="tiny", **settings)).eval()


def t5_folder(folder: Path, **changed: Any) -> Path:
    """A tiny T5 with the tokenizer of `hf_folder`."""
    from transformers import T5Config, T5ForConditionalGeneration

    hf_folder(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=310, pad_token_id=0, eos_token_id=2, **{**shape, **changed})
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def hf_folder(folder: Path, kind: str = "llama", **changed: Any) -> Path:
    """A model with its tokenizer (byte pairs) and chat template, as `save_pretrained` leaves them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    spelling = Tokenizer(models.BPE())
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelling.decoder = decoders.ByteLevel()
    marks = ["<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    spelling.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token=marks[0], bos_token=marks[1], eos_token=marks[2], chat_template=CHAT
    )
    hf_network(kind, vocab_size=len(tokenizer), **changed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
