"""Select the pieces of a page's main part.

What names itself as something else is gone by now. Of the rest, running text (long blocks with few links) shows where
the main part is: the deepest container that holds nearly all of it, or the parts that the page itself calls main. In
there, containers that are mostly links go, and blocks that stand there again and again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from curate.html.blocks import Container, HtmlPiece
from curate.html.evidence import KeptByRules, text_features
from curate.html.names import ASIDE, COMMENT, HIDDEN, SHORT_ASIDE
from curate.html.score import score_texts

_RUNNING_WORDS = 15  # a paragraph of so many words is running text
_ROW_WORDS = 3  # and so is an item of a list or a row of a table
_LINE_WORDS = 8  # between heading and text, a line of so many words is a summary and not a date or a name
_SENTENCE_WORDS = 4
_SHORT_WORDS = 6  # what may be a button or a label
_POINTER_WORDS = 12
_FEW_WORDS = 6
_SHORT_PAGE_WORDS = 100
_MOSTLY_LINKS = 0.6  # of the words
_ALMOST_ALL_LINKS = 0.75
_HARDLY_TEXT = 0.1
_MOSTLY_TEXT = 0.6
_NEARLY_ALL = 0.85
_HARDLY_MORE = 0.05
_SOMEWHAT_MORE = 1.3
_MAIN_SHARE = 0.5
_LINKS_TO_PROSE = 1.5
_IS_THE_TEXT = 2  # so many times the words of the rest
_REPEATED = 3
_ENDED = re.compile(r"[^\W\d_]['\"”’)»]?[.!?。！？]['\"”’)»]?$")


def select_main_pieces(containers: Sequence[Container], pieces: Sequence[HtmlPiece], title: str) -> list[HtmlPiece]:
    """Select the pieces to keep, in order. `title` is the page's: it tells its heading from the name of the site."""
    if not containers:
        return []
    rules = select_by_rules(containers, pieces, title.casefold())
    kept = _select_pieces(pieces, rules, _predict_main(containers, pieces, rules))
    kept = kept or [piece for piece, keep in zip(pieces, rules.kept, strict=True) if keep]
    while kept and kept[-1].block == "heading" and not kept[-1].url and len(kept) > 1:
        kept.pop()  # of a part that was left out
    return _drop_repeats(kept)


def _predict_main(containers: Sequence[Container], pieces: Sequence[HtmlPiece], rules: KeptByRules) -> dict[int, bool]:
    """Of each text, by its place, whether it is of the main part; where nothing would be, the rules decide."""
    texts = [at for at, piece in enumerate(pieces) if not piece.url]
    if not texts:
        return {}
    found = score_texts(text_features(containers, pieces, texts, rules)) > 0
    is_prose = _is_prose(pieces, rules)
    wanted = {
        at: at == rules.heading
        or (bool(keep) and not (is_prose and rules.linked[at]) and not _is_short_aside(pieces[at]))
        for at, keep in zip(texts, found, strict=True)
    }
    return wanted if any(wanted.values()) else {at: rules.kept[at] for at in texts}


def _is_prose(pieces: Sequence[HtmlPiece], rules: KeptByRules) -> bool:
    """Whether a page is for reading: others are lists of links, which are then what they are about."""
    kept = sum(piece.words - piece.link_words for piece, keep in zip(pieces, rules.kept, strict=True) if keep)
    links = sum(piece.link_words for piece, linked in zip(pieces, rules.linked, strict=True) if linked)
    return _LINKS_TO_PROSE * kept >= links or links < _RUNNING_WORDS


def _is_short_aside(piece: HtmlPiece) -> bool:
    """Comments on a text; and what is beside it and short: a name, a date, a message for a case."""
    return bool(piece.aside & COMMENT or (piece.aside and piece.words < SHORT_ASIDE))


def _select_pieces(pieces: Sequence[HtmlPiece], rules: KeptByRules, wanted: dict[int, bool]) -> list[HtmlPiece]:
    """Texts that are wanted; images that the rules keep next to one, or at an end; the headings of both."""
    near = {at: keep or (pieces[at].block == "heading" and rules.kept[at]) for at, keep in wanted.items()}
    keep = [rules.kept[at] if piece.url else wanted[at] for at, piece in enumerate(pieces)]
    above, last = [], True  # whether the nearest text above stays
    for at in range(len(pieces)):
        above.append(last)
        last = near.get(at, last)
    below = True
    stands: bool | None = None  # whether anything does down to the next heading; None where nothing was there
    for at in range(len(pieces) - 1, -1, -1):
        if pieces[at].url:
            keep[at] = keep[at] and (above[at] or below)
        below = near.get(at, below)
        if pieces[at].block == "heading":
            keep[at] = at == rules.heading or (keep[at] if stands is None else stands and (keep[at] or rules.kept[at]))
        stands = None if pieces[at].block == "heading" else bool(stands) or keep[at]
    return [piece for piece, each in zip(pieces, keep, strict=True) if each]


