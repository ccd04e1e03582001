"""The mixtures of published systems, from their specifications: shares as their papers and repositories give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from mixtures import a_dataset, composed, drawn_shares, listed, measured

from curate import mix
from curate.mix.spec import Entry
from curate.settings import load

INSTRUCT_BLIP = {
    "cc12m": (6_029_862, 0.19438),
    "coco_cap": (566_747, 0.05959),
    "capfilt14m": (13_873_136, 0.29485),
    "vg_cap": (821_774, 0.07176),
    "sbu": (859_739, 0.07340),
    "vg_vqa": (1_440_069, 0.09499),
    "vqav2": (658_104, 0.06422),
    "ocr_vqa": (1_002_146, 0.07925),
    "ok_vqa": (9_009, 0.00751),
    "aok_vqa": (17_056, 0.01034),
    "llava150k": (394_276, 0.04971),
}
"""Sizes and sampling ratios of X-InstructBLIP's image_train.yaml."""


def sources(names: list[str], indent: str = "  ") -> str:
    return "\n".join(f"{indent}- {{path: {name}}}" for name in names)


def test_mm1_gives_vecap_seven_percent_of_captions_and_three_of_the_whole(tmp_path: Path) -> None:
    listed(tmp_path, {"alt": 9000, "vecap": 3000, "pages": 6000, "text": 20_000})
    built = composed(
        tmp_path,
        """
        sources:
          - group: captions
            weight: 0.45
            sources: [{path: alt, weight: 0.93}, {path: vecap, weight: 0.07}]
          - {path: pages, weight: 0.45}
          - {path: text, weight: 0.10}
        """,
    )
    assert built.mixture.manifest.segments[0].slots == (837, 63, 900, 200)
    assert [s.share for s in built.mixture.manifest.datasets] == pytest.approx([0.4185, 0.0315, 0.45, 0.10], abs=1e-15)
    assert built.shares[0].of_group == (0.93, 0.07, 0.45, 0.10)
    assert built.mixture.manifest.datasets[1].group == "captions"
    assert built.mixture.counts(2000).tolist() == [837, 63, 900, 200]


def test_five_five_one_is_not_forty_five_forty_five_ten(tmp_path: Path) -> None:
    listed(tmp_path, {"captions": 100, "pages": 100, "text": 100})
    entries = "{path: captions, weight: 5}, {path: pages, weight: 5}, {path: text, weight: 1}"
    built = composed(tmp_path, f"sources: [{entries}]")
    assert [round(s.share, 4) for s in built.mixture.manifest.datasets] == [0.4545, 0.4545, 0.0909]


def test_instructblip_draws_by_the_square_root_of_size_in_whole_batches(tmp_path: Path) -> None:
    listed(tmp_path, {name: size for name, (size, _) in INSTRUCT_BLIP.items()}, per_shard=100_000)
    text = "by: size\npower: 0.5\nmode: homogeneous\nbatch: 64\nsources:\n" + sources(list(INSTRUCT_BLIP))
    built = composed(tmp_path, text)
    for source in built.mixture.manifest.datasets:
        assert source.share == pytest.approx(INSTRUCT_BLIP[source.name][1], abs=1e-5)
    source, epoch, row = built.mixture.locate(np.arange(64 * 500))
    assert all(len(set(batch.tolist())) == 1 for batch in source.reshape(-1, 64))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 64 * 500


def test_multipliers_by_hand_come_on_top_of_sizes(tmp_path: Path) -> None:
    listed(tmp_path, {"a": 400, "b": 100})
    built = composed(tmp_path, "by: size\npower: 0.5\nsources: [{path: a}, {path: b, weight: 3}]")
    assert [s.share for s in built.mixture.manifest.datasets] == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize("cap", [150_000, 250_000, 350_000, 450_000])
