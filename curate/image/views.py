"""Views of a picture that a vision tower is shown, one square or several, and how large they are. No pixels here.

Shapes are (height, width) in pixels, boxes (top, left, bottom, right).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Fit = Literal["square", "pad", "whole", "native"]
Size = tuple[int, int]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Split:
    """A picture is cut into `tiles` x `tiles`, row by row; the whole stands before or after them.

    `of`: whether the picture is cut, each tile shown at the tower's size, or the tower's features of one large picture
    are. Idefics2 (2405.02246): 2, the whole last; MM1 (2403.09611, 3.3): 2 of a square of 1,344 pixels; Mini-Gemini
    (2403.18814): 2, the whole first, the features of its second tower cut.
    """

    tiles: int = 2
    whole: Literal["first", "last"] = "last"
    of: Literal["picture", "features"] = "picture"


@dataclass(frozen=True)
class Views:
    """Views that a tower is shown of a picture.

    `fit`: `square`: short side to the tower's size, centre cut out; `pad`: long side to it, white beside, which is
    hidden; `whole`: the same, the white seen as part of the picture; `native`: own aspect ratio, long side at most the
    tower's size, each side at least `shortest_px`, black to the right and below where others are larger; None: square,
    and whole what is to be seen whole. `frames`: stills of a film at most, each a view.
    """

    fit: Fit | None = None
    split: Split | None = None
    frames: int | None = None
    shortest_px: int = 378

    @property
    def tiles(self) -> int:
        """Tiles a side that the picture itself is cut into."""
        return self.split.tiles if self.split is not None and self.split.of == "picture" else 1

    @property
    def views(self) -> int:
        """V: views of a picture that the tower looks at."""
        return (self.frames or 1) * (self.tiles**2 + 1 if self.tiles > 1 else 1)

    @property
    def sized(self) -> bool:
        """Whether it must be told with a view how much of it is picture."""
        return self.fit == "native" or self.frames is not None or (self.fit == "pad" and self.split is None)

    def of(self, whole: bool) -> Views:
        """The views of a picture that is to be seen `whole`, or need not."""
        return replace(self, fit=self.fit or ("whole" if whole else "square"))


def native_size(size: Size, shortest_px: int, longest_px: int) -> Size:
    """The size of a picture at its own aspect ratio: long side at most so much, then each side at least so much.

    As Idefics2's processor has it (`transformers`): small pictures are not enlarged to the longest, and a sliver loses
    its aspect ratio to the least side.
    """
    height, width = size
    aspect = width / height
    if width >= height and width > longest_px:
        height, width = int(longest_px / aspect), longest_px
    elif height > width and height > longest_px:
        height, width = longest_px, int(longest_px * aspect)
    return max(height, shortest_px), max(width, shortest_px)


def tile_boxes(size: Size, tiles: int) -> list[Box]:
    """Boxes of tiles x tiles, row by row, cut at the floors of the fractions: all of the picture, no pixel twice."""
    rows, columns = ([side * n // tiles for n in range(tiles + 1)] for side in size)
    return [(rows[r], columns[c], rows[r + 1], columns[c + 1]) for r in range(tiles) for c in range(tiles)]


def tensor_name(what: Literal["image", "image_size"], tower: str) -> str:
    """The name in a batch of a tower's pictures, or of their sizes; the first tower's have none behind them."""
    return f"{what}:{tower}" if tower else what
