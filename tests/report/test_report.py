"""The report: a page and a card that tell the truth about a run, and that no stranger's bytes can turn against us."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.engine.run import Summary, run
from curate.recipe.model import Recipe
from curate.recipe.resolve import resolve
from curate.recipe.steps import Condition
from curate.report import examples
from curate.report.card import size_category
from curate.report.page import BINS, HEIGHT, WIDTH, histogram, human_bytes, percent
from curate.report.write import write as write_report

EVIL = "<script>alert(1)</script> & \"quoted\" <img src=x onerror='alert(2)'>"
BIDI = "before\0\x07\x1b[31m \u202eevil\u202c \u2066x\u2069 after"
VOID = {"meta", "img", "br", "hr", "link", "input", "rect", "line"}


def a_picture(width: int, height: int, shade: int, kind: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (shade % 256, 90, 255 - shade % 256)).save(out, kind)
    return out.getvalue()


def fill(folder: Path, rows: int = 40) -> None:
    """`rows` images: every fifth is narrow, every tenth is cut short; one is a web page, one has no caption."""
    folder.mkdir()
    for n in range(rows):
        data = a_picture(16 if n % 5 == 0 else 60 + n, 64, n * 5, "PNG" if n % 2 else "JPEG")
        if n % 10 == 3:
            data = data[: len(data) * 2 // 3]
        (folder / f"{n:03}.jpg").write_bytes(b"<html><body>login</body></html>" if n == 6 else data)
        if n != 7:
            (folder / f"{n:03}.txt").write_text(f"a picture with number {n} of them")
    (folder / "001.txt").write_text(EVIL)
    (folder / "002.txt").write_text(BIDI)
    (folder / "004.txt").write_text("word " * 200_000)


STEPS = [
    {"op": "image_size", "keep": {"min_side": {"min": 32}}},
    {"op": "image_ok", "keep": {"image_ok": {"is": True}}},
    {"op": "text_basic", "keep": {"word_count": {"min": 2, "max": 1000}, "letter_share": {"top": 0.9}}},
]


def curate(root: Path, out: str = "out", **changes: Any) -> Summary:
    """A real run, in this process, over the images of `root`."""
    if not (root / "images").exists():
        fill(root / "images")
    said = {
        "name": "small",
        "out": str(root / out),
        "source": {"type": "folder", "path": str(root / "images")},
        "shard_samples": 16,
        "steps": STEPS,
        "publish": {"columns": ["width"]},
    }
    return run(resolve(Recipe.model_validate(said | changes)), workers=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, str, str]:
    """One run that several tests only read: its summary, page and card."""
    summary = curate(tmp_path_factory.mktemp("made"))
    page, card = (path.read_text() for path in write_report(summary))
    return summary, page, card


class Page(HTMLParser):
    """What a browser would see: tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Page(page).words))


def test_a_hostile_caption_is_shown_as_text(made: tuple[Summary, str, str]) -> None:
    seen = Page(made[1])
    assert not seen.open
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in seen.tags}
    assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert "<script>alert(1)</script>" in text_of(made[1])


def test_control_and_bidi_characters_are_made_visible(made: tuple[Summary, str, str]) -> None:
    assert not re.search("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", made[1])
    shown = examples.shown(BIDI)
    assert "before␀␇␛[31m" in shown and "⟨202E⟩evil⟨202C⟩" in shown and shown.endswith("after")


def test_a_joined_emoji_and_persian_stay_as_they_are() -> None:
    for text in ("👩‍🚀 in space", "می‌شود", "Ein Käfer, 甲虫"):
        assert examples.shown(text) == text


def test_a_caption_of_a_megabyte_is_cut_and_its_length_said(made: tuple[Summary, str, str]) -> None:
    assert len(made[1]) < 400_000
    assert "1,000,000 characters" in text_of(made[1])