def test_cambrian_caps_each_source_and_says_which_caps_bind(tmp_path: Path, cap: int) -> None:
    sizes = {"orca": 994_000, "allava": 700_000, "clevr": 350_000, "tallyqa": 250_000, "daTikz": 47_000}
    listed(tmp_path, sizes, per_shard=50_000)
    built = composed(tmp_path, f"mode: concat\ncap: {cap}\nsources:\n" + sources(list(sizes)))
    wanted = [min(size, cap) for size in sizes.values()]
    assert built.mixture.manifest.epoch == sum(wanted)
    assert built.mixture.counts(sum(wanted)).tolist() == wanted
    assert [leaf.binds for leaf in built.leaves] == [size > cap for size in sizes.values()]


CAMBRIAN_10M = {
    **{
        "openorca": 994,
        "mathinstruct": 262,
        "orcamath": 200,
        "wizardcoder": 143,
        "opencodeinterpreter": 66,
        "dolly": 11,
    },
    **{
        "dvqa": 775,
        "synthdog": 500,
        "arxivqa": 100,
        "ocrvqa": 80,
        "screenqa": 79,
        "wikisql": 74,
        "docvqa": 39,
        "wtq": 38,
    },
    **{"chartqa": 28, "iconqa": 27, "chart2text": 26, "tabmwp": 23, "textcaps": 22, "llavar": 20, "st-vqa": 17},
    **{"ai2d": 15, "renderedtext": 10, "vistext": 9, "finqa": 6, "allava": 700, "q-instruct": 400, "lnqa": 302},
    **{"lvis-instruct4v": 220, "llava150k": 150, "vg": 86, "vqav2": 83, "gpt-4v": 77, "gqa": 72, "a-okvqa": 50},
    **{"alfworld": 45, "sharegpt": 40, "refcoco": 30, "vizwiz": 20, "clevr": 350, "tallyqa": 250, "websight": 10},
    **{"datikz": 47, "design2code": 0.5, "geo170k": 170, "raven": 42, "geomverse": 9, "mathvision": 3},
    **{"data-engine": 161, "pathvqa": 32, "scienceqa": 12, "gpt-4o": 60},
}
"""Thousands of samples of the sources whose sizes are known to us: 52, the paper has more."""


@pytest.mark.parametrize(
    ("cap", "published", "ours"), [(150, 4015, 3651.5), (250, 5218, 4702.5), (350, 5883, 5366.5), (450, 6383, 5816.5)]
)
def test_cambrian_totals_at_its_caps_are_not_those_of_the_known_sources(
    tmp_path: Path, cap: int, published: int, ours: float
) -> None:
    """Cambrian's totals at its caps are not reproducible from the sources we know."""
    listed(tmp_path, {name: int(1000 * size) for name, size in CAMBRIAN_10M.items()}, per_shard=50_000)
    built = composed(tmp_path, f"mode: concat\ncap: {1000 * cap}\nsources:\n" + sources(list(CAMBRIAN_10M)))
    assert built.mixture.manifest.epoch == 1000 * ours
    assert sum(CAMBRIAN_10M.values()) == 6985.5  # of about 9,784
    # What lacks is at most what the sources that lack could hold.
    assert 0 < published - ours < 9784 - 6985.5


def test_cambrian_7m_keeps_its_ratios_normalised_from_100_40(tmp_path: Path) -> None:
    """Cambrian seven million keeps the ratios of categories normalised from 100 40."""
    ratios = {"language": 21.00, "general": 34.52, "ocr": 27.22, "counting": 8.71, "math": 7.20, "code": 0.87}
    ratios["science"] = 0.88
    assert sum(ratios.values()) == pytest.approx(100.40)
    listed(tmp_path, {f"{name}{n}": 900_000 + 7 * n for name in ratios for n in (1, 2)}, per_shard=100_000)
    groups = "\n".join(
        f"  - {{group: {name}, weight: {weight}, by: size, sources: [{{path: {name}1}}, {{path: {name}2}}]}}"
        for name, weight in ratios.items()
    )
    built = composed(tmp_path, f"total: 7000000\nscale: 0.1\ncap: 3500000\nsources:\n{groups}")
    shares = [
        built.mixture.manifest.datasets[n].share + built.mixture.manifest.datasets[n + 1].share for n in range(0, 14, 2)
    ]
    assert [round(100 * share, 2) for share in shares] == [20.92, 34.38, 27.11, 8.68, 7.17, 0.87, 0.88]
    counts = built.mixture.counts(700_000)
    assert built.mixture.manifest.epoch == counts.sum() == 700_000
    assert counts.tolist() == [int(n) for n in built.shares[0].samples]
    assert all(leaf.binds and leaf.taken == 350_000 for leaf in built.leaves)


