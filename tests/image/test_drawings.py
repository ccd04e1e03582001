"""A drawing becomes a picture, whatever it asks for: within bounds, and without files of this machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from conftest import Workplace
from PIL import Image

from curate.image import drawings
from curate.image.drawings import draw_svg
from curate.image.files import ImageError

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 40 20">'


def drawing(body: str) -> bytes:
    return f"{HEAD}{body}</svg>".encode()


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as found:
        draw_svg(data, 80)
    return found.value.error


def test_a_drawing_is_drawn_on_white_as_wide_as_was_asked() -> None:
    image = Image.open(io.BytesIO(draw_svg(drawing('<rect width="20" height="20" fill="red"/>'), 80)))
    assert image.format == "PNG" and image.size == (80, 40)
    assert image.convert("RGB").getpixel((10, 10)) == (255, 0, 0)
    assert image.convert("RGB").getpixel((70, 10)) == (255, 255, 255)


def test_a_drawing_shows_no_file_of_this_machine(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "secret.png")
    for way in ("xlink:href", "href"):
        for place in (tmp_path / "secret.png", "http://example.org/a.png", "secret.png"):
            assert refused(drawing(f'<image width="20" {way}="{place}"/>')) == "linked_picture"


def test_what_is_no_drawing_is_named() -> None:
    assert refused(b"<svg") == "decode_error"
    assert refused(drawing("") + b" " * drawings.MAX_SVG_BYTES) == "image_too_large"


def test_a_drawing_that_asks_for_all_of_a_machine_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter's blur over a huge area, again and again."""
    monkeypatch.setattr(drawings, "SECONDS", 1)
    blurs = "".join(f'<feTurbulence numOctaves="9000" baseFrequency="{n}"/>' for n in range(1, 40))
    bomb = drawing(f'<filter id="f">{blurs}</filter><rect width="40" height="20" filter="url(#f)"/>')
    assert refused(bomb) == "image_too_costly"


def test_svg_and_gif_of_a_page_come_as_png(place: Workplace) -> None:
    Image.new("RGB", (90, 80), "blue").save(place.src / "a.gif")
    (place.src / "b.svg").write_bytes(drawing('<circle cx="9" cy="9" r="9"/>'))
    (place.src / "c.png").write_bytes(place.png(90, 80))
    story = "The ferry leaves the old harbour at seven every morning and comes back when the last lights are out. "
    pictures = "".join(f"<p>{n} {story}</p><img src='{n}' width=90 height=80>" for n in ("a.gif", "b.svg", "c.png"))
    (place.src / "page.html").write_text(f"<title>T</title><h1>T</h1>{pictures}")
    steps = [{"op": "html_document"}, {"op": "fetch_pictures", "with": {"side_px": 120}}]
    source = {"type": "html", "path": str(place.src)}
    done = place.run(
        place.recipe(kind="interleaved", source=source, steps=steps, publish={"columns": ["images_found"]})
    )
    assert done.code == 0, done.stderr
    with tarfile.open(place.dataset / "00000.tar") as tar:
        names = [member.name.split(".", 1)[1] for member in tar]
        sizes = [Image.open(tar.extractfile(m)).size for m in tar if m.name.endswith("png")]  # type: ignore[arg-type]
    assert names == ["json", "0.png", "1.png", "2.png"] and sizes == [(90, 80), (120, 60), (90, 80)]