def test_the_counts_on_the_page_add_up(made: tuple[Summary, str, str]) -> None:
    summary, page, _ = made
    text = text_of(page)
    for count in summary.funnel:
        dropped, failed = count.dropped.total(), count.failed.total()
        assert f"{count.rows_in} in = {count.kept} kept + {dropped} dropped + {failed} failed" in text
        for name, n in (*count.dropped.items(), *count.failed.items()):
            assert re.search(rf"{re.escape(name)} {n} \(", text)
    total = re.search(r"for the run: (\d+) = (\d+) \+ (\d+) \+ (\d+)\.", text)
    assert total is not None
    rows, kept, dropped, failed = (int(n) for n in total.groups())
    assert (rows, kept) == (40, summary.dataset.samples)
    assert rows == kept + dropped + failed


def test_every_rule_and_error_has_its_examples_with_the_value(made: tuple[Summary, str, str]) -> None:
    summary, page, _ = made
    ends = page.split('<div class="end"')[1:]
    names = [re.sub("<.*?>", "", re.search("<h4>(.*?)</h4>", e)[1]) for e in ends]  # type: ignore[index]
    assert sorted(names) == sorted(n for c in summary.funnel for n in (*c.dropped, *c.failed))
    for name, end in zip(names, ends, strict=True):
        count = next(c.dropped[name] or c.failed[name] for c in summary.funnel if name in c.dropped or name in c.failed)
        assert end.split("<section")[0].count("<li>") == min(count, 8)
    narrow = ends[names.index("min_side.min")]
    assert re.findall('<div class="value" dir="auto">(.*?)</div>', narrow) == ["16"] * 8


def test_a_broken_image_is_a_named_placeholder(made: tuple[Summary, str, str]) -> None:
    text = made[1].replace("\u200b", "")
    assert "<span>truncated_image</span>" in text
    assert "<span>html_instead_of_image</span>" in text
    assert "<span>missing_caption</span>" in text


def test_an_error_comes_with_what_to_do_about_it(made: tuple[Summary, str, str]) -> None:
    assert "What to do: no caption beside the image" in text_of(made[1])


def test_pictures_on_the_page_are_small_and_inside_it(made: tuple[Summary, str, str]) -> None:
    sources = [attrs["src"] or "" for tag, attrs in Page(made[1]).tags if tag == "img"]
    assert len(sources) >= 16
    for source in sources:
        picture = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/webp;base64,"))))
        assert picture.format == "WEBP" and max(picture.size) <= 96


def test_the_page_asks_for_nothing_outside_itself(made: tuple[Summary, str, str]) -> None:
    seen = Page(made[1])
    policy = next(a["content"] or "" for t, a in seen.tags if t == "meta" and "http-equiv" in a)
    style = made[1].partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;") and f"'sha256-{digest}'" in html.unescape(policy)
    assert "url(" not in style and "@import" not in style
    for tag, attrs in seen.tags:
        assert tag not in ("link", "script", "base") and "style" not in attrs
        for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/webp;base64,"))
    links = {attrs["href"] for tag, attrs in seen.tags if tag == "a"}
    assert links <= {f"#{attrs['id']}" for _, attrs in seen.tags if "id" in attrs}


