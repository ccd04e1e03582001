"""CIDEr-D of captions (Vedantam et al. 1411.5726, section 5), with the constants and counts of coco-caption.

Lists of tokens in, a score a candidate out; `bench/cider.py` holds it against that implementation. The tokens are our
own: coco-caption runs Stanford's PTB tokenizer, in Java, and `caption_tokens` follows what it does with English
captions (lower case, no punctuation, `n't` and `'s` apart). Scores of published systems are comparable to about the
first decimal; between models measured here, exactly.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MAX_N = 4
SIGMA = 6.0
"""Of the Gaussian over the difference of lengths."""
SCALE = 10.0

Tokens = Sequence[str]
Gram = tuple[str, ...]

_NUMBER = r"\d+(?:[.,]\d+)+"
_WORD = r"\w+(?:-\w+)*"
_TOKEN = re.compile(rf"{_NUMBER}|{_WORD}(?=n't\b)|n't\b|'\w+|{_WORD}")


def caption_tokens(caption: str) -> list[str]:
    """Words of a caption as CIDEr-D counts them: lower case, without punctuation."""
    return _TOKEN.findall(caption.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """CIDEr-D of each candidate against its references, 0 to 10; the corpus's score is their mean.

    How rare an n-gram is, is told from the references of all pictures together. A picture without references is an
    error of the caller's, and one picture alone scores 0: nothing is rare in it.
    """
    assert len(candidates) == len(references) and all(references), "a candidate has one or more references"
    counted = [[_grams(tokens) for tokens in listed] for listed in references]
    seen = Counter(gram for listed in counted for gram in set().union(*listed))
    log_pictures = math.log(len(references)) if references else 0.0
    rarity = _Rarity(seen, log_pictures)
    return [_score(rarity, candidate, listed) for candidate, listed in zip(candidates, references, strict=True)]


@dataclass(frozen=True)
class _Rarity:
    """How many pictures' references have each n-gram, and the logarithm of all pictures."""

    seen: Mapping[Gram, int]
    log_pictures: float

    def of(self, gram: Gram) -> float:
        """Inverse document frequency; an n-gram that no reference has counts as one that a single picture has."""
        return self.log_pictures - math.log(max(1, self.seen.get(gram, 0)))


@dataclass(frozen=True)
class _Weighed:
    """A caption's n-grams by their weights, their norm for each n, and its length."""

    weights: list[dict[Gram, float]]
    norms: list[float]
    length: int


def _score(rarity: _Rarity, candidate: Tokens, references: Sequence[Tokens]) -> float:
    mine = _weigh(rarity, candidate)
    total = sum(sum(_similarities(mine, _weigh(rarity, reference))) for reference in references)
    return SCALE * total / MAX_N / len(references)


def _similarities(mine: _Weighed, theirs: _Weighed) -> Iterator[float]:
    """The cosine for each n, a candidate's weight counted up to the reference's, times the penalty of lengths."""
    penalty = math.exp(-((mine.length - theirs.length) ** 2) / (2 * SIGMA**2))
    for own, other, norm, other_norm in zip(mine.weights, theirs.weights, mine.norms, theirs.norms, strict=True):
        product = sum(min(weight, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, weight in own.items())
        yield penalty * product / (norm * other_norm) if norm and other_norm else 0.0


def _weigh(rarity: _Rarity, tokens: Tokens) -> _Weighed:
    weights: list[dict[Gram, float]] = [{} for _ in range(MAX_N)]
    for gram, count in _grams(tokens).items():
        weights[len(gram) - 1][gram] = count * rarity.of(gram)
    norms = [math.sqrt(sum(weight**2 for weight in of_n.values())) for of_n in weights]
    return _Weighed(weights, norms, len(tokens))


def _grams(tokens: Tokens) -> Counter[Gram]:
    """N-grams of 1 to 4 tokens, counted."""
    return Counter(tuple(tokens[at : at + n]) for n in range(1, MAX_N + 1) for at in range(len(tokens) - n + 1))
