"""Examples before a question: few-shot prompts of a dataset's own questions and their answers, drawn by seed."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from curate.mix.content import Picture, Prompt
from curate.shards.info import dataset_file
from curate.stream.reading import DatasetReader
from curate.stream.shots import FewShot
from train.evaluation.answerer import Asked, decoded
from train.evaluation.questions import sample_questions


class Examples:
    """Draws `shots` samples beside the one that is asked of, and puts the first question of each with its answer.

    Drawn by (dataset, seed, uid): of fewer shots the examples are the first of more (`curate.stream.shots`), and every
    model is shown the same. `prompt`: said before each caption.
    """

    def __init__(self, dataset: Path, shots: int, seed: int, prompt: str) -> None:
        self._reader = DatasetReader(dataset_file(dataset).parent.name, dataset)
        self._few_shot = FewShot(self._reader, seed, shots)
        self._prompt = prompt

    def before(self, uid: str) -> Asked:
        """The examples before a sample's question. Raises ValueError where the dataset has too few."""
        out: list[str | Prompt | Image.Image] = []
        for _, parts, _ in self._few_shot.draw(uid):
            for question in sample_questions(self._reader.kind, parts)[:1]:
                out += [decoded(parts[p.part]) if isinstance(p, Picture) else p for p in question.asked]
                out += [Prompt(self._prompt)] if self._prompt and question.task == "caption" else []
                out.append(question.references[0])
        return out

    def close(self) -> None:
        """Close every open shard."""
        self._reader.close()
