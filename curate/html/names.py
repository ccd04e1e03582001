"""Classify elements of a page by tag, attributes, and the words in `class` and `id`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

Attributes = Mapping[str, str | None]


def word_set(words: str) -> frozenset[str]:
    """The set of words written as one line."""
    return frozenset(words.split())


SKIPPED = word_set(
    "nav footer select option optgroup input textarea datalist dialog object embed canvas audio"
    " video map head title link meta base param source track col colgroup rt rp progress meter menuitem label legend"
    " address frameset amp-ad amp-embed amp-sidebar amp-consent amp-user-notification amp-social-share amp-sticky-ad"
)
"""Elements that hold nothing a reader reads, or controls and navigation alone."""

_MAIN = word_set("main article")
_PARTS = word_set("article section")
_NAMED_BY_ID = word_set("div ul ol dl form table td")
"""Elsewhere an id is mostly made of a heading's words, for links to it."""

_ROLES = word_set("navigation banner contentinfo search dialog alertdialog menu menubar toolbar tooltip")
_ASIDE_ROLES = word_set("complementary")
HIDDEN, COMMENT, ASIDE = 1, 2, 4
SHORT_ASIDE = 15
"""Text may wait for a click, and what a page calls a teaser may be one; of fewer words, it is a label or a date."""

_SPOKEN = word_set("class id role itemprop")
HIDES = word_set("style hidden aria-hidden placeholder fallback")
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_STREAMED = re.compile(r"S:[0-9a-f]")  # React sends a part hidden, and puts it into its place later
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_ENDS = (
    "wrapper|wrap|container|inner|outer|box|block|bar|area|section|list|links|content|group|holder|module|widget"
    "|panel|row|signup|form|buttons?|icons?|items?|titles?|heading|header|head|text|info|popup|cta|teaser|banner"
    "|inline|body|page|menu|nav|desktop|mobile|sticky|fixed|ads?|unit|slot"
)
_NOISE = (
    # getting around
    "nav|navbar|navigation|docnav|navheader|navfooter|subnav|topnav|sidenav|mainnav|breadcrumbs?|crumbs?|path|pagination"
    "|pager|paging|menu|mainmenu|submenu|mega-?menu|skip-?links?|skip-to-content"
    "|prev-?next|next-?prev|post-navigation|page-numbers|back-?to-?top|site-?map"
    "|headerlink|mw-editsection|editsection|catlinks|navbox"
    # head and foot of a site
    "|footer|site-?footer|page-?footer|foot|colophon|masthead|site-?header|top-?bar|header-?bar|global-?header"
    "|copyright|imprint|toolbar|utility"
    # consent and offers
    "|cookies?|cookie-?(?:banner|notice|consent|bar|law|policy)|consent|gdpr|ccpa|privacy-?(?:banner|notice)"
    "|newsletter|subscribe|subscription|sign-?up|log-?in|register|paywall"
    "|interstitial|app-?banner|advert|adverts|advertisement|advertising|ads"
    "|ad(?=[-_])|adslot|adsense|ad-?slot|ad-?unit|dfp|sponsor|sponsored|sponsors|video-?(?:embed|player)|jwplayer|taboola|outbrain"
    # people around a text
    "|share|sharing|share-?(?:buttons|bar|links)|social|social-?(?:media|links|share|icons)|sharedaddy|addthis"
    "|addtoany|follow-?us|likes|disqus|respond|reply-?form|comment-?form|trackbacks?|pingbacks?|tag-?cloud|topic-actions"
    "|linklist|navlinks|avatar|voting|screen-reader-text|sr-only|visually-?hidden|assistive-text|a11y-hidden"
    "|search-?(?:form|box|bar)|survey"
)
_ASIDE = (
    "skip|jump-?links|toc|table-of-contents|dropdown|sphinxsidebar"
    "|legal|disclaimer|sidebar|side-?bar|rail|right-?rail|left-?rail|right-?col"
    "|popup|pop-?up|modal|lightbox|announcements?|promo|promotion|promos"
    # what else there is
    "|related|related-?(?:posts?|articles?|products?|stories|links|content|topics|questions)|recommend(?:ed|ations?)?"
    "|suggested|suggestions|similar|also-?like|you-?may|more-?from|read-?more|read-?next|up-?next"
    "|most-?(?:read|popular)|popular|trending|latest|recent|recent-?posts|teasers?|cross-?sell|upsell"
    "|recently-?viewed|search|feedback|noprint|no-print|printonly"
    # who wrote it, and when
    "|author-?(?:bio|box)|about-?author|bio|byline|post-?meta|entry-?meta|meta|metadata|tags?"
    "|tag-?list|categories|post-?tags|signature|author|author-?(?:name|info|card|line)|dateline"
    "|timestamp|post-?date|post-?(?:footer|labels?|timestamp)|date-?header|vcard|entry-?date|published"
    "|user-?info|userinfo|profile|postprofile|rating|votes?"
)
_COMMENT = "comments?|comment-?(?:list|section|body|text|content|area|thread|tree|item|wrapper)|commentlist"
_BEFORE = "site|page|main|global|primary|secondary|top|bottom|left|right|js|c|m|l|widget|post|article|entry|user|blog"
_AFTER = rf"(?:[-_]+(?:{_ENDS}|\d+|left|right|top|bottom))*"
_NOISE_NAME = re.compile(
    rf"(?:(?:{_BEFORE})[-_]+)*(?:(?P<noise>{_NOISE})|(?P<aside>{_ASIDE})|(?P<comment>{_COMMENT})){_AFTER}", re.I
)
_KEPT_ASIDE = re.compile(
    r"\b(note|tip|warning|caution|info|important|admonition|callout|pull-?quote|infobox|example)\b", re.I
)
_FIGURE = word_set(
    "figure informalfigure example mediaobject wp-caption thumb thumbinner image-block article-image"
    " captioned-image img-caption"
)
_CAPTION = word_set(
    "caption wp-caption-text thumbcaption figcaption image-caption img-caption photo-caption"
    " picture-caption media-caption caption-text gallerytext legende bildunterschrift image-legend photo-legend"
)
_FORMULA = word_set(
    "katex katex-display mwe-math-element MathJax MathJax_Display MathJax_SVG MathJax_SVG_Display MathJax_CHTML"
    " MathJax_Preview MJXc-display mjx-chtml mjx-full-width"
)
"""What holds one formula, as math typesetters write it: often several times, for eyes and for readers aloud."""

