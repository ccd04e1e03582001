"""Images move to the sentence they suit best, as MMC4 does it, and a document's values are its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import Shelf, failed_with, page, picture, row, shown

from curate.document.segments import Segment, image_segment, is_image, text_segment
from curate.image.files import decode
from curate.ops.alignment.assign import assign_images, best_assignment
from curate.ops.alignment.clip_score import clip_score
from curate.pool.blob import Absent, Blob
from curate.text.sentences import sentence_spans

EXACT = {"precision": "float32"}


@pytest.fixture(autouse=True)
def _on_one_thread() -> None:
    torch.set_num_threads(1)


def test_the_assignment_gives_each_sentence_one_image_at_most_and_the_largest_sum() -> None:
    scores = np.array([[0.9, 0.8, 0.0], [0.9, 0.1, 0.0]])
    assert best_assignment(scores) == [1, 0], (
        "the best of the first image is left to the second, which has nothing else"
    )


def test_images_left_over_go_to_their_best_sentence() -> None:
    scores = np.array([[0.9], [0.2], [0.3]])
    assert best_assignment(scores) == [0, 0, 0]
    assert best_assignment(np.array([[0.1, 0.5], [0.2, 0.9], [0.3, 0.4]]))[2] == 0


def drawn(shelf: Shelf) -> tuple[list[Segment], list[Blob]]:
    document = [
        text_segment("A red apple lies here. The sun is yellow!"),
        image_segment("http://a/0"),
        image_segment("http://a/1"),
        text_segment("Usage", "heading"),
        text_segment("A black dog runs. Then nothing more is said. The end."),
        image_segment("http://a/2"),
        image_segment("http://a/gone"),
    ]
    return document, shelf.blobs(*(picture(64, 64, seed=n) for n in range(3)), "not_found")


def assigned(document: list[Segment], blobs: list[Blob], **knobs: Any) -> dict[str, Any]:
    return row(assign_images(**EXACT | knobs)([document], [blobs]))


def test_images_stand_before_their_sentences_and_not_a_word_is_lost(tmp_path: Path) -> None:
    document, blobs = drawn(Shelf(tmp_path))
    found = assigned(document, blobs, min_similarity=None)
    said = " ".join(text for text in shown(found["document"]) if not text.startswith("http"))
    assert (
        said == "A red apple lies here. The sun is yellow! Usage A black dog runs. Then nothing more is said. The end."
    )
    places = [s["url"] for s in found["document"] if is_image(s)]
    assert sorted(places) == ["http://a/0", "http://a/1", "http://a/2", "http://a/gone"]
    digests = {"http://a/gone": None} | {f"http://a/{n}": blobs[n].sha256 for n in range(3)}
    assert [blob.sha256 for blob in found["images"]] == [digests[url] for url in places], "blobs move with their places"
    for url, similarity in zip(places, found["similarities"], strict=True):
        at = next(n for n, s in enumerate(found["document"]) if s["url"] == url)
        if url == "http://a/gone":
            assert similarity is None
            assert at == len(found["document"]) - 1, "an absent image stays where it was"
        else:
            following = next(s["text"] for s in found["document"][at:] if not is_image(s))
            ((start, end), *_) = sentence_spans(following)
            image = decode(next(b for b, u in zip(found["images"], places, strict=True) if u == url).read()).image
            assert image is not None
            score = row(clip_score(precision="float32")([image], [following[start:end]]))["clip_score"]
            assert similarity == pytest.approx(score, abs=1e-6)
    known = [s for s in found["similarities"] if s is not None]
    assert found["max_similarity"] == max(known)
    assert found["similarity_of_75"] == min(known), "of three images all must reach it, for two are fewer than 75 %"
    assert (found["images_matched"], found["sentences"]) == (3, 6)


def test_in_document_order_nothing_moves_and_the_similarities_are_the_same(tmp_path: Path) -> None:
    document, blobs = drawn(Shelf(tmp_path))
    moved = assigned(document, blobs, min_similarity=None)
    still = assigned(document, blobs, min_similarity=None, order="document")
    assert (still["document"], still["images"]) == (document, blobs)
    by_digest = {b.sha256: s for b, s in zip(moved["images"], moved["similarities"], strict=True)}
    assert still["similarities"] == [by_digest[b.sha256] for b in blobs]


def test_images_below_the_least_similarity_go_and_absent_ones_stay(tmp_path: Path) -> None:
    document, blobs = drawn(Shelf(tmp_path))
    found = assigned(document, blobs, min_similarity=1.1)
    assert [s["url"] for s in found["document"] if is_image(s)] == ["http://a/gone"]
    assert (found["images_dropped_by_similarity"], found["max_similarity"]) == (3, None)
    assert found["images"] == blobs[3:]


def test_a_documents_values_do_not_hang_on_what_shares_its_batch(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    document, blobs = drawn(shelf)
    others = [page(*(f"http://b/{n}" for n in range(40)), *(f"Sentence {n}. And more." for n in range(9)))]
    companions = [shelf.blobs(*(picture(40 + n, 50, seed=n + 9) for n in range(40)))]
    op = assign_images(precision="float32", min_similarity=None)
    alone = row(op([document], [blobs]))
    together = op([*others, document], [*companions, blobs])
    assert together["similarities"][1] == alone["similarities"]
    assert together["document"][1] == alone["document"]


def test_a_document_without_text_keeps_its_images_and_one_without_images_its_text(tmp_path: Path) -> None:
    blobs = Shelf(tmp_path).blobs(picture())
    bare = assigned(page("http://a/1"), blobs)
    assert (bare["images"], bare["similarities"], bare["max_similarity"]) == (blobs, [None], None)
    texts = assigned(page("Some text."), [])
    assert (shown(texts["document"]), texts["similarities"]) == (["Some text."], [])


def test_an_image_that_does_not_decode_becomes_absent_with_its_error(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    (blob,) = shelf.blobs(picture())
    assert blob.nbytes is not None
    cut = Blob(blob.tar, blob.offset, blob.nbytes // 2, "png", "x", 200, 200, None, None, blob.reader)
    found = assigned(page("Some text.", "http://a/1"), [cut])
    assert isinstance(found["images"][0], Absent)
    assert found["images"][0].error == "truncated_image"
    assert shown(found["document"]) == ["Some text.", "http://a/1"]


def test_a_document_too_large_to_assign_fails_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.ops.alignment.assign.MAX_PAIRS", 3)
    blob = Blob(None, None, None, None, None, None, None, "not_found", "", lambda *_: b"")
    assert failed_with(assign_images()([page("One. Two.", "http://a/1", "http://a/2")], [[blob, blob]])) == (
        "document_too_large"
    )
    assert failed_with(assign_images()([page("One.", "http://a/1")], [[]])) == "images_out_of_step"
