"""Many questions about one image become one conversation, each turn once; turns are shuffled by uid alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
from grouping import cuts, grouped, uid

from curate.document.segments import DOCUMENT, Segment, image_segment, text_segment
from curate.ops.synth.conversations import conversation_key, merged_conversations, part_turns, shuffled_turns


def talk(image: str | None, *turns: int, system: str = "") -> list[Segment]:
    told = [text_segment(system, "system")] if system else []
    pictures = [image_segment(image)] if image else []
    said = [(text_segment(f"question {n}", "question"), text_segment(f"answer {n}", "answer")) for n in turns]
    return [*told, *pictures, *(segment for turn in said for segment in turn)]


DOCUMENTS = [
    *(talk(f"{n % 4}.png", 2 * n, 2 * n + 1) for n in range(12)),
    talk(None, 100),
    talk(None, 101),
    talk("0.png", 102, system="Be brief."),
    [text_segment("question 103", "question"), image_segment("0.png"), text_segment("answer 103", "answer")],
]


def merged(folder: Path, cut: list[list[int]] | None = None, **knobs: int) -> dict[str, list[object]]:
    keys = conversation_key(DOCUMENTS)
    columns = {name: pa.array(values) for name, values in keys.items()}
    return grouped(merged_conversations, columns | {"document": pa.array(DOCUMENTS, DOCUMENT)}, folder, cut, **knobs)


def turns_of(documents: list[list[Segment]]) -> Counter[str]:
    return Counter(s["text"] for document in documents for s in document if s["block"] == "question")


def test_questions_about_one_image_become_one_conversation_however_rows_are_cut(tmp_path: Path) -> None:
    found = [merged(tmp_path / str(n), cut) for n, cut in enumerate(cuts(len(DOCUMENTS)))]
    assert found[0] == found[1] == found[2]
    kept = [d for d, into in zip(found[0]["document"], found[0]["merged_into"], strict=True) if into is None]
    assert len(kept) == 4 + 4
    assert turns_of(kept) == turns_of(DOCUMENTS)  # type: ignore[arg-type]
    sizes = sorted(n for n, into in zip(found[0]["merged_turns"], found[0]["merged_into"], strict=True) if into is None)  # type: ignore[type-var]
    assert sizes == [1, 1, 1, 1, 6, 6, 6, 6]


def test_what_was_merged_names_the_one_that_holds_its_turns(tmp_path: Path) -> None:
    found = merged(tmp_path)
    names = [uid(n) for n in range(len(DOCUMENTS))]
    for n, into in enumerate(found["merged_into"][:12]):
        first = min(names[m] for m in range(12) if m % 4 == n % 4)
        assert into == (None if names[n] == first else first)
    holder = names.index(str(next(into for into in found["merged_into"] if into)))
    order = [n for n in sorted(range(12), key=lambda n: names[n]) if n % 4 == holder % 4]
    assert found["document"][holder] == talk(f"{holder % 4}.png", *(t for n in order for t in (2 * n, 2 * n + 1)))


def test_long_conversations_go_on_in_another(tmp_path: Path) -> None:
    found = merged(tmp_path, max_turns=4)
    kept = [d for d, into in zip(found["document"], found["merged_into"], strict=True) if into is None]
    assert turns_of(kept) == turns_of(DOCUMENTS)  # type: ignore[arg-type]
    assert max(found["merged_turns"]) == 4  # type: ignore[type-var]


def test_turns_are_shuffled_by_seed_and_uid_and_an_answer_follows_its_question() -> None:
    document = talk("a.png", *range(30), system="Be brief.")
    found = shuffled_turns([document, document], ["u", "v"])["document"]
    assert found[0] != found[1] and found[0] != document
    assert found[0] == shuffled_turns([document], ["u"])["document"][0]
    assert found[0] != shuffled_turns([document], ["u"], seed=1)["document"][0]
    for each in found:
        assert each[:2] == document[:2]
        assert turns_of([each]) == turns_of([document])
        assert all(q["text"].split()[1] == a["text"].split()[1] for q, a in part_turns(each)[1])
    first = Counter(shuffled_turns([document], [str(n)])["document"][0][2]["text"] for n in range(300))
    assert len(first) == 30 and max(first.values()) < 30


def test_a_conversation_with_an_image_within_a_turn_stays_as_it_is() -> None:
    document = [*talk("a.png", 1, 2), image_segment("b.png"), *talk(None, 3)]
    assert shuffled_turns([document], ["u"])["document"] == [document]
