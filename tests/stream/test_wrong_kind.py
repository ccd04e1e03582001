"""A stream whose function does not fit a source says so, and blames no shard."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from mixtures import a_dataset

from curate import mix
from curate.shards import load_dataset, save_dataset
from curate.stream import DrawnSample, Fit, ReadOptions, Stream, StreamError


def of_kind(folder: Path, kind: Any, samples: int = 40) -> Path:
    """A manifest of one dataset of that kind, whose samples have no image."""
    a_dataset(folder / "some", samples)
    save_dataset(load_dataset(folder / "some").model_copy(update={"kind": kind}), folder / "some")
    mix.build([(folder / "some", 1.0)], 0, folder / "m.json")
    return folder / "m.json"


@pytest.mark.parametrize("kind", ["interleaved", "text"])
def test_fit_on_documents_or_texts_is_refused_by_their_kind(tmp_path: Path, kind: str) -> None:
    stream = Stream(of_kind(tmp_path, kind), 4, Fit(32))
    with pytest.raises(StreamError) as refused:
        next(stream)
    said = str(refused.value)
    assert f"source 'some' is of kind {kind}, and Fit takes samples of kind caption or ocr" in said
    assert "curate verify" not in said


def test_function_that_refuses_whole_samples_is_named_and_no_shard_blamed(tmp_path: Path) -> None:
    def picky(drawn: DrawnSample) -> Any:
        raise ValueError("no part `vecap`")

    stream = Stream(of_kind(tmp_path, "text"), 4, picky, reading=ReadOptions(max_unreadable=1.0))
    with pytest.raises(StreamError, match=r"of kind text: .* was read, and could not be prepared .*vecap") as refused:
        next(stream)
    assert "curate verify" not in str(refused.value)


def test_function_that_refuses_some_whole_samples_is_named_at_the_limit(tmp_path: Path) -> None:
    import torch

    def picky(drawn: DrawnSample) -> Any:
        if int(drawn.uid.removeprefix("some")) % 2:
            raise KeyError("vecap")
        return {"x": torch.zeros(1)}

    stream = Stream(of_kind(tmp_path, "text"), 20, picky)
    with pytest.raises(StreamError, match="it was read well: give the stream a function that can prepare") as refused:
        list(islice(stream, 4))
    assert "curate verify" not in str(refused.value)
