"""Measure texts: size and make-up, boilerplate, language, a classifier's quality, copies."""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.models.fasttext import (
    BUNDLED_LANGUAGE_MODEL,
    classifier_path,
    fasttext_path,
    load_fasttext_label,
)
from curate.models.files import file_digest
from curate.ops import _groups
from curate.ops._languages import CONTROL, SEEN_CHARACTERS, LanguageLabels, fold_to_line
from curate.ops.spec import Columns, Count, Knobs, group_op, op
from curate.text.file_names import is_file_name_like
from curate.text.unspaced import UNSPACED, UNSPACED_WORD

_CHARACTERS = 3
"""Of scripts without spaces so many characters tell as much as a word: a dozen of Chinese may be Japanese, too."""

_SURE = 0.5
"""Of a run of words a language is believed only with a probability above this."""

_UNSPACED_TOKEN = re.compile(UNSPACED_WORD)
_TOKEN = re.compile(rf"{UNSPACED_WORD}|[^\s{UNSPACED}]+")

PHRASES: tuple[str, ...] = (
    # Automatic alternative texts of Facebook and Instagram (Wu et al., CSCW 2017), as their pages show them.
    "image may contain|may be an image of|may be a cartoon of|may be art of|no photo description available",
    "bild könnte enthalten|bild kann enthalten|keine fotobeschreibung verfügbar|kein alternativtext verfügbar",
    "l'image contient peut-être|l’image contient peut-être|aucune description de photo disponible",
    "la imagen puede contener|no hay ninguna descripción de la foto disponible",
    "a imagem pode conter|nenhuma descrição de foto disponível",
    "l'immagine può contenere|nessuna descrizione della foto disponibile",
    "afbeelding kan het volgende bevatten|geen fotobeschrijving beschikbaar",
    "obraz może zawierać|brak dostępnego opisu zdjęcia|görüntünün olası içeriği|gambar mungkin berisi",
    "на изображении может находиться|описание фото отсутствует",
    "写真の説明はありません|사진 설명이 없습니다|沒有相片說明",
    # Titles that picture agencies give to all that they sell.
    "stock photo|stock photos|stock image|stock images|stock photography|stock vector|stock illustration|stock footage",
    "royalty free|royalty-free|shutterstock|istockphoto|alamy|getty images|depositphotos|dreamstime|123rf",
    "stockfoto|stockfotos|lizenzfrei|lizenzfreie|libre de droits|foto de stock|fotos de stock|libre de derechos",
    "fotografia stock|immagini stock|banco de imagens|стоковое фото|стоковые фото|ストックフォト|版权图片|免版税",
    # What a site shows in place of a picture, or says about it (common content management systems and shops).
    "image not available|no image available|image unavailable|image not found|image coming soon|photo coming soon",
    "placeholder image|image placeholder|kein bild verfügbar|kein bild vorhanden|bild folgt|image non disponible",
    "imagen no disponible|imagem não disponível|immagine non disponibile|geen afbeelding beschikbaar",
    "изображение отсутствует|нет изображения|暂无图片|画像なし|画像はありません|이미지 없음",
    "click to enlarge|click to zoom|click for larger|click here|tap to zoom|zum vergrößern|zum vergrössern",
    "cliquez pour agrandir|cliquer pour agrandir|haga clic para ampliar|clic para ampliar|clique para ampliar",
    "clicca per ingrandire|нажмите, чтобы увеличить|クリックで拡大|点击放大|点击查看大图",
)
"""Phrases that say nothing of the picture, lower case, parted by `|`; gathered by hand from such pages."""

_GENERIC = (
    "image|images|photo|photos|picture|pictures|pic|img|logo|icon|thumbnail|thumb|banner|untitled|unnamed|default|null|none"
    "|undefined|bild|foto|fotos|afbeelding|imagen|imagem|immagine|изображение|фото|картинка|画像|写真|图片|照片|사진|이미지|resim"
)
_ALL_PHRASES = [phrase for line in PHRASES for phrase in line.split("|")]
_SPACED = "|".join(re.escape(phrase) for phrase in _ALL_PHRASES if phrase < "\u2e80")
_RUN_ON = "|".join(re.escape(phrase) for phrase in _ALL_PHRASES if phrase >= "\u2e80")  # scripts without word gaps
_PHRASE = re.compile(rf"(?<!\w)(?:{_SPACED})(?!\w)|{_RUN_ON}")
_WHOLE = re.compile(rf"\W*(the |an? )?({_GENERIC})\W*(\d{{1,4}}\W*)?")


