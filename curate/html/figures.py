"""Give the captions of a figure to its images."""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.html.blocks import HtmlPiece


@dataclass
class Figure:
    """A figure that is open: its images, and its captions so far."""

    pictures: list[HtmlPiece] = field(default_factory=list)
    captions: list[tuple[int, int, HtmlPiece]] = field(default_factory=list)
    """Each with the number of pictures before it, and its place among the page's pieces, should there be no picture."""

    def close(self, pieces: list[HtmlPiece]) -> None:
        """Give its captions to its images: one alone to the first image, of several each to the image before it."""
        if not self.pictures:
            for _, place, piece in reversed(self.captions):
                pieces.insert(place, piece)
            return
        for after, _, piece in self.captions:
            picture = self.pictures[after - 1 if after and len(self.captions) > 1 else 0]
            picture.caption = f"{picture.caption}\n{piece.text}" if picture.caption else piece.text