def test_flamingo_draws_every_source_each_step_and_weighs_losses(tmp_path: Path) -> None:
    """Flamingo draws every source in every step and weighs losses, not draws."""
    listed(tmp_path, {"m3w": 4300, "align": 18_000, "ltip": 3120, "vtp": 270})
    built = composed(
        tmp_path,
        """
        mode: accumulate
        sources:
          - {path: m3w, weight: 1.0, batch: 4}
          - {path: align, weight: 0.2, batch: 8}
          - {path: ltip, weight: 0.2, batch: 8}
          - {path: vtp, weight: 0.03, batch: 4}
        """,
    )
    mixture = built.mixture
    assert mixture.manifest.batch == 24
    assert mixture.stage_at(17).weights == (1.0, 0.2, 0.2, 0.03)
    source, epoch, row = mixture.locate(np.arange(24 * 300))
    for step in source.reshape(-1, 24):
        assert np.bincount(step).tolist() == [4, 8, 8, 4]
    seen = Counter(zip(source.tolist(), epoch.tolist(), row.tolist(), strict=True))
    assert max(seen.values()) == 1
    assert mixture.counts(24 * 5 + 6).tolist() == np.bincount(source[: 24 * 5 + 6]).tolist()


def test_mini_gemini_concatenates_so_that_a_pass_has_every_sample_once(tmp_path: Path) -> None:
    sizes = {"llava": 643, "sharegpt4v": 100, "laion": 10, "allava": 700, "text": 6, "ocr": 28}
    listed(tmp_path, sizes, per_shard=50)
    built = composed(tmp_path, "mode: concat\nsources:\n" + sources(list(sizes)))
    assert built.mixture.manifest.epoch == 1487
    source, epoch, row = built.mixture.locate(np.arange(2 * 1487))
    for number in range(2):
        part = slice(number * 1487, (number + 1) * 1487)
        assert set(epoch[part].tolist()) == {number}
        assert len(set(zip(source[part].tolist(), row[part].tolist(), strict=True))) == 1487


def test_idefics2_stages_have_their_own_weights_resolution_and_lengths(tmp_path: Path) -> None:
    """Idefics2 has two stages with their own weights resolution and lengths."""
    listed(tmp_path, {"obelics": 50_000, "pairs": 40_000, "pdfs": 30_000})
    built = composed(
        tmp_path,
        """
        batch: 100
        sources: [{path: obelics, weight: 70}, {path: pairs, weight: 30}, {path: pdfs, weight: 0}]
        stages:
          - {name: first, steps: 50, resolution: 384, sequence: {obelics: 2048, pairs: 1536}, train: [connector, lora]}
          - name: second
            weights: {obelics: 45, pairs: 35, pdfs: 20}
            resolution: 980
            sequence: {obelics: 2048, pairs: 1536, pdfs: 1024}
        """,
    )
    mixture = built.mixture
    assert mixture.counts(5000).tolist() == [3500, 1500, 0]
    assert (mixture.counts(15_000) - mixture.counts(5000)).tolist() == [4500, 3500, 2000]
    first, second = mixture.stage_at(49), mixture.stage_at(50)
    assert (first.name, first.resolution, first.train, second.name, second.resolution) == (
        "first",
        384,
        ("connector", "lora"),
        "second",
        980,
    )
    assert isinstance(second.sequence, dict)
    assert second.sequence["pdfs"] == 1024
    source, epoch, row = mixture.locate(np.arange(15_000))
    assert np.unique(np.stack([source, epoch, row]), axis=1).shape[1] == 15_000


