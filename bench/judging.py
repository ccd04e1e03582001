"""Measure a judge on planted pairs: texts that agree, and texts that do not.

    python -m bench.judging --url http://127.0.0.1:8080/v1 --model qwen --pairs 60

Matched: the title of an Openclipart drawing against its author's own keywords. Mismatched: against those of another
drawing. Half of the pairs are either, and no title stands twice. Printed: area under the ROC curve of the model's score
and of the words in common, Cohen's kappa of "4 or 5" against the label, faults, and the time. Answers are kept in
`--work`: a second run asks nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from curate.llm.model import ChatModel, Gateways, share_chats
from curate.llm.settings import Endpoint
from curate.ops.synth.judge import alt_agreement, judge_agreement
from pipelines.materials.drawings import roc_auc


def main() -> None:
    """Judge the planted pairs and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--captions", type=Path, default=Path("work/openclipart/source/captions.jsonl"))
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--work", type=Path, default=Path("work/judging"))
    given = parser.parse_args()
    alts, texts, labels = plant(given.captions, given.pairs)
    chat = ChatModel("judge", Endpoint(url=given.url, model=given.model, key=None, timeout_s=900, concurrency=4))
    given.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with Gateways(given.work) as gateways:
        share_chats(gateways.addresses([chat]))
        found = judge_agreement(chat=chat, judged="caption")(alts, texts)
    words = alt_agreement(alts, texts, column="caption")["alt_words_found"]
    scores = [None if score is None else float(score) for score in found["judged_score"]]
    faults = {name: list(found["judged_fault"]).count(name) for name in sorted(set(found["judged_fault"]))}
    print(
        json.dumps(
            {
                "pairs": len(labels),
                "seconds": round(time.monotonic() - started),
                "faults": faults,
                "model": figures(scores, labels, 4),
                "words": figures([None if w is None else float(w) for w in words], labels, 0.5),
            },
            indent=2,
        )
    )
    for alt, text, label, score, why in zip(alts, texts, labels, scores, found["judged_reason"], strict=True):
        print(json.dumps([label, score, alt, text, why]))


def plant(captions: Path, count: int) -> tuple[list[str], list[str], list[bool]]:
    """Plant pairs: titles, keywords, and whether they are of one drawing."""
    rows = [json.loads(line) for line in captions.read_text(encoding="utf-8").splitlines()]
    titles = Counter(row.get("title") for row in rows)  # those of a whole collection say nothing of a picture
    told = [row for row in rows if row.get("title") and row.get("keywords") and titles[row["title"]] == 1]
    good = [(row["title"], ", ".join(row["keywords"][:8])) for row in told]
    rng = np.random.default_rng(0)
    chosen = [good[n] for n in rng.permutation(len(good))[: 2 * count].tolist()]
    alts = [title for title, _ in chosen[:count]]
    labels = [n % 2 == 0 for n in range(count)]
    texts = [chosen[n if label else count + n][1] for n, label in enumerate(labels)]
    return alts, texts, labels


def figures(scores: Sequence[float | None], labels: Sequence[bool], least: float) -> dict[str, float]:
    """Area under the ROC curve, and kappa of `least` or more, over the rows that have a score."""
    judged = [(score, label) for score, label in zip(scores, labels, strict=True) if score is not None]
    values, truth = np.array([s for s, _ in judged]), np.array([label for _, label in judged])
    said = values >= least
    agreed = float((said == truth).mean())
    chance = float(said.mean() * truth.mean() + (1 - said.mean()) * (1 - truth.mean()))
    kappa = (agreed - chance) / (1 - chance) if chance < 1 else 0.0
    return {"judged": len(judged), "auc": round(roc_auc(values[truth], values[~truth]), 3), "kappa": round(kappa, 3)}


if __name__ == "__main__":
    main()