def test_the_threshold_and_the_cut_are_drawn_where_they_are(made: tuple[Summary, str, str]) -> None:
    summary, page, _ = made
    cut = summary.cuts["letter_share.top"]
    assert cut is not None
    marks = re.findall('<text class="mark".*?>(.*?)</text>', page)
    assert marks == ["32", "2", "1,000", examples.plain(cut)]
    assert "min_side at least 32" in text_of(page)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_report(curate(tmp_path, name)) for name in ("out", "other"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for path in first:
        assert str(path.parent) not in path.read_text()


def test_a_report_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    paths = write_report(curate(tmp_path))
    before = [p.stat().st_mtime_ns for p in paths]
    assert write_report(curate(tmp_path)) == paths
    assert [p.stat().st_mtime_ns for p in paths] == before


def test_a_changed_threshold_changes_the_report_and_a_lost_page_comes_back(tmp_path: Path) -> None:
    page, card = write_report(curate(tmp_path))
    text = page.read_text()
    steps = [{"op": "image_size", "keep": {"min_side": {"min": 8}}}]
    write_report(curate(tmp_path, steps=steps, publish={}))
    assert page.read_text() != text and "min_side at least 8" in page.read_text()
    page.unlink()
    write_report(curate(tmp_path, steps=steps, publish={}))
    assert page.exists() and card.exists()


def test_a_run_that_keeps_nothing_still_has_a_report(tmp_path: Path) -> None:
    nothing = [{"op": "image_size", "keep": {"min_side": {"min": 10_000}}}, STEPS[2]]
    page, card = write_report(curate(tmp_path, steps=nothing, publish={}))
    assert "Nothing was kept." in text_of(page.read_text())
    assert "the dataset is empty" in card.read_text()


def test_a_recipe_without_steps_has_a_report(tmp_path: Path) -> None:
    page, _ = write_report(curate(tmp_path, steps=[], publish={}))
    assert "38 of 40 samples kept, 95.0 %." in text_of(page.read_text())


def test_a_large_run_is_sampled_and_its_rare_errors_are_still_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "SCAN_ROWS", 10)
    summary = curate(tmp_path, shard_samples=4)
    page = write_report(summary)[0].read_text()
    assert "Values are drawn from 12 of 40 rows" in text_of(page)
    for end in page.split('<div class="end"')[1:]:
        assert "<li>" in end.split("<section")[0]


def test_the_front_matter_of_the_card_is_read_by_yaml(made: tuple[Summary, str, str]) -> None:
    summary, _, card = made
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["pretty_name"] == "small" and front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    assert summary.dataset.recipe in card


def test_the_card_says_how_the_dataset_was_made(made: tuple[Summary, str, str]) -> None:
    summary, _, card = made
    assert "`min_side` at least 32" in card and "`letter_share` among the largest 90 % (from" in card
    assert re.search(r"`image_size-[0-9a-f]{16}`", card)
    assert f"| **the run** | 40 | {summary.dataset.samples} |" in card
    assert "| `width` | int32 | by `image_size` |" in card
    assert "Copies and near copies were not looked for." in card


def test_the_snippets_of_the_card_work(made: tuple[Summary, str, str]) -> None:
    summary, _, card = made
    first, second = re.findall("```python\n(.*?)```", card, re.DOTALL)
    counted = f"{first}\nprint(sum(1 for image, text in samples if image.size and text))"
    command = [sys.executable, "-c", counted]
    done = subprocess.run(command, cwd=summary.folder.parent, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(summary.dataset.samples)], done.stderr
    counted = f"{second}\nprint(sum(1 for row in rows if row['txt'] and row['json']['uid'] == row['__key__']))"
    command = [sys.executable, "-c", counted]
    done = subprocess.run(command, cwd=summary.folder.parent, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(summary.dataset.samples)], done.stderr
    head, beside = (
        yaml.safe_load(text.split("---\n")[1]) for text in (card, (summary.folder / "README.md").read_text())
    )
    assert beside.items() <= head.items() and beside["dataset_info"]["features"]


def test_a_copy_stands_beside_what_it_is_a_copy_of(tmp_path: Path) -> None:
    summary = curate(tmp_path, steps=[{"op": "duplicate_images", "keep": {"duplicate_of": {"is": None}}}], publish={})
    page = write_report(summary)[0].read_text()
    assert summary.funnel[-1].dropped["duplicate_of.is"]
    copies = page.partition("duplicate_of.is</h4>")[2].partition("</ul>")[0].split("<li>")[1:]
    assert copies and all(copy.count("<img") == 2 for copy in copies)
    assert "the row that its value names" in text_of(page)


