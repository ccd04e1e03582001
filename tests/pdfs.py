"""PDF files written by hand, so that each test says what is in its file."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Sequence

from PIL import Image, ImageFont

from curate.pdf import PageText
from curate.pdf.file import open_pdf
from curate.pdf.text import read_text

CATALOG, PAGES, LATIN, ANY, FIRST = 1, 2, 3, 4, 10
"""Numbers of the objects that every file has; `ANY` is a font in which a character's code is its code point."""

GLYPH = 50
"""Of Pillow's own font: what stands for every character of `ANY`."""

LETTER = (0, 0, 612, 792)


def stream(data: bytes, head: str = "", deflated: bool = False) -> bytes:
    if deflated:
        data, head = zlib.compress(data, 9), f"{head} /Filter /FlateDecode"
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), head.encode(), data)


def written(objects: dict[int, bytes], trailer: str = "") -> bytes:
    """The file that holds these objects."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = {}
    for number, body in sorted(objects.items()):
        places[number] = out.tell()
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    at, count = out.tell(), max(objects) + 1
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % count)
    for number in range(1, count):
        out.write(b"%010d 00000 %c \n" % (places.get(number, 0), b"n" if number in places else b"f"))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (count, trailer.encode(), at))
    return out.getvalue()


def fonts(vertical: bool = False) -> dict[int, bytes]:
    """Helvetica, and a font of one wide glyph that stands for any character, which its table to Unicode tells."""
    typeface = ImageFont.load_default(10).path
    assert isinstance(typeface, io.BytesIO)
    encoding = "Identity-V" if vertical else "Identity-H"
    ranges = b"\n".join(b"<%02X00> <%02XFF> <%02X00>" % (high, high, high) for high in range(256))
    cmap = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        b"1 begincodespacerange <0000> <FFFF> endcodespacerange\n100 beginbfrange\n"
        + ranges
        + b"\nendbfrange endcmap CMapName currentdict /CMap defineresource pop end end"
    )
    return {
        LATIN: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        ANY: b"<< /Type /Font /Subtype /Type0 /BaseFont /Any /Encoding /%s /DescendantFonts [5 0 R] /ToUnicode 6 0 R >>"
        % encoding.encode(),
        5: b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Any /DW 1000 /CIDSystemInfo "
        b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor 7 0 R /CIDToGIDMap 9 0 R >>",
        6: stream(cmap),
        7: b"<< /Type /FontDescriptor /FontName /Any /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0 /Ascent 800 "
        b"/Descent -200 /CapHeight 700 /StemV 80 /FontFile2 8 0 R >>",
        8: stream(typeface.getvalue(), deflated=True),
        9: stream(GLYPH.to_bytes(2, "big") * 65536, deflated=True),
    }


def pdf(
    *contents: bytes | str,
    box: Sequence[float] = LETTER,
    page: str = "",
    resources: str = "",
    catalog: str = "",
    more: dict[int, bytes] | None = None,
    vertical: bool = False,
) -> bytes:
    """A file of these pages, each given by how it is drawn. Its fonts are /L and /A; `page` goes into every page."""
    objects = fonts(vertical) | (more or {})
    kids = []
    for number, content in enumerate(contents):
        at = FIRST + 2 * number
        kids.append(f"{at} 0 R")
        sides = " ".join(map(str, box))
        objects[at] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{sides}] /Contents {at + 1} 0 R "
            f"/Resources << /Font << /L 3 0 R /A 4 0 R >> {resources} >> {page} >>"
        ).encode()
        objects[at + 1] = stream(content if isinstance(content, bytes) else content.encode("latin-1"))
    objects[CATALOG] = f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode()
    objects[PAGES] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>".encode()
    return written(objects)


def line(text: str, x: float, y: float, size: float = 10) -> str:
    """A line in Helvetica, its left end at `x`, its foot at `y` points from below."""
    shown = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /L {size} Tf {x} {y} Td ({shown}) Tj ET\n"


def wide(text: str, x: float, y: float, size: float = 10) -> str:
    """A line in the font of any character."""
    return f"BT /A {size} Tf {x} {y} Td <{text.encode('utf-16-be').hex()}> Tj ET\n"


def lines(texts: Iterable[str], x: float, y: float, size: float = 10) -> str:
    """Lines below each other."""
    return "".join(line(text, x, y - 1.2 * size * number, size) for number, text in enumerate(texts))


def scan(*images: Image.Image) -> bytes:
    """A file whose pages are these images alone, as a scanner writes them, 150 pixels an inch."""
    file = io.BytesIO()
    images[0].save(file, "PDF", save_all=True, append_images=images[1:], resolution=150)
    return file.getvalue()


def encrypted(user_password: bytes) -> bytes:
    """A file of one page, encrypted by RC4 with 40 bits (PDF Reference 1.7, section 3.5, revision 2)."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    owner = rc4(hashlib.md5((b"owner" + pad)[:32]).digest()[:5], (user_password + pad)[:32])
    file_id, permissions = b"0123456789abcdef", (-4).to_bytes(4, "little", signed=True)
    key = hashlib.md5((user_password + pad)[:32] + owner + permissions + file_id).digest()[:5]

    def hidden(number: int, data: bytes) -> bytes:
        return rc4(hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[:10], data)

    objects = {
        CATALOG: b"<< /Type /Catalog /Pages 2 0 R >>",
        PAGES: b"<< /Type /Pages /Count 1 /Kids [6 0 R] >>",
        LATIN: fonts()[LATIN],
        5: b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>"
        % (owner.hex().encode(), rc4(key, pad).hex().encode()),
        6: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 7 0 R "
        b"/Resources << /Font << /L 3 0 R >> >> >>",
        7: stream(hidden(7, line("open to all who read", 72, 700).encode())),
    }
    return written(objects, f"/Encrypt 5 0 R /ID [<{file_id.hex()}> <{file_id.hex()}>]")


def rc4(key: bytes, data: bytes) -> bytes:
    box = list(range(256))
    j = 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)


FOX = "the quick brown fox jumps over a lazy dog and sleeps under an old tree until morning comes with light on fields"

PROSE = FOX.split(" ") * 30


def layer(data: bytes, page: int = 0) -> PageText:
    with open_pdf(data) as opened, opened.page(page) as found:
        return read_text(found)