def test_blip_sees_another_fifth_of_laion_each_pass_and_same_fifths_again(tmp_path: Path) -> None:
    listed(tmp_path, {"laion": 1150, "cc": 140}, per_shard=30)
    built = composed(tmp_path, "mode: concat\nsources: [{path: laion, rotate: 5}, {path: cc}]")
    size = built.mixture.manifest.epoch
    assert size == 230 + 140
    source, _, row = built.mixture.locate(np.arange(10 * size))
    fifths = [
        frozenset(row[n * size : (n + 1) * size][source[n * size : (n + 1) * size] == 0].tolist()) for n in range(10)
    ]
    assert fifths[:5] == fifths[5:]
    assert frozenset().union(*fifths[:5]) == frozenset(range(1150))
    assert all(len(fifth) == 230 for fifth in fifths)
    again = row[5 * size : 6 * size][source[5 * size : 6 * size] == 0]
    assert again.tolist() != row[:size][source[:size] == 0].tolist()


def test_blip2_gives_one_of_two_texts_by_uid_and_epoch_alone(tmp_path: Path) -> None:
    listed(tmp_path, {"pairs": 100})
    built = composed(tmp_path, "sources: [{path: pairs, texts: [first, second], templates: {a: 3, b: 1}}]")
    mixture = built.mixture
    chosen = [[mixture.choose(0, f"uid{n}", epoch) for epoch in range(4)] for n in range(2000)]
    again = mix.load(tmp_path / "mixture.json")
    assert chosen[7] == [again.choose(0, "uid7", epoch) for epoch in range(4)]
    for epoch in range(4):
        assert abs(Counter(row[epoch] for row in chosen)["first"] - 1000) < 120
    both = sum(len(set(row)) == 2 for row in chosen)
    assert abs(both - 2000 * 7 / 8) < 80
    templates = Counter(mixture.choose(0, f"uid{n}", 0, "template") for n in range(2000))
    assert abs(templates["a"] - 1500) < 100
    assert mixture.choose(0, "uid7", 0, "system") is None


def test_cauldron_gives_shares_of_answer_tokens_not_of_samples(tmp_path: Path) -> None:
    a_dataset(tmp_path / "hermes", 200, answer_tokens=[300] * 200)
    a_dataset(tmp_path / "vqav2", 400, answer_tokens=[2, 4] * 200)
    text = "unit: answer_tokens\nsources: [{path: hermes, weight: 12.73}, {path: vqav2, weight: 5.72}]"
    built = composed(tmp_path, text)
    shares = drawn_shares(built)
    tokens = {"hermes": shares["hermes"] * 300, "vqav2": shares["vqav2"] * 3}
    assert tokens["hermes"] / sum(tokens.values()) == pytest.approx(12.73 / (12.73 + 5.72), abs=1e-4)
    assert [s.share for s in built.mixture.manifest.datasets] == pytest.approx([12.73 / 18.45, 5.72 / 18.45])


CAULDRON = {
    **{"openhermes": 12.73, "metamathqa": 3.81, "text-rest": 9.87, "renderedtext": 5.57, "ocr-rest": 11.90},
    **{"chart2text": 4.38, "dvqa": 4.27, "charts-rest": 5.40, "tables": 11.30, "vqav2": 5.72, "vqa-rest": 5.30},
    **{"geomverse": 3.83, "reasoning-rest": 6.49, "lnarratives": 4.56, "captions-rest": 0.58, "differences": 2.38},
    **{"textbooks": 1.58, "websight": 0.28, "code-rest": 0.03},
}
"""Percent of the answer tokens; the groups add up to 99.98."""