_MAIN_NAME = re.compile(
    r"article-?body|post-?(?:content|body)|entry-?content|story-?body|article-?content|mw-parser-output", re.I
)


def is_hidden(attributes: Attributes) -> bool:
    """Whether the element says that it is not shown."""
    if "style" in attributes and _HIDING.search(attributes["style"] or ""):
        return True
    if "hidden" in attributes and attributes["hidden"] != "until-found":
        return not _STREAMED.match(attributes.get("id") or "")
    if any(name in attributes and not attributes[name] for name in ("placeholder", "fallback")):
        return True  # AMP's, until the element it stands in has loaded, or where it cannot
    return "aria-hidden" in attributes and (attributes["aria-hidden"] or "").lower() == "true"


@dataclass(frozen=True, slots=True)
class NamedAs:
    """The class of an element by its tag, class, id and role."""

    kind: str
    """Tag and class; empty where they say nothing."""
    noise: bool = False
    """Navigation, head and foot of a site, consent, offers: never text of the page."""
    aside: int = 0
    """What may be: HIDDEN, COMMENT, ASIDE, added up."""
    main: bool = False
    figure: bool = False
    caption: bool = False
    formula: bool = False
    title: bool = False
    """DocBook writes a figure's caption as `p.title`."""


def classify_element(tag: str, attributes: Attributes) -> NamedAs:
    """Classify an element by its tag and attributes."""
    if _SPOKEN.isdisjoint(attributes):
        return _classify(tag, "", "", "")
    role = ""
    if "role" in attributes:
        role = (attributes["role"] or "")[:40].lower()
    if not role and attributes.get("itemprop") == "articleBody":
        role = "article"
    return _classify(tag, (attributes.get("class") or "")[:400], (attributes.get("id") or "")[:60], role)


@lru_cache(maxsize=8192)
def _group_of_word(word: str) -> str | None:
    """Which kind of part a word in `class` or `id` names; pages of one site share words, and many sites do."""
    found = _NOISE_NAME.fullmatch(_CAMEL.sub("-", word))
    return found.lastgroup if found else None


@lru_cache(maxsize=4096)
def _classify(tag: str, classes: str, name: str, role: str) -> NamedAs:
    words = classes.split()[:31]
    if tag in _NAMED_BY_ID and "section" not in words:
        words += name.split()[:1]
    known = set(words)
    groups = set(map(_group_of_word, words))
    aside = (COMMENT if "comment" in groups else 0) | (ASIDE if "aside" in groups or role in _ASIDE_ROLES else 0)
    if tag == "aside":
        aside = 0 if _KEPT_ASIDE.search(classes) else ASIDE
    return NamedAs(
        kind=f"{tag} {classes}" if classes or tag in _PARTS else "",
        noise=role in _ROLES or classes.lower() == "ad" or "noise" in groups,
        aside=aside,
        main=tag in _MAIN or role in _MAIN or any(_MAIN_NAME.fullmatch(word) for word in words),
        figure=tag == "figure" or not _FIGURE.isdisjoint(known),
        formula=tag == "mjx-container" or not _FORMULA.isdisjoint(known),
        caption=tag == "figcaption" or not _CAPTION.isdisjoint(known),
        title=tag == "p" and "title" in known,
    )
