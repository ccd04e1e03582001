"""The op text_copies: rows of one text counted over all shards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.ops.quality.text import text_copies, text_digest


def test_text_counts_the_rows_that_share_it_over_all_shards(tmp_path: Path) -> None:
    texts = [["gramastar", "Cat", "Gramastar "], ["a  cat", "gramastar", "A cat"], []]
    shards = []
    for number, some in enumerate(texts):
        uids = [f"{number}-{place}" for place in range(len(some))]
        shards.append(tmp_path / f"in-{number}.parquet")
        digests = pa.array(text_digest(some)["text_digest"], pa.string())
        pq.write_table(pa.table({"uid": pa.array(uids, pa.string()), "text_digest": digests}), shards[-1])
    outputs = [tmp_path / f"out-{number}.parquet" for number in range(len(texts))]

    text_copies(shards, outputs, tmp_path / "scratch")

    made = [pq.read_table(path).to_pydict() for path in outputs]
    assert [m["text_copies"] for m in made] == [[3, 1, 3], [2, 3, 2], []]
    assert made[1]["uid"] == ["1-0", "1-1", "1-2"]
