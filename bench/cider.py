"""CIDEr-D of ours against coco-caption's own, on the same tokens.

Captions are drawn at random, odd ones among them.

    pip install --no-deps --target work/peers pycocoevalcap      (BSD-2-Clause, 104 MB)
    PYTHONPATH=work/peers python -m bench.cider --pictures 5000

Prints one JSON line: the largest difference of a picture's score and of the corpus's, and seconds of processor time.
"""

from __future__ import annotations

import json
import time
from typing import Annotated

import numpy as np
import typer

from train.evaluation.cider import cider_d

REFERENCES = 5
TOLERANCE = 1e-9

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def captions(pictures: int, seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Candidates and references: some copied, some cut, some empty, some a word that no reference has."""
    rng = np.random.default_rng(seed)
    words = [f"w{n}" for n in range(2000)]
    odds = 1 / np.arange(1, len(words) + 1)
    odds /= odds.sum()

    def drawn() -> list[str]:
        return [str(word) for word in rng.choice(words, int(rng.integers(1, 16)), p=odds)]

    references = [[drawn() for _ in range(int(rng.integers(1, REFERENCES + 1)))] for _ in range(pictures)]
    candidates = []
    for listed in references:
        first = listed[0]
        made = (list(first), first[: len(first) // 2], [*first, *first], drawn(), [], ["unheard"])
        candidates.append(made[int(rng.integers(len(made)))])
    return candidates, references


@app.command()
def main(pictures: Annotated[int, typer.Option(min=2)] = 5000, seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    from pycocoevalcap.cider.cider_scorer import CiderScorer  # type: ignore[import-not-found]

    candidates, references = captions(pictures, seed)
    started = time.process_time()
    ours = cider_d(candidates, references)
    between = time.process_time()
    scorer = CiderScorer()
    for candidate, listed in zip(candidates, references, strict=True):
        scorer += (" ".join(candidate), [" ".join(reference) for reference in listed])
    score, scores = scorer.compute_score()
    found = {
        "pictures": pictures,
        "score": float(np.mean(ours)),
        "largest_difference": float(np.abs(np.array(ours) - scores).max()),
        "difference_of_the_corpus": abs(float(np.mean(ours)) - float(score)),
        "ours_s": round(between - started, 2),
        "theirs_s": round(time.process_time() - between, 2),
    }
    print(json.dumps(found))
    if found["largest_difference"] > TOLERANCE:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
