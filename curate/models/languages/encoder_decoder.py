"""Encoder-decoder models of `transformers` (T5 and its like): what is asked goes in, the answer comes out.

BLIP-2 with FlanT5 (2301.12597, 3.3): a picture's vectors go before the encoder's input, the loss is on the output.

Shapes: B rows, T positions, S of what is asked, A of the answer, D width, N tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from curate.models.files import ModelError
from curate.models.languages.face import Between
from curate.models.languages.pretrained import PretrainedConfig, PretrainedNetwork, pretrained


class EncoderDecoderConfig(PretrainedConfig):
    """An encoder-decoder of `transformers`."""

    type: Literal["encoder_decoder"]

    def build(self, tags: Sequence[str] = ()) -> EncoderDecoder:
        """The module. Raises ValueError, which ModelError is, also for tags that it has not itself."""
        own, code = self.code(), self.code(tags)
        if new := sorted(tag for tag, number in code.tags.items() if number >= own.vocab_size):
            raise ModelError(f"an encoder_decoder gets no tags beside its own, and {', '.join(new)} are none of them")
        return EncoderDecoder(pretrained(self.model, "AutoModelForSeq2SeqLM"), own.end, self)


class EncoderDecoder(PretrainedNetwork):
    """An encoder-decoder of `transformers`. A row is [begin, what is asked, answer, `end`].

    Its encoder reads what is asked and an end, its decoder begins with a mark of its own in place of the row's.
    """

    def __init__(self, net: Any, end: int, config: EncoderDecoderConfig) -> None:
        _check_scores(net)
        super().__init__(net, config)
        self.width, self.depth = net.get_input_embeddings().embedding_dim, 0
        self.longest = int(getattr(net.config, "max_position_embeddings", 1 << 20))
        self.end = end

    def embed(self, ids_BT: Tensor) -> Tensor:
        """x_BTD of ids, of either side."""
        x_BTD: Tensor = self.net.get_input_embeddings()(ids_BT)
        return x_BTD

    def forward(self, x_BTD: Tensor, asked_B: Tensor) -> Tensor:
        """y_BAD of rows whose first `asked_B` places are begin and what is asked: y at a is of the place asked + a.

        A is the most that any row has left; where a row has less, its last place is repeated.
        """
        T, device = x_BTD.shape[1], x_BTD.device
        encoded_BSD, there_BS = self._encode(x_BTD, asked_B)
        before_BA = asked_B[:, None] - 1 + torch.arange(T - int(asked_B.min()), device=device)
        x_BAD = _at(x_BTD, before_BA.clamp(max=T - 1))
        x_BAD = torch.cat((self._start(x_BAD), x_BAD[:, 1:]), 1)
        y_BAD: Tensor = self._decoder()(
            inputs_embeds=x_BAD, encoder_hidden_states=encoded_BSD, encoder_attention_mask=there_BS, use_cache=False
        ).last_hidden_state
        return y_BAD

    def go_on(self, x_BTD: Tensor, seen: list[Any], between: Between | None = None) -> Tensor:
        """y_B1D of the answer so far: in the first call, to the rows asked; then by its last token, one at a time.

        `seen` is empty at first, and holds what the encoder read and the decoder's keys and values.
        """
        from transformers import DynamicCache, EncoderDecoderCache

        assert between is None, "nothing goes between the layers of an encoder-decoder"
        if not seen:
            whole_B = torch.full((len(x_BTD),), x_BTD.shape[1], device=x_BTD.device)
            seen += [*self._encode(x_BTD, whole_B), EncoderDecoderCache(DynamicCache(), DynamicCache())]
            x_BTD = self._start(x_BTD)
        y_B1D: Tensor = self._decoder()(
            inputs_embeds=x_BTD,
            encoder_hidden_states=seen[0],
            encoder_attention_mask=seen[1],
            past_key_values=seen[2],
            use_cache=True,
        ).last_hidden_state
        return y_B1D

    def logits(self, y_ND: Tensor) -> Tensor:
        """scores_NV."""
        scores_NV: Tensor = self.net.get_output_embeddings()(y_ND * _scale(self.net.config))
        return scores_NV

    def _encode(self, x_BTD: Tensor, asked_B: Tensor) -> tuple[Tensor, Tensor]:
        """(what the encoder reads in the places from 1 to `asked_B` and an end, BSD; where there is something, BS)."""
        place_S = torch.arange(int(asked_B.max()), device=x_BTD.device)
        inside_BS = place_S < asked_B[:, None] - 1
        x_BSD = _at(x_BTD, (place_S + 1).clamp(max=x_BTD.shape[1] - 1).expand(len(x_BTD), -1))
        end_11D = self.embed(torch.tensor([[self.end]], device=x_BTD.device))
        x_BSD = torch.where(inside_BS.unsqueeze(-1), x_BSD, end_11D.to(x_BSD.dtype))
        there_BS = place_S < asked_B[:, None]
        encoded_BSD: Tensor = self.net.get_encoder()(inputs_embeds=x_BSD, attention_mask=there_BS).last_hidden_state
        return encoded_BSD, there_BS

    def _start(self, x_BTD: Tensor) -> Tensor:
        """x_B1D of the mark that the decoder begins with."""
        start = self.net.config.decoder_start_token_id
        return self.embed(torch.full((len(x_BTD), 1), start, device=x_BTD.device)).to(x_BTD.dtype)

    def _decoder(self) -> Any:
        return self.net.get_decoder()


def _at(x_BTD: Tensor, places_BA: Tensor) -> Tensor:
    return x_BTD.gather(1, places_BA.unsqueeze(-1).expand(-1, -1, x_BTD.shape[2]))


def _scale(config: Any) -> float:
    """The factor of T5's last states where one embedding was trained for all: in its first version, not in Flan's."""
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0


def _check_scores(net: Any) -> None:
    """Raise ModelError for a network whose parts do not make its scores as they do here."""
    embedding = net.get_input_embeddings()
    if embedding.weight.is_meta:
        return
    ids_BT = torch.arange(3)[None]
    with torch.no_grad():
        own = net.eval()(input_ids=ids_BT, decoder_input_ids=ids_BT, use_cache=False).logits
        encoded = net.get_encoder()(inputs_embeds=embedding(ids_BT)).last_hidden_state
        y_BAD = net.get_decoder()(inputs_embeds=embedding(ids_BT), encoder_hidden_states=encoded).last_hidden_state
        ours = net.get_output_embeddings()(y_BAD * _scale(net.config))
    if not torch.allclose(own, ours, rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"{type(net).__name__}: its scores are not its output matrix times its decoder's last state, which is not"
            " followed here; take T5 or its like"
        )
