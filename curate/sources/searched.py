"""Pages that are searched for: fields, topics of each by a chat model, and what a search finds of each topic.

Cambrian-1's internet data engine (2406.16860). The way to a page stands in its meta: field, topic, query, rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate import strict_json
from curate.download import Downloader
from curate.llm.chat import ChatRequest, Failure
from curate.llm.model import ChatModel
from curate.llm.prompts import load_prompt
from curate.llm.provenance import written_by
from curate.recipe.source import HtmlFiles, Pages, Searched
from curate.sample import uid_of
from curate.sources import html, pages
from curate.sources.rows import Row, folder_identity
from curate.sources.search import FolderSearch, HttpSearch, Search

_NUMBERED = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*")
_MOST_WORDS = 8


@dataclass(frozen=True)
class Searching:
    """A source's choices, and the chat model that names topics."""

    choices: Searched
    chat: ChatModel


def identity(source: Searching) -> Any:
    """The identity of all that could change the topics besides the source's own choices, and of the folder's files."""
    choices = source.choices
    prompt = load_prompt(choices.prompt).digest
    return [prompt, source.chat.identity(), folder_identity(Path(choices.folder)) if choices.folder else None]


def plan_rows(source: Searching) -> Iterator[Row | str]:
    """Plan a row for each page that a topic finds; a topic that finds none, and a field without topics, is one that
    fails. Raises SourceError, MachineError."""
    choices = source.choices
    prompt, parameters = load_prompt(choices.prompt), {"temperature": choices.temperature}
    request = {**parameters, "max_tokens": choices.max_tokens}
    values = [{"field": field, "count": str(choices.topics)} for field in choices.fields]
    requests = [ChatRequest(prompt.messages(said), choices.max_tokens, parameters) for said in values]
    answers = source.chat.connect().ask(requests)
    search = FolderSearch(choices.folder) if choices.folder is not None else HttpSearch(str(choices.search))
    for field, answer in zip(choices.fields, answers, strict=True):
        if isinstance(answer, Failure):
            yield _failed({"field": field}, field, answer.error, answer.detail)
            continue
        said = {
            "field": field,
            "topic_by": written_by(prompt, request, answer),
        }
        topics = topics_of(answer.text, choices.topics)
        if not topics:
            yield _failed(said, field, "no_topics", answer.text[:300])
        for topic in topics:
            yield from _found(choices, search, said | {"topic": topic})


def topics_of(said: str, most: int) -> list[str]:
    """The topics that a model lists, without numbers and marks before them; each once, at most `most`.

    One a line, or all in one line with commas between.

    A line of more than eight words is none: it talks.
    """
    listed = said.strip().splitlines()
    listed = listed[0].split(",") if len(listed) == 1 else listed
    lines = (_NUMBERED.sub("", line).strip(" \t*_\"'.") for line in listed)
    found: dict[str, str] = {}
    for line in lines:
        if line and len(line.split()) <= _MOST_WORDS:
            found.setdefault(line.lower(), line)
    return list(found.values())[:most]


def _found(choices: Searched, search: Search, said: dict[str, Any]) -> Iterator[Row]:
    query = choices.query.replace("{topic}", said["topic"])
    places = search.find(query, choices.pages)
    if not places:
        yield _failed(said | {"query": query}, said["topic"], "no_page", f"{query!r} finds nothing")
    for rank, place in enumerate(places, 1):
        meta = strict_json.dumps(said | {"query": query, "rank": rank})
        yield {"uid": uid_of("interleaved", place), "origin": place, "text": "", "meta": meta}


def _failed(said: dict[str, Any], what: str, error: str, detail: str) -> Row:
    row = {"uid": uid_of("interleaved", "search", said["field"], what, error), "origin": what, "text": ""}
    return row | {"meta": strict_json.dumps(said), "error": error, "detail": detail}


def load_rows(source: Searched, rows: list[Row], downloader: Downloader | None) -> Iterator[Row]:
    """Load the pages of rows: from the folder, or from their servers."""
    if source.folder is None:
        return pages.load_rows(Pages(type="pages", path="", keep=()), rows, downloader)
    folder = HtmlFiles(type="html", path=source.folder)
    metas = [row["meta"] for row in rows]
    return (row | {"meta": meta} for row, meta in zip(html.load_rows(folder, rows, None), metas, strict=True))
