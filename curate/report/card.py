"""The data card of a run: what the dataset is, how it was made, how to read it, and what to be careful about.

Markdown with the front matter that dataset hubs read; it can take the place of the README.md beside the tars.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from curate.engine.run import ShownCut, Summary
from curate.ops.spec import GIVEN
from curate.recipe.model import Recipe
from curate.recipe.steps import Condition, Decision, Resolved
from curate.report.examples import RowSurvey, shown
from curate.report.page import cost_row, human_bytes, percent
from curate.report.readme import described, front, markdown
from curate.report.words import decision_words, rule_words
from curate.sample import Kind
from curate.shards import ShardReader

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
MOST_HOSTS = 10
_GUARDS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "caption": (
        ("duplicate_images", "Copies and near copies were not looked for."),
        ("clip_score", "Whether a caption fits its image was not scored."),
        ("language", "The captions' language was not looked at."),
        ("image_ok", "Images were not checked to decode to their end."),
    ),
    "interleaved": (
        ("duplicate_image_sets", "Pages with the same images were not looked for."),
        ("repeated_paragraphs", "Paragraphs that a host repeats were not looked for."),
        ("language", "The pages' language was not looked at."),
        ("page_opt_out", "Whether a page says that it is not to be used was not looked at."),
    ),
    "ocr": (("text_agreement", "Whether the text is what the page shows was not checked."),),
    "text": (
        ("near_duplicate_texts", "Copies and near copies were not looked for."),
        ("language", "The texts' language was not looked at."),
        ("pii", "Nobody looked for addresses and numbers of persons."),
    ),
}
"""What a recipe of a kind leaves undone without this op."""


_LEAKS = {"contamination": ("benchmarks", "texts"), "leaked_images": ("evaluation", "images")}
"""Ops that look for leaks: the knob that names the evaluation sets, and what is compared."""


class _Words(NamedTuple):
    """How the card speaks of a kind of sample."""

    samples: str
    tag: str
    tasks: tuple[str, ...]
    thing: str


_KINDS: dict[Kind, _Words] = {
    "caption": _Words(
        "pairs of an image and a caption", "image-text-pairs", ("image-to-text", "text-to-image"), "image"
    ),
    "interleaved": _Words(
        "documents of texts and images in order", "interleaved", ("image-to-text", "text-generation"), "page"
    ),
    "ocr": _Words("pages with their words and boxes", "ocr", ("image-to-text",), "page"),
    "text": _Words("texts", "text", ("text-generation",), "text"),
}

_HASHED: dict[Kind, str] = {
    "caption": "of the image's file",
    "interleaved": "of each image's file, in its segment",
    "ocr": "of the page's image",
    "text": "of the text",
}


def render(summary: Summary, seen: RowSurvey) -> str:
    """The whole card. Fixed order, no time, no path of the machine: the same run gives the same text."""
    parts = [
        _front(summary),
        *_about(summary),
        *_source(summary, seen),
        *_steps(summary),
        *_funnel(summary),
        *_synthetic(summary),
        *_leaks(summary),
        *_sample(summary),
        *_loading(summary),
        *_limits(summary),
    ]
    return "\n".join(parts) + "\n"


def _front(summary: Summary) -> str:
    fields: dict[str, Any] = {
        "pretty_name": summary.recipe.name,
        "license": summary.recipe.license,
        "task_categories": list(_KINDS[summary.recipe.kind].tasks),
        "size_categories": [size_category(summary.dataset.samples)],
        "tags": [_KINDS[summary.recipe.kind].tag, "webdataset", "curate"],
    }
    return front(fields | described(summary.folder, summary.dataset))


def size_category(samples: int) -> str:
    """The hub's word for so many samples."""
    if samples >= 10**12:
        return "n>1T"
    place = 0 if samples < 1000 else int(math.log10(samples)) - 2
    return (*SIZES, "10B<n<100B", "100B<n<1T")[place]


