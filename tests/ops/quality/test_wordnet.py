"""Captions are known by words of WordNet as the published filter knows them; counts are those of its tools."""

from __future__ import annotations

from pathlib import Path

import fasttext
import pytest
from conftest import Workplace
from hypothesis import given
from hypothesis import strategies as st

from curate.ops.quality.wordnet import IMAGENET_21K, caption_counts, read_synsets, wordnet_words
from curate.text.wordnet import Synset, WordNet
from pipelines.materials import wordnet
from pipelines.materials.packages import PackageUnavailableError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("wordnet")
    try:
        assert wordnet.prepare(where).lemmas == 147_306  # WordNet 3.0, wnstats(7WN): 155,287 strings by part of speech
    except PackageUnavailableError as err:
        pytest.skip(f"Debian's wordnet-base cannot be had here: {err}")
    return where / "source"


def test_first_sense_of_a_word_is_wordnets(folder: Path) -> None:
    """As NLTK 3.9.1 finds them in the same files."""
    senses = WordNet(folder)
    dog, goose, run = Synset("n", 2084071), Synset("n", 1855672), Synset("n", 189565)
    assert [senses.first_synset(word) for word in ("dog", "DOGS", "geese", "run")] == [dog, dog, goose, run]
    assert senses.first_synset("best") == Synset("n", 127531)  # a noun first, though the adjective is commoner
    assert senses.first_synset("wolves") == senses.first_synset("wolf")
    assert senses.first_synset("running") == Synset("n", 558883)
    assert senses.first_synset("dog,") is None and senses.first_synset("zzz") is None


def test_forty_four_words_pass_by_collision_as_published_and_none_by_default(folder: Path) -> None:
    listed, senses = set(read_synsets(IMAGENET_21K)), WordNet(folder)
    assert len(listed) == 21_843
    offsets = {synset.offset for synset in listed}
    firsts = {word: senses.first_synset(word) for word in (lemma.replace(" ", "_") for lemma in senses.lemmas())}
    collide = [word for word, first in firsts.items() if first and first.offset in offsets and first not in listed]
    assert len(collide) == 44 and {"mossy", "tested", "passionate"} <= set(collide)
    strict = wordnet_words(wordnet=str(folder), strict="datacomp")
    assert strict(collide)["listed_words"] == [1] * 44
    assert wordnet_words(wordnet=str(folder))(collide)["listed_words"] == [0] * 44


def test_first_listed_word_of_a_caption_is_named(folder: Path) -> None:
    op = wordnet_words(wordnet=str(folder))
    found = op(["a Mossy thing of 1999", "two dogs and a goose", "", "dog,"])
    assert found == {"listed_words": [0, 2, 0, 0], "listed_word": [None, "dogs", None, None]}


def test_own_list_of_synsets_is_read_and_a_wrong_one_refused(place: Workplace, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("n02084071\n")
    assert wordnet_words(wordnet=str(folder), synsets=str(tmp_path / "list.txt"))(["goose dog"])["listed_words"] == [1]
    (tmp_path / "list.txt").write_text("n02084071\ndog\n")
    place.images(1)
    for knobs, words in (
        ({"wordnet": str(folder), "synsets": str(tmp_path / "list.txt")}, ["list.txt", "'dog' is no synset"]),
        ({"wordnet": str(folder), "synsets": "nowhere.txt"}, ["synsets: no file nowhere.txt"]),
        ({"wordnet": "nowhere"}, ["wordnet: no folder nowhere", "`curate prepare wordnet`"]),
    ):
        found = place.run(place.recipe(steps=[{"op": "wordnet_words", "with": knobs}]))
        assert found.code and all(word in found.stderr for word in words), found.stderr
        assert not place.out.exists()


@given(st.text(st.sampled_from(" \n\t\r\x0b\x0c\0\u00a0ab\u3000é"), max_size=20))
def test_tokens_are_counted_as_fasttext_counts_them(text: str) -> None:
    counted = caption_counts([text])
    assert counted["fasttext_tokens"] == [len(fasttext.tokenize(text))]
    assert (counted["split_words"], counted["text_length"]) == ([len(text.split())], [len(text)])
