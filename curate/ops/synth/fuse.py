"""The ops fuse and candidate_texts: one sentence of alt text and caption, and all texts of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import WRITTEN
from curate.models.fasttext import BUNDLED_LANGUAGE_MODEL, fasttext_path
from curate.models.files import file_digest
from curate.ops._languages import LanguageLabels
from curate.ops.spec import Amount, Columns, Count, Knobs, Mass, Natural, TextColumn, op
from curate.ops.synth._faults import WordBounds, find_fault
from curate.ops.synth._writing import TextDraws, WantedTexts, columns_of_texts, write

NOTHING_TO_FUSE = "nothing_to_fuse"
"""The fault of a row without an alt text, or without a caption where one is wanted."""


@op(
    reads=("text", "uid"),
    writes={
        "vecap": pa.string(),
        "vecaps": pa.list_(pa.string()),
        "vecap_by": WRITTEN,
        "vecap_fault": pa.string(),
        "vecap_tries": pa.int32(),
    },
    version=1,
    batch_size=256,
    needs=("fasttext",),
    timeout_s=0,
    tally=("vecap_fault",),
)
class fuse:  # noqa: N801 - ops are named as recipes name them
    """One sentence that a chat model makes of the alt text and a caption: `vecap`, null where every try was at fault.

    VeCLIP's second step (Lai et al. 2310.07699, 3.2); with other prompts CapsFusion's fusion (2310.20550) and LaCLIP's
    rewriting of the alt text alone (2305.20088: `prompt: laclip`, `caption: null`, `n: 4`, `temperature: 0.9`). An
    answer with a fault (curate.ops.synth._faults: refusal, lost_names, ...) is drawn again, `tries` times at most;
    `vecap_fault` is none or the last fault, `vecap_tries` the draws that were asked for, `vecaps` all `n` without one.
    A model is shown `max_alt_characters` of the alt text. Each draw is seeded by `seed`, the row's uid and its number.
    """

    def __init__(  # noqa: PLR0913 - each is a knob
        self,
        *,
        chat: ChatModel,
        llm: str | None = None,
        caption: TextColumn | None = "caption",
        prompt: str = "vecap",
        n: Count = 1,
        temperature: Amount = 0.7,
        top_p: Mass = 1.0,
        max_tokens: Count = 96,
        tries: Count = 3,
        min_words: Count = 3,
        max_words: Count = 60,
        max_alt_characters: Count = 600,
        language_model: str = BUNDLED_LANGUAGE_MODEL,
        seed: Natural = 0,
    ) -> None:
        del llm  # the name by which the recipe chose `chat`
        self._prompt, self._alt_characters, self._has_caption = (
            load_prompt(prompt),
            max_alt_characters,
            caption is not None,
        )
        self._draws = TextDraws(n, tries, seed, temperature, top_p, max_tokens)
        self._find_fault = partial(
            find_fault, label=LanguageLabels(language_model), lengths=WordBounds(min_words, max_words)
        )
        self._chat = chat.connect()

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digests of the prompt and of the language model's file."""
        return f"{load_prompt(knobs['prompt']).digest} {file_digest(fasttext_path(knobs['language_model']))}"

    def __call__(self, texts: Sequence[str], uids: Sequence[str], captions: Sequence[str | None] = ()) -> Columns:
        """A fusion a row."""
        seen = captions if self._has_caption else [""] * len(texts)
        wanted = [self._want(*row) for row in zip(texts, seen, uids, strict=True)]
        written = write(self._chat, wanted, self._draws)
        columns = columns_of_texts("vecap", written, self._prompt, self._draws)
        for number, one in enumerate(wanted):
            if one is None:
                columns["vecap_fault"][number] = NOTHING_TO_FUSE
        return columns | {"vecap_tries": [row.tries for row in written]}

    def _want(self, alt: str, caption: str | None, uid: str) -> WantedTexts | None:
        """What is asked for a row, if it has something to fuse."""
        alt, caption = shorten(alt, self._alt_characters), " ".join((caption or "").split())
        if not alt or (self._has_caption and not caption):
            return None
        messages = self._prompt.messages({"alt": alt, "caption": caption})
        return WantedTexts(messages, uid, lambda text: self._find_fault(alt, caption, text))


@op(
    reads=("text",),
    writes={"texts": pa.list_(pa.string()), "texts_from": pa.list_(pa.string())},
    version=1,
    batch_size=1024,
)
def candidate_texts(
    texts: Sequence[str],
    captions: Sequence[str | None] = (),
    fusions: Sequence[str | None] = (),
    *,
    caption: TextColumn = "caption",
    fusion: TextColumn = "vecap",
) -> Columns:
    """All texts of a sample that are there, `texts`, in step with `texts_from`: `alt`, `caption`, `vecap`.

    Publish `texts`, and a mixture (`texts: {texts: 1}`) draws one of them at each access. VeCLIP (Lai et al.
    2310.07699) finds that fusions alone hurt and mixed with alt texts help.
    """
    del caption, fusion  # they name the columns that were given
    rows = [
        [(text, name) for text, name in zip(row, ("alt", "caption", "vecap"), strict=True) if text and text.strip()]
        for row in zip(texts, captions, fusions, strict=True)
    ]
    return {
        "texts": [[text for text, _ in row] for row in rows],
        "texts_from": [[name for _, name in row] for row in rows],
    }


def shorten(text: str, most: int) -> str:
    """A text on one line, cut behind its last word within `most` characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else line[: most + 1].rpartition(" ")[0] or line[:most]
