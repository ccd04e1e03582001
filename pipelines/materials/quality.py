"""Train a fastText quality classifier: texts to like against texts to dislike (DCLM's recipe).

Li et al. 2024, section 4.4: 200,000 texts of each class, pairs of words, all else as fastText has it. Here one thread,
so that the same texts give the same file, and a tenth held out, so that it is known what the scores are worth.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from curate.commit import commit_file, commit_text, dump_json, file_sha256
from curate.document.segments import is_image, text_of
from curate.models.fasttext import load_fasttext_label
from curate.ops._languages import fold_to_line
from curate.process import hold
from curate.readers import tables, texts
from curate.shards import ShardReader, load_dataset
from curate.shards.info import DATASET_FILE
from pipelines.materials.drawings import roc_auc

HELD_OUT_ONE_IN = 10
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


class QualityError(ValueError):
    """A classifier that cannot be trained on what was given."""


@dataclass(frozen=True)
class Training:
    """Options of training: fastText's, and how many texts of a class are taken."""

    positive_label: str = "hq"
    negative_label: str = "cc"
    max_texts: int = 200_000
    max_characters: int = 100_000
    word_ngrams: int = 2
    dimensions: int = 100
    buckets: int = 2_000_000
    epochs: int = 5
    seed: int = 0


def train(
    positives: Sequence[str], negatives: Sequence[str], out: Path, training: Training | None = None
) -> dict[str, Any]:
    """Train, write the model to `out` (.bin, or .ftz compressed) and what is known of it to `out`.json; returns that.

    `positives` and `negatives`: files of texts (see curate.readers.texts), patterns or folders of such, or datasets of
    texts, pages or documents. Raises QualityError.
    """
    with hold(out, whole=True):
        return _train(positives, negatives, out, training or Training())


def _train(positives: Sequence[str], negatives: Sequence[str], out: Path, training: Training) -> dict[str, Any]:
    if out.suffix not in (".bin", ".ftz"):
        raise QualityError(f"{out}: a fastText model's name ends in .bin, or in .ftz where it is to be compressed")
    with tempfile.TemporaryDirectory() as scratch:
        lines = Path(scratch) / "lines.txt"
        held_out: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        with lines.open("w", encoding="utf-8") as file:
            for label, sources in ((training.positive_label, positives), (training.negative_label, negatives)):
                held_out[label], counts[label] = [], 0
                for line in islice(_lines(sources, training.max_characters), training.max_texts):
                    if _is_held_out(line):
                        held_out[label].append(line)
                    else:
                        file.write(f"__label__{label} {line}\n")
                        counts[label] += 1
                if not counts[label] or not held_out[label]:
                    found = counts[label] + len(held_out[label])
                    raise QualityError(
                        f"{', '.join(sources)}: too few texts for the label {label!r}: {found}, 20 at least; a file of"
                        " text is one text, a table (jsonl, parquet, ...) has a text a row"
                    )
        with commit_file(out) as temporary:
            _fit(lines, temporary, out.suffix == ".ftz", training)
    card = {
        "model_sha256": file_sha256(out),
        "model_bytes": out.stat().st_size,
        "sources": {training.positive_label: _named(positives), training.negative_label: _named(negatives)},
        "texts": counts,
        "held_out": _judge(out, held_out, training),
        "training": vars(training),
    }
    commit_text(out.with_name(out.name + ".json"), dump_json(card))
    return card


_FIT = """
import json, sys, fasttext
lines, out, compressed, options = json.loads(sys.argv[1])
model = fasttext.train_supervised(lines, **options)
if compressed:
    model.quantize(lines, qnorm=True, thread=1, verbose=0)
model.save_model(out)
"""


