"""Images move to the sentence they suit best, as MMC4 does it, and a document's values are its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from documents import Shelf, failed_with, page, picture, row, shown

from curate.document.segments import Segment, image_segment, is_image, text_segment
from curate.image.files import decode
from curate.ops.alignment.assign import assign_images, best_assignment, sentence_similarity
from curate.ops.alignment.clip_score import clip_score
from curate.pool.blob import Blob
from curate.text.sentences import sentence_spans


@pytest.fixture(autouse=True)
def _on_one_thread() -> None:
    torch.set_num_threads(1)


def test_assignment_gives_each_sentence_one_image_at_most_and_largest_sum() -> None:
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


def scored(document: list[Segment], blobs: list[Blob]) -> dict[str, Any]:
    return row(sentence_similarity(precision="float32")([document], [blobs]))


def assigned(document: list[Segment], blobs: list[Blob], **knobs: Any) -> dict[str, Any]:
    scores = scored(document, blobs)["sentence_similarities"]
    return row(assign_images([document], [blobs], [scores], **knobs))


def test_images_stand_before_their_sentences_and_not_a_word_is_lost(tmp_path: Path) -> None:
    document, blobs = drawn(Shelf(tmp_path))
    found = assigned(document, blobs)
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


def test_document_order_moves_nothing_and_keeps_the_similarities(tmp_path: Path) -> None:
    """In document order nothing moves and the similarities are the same."""
    document, blobs = drawn(Shelf(tmp_path))
    moved = assigned(document, blobs)
    still = assigned(document, blobs, order="document")
    assert (still["document"], still["images"]) == (document, blobs)
    by_digest = {b.sha256: s for b, s in zip(moved["images"], moved["similarities"], strict=True)}
    assert still["similarities"] == [by_digest[b.sha256] for b in blobs]


def test_documents_values_do_not_hang_on_what_shares_its_batch(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    document, blobs = drawn(shelf)
    others = [page(*(f"http://b/{n}" for n in range(40)), *(f"Sentence {n}. And more." for n in range(9)))]
    companions = [shelf.blobs(*(picture(40 + n, 50, seed=n + 9) for n in range(40)))]
    op = sentence_similarity(precision="float32")
    alone = row(op([document], [blobs]))
    together = op([*others, document], [*companions, blobs])
    assert together["sentence_similarities"][1] == alone["sentence_similarities"]
    assert together["best_similarity"][1] == alone["best_similarity"]


def test_documents_of_images_or_text_alone_keep_what_they_have(tmp_path: Path) -> None:
    """A document without text keeps its images and one without images its text."""
    blobs = Shelf(tmp_path).blobs(picture())
    bare = assigned(page("http://a/1"), blobs)
    assert (bare["images"], bare["similarities"], bare["max_similarity"]) == (blobs, [None], None)
    texts = assigned(page("Some text."), [])
    assert (shown(texts["document"]), texts["similarities"]) == (["Some text."], [])


def test_image_that_is_absent_or_does_not_decode_has_no_similarity(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    (blob, gone) = shelf.blobs(picture(), "not_found")
    assert blob.nbytes is not None
    half = blob.nbytes // 2
    digest = hashlib.sha256(blob.read()[:half]).hexdigest()
    cut = Blob(blob.tar, blob.offset, half, "png", digest, 200, 200, None, None, blob.reader)
    found = scored(page("Some text.", "http://a/1", "http://a/2", "http://a/3"), [cut, gone, blob])
    assert [value is None for value in found["best_similarity"]] == [True, True, False]
    assert found["best_similarity"][2] == max(found["sentence_similarities"][2])


def test_similarities_of_another_text_fail_by_name(tmp_path: Path) -> None:
    blobs = Shelf(tmp_path).blobs(picture())
    found = assign_images([page("One. Two.", "http://a/1")], [blobs], [[[0.5]]])
    assert failed_with(found) == "similarities_out_of_step"


def test_document_too_large_to_assign_fails_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.ops.alignment.assign.MAX_PAIRS", 3)
    blob = Blob(None, None, None, None, None, None, None, "not_found", "", lambda *_: b"")
    op = sentence_similarity()
    assert failed_with(op([page("One. Two.", "http://a/1", "http://a/2")], [[blob, blob]])) == "document_too_large"
    assert failed_with(op([page("One.", "http://a/1")], [[]])) == "images_out_of_step"
    assert failed_with(assign_images([page("One.", "http://a/1")], [[]], [[]])) == "images_out_of_step"
