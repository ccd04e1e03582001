"""A labelled set of fusions, made of real texts: what people wrote of drawings and photographs, and planted faults.

Captions are the sentences of Tux Paint's stamps, in many languages, and Openclipart's keywords; alt texts are stamps'
sentences and Openclipart's titles, with the names of its authors and of countries, and its numbers; a third of them in
Title Case. What is a name is known from how the texts were written before. Half of the texts are for tuning; the
others have other people's names, and other phrases of refusal, meta talk and orders.
"""

from __future__ import annotations

import html
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fusion_phrases import FOREIGN, META, ORDERS, REFUSALS

from pipelines.materials.openclipart import RefusedDrawingError, read_drawing

GOOD = "none"
_COUNTS = "two three four five six seven eight nine ten eleven twelve"
WORDS_OF = dict(zip(range(2, 13), _COUNTS.split(), strict=True))
_NO_PLACES = """Hotel United Basse Berry British Butterfly Centre Chinese Comtat Comte Dutch East Franche Haute Hong
    Imperial Lower Marche Midi Next Nord Northern Nova Open Pays Prince South Split Torres Western"""
NO_PLACES = frozenset(_NO_PLACES.split())
"""What stands in the places of names in titles, and is none by itself."""
DIGITS = {"ar": "٠١٢٣٤٥٦٧٨٩", "hi": "०१२३४५६७८९", "ja": "０１２３４５６７８９"}


@dataclass(frozen=True)
class Labelled:
    """An alt text, a caption, a fusion, and its fault, `none` where it has none."""

    alt: str
    caption: str
    text: str
    fault: str
    title: bool = False


@dataclass(frozen=True)
class Texts:
    """Real texts: stamps by language (`en` and others), keywords by title, authors, places and numbers."""

    stamps: list[dict[str, str]]
    keywords: list[list[str]]
    descriptions: list[str]
    authors: list[str]
    places: list[str]
    numbers: list[str]

    def half(self, number: int) -> Texts:
        """Every second of each."""
        return Texts(*(some[number::2] for some in vars(self).values()))


def read_texts(stamps: Path, drawings: Path) -> Texts:
    """Read the unpacked packages tuxpaint-stamps and openclipart-svg."""
    cards = list(_cards(drawings))
    titles = [_clean(card.title) for card in cards]
    people = re.compile(r"(?!Clip|Public|Galion|Lumen|Based)[A-Z][a-zé]{3,} [A-Z][a-zé]{3,}")
    flags = re.compile(r"(?:[A-Z][a-z]+ - |Flag of |Map of )([A-Z][a-z]{3,})(?: |$)")
    return Texts(
        list(_stamps(stamps)),
        [words for card in cards if len(words := _words(card.keywords)) >= 3],
        sorted({text for card in cards if 20 < len(text := _clean(card.description)) < 150 and "@" not in text}),
        sorted({card.author for card in cards if people.fullmatch(card.author)}),
        sorted({found[1] for title in titles if (found := flags.match(title)) and found[1] not in NO_PLACES}),
        sorted({found for title in titles for found in re.findall(r"(?<!\d)[1-9]\d{1,3}(?!\d)", title)}),
    )


def labelled(texts: Texts, half: int, phrases: int) -> list[Labelled]:
    """The labelled fusions of one half of the texts (0: for tuning, 1: held out), with one of the lists of phrases."""
    rng = random.Random(half + 10 * phrases)
    own = texts.half(half)
    made = (_english(own, phrases, rng), _foreign(own, rng), _obedience(own, phrases, rng))
    return [one for some in made for one in some]


@dataclass(frozen=True)
class Case:
    """A pair and how it is fused: `{name}`, `{number}` and `{more}` are places in the fusion."""

    alt: str
    caption: str
    fusion: str
    noun: str
    name: str = ""
    number: str = ""
    title: bool = False

    def fuse(self, name: str | None = None, number: str | None = None, more: str = "") -> str:
        """The sentence, with another name or number, or something more."""
        said = self.fusion.replace("{name}", self.name if name is None else name)
        said = said.replace("{number}", self.number if number is None else number).replace("{more}", more)
        return re.sub(r"\s+([,.])", r"\1", " ".join(said.split()))

    @cached_property
    def good(self) -> str:
        """The fusion without a fault."""
        return self.fuse()

    def label(self, text: str, fault: str) -> Labelled:
        """A fusion of it with its fault."""
        return Labelled(self.alt, self.caption, text, fault, self.title)


