"""Tell names of files from captions: of cameras, phones, screenshots, editors and sites, and digests."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_EXTENSION: Final = (
    r"\.(?:jpe?g|jfif|jp2|png|apng|gif|webp|bmp|tiff?|avif|hei[cf]|svgz?|ico|psd|xcf|ai|eps|pdf"
    r"|dng|cr[23]|nef|arw|orf|rw2|raf|raw|mp4|mov|avi|webm)"
)
_DATE: Final = r"\d{4}[-_. ]?\d{2}[-_. ]?\d{2}"
_SCREENSHOT: Final = (
    r"screen[-_ ]?shots?|screen[-_ ]?captures?|screencap|bildschirmfoto|capture d['’]écran|captura de pantalla"
    r"|captura de tela|schermata|schermafbeelding|zrzut ekranu|снимок экрана|скриншот|スクリーンショット"
    r"|屏幕截图|屏幕快照|截屏|스크린샷"
)
_UNNAMED: Final = (
    r"untitled|unnamed|unbenannt|ohne titel|sans[-_ ]titre|sin título|sem título|senza titolo|без имени|无标题"
    r"|未命名|無題|名称未設定|download|downloaded"
)
_NAMES: Final = (
    # cameras: JEITA's design rule for camera file systems (four letters or signs, four digits), makers' own before it
    r"(?:img|_mg|dsc|_dsc|dscn|dscf|sam|mvi|gopr|dji|pict|cimg|imag|hpim|kif|stp|sdc|imgp|p[0-9a-c])[-_ ]?\d{3,}\w*",
    r"\d{3}_\d{4}",
    # phones and messengers
    rf"(?:pxl|img|vid|mvimg|pano|burst|signal|wp|photo|image|picture)[-_ ]{_DATE}.*",
    r"\d{8}[-_]\d{6}\w*|\d{4}-\d{2}-\d{2}[-_ ]\d{2}[-.]\d{2}[-.]\d{2}.*",
    r"(?:img|vid)-\d{8}-wa\d+|whatsapp[-_ ]image[-_ ]\d{4}.*|fb_img_\d+|received_\d+|snapchat-\d+|telegram[-_ ]\S+\d",
    # screenshots and what has no name yet
    rf"(?:{_SCREENSHOT})(?:[-_ ]*\(?\d+\)?|[-_ ]+(?:from |vom |du )?{_DATE}.*)",
    rf"(?:{_UNNAMED})(?:[-_ ]*\(?\d+\)?|[-_ ]design.*)",
    r"(?:image|img|photo|pic|picture|scan|file|clip_image|thumb|thumbnail|bild|foto|imagen)[-_]?\d+",
    # agencies and sites: numbers, digests, UUIDs, a size behind a name
    r"(?:adobestock|shutterstock|istock(?:photo)?|gettyimages|depositphotos|dreamstime\w*|fotolia)[-_]\w*\d{5,}\w*",
    r"fullsizerender(?:[-_ ]?\d+)?",
    r"\d{6,}(?:_\d+)*(?:_[a-z])?|[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\S*[^\W\d]\S*[-_]\d{2,4}x\d{2,4}(?:[-_@]\w+)?",
)
_AROUND: Final = r"(?:copy of |kopie von )?", r"(?:[-_ ]*(?:\(\d{1,3}\)|copy(?: ?\d+)?|edited|scaled|@[23]x))*"
_WITH_EXTENSION: Final = rf"(?:\S+|[^\s.!?]+(?: [^\s.!?]+){{1,4}}){_EXTENSION}(?:[?#]\S*)?"
"""A name of up to five words: what is longer and ends so is a sentence that speaks of a file."""
_FILE_NAME: Final = re.compile(
    rf"{_AROUND[0]}(?:(?:{'|'.join(_NAMES)}){_AROUND[1]}(?:{_EXTENSION})?|{_WITH_EXTENSION})", re.IGNORECASE
)
_MOST_CHARACTERS: Final = 255


def is_file_name_like(text: str) -> bool:
    """Whether a text is nothing but what names a file: `IMG_2031.JPG`, `Screenshot 2020-01-01 at 10.11.12`."""
    if len(text) > _MOST_CHARACTERS:
        return False
    return _FILE_NAME.fullmatch(unicodedata.normalize("NFKC", text).strip()) is not None
