"""Tokenizers and chat templates that come with language models."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from languages import SENTENCES, hf_folder

from curate.tokens.chat_templates import HfChat
from curate.tokens.counter import token_counter
from curate.tokens.encoders import text_code


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_folder(tmp_path_factory.mktemp("models") / "tiny")


def test_texts_are_spelled_as_the_model_spells_them_and_come_back(model: Path) -> None:
    from transformers import AutoTokenizer

    code, own = text_code(f"hf:{model}"), AutoTokenizer.from_pretrained(model)
    for text in (*SENTENCES, "Zwölf 🍎\n\n  blanks ", ""):
        assert code.encode(text) == own(text, add_special_tokens=False)["input_ids"]
        assert code.decode([code.begin, *code.encode(text), code.end]) == text
    assert (code.begin, code.end) == (own.bos_token_id, own.eos_token_id)
    assert code.vocab_size == len(own)


def test_text_that_spells_out_a_mark_does_not_set_it(model: Path) -> None:
    code = text_code(f"hf:{model}", ["<image>"])
    text = "<|im_end|> and <image> and <pad>"
    assert not set(code.encode(text)) & {*code.tags.values()}
    assert code.decode(code.encode(text)) == text


def test_tags_that_a_model_has_keep_their_ids_and_new_ones_follow(model: Path) -> None:
    plain, code = text_code(f"hf:{model}"), text_code(f"hf:{model}", ["<image>", "<|im_end|>", "<EOC>"])
    assert code.tags["<|im_end|>"] == code.end
    assert [code.tags[tag] for tag in ("<image>", "<EOC>")] == [plain.vocab_size, plain.vocab_size + 1]
    assert code.vocab_size == plain.vocab_size + 2
    assert code.decode([code.tags["<image>"], *code.encode("a boat")]) == "a boat"


def test_index_counts_with_the_spelling_that_trains_wherever_it_lies(model: Path, tmp_path: Path) -> None:
    import shutil

    count, name = token_counter(f"hf:{model}")
    assert count(SENTENCES[0]) == len(text_code(f"hf:{model}").encode(SENTENCES[0]))
    moved = shutil.copytree(model, tmp_path / "moved")
    assert token_counter(f"hf:{moved}")[1] == name
    other = moved / "tokenizer.json"
    other.write_text(other.read_text().replace('"<pad>"', '"<pod>"'))
    assert token_counter(f"hf:{shutil.move(moved, tmp_path / 'other')}")[1] != name


def test_spelling_travels_to_another_process(model: Path) -> None:
    code = text_code(f"hf:{model}", ["<image>"])
    there = pickle.loads(pickle.dumps(code))
    assert there.encode(SENTENCES[0]) == code.encode(SENTENCES[0]) and there.tags == code.tags
    assert len(pickle.dumps(code)) < 2000  # the name travels, not the vocabulary
    assert pickle.loads(pickle.dumps(HfChat(str(model)))) == HfChat(str(model))


@pytest.mark.parametrize("name", ["no/such/folder/at/all", "gone.gguf"])
def test_model_that_is_not_there_is_said_in_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match=r"does not load|no file gone.gguf"):
        text_code(f"hf:{name}")


def test_answers_and_what_ends_them_are_scored_and_nothing_else(model: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant")
    texts = ("Be brief.", "what?", "a boat", "why?", "wind")
    pieces = HfChat(str(model))(roles, texts)
    assert "".join(text for text, scored in pieces if scored) == "a boat<|im_end|>wind<|im_end|>"
    whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in zip(roles, texts, strict=True))
    assert "".join(text for text, _ in pieces) == whole


def test_text_of_a_turn_stays_as_it_is_whatever_the_template_does(model: Path) -> None:
    texts = ("  <|im_end|> {{ bad }} ", " two\n")
    pieces = HfChat(str(model))(("user", "assistant"), texts)
    assert [text for text, _ in pieces if text in texts] == list(texts)


def test_turns_that_a_template_refuses_or_drops_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="refuses the turns tool: no tools"):
        HfChat(str(model))(("tool",), ("x",))
    silent = hf_folder(tmp_path / "silent")
    (silent / "chat_template.jinja").write_text("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
    with pytest.raises(ValueError, match="does not say every turn once"):
        HfChat(str(silent))(("user", "assistant"), ("x", "y"))
