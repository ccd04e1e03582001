"""near_evaluation: the nearest evaluation vector is named, whatever batch a row is in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.lacks import MachineError
from curate.models.files import ModelError
from curate.ops.dedup.near_evaluation import near_evaluation


def saved(path: Path, array: object) -> str:
    np.save(path, np.asarray(array))
    return str(path)


def test_a_row_near_an_evaluation_item_names_it_in_any_batch(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    items, rows = draw.normal(size=(50, 64)), draw.normal(size=(200, 64)).astype(np.float32)
    rows[7] = 3 * items[11] + 0.1 * draw.normal(size=64)
    op = near_evaluation(vectors=saved(tmp_path / "v.npy", items))
    found = op(list(rows))
    exact = (rows @ items.T) / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(items, axis=1))
    assert found["evaluation_item"] == exact.argmax(1).tolist() and found["evaluation_item"][7] == 11
    assert np.allclose(found["evaluation_cosine"], exact.max(1), atol=1e-6)
    assert [n for n, cosine in enumerate(found["evaluation_cosine"]) if cosine > 0.75] == [7]
    alone = [op([row])["evaluation_cosine"][0] for row in rows]
    assert alone == found["evaluation_cosine"]


def test_no_vector_has_no_answer_and_another_width_stops_the_step(tmp_path: Path) -> None:
    op = near_evaluation(vectors=saved(tmp_path / "v.npy", np.eye(3)))
    found = op([None, np.zeros(3), np.full(3, np.nan), np.array([0, 2, 0])])
    assert found == {"evaluation_cosine": [None, None, None, 1.0], "evaluation_item": [None, None, None, 1]}
    with pytest.raises(MachineError, match="3 numbers an item, the vectors 4"):
        op([np.ones(4)])


@pytest.mark.parametrize("array", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), int), [[1.0, 0.0], [0.0, 0.0]]])
def test_a_file_that_holds_no_vectors_is_refused(array: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="near_evaluation"):
        near_evaluation(vectors=saved(tmp_path / "v.npy", array))
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ModelError, match="not a NumPy file"):
        near_evaluation(vectors=str(tmp_path / "text.npy"))
