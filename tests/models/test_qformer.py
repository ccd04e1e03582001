"""The Q-Former: its published sizes, who sees whom, `transformers`' own modules given the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from curate.models.connectors.qformer import QFormerConfig, QFormerConnector
from curate.models.connectors.table import connector_of
from curate.models.features import Features, ReadTexts, TowerShape
from curate.models.files import ModelError
from curate.models.qformer import QFormer, QFormerShape
from curate.models.qformer_weights import load_published, of_transformers, start_from_bert

SMALL: dict[str, Any] = {"queries": 4, "width": 32, "layers": 3, "heads": 2, "hidden": 48, "positions": 20}
VISION = 24


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def picture(rows: int = 2, vectors: int = 9, there: Tensor | None = None) -> Features:
    return Features(torch.randn(rows, vectors, VISION), (3, 3), there)


def text(*lengths: int, ids: int = 50) -> ReadTexts:
    there = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return ReadTexts(torch.randint(0, ids, there.shape), there)


def small(**changed: Any) -> QFormer:
    torch.manual_seed(0)
    return QFormer(QFormerShape(VISION, **{**SMALL, "ids": 50, **changed})).eval()


@pytest.mark.parametrize(
    ("vision", "width", "instruction", "whole", "trained"),
    [  # InstructBLIP's "188M", BLIP-2's stage two "107M", "108M", "104M", "103M" (papers)
        (1408, 4096, True, 188_837_376, 188_834_560),
        (1408, 2560, False, 107_133_696, 107_130_880),
        (1408, 4096, False, 108_314_880, 108_312_064),
        (1408, 2048, False, 106_739_968, 106_737_152),
        (1024, 2560, False, 103_593_984, 103_591_936),
        (1024, 2048, False, 103_200_256, 103_198_208),
    ],
)
def test_published_sizes(vision: int, width: int, instruction: bool, whole: int, trained: int) -> None:
    shape = QFormerShape(vision, ids=30_523 if instruction else None)
    with torch.device("meta"):
        made = QFormerConnector(shape, 1, width)
        norm = nn.LayerNorm(vision)  # of the tower (`TowerConfig.norm`)
    assert [count(made) + count(norm), count(made)] == [whole, trained]


def test_published_sizes_of_the_transformer_itself() -> None:
    """As `transformers` counts its own: InstructBlipQFormerModel and Blip2QFormerModel, without queries."""
    with torch.device("meta"):
        sizes = {
            (vision, ids): QFormer(QFormerShape(vision, ids=ids))
            for vision, ids in ((1408, 30_523), (1408, None), (1024, None))
        }
    assert [count(m) for m in sizes.values()] == [185_684_736, 105_162_240, 101_623_296]
    assert [count(m) - m.queries.numel() for m in sizes.values()][:2] == [185_660_160, 105_137_664]


def seen_by(rows: list[Tensor], columns: list[nn.Parameter]) -> Tensor:
    """Which of the input vectors (rows of `columns`) each output vector depends on."""
    found = []
    for row in rows:
        grads = torch.autograd.grad(row.square().sum(), columns, retain_graph=True, allow_unused=True)
        parts = [torch.zeros(len(c)) if g is None else g.abs().sum(1) for g, c in zip(grads, columns, strict=True)]
        found.append(torch.cat(parts) > 0)
    return torch.stack(found)


@pytest.mark.parametrize(
    ("queries", "tokens", "ones"),
    [(2, 3, {"itc": 13, "itm": 25, "itg": 16}), (32, 32, {"itc": 2048, "itm": 4096, "itg": 2576})],
)
def test_who_sees_whom_in_each_task(queries: int, tokens: int, ones: dict[str, int]) -> None:
    """Read off what one block's outputs depend on; the masks' sums are those of LAVIS's own."""
    qformer = small(layers=1, queries=queries, positions=tokens, ids=tokens).double()
    assert qformer.words is not None
    look, given = picture(1), ReadTexts(torch.arange(tokens)[None], torch.ones(1, tokens, dtype=torch.bool))
    look = Features(look.x_MPD.double(), look.grid)
    columns = [qformer.queries, qformer.words.weight]
    nn.init.normal_(qformer.words.weight)
    nn.init.normal_(qformer.queries)
    (queries_alone, kept), text_alone = qformer.see(look), qformer.read(given)
    after = qformer.tell(given, kept)
    x = torch.cat((qformer.queries, qformer.words(given.ids_NT)[0] + qformer.positions.weight))[None]  # type: ignore[union-attr]
    joined = qformer.blocks[0](qformer.norm(x), look)[0]
    masks = {
        "itc": seen_by([*queries_alone[0], *text_alone[0]], columns),
        "itm": seen_by(list(joined[0]), columns),
        "itg": seen_by([*queries_alone[0], *after[0]], columns),
    }
    assert {task: int(mask.sum()) for task, mask in masks.items()} == ones
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    wanted = torch.zeros_like(masks["itg"])
    wanted[:, :queries] = True
    wanted[queries:, queries:] = causal
    assert torch.equal(masks["itg"], wanted)
    torch.testing.assert_close(qformer.join(look, given), joined[:, :queries])


