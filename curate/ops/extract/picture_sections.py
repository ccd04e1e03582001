"""The op picture_sections: the text that stands around each image of a document."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curate.document.segments import Segment, is_image
from curate.ops.spec import Columns, op

Section = tuple[list[str], list[int]]
"""The texts of a section, and the numbers of the images in it."""


@op(
    reads="document",
    writes={"section": pa.list_(pa.string()), "section_words": pa.list_(pa.int32())},
    version=1,
    parts={"section": "images", "section_words": "images"},
)
def picture_sections(documents: Sequence[Sequence[Segment]]) -> Columns:
    """Of each image the texts under the same heading, before it and after it, and how many words they are.

    Cambrian-1's data engine (2406.16860) keeps images with more than 50. Code and tables are left out: they are read,
    not told; captions stand with the image itself.
    """
    found = [_of_images(document) for document in documents]
    return {"section": found, "section_words": [[len(text.split()) for text in texts] for texts in found]}


def _of_images(document: Sequence[Segment]) -> list[str]:
    sections: list[Section] = [([], [])]
    images = 0
    for segment in document:
        if is_image(segment):
            sections[-1][1].append(images)
            images += 1
        elif segment["block"] == "heading":
            sections.append(([], []))
        elif segment["block"] not in ("code", "table"):
            sections[-1][0].append(str(segment["text"]))
    texts = {number: "\n".join(text) for text, numbers in sections for number in numbers}
    return [texts[number] for number in range(images)]
