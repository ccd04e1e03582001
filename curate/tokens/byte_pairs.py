"""CLIP's byte pairs (Radford et al. 2021), whole or cut short, in bounded memory whatever is spelled with them."""

from __future__ import annotations

import functools
from typing import Any

from curate.extras import require

SMALLEST_CUT = 514
"""Ids of the byte symbols (512) and the two marks: the least that the byte pairs can be cut to."""
MARKS = ("<start_of_text>", "<end_of_text>")
MAX_REMEMBERED = 100_000
"""Words whose byte pairs are remembered; open_clip by itself remembers every word it ever saw."""


@functools.cache
def byte_pairs(size: int | None = None) -> Any:
    """open_clip's tokenizer, its last merges left out so that `size` ids remain: the first alone are a valid BPE too.

    The marks of begin and end stay the largest two ids. Raises ValueError for a size that cannot be.
    """
    require("tokenizer simple", "open_clip")
    from open_clip.tokenizer import SimpleTokenizer

    pairs = SimpleTokenizer()
    if size is None or size == pairs.vocab_size:
        return remembering(pairs)
    if not SMALLEST_CUT <= size < pairs.vocab_size:
        raise ValueError(f"tokenizer simple:{size}: expected {SMALLEST_CUT} to {pairs.vocab_size} ids")
    symbols = [pairs.decoder[n] for n in range(size - len(MARKS))]
    pairs.decoder = dict(enumerate([*symbols, *MARKS]))
    pairs.encoder = {symbol: n for n, symbol in pairs.decoder.items()}
    pairs.bpe_ranks = {pair: rank for pair, rank in pairs.bpe_ranks.items() if rank < size - SMALLEST_CUT}
    pairs.vocab_size = size
    pairs.sot_token_id, pairs.eot_token_id = pairs.all_special_ids = [size - 2, size - 1]
    return remembering(pairs)


def remembering(pairs: Any) -> Any:
    """The same tokenizer of open_clip's, which from now on remembers at most MAX_REMEMBERED words, from any thread."""
    pairs.cache = _Fixed(pairs.cache)
    pairs.bpe = functools.lru_cache(MAX_REMEMBERED)(pairs.bpe)
    return pairs


def encodable(text: str) -> str:
    """`text` with a question mark for each lone surrogate, which no tokenizer can encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _Fixed(dict[str, str]):
    """The marks, which are spelled as themselves, and no word besides."""

    def __setitem__(self, word: str, spelled: str) -> None:
        pass
