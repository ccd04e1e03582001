"""Keep sources of bare short answers out of chat mixtures: the rule `answers_short_without_prompt`.

A conversation is bare where most of its answers are short and neither its questions nor its system say that they shall
be (curate.mix.answers). A source enters if its samples bring their prompt, or the mixture's `system` brings it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from curate.mix.answers import Answers, asks_for_short, format_prompt, measure_answers, pool_answers
from curate.mix.schedule import MixtureError
from curate.shards import DatasetInfo, UnreachableError
from curate.shards.remote import open_shard

RULE = "answers_short_without_prompt"
BARE_SHARE = 0.2
"""A source with more bare conversations among those with answers is refused."""
SHARDS, ROWS = 4, 16
"""Conversations are looked at here: so many shards, evenly spread, and of each so many samples."""


def check_prompted(name: str, folder: Path, info: DatasetInfo, system: Mapping[str, float]) -> None:
    """Raise MixtureError for a source of conversations whose short answers stand bare, whatever `system` may bring.

    An empty system prompt says that they are meant so. Raises ShardError where its tars cannot be read.
    """
    told = [prompt for prompt, weight in system.items() if weight > 0]
    if info.kind != "interleaved" or (told and all(not prompt or asks_for_short(prompt) for prompt in told)):
        return
    try:
        found = [answers for answers in _look(folder, info) if answers.count]
    except UnreachableError as err:
        raise MixtureError(f"source {name!r}: {err}") from err
    bare = [answers for answers in found if answers.bare]
    if len(bare) > BARE_SHARE * len(found):
        prompt = format_prompt(pool_answers(bare), info.name)
        raise MixtureError(
            f"source {name!r} ({RULE}): of {len(found)} conversations that were looked at {len(bare)} have short"
            " answers and nothing that asks for such; a model then answers everything in a word. Say"
            f' `system: ["{prompt}"]` of it, or write prompts into it (op add_format_prompt); `system: [""]` says that'
            " it is meant so"
        )


def _look(folder: Path, info: DatasetInfo) -> Iterator[Answers]:
    """The answers of some samples, evenly spread; of a tar that lies elsewhere, of its first ones."""
    for number in _spread(len(info.shards), SHARDS):
        with open_shard(folder, info.shards[number]) as reader:
            rows = range(min(len(reader), ROWS)) if reader.is_remote else _spread(len(reader), ROWS)
            for row in rows:
                if any(part.name == "json" for part in reader.parts(row)):
                    yield _answers(reader.read_part(row, "json"))


def _spread(count: int, wanted: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly spread, the first among them."""
    return sorted({n * count // wanted for n in range(wanted)}) if count else []


def _answers(data: bytes) -> Answers:
    """Those of a published sample; none of one that cannot be read, which a stream replaces."""
    try:
        segments = json.loads(data).get("segments")
        return measure_answers(segments)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return Answers()
