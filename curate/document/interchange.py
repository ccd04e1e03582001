"""Read and write the document records of other projects: OBELICS, MMC4, LLaVA, Energon.

Reading gives a document (`curate.document.segments`); writing starts from a published sample, the object in its
`{uid}.json`.
A record is a stranger's: whatever is in it, reading ends in a document or in a RecordError with a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.document.segments import Segment, image_segment, is_image, text_segment
from curate.text.sentences import sentence_spans

MAX_SEGMENTS = 20_000
"""Segments in one document; the longest page of OBELICS has some hundreds."""

IMAGE_TOKEN = "<image>"
TURNS = {"human": "question", "user": "question", "gpt": "answer", "assistant": "answer", "system": "system"}
"""LLaVA's speakers, and the `block` of the text segments that hold what they say."""

Record = Mapping[str, Any]


class RecordError(ValueError):
    """A record that is not what its format says: `error` is the name, `detail` where and what."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(f"{error}: {detail}")
        self.error, self.detail = error, detail


def parse_record(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises RecordError: not_json, bad_record."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise RecordError("not_json", f"{type(err).__name__}: {str(err)[:200]}") from None
    if not isinstance(found, dict):
        raise RecordError("bad_record", f"a JSON {type(found).__name__}, expected an object")
    return found


def from_obelics(record: Record) -> list[Segment]:
    """OBELICS: `images` and `texts` of one length, one of the two null in each place; `metadata` has the alt texts.
    Energon's interleaved JSON is the same two lists; its `images` name parts of the sample.

    A text is cut into paragraphs at its empty lines, as OBELICS's own filters cut it.
    """
    images, texts = _list_field(record, "images"), _list_field(record, "texts")
    if len(images) != len(texts):
        raise RecordError("bad_record", f"{len(images)} images, {len(texts)} texts; they go in step")
    about = _metadata(record.get("metadata"))
    found: list[Segment] = []
    for place, (image, text) in enumerate(zip(images, texts, strict=True)):
        if image is not None:
            found.append(image_segment(_storable_text(image, f"images.{place}"), _alt(about, place)))
        if text is not None:
            paragraphs = re.split(r"\n\s*\n", _storable_text(text, f"texts.{place}"))
            found += [text_segment(p.strip()) for p in paragraphs if p.strip()]
    return _check_count(found)


def from_mmc4(record: Record) -> list[Segment]:
    """MMC4: `text_list` of sentences, `image_info` with `raw_url` and `matched_text_index`.

    An image stands before the sentence that it was matched to; sentences without an image between make one paragraph.
    """
    sentences = [_storable_text(s, f"text_list.{n}").strip() for n, s in enumerate(_list_field(record, "text_list"))]
    images: list[list[Segment]] = [[] for _ in sentences]
    for number, info in enumerate(_list_field(record, "image_info")):
        where = f"image_info.{number}"
        index = info.get("matched_text_index") if isinstance(info, dict) else None
        if type(index) is not int or not 0 <= index < len(sentences):
            raise RecordError("bad_record", f"{where}: matched_text_index {index!r} names no sentence")
        images[index].append(image_segment(_storable_text(info.get("raw_url"), f"{where}.raw_url")))
    found: list[Segment] = []
    waiting: list[str] = []
    for before, sentence in zip(images, sentences, strict=True):
        if before:
            found += [*_join_sentences(waiting), *before]
            waiting = []
        waiting += [sentence] if sentence else []
    return _check_count([*found, *_join_sentences(waiting)])


def from_llava(record: Record) -> list[Segment]:
    """LLaVA: `image`, one path or several, and `conversations` in which `<image>` marks where they stand.

    A text segment's `block` is `question`, `answer` or `system`. Images that no mark places come first, as LLaVA's
    own loader puts them. Raises RecordError `image_marks_differ` when marks and images are both there but not as many.
    """
    return _conversation(record, [_turn(t, n) for n, t in enumerate(_list_field(record, "conversations"))])


def from_chat(record: Record) -> list[Segment]:
    """A conversation in any of the forms in use, and its images, `image` or `images`: LLaVA's `conversations`;
    `messages` of `role` and `content`, a text or a list of parts; the pairs of `user` and `assistant` in `texts` that
    The Cauldron (Idefics2, 2024) and FineVision (2025) have.

    Images that nothing places come first, as Idefics2 has them. Raises RecordError as `from_llava` does.
    """
    if "messages" in record:
        return _conversation(record, [_message(m, n) for n, m in enumerate(_list_field(record, "messages"))])
    if "conversations" in record:
        return from_llava(record)
    pairs = [_pair(pair, n) for n, pair in enumerate(_list_field(record, "texts"))]
    return _conversation(record, [turn for pair in pairs for turn in pair])


def _conversation(record: Record, turns: Sequence[tuple[str, str]]) -> list[Segment]:
    """Questions and answers, with an image where a mark stands."""
    named = record.get("image", record.get("images"))
    listed = named if isinstance(named, list) else [named]
    images = [_storable_text(image, "image") for image in listed if image is not None]
    marks = sum(text.count(IMAGE_TOKEN) for _, text in turns)
    if marks and marks != len(images):
        raise RecordError("image_marks_differ", f"{marks} marks {IMAGE_TOKEN}, {len(images)} images")
    waiting = iter(images)
    found = [] if marks else [image_segment(path) for path in waiting]
    for block, text in turns:
        for number, part in enumerate(text.split(IMAGE_TOKEN)):
            if number:
                found.append(image_segment(next(waiting)))
            if part.strip():
                found.append(text_segment(part.strip()) | {"block": block})
    return _check_count(found)


def page_url(record: Record) -> str | None:
    """The URL of the page that an OBELICS or MMC4 record was made from, where it says so."""
    general = record.get("general_metadata")
    metadata = _parse_embedded(general) if isinstance(general, str) else general
    url = metadata.get("url") if isinstance(metadata, dict) else record.get("url")
    return url if isinstance(url, str) else None


def segments_of(sample: Record) -> list[dict[str, Any]]:
    """The segments of a published sample. Raises RecordError `not_interleaved`."""
    found = sample.get("segments")
    if not isinstance(found, list) or not all(map(_is_segment, found)):
        raise RecordError("not_interleaved", "the sample's JSON has no list of segments, each an image or with a text")
    return found


def _is_segment(value: Any) -> bool:
    return isinstance(value, dict) and (value.get("type") == "image" or isinstance(value.get("text"), str))


def to_obelics(sample: Record) -> dict[str, Any]:
    """A published sample as an OBELICS row: images by URL (absent ones too), neighbouring texts in one."""
    images: list[str | None] = []
    texts: list[str | None] = []
    about: list[dict[str, Any] | None] = []
    for segment in _merge_texts(segments_of(sample)):
        if is_image(segment):
            images.append(_named(segment, "url"))
            texts.append(None)
            about.append(_obelics_image(segment, sample.get("origin")))
        else:
            images.append(None)
            texts.append(segment["text"])
            about.append(None)
    general = {"url": sample.get("origin")}
    return {
        "images": images,
        "metadata": json.dumps(about, ensure_ascii=False),
        "general_metadata": json.dumps(general, ensure_ascii=False),
        "texts": texts,
    }


def to_mmc4(sample: Record) -> dict[str, Any]:
    """A published sample as an MMC4 line: an image is matched to the sentence after it, at the end to the last.

    `matched_sim` is from the sample's `similarities` (one an image segment), where it has them. Raises RecordError
    `no_text` for a document of images alone: MMC4 has no place for them.
    """
    sentences: list[str] = []
    images: list[dict[str, Any]] = []
    scores = sample.get("similarities") or []
    for segment in segments_of(sample):
        if is_image(segment):
            score = scores[len(images)] if len(images) < len(scores) else None
            url, index = _named(segment, "url"), len(sentences)
            info = {"image_name": segment.get("part"), "raw_url": url, "matched_text_index": index}
            images.append(info | {"matched_sim": score, "face_detections": None})
        else:
            sentences += [segment["text"][start:end] for start, end in sentence_spans(segment["text"])]
    if images and not sentences:
        raise RecordError("no_text", "images alone; an MMC4 image is matched to a sentence")
    for info in images:
        info["matched_text_index"] = min(info["matched_text_index"], len(sentences) - 1)
    return {"url": sample.get("origin"), "text_list": sentences, "image_info": images, "could_have_url_duplicate": 0}


def to_llava(sample: Record, paths: Mapping[str, str]) -> dict[str, Any]:
    """A published sample of questions and answers as a LLaVA entry; `paths`: where each image part was written.

    Raises RecordError: `not_a_conversation` for text that is neither, `absent_image` where a picture is missing,
    `image_mark_in_text` where a text holds the mark of an image.
    """
    speakers = {block: speaker for speaker, block in reversed(TURNS.items())}
    turns: list[dict[str, str]] = []
    images: list[str] = []
    marks = ""
    for segment in segments_of(sample):
        if is_image(segment):
            images.append(paths[_named(segment, "part", "absent_image")])
            marks += f"{IMAGE_TOKEN}\n"
            continue
        speaker = speakers.get(segment.get("block") or "")
        if IMAGE_TOKEN in segment["text"]:
            raise RecordError("image_mark_in_text", f"a text holds {IMAGE_TOKEN}, which would stand for an image")
        if speaker is None:
            raise RecordError("not_a_conversation", f"a {segment.get('block')} is neither question nor answer")
        turns.append({"from": speaker, "value": marks + segment["text"]})
        marks = ""
    if marks or not turns:
        raise RecordError("not_a_conversation", "no text follows the last image" if turns else "no text at all")
    image = {"image": images[0] if len(images) == 1 else images} if images else {}
    return {"id": sample.get("uid"), **image, "conversations": _merge_turns(turns)}


def to_energon(sample: Record) -> dict[str, Any]:
    """A published sample as Energon's interleaved JSON; images that are absent leave no trace there."""
    here = [s for s in segments_of(sample) if not is_image(s) or s.get("part")]
    merged = list(_merge_texts(here))
    images = [s["part"] if is_image(s) else None for s in merged]
    return {"images": images, "texts": [None if is_image(s) else s["text"] for s in merged]}


