"""Find what chat models say instead of an answer, in a dozen languages: refusals, and talk about their task.

Words that a model was given are none of its own: a sign that says sorry refuses nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from curate.text.english import english_share

_TEXTS = r"(?:sentences?|captions?|alt[ -]?texts?|texts?|descriptions?|inputs?|statements?|prompts?)"
_WORK = (
    r"(?:fuse|merge|combine|generate|create|provide|describe|process|complete|fulfil+|comply|assist|help|answer"
    r"|determine|write|rewrite|rephrase|produce|identify|view|see|access|do (?:that|this|so)|continue|discuss|engage"
    r"|accurately|proceed|perform|respond|analy[sz]e|be (?:fused|merged|combined|answered))"
)
_REFUSALS = (
    r"\b(?:i am|i'm|im|we are|we're) (?:\w+ )?sorry\b",
    r"^\W*sorry\b",
    r"\b(?:i|we) (?:\w+ )?apologi[sz]e\b|\b(?:my|our) (?:\w+ )?apologies\b",
    r"\bas an? (?:\w+ )?(?:ai|artificial intelligence|language model|assistant|chatbot|text-based)\b",
    r"\b(?:large )?language model\b",
    r"\b(?:i|we) (?:\w+ )?(?:cannot|can't|can not|could not|couldn't|won't|will not|would not|am not able to"
    r"|are not able to"
    r"|'m not able to|am unable to|are unable to|'m unable to|must decline|decline|refuse)\b",
    r"\bi'm (?:not able|unable|not allowed|not programmed)\b|\bi (?:must|have to) (?:decline|refuse)\b",
    r"\b(?:i|we) (?:do not|don't) (?:have|see|know|possess|feel comfortable|understand)\b",
    rf"\b(?:unable|not able|not possible|impossible|cannot|can't|can not|not allowed) (?:to )?{_WORK}\b",
    r"\b(?:against|violat\w{1,5}) (?:my|our|the|openai\S{0,3}|any) (?:\w+ )?(?:programming|guidelines?"
    r"|polic\w{1,3}|terms|rules)\b",
    r"\b(?:not enough|insufficient|no sufficient|lack of|no) (?:\w+ )?(?:information|context|details?) (?:\w+ )?"
    r"(?:is|are|was|were|to|in|provided|given|available)\b",
    r"\b(?:please|could you|can you|would you) (?:\w+ )?(?:provide|give me|share|upload|supply|specify|clarify"
    r"|resend)\b",
    r"\b(?:is|are|was|were)(?:n't| not) (?:\w+ )?(?:enough|sufficient|possible|anything|clear (?:what|how|if))\b",
    r"\bneed (?:more|further|additional) (?:information|context|details?)\b",
    r"\b(?:inappropriate|harmful|offensive|unsafe|explicit|sensitive|objectionable) (?:\w+ )?(?:content|material"
    r"|requests?|language|topics?)\b",
    r"\bcontent (?:policy|policies|guidelines?|filter)\b|\b(?:this|your|that|the) request\b",
    r"\bes tut mir (?:\w+ )?leid\b|\btut mir leid\b|\bich kann (?:\w+ ){0,4}nicht\b|\bals (?:ki|sprachmodell)\b",
    r"\b(?:je suis )?désolée?\b|\bje ne (?:peux|suis) pas\b|\ben tant qu['e ]{1,2}(?:ia|modèle|intelligence)",
    r"\blo siento\b|\bno puedo\b|\bcomo (?:modelo de lenguaje|una? ia|inteligencia)",
    r"\bmi dispiace\b|\bnon posso\b|\bcome modello\b",
    r"\bdesculpe\b|\bnão posso\b|\blamento\b|\bnão consigo\b",
    r"\bhet spijt me\b|\bik kan (?:\w+ ){0,3}niet\b",
    r"\bизвините\b|\bк сожалению\b|\bя не могу\b|\bпростите\b|\bкак языковая модель\b",
    r"\bprzepraszam\b|\bnie mogę\b|\bniestety\b|\bomlouvám\b|\bnemohu\b|\bbohužel\b",
    r"\btyvärr\b|\bjag kan (?:\w+ ){0,3}inte\b|\büzgünüm\b|\bmaaf\b|\bsaya tidak (?:bisa|dapat)\b",
    r"抱歉|对不起|對不起|我无法|我無法|我不能|作为(?:一个)?(?:人工智能|ai|语言模型)|無法提供|无法提供",
    r"申し訳|すみません|ごめんなさい|お手伝いできません|対応できません|お答えできません",
    r"죄송|할 수 없습니다|도와드릴 수",
    r"آسف|عذر[اً]|لا أستطيع|لا يمكنني|क्षमा करें|माफ़? ?कर|मैं .{0,20}नहीं कर सकता",
)
_TALK = (
    rf"\b{_TEXTS} ?(?:#|no\.? ?|number )?(?:1|2|one|two)\b",
    rf"\b(?:first|second|both|two|given|provided|original|above|following|previous|combined|merged|fused|final"
    rf"|rewritten"
    rf"|resulting|input) (?:\w+ )?{_TEXTS}\b",
    r"\balt(?:ernative)?[ -]?(?:text|attribute|tag|description)s?\b",
    r"\b(?:the|this|that|your|its) (?:\w+ )?captions?\b|\bcaptions? (?:says?|sees?|describes?|mentions?|states?"
    r"|shows?|reads?|is|are)\b",
    r"^\W*(?:sure|certainly|of course|okay|ok|absolutely|understood|got it|alright|no problem)\b *[,!.:]",
    rf"\bhere(?:'s| is| are) (?:\w+ ){{1,6}}?(?:{_TEXTS}|version|fusion|answer|result|rewrite|output|response"
    rf"|attempt|way)\b",
    r"^\W*here(?:'s| is| are)\b[^.\n]{0,80}:",
    r"^\W*(?:\w+ ){0,3}?(?:fus(?:ed|ion)|merged|combined|final|rewritten|rewrite|output|answer|result|response"
    r"|vecap|captions?|sentences?"
    r"|descriptions?|explanation|assistant|user|alt|one sentence|summary|paraphrase)(?: \w+){0,2}?\W{0,3}:",
    r"\n\W{0,4}(?:note|explanation|reasoning|rationale|output|answer|p\.?s)\b\W{0,3}:",
    r"\b(?:i|we)(?:'ve| have)? (?:\w+ )?(?:combined|merged|fused|rewrote|rewritten|joined|kept|included|removed"
    r"|integrated|incorporated)\b",
    r"\bthis (?:new |single |combined |merged |fused |rewritten )?(?:sentence|version|description|fusion|text"
    r"|one|caption|rewrite)"
    r" (?:\w+ )?(?:combines?|merges?|keeps?|includes?|retains?|incorporates?|captures?|preserves?|joins?"
    r"|describes?|is|adds?|fuses?)\b",
    r"\b(?:combines?|merges?|fuses?|combining|merging|fusing|integrat(?:es|ing)) (?:the )?"
    rf"(?:both|two|given|information|details|elements|{_TEXTS})\b",
    rf"\b(?:described|mentioned|stated|noted|given|provided|seen|indicated|shown|written) (?:in|by) (?:the|this"
    rf"|that|its) (?:\w+ )?{_TEXTS}\b",
    rf"\b(?:based on|according to|from|per) (?:the|these|this|both) (?:\w+ ){{0,2}}{_TEXTS}\b",
    rf"\bthe {_TEXTS} (?:says?|states?|mentions?|describes?|reads?|clearly|provided|given|above)\b",
    r"\blet me know\b|\bi hope (?:this|that)\b|\bfeel free\b|\bas requested\b|\bwould you like\b|\bis there anything\b",
    r"\b(?:word count|in \d+ words or|\(\d+ words?\))",
    r"</?(?:alt|caption|sentence|answer|output|think|text|image)>|```|<\|\w{1,20}\|>|\[/?inst\]|^\s*\{\s*\"\w+\"\s*:",
    r"^\W*(?:hier (?:ist|sind) (?:der|die|das|ein)|voici|aquí (?:está|tienes)|ecco|вот|aqui está)\b",
    r"\b(?:satz|phrase|frase|oración|предложение|zdanie|věta|zin|mening|kalimat|cümle) ?(?:nr\. ?)?[12]\b",
    r"(?:句子|文章|文|描述|标题|標題) ?[12一二１２]|以下是|合并后|融合后|次の文|문장 ?[12]",
)
_OWN_WORDS = (
    r"\b(?:sentences?|captions?|captioned|alt[ -]?texts?|descriptions?|inputs|fused|merged|rewritten"
    r"|rephrased|paraphrased|web ?pages?)\b"
)
"""Words of the task, which hardly an image shows: a model that was not given them speaks of what it does."""
_MOSTLY = 0.5
_DENIALS = """
    not no cannot can't couldn't wouldn't isn't aren't wasn't weren't doesn't don't didn't won't haven't hasn't t cant
    unable insufficient impossible unfortunately sorry apologies apologize regret decline refuse lack lacks missing
    unavailable unclear neither nor"""
_SELVES = "i i'm i'd i'll i've my me we our ai assistant model"
_ELSEWHERE = (
    ("ich wir mir", "nicht kein keine keinen leider"), ("je j nous", "pas désolé désolée ne"),
    ("puedo podemos posso possiamo consigo podemos", "no non não"), ("ik wij", "niet geen helaas"),
    ("я мы могу можем", "не нет"), ("jag vi", "inte tyvärr"), ("saya kami", "tidak maaf"),
)  # fmt: skip
_DENYING, _SELF = frozenset(_DENIALS.split()), frozenset(_SELVES.split())
_REFUSAL = re.compile("|".join(f"(?:{one})" for one in _REFUSALS))
_META = re.compile("|".join(f"(?:{one})" for one in (*_TALK, _OWN_WORDS)))
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "*": " ", "_": " "})


def find_refusal(text: str, given: Iterable[str] = ()) -> str | None:
    """The words by which a model declines, excuses itself or asks back; none that it was given."""
    return _find(_REFUSAL, text, given)


def find_meta_talk(text: str, given: Iterable[str] = ()) -> str | None:
    """The words by which a model speaks of its task or input ("Sentence 1", "Here is the"); none that it was given."""
    return _find(_META, text, given)


def declines_in(words: Sequence[str]) -> bool:
    """Whether among words, in small letters, is an English no or I, or both of another language: none tells by itself
    of a refusal, but where an answer says nothing else that it was given."""
    said = set(words)
    if not said.isdisjoint(_DENYING | _SELF):
        return english_share(words) >= _MOSTLY
    return any(said & set(selves.split()) and said & set(denials.split()) for selves, denials in _ELSEWHERE)


def _find(pattern: re.Pattern[str], text: str, given: Iterable[str]) -> str | None:
    said = [_folded(one) for one in given]
    for match in pattern.finditer(_folded(text)):
        if not any(match[0].strip(" :,.!\n") in one for one in said):
            return match[0]
    return None


def _folded(text: str) -> str:
    """The text in small letters, with plain quotes, one space between words, and lines as they are."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN)
    return "\n".join(" ".join(line.split()) for line in plain.splitlines())
