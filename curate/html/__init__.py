"""Convert a page's HTML to a document: its title, its text and images in reading order.

`decode` makes characters of the bytes, `guard` bounds what they may cost, `walk` goes through the parser's tree once,
`nodes` tells it of single places there, `names` what a page calls its own parts, `run` gathers the text of a block,
`cells` puts a table's values under their headers, `formulas` reads mathematics. `places` finds the images, one each,
`candidates` which file each stands for, `images` its URL, `figures` its caption. What the page is about is decided in
`select`: by rules, and by `score`, whose weights were learned, on the `evidence` for each text.
"""

from curate.html.guard import HtmlLimits, PageError
from curate.html.page import HtmlPage, WalkedPage, parse, walk_page

__all__ = ["HtmlLimits", "HtmlPage", "PageError", "WalkedPage", "parse", "walk_page"]