def test_the_text_never_changes_the_queries_it_is_told_behind_and_the_picture_does() -> None:
    qformer = small()
    look, words = picture(1), text(6)
    _, kept = qformer.see(look)
    told = qformer.tell(words, kept)
    later = ReadTexts(words.ids_NT.clone(), words.there_NT)
    later.ids_NT[0, 4:] += 1
    torch.testing.assert_close(qformer.tell(later, kept)[:, :4], told[:, :4])
    assert not torch.allclose(qformer.tell(words, qformer.see(picture(1))[1]), told)


def test_padding_of_texts_and_of_pictures_is_not_seen() -> None:
    qformer = small()
    words, look = text(6, 3), picture()
    there = torch.ones(2, 9, dtype=torch.bool)
    there[1, 5:] = False
    padded, cut = Features(look.x_MPD, look.grid, there), Features(look.x_MPD[1:, :5], (1, 5))
    short = ReadTexts(words.ids_NT[1:, :3], words.there_NT[1:, :3])
    torch.testing.assert_close(qformer.join(padded, words)[1:], qformer.join(cut, short))
    torch.testing.assert_close(qformer.read(words)[1:, :3], qformer.read(short))
    kept, kept_short = qformer.see(padded)[1], qformer.see(cut)[1]
    torch.testing.assert_close(qformer.tell(words, kept)[1:, :3], qformer.tell(short, kept_short))


def theirs(kind: str, **changed: Any) -> Any:
    import transformers

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "encoder_hidden_size": VISION,
        "vocab_size": 50,
        "max_position_embeddings": 20,
        "cross_attention_frequency": 2,
        **changed,
    }
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}QFormerConfig")(**sizes)
    model = getattr(transformers, f"{kind}QFormerModel")(config).eval()
    for parameter in model.parameters():  # norms and biases too, that none is left where ours begin
        nn.init.normal_(parameter, std=0.3)
    return model


def test_equal_to_transformers_without_a_text() -> None:
    pytest.importorskip("transformers")
    model, ours = theirs("Blip2"), small(ids=None)
    queries, look = torch.randn(1, 4, 32), picture()
    weights = of_transformers({"query_tokens": queries, **{f"qformer.{n}": w for n, w in model.state_dict().items()}})
    ours.load_state_dict(weights)
    wanted = model(query_embeds=queries.expand(2, -1, -1), encoder_hidden_states=look.x_MPD).last_hidden_state
    torch.testing.assert_close(ours.see(look)[0], wanted, atol=1e-5, rtol=0)


def test_equal_to_transformers_with_an_instruction() -> None:
    pytest.importorskip("transformers")
    model, ours = theirs("InstructBlip"), small()
    queries, look, words = torch.randn(1, 4, 32), picture(), text(6, 3)
    ours.load_state_dict(of_transformers({"query_tokens": queries, **model.state_dict()}))
    wanted = model(
        input_ids=words.ids_NT,
        attention_mask=torch.cat((torch.ones(2, 4, dtype=torch.long), words.there_NT.long()), 1),
        query_embeds=queries.expand(2, -1, -1),
        encoder_hidden_states=look.x_MPD,
        encoder_attention_mask=torch.ones(2, 9, dtype=torch.long),
    ).last_hidden_state[:, :4]
    torch.testing.assert_close(ours.join(look, words), wanted, atol=1e-5, rtol=0)


