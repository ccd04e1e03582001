"""Measure near images on the nine kinds of copies that the web makes, by kind: curate, and pHash at its best distance.

    python bench/near_images.py --only "wallpaper tiles"

One copy of one kind of every picture in --every, planted with a seed (`bench/planted_copies.py`), among all pictures of
a collection of `bench/duplicates.py`. Precision: of the rows removed, those whose named representative shows the same
picture. Recall: of the planted pictures, those of which a copy was removed.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections.abc import Mapping
from itertools import islice

from PIL import Image

from bench.duplicates import COLLECTIONS, Removed, Row, by_curate, by_phash, tell, uid
from bench.planted_copies import KINDS, plant


def rows_of(pictures: Mapping[str, Image.Image], every: int, seed: int) -> list[Row]:
    rows, kinds = [], list(KINDS)
    for number, (name, image) in enumerate(pictures.items()):
        picture = hashlib.sha256(image.tobytes()).hexdigest()
        rows.append(Row(uid(name), image, len(image.tobytes()) // 8, picture, None))
        if number % every == 0:
            kind = kinds[number // every % len(kinds)]
            copy, nbytes = plant(image, kind, random.Random(f"{seed}/{name}"))
            rows.append(Row(uid(f"{name}/copy"), copy, nbytes, picture, kind))
    return rows


def tell_found(bench: str, who: str, rows: list[Row], removed: Removed) -> None:
    by_uid = {row.uid: row for row in rows}
    right = {name for name, of in removed.items() if by_uid[name].picture == by_uid[of].picture}
    reached = {by_uid[name].picture for name in right}
    for kind in (None, *KINDS):
        planted = [row.picture in reached for row in rows if row.way and kind in (None, row.way)]
        if planted:
            tell(bench, who, f"found, {kind or 'all kinds'}", sum(planted) / len(planted), "share", len(planted))
    tell(bench, who, "precision", len(right) / max(1, len(removed)), "share", len(removed))


def precise(rows: list[Row], found: Mapping[int, Removed]) -> int:
    """The largest distance at which .98 of what is removed is right, else the least."""
    picture = {row.uid: row.picture for row in rows}
    shares = {
        distance: sum(picture[name] == picture[of] for name, of in removed.items()) / max(1, len(removed))
        for distance, removed in found.items()
    }
    return max((distance for distance, share in shares.items() if share >= 0.98), default=min(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(COLLECTIONS), help="one collection alone")
    parser.add_argument("--most", type=int, default=10_000, help="pictures of a collection (default 10,000)")
    parser.add_argument("--every", type=int, default=2, help="one picture in so many is copied (default 2)")
    parser.add_argument("--seed", type=int, default=7, help="how they are copied (default 7)")
    chosen = parser.parse_args()
    for name, load in COLLECTIONS.items():
        if chosen.only in (None, name):
            rows = rows_of(dict(islice(load().items(), chosen.most)), chosen.every, chosen.seed)
            bench, start = f"near images: {name}", time.process_time()
            tell_found(bench, "curate", rows, by_curate(rows))
            tell(
                bench,
                "curate",
                "processor time",
                (time.process_time() - start) / len(rows) * 1e3,
                "ms/image",
                len(rows),
            )
            found = by_phash(rows)
            distance = precise(rows, found)
            tell_found(bench, f"pHash, distance {distance}", rows, found[distance])


if __name__ == "__main__":
    main()