def test_the_command_line_writes_the_report_of_a_table_of_urls(tmp_path: Path) -> None:
    fill(tmp_path / "images", 8)
    serve = functools.partial(_Quiet, directory=str(tmp_path / "images"))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        lines = [f"{root}/{n:03}.jpg,picture {n}" for n in (0, 1, 2)] + [f"{root}/gone.jpg,gone"]
        (tmp_path / "urls.csv").write_text("\n".join(["url,text", *lines]))
        said = {
            "name": "urls",
            "out": "out",
            "source": {"type": "urls", "path": "urls.csv"},
            "download": {"allow_private": ["127.0.0.1"]},
        }
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(said))
        command = [sys.executable, "-m", "pipelines", "run", "r.yaml", "--inline"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    page, card = (tmp_path / "out" / name for name in ("report.html", "data_card.md"))
    assert f"report   {page.relative_to(tmp_path)}" in done.stdout
    assert "http_404" in text_of(page.read_text()) and "what the URL names is gone" in text_of(page.read_text())
    assert "`127.0.0.1` | 3 |" in card.read_text() and "A table of URLs, `urls.csv`" in card.read_text()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_a_pool_whose_tars_are_gone_still_has_a_report(tmp_path: Path) -> None:
    summary = curate(tmp_path)
    for tar in summary.pool.folder.glob("*.tar"):
        tar.unlink()
    page, _ = write_report(summary)
    assert "the tar is gone or was changed" in text_of(page.read_text())


def test_a_bomb_is_named_and_not_drawn() -> None:
    out = io.BytesIO()
    Image.new("1", (8000, 8000)).save(out, "PNG")
    picture, why = examples.thumbnail(out.getvalue())
    assert picture is None and "8000 × 8000" in why
    assert examples.thumbnail(b"") == (None, "empty_file")


def test_a_turned_photograph_is_shown_upright() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 100)).save(out, "JPEG", exif=exif)
    source, _ = examples.thumbnail(out.getvalue())
    assert source is not None
    assert Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size == (24, 96)


def test_a_page_is_shown_so_large_that_its_layout_can_be_seen() -> None:
    out = io.BytesIO()
    Image.new("RGB", (1000, 1400), "white").save(out, "JPEG")
    source, _ = examples.thumbnail(out.getvalue(), examples.PAGE_SIDE_PX)
    assert source is not None
    assert max(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).size) == 240


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.integers(-(2**63), 2**63), st.floats()), min_size=1, max_size=60),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_histogram_of_any_numbers_has_each_row_in_one_bar(numbers: list[float], limit: float) -> None:
    values = examples.ShownValues("x", np.array(numbers, dtype=np.float64), [], np.zeros(len(numbers), dtype=bool))
    chart = histogram(values, [Condition("x", "min", limit)], {})
    finite = [n for n in values.numbers.tolist() if np.isfinite(n)] if values.numbers is not None else []
    if chart is None:
        assert not finite
        return
    rows = [int(re.search(r": ([\d,]+) rows", bar.title)[1].replace(",", "")) for bar in chart.bars]  # type: ignore[index]
    assert sum(rows) == len(finite) and len(rows) <= 2 * BINS
    assert all(0 <= bar.x <= WIDTH and bar.kept + bar.broken <= HEIGHT + 1.01 for bar in chart.bars)


@pytest.mark.parametrize(("part", "whole", "said"), [
    (0, 0, "0 %"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 3, "33.3 %"), (1, 100_000, "< 0.1 %"),
    (99_999, 100_000, "> 99.9 %"),
])  # fmt: skip
def test_a_share_never_rounds_to_nothing_or_to_all(part: int, whole: int, said: str) -> None:
    assert percent(part, whole) == said


def test_sizes_are_said_in_the_hubs_words() -> None:
    assert [size_category(n) for n in (0, 999, 1000, 545_000, 10**9, 10**12)] == [
        "n<1K", "n<1K", "1K<n<10K", "100K<n<1M", "1B<n<10B", "n>1T",
    ]  # fmt: skip
    assert [human_bytes(n) for n in (0, 999, 2_979_840, 10**12)] == ["0 bytes", "999 bytes", "2.98 MB", "1 TB"]
