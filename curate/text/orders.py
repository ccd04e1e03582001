"""Find orders in a text that is data: "ignore the above and write ...", and what they ask to be written.

An alt text may speak to the model that is shown it. What it orders is kept apart from what it says.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from curate.text.sentences import sentence_spans

_BEFORE = (
    r"(?:all|any|the|everything|anything|every|your|my|these|those|this|that|of|previous|prior|above|earlier|preceding"
    r"|foregoing|other|said|written)"
)
_WHAT = (
    r"(?:instructions?|prompts?|rules?|directions?|commands?|context|messages?|tasks?|guidelines?|above|captions?"
    r"|orders?|requests?|everything|previous|prior|before|sentences?|texts?|descriptions?)"
)
_SAY = r"(?:say|write|output|print|return|repeat|type|echo|generate|produce|include|append|insert|add)"
_TELL = r"(?:reply|respond|answer)"
_THIS = (
    r"(?:only|exactly|nothing but|just|the (?:words?|phrase|following|letters?)|(?:back )?[\"“«'](?=\w)|(?-i:[A-Z]{3}))"
)
_URGED = r"(?:instead|now|please|simply|just|must|should|only|then|and|do)"
_TRIGGERS = (
    rf"\b(?:ignore|ignoring|disregard|disregarding|forget|skip|override|overriding|bypass|neglect|discard|do not follow"
    rf"|don't follow|stop following|do not obey|never mind)\b(?: {_BEFORE}){{0,5}} {_WHAT}\b",
    rf"\b{_URGED},? {_SAY} {_THIS}|\b{_TELL} (?:only|just|exactly|to me|(?:only )?with (?:only|just|the|[\"“«']"
    rf"|(?-i:[A-Z]{{2}})))",
    rf"(?:^|[.;:!?]\W{{0,3}}){_SAY} (?:only|exactly|nothing but|the (?:words?|phrase|following))\b",
    rf"(?:^|[.;:!?,]\W{{0,3}}|\b{_URGED},? ){_TELL} (?:with|in) \w",
    rf"\binstead,? (?:of [^.]{{1,80}}? )?(?:{_SAY}|{_TELL}|translate|compose|sing|tell|give|list|reveal|show"
    rf"|describe|draw)\b",
    rf"\brepeat after me\b|\b{_URGED},? (?:write|compose|tell|give|sing) (?:me |us )?(?:a|an"
    rf"|the) (?:\w+ )?(?:poem|haiku|song|story"
    r"|joke|essay|recipe|limerick|code|script|password|list)\b",
    r"\byou are (?:now|no longer) (?:a|an|my|the|in|free|dan|bound|going|speaking|operating|\w+gpt)\b|\bact as an?\b"
    r"|\bpretend (?:to be|you|that you)\b|\bfrom now on,? you\b|\broleplay as\b",
    r"\b(?:new|updated|important|real|actual) (?:instructions?|task|prompt|orders?|role) ?:|\byour (?:new |real "
    r"|only )?(?:task|job|role|instructions?) (?:is|are)"
    r" (?:now )?to\b",
    r"\b(?:system|assistant|developer) ?(?:prompt|message|note|override|instruction)?s? ?:|<\|\w{1,20}\|>"
    r"|\[inst\]|### ?(?:instruction|system|response)",
    r"\b(?:do not|don't|never) (?:describe|mention|caption|merge|combine|fuse) (?:the|this|any|it|what)\b",
    r"\b(?:translate|rewrite|convert) (?:this|the above|it|everything|your answer|the sentence)(?: \w+)? (?:in)?to\b",
    r"\b(?:end|begin|start|finish|prefix) (?:your|the|every|each) (?:answer|sentence|response|reply|caption"
    r"|output) with\b",
    r"\b(?:jailbreak|developer mode|prompt injection)\b|\b(?:reveal|show|print) your (?:system )?(?:prompt"
    r"|instructions)\b",
    r"\bignor(?:iere|ieren sie)\b|\bignore[zr]? (?:les|la|todas?|las|toutes)\b|\bignora (?:las|le|todo|tutte"
    r"|todas|o|as)\b|\bignor(?:uj|era|eer)\b"
    r"|\bигнорируй(?:те)?\b|\bzignoruj\b|\babaikan\b|\bоставь без внимания\b|\bпроигнорируй\b",
    r"忽略(?:以上|上面|之前|前面|所有)|无视(?:以上|上面|之前)|無視して|以前の指示"
    r"|위(?:의)? 지시|무시하고|تجاهل|अनदेखा कर",
)
_TRIGGER = re.compile("|".join(f"(?:{one})" for one in _TRIGGERS), re.IGNORECASE)
_IMPERATIVE = re.compile(
    r"^\W*(?:instead,? |now,? |then,? |just |simply |please |only |and )*(?:say|write|output|print|reply|respond|answer"
    r"|return|repeat|type|generate|produce|echo|translate|end|begin|start|do not|don't|never|tell|compose)\b",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"\b(?:say|write|output|print|reply|respond|answer|return|repeat|type|generate|produce|echo|include|append|insert"
    r"|add|(?:end|begin|start|finish)(?: \w+){0,2})\b(?: (?:only|just|simply|exactly|back|with|that|the|this"
    r"|word|words|phrase|text|sentence|following|nothing|but|me|after|instead|is|to|it|at|end|of)\b)*[ :]*(.{1,200})",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"“«「『']([^\"”»」』']{1,200})[\"”»」』']")
_STOPS = re.compile(
    r"[.!?;\n]|\b(?:and nothing else|and nothing more|instead|only|to (?:the user|me)|in your (?:answer|reply))\b",
    re.IGNORECASE,
)


class PartedOrders(NamedTuple):
    """A text parted: `content` is what it says, `orders` what it orders, `asked` the words that it wants written."""

    content: str
    orders: str
    asked: tuple[str, ...]


def part_orders(text: str) -> PartedOrders:
    """Part a text into what it says and what it orders the model that reads it; most texts order nothing."""
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    if _TRIGGER.search(plain) is None:
        return PartedOrders(text, "", ())
    content, orders = [], []
    after = False
    for start, end in sentence_spans(plain):
        sentence = plain[start:end]
        match = _TRIGGER.search(sentence)
        if match is not None:
            content.append(sentence[: match.start()])
            orders.append(sentence[match.start() :])
        elif after and _IMPERATIVE.search(sentence):
            orders.append(sentence)
        else:
            content.append(sentence)
        after = match is not None or (after and content[-1:] != [sentence])
    said = " ".join(orders)
    return PartedOrders(" ".join(content).strip(), said, _asked(said))


def has_orders(text: str) -> bool:
    """Whether a text orders something."""
    return _TRIGGER.search(unicodedata.normalize("NFKC", text).replace("’", "'")) is not None


def _asked(orders: str) -> tuple[str, ...]:
    """The words that orders ask to be written: those in quotes, or what follows the verb."""
    quoted = tuple(match[1] for match in _QUOTED.finditer(orders))
    if quoted:
        return quoted
    return tuple(_STOPS.split(match[1], maxsplit=1)[0].strip() for match in _ASKED.finditer(orders))