def _about(summary: Summary) -> Iterator[str]:
    info = summary.dataset
    rows, kept = summary.funnel[0].rows_in, summary.funnel[-1].kept
    split = f"cut from {kept:,} " if summary.recipe.publish.split else ""
    tars = f"{len(info.shards):,} tar{'' if len(info.shards) == 1 else 's'}"
    yield f"# {markdown(info.name)}\n"
    yield (
        f"{info.samples:,} {_KINDS[info.kind].samples}, {split}kept of {rows:,} ({percent(kept, rows)}) by a "
        f"[recipe](#how-it-was-made). {tars}, {human_bytes(info.bytes)} ({info.bytes:,} bytes). "
        f"The recipe's choices have the fingerprint `{info.recipe}`, its seed is {summary.recipe.seed}.\n"
    )


def _source(summary: Summary, seen: RowSurvey) -> Iterator[str]:
    yield "## Source\n"
    yield f"{_source_words(summary.recipe)} It gave {summary.funnel[0].rows_in:,} rows.\n"
    if not seen.hosts:
        return
    of = f"{seen.rows:,} of {seen.total:,} rows were looked at" if seen.rows < seen.total else "all rows were looked at"
    thing = _KINDS[summary.recipe.kind].thing
    yield f"The kept {thing}s came from {len(seen.hosts):,} hosts; the commonest ({of}):\n"
    common = sorted(seen.hosts.items(), key=lambda item: (-item[1], item[0]))[:MOST_HOSTS]
    yield from _table(["host", f"kept {thing}s"], [[f"`{_code(h)}`", f"{n:,}"] for h, n in common])


def _source_words(recipe: Recipe) -> str:
    source = recipe.source
    if source.type == "urls":
        named = source.huggingface if source.path is None else PurePath(source.path).name
        what = f"A table of URLs, `{_code(named or '')}`: column `{_code(source.url)}` for the image, "
        resized = "original bytes are kept" if recipe.download.resize is None else "images were resized on arrival"
        return f"{what}`{_code(source.text)}` for the caption; {resized}."
    if recipe.source_chat is not None and source.type == "written":
        model = _code(recipe.source_chat.endpoint.name)
        return f"Synthetic texts: the chat model `{model}` wrote them after examples, and each names these."
    name = _code(PurePath(getattr(source, "path", None) or getattr(source, "huggingface", None) or "").name)
    if source.type == "folder":
        table = PurePath(source.captions).name if source.captions else ""
        beside = f"captions in the table `{_code(table)}`" if table else "a caption file beside each"
        return f"A folder of images, `{name}`, with {beside}; original bytes are kept."
    if source.type == "webdataset":
        return f"Webdataset tars, `{name}`, caption in `{_code(source.text)}`; original bytes are kept."
    return f"{(type(source).__doc__ or '').split(':')[0].split(',')[0].rstrip('.')}, `{name}`; original bytes are kept."


def _steps(summary: Summary) -> Iterator[str]:
    yield "## How it was made\n"
    yield "Each step annotates what the step before it kept, then its rules decide. `key` names the op and all that"
    yield "could change its values.\n"
    rows = []
    for number, step in enumerate(summary.steps, 1):
        rules = "; ".join(_rules(step, summary))
        knobs = ", ".join(_knobs(step)) or "defaults"
        rows.append([str(number), f"`{_code(step.label)}`", knobs, rules or "keeps all", f"`{step.key}`"])
    yield from _table(["", "step", "knobs", "kept are rows with", "key"], rows)
    order = "in one seeded shuffle" if summary.recipe.publish.shuffle else "in the source's order"
    yield f"The kept rows were published {order}.\n"


def _rules(step: Resolved, summary: Summary) -> Iterator[str]:
    """The rules of a step in words, those on parts first."""
    for kind, conditions in step.part_conditions.items():
        spared = f", {' and '.join(step.spare)} spared" if step.spare and kind == "paragraphs" else ""
        yield from (f"of {kind} {_rule(c, {})}{spared}" for c in conditions)
    yield from (_rule(c, summary.cuts) for c in step.conditions)


def _rule(decision: Decision, cuts: Mapping[str, ShownCut]) -> str:
    if isinstance(decision, Condition):
        return f"`{_code(decision.column)}` {markdown(rule_words(decision, cuts))}"
    return markdown(decision_words(decision, cuts))


def _knobs(step: Resolved) -> Iterator[str]:
    """The knobs that the recipe wrote, and what a model ran on."""
    said = {name: value for name, value in step.knobs.items() if name not in GIVEN}
    yield from (f"{markdown(name)} = {markdown(_knob(value))}" for name, value in sorted(said.items()))
    device = step.placement.device
    if device.precision is not None:
        yield f"on {device.kind} in {device.precision}"


