"""Tests for curate.tokens: one spelling of a caption for whoever scores it and whoever trains on it."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import open_clip
import pytest

from curate.models.clip import BUNDLED_CLIP_FILE, load_clip
from curate.tokens import byte_pairs
from curate.tokens.clip import described_tokens, open_clip_tokens
from curate.tokens.encoders import encoder
from train.models.dual_encoder import load_export

ODD = [
    "",
    " ",
    "A Red   APPLE\n\tand more",
    "x" * 10_000,
    "word " * 3_000,
    "apple  " * 1_000,
    " " * 5_000 + "apple",
    "é" * 70 + " end",
    "y" * 64 + "z" * 64,
    "🍎🍏 an emoji 👩‍👩‍👧",
    "تفاحة حمراء على الطاولة",
    "中文字符没有空格 \u3000 wide",
    "lone \ud800 and \udfff here",
    "<start_of_text> spelled <end_of_text>",
    "<END_OF_TEXT> and after",
    "\x00\x01\x7f\x1b[31m\u200b\u202e",
    "ﬁne ﬀ ﬃ Ⅷ ① ÀÉÎ e\u0301 naïve â€™ mojibake",
    "&amp; &lt;b&gt; &amp;amp; it's don't we'll I'M 12345 3.14 _a_b_ c-d",
]
WORDS = "words:" + json.dumps(["apple", "red", "fine"])

DIGESTS = {
    "simple": "3eb7ab33432a6706",
    "simple:514": "a16db29505677ceb",
    "simple:4096": "bdc61b81af5aba96",
    WORDS: "66aa9f4939ae8faa",
}
"""Of the ids of ODD at contexts of 2, 16 and 77, as the models were trained on and scored with before there was one
implementation for both (the trainer's and the scorer's own were equal)."""
SPELLED = {"bytes": "a768e08d53b8c4f5", "simple": "a36cc9ca3372cc76"}
"""Of the ids that indexes have counted since version 3 of the rules."""


def digest(ids: Any) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


@pytest.mark.parametrize("spec", list(DIGESTS))
def test_captions_keep_the_ids_that_published_models_know(spec: str) -> None:
    """A change of these digests changes what trained weights and published scores mean."""
    ids = [[list(described_tokens(spec, length)(text)) for text in ODD] for length in (2, 16, 77)]
    assert digest(ids) == DIGESTS[spec]


@pytest.mark.parametrize("name", list(SPELLED))
def test_texts_keep_the_lengths_that_indexes_tell(name: str) -> None:
    """A change of these digests needs a new version of `RULES`: indexes would tell other lengths than are trained."""
    encode = encoder(name)
    assert encode is not None
    assert digest([encode(text) for text in ODD]) == SPELLED[name]


def test_the_op_and_the_trainer_read_a_file_and_give_every_caption_the_same_ids() -> None:
    op, trainer = load_clip(str(BUNDLED_CLIP_FILE), "", "float32"), load_export(BUNDLED_CLIP_FILE)
    assert op.context_length == trainer.tokenizer.context_length
    for text in ODD:
        ids = list(op.tokens(text))
        assert ids == list(trainer.tokenizer(text))
        assert ids[-1] == max(ids) == trainer.tokenizer.vocab_size - 1
        assert len(ids) <= op.context_length


def test_described_byte_pairs_are_those_of_open_clip_wherever_it_can_spell_a_text() -> None:
    theirs = open_clip.SimpleTokenizer(context_length=40)
    named = open_clip_tokens(open_clip.SimpleTokenizer(context_length=40), 40)
    for text in ODD:
        ours = list(described_tokens("simple", 40)(text))
        assert list(named(text)) == ours
        if len(text) <= 2_000 and not any("\ud800" <= c <= "\udfff" for c in text):
            assert theirs([text])[0].tolist() == ours + [0] * (40 - len(ours))


def test_many_words_from_many_threads_are_spelled_right_and_not_all_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(byte_pairs, "MAX_REMEMBERED", 50)
    pairs, alone = byte_pairs.remembering(open_clip.SimpleTokenizer()), open_clip.SimpleTokenizer()
    texts = [f"w{n}ord {n}th" for n in range(2_000)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(pairs.encode, texts))
    assert found == [alone.encode(text) for text in texts]
    assert pairs.bpe.cache_info().currsize <= 50
    assert len(pairs.cache) == 2


def test_a_word_that_stands_twice_in_a_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        described_tokens('words:["red", "red"]', 8)