def select_by_rules(containers: Sequence[Container], pieces: Sequence[HtmlPiece], title: str) -> KeptByRules:
    """Select pieces by rules alone."""
    _resolve_asides(pieces)
    _count_words(containers, pieces)
    weights = _weights(containers, pieces)
    deepest = _descend(containers, weights, _main_root(containers, weights))
    root = _climb(containers, weights, deepest)
    links = _link_parts(containers, root)
    inside = _below(containers, root)
    around = _below(containers, _outermost(containers, root, _SOMEWHAT_MORE))
    linked = [links[piece.inside] or _is_navigation(piece) for piece in pieces]
    likely = [not (piece.aside or only_links) for piece, only_links in zip(pieces, linked, strict=True)]
    begin = next((at for at, piece in enumerate(pieces) if likely[at] and inside[piece.inside]), len(pieces))
    heading = _find_heading(pieces, begin, title)
    kept = []
    for at, piece in enumerate(pieces):
        near = around[piece.inside] and _is_attached(piece, at < begin, at > heading)
        kept.append(at == heading or (likely[at] and (inside[piece.inside] or near)))
    return KeptByRules(weights, root, _below(containers, deepest), linked, kept, heading)


def _resolve_asides(pieces: Sequence[HtmlPiece]) -> None:
    """What is beside the text is less than the text: a page of comments is a discussion, a hidden one shows itself."""
    if not any(piece.aside for piece in pieces):
        return
    running = Counter[int]()
    for piece in pieces:
        if piece.words >= _RUNNING_WORDS and piece.link_words < piece.words / 2:
            running[piece.aside] += piece.words
    for bit in (HIDDEN, COMMENT, ASIDE):
        words_aside = sum(words for aside, words in running.items() if aside & bit)
        if words_aside > _IS_THE_TEXT * running[0]:
            for piece in pieces:
                piece.aside &= ~bit
            shown = Counter[int]()
            for aside, words in running.items():
                shown[aside & ~bit] += words
            running = shown


def _climb(containers: Sequence[Container], weights: Sequence[int], root: int) -> int:
    """The outermost container around `root` up to which all that comes in addition is of its kind, little, or text."""
    families = Counter((each.parent, each.kind) for each in containers if each.kind)
    while (up := containers[root].parent) >= 0:
        more = containers[up].plain_words - containers[root].plain_words
        little = more <= max(_FEW_WORDS, _HARDLY_MORE * containers[root].plain_words)
        has_siblings = families[up, containers[root].kind] > 1
        if not little and not has_siblings and weights[up] - weights[root] < _MOSTLY_TEXT * more:
            break
        root = up
    return root


def _outermost(containers: Sequence[Container], root: int, times: float) -> int:
    """The outermost container around `root` with at most so many times its words that are no links."""
    most = times * containers[root].plain_words
    while (up := containers[root].parent) >= 0 and containers[up].plain_words <= most:
        root = up
    return root


def _is_attached(piece: HtmlPiece, before: bool, headed: bool) -> bool:
    """Whether a piece around the main part is of it: a table; a leading picture; most between the heading and it."""
    if piece.block in ("table", "code"):
        return True
    if not before:
        return False
    if piece.url or piece.links:
        return bool(piece.url)
    return piece.words >= (_LINE_WORDS if headed else _RUNNING_WORDS) or (headed and _is_sentence(piece))


def _is_sentence(piece: HtmlPiece) -> bool:
    return piece.words >= _SENTENCE_WORDS and piece.text[-1] in ".!?…。！？"


def _is_navigation(piece: HtmlPiece) -> bool:
    """A line of hardly anything but links: a menu, a button, a pointer to another page."""
    if piece.block != "paragraph" or piece.link_words < _ALMOST_ALL_LINKS * piece.words or not piece.links:
        return False
    return piece.links >= 2 or piece.words <= _POINTER_WORDS


def _find_heading(pieces: Sequence[HtmlPiece], begin: int, title: str) -> int:
    """Where the page's heading stands above the main part, which begins at `begin`; behind all if there is none.

    It is the longest that the title repeats; or the last one that is no link, where the main part has none itself.
    """
    none = len(pieces)
    headings = [at for at in range(begin) if pieces[at].block == "heading"]
    own = {piece.text for piece in pieces[begin:] if piece.block == "heading"}
    named = [at for at in headings if pieces[at].text.casefold() in title]
    if named:
        best = max(named, key=lambda at: (pieces[at].words, at))
        return none if pieces[best].text in own else best
    if begin < none and pieces[begin].block == "heading":
        return none
    return max((at for at in headings if pieces[at].link_words < pieces[at].words), default=none)