def _fit(lines: Path, out: Path, compressed: bool, training: Training) -> None:
    """Train in a process of its own. Raises QualityError.

    fastText 0.9.3 sets as many tenths of its vectors to random values as it has threads, and leaves the others as the
    memory was. glibc hands out memory filled with the complement of MALLOC_PERTURB_: zeros, each time the same.
    """
    options = {
        "wordNgrams": training.word_ngrams, "dim": training.dimensions, "bucket": training.buckets,
        "epoch": training.epochs, "seed": training.seed, "thread": 1, "verbose": 0,
    }  # fmt: skip
    order = json.dumps([str(lines), str(out), compressed, options])
    environment = os.environ | {"MALLOC_PERTURB_": "255"}
    done = subprocess.run(
        [sys.executable, "-c", _FIT, order], env=environment, capture_output=True, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        raise QualityError(f"fastText cannot be trained: {(done.stderr.strip().splitlines() or ['it died'])[-1]}")


def _is_held_out(line: str) -> bool:
    return hashlib.blake2b(line.encode(), digest_size=8).digest()[0] % HELD_OUT_ONE_IN == 0


def _lines(sources: Sequence[str], most: int) -> Iterator[str]:
    """Distinct texts, each on a line as the op `fasttext_quality` reads it."""
    seen = set[bytes]()
    for text in (text for source in sources for text in _texts(source)):
        line = fold_to_line(text[:most].replace("__label__", ""))  # what fastText takes for a label
        digest = hashlib.blake2b(line.encode(), digest_size=16).digest()
        if line and digest not in seen:
            seen.add(digest)
            yield line


def _texts(source: str) -> Iterator[str]:
    dataset = _dataset(source)
    if dataset is not None:
        info, folder = load_dataset(dataset), dataset.parent
        for shard in info.shards:
            with ShardReader(folder / shard.tar, folder / shard.index) as reader:
                yield from (text for row in range(len(reader)) if (text := _text(reader, row)))
        return
    for path in _files(source):
        for found in texts.read(path):
            if not isinstance(found, tables.BadRow):
                yield found["text"]


def _text(reader: ShardReader, row: int) -> str:
    """The text of a sample, of a document its blocks; empty for none."""
    names = {part.name for part in reader.parts(row)}
    if "txt" in names:
        return reader.read_part(row, "txt").decode("utf-8", "replace")
    segments = json.loads(reader.read_part(row, "json")).get("segments", ()) if "json" in names else ()
    return text_of([segment for segment in segments if not is_image(segment)])


def _named(sources: Sequence[str]) -> list[dict[str, str]]:
    """File names and digests, no paths: the same texts elsewhere make the same card."""
    files = [[dataset] if (dataset := _dataset(source)) else _files(source) for source in sources]
    return [{"name": path.name, "sha256": file_sha256(path)} for paths in files for path in paths]


def _dataset(source: str) -> Path | None:
    """The dataset.json that a source is or holds, or would hold if it were not below, in `dataset`."""
    path = Path(source)
    if path.name == DATASET_FILE:
        return path
    is_one = any((folder / DATASET_FILE).is_file() for folder in (path, path / "dataset"))
    return path / DATASET_FILE if is_one else None


def _files(source: str) -> list[Path]:
    """The files that a source means; of a folder, those right in it that hold texts. Raises QualityError."""
    path = Path(source)
    if not path.is_dir():
        return tables.expand(source)
    found = sorted(file for file in path.iterdir() if file.is_file() and _holds_texts(file))
    if not found:
        raise QualityError(f"{source}: the folder holds neither a dataset.json nor files of text (txt, md, jsonl, ...)")
    return found


def _holds_texts(path: Path) -> bool:
    """Whether its name says so; a file without a suffix might be anything."""
    try:
        return texts.kind_of(path) != ""
    except tables.TableError:
        return False


def _judge(model: Path, held_out: dict[str, list[str]], training: Training) -> dict[str, Any]:
    """How well texts that it never saw are told apart, and the score that a share of the disliked reaches."""
    score = load_fasttext_label(model, training.positive_label)
    liked, other = (np.array([score(line) for line in lines]) for lines in held_out.values())
    thresholds = {str(share): round(float(np.quantile(other, 1 - share)), 6) for share in SHARES}
    return {
        "texts": {label: len(lines) for label, lines in held_out.items()},
        "auc": round(float(roc_auc(liked, other)), 4),
        f"score_that_a_share_of_{training.negative_label}_reaches": thresholds,
    }
