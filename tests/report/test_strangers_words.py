"""What a recipe's author or a stranger wrote is shown as it is, and steers neither card nor README nor page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import yaml
from conftest import Workplace

from curate.report.readme import front, markdown

EVIL = (
    "mit\n---\n# owned\n<script>alert(1)</script> [x](http://evil.org) | `a` ![i](http://e.org/i.png) \u202e www.e.org"
)


@pytest.fixture
def made(place: Workplace) -> Workplace:
    """A run whose every text is hostile."""
    place.images(3)
    (place.src / "<img src=x>|.png").write_bytes(place.png())
    (place.src / "<img src=x>|.txt").write_text(EVIL)
    step = {"op": "image_size", "name": "<b>`|x", "keep": {"<b>`|x.width": {"min": 9}}}
    name = "a\n# b<script>x|[y](http:..)"
    assert place.run(place.recipe(name=name, license=EVIL, steps=[step])).code == 0
    return place


@pytest.mark.parametrize("file", ["data_card.md", "dataset/README.md"])
def test_head_of_card_and_readme_is_one_head_whatever_the_licence_says(made: Workplace, file: str) -> None:
    text = (made.out / file).read_text(encoding="utf-8")
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    said = yaml.safe_load(head)
    assert said["license"].startswith("mit") and "\n" not in said["license"] and "\u202e" not in text
    assert said["configs"][0]["config_name"] == "default" and "# owned" not in body
    assert sum(line.startswith("license:") for line in head.splitlines()) == 1


@pytest.mark.parametrize("file", ["data_card.md", "dataset/README.md"])
def test_no_html_no_link_and_no_heading_comes_from_a_strangers_text(made: Workplace, file: str) -> None:
    body = (made.out / file).read_text(encoding="utf-8").split("\n---\n", 1)[1]
    outside = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", body)
    assert not re.search(r"(?<!\\)<\w", outside) and not re.search(r"(?<!\\)\]\((?!#how-it-was-made)", outside)
    assert "\n# b" not in body
    for row in (line for line in body.splitlines() if line.startswith("| ")):
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 4, 6)


def test_page_holds_no_tag_of_a_stranger(made: Workplace) -> None:
    seen: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.add(tag)
            assert not (tag == "img" and dict(attrs).get("src") == "x")

    Tags().feed((made.out / "report.html").read_text(encoding="utf-8"))
    assert "main" in seen and not seen & {"script", "b>"}


def test_addresses_in_a_card_are_no_links() -> None:
    for text in ("http://evil.org", "HTTPS://evil.org", "www.evil.org", "<http://evil.org>"):
        assert not re.search(r"(?i)https?:|www\.", markdown(text))


def test_head_of_a_card_is_yaml_that_gives_its_texts_back() -> None:
    fields = {"license": "cc-by-4.0: yes, 'really'", "pretty_name": "é # x", "tags": ["a"]}
    assert yaml.safe_load(front(fields).split("---\n")[1]) == fields