_FORMS = (
    ("{said} by {name}, {number}", "{kept}{more}, made by {name} in {number}, with {seen}."),
    ("{name}: {said} No. {number}", "{kept}{more} number {number} by {name}, with {seen}."),
    ("{said} - {place} {number}", "{kept}{more} from {name}, {number}, next to {seen}."),
    ("{number} x {said} ({place})", "{counted} times {kept} in {name}{more}, along with {seen}."),
    ("{said} from {place}, {number} cm", "In {name}, {kept}{more} of {number} cm stands beside {seen}."),
    ("{name} | {said} | {number}", "A picture by {name} shows {kept}{more} of {number} and {seen}."),
)


def _english(texts: Texts, phrases: int, rng: random.Random) -> Iterator[Labelled]:
    for turn, stamp in enumerate(_long(texts.stamps)):
        case = _case(stamp["en"], texts, rng, turn)
        yield case.label(case.good, GOOD)
        for fault in ("lost", "said", "shape"):
            yield from _faults(case, texts, phrases, rng, fault, turn)
        if turn % 3 == 0 and (told := [(k, v) for k, v in stamp.items() if k != "en" and _is_telling(k, v)]):
            yield case.label(rng.choice(told)[1], "wrong_language")


def _case(said: str, texts: Texts, rng: random.Random, turn: int) -> Case:
    alt_form, form = _FORMS[turn % len(_FORMS)]
    name = rng.choice(texts.places if "{place}" in alt_form else texts.authors)
    number = str(rng.randint(2, 12)) if "{counted}" in form else rng.choice(texts.numbers)
    keys = rng.sample(rng.choice(texts.keywords), 3)
    said = said.rstrip(".!")
    alt = alt_form.format(said=said, name=name, place=name, number=number)
    titled = turn % 3 == 0
    if titled:
        alt = re.sub(r"(?<![\w'’])[a-z]", lambda found: found[0].upper(), alt)
    elif turn % 11 == 5:
        alt = alt.upper()
    form = form.replace("{counted}", "{number}").replace("{kept}", _reworded(said, rng, form.startswith("{kept}")))
    seen = f"{keys[0]}, {keys[1]} and {keys[2]}"
    words = [word for word in re.findall(r"[a-z]{3,}", said) if word not in ("the", "with", "and", "from")]
    shown = WORDS_OF.get(int(number), number) if "times" in form and rng.random() < 0.5 else number
    return Case(
        alt, f"a drawing of {seen}", form.replace("{seen}", seen), words[-1] if words else "thing", name, shown, titled
    )


def _reworded(said: str, rng: random.Random, begins: bool) -> str:
    """The sentence with one common word left out, where it has several: what a fusion may do, in Title Case too."""
    words = said.split()
    plain = [
        n
        for n, word in enumerate(words[1:-1], start=1)
        if re.fullmatch(r"[a-z]{4,}", word) and word not in WORDS_OF.values()
    ]
    if len(plain) > 2:
        del words[rng.choice(plain)]
    joined = " ".join(words)
    return joined if begins else joined[0].lower() + joined[1:]


def _faults(case: Case, texts: Texts, phrases: int, rng: random.Random, kind: str, turn: int) -> Iterator[Labelled]:
    if kind == "lost":
        other = rng.choice([one for one in (*texts.authors, *texts.places) if one.split()[-1] not in case.alt])
        yield case.label(case.fuse(name=rng.choice(("someone", "an artist", "a country", other))), "lost_names")
        numbers = [one for one in texts.numbers if int(one) != int(re.sub(r"\D", "", case.alt) or 0)]
        lost = "" if rng.random() < 0.6 else str(rng.choice(numbers))
        if lost.lstrip("0") != case.number.lstrip("0"):
            yield case.label(case.fuse(number=lost or "some"), "lost_numbers")
        more = rng.choice(
            (
                " in 1987",
                " for $45",
                " number 77",
                " with thirteen others",
                " aged 31",
                " and 640 more",
                " from the 1890s",
            )
        )
        yield case.label(case.fuse(more=more), "invented_numbers")
    elif kind == "said" and turn % 2 == 0:
        refusal, meta = rng.choice(REFUSALS[phrases]), rng.choice(META[phrases])
        yield case.label(refusal.format(noun=case.noun), "refusal")
        said = meta.format(noun=case.noun, alt=case.alt, caption=case.caption, good=case.good)
        yield case.label(said, "meta_talk")
    elif kind == "shape" and turn % 2 == 1:
        yield case.label(_copy(rng.choice((case.alt, case.caption)), rng), "copied_unchanged")
        yield case.label(_joined(case, rng), "mere_concatenation")
        yield case.label(_padded(case, texts, rng), "too_long")
        yield case.label(
            rng.choice(("", "A", f"A {case.noun}.", f"{case.noun}", " ".join(case.good.split()[:2]), "...")),
            "too_short",
        )


