"""Faces are blurred in what is published: never found again, nothing else touched, the pool as it was."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Workplace
from documents import Shelf, row
from pictures import encoded, face, photograph
from PIL import Image, JpegImagePlugin

from curate.image.files import decode
from curate.ops.safety.blur_faces import blur_document_faces, blur_faces
from curate.ops.safety.faces import faces
from curate.pool.blob import Blob, Stored


def scene(seed: int = 0) -> Image.Image:
    image = photograph(seed, 640, 480)
    image.paste(face(400), (230, 40))
    return image


def blurred(tmp_path: Path, *files: bytes) -> list[Any]:
    blobs = Shelf(tmp_path).blobs(*files)
    images = [decode(data).image for data in files]
    boxes = faces()([image for image in images if image])["face_boxes"]
    return list(blur_faces(blobs, boxes)["image"])


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 70}), ("PNG", {}), ("WEBP", {}), ("GIF", {})])
def test_a_blurred_face_is_not_found_again_and_the_format_stays_where_it_can(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    data = encoded(scene(), kind, **options)
    (found,) = blurred(tmp_path, data)
    assert isinstance(found, Stored)
    assert found.ext == {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "png"}[kind]
    after = decode(found.data)
    assert after.image is not None and after.image.size == (640, 480) == (found.width, found.height)
    before = decode(data).image
    assert before is not None and faces()([before])["face_score"][0] > 0.5
    assert faces()([after.image])["face_score"][0] < 0.3


def test_what_is_outside_of_the_face_is_what_it_was(tmp_path: Path) -> None:
    lossless, jpeg = (encoded(scene(), kind, **more) for kind, more in (("PNG", {}), ("JPEG", {"quality": 70})))
    for data, most in ((lossless, 0), (jpeg, 6)):
        (found,) = blurred(tmp_path, data)
        before, after = (np.asarray(decode(each).image, int)[:, :200] for each in (data, found.data))
        assert np.abs(before - after).max() <= most
    assert JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg)).quantization == (
        JpegImagePlugin.JpegImageFile(io.BytesIO(blurred(tmp_path, jpeg)[0].data)).quantization
    )


def test_a_picture_without_faces_stays_where_it_lies(tmp_path: Path) -> None:
    (found,) = blurred(tmp_path, encoded(photograph(3, 320, 240), "JPEG"))
    assert isinstance(found, Blob) and found.tar is not None


def test_a_turned_picture_is_written_upright_without_its_notes_and_with_its_profile(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a preview might show the face"
    data = encoded(scene().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=85, exif=exif, icc_profile=b"profile")
    (found,) = blurred(tmp_path, data)
    after = decode(found.data)
    assert after.image is not None and after.image.size == (640, 480) and after.orientation == 1
    stored = Image.open(io.BytesIO(found.data))
    assert not stored.getexif() and stored.info["icc_profile"] == b"profile"
    assert faces()([after.image])["face_score"][0] < 0.3


def test_documents_have_the_faces_of_each_image_blurred_and_counted(tmp_path: Path) -> None:
    files = [encoded(scene(), "JPEG"), encoded(photograph(1), "PNG")]
    first, absent, second = Shelf(tmp_path).blobs(files[0], "http_404", files[1])
    (with_face, without) = faces()([image for data in files if (image := decode(data).image)])["face_boxes"]
    found = row(blur_document_faces([[first, absent, second]], [[with_face, None, without]]))
    assert found["faces_blurred"] == 1
    assert isinstance(found["images"][0], Stored) and found["images"][1:] == [absent, second]


def test_a_run_publishes_blurred_faces_with_their_boxes_and_leaves_the_pool_alone(place: Workplace) -> None:
    files = {"a": encoded(scene(1), "JPEG"), "b": encoded(photograph(2), "PNG"), "c": encoded(scene(3), "PNG")}
    for name, data in files.items():
        path = place.src / f"{name}.{'jpg' if name == 'a' else 'png'}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(f"picture {name}")
    steps = [{"op": "faces"}, {"op": "blur_faces"}]
    done = place.run(
        place.recipe(steps=steps, publish={"image_name": "format", "columns": ["face_boxes", "faces_blurred"]})
    )
    assert done.code == 0, done.stderr
    published: dict[str, dict[str, bytes]] = {}
    for tar in sorted((place.out / "dataset").glob("*.tar")):
        with tarfile.open(tar) as archive:
            for member in archive:
                uid, _, part = member.name.partition(".")
                published.setdefault(uid, {})[part] = archive.extractfile(member).read()  # type: ignore[union-attr]
    by_text = {parts["txt"].decode()[-1]: parts for parts in published.values()}
    assert by_text["b"]["png"] == files["b"], "byte for byte"
    for name, part in (("a", "jpg"), ("c", "png")):
        image = decode(by_text[name][part]).image
        assert image is not None and faces()([image])["face_score"][0] < 0.3
        assert b'"face_boxes": [[' in by_text[name]["json"] and b'"faces_blurred": 1' in by_text[name]["json"]
    kept = b"".join(path.read_bytes() for path in place.out.rglob("*.tar") if "dataset" not in path.parts)
    assert all(data in kept for data in files.values()), "the pool holds what came"
