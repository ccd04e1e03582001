"""Vectors between the views of a picture."""

import pytest
import torch

from curate.models.arrange import Boundaries
from curate.models.files import ModelError


def test_idefics2_has_66_places_for_a_picture_and_326_for_a_split_one() -> None:
    assert Boundaries(1, 64, 8).places == 66
    assert Boundaries(5, 5 * 64, 8).places == 326


def test_vectors_of_all_views_together_have_no_boundaries_between_them() -> None:
    with pytest.raises(ModelError, match="leave them out"):
        Boundaries(5, 64, 8)


def test_boundaries_stand_before_between_and_after_the_views_and_leave_them_as_they_are() -> None:
    arranged = Boundaries(3, 6, 4)
    vectors = torch.randn(2, 6, 4)
    found = arranged(vectors)
    assert found.shape == (2, arranged.places, 4)
    at = [0, 3, 6, 9]
    assert (found[:, at] == arranged.boundary_E).all()
    assert torch.equal(found[:, [n for n in range(10) if n not in at]], vectors)