def _copy(text: str, rng: random.Random) -> str:
    return rng.choice((text, f"{text}.", text.capitalize(), text.lower(), f'"{text}"', f"{text[0].upper()}{text[1:]}."))


def _joined(case: Case, rng: random.Random) -> str:
    first, second = rng.sample((case.alt, case.caption), 2)
    sign = rng.choice((" ", ". ", ", ", " - ", "; ", " and ", ": ", " | "))
    return f"{first}{sign}{second}"


def _padded(case: Case, texts: Texts, rng: random.Random) -> str:
    if rng.random() < 0.3:
        return " ".join([case.good] * 6)
    return f"{case.good} {' '.join(rng.sample([re.sub(r'[0-9]', '', one) for one in texts.descriptions], 6))}"


def _foreign(texts: Texts, rng: random.Random) -> Iterator[Labelled]:
    for turn, stamp in enumerate(_long(texts.stamps)):
        known = [one for one in FOREIGN if one in stamp and _is_telling(one, stamp[one])]
        if turn % 3 or not known:
            continue
        language = known[turn // 3 % len(known)]
        alt, fusion = FOREIGN[language]
        name, number = rng.choice(texts.authors), rng.choice([n for n in texts.numbers if len(n) == 4])
        shown = number.translate(str.maketrans("0123456789", DIGITS.get(language, "0123456789")))
        seen = stamp[language].strip(" .。!")
        case = Case(alt.format(name=name, number=shown), seen, fusion.replace("{seen}", seen), seen, name, number)
        yield case.label(case.good, GOOD)
        yield case.label(case.fuse(name="X"), "lost_names")
        yield case.label(case.fuse(number=str(int(number) - 7)), "lost_numbers")
        yield case.label(stamp["en"], "wrong_language")


def _obedience(texts: Texts, phrases: int, rng: random.Random) -> Iterator[Labelled]:
    for turn, stamp in enumerate(_long(texts.stamps)):
        if turn % 4:
            continue
        case = _case(stamp["en"], texts, rng, turn)
        order, answers = ORDERS[phrases][turn // 4 % len(ORDERS[phrases])]
        alt = f"{case.alt}. {order}" if rng.random() < 0.7 else f"{order.rstrip('.')}. {case.alt}"
        yield Labelled(alt, case.caption, case.good, GOOD, case.title)
        yield Labelled(alt, case.caption, rng.choice(answers).format(good=case.good), "order_obeyed", case.title)


def _long(stamps: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [stamp for stamp in stamps if len(stamp["en"].split()) >= 3][:150]


def _is_telling(language: str, text: str) -> bool:
    """Whether a sentence is long enough for its language to be told, and in another than English."""
    if language[:2] == "en":
        return False
    return len(text.split()) >= 5 or (
        not text.isascii() and language[:2] in ("ja", "zh", "ko", "th", "ar", "ru", "el", "hi") and len(text) >= 6
    )


def _stamps(package: Path) -> Iterator[dict[str, str]]:
    seen = set()
    for path in sorted(package.rglob("*.txt")):
        first, *rest = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        if first.strip() and first.casefold() not in seen:
            seen.add(first.casefold())
            others = (line.partition("=") for line in rest if ".utf8=" in line)
            yield {"en": first.strip()} | {
                name.removesuffix(".utf8"): text.strip() for name, _, text in others if text.strip()
            }


def _cards(drawings: Path) -> Iterator[object]:
    for path in sorted(drawings.rglob("*.svg")):
        if not path.is_symlink():
            try:
                yield read_drawing(path)
            except RefusedDrawingError:
                continue


def _words(keywords: Sequence[str]) -> list[str]:
    return sorted({word for word in map(_clean, keywords) if re.fullmatch(r"[a-z]{3,15}", word) and word != "hash"})


def _clean(text: str) -> str:
    return " ".join(html.unescape(text).split())