def _knob(value: Any) -> str:
    """A knob's value; of a path only the file's name, for a card tells nothing of the machine that made it."""
    return PurePath(value).name if isinstance(value, str) and value.startswith(("/", "~", "./", "../")) else str(value)


def _funnel(summary: Summary) -> Iterator[str]:
    yield "## Funnel\n"
    yield "in = kept + dropped + failed holds for every step, for rows and for parts of documents; it was checked.\n"
    rows = []
    for count in summary.funnel:
        gone = f"{count.dropped.total():,}", f"{count.failed.total():,}"
        rows.append([f"**{markdown(count.step)}**", f"{count.rows_in:,}", f"{count.kept:,}", *gone])
        rows += [[f"dropped by `{_code(rule)}`", "", "", f"{n:,}", ""] for rule, n in sorted(count.dropped.items())]
        rows += [[f"failed: `{_code(error)}`", "", "", "", f"{n:,}"] for error, n in sorted(count.failed.items())]
        for kind, part in count.parts.items():
            rows.append([f"their {kind}", *(f"{n:,}" for n in (part.parts_in, part.kept, *part.ended()))])
            rows += [
                [f"- dropped by `{_code(rule)}`", "", "", f"{n:,}", ""] for rule, n in sorted(part.dropped.items())
            ]
            rows += [[f"- failed: `{_code(error)}`", "", "", "", f"{n:,}"] for error, n in sorted(part.failed.items())]
    total = summary.funnel[0].rows_in, summary.funnel[-1].kept
    lost = [sum(getattr(c, what).total() for c in summary.funnel) for what in ("dropped", "failed")]
    rows.append(["**the run**", *(f"{n:,}" for n in (*total, *lost))])
    yield from _table(["step", "in", "kept", "dropped", "failed"], rows)


def _synthetic(summary: Summary) -> Iterator[str]:
    """Which models wrote texts of the kept samples, how many, and for how much."""
    if not summary.written and not summary.costs:
        return
    kept = summary.funnel[-1].kept
    yield "## Texts that models wrote\n"
    yield "They stand beside what the source said, never in its place, in columns of their own.\n"
    rows = [
        [f"`{_code(column)}`", markdown(model), f"{n:,}", percent(n, kept)]
        for column, models in summary.written.items()
        for model, n in sorted(models.items())
    ]
    yield from _table(["written", "model", "kept samples", "share of all"], rows)
    costs = [cost_row(cost, kept) for cost in summary.costs]
    spent = [[markdown(c["model"]), c["requests"], c["tokens"], c["usd"], c["each"]] for c in costs]
    yield from _table(["model", "requests", "tokens", "dollars", "dollars a 1,000 kept"], spent) if spent else ()


def _leaks(summary: Summary) -> Iterator[str]:
    """What was compared with evaluation sets, texts and images together, and what was dropped for it."""
    yield "## Leaks of evaluation sets\n"
    rows = []
    counts = {count.step: count for count in summary.funnel}
    for step in summary.steps:
        if (thing := _LEAKS.get(step.spec.name)) is not None:
            knob, what = thing
            sets = ", ".join(f"`{_code(PurePath(name).name)}`" for name in step.knobs[knob])
            count = counts[step.label]
            rows.append([what, sets, f"{count.rows_in:,}", f"{count.dropped.total():,}"])
    if rows:
        yield from _table(["compared", "with", "rows", "dropped as leaks"], rows)
    else:
        yield "Neither texts nor images were compared with an evaluation set: either may hold some of one.\n"


def _image_name(summary: Summary) -> str:
    """The extensions that images have in the tars, as a webdataset reader takes them: one, or those to try in turn."""
    if summary.recipe.publish.image_name == "format" or not summary.dataset.samples:
        return "jpg;png;webp;gif;bmp;tiff;avif"
    with ShardReader(summary.folder / summary.dataset.shards[0].tar) as shard:
        return shard.parts(0)[0].name