def _list_field(record: Record, key: str) -> list[Any]:
    found = record.get(key)
    if not isinstance(found, list):
        raise RecordError("bad_record", f"{key}: expected a list, found {type(found).__name__}")
    if len(found) > MAX_SEGMENTS:
        raise RecordError("too_many_segments", f"{key}: {len(found)} entries, at most {MAX_SEGMENTS} are read")
    return found


def _check_count(found: list[Segment]) -> list[Segment]:
    if len(found) > MAX_SEGMENTS:
        raise RecordError("too_many_segments", f"{len(found)} segments, at most {MAX_SEGMENTS} are read")
    return found


def _storable_text(value: Any, where: str) -> str:
    """A text that can be stored: lone surrogates, which JSON may spell, become question marks."""
    if not isinstance(value, str):
        raise RecordError("bad_record", f"{where}: expected a text, found {type(value).__name__}")
    return value.encode("utf-8", "replace").decode()


def _parse_embedded(text: str) -> Any:
    """JSON inside a JSON text; None where it is not."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _metadata(value: Any) -> Sequence[Any]:
    found = _parse_embedded(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else ()


def _alt(about: Sequence[Any], place: int) -> str | None:
    entry = about[place] if place < len(about) else None
    alt = entry.get("alt_text") if isinstance(entry, dict) else None
    return _storable_text(alt, "alt_text") if isinstance(alt, str) else None


def _join_sentences(sentences: Sequence[str]) -> list[Segment]:
    return [text_segment(" ".join(sentences))] if sentences else []


def _turn(turn: Any, number: int) -> tuple[str, str]:
    where = f"conversations.{number}"
    speaker = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(speaker, str) or speaker not in TURNS:
        raise RecordError("bad_record", f"{where}.from: {speaker!r}, expected one of {', '.join(TURNS)}")
    return TURNS[speaker], _storable_text(turn.get("value"), f"{where}.value")


def _message(message: Any, number: int) -> tuple[str, str]:
    where = f"messages.{number}"
    role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, dict) else (None, None)
    if not isinstance(role, str) or role not in TURNS:
        raise RecordError("bad_record", f"{where}.role: {role!r}, expected one of {', '.join(TURNS)}")
    if not isinstance(content, list):
        return TURNS[role], _storable_text(content, f"{where}.content")
    parts = [part if isinstance(part, dict) else {} for part in content]
    said = [
        IMAGE_TOKEN if part.get("type") == "image" else _storable_text(part.get("text"), f"{where}.content.{n}")
        for n, part in enumerate(parts)
    ]
    return TURNS[role], "".join(said)


def _pair(pair: Any, number: int) -> list[tuple[str, str]]:
    if not isinstance(pair, dict):
        raise RecordError("bad_record", f"texts.{number}: a {type(pair).__name__}, expected `user` and `assistant`")
    return [(TURNS[who], _storable_text(pair.get(who), f"texts.{number}.{who}")) for who in ("user", "assistant")]


def _named(segment: Record, key: str, error: str = "bad_record") -> str:
    found = segment.get(key)
    if not isinstance(found, str):
        raise RecordError(error, f"an image without {key} ({segment.get('error') or segment.get('url')})")
    return found


def _merge_texts(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Neighbouring texts as one, an empty line between them."""
    waiting: list[str] = []
    for segment in segments:
        if not is_image(segment):
            waiting.append(segment["text"])
            continue
        if waiting:
            yield {"type": "text", "text": "\n\n".join(waiting)}
        waiting = []
        yield segment
    if waiting:
        yield {"type": "text", "text": "\n\n".join(waiting)}


def _obelics_image(segment: Record, page: Any) -> dict[str, Any]:
    fields = {
        "document_url": page,
        "src": segment.get("url"),
        "alt_text": segment.get("alt"),
        "original_width": segment.get("width"),
        "original_height": segment.get("height"),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _merge_turns(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """What one speaker says in a row is one turn, as it was before images parted it."""
    found: list[dict[str, str]] = []
    for turn in turns:
        if found and found[-1]["from"] == turn["from"]:
            found[-1] = {"from": turn["from"], "value": f"{found[-1]['value']}\n{turn['value']}"}
        else:
            found.append(turn)
    return found
