"""Images that many documents show: the hash, the count of near ones in a sample, and what is taken out."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from documents import Shelf, blank, grouped, picture, row
from PIL import Image

from curate.image.files import decode
from curate.ops.dedup import image_copies as ops
from curate.ops.dedup._phash import perceptual_hash


def hashed(body: bytes) -> int:
    image = decode(body).image
    assert image is not None
    return perceptual_hash(image)


def soft(seed: int, side: int = 256) -> Image.Image:
    """A picture of soft shapes, as photographs are."""
    return Image.frombytes("RGB", (8, 8), random.Random(seed).randbytes(192)).resize((side, side))


def saved(image: Image.Image, kind: str, **how: int) -> bytes:
    image.save(body := io.BytesIO(), kind, **how)
    return body.getvalue()


def distance(first: int, second: int) -> int:
    return ((first ^ second) % (1 << 64)).bit_count()


def test_a_copy_in_another_format_and_size_hashes_nearly_the_same_and_another_picture_does_not() -> None:
    for seed in range(20):
        image = soft(seed)
        own = hashed(saved(image, "PNG"))
        for copy in (saved(image, "JPEG", quality=60), saved(image.resize((170, 170)), "WEBP")):
            assert distance(own, hashed(copy)) <= 5
        assert distance(own, hashed(saved(soft(seed + 100), "PNG"))) > 11


def test_a_plain_image_has_a_hash_and_what_is_absent_or_damaged_has_none(tmp_path: Path) -> None:
    blobs = Shelf(tmp_path).blobs(blank(), "http_404", picture(200, 200))
    assert [h is None for h in row(ops.image_hashes([blobs]))["image_hashes"]] == [False, True, False]


def naive(shards: Sequence[Sequence[tuple[str, list[int | None]]]], most: int) -> dict[str, list[int | None]]:
    rows = dict(row for shard in shards for row in shard)
    everywhere = {(uid, one) for uid, found in rows.items() for one in found if one is not None}
    return {
        uid: [
            None if one is None else sum(distance(one, other) <= most for who, other in everywhere if who != uid)
            for one in found
        ]
        for uid, found in rows.items()
    }


@pytest.mark.parametrize("most", [0, 3, 5, 8, 11])
def test_near_hashes_of_other_documents_are_all_counted(tmp_path: Path, most: int) -> None:
    chance = random.Random(most)
    middles = [chance.getrandbits(64) for _ in range(4)] + [0, (1 << 64) - 1]

    def near(bits: int) -> int:
        for bit in chance.sample(range(64), chance.randrange(14)):
            bits ^= 1 << bit
        return int(np.uint64(bits).astype(np.int64))

    rows: list[tuple[str, list[int | None]]] = [
        (f"d{n:03d}", [near(chance.choice(middles)) if chance.random() < 0.9 else None for _ in range(n % 4)])
        for n in range(120)
    ]
    shards = [rows[:50], [], rows[50:]]
    said = [[(uid, {"image_hashes": found}) for uid, found in shard] for shard in shards]
    found = grouped(ops.image_copies, said, tmp_path, max_distance_bits=most)
    assert {uid: each["image_copies"] for uid, each in found.items()} == naive(shards, most)
    largest = {u: max((n for n in f if n is not None), default=None) for u, f in naive(shards, most).items()}
    assert {uid: each["most_copied_image"] for uid, each in found.items()} == largest


def test_a_sample_is_the_same_however_the_corpus_is_cut(tmp_path: Path) -> None:
    rows = [(f"d{n:03d}", {"image_hashes": [n % 7, 1 << 40]}) for n in range(90)]
    whole = grouped(ops.image_copies, [rows], tmp_path / "a", sample_images=50)
    cut = grouped(ops.image_copies, [rows[60:], rows[:60]], tmp_path / "b", sample_images=50)
    assert whole == cut
    assert all(20 < each["image_copies"][0] <= 50 for each in whole.values())


def test_a_distance_that_cannot_be_looked_up_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="from 0 to 11"):
        grouped(ops.image_copies, [[("a", {"image_hashes": [1]})]], tmp_path, max_distance_bits=12)


def test_of_images_of_a_page_that_look_alike_the_first_stays() -> None:
    hashes = [[0b0, 0b111, 0b11111111, None, 0b1], [None], []]
    assert ops.repeated_looks(hashes)["looks_repeated"] == [[False, True, False, None, True], [None], []]
    assert ops.repeated_looks(hashes, within_bits=2)["looks_repeated"][0] == [False, False, False, None, True]
    chain = [0b0, 0b1111, 0b11111111]
    assert ops.repeated_looks([chain])["looks_repeated"] == [[False, True, False]], "one that goes hides no other"
