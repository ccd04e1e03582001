"""Examples of every end of rows, and the values that rules looked at, for the report.

Rows are read a shard at a time, in an order that only depends on the shards' numbers. The first shards, up to
`SCAN_ROWS` rows, give the values; further ones are only read while a rule or an error has no example yet.
Which rows of an end become its examples hangs on their uids alone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.image.files import ImageError, header
from curate.image.scaled import scaled_image
from curate.ops.spec import CONTENT
from curate.pool.columns import ColumnsFile
from curate.pool.funnel import StepCount
from curate.pool.layout import Pool
from curate.pool.payloads import Blobs
from curate.pool.tables import count_rows, read_table
from curate.recipe.steps import Resolved
from curate.report.parts import PartSurvey, survey_parts
from curate.report.values import ShownValues, join_values, shown_values

SCAN_ROWS = 50_000
"""Rows whose values are drawn; a larger run is sampled by shards."""

EXAMPLES = 8
SIDE_PX = 96
PAGE_SIDE_PX = 240
"""Of a page, whose layout is to be seen."""

DRAW_PIXELS = 40_000_000
"""Larger images are named, not drawn: a page of them would take minutes."""

CAPTION_CHARACTERS = 160
TEXT_CHARACTERS = 600
"""Of a sample that is a text, more is shown."""

_KEPT_CHARACTERS = frozenset("\u200c\u200d")  # joiners that Persian, Hindi and emoji need
_PLACE = ("tar", "offset", "nbytes", "sha256")
_ROW = ("origin", "text", "ext", *_PLACE)
_NO_PICTURE = ("html", "json", "pdf")

Row = dict[str, Any]


class Group(NamedTuple):
    """One way to end: ("kept", "", ""), or dropped by a rule or failed by an error at a step."""

    outcome: str
    step: str
    rule: str


KEPT = Group("kept", "", "")


@dataclass(frozen=True)
class Example:
    """A row to look at. Its texts are cut and shown safely, not yet escaped; `thumbnail` is a data URI.

    `twin` is the picture of the row that the value names, where it names one: a copy's original. `missing` says why
    there is no thumbnail; a text alone has none, and says nothing.
    """

    uid: str
    caption: str
    length: str
    value: str
    notes: str
    origin: str
    thumbnail: str | None
    twin: str | None
    missing: str


@dataclass
class RowSurvey:
    """Examples by end, values by (step, column), the kept rows' commonest hosts, and how many rows were read."""

    examples: dict[Group, list[Example]]
    values: dict[tuple[str, str], ShownValues]
    hosts: Counter[str]
    rows: int
    total: int
    parts: PartSurvey


class _Pick(NamedTuple):
    rank: int
    shard: int
    row: int


@dataclass
class _Scan:
    """What is gathered while shards go by."""

    pool: Pool
    steps: Sequence[Resolved]
    picks: dict[Group, list[_Pick]]
    side_px: int
    parts: dict[tuple[str, str], list[ShownValues]] = field(default_factory=dict)
    hosts: Counter[str] = field(default_factory=Counter)


def survey(
    pool: Pool, decisions: Path, steps: Sequence[Resolved], funnel: Sequence[StepCount], side_px: int = SIDE_PX
) -> RowSurvey:
    """Look at the rows of a finished run. `decisions` is its folder of decisions, `steps` have their keys."""
    paths = _in_order(decisions)
    scan = _Scan(pool, steps, {group: [] for group in groups(funnel)}, side_px)
    rows, looked = 0, []
    for path in paths:
        full = rows < SCAN_ROWS
        if not full and all(scan.picks.values()):
            break
        table = read_table(path, ["uid", "outcome", "step", "rule"])
        _pick(scan, int(path.stem), table)
        if full:
            rows += table.num_rows
            looked.append(path)
            _look(scan, int(path.stem), table)
    values = {at: join_values(parts) for at, parts in scan.parts.items()}
    total = sum(count_rows(p) for p in paths) if rows >= SCAN_ROWS else rows
    return RowSurvey(_examples(scan, decisions), values, scan.hosts, rows, total, survey_parts(pool, looked, steps))


def groups(funnel: Sequence[StepCount]) -> list[Group]:
    """Every end that the funnel counts, in its order; kept rows last."""
    found = []
    for count in funnel:
        found += [Group("dropped", count.step, rule) for rule in sorted(count.dropped)]
        found += [Group("failed", count.step, error) for error in sorted(count.failed)]
    return [*found, KEPT] if funnel and funnel[-1].kept else found


def shown(text: str, most: int = CAPTION_CHARACTERS) -> str:
    """Text from strangers as one line that cannot steer a page: control, bidi and unassigned characters are visible.

    At most `most` characters; `…` says that there are more.
    """
    return "".join(_shown_character(c) for c in text[:most]) + ("…" if len(text) > most else "")