def _sample(summary: Summary) -> Iterator[str]:
    shards = summary.dataset.shards
    names = [f"`{s.tar}`" for s in (*shards[:1], *shards[1:][-1:])]
    yield "## What lies where\n"
    yield f"- {' to '.join(names) or 'no tars'}: a sample is {_parts(summary)}"
    yield "- `00000.arrow` beside each tar: an index with each part's place in the tar, for reading at random"
    yield "- `dataset.json`: the shards with their samples, bytes and SHA-256\n"
    yield "A sample's JSON and the index hold:\n"
    rows = [["`uid`", "text", "128 bits of its content and origin, as 32 hex digits"],
            ["`origin`", "text", f"where the {_KINDS[summary.recipe.kind].thing} came from (JSON only)"],
            ["`sha256`", "text", f"{_HASHED[summary.recipe.kind]} (JSON only)"],
            ["`meta`", "object", "what else the source said (JSON only)"]]  # fmt: skip
    rows += [[f"`{_code(c)}`", *_column_words(c, summary.steps)] for c in summary.recipe.publish.columns]
    yield from _table(["column", "type", "what"], rows)


def _parts(summary: Summary) -> str:
    """The parts of a sample in words."""
    kind = summary.recipe.kind
    if kind == "text":
        return "`UID.txt` and `UID.json`"
    if kind == "interleaved":
        return "`UID.json` (texts and images in order), `UID.0.jpg`, `UID.1.png` and so on (the images as they came)"
    image = _image_name(summary)
    named = f"`UID.{image}`" if ";" not in image else "`UID.jpg`, `UID.png` and so on"
    if kind == "ocr":
        return f"{named} (the page), `UID.txt` (its text) and `UID.json` (its words with boxes in pixels)"
    return f"{named} (the image file as it came, whatever its format),\n  `UID.txt` (the caption) and `UID.json`"


def _column_words(column: str, steps: Sequence[Resolved]) -> tuple[str, str]:
    made = ((s, own) for s in reversed(steps) for own, known in s.columns.items() if known == column)
    found = next(made, None) or next(((s, s.extremes[column][0]) for s in steps if column in s.extremes), None)
    if found is None:
        return "int32", "counted in the document as it is published"
    step, own = found
    kind: pa.DataType = step.types[own] if column in step.columns.values() else step.spec.writes[own]
    return markdown(str(kind)), f"by `{_code(step.label)}`"


def _loading(summary: Summary) -> Iterator[str]:
    last = max(len(summary.dataset.shards) - 1, 0)
    span = f"{{00000..{last:05d}}}" if last else "00000"
    yield "## Reading it\n"
    yield "```python\nimport webdataset as wds\n"
    yield f'samples = wds.WebDataset("dataset/{span}.tar", shardshuffle=False).decode("pil")'
    first = {"text": "txt", "interleaved": "json"}.get(summary.recipe.kind)
    if first is None:
        yield f'samples = samples.to_tuple("{_image_name(summary)}", "txt")'
    else:
        yield f'for sample in samples: print(sample["{first}"])'
    yield "```\n"
    yield "```python\nimport datasets\n"
    yield 'rows = datasets.load_dataset("dataset", split="train", streaming=True)\n```\n'
    yield "`datasets` reads what lies in the tars from the head of the `README.md` beside them. This card has the same"
    yield "head and says more: to share the dataset, put it in that one's place.\n"


def _limits(summary: Summary) -> Iterator[str]:
    failed = sum(c.failed.total() for c in summary.funnel)
    used = {s.spec.name for s in summary.steps}
    yield "## Known limits\n"
    yield "- The rights in images and texts are those of their owners; the recipe checked none of them."
    yield "- Nobody looked for faces, names, or unsafe content unless a step above says so."
    yield "- A rule is a threshold on a measurement: it keeps some rows that it should drop, and the reverse."
    if failed:
        share = percent(failed, summary.funnel[0].rows_in)
        yield f"- {failed:,} rows failed ({share}); what they would have been is not known."
    yield from (f"- {sentence}" for op, sentence in _GUARDS[summary.recipe.kind] if op not in used)
    if not summary.dataset.samples:
        yield "- Nothing was kept: the dataset is empty."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _code(text: str) -> str:
    """Text inside Markdown's backticks, in a table cell or out."""
    return shown(text, 200).replace("`", "'").replace("|", "\\|")