def _count_words(containers: Sequence[Container], pieces: Sequence[HtmlPiece]) -> None:
    """Words and linked words of each container, with all in it: a child always stands after its parent."""
    for piece in pieces:
        if piece.aside:
            continue
        holder = containers[piece.inside]
        holder.words += piece.words
        holder.link_words += piece.link_words
        holder.plain_words += 0 if piece.block == "heading" else piece.words - piece.link_words
    for child in reversed(containers):
        if child.parent >= 0 and (child.words or child.link_words):
            parent = containers[child.parent]
            parent.words += child.words
            parent.link_words += child.link_words
            parent.plain_words += child.plain_words


def _weights(containers: Sequence[Container], pieces: Sequence[HtmlPiece]) -> list[int]:
    """Words of running text of each container; where a page has none, all words that are no links."""
    for least in (_RUNNING_WORDS, 1):
        weights = [0] * len(containers)
        for piece in pieces:
            if piece.aside or piece.block == "heading" or 2 * piece.link_words >= piece.words:
                continue
            if piece.words >= (min(least, _ROW_WORDS) if piece.block in ("list", "table", "code") else least):
                weights[piece.inside] += piece.words - piece.link_words
        for at in range(len(containers) - 1, 0, -1):
            weights[containers[at].parent] += weights[at]
        if weights[0]:
            break
    return weights


def _main_root(containers: Sequence[Container], weights: Sequence[int]) -> int:
    """The part that the page calls main, when it holds at least half of the running text; else the body."""
    marked = [at for at, each in enumerate(containers) if each.main]
    best = max(marked, key=lambda at: (weights[at], -at), default=0)
    return best if weights[best] >= _MAIN_SHARE * weights[0] else 0


def _descend(containers: Sequence[Container], weights: Sequence[int], root: int) -> int:
    """From `root` down, as long as one child holds nearly all of the running text; a short page is not cut."""
    if containers[root].plain_words < _SHORT_PAGE_WORDS:
        return root
    at = root
    for child in range(root + 1, len(containers)):
        if containers[child].parent == at and weights[child] >= _NEARLY_ALL * weights[root] and weights[child]:
            at = child
    return at


def _below(containers: Sequence[Container], root: int) -> list[bool]:
    inside = [False] * len(containers)
    for at, each in enumerate(containers):
        inside[at] = at == root or (each.parent >= 0 and inside[each.parent])
    return inside


def _link_parts(containers: Sequence[Container], root: int) -> list[bool]:
    """Containers of links and hardly anything else, and all in them."""
    links = [False] * len(containers)
    for at, each in enumerate(containers):
        if at > root:
            own = (
                each.link_words >= max(2, _MOSTLY_LINKS * each.words) and each.plain_words <= _HARDLY_TEXT * each.words
            )
            links[at] = own or (each.parent >= 0 and links[each.parent])
    return links


def _drop_repeats(pieces: Sequence[HtmlPiece]) -> list[HtmlPiece]:
    """Long blocks once; short lines that stand there three times or more, not at all (`Reply`, `Read more`)."""
    repeatable = [_may_repeat(piece, before) for piece, before in zip(pieces, [None, *pieces], strict=False)]
    counted = Counter(piece.text for piece, each in zip(pieces, repeatable, strict=True) if each)
    seen: set[str] = set()
    kept = []
    for piece, each in zip(pieces, repeatable, strict=True):
        if each:
            short = piece.words <= _SHORT_WORDS
            if (short and counted[piece.text] >= _REPEATED) or (not short and piece.text in seen):
                continue
            seen.add(piece.text)
        kept.append(piece)
    return kept or list(pieces)


def _may_repeat(piece: HtmlPiece, before: HtmlPiece | None) -> bool:
    """Whether a text that stands there again is noise.

    Lists, tables, code, definitions and headings of sections say the same again with reason, and so do short sentences
    (`Yes.`) and what stands alone below a heading (`None`); links, and headings that are links, do not.
    """
    if piece.url or piece.block not in ("paragraph", "heading"):
        return False
    if piece.block == "heading":
        return piece.link_words == piece.words or (piece.links > 0 and piece.words > _SHORT_WORDS)
    if piece.links or piece.words > _SHORT_WORDS:
        return bool(piece.links) or not piece.stays
    is_answer = before is not None and before.block == "heading" and not before.url
    return not (piece.stays or piece.tag in ("td", "th") or is_answer or _ENDED.search(piece.text))