def thumbnail(data: bytes, side_px: int = SIDE_PX) -> tuple[str | None, str]:
    """A WebP of at most `side_px` a side as a data URI; or None and why there is none."""
    found = header(data)
    if found.error is not None:
        return None, found.error
    if found.width * found.height > DRAW_PIXELS:
        return None, f"{found.width} × {found.height} pixels, not drawn"
    try:
        picture = scaled_image(data, 2 * side_px)
    except ImageError as err:
        return None, err.error
    picture.thumbnail((side_px, side_px))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=75, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode(), ""


def _in_order(decisions: Path) -> list[Path]:
    """The shards, mixed, so that the first of them are a fair sample of the source."""
    return sorted(decisions.glob("[0-9]*.parquet"), key=lambda p: hashlib.blake2b(p.stem.encode()).digest())


def _pick(scan: _Scan, shard: int, table: pa.Table) -> None:
    """Keep the rows with the smallest ranks of each end. The rank is the half of the uid that breaks no ties."""
    if not table.num_rows:
        return
    ends = [pc.fill_null(table[c].combine_chunks(), "") for c in Group._fields]
    coded = pc.binary_join_element_wise(*ends, "\0").dictionary_encode()
    code = coded.indices.to_numpy()
    rank = np.frombuffer(bytes.fromhex("".join(table["uid"].to_pylist())), dtype=">u8")[1::2]
    for number, name in enumerate(coded.dictionary.to_pylist()):
        rows = np.flatnonzero(code == number)
        best = rows[np.argsort(rank[rows], kind="stable")[:EXAMPLES]].tolist()
        group = Group(*name.split("\0"))
        fresh = [_Pick(int(rank[row]), shard, row) for row in best]
        scan.picks[group] = sorted([*scan.picks.get(group, []), *fresh])[:EXAMPLES]


def _look(scan: _Scan, shard: int, table: pa.Table) -> None:
    """Take the values that the rules of every step looked at in this shard, and the kept rows' hosts."""
    outcome, step, rule = (np.array(table[c].to_pylist(), dtype=object) for c in Group._fields)
    order = {s.label: n for n, s in enumerate(scan.steps)} | {"ingest": -1, None: len(scan.steps)}
    last = np.array([order[label] for label in step.tolist()], dtype=np.int64)
    for number, at in enumerate(scan.steps):
        for column in dict.fromkeys(name for c in at.conditions for name in c.columns):
            names = [c.name for c in at.conditions if column in c.columns]
            ended = (outcome == "dropped") & (step == at.label) & np.isin(rule.astype(str), names)
            taken = last >= number
            found = _column(scan, shard, column, table.num_rows)
            if found is not None:
                one = shown_values(column, found.filter(pa.array(taken)), ended[taken])
                scan.parts.setdefault((at.label, column), []).append(one)
    origins = read_table(scan.pool.rows(shard), ["origin"])["origin"].filter(pa.array(outcome == "kept"))
    scan.hosts.update(host for origin in origins.to_pylist() if (host := host_of(origin)))


def host_of(origin: str) -> str:
    """The host of a URL; empty for a path or a broken URL."""
    try:
        return (urlsplit(origin).hostname or "") if origin.startswith(("http://", "https://")) else ""
    except ValueError:
        return ""


def _column(scan: _Scan, shard: int, column: str, rows: int) -> pa.Array | None:
    """A column as the recipe names it, one entry a pool row; None when its values are no plain ones."""
    made = next(((s, own) for s in scan.steps for own, shown in s.columns.items() if shown == column), None)
    if made is None:
        return None  # counted or picked of the parts of each document, and kept nowhere
    step, own = made
    kind = step.types[own]
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        return None
    return ColumnsFile(scan.pool.columns(step.key, shard)).column(own).take(range(rows)).combine_chunks()


def _examples(scan: _Scan, decisions: Path) -> dict[Group, list[Example]]:
    """The picked rows, each shard opened once."""
    wanted: dict[int, list[tuple[Group, _Pick]]] = {}
    for group, picks in scan.picks.items():
        for pick in picks:
            wanted.setdefault(pick.shard, []).append((group, pick))
    found: dict[Group, list[tuple[_Pick, Row]]] = {group: [] for group in scan.picks}
    for shard, ends in sorted(wanted.items()):
        take = pa.array([pick.row for _, pick in ends])
        rows = read_table(scan.pool.rows(shard), _ROW).take(take).to_pylist()
        said = read_table(decisions / f"{shard:05d}.parquet", ["uid", "value"]).take(take).to_pylist()
        for (group, pick), row, end in zip(ends, rows, said, strict=True):
            value = None if group.outcome == "kept" else json.loads(end["value"] or "null")
            found[group].append((pick, row | {"uid": end["uid"], "value": value}))
    blobs = Blobs(scan.pool)
    twins = _twins(scan, decisions, {r["value"] for ones in found.values() for _, r in ones if is_uid(r["value"])})
    pictures = {uid: _picture(row, blobs, scan.side_px)[0] for uid, row in twins.items()}
    told = {group: [_example(scan, group, *one, pictures, blobs) for one in sorted(ones, key=lambda one: one[0])]
            for group, ones in found.items()}  # fmt: skip
    blobs.close()
    return told