@op(
    reads=("text",),
    writes={
        "word_count": pa.int32(),
        "characters": pa.int32(),
        "letter_share": pa.float32(),
        "digit_share": pa.float32(),
        "control_characters": pa.int32(),
        "boilerplate": pa.bool_(),
        "boilerplate_phrase": pa.string(),
        "file_name_like": pa.bool_(),
    },
    version=3,
    batch_size=1024,
)
def text_basic(texts: Sequence[str]) -> Columns:
    """Measure the size and make-up of each text, and whether it is boilerplate, by which phrase.

    word_count: tokens between spaces that hold a letter or digit; every Han or kana character by itself, and of other
    scripts without spaces every cluster of letters (`curate.text.unspaced`).
    characters: code points, spaces folded. letter_share and digit_share: of the characters that are no space; 0 for an
    empty text. control_characters: NUL and the like; they count as spaces elsewhere. boilerplate_phrase: an entry of
    PHRASES, `file name`, `generic word`, or null. file_name_like: the text is nothing but what names a file
    (`curate.text.file_names`), whatever phrase stands in it.
    """
    rows = [_basic(text) for text in texts]
    names = ("word_count", "characters", "letter_share", "digit_share", "control_characters", "boilerplate_phrase")
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    boilerplate = [phrase is not None for phrase in columns["boilerplate_phrase"]]
    file_names = [is_file_name_like(fold_to_line(text)) for text in texts]
    return {**columns, "boilerplate": boilerplate, "file_name_like": file_names}


def _basic(text: str) -> tuple[int, int, float, float, int, str | None]:
    folded = fold_to_line(text)
    letters, digits = _letters_and_digits(folded)
    visible = len(folded) - folded.count(" ")
    word_count = sum(any(map(str.isalnum, token)) for token in _TOKEN.findall(folded))
    controls = len(CONTROL.findall(text))
    shares = (letters / visible, digits / visible) if visible else (0.0, 0.0)
    return word_count, len(folded), *shares, controls, find_boilerplate_phrase(folded)


def _letters_and_digits(text: str) -> tuple[int, int]:
    """Letters count with their combining marks: a Hindi word is all letters."""
    letters = digits = 0
    for character in text:
        kind = unicodedata.category(character)
        letters += kind[0] in "LM"
        digits += kind == "Nd"
    return letters, digits


def find_boilerplate_phrase(text: str) -> str | None:
    """The phrase of PHRASES in `text`, or `file name` or `generic word` if it is nothing but that; else None."""
    plain = unicodedata.normalize("NFKC", text[:SEEN_CHARACTERS]).lower()
    found = _PHRASE.search(plain)
    if found:
        return found.group()
    if is_file_name_like(text):
        return "file name"
    return "generic word" if _WHOLE.fullmatch(plain) else None


