r"""Formulas of HTML pages: TeX where the page gives it, once, however often it writes the formula."""

from __future__ import annotations

import pytest
from html_pages import STORY, page, shown

TEX = '<annotation encoding="application/x-tex">x&gt;0</annotation>'
MATH = f"<math><semantics><mrow><mi>x</mi><mo>&gt;</mo><mn>0</mn></mrow>{TEX}</semantics></math>"
BARE = "<math><mi>x</mi><mo>&gt;</mo><mn>0</mn></math>"


def read(formula: str) -> str:
    (text,) = shown(page(f"{STORY}<p>For every {formula} the sum is finite.</p>"))[1:]
    return text.removeprefix("For every ").removesuffix(" the sum is finite.")


@pytest.mark.parametrize(
    "formula",
    [
        MATH,
        '<math alttext="{\\displaystyle x>0}"><mi>x</mi></math>',
        f"<mml:math>{TEX.replace('annotation', 'mml:annotation')}</mml:math>",
        f'<span class="katex"><span class="katex-mathml">{MATH}</span><span class="katex-html" aria-hidden="true">'
        '<span class="mord">x</span><span class="mrel">&gt;</span>0</span></span>',
        f'<span class="mwe-math-element"><span class="mwe-math-mathml-a11y" style="display: none;">{MATH}</span>'
        '<img src="/math/render/svg/abc" class="mwe-math-fallback-image-inline" aria-hidden="true"'
        ' alt="{\\displaystyle x>0}"></span>',
        '<img class="mwe-math-fallback-image-inline" src="/math/render/svg/abc" alt="{\\displaystyle x>0}">',
        '<span class="mwe-math-element"><img class="mwe-math-fallback-image-inline" src=a.svg alt="x>0"></span>',
        '<script type="math/tex">x>0</script>',
        '<script type="math/tex">% <![CDATA[\nx>0 %]]></script>',
        '<span class="MathJax_Preview">[math]</span><script type="math/tex">x>0</script>',
        '<span class="MathJax_Preview"></span><span class="MathJax"><nobr>x&gt;0</nobr>'
        f'<span class="MJX_Assistive_MathML">{BARE}</span></span><script type="math/tex">x>0</script>',
        '<img class="latex" src="https://s0.wp.com/latex.php?latex=x%3E0" alt="x&gt;0">',
        '<img src="https://www.zhihu.com/equation?tex=x%3E0" alt="[公式]">',
        '<img src="https://latex.codecogs.com/gif.latex?x%3E0" alt="">',
        '<img src="form_1.png" class="formulaInl" alt="$x>0$">',
        '<img src="img1.gif" alt="$x&gt;0$">',
    ],
)
def test_formula_is_read_once_as_the_tex_that_the_page_gives(formula: str) -> None:
    assert read(formula) == "$x>0$"


@pytest.mark.parametrize(
    "formula",
    [
        BARE,
        f'<mjx-container class="MathJax" jax="SVG"><svg><g>x</g></svg><mjx-assistive-mml>{BARE}</mjx-assistive-mml>'
        "</mjx-container>",
        f'<span class="MathJax" data-mathml="{BARE.replace("<", "&lt;")}"><nobr>x&gt;0</nobr></span>',
        f'<span aria-hidden="true">x is above 0</span><span class="sr-only">{BARE}</span>',
        f'<script type="math/mml">{BARE}</script>',
    ],
)
def test_formula_without_tex_is_its_tokens_in_a_line(formula: str) -> None:
    assert read(formula) == "x>0"


@pytest.mark.parametrize(
    ("mathml", "wanted"),
    [
        ("<msup><mi>x</mi><mn>2</mn></msup><mo>+</mo><msub><mi>a</mi><mi>i</mi></msub>", "x^2+a_i"),
        ("<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac>", "(a+b)/2"),
        ("<msqrt><mi>y</mi><mo>-</mo><mn>1</mn></msqrt>", "√(y-1)"),
        ("<munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><mi>i</mi>", "∑_i^ni"),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi><mtext> if </mtext><mi>y</mi>", "sin x if y"),
        ("<mtable><mtr><mtd>1</mtd><mtd>0</mtd></mtr><mtr><mtd>0</mtd><mtd>1</mtd></mtr></mtable>", "1, 0; 0, 1"),
    ],
)  # fmt: skip
def test_structure_of_mathml_is_seen_in_its_line(mathml: str, wanted: str) -> None:
    assert read(f"<math>{mathml}</math>") == wanted


def test_formula_on_a_line_of_its_own_says_so() -> None:
    assert read('<math display="block" alttext="x>0"><mi>x</mi></math>') == "$$x>0$$"
    assert read('<script type="math/tex; mode=display">x>0</script>') == "$$x>0$$"
    assert shown(page(f"{STORY}<p>{MATH}</p>{STORY.replace('seven', 'six')}"))[1] == "$x>0$"


def test_words_that_stand_for_a_formula_are_words() -> None:
    assert read('<math alttext="the square root of two"><mi>x</mi></math>') == "the square root of two"


def test_image_with_dollars_in_its_alt_text_is_no_formula() -> None:
    found = page(f"{STORY}<img src=a.jpg alt='$5 off'><img src=b.jpg alt='A boat' class=photo>")
    assert (found.images, found.formulas) == (2, 0)


def test_formula_images_are_formulas_and_in_no_count_of_images() -> None:
    found = page(f"{STORY}<p>Of {MATH} and <img class=latex alt='y' src=y.png>.</p>")
    counts = found.formulas, found.images, found.images_left_out, found.images_not_shown, found.images_beside
    assert counts == (2, 0, 0, 0, 0)
