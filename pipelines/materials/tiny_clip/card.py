"""Measure the tiny dual encoder on drawings it never saw, and write its data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from curate.commit import file_sha256
from pipelines.materials.drawings import (
    FRAMES,
    HELD_OUT_ONE_IN,
    Drawing,
    has_tone,
    held_out,
    is_flag,
    roc_auc,
    twemoji,
    without_tone,
)
from pipelines.materials.packages import MATERIALS, fetch
from pipelines.materials.tiny_clip.pairs import HANDS, drawn_codes

SWAPS = 5
"""Swapped captions drawn for each drawing when the model is measured."""


@dataclass(frozen=True)
class Measured:
    """ROC AUC of matched over swapped captions on Twemoji's drawings, and how many drawings each figure stands on."""

    drawings: dict[str, int]
    auc: dict[str, float]


def measure(weights: Path, cache: Path | None = None) -> Measured:
    """Score Twemoji's drawings, which were never trained on, with their own and with swapped names.

    `known`, `unknown`: things whose words were trained on in other hands, and those held out, skin tones left aside.
    `known_flags`: flags of `known` among themselves. `known_with_tones`: all variants of known things. `tone`: only
    the skin tone is swapped. Captions are the demo's English frames.
    """
    drawings = twemoji(fetch("twemoji", cache), fetch("emoji-names", cache))
    image_ND, text_ND = _embedded(weights, drawings)
    plain = [n for n, drawing in enumerate(drawings) if not has_tone(drawing.code)]
    trained = [n for n, drawing in enumerate(drawings) if not held_out(drawing.code)]
    groups = {
        "known": [n for n in plain if n in set(trained)],
        "unknown": [n for n in plain if n not in set(trained)],
        "known_flags": [n for n in plain if is_flag(drawings[n].code) and n in set(trained)],
        "known_with_tones": trained,
    }
    auc = {name: _auc_of_swaps(image_ND, text_ND, drawings, rows) for name, rows in groups.items()}
    toned = [n for n in trained if has_tone(drawings[n].code)]
    auc["tone"] = _auc_of_tones(image_ND, text_ND, [without_tone(drawings[n].code) for n in toned], toned)
    counts = {name: len(rows) for name, rows in groups.items()} | {"tone": len(toned)}
    return Measured(counts, {name: round(value, 4) for name, value in auc.items()})


Vectors = npt.NDArray[np.float32]


def _embedded(weights: Path, drawings: Sequence[Drawing]) -> tuple[Vectors, Vectors]:
    """Unit vectors of the drawings and of their framed English names, as the op clip_score makes them."""
    from curate.image.files import decode
    from curate.ops.alignment.clip_score import clip_score

    op = clip_score(model=str(weights))
    frames = FRAMES["en"]
    image_parts, text_parts = [], []
    for start in range(0, len(drawings), 64):
        some = drawings[start : start + 64]
        images = [decode(drawing.file.read_bytes()).image for drawing in some]
        texts = [frames[(start + n) % len(frames)].format(drawing.names["en"]) for n, drawing in enumerate(some)]
        columns = op([image for image in images if image is not None], texts)
        image_parts.append(np.array(columns["clip_image_embedding"], dtype=np.float32))
        text_parts.append(np.array(columns["clip_text_embedding"], dtype=np.float32))
    return np.concatenate(image_parts), np.concatenate(text_parts)


def _auc_of_swaps(images: Vectors, texts: Vectors, drawings: Sequence[Drawing], rows: Sequence[int]) -> float:
    rng = np.random.default_rng(0)
    names = np.array([drawing.names["en"] for drawing in drawings])
    own = np.array(rows)
    swapped = []
    for _ in range(SWAPS):
        other = rng.permutation(own)
        differs = names[own] != names[other]
        swapped.append((images[own[differs]] * texts[other[differs]]).sum(axis=1))
    return roc_auc((images[own] * texts[own]).sum(axis=1), np.concatenate(swapped))


def _auc_of_tones(images: Vectors, texts: Vectors, things: Sequence[str], rows: Sequence[int]) -> float:
    """Each toned drawing with its own name, against the names of the same thing in its other tones."""
    groups: dict[str, list[int]] = {}
    for thing, row in zip(things, rows, strict=True):
        groups.setdefault(thing, []).append(row)
    matched, swapped = [], []
    for members in groups.values():
        scores = images[members] @ texts[members].T
        matched.append(np.diag(scores))
        swapped.append(scores[~np.eye(len(members), dtype=bool)])
    return roc_auc(np.concatenate(matched), np.concatenate(swapped))


