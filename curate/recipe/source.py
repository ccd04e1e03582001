"""The `source` of a recipe, by the kind of sample that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from curate.sample import Kind
from curate.settings import PathText, Settings


class Quoted(Settings):
    """Choices for csv and tsv files."""

    quoting: bool | None = Field(
        None, description="Whether quotes around a field of csv and tsv are no part of it; by default the lines tell."
    )


class Table(Quoted):
    """Rows with columns: files, or a Hugging Face dataset."""

    path: PathText | None = Field(
        None, description="A file, a glob or `{000..010}`: csv, tsv, jsonl or parquet, gz, zst or bz2 as well."
    )
    huggingface: PathText | None = Field(None, description="A dataset's name or folder for `datasets`, streamed.")
    split: str = Field("train", description="The split of the Hugging Face dataset.")

    @model_validator(mode="after")
    def _one_origin(self) -> Table:
        return _check_origin(self)


class UrlTable(Table):
    """A table of image URLs and captions: csv, tsv, jsonl or parquet files, or a Hugging Face dataset."""

    type: Literal["urls"]
    url: str = Field("url", description="The column that holds the image's URL.")
    text: str = Field("text", description="The column that holds the caption.")
    keep: tuple[str, ...] = Field((), description="Further columns to keep as the sample's meta.")


class Folder(Quoted):
    """A folder of images, each with a sidecar `.txt` or `.json`, or with one table of captions."""

    type: Literal["folder"]
    path: PathText = Field(description="The folder; images in it and below it are taken, whatever their names end in.")
    captions: PathText | None = Field(None, description="A csv, tsv, jsonl or parquet table; else sidecar files.")
    image: str = Field("image", description="The table's column with the image's path in the folder.")
    text: str = Field("text", description="The table's column, or the sidecar JSON's key, that holds the caption.")
    keep: tuple[str, ...] = Field((), description="Further columns or JSON keys to keep as the sample's meta.")


class Tars(Settings):
    """Webdataset tars that any tool wrote; the pool points into them, nothing is copied."""

    type: Literal["webdataset"]
    path: PathText = Field(description="A tar, a glob of tars, `{000..010}`, or several parted by `::`.")
    image: str | None = Field(
        None, description="The part that holds the image, `left.jpg` or `jpg;png`; by default the one that is there."
    )
    text: str = Field("txt", description="The part that holds the caption: `txt`, or `json:key` for a key of a JSON.")
    keep: tuple[str, ...] = Field((), description="Keys of the sample's JSON to keep as its meta.")


class HtmlFiles(Settings):
    """A folder of HTML files, as a site or a manual is laid down; links to images are paths in it."""

    type: Literal["html"]
    path: PathText = Field(description="The folder; .html, .htm and .xhtml files below it, others that hold a page.")


class Pages(Quoted):
    """A table of web pages: by their URLs, which are fetched, or with their HTML in a column."""

    type: Literal["pages"]
    path: PathText = Field(description="A file or a glob of csv, tsv, jsonl or parquet files.")
    url: str = Field("url", description="The column with the page's URL.")
    html: str | None = Field(None, description="The column with the page's HTML; without one, pages are fetched.")
    keep: tuple[str, ...] = Field((), description="Further columns to keep as the page's meta, `date` for example.")


class Warc(Settings):
    """WARC files, as crawlers write them: every response that is a page."""

    type: Literal["warc"]
    path: PathText = Field(description="A WARC file or a glob of them, compressed or not.")


class Wat(Settings):
    """WAT files of Common Crawl: the images that pages show with a text in its place, to be fetched."""

    type: Literal["wat"]
    path: PathText = Field(description="A WAT file or a glob of them, compressed or not.")


class Records(Table):
    """Interleaved documents that are ready: a table with a record a document, kept as it came."""

    type: Literal["records"]
    columns: tuple[str, ...] = Field(min_length=1, description="The columns that make a record: images, texts, ...")
    folder: PathText | None = Field(None, description="Where image paths lie, if the records name paths (LLaVA).")
    keep: tuple[str, ...] = Field((), description="Columns to keep as the document's meta as well.")


class ImageRows(Settings):
    """Tables that hold their images, Parquet files or a Hugging Face dataset: pairs, documents, conversations."""

    type: Literal["images"]
    path: PathText | None = Field(None, description="A Parquet file, a glob or `{000..010}`.")
    huggingface: PathText | None = Field(None, description="A dataset's name or folder, opened by `datasets`.")
    split: str = Field("train", description="The split of the Hugging Face dataset.")
    image: str = Field("image", description="The column of images: bytes, bytes with a path, or a list of these.")
    text: str = Field("text", description="Of pairs, the column of the caption; of a list of them, the first is it.")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="Of documents and conversations, the further columns of a record: texts, ..."
    )
    keep: tuple[str, ...] = Field((), description="Further columns to keep as the sample's meta.")

    @model_validator(mode="after")
    def _one_origin(self) -> ImageRows:
        return _check_origin(self)


class Pdf(Settings):
    """PDF files and images of pages (a TIFF may hold many): a sample a page."""

    type: Literal["pdf"]
    path: PathText = Field(description="A folder, a file or a glob; PDF files and images of pages are taken.")


class Texts(Table):
    """Texts: tables with a column of text, or `.txt` and `.md` files; each compressed or not."""

    type: Literal["text"]
    text: str = Field("text", description="The column that holds the text.")
    separator: str | None = Field(None, description="What stands between documents in a text file; none: one a file.")
    keep: tuple[str, ...] = Field((), description="Further columns to keep as the text's meta.")


class Written(Settings):
    """Texts that a chat model writes after examples: three are shown, it writes a fourth of the same structure, and of
    these three are drawn next (TOMGPT)."""

    type: Literal["written"]
    count: int = Field(ge=1, le=1_000_000, description="Texts that are wanted, rejected ones not counted.")
    examples: tuple[dict[str, str], ...] = Field(
        min_length=3,
        description="Three texts or more of one structure: {text: ...} each, or {context: ..., question: ..., answer:"
        " ...}, or parts of your own names. What it is about may be said as `topic`, which is no part.",
    )
    topics: tuple[str, ...] = Field((), description="Topics to write about; of each an equal number of texts.")
    draw_from: Literal["window", "pool"] = Field(
        "window",
        description="window: three of the last four texts, in `at_once` windows side by side. pool: three of all texts"
        " so far.",
    )
    at_once: int = Field(
        16, ge=1, le=4096, description="Requests of a wave, which go out together; another number makes other texts."
    )
    max_rouge_l: float = Field(
        0.7, gt=0, le=1, description="A text with this ROUGE-L or more with any before it is rejected."
    )
    tries: int = Field(
        10,
        ge=1,
        description="The run ends where, of a topic, more than so many attempts were rejected for each text that was"
        " accepted, and for one more.",
    )
    llm: str | None = Field(None, description="The recipe's chat model that writes; unsaid: the only one.")
    prompt: str = Field("tomgpt", description="A prompt of ours, or a file of your own by its path.")
    temperature: float = Field(1.0, ge=0, le=2)
    max_tokens: int = Field(400, ge=1, description="Of one answer; one that is cut is rejected.")

    @model_validator(mode="after")
    def _is_of_one_structure(self) -> Written:
        parts = [tuple(name for name in example if name != "topic") for example in self.examples]
        for number, (names, example) in enumerate(zip(parts, self.examples, strict=True)):
            if names != parts[0] or not names:
                raise ValueError(
                    f"examples.{number} has the parts {', '.join(names) or 'none'}; the first has"
                    f" {', '.join(parts[0]) or 'none'}: all must have the same, in one order"
                )
            if empty := [name for name, text in example.items() if not text.strip()]:
                raise ValueError(f"examples.{number}.{empty[0]} is empty")
        if taken := TAKEN_PARTS & set(parts[0]):
            raise ValueError(f"examples: no part may be called {min(taken)!r}")
        if len(set(self.topics)) < len(self.topics):
            raise ValueError("topics: one is there twice")
        return self


class Searched(Settings):
    """Web pages that are searched for: fields, topics of each that a chat model names, and a search for each topic
    (Cambrian-1's data engine)."""

    type: Literal["searched"]
    fields: tuple[str, ...] = Field(min_length=1, description="Fields and subfields, in words.")
    topics: int = Field(20, ge=1, le=1000, description="Topics of a field.")
    pages: int = Field(10, ge=1, le=1000, description="Pages of a topic, the best.")
    folder: PathText | None = Field(None, description="A folder of HTML pages to search in; links are paths in it.")
    search: str | None = Field(
        None, description="The URL of a search endpoint that answers ?q=...&format=json as SearXNG does."
    )
    query: str = Field("{topic}", description="What is searched for, with the topic where {topic} stands.")
    llm: str | None = Field(None, description="The recipe's chat model that names topics; unsaid: the only one.")
    prompt: str = Field("topics", description="A prompt of ours, or a file of your own by its path.")
    temperature: float = Field(0.7, ge=0, le=2)
    max_tokens: int = Field(400, ge=1, description="Of the list of a field's topics.")

    @model_validator(mode="after")
    def _one_place(self) -> Searched:
        if (self.folder is None) == (self.search is None):
            raise ValueError("give either `folder` (pages to search in) or `search` (the URL of an endpoint)")
        if self.search is not None and not self.search.startswith(("http://", "https://")):
            raise ValueError(f"search: {self.search!r} is no http(s) URL")
        if "{topic}" not in self.query:
            raise ValueError("query: say {topic} where the topic is to stand")
        return self


TAKEN_PARTS = frozenset(("examples", "text_by"))
"""What else stands in the meta of a written text."""

T = TypeVar("T", Table, ImageRows)


def _check_origin(source: T) -> T:
    if (source.path is None) == (source.huggingface is None):
        raise ValueError("give either `path` (files) or `huggingface` (a dataset's name)")
    return source


Source = Annotated[
    UrlTable | Folder | Tars | HtmlFiles | Pages | Warc | Wat | Records | ImageRows | Pdf | Texts | Written | Searched,
    Field(discriminator="type"),
]

KINDS: Mapping[Kind, tuple[str, ...]] = {
    "caption": ("urls", "folder", "webdataset", "wat", "images"),
    "interleaved": ("html", "pages", "warc", "records", "images", "searched"),
    "ocr": ("pdf", "text"),
    "text": ("text", "html", "pages", "warc", "written"),
}
"""The types of source that each kind of sample can be made from."""


def folder_of(source: Source) -> str | None:
    """The folder in which the paths that samples name are files."""
    if isinstance(source, HtmlFiles):
        return source.path
    return source.folder if isinstance(source, (Records, Searched)) else None


WHERE = {"path", "captions", "folder", "llm", "count", "tries"}
"""The keys that name nothing: where a source lies, whose files are told by what they hold; and of one that is written
how the recipe calls the model, and how much is wanted: what is there stays where more is."""

LATER = {"quoting", "image"}
"""Keys that came later than pools did: unset they name nothing, so that pools of before are gone on from."""


def named_by(source: Source) -> dict[str, Any]:
    """All of a source that names what is made of it, which where it lies does not."""
    said = source.model_dump(mode="json", exclude=WHERE)
    return {key: value for key, value in said.items() if value is not None or key not in LATER}


FETCHED = ("urls", "wat", "pages")
"""The types of source that name URLs."""
