"""Few-shot prompts: examples before a question, drawn by (dataset, seed, uid), the same for every model.

Flamingo (2204.14198) puts 4 to 32 pairs of an image and its text before the image in question; with none, it takes two
examples without their images, so that the form of an answer is shown and no image is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.mix.content import Picture, Prompt, Segment, System, sample_segments, segment_text
from curate.stream.images import keyed_rng
from curate.stream.reading import UNREADABLE, DatasetReader, DrawnSample


@dataclass(frozen=True)
class FewShot:
    """Puts `shots` examples before a question, and before these `text_only` more of which the images are left out.

    `ask`: words that are asked of every image, where samples bring no question themselves: captions.
    """

    examples: DatasetReader
    seed: int
    shots: int
    text_only: int = 0
    ask: str = ""

    def __call__(self, query: DrawnSample) -> DrawnSample:
        """A conversation that ends with the query's own. Of fewer shots the examples are the first of more.

        Raises ValueError where the dataset has too few readable samples beside the query.
        """
        drawn = self.draw(query.uid)
        shown = [(parts, segments, True) for _, parts, segments in drawn[: self.shots]]
        told = [(parts, segments, False) for _, parts, segments in drawn[self.shots :]]
        asked = (query.parts, self._asked(sample_segments(query.kind, query.parts)), True)
        parts, listed = _joined([*told, *shown, asked])
        return DrawnSample(
            query.uid,
            query.source,
            query.epoch,
            {**parts, "json": json.dumps(listed).encode()},
            "interleaved",
            query.at,
        )

    def draw(self, uid: str) -> list[tuple[int, dict[str, bytes], list[Segment]]]:
        """(row, parts, segments) of each example for the sample `uid`, itself and what cannot be read left out."""
        rng, tried = keyed_rng(self.seed, uid, 0, f"shots/{self.examples.name}"), set[int]()
        found: list[tuple[int, dict[str, bytes], list[Segment]]] = []
        while len(found) < self.shots + self.text_only:
            if len(tried) == self.examples.rows:
                raise ValueError(
                    f"{self.examples.name}: {len(found)} of {self.examples.rows} samples can be examples for {uid}, and"
                    f" {self.shots + self.text_only} are wanted; take fewer shots, or a larger dataset"
                )
            row = int(rng.integers(self.examples.rows))
            if row in tried:
                continue
            tried.add(row)
            if (example := self._example(row, uid)) is not None:
                found.append((row, *example))
        return found

    def _example(self, row: int, uid: str) -> tuple[dict[str, bytes], list[Segment]] | None:
        """A row's parts and segments; None for the sample in question, and for one that says no answer."""
        try:
            found, parts = self.examples.read(row)
            segments = self._asked(sample_segments(self.examples.kind, parts))
        except UNREADABLE:
            return None
        answers = any(isinstance(segment, str) for segment in segments)
        return (parts, segments) if found != uid and answers else None

    def _asked(self, segments: list[Segment]) -> list[Segment]:
        """A sample's segments, `ask` put behind its image where it asks nothing itself."""
        if not self.ask or any(isinstance(segment, Prompt) for segment in segments):
            return segments
        last = max((n + 1 for n, segment in enumerate(segments) if isinstance(segment, Picture)), default=0)
        return [*segments[:last], Prompt(self.ask), *segments[last:]]


def _joined(
    samples: Sequence[tuple[dict[str, bytes] | Any, Sequence[Segment], bool]],
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(parts, JSON) of one conversation of all samples, the images of each shown or not; the last tells the system."""
    parts: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for number, (own, segments, shown) in enumerate(samples):
        for segment in segments:
            if isinstance(segment, Picture):
                if shown:
                    parts[f"{number}.{segment.part}"] = own[segment.part]
                    listed.append({"type": "image", "part": f"{number}.{segment.part}"})
            elif not isinstance(segment, System):
                block = "question" if isinstance(segment, Prompt) else "answer"
                listed.append({"type": "text", "text": segment_text(segment), "block": block})
    told = [s.text for s in samples[-1][1] if isinstance(s, System)]
    return parts, {"segments": [*({"type": "text", "text": text, "block": "system"} for text in told), *listed]}