@op(
    reads=("text",),
    writes={"language": pa.string(), "language_probability": pa.float32()},
    version=1,
    batch_size=1024,
    needs=("fasttext",),
)
class language:  # noqa: N801 - ops are named as recipes name them
    """Language of each text by fastText's lid.176 (ISO 639 code) and its probability; null without a letter.

    Joulin et al., "Bag of Tricks for Efficient Text Classification", 2016. A caption of few words says little:
    on names of things in 14 languages the label is right for 58 % of single words, 78 % of two, 87 % of three and
    94 % of four; of those above a probability of 0.5, 93 % are right. Short words lean to English.
    """

    def __init__(self, *, model: str = BUNDLED_LANGUAGE_MODEL) -> None:
        self._label = LanguageLabels(model)

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model file: a changed file is a changed column."""
        return file_digest(fasttext_path(knobs["model"]))

    def __call__(self, texts: Sequence[str]) -> Columns:
        """One language a caption."""
        labels = [self._label(text) for text in texts]
        return {"language": [name for name, _ in labels], "language_probability": [share for _, share in labels]}


@op(
    reads=("text", "language"),
    writes={"language_share": pa.float32()},
    version=1,
    batch_size=1024,
    needs=("fasttext",),
)
class language_share:  # noqa: N801 - ops are named as recipes name them
    """Share of a text, by characters, that is in its `language`, of an earlier step; null without one.

    Looked at are runs of about `run_words` words, three characters a word in scripts without spaces, and of these runs
    those that the model is sure of by more than half; 1 of a text with none. What `language` calls English with a
    probability of .9 may be half in another language: here it has some .5.
    """

    def __init__(self, *, model: str = BUNDLED_LANGUAGE_MODEL, run_words: Count = 12) -> None:
        self._label, self._run_words = LanguageLabels(model), run_words

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model file: a changed file is a changed column."""
        return file_digest(fasttext_path(knobs["model"]))

    def __call__(self, texts: Sequence[str], languages: Sequence[str | None]) -> Columns:
        """One share a text."""
        return {"language_share": [self._share(*row) for row in zip(texts, languages, strict=True)]}

    def _share(self, text: str, language: str | None) -> float | None:
        if language is None:
            return None
        labelled = [(self._label(run), len(run)) for run in self._runs(fold_to_line(text[:SEEN_CHARACTERS]))]
        sure = [(name, size) for (name, probability), size in labelled if (probability or 0) > _SURE]
        own = sum(size for name, size in sure if name == language)
        return own / sum(size for _, size in sure) if sure else 1.0

    def _runs(self, line: str) -> Iterator[str]:
        """The line in runs of about as many words each."""
        tokens = list(_TOKEN.finditer(line))
        ends = list(accumulate(1 if _UNSPACED_TOKEN.match(token.group()) else _CHARACTERS for token in tokens)) or [0]
        count = max(1, ends[-1] // (_CHARACTERS * self._run_words))
        cuts = [tokens[bisect_left(ends, ends[-1] * number // count)].start() for number in range(1, count)]
        return (line[start:end] for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True))


@op(reads="text", writes={"quality": pa.float32()}, version=1, batch_size=256, needs=("fasttext",))
class fasttext_quality:  # noqa: N801 - ops are named as recipes name them
    """Probability that a fastText classifier gives to `label`, of the first `max_characters` of each text on one line.

    DCLM (Li et al. 2024, section 4.4) trains it on instructions and explanations (`hq`) against the crawl and keeps
    what has at least .018112, some tenth of it: as a rule `min`, or `top: 0.1` of one's own. `curate quality` trains.
    """

    def __init__(self, *, model: str, label: str = "hq", max_characters: Count = 100_000) -> None:
        self._probability = load_fasttext_label(classifier_path(model), label)
        self._most = max_characters

    @staticmethod
    def identity(knobs: Knobs) -> str:
        """Digest of the model file: a changed file is a changed column."""
        return file_digest(classifier_path(knobs["model"]))

    def __call__(self, texts: Sequence[str]) -> Columns:
        """One probability a text."""
        return {"quality": [self._probability(fold_to_line(text[: self._most])) for text in texts]}


@op(reads="text", writes={"text_digest": pa.string()}, version=1, batch_size=1024)
def text_digest(texts: Sequence[str]) -> Columns:
    """Digest of each text (32 hex), letter case and the width of spaces aside, for `text_copies`."""
    folded = (" ".join(text.casefold().split()).encode("utf-8", "surrogatepass") for text in texts)
    return {"text_digest": [hashlib.blake2b(text, digest_size=16).hexdigest() for text in folded]}


@group_op(after=text_digest, writes={"text_copies": pa.int64()}, version=1)
def text_copies(inputs: Sequence[Path], outputs: Sequence[Path], scratch: Path) -> None:
    """Count the rows that have the same text, itself counted: what is said of many pictures tells little of one."""
    with _groups.database(scratch) as db:
        found = "SELECT text_digest, count(*) AS text_copies FROM read_parquet(?) GROUP BY ALL"
        db.execute(f"CREATE TABLE copies AS {found}", [[str(path) for path in inputs]])
        for source, target in zip(inputs, outputs, strict=True):
            rows = (
                "SELECT uid, text_copies FROM read_parquet(?, file_row_number = true) JOIN copies USING (text_digest)"
                " ORDER BY file_row_number"
            )
            pq.write_table(db.sql(rows, params=[str(source)]).to_arrow_table(), target)
