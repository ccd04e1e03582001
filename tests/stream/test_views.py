"""What towers are shown of a picture, and how a batch holds the pictures of several of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curate.image.shown import see
from curate.image.tensors import Shown, of_batch, of_document, of_picture
from curate.image.views import Split, Views, native_size, tile_boxes
from curate.models.features import pictures_in

Side = st.integers(1, 3000)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(Side, Side, st.integers(2, 5))
def test_tiles_show_every_pixel_once(height: int, width: int, tiles: int) -> None:
    boxes = tile_boxes((height, width), tiles)
    assert sum((bottom - top) * (right - left) for top, left, bottom, right in boxes) == height * width
    assert boxes[0][:2] == (0, 0) and boxes[-1][2:] == (height, width)


def test_quarters_are_cut_at_the_floor_of_the_middle_as_in_idefics2() -> None:
    assert tile_boxes((5, 9), 2) == [(0, 0, 2, 4), (0, 4, 2, 9), (2, 0, 5, 4), (2, 4, 5, 9)]


@pytest.mark.parametrize(
    ("given_size", "wanted"),
    [
        ((600, 800), (600, 800)),
        ((900, 1401), (629, 980)),
        ((3000, 2000), (980, 653)),
        ((100, 200), (378, 378)),
        ((50, 2000), (378, 980)),
        ((981, 980), (980, 979)),
        ((1333, 999), (980, 734)),
        ((4000, 90), (980, 378)),
    ],
)
def test_native_sizes_are_those_of_idefics2(given_size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """The values are what `transformers` 5.23 gives (image_processing_idefics2.get_resize_output_image_size)."""
    assert native_size(given_size, 378, 980) == wanted


def test_idefics2_splits_into_quarters_and_the_whole_each_of_native_aspect() -> None:
    pixels = picture(900, 1401)
    views, sizes = see([pixels], 980, Views("native", Split()))
    assert sizes.tolist() == [[450, 700], [450, 701], [450, 700], [450, 701], [629, 980]]
    assert views.shape == (5, 3, 629, 980)
    assert torch.equal(views[1, :, :450, :701], torch.from_numpy(pixels[:450, 700:]).permute(2, 0, 1))  # top right
    assert torch.equal(views[2, :, :450, :700], torch.from_numpy(pixels[450:, :700]).permute(2, 0, 1))  # bottom left
    assert not views[0, :, 450:].any() and not views[0, :, :, 700:].any()


@pytest.mark.parametrize("whole", ["first", "last"])
def test_mm1_and_mini_gemini_see_four_tiles_of_a_square_of_twice_the_side_and_the_whole(whole: str) -> None:
    pixels = picture(100, 100)
    views, _ = see([pixels], 50, Views("square", Split(whole=whole)))  # type: ignore[arg-type]
    at = 1 if whole == "first" else 0
    assert views.shape == (5, 3, 50, 50)
    assert torch.equal(views[at + 1], torch.from_numpy(pixels[:50, 50:]).permute(2, 0, 1))
    small, _ = see([pixels], 50, Views("square"))
    assert torch.equal(views[0 if whole == "first" else 4], small[0])


def test_a_padded_square_says_how_much_of_it_is_picture() -> None:
    views, sizes = see([picture(60, 120)], 64, Views("pad"))
    assert sizes.tolist() == [[32, 64]]
    assert (views[0, :, :16] == 255).all() and (views[0, :, 48:] == 255).all()


def test_a_films_stills_are_views_and_missing_ones_have_no_size() -> None:
    stills = [picture(50, 60, n) for n in range(3)]
    views, sizes = see(stills, 32, Views("square", frames=5))
    assert views.shape == (5, 3, 32, 32) and sizes.tolist() == [[32, 32]] * 3 + [[0, 0]] * 2
    assert not views[3:].any()
    for number, still in enumerate(stills):
        assert torch.equal(views[number], see([still], 32, Views("square"))[0][0])
    assert len(see([*stills, *stills], 32, Views("square", frames=5))[0]) == 5


TOWERS = {
    "": Shown(64, Views("native", Split(), shortest_px=16)),
    "dino": Shown(48),
    "film": Shown(32, Views(frames=3)),
}


def document(*sizes: tuple[int, int]) -> dict[str, torch.Tensor]:
    """A prepared sample's pictures for three towers."""
    tensors = []
    for number, size in enumerate(sizes):
        pixels = picture(*size, number)
        found: dict[str, torch.Tensor] = {}
        for name, shown in TOWERS.items():
            found |= of_picture([pixels], name, shown)
        tensors.append(found)
    return of_document(tensors)


def test_a_batch_holds_each_towers_pictures_by_name_padded_to_the_largest() -> None:
    batch = of_batch([document((20, 90), (64, 30)), document(), document((50, 50))])
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "image": (3, 5, 3, 64, 64), "image_size": (3, 5, 2),
        "image:dino": (3, 3, 48, 48), "image:film": (3, 3, 3, 32, 32), "image_size:film": (3, 3, 2),
    }  # fmt: skip
    found = pictures_in(batch, ("dino", "film"))
    assert found is not None and found.order is None
    [[first, dino, film]] = found.groups
    assert first.x_MCHW.shape == (15, 3, 64, 64) and first.size_M2 is not None and len(first.size_M2) == 15
    assert dino.x_MCHW.shape == (3, 3, 48, 48) and dino.size_M2 is None
    assert film.size_M2 is not None and (film.size_M2.sum(1) > 0).tolist() == [True, False, False] * 3
    alone, _ = see([picture(50, 50, 0)], 64, TOWERS[""].views)
    height, width = alone.shape[2:]
    assert torch.equal(first.x_MCHW[10:, :, :height, :width], alone)


def test_a_batch_without_pictures_has_none_for_any_tower() -> None:
    batch = of_batch([document(), document()])
    assert not batch["image"].numel() and pictures_in(batch, ("dino", "film")) is None


def test_towers_stay_side_by_side_where_the_first_sees_several_resolutions() -> None:
    def shown(side: int, mark: int) -> dict[str, torch.Tensor]:
        return of_document(
            [
                {
                    "image": torch.full((3, side, side), mark, dtype=torch.uint8),
                    "image:dino": torch.full((3, 8, 8), mark, dtype=torch.uint8),
                }
            ]
        )

    batch = of_batch([shown(48, 1), shown(32, 2), shown(48, 3), shown(32, 4)])
    found = pictures_in(batch, ("dino",))
    assert found is not None and found.order is not None
    marks = [[p.x_MCHW[:, 0, 0, 0].tolist() for p in group] for group in found.groups]
    assert marks == [[[2, 4], [2, 4]], [[1, 3], [1, 3]]]
    assert torch.tensor([2, 4, 1, 3])[found.order].tolist() == [1, 2, 3, 4]