def _twins(scan: _Scan, decisions: Path, uids: set[str]) -> dict[str, Row]:
    """The rows of the uids that rules name as a value (a copy's original), as far as the first shards hold them."""
    wanted = pa.array(sorted(uids), pa.string())
    found: dict[str, Row] = {}
    rows = 0
    for path in _in_order(decisions):
        if len(found) == len(uids) or rows >= SCAN_ROWS:
            break
        table = read_table(path, ["uid"])
        rows += table.num_rows
        hits = pc.indices_nonzero(pc.is_in(table["uid"].combine_chunks(), value_set=wanted))
        if len(hits):
            places = read_table(scan.pool.rows(int(path.stem)), ["uid", "ext", *_PLACE]).take(hits)
            found |= {r["uid"]: r for r in places.to_pylist() if r["tar"] is not None and r["ext"] not in _NO_PICTURE}
    return found


def _example(
    scan: _Scan, group: Group, pick: _Pick, row: Row, twins: Mapping[str, str | None], blobs: Blobs
) -> Example:
    row = _content(scan, pick, row)
    picture, missing = None, group.rule if group.outcome == "failed" else ""
    if row["tar"] is not None and row["ext"] not in _NO_PICTURE:
        picture, missing = _picture(row, blobs, scan.side_px)
    text, value = row["text"] or "", row["value"]
    most = TEXT_CHARACTERS if picture is None and not missing else CAPTION_CHARACTERS
    notes = _notes(scan, group, pick) if group.outcome == "dropped" else ()
    return Example(
        uid=row["uid"],
        caption=shown(text, most),
        length=f"{len(text):,} characters" if len(text) > most else "",
        value="" if group.outcome == "kept" else shown(plain(value), 90),
        notes=" · ".join(shown(n, 60) for n in notes),
        origin=shown(row["origin"] or "", 100),
        thumbnail=picture,
        twin=twins.get(value) if is_uid(value) and value != row["uid"] else None,
        missing=shown(missing, 60),
    )


def _content(scan: _Scan, pick: _Pick, row: Row) -> Row:
    """The row with what its steps made of its text and its image (of several, the first that is there)."""
    made: Row = {}
    for step in scan.steps:
        for own, shown_as in step.columns.items():
            if shown_as not in ("text", "image", "images"):
                continue
            path = scan.pool.columns(step.key, pick.shard)
            value = ColumnsFile(path).column(own).take([pick.row])[0].as_py() if path.exists() else None
            if value is not None:
                made[shown_as] = value
    row = row | {"text": made.get("text", row["text"])}
    pictures = [made["image"]] if "image" in made else made.get("images", [])
    first = next((blob for blob in pictures if blob["error"] is None), None)
    return row | {name: first[name] for name in (*_PLACE, "ext")} if first is not None else row


def _picture(row: Row, blobs: Blobs, side_px: int) -> tuple[str | None, str]:
    try:
        return thumbnail(blobs.read(*(row[name] for name in _PLACE)), side_px)
    except OSError:
        return None, "the tar is gone or was changed"


def _notes(scan: _Scan, group: Group, pick: _Pick) -> Iterator[str]:
    """What else the step said of the row in words: the error beside `image_ok`, the kind beside `duplicate_of`."""
    step = next((s for s in scan.steps if s.label == group.step), None)
    if step is None:
        return
    columns = [c for c, kind in step.spec.writes.items() if pa.types.is_string(kind) and step.columns[c] not in CONTENT]
    rule = group.rule.rpartition(".")[0]
    file = ColumnsFile(scan.pool.columns(step.key, pick.shard))
    for own in columns:
        said = file.column(own).take([pick.row])[0].as_py()
        if said and step.columns[own] != rule:
            yield str(said)


def plain(value: Any) -> str:
    """A value as a reader wants it: numbers short, a uid cut, nothing as `null`."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 or value.is_integer() else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if is_uid(value):
        return str(value)[:12]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def is_uid(value: Any) -> bool:
    """Whether a value names a sample."""
    return isinstance(value, str) and len(value) == 32 and all(c in "0123456789abcdef" for c in value)


def _shown_character(character: str) -> str:
    code = ord(character)
    if code < 32:
        return "↵" if character == "\n" else " " if character == "\t" else chr(0x2400 + code)
    if code == 127:
        return "␡"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn") and character not in _KEPT_CHARACTERS:
        return f"⟨{code:04X}⟩"
    return character