def test_cauldron_groups_keep_their_shares_of_answer_tokens_throughout(
    tmp_path: Path,
) -> None:
    """The Cauldron's groups and largest sets have their shares of answer tokens at every moment."""
    place, rng = tmp_path / "work" / "cauldron", np.random.default_rng(8)
    lengths = {name: rng.geometric(1 / (5 + 7 * n), 400 + 50 * n) for n, name in enumerate(CAULDRON)}
    measured(place, lengths, 100, "answer_tokens")
    spec = load(ROOT / "recipes" / "mixtures" / "cauldron.yaml", mix.MixtureSpec)
    mixture = mix.compose(spec, tmp_path, tmp_path / "mixture.json").mixture
    groups: Counter[str] = Counter()
    for source in mixture.manifest.datasets:
        groups[source.group or source.name] += source.share * 0.9998
    published = {"text": 26.41, "ocr": 17.47, "charts": 14.05, "tables": 11.30, "vqa": 11.02, "reasoning": 10.32}
    published |= {"captions": 5.14, "differences": 2.38, "textbooks": 1.58, "code": 0.31}
    assert dict(groups) == pytest.approx({name: share / 100 for name, share in published.items()}, abs=1e-9)
    source, _, row = mixture.locate(np.arange(50_000))
    tokens = np.zeros((len(lengths), 50_000), np.int64)
    for number, of in enumerate(lengths.values()):
        tokens[number, source == number] = of[row[source == number]]
    so_far = tokens.cumsum(axis=1)
    wanted = np.array([share / 99.98 for share in CAULDRON.values()])[:, None] * so_far.sum(axis=0)
    assert np.abs(so_far - wanted).max() < 1.5 * max(of.max() for of in lengths.values())


EXPECTED: dict[str, dict[str, float]] = {
    "cauldron": {name: share / 99.98 for name, share in CAULDRON.items()},
    "mm1": {"alt": 0.4185, "vecap": 0.0315, "pages": 0.45, "text": 0.10},
    "x-instructblip": {name: share for name, (_, share) in INSTRUCT_BLIP.items()},
    "idefics2": {"obelics": 0.7, "pairs": 0.3, "pdfs": 0},
    "flamingo": {"m3w": 1 / 1.43, "align": 0.2 / 1.43, "ltip": 0.2 / 1.43, "vtp": 0.03 / 1.43},
    "blip": {"coco": 100 / 720, "vg": 100 / 720, "cc3m": 100 / 720, "cc12m": 100 / 720, "sbu": 100 / 720}
    | {"laion": 220 / 720},
    "cambrian-7m": {"language": 0.2092, "general": 0.3438, "ocr": 0.2711, "counting": 0.0868, "math": 0.0717}
    | {"code": 0.0087, "science": 0.0088},
}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "mixtures").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_mixture_that_is_shipped_gives_what_its_header_says(tmp_path: Path, path: Path) -> None:
    sizes = {name: size for name, (size, _) in INSTRUCT_BLIP.items()} if path.stem == "x-instructblip" else {}
    sizes["laion"] = 1100
    expected = EXPECTED[path.stem]
    spec = load(path, mix.MixtureSpec)
    place = (tmp_path / entry_paths(spec.sources)[0]).parent
    if spec.unit == "samples":
        listed(place, {name: sizes.get(name, 100) for name in expected}, per_shard=100_000)
    else:
        measured(place, {name: np.arange(1, 101) for name in expected}, 100, spec.unit)
    built = mix.compose(spec, tmp_path, tmp_path / "mixture.json")
    for source in built.mixture.manifest.datasets:
        assert source.share == pytest.approx(expected[source.name], abs=5e-5)
    assert mix.load(tmp_path / "mixture.json").manifest == built.mixture.manifest
    header = path.read_text().split("\nseed")[0]
    assert f"curate mix recipes/mixtures/{path.name} -o work/" in header
    assert "expected result" in header


def entry_paths(entries: Sequence[Entry]) -> list[str]:
    return [path for e in entries for path in ([e.path] if e.path else entry_paths(e.sources))]