def test_published_folder_loads_and_one_of_another_shape_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = theirs("InstructBlip", vocab_size=259)
    weights = {f"qformer.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
    half = len(weights) // 2  # published ones lie in several files, the decoder's weights among them
    names = sorted(weights)
    save_file({n: weights[n] for n in names[:half]}, tmp_path / "model-00001-of-00002.safetensors")
    rest = {n: weights[n] for n in names[half:]} | {"query_tokens": torch.randn(1, 4, 32)}
    rest |= {"language_model.lm_head.weight": torch.randn(3, 3), "language_projection.weight": torch.randn(16, 32)}
    save_file(rest, tmp_path / "model-00002-of-00002.safetensors")
    config = QFormerConfig(instruction=True, tokenizer="bytes", **SMALL)
    ours = config.build([TowerShape(VISION, (3, 3))], 16)
    load_published(ours, tmp_path)
    assert torch.equal(ours.queries, rest["query_tokens"][0]) and torch.equal(
        ours.out.weight, rest["language_projection.weight"]
    )
    assert torch.equal(ours.blocks[2].text_mlp.up.weight, model.encoder.layer[2].intermediate.dense.weight)  # type: ignore[union-attr]
    with pytest.raises(ModelError, match="no Q-Former of this shape"):
        load_published(QFormerConfig(**{**SMALL, "layers": 4}).build([TowerShape(VISION, (3, 3))], 16), tmp_path)
    with pytest.raises(ModelError, match="other formats are not read"):
        load_published(ours, tmp_path / "nothing")


def test_start_from_bert_copies_the_texts_feed_forwards_to_the_queries(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=49, max_position_embeddings=20, **sizes)).eval()
    bert.save_pretrained(tmp_path)
    ours = small()
    drawn = ours.blocks[0].cross.q.weight.clone()  # type: ignore[union-attr]
    start_from_bert(ours, tmp_path)
    block, layer = ours.blocks[1], bert.encoder.layer[1]
    for mlp in (block.text_mlp, block.query_mlp):
        assert torch.equal(mlp.down.weight, layer.output.dense.weight)  # type: ignore[union-attr]
    assert torch.equal(ours.blocks[0].cross.q.weight, drawn)  # type: ignore[union-attr]
    assert torch.equal(ours.words.weight[:49], bert.embeddings.word_embeddings.weight)  # type: ignore[union-attr]
    assert 0 < ours.words.weight[49].std() < 0.05  # type: ignore[union-attr]
    words = text(6, 3, ids=49)  # BERT's token type 0 is no weight of a Q-Former's: it is left out there too
    bert.embeddings.token_type_embeddings.weight.data.zero_()
    wanted = bert(input_ids=words.ids_NT, attention_mask=words.there_NT.long()).last_hidden_state
    torch.testing.assert_close(ours.read(words)[words.there_NT], wanted[words.there_NT], atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="room for"):
        start_from_bert(small(ids=30), tmp_path)


def test_every_view_is_asked_what_its_picture_is_asked() -> None:
    config = connector_of({"type": "qformer", "instruction": True, "tokenizer": "bytes", **SMALL})
    torch.manual_seed(0)
    connector = config.build([TowerShape(VISION, (3, 3), views=2)], 16).eval()
    assert connector.places == 8
    look, words = picture(4), text(5, 2)
    vectors = connector([look], text=words)
    assert vectors.shape == (2, 8, 16)
    second = connector.join(Features(look.x_MPD[2:], (3, 3)), ReadTexts(words.ids_NT[[1, 1]], words.there_NT[[1, 1]]))  # type: ignore[operator]
    torch.testing.assert_close(vectors[1], connector.out(second).flatten(0, 1))  # type: ignore[operator]
    assert not torch.allclose(connector([look], text=text(4, 4)), vectors)