CREDITS: Mapping[str, str] = {
    "noto": "Noto Emoji, copyright Google and contributors",
    "noto-v1": "Noto Emoji of 2013-2017 (the blobs), copyright Google and contributors",
    "fluent-emoji": "Fluent Emoji, copyright Microsoft",
    "fluent-emoji-flat": "Fluent Emoji, flat, copyright Microsoft",
    "fxemoji": "FxEmojis, visual design by Mozilla and contributors",
    "emojione": "Emojitwo, first released as EmojiOne 2.2 by Ranks.com, with contributions of its community",
}
_LINES: Mapping[str, str] = {
    "known": "things whose words it knows (in other hands' drawings), no skin tones",
    "known_with_tones": "the same with all skin tones",
    "known_flags": "flags of those, swapped among themselves",
    "unknown": "things it never saw in any hand, no skin tones",
    "tone": "the right thing in the wrong skin tone",
}


def card(weights: Path, cache: Path | None = None) -> str:
    """The data card of `weights` as Markdown: what it is made from, under which licences, and how well it does."""
    rows = []
    for hand in HANDS:
        codes = drawn_codes(hand, cache)
        tones, made = sum(map(has_tone, codes)), MATERIALS[hand]
        counts = f"{len(codes) - tones:,} | {tones:,}"
        rows.append(f"| {CREDITS[hand]} | {made.licence} | {counts} | `{made.package}` {made.version} |")
    found = measure(weights, cache)
    figures = [f"| {_LINES[name]} | {found.drawings[name]:,} | {found.auc[name]:.3f} |" for name in _LINES]
    digests = [f"- `{MATERIALS[name].package}` {MATERIALS[name].version}: {MATERIALS[name].sha256}" for name in SOURCES]
    return _CARD.format(
        sources="\n".join(rows),
        figures="\n".join(figures),
        digests="\n".join(digests),
        names_licence=MATERIALS["emojibase"].licence,
        kilobytes=round(weights.stat().st_size / 1000),
        sha256=file_sha256(weights),
        held_out=HELD_OUT_ONE_IN,
    )


SOURCES = (*HANDS, "emojibase")

_CARD = """\
# tiny-clip

A dual encoder of {kilobytes:,} kB: open_clip's own classes, a ResNet of four blocks at 64 px and a causal transformer
of two layers on the first 8,192 ids of CLIP's byte pairs, in half precision. The demo scores its drawings with it.
It knows drawings in the manner of emoji and their English names, and nothing else: no photographs, no other
languages. Use a real CLIP for anything real.

sha256 of the file: {sha256}

## Made from

Drawings of the same things by several hands, each beside its name in a few frames and its tags, by this project's
own trainer. No drawing is in the file or in the repository; packages are fetched by name, version and hash.

| drawings | licence | things | with skin tones | package |
|---|---|---|---|---|
{sources}

Names and tags: `emojibase-data` ({names_licence}).
Every picture was drawn anew at 72 px from its vectors, and turned, zoomed, shifted and recoloured at random in
training. Sets under share-alike licences (OpenMoji, EmojiOne 1) were left out. One thing in {held_out}, in all hands
and skin tones, was held out by a hash of its code points.

The weights come under this project's licence. Whoever holds that weights are an adaptation of what they were trained
on finds the creators and licences to credit in the table ([CC-BY-4.0](https://creativecommons.org/licenses/by/4.0/),
[Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0), [MIT](https://opensource.org/license/mit)).

## How well it does

ROC AUC of the cosine telling true captions from swapped ones, on Twemoji's drawings (CC-BY-4.0), none of which were
trained on; captions in the demo's English frames, five swaps a drawing.

| swapped among | drawings | AUC |
|---|---|---|
{figures}

## Made by

    python -m pipelines.materials.tiny_clip pairs out/tiny-clip
    python -m train out/tiny-clip/mixture.json --config recipes/tiny-clip.yaml --out out/tiny-clip/run \\
      --export out/tiny-clip/tiny-clip.safetensors --export-precision fp16
    python -m pipelines.materials.tiny_clip card out/tiny-clip/tiny-clip.safetensors > data_cards/tiny-clip.md

On another kind of processor the last bits, and with them the weights, come out differently.

sha256 of the packages:

{digests}
"""
