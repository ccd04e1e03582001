"""BLIP (Li et al. 2201.12086) by `transformers`: captions, and whether a text matches.

Files lie in a folder (config.json, weights, tokenizer, preprocessor_config.json) or on the hub as owner/name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from curate.extras import require
from curate.models.devices import Place
from curate.models.files import ModelError, file_digest
from curate.models.pixels import Prepare

if TYPE_CHECKING:
    from torch import Tensor

    from curate.models.sampling import NextScores

WORDS = 30
"""Words of a text that BLIP reads."""
TEXT_IDS = 35
"""Ids that its texts are cut and padded to."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def is_blip(model: str) -> bool:
    """Whether `model` is a folder of `transformers`, or a name on its hub."""
    return (Path(model) / "config.json").is_file() or (not Path(model).exists() and bool(_HUB_NAME.fullmatch(model)))


@functools.cache
def blip_folder(model: str) -> Path:
    """The folder with a model's files, fetched if `model` is a name on the hub. Raises ModelError."""
    require(f"model {model}", "transformers")
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except Exception as error:  # the hub's client raises its own and its transport's errors
        said = shorten(str(error), 160, placeholder=" ...")
        raise ModelError(
            f"model {model}: no such folder, and it cannot be had from the hub ({type(error).__name__}: {said});"
            " connect, set HF_ENDPOINT to a mirror, fill the cache (HF_HOME) beforehand, or give a local folder"
        ) from error


def blip_identity(model: str) -> str:
    """Digest of all files of the model. Raises ModelError."""
    folder = blip_folder(model)
    return " ".join(f"{path.name}:{file_digest(path)}" for path in sorted(folder.iterdir()) if path.is_file())


class BlipCaptioner:
    """BlipForConditionalGeneration, with its keys and values kept from token to token."""

    def __init__(self, folder: Path, place: Place) -> None:
        from transformers import BlipForConditionalGeneration

        from curate.models.sampling import Marks

        self._net, self._tokenizer, self.prepare = _loaded(BlipForConditionalGeneration, folder, place)
        self._place = place
        text = self._net.config.text_config
        self._begin = text.bos_token_id
        self.marks = Marks(text.sep_token_id, (text.bos_token_id, text.pad_token_id))
        self.longest = text.max_position_embeddings

    def spell(self, prompt: str) -> list[int]:
        """See `curate.models.captioners.Captioner`."""
        return [self._begin, *self._tokenizer(prompt, add_special_tokens=False).input_ids]

    def look(self, images_BCHW: Tensor) -> Tensor:
        """See `curate.models.captioners.Captioner`."""
        return _look(self._net, images_BCHW, self._place)

    def write(self, vectors_BNE: Tensor) -> NextScores:
        """See `curate.models.captioners.Captioner`."""
        from transformers import DynamicCache, EncoderDecoderCache

        kept = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def scores_of(ids_BT: Tensor) -> Tensor:
            out = self._net.text_decoder(
                input_ids=ids_BT[:, kept.get_seq_length() :].to(self._place.device),
                encoder_hidden_states=vectors_BNE,
                past_key_values=kept,
                use_cache=True,
            )
            scores_BV: Tensor = out.logits[:, -1]
            return scores_BV

        return scores_of

    def text(self, ids: Sequence[int]) -> str:
        """See `curate.models.captioners.Captioner`."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class BlipMatcher:
    """BlipForImageTextRetrieval's matching head."""

    def __init__(self, folder: Path, place: Place) -> None:
        from transformers import BlipForImageTextRetrieval

        self._net, self._tokenizer, self.prepare = _loaded(BlipForImageTextRetrieval, folder, place)
        self._place = place

    def look(self, images_BCHW: Tensor) -> Tensor:
        """See `curate.models.matchers.Matcher`."""
        return _look(self._net, images_BCHW, self._place)

    def match(self, vectors_BNE: Tensor, texts: Sequence[str]) -> Tensor:
        """See `curate.models.matchers.Matcher`."""
        import torch

        spelled = self._tokenizer(
            [as_blip_reads(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=TEXT_IDS,
            return_tensors="pt",
        ).to(self._place.device)
        states_BTE = self._net.text_encoder(
            input_ids=spelled.input_ids, attention_mask=spelled.attention_mask, encoder_hidden_states=vectors_BNE
        ).last_hidden_state
        return torch.softmax(self._net.itm_head(states_BTE[:, 0]).float(), 1)[:, 1].cpu()


def as_blip_reads(text: str) -> str:
    """A text as BLIP's own code prepares it: lower case, some punctuation as space, the first WORDS words."""
    text = re.sub(r"[.!\"()*#:;~]", " ", text.lower())
    return " ".join(text.split()[:WORDS])


def _look(net: Any, images_BCHW: Tensor, place: Place) -> Tensor:
    vectors_BNE: Tensor = net.vision_model(pixel_values=images_BCHW.to(place.device, place.dtype))[0]
    return vectors_BNE


def _loaded(kind: Any, folder: Path, place: Place) -> tuple[Any, Any, Prepare]:
    """The network with every one of its weights from the folder, its tokenizer, its image processor."""
    from transformers import AutoTokenizer, BlipImageProcessor

    try:
        net, report = kind.from_pretrained(folder, output_loading_info=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        processor = BlipImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # what transformers raises for unfit files has no common base
        raise ModelError(f"{folder} does not load as {kind.__name__}: {str(error)[:400]}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{folder} is no {kind.__name__}: it lacks {len(missing)} weights, {missing[0]} for one")

    def prepare(image: Any) -> Tensor:
        tensor: Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
        return tensor

    return net.to(place.device, place.dtype).eval(), tokenizer, prepare
