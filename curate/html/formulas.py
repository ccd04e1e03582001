r"""Read formulas as text: as the TeX that a page gives, else its alternative text, else their tokens in a line.

TeX stands between `$` (`$$` where the formula has a line of its own), as in Markdown; what is no TeX stands as it is.
Everything takes time linear in the characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from curate.html.names import Attributes, word_set
from curate.html.nodes import element_after

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_ATTRIBUTES = re.compile(r"""([\w:-]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""")
_OPENING = re.compile(r"""<[^\s/>]++((?:[^>"']|"[^"]*+"|'[^']*+')*+)>""")
_PART = re.compile(r"<(/?)(?:[A-Za-z]+:)?([\w-]++)([^<>]*+)>|([^<]++)|<")
_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")
_TEX_SCRIPT = re.compile(r"math/(?:la)?tex\b", re.I)
_SAVED = re.compile(r"%?\s*<!\[CDATA\[|%?\s*\]\]>")
_STYLE = re.compile(r"\\(?:display|text|script)style(?![A-Za-z])\s*")
_MARKS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"))
_INVISIBLE = dict.fromkeys((0x200B, 0x2062, 0x2063, 0x2064, 0x00AD)) | {0x2061: " ", 0xA0: " "}
_MAX_DEPTH = 64
_MAX_FIELDS = 20

_FORMULA_IMAGE = re.compile(
    r"(?:^|\s)(?:mwe-math-fallback-image[\w-]*|tex|latex|math|formula(?:Inl|Dsp)|ltx_Math|ql-img-[\w-]*formula"
    r"|(?:inline|display|numbered)(?:formula|equation))(?:\s|$)"
)
_FORMULA_FILE = re.compile(
    r"/equation\?tex=|latex\.php\?|latex\.codecogs\.com|(?:mime|math)tex\b[^/]*\?|cht=tx\b|/math/render/", re.I
)
_OWN_LINE = re.compile(r"display|Dsp|numbered", re.I)


def read_formula(element: str) -> str:
    """Read one element's HTML, `<math>` or a `<script>` that holds TeX, MathML or AsciiMath; empty where it is none."""
    opening = _OPENING.match(element)
    if opening is None:
        return ""
    attributes = {name.lower(): unescape(a or b or c) for name, a, b, c in _ATTRIBUTES.findall(opening[1])}
    if element[1:7].lower() == "script":
        return _read_script(attributes.get("type", ""), element[opening.end() :].rpartition("</")[0])
    own_line = attributes.get("display", "").lower() == "block" or attributes.get("mode") == "display"
    tex = _annotated_tex(element) or attributes.get("data-latex") or attributes.get("alttext", "")
    return mark_tex(tex, own_line) or _linear(element)


def _read_script(kind: str, content: str) -> str:
    if _TEX_SCRIPT.match(kind):
        return mark_tex(content, "mode=display" in kind.replace(" ", ""))
    if kind.startswith("math/mml"):
        return read_formula(content.strip())
    return " ".join(unescape(content).split()) if kind.startswith("math/") else ""


def image_formula(img: Attributes) -> str:
    """Read the formula that an image shows, where its tag gives the TeX; empty where it does not, or shows another
    thing.
    """
    classes, src = img.get("class") or "", (img.get("src") or "")[:2000]
    text = (img.get("alt") or "").strip()
    is_tex = text.startswith(("$", "\\", r"{\displaystyle")) and _is_tex(text)
    if not (is_tex or _FORMULA_IMAGE.search(classes[:400])):
        if not ("tex" in src or "/math/" in src or "cht=tx" in src) or not _FORMULA_FILE.search(src):
            return ""
        text = _tex_of_query(src) or text
    return mark_tex(text, bool(_OWN_LINE.search(classes)) or text.startswith(("$$", r"\[")))


def _is_tex(text: str) -> bool:
    delimited = any(text.startswith(a) and text.endswith(b) and len(text) > len(a + b) for a, b in _MARKS)
    return delimited or text[0] == "{"


def _tex_of_query(src: str) -> str:
    query = src.partition("?")[2].partition("#")[0]
    asked = parse_qs(query) if query.count("&") < _MAX_FIELDS else {}
    return next((asked[name][0] for name in ("tex", "latex", "chl") if name in asked), "" if asked else unquote(query))


def mark_tex(tex: str, own_line: bool) -> str:
    r"""TeX between dollars, without its own marks; prose that stands for a formula (`x squared over y`) as it is."""
    bare = " ".join(_SAVED.sub("", unescape(tex)).split())
    for first, last in _MARKS:
        if bare.startswith(first) and bare.endswith(last) and len(bare) >= len(first + last):
            bare, own_line = bare[len(first) : -len(last)].strip(), own_line or first in ("$$", r"\[")
            break
    if _is_braced(bare) and _STYLE.match(bare, 1):
        bare = bare[1:-1]
    bare = _STYLE.sub("", bare, 1).strip() if _STYLE.match(bare) else bare
    if not bare or (len(_WORDS.findall(bare)) > 1 and "\\" not in bare):
        return bare
    return f"$${bare}$$" if own_line else f"${bare}$"


def _is_braced(tex: str) -> bool:
    """Whether the first brace is closed by the last."""
    depth = 0
    for at, char in enumerate(tex):
        depth += (char == "{") - (char == "}")
        if depth <= 0:
            return at == len(tex) - 1 > 0
    return False


def _annotated_tex(markup: str) -> str:
    for found in _PART.finditer(markup):
        if not found[1] and found[2] == "annotation" and "tex" in found[3].lower():
            end = markup.find("</", found.end())
            return markup[found.end() : end] if end >= 0 else ""
    return ""


def is_formula_alone(node: LexborNode) -> bool:
    """Whether an element holds a formula and nothing else."""
    inner = node.css_first("x-math")
    return inner is not None and inner.text().strip() == node.text().strip()


def is_written_after(node: LexborNode, attributes: Attributes) -> bool:
    """Whether a typesetter's output stands right before its source, as MathJax 2 leaves it."""
    classes = attributes.get("class") or ""
    after = element_after(node)
    if after is None or "katex" in classes or "mwe-math" in classes:
        return False
    if after.tag == "x-math":
        return "script" in after.attributes
    return "MathJax_Preview" in classes and "MathJax" in (after.attributes.get("class") or "")


def written_formula(node: LexborNode, attributes: Attributes) -> str:
    """Read the formula that a typesetter's element holds: its source, its image's, what it says to readers aloud."""
    if (inner := node.css_first("x-math")) is not None:
        return inner.text()
    image, sources = node.css_first("img"), node.css_first("[data-mathml]")
    if image is not None and (found := image_formula(image.attributes)):
        return found
    mathml = attributes.get("data-mathml") or (sources.attributes.get("data-mathml") if sources is not None else None)
    return read_formula(mathml) if mathml else " ".join((attributes.get("aria-label") or "").split())


_Combine = Callable[[list[str]], str]


def _group(text: str) -> str:
    return text if len(text) < 2 or text.isalnum() or (text[0], text[-1]) in (("(", ")"), ("[", "]")) else f"({text})"


def _row(parts: list[str]) -> str:
    """Side by side; a name of several letters (`sin`) keeps its distance from the next letter."""
    said: list[str] = []
    for part in parts:
        if said and len(said[-1]) > 1 and said[-1].isalpha() and part[:1].isalnum():
            said.append(" ")
        if part:
            said.append(part)
    return "".join(said)


def _scripts(*marks: str) -> _Combine:
    def combine(parts: list[str]) -> str:
        base, *rest = parts or [""]
        return _group(base) + "".join(f"{m}{_group(p)}" for m, p in zip(marks, rest, strict=False) if p)

    return combine


_COMBINE: dict[str, _Combine] = {
    "mfrac": lambda parts: "/".join(map(_group, parts)),
    "msup": _scripts("^"),
    "mover": _scripts("^"),
    "msub": _scripts("_"),
    "munder": _scripts("_"),
    "msubsup": _scripts("_", "^"),
    "munderover": _scripts("_", "^"),
    "msqrt": lambda parts: f"√{_group(_row(parts))}",
    "mroot": lambda parts: f"{_group(parts[-1])}√{_group(_row(parts[:-1]))}" if parts else "",
    "mfenced": lambda parts: f"({', '.join(parts)})",
    "mtr": ", ".join,
    "mtable": "; ".join,
    "mspace": lambda _: " ",
    "mphantom": lambda _: "",
    "annotation": lambda _: "",
    "annotation-xml": lambda _: "",
}
_OF_PARTS = word_set("mfrac msup mover msub munder msubsup munderover mroot mfenced mtr mtable")
"""Elements in which each child has a place of its own, the empty ones too."""


class _Stack:
    """Elements of MathML that are open, each with the text of its parts."""

    def __init__(self) -> None:
        self.open: list[tuple[str, list[str]]] = [("mrow", [])]

    def add(self, text: str) -> None:
        """Add a token; space counts in words alone."""
        token = " ".join(unescape(text).translate(_INVISIBLE).split())
        name, parts = self.open[-1]
        if token:
            parts.append(f"{' ' * text[0].isspace()}{token}{' ' * text[-1].isspace()}" if name == "mtext" else token)

    def close(self) -> None:
        """Close the innermost element: its parts become one of the element around."""
        name, parts = self.open.pop()
        text = _COMBINE.get(name, _row)(parts)
        if text or self.open[-1][0] in _OF_PARTS:
            self.open[-1][1].append(text)

    def close_to(self, name: str) -> None:
        """Close an element, and all that is open in it."""
        if any(name == opened for opened, _ in self.open[1:]):
            while self.open[-1][0] != name:
                self.close()
            self.close()


def _linear(markup: str) -> str:
    """The tokens of MathML in a line: `a/b`, `x^2`, `x_i`, `√(x+1)`."""
    stack = _Stack()
    for closes, name, attributes, text in _PART.findall(markup):
        if text:
            stack.add(text)
        elif closes:
            stack.close_to(name)
        elif name and len(stack.open) < _MAX_DEPTH:
            stack.open.append((name, []))
            if attributes.endswith("/"):
                stack.close()
    while len(stack.open) > 1:
        stack.close()
    return " ".join(_row(stack.open[0][1]).split())
