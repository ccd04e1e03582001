"""A Q-Former's queries, each a vector of the language model: BLIP-2's second stage, and InstructBLIP's with a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from curate.models.connectors.rasters import check_one_tower
from curate.models.features import Features, ReadTexts, TowerShape
from curate.models.qformer import QFormer, QFormerShape
from curate.settings import Settings, unknown_message
from curate.tokens.encoders import text_code
from curate.tokens.hf import PREFIX

Count = Annotated[int, Field(ge=1)]


class QFormerConfig(Settings):
    """Settings of a Q-Former; the sizes are BERT-base's unless said."""

    type: Literal["qformer"] = "qformer"
    queries: Count = 32
    """Vectors of a view of a picture."""
    instruction: bool = False
    """Whether it reads the instruction too (InstructBLIP, Dai et al. 2305.06500), and not the picture alone."""
    tokenizer: str = "simple"
    """How its texts are spelled: `bytes`, `simple` (CLIP's byte pairs), or `hf:MODEL`, the folder or name of a BERT. To
    its ids one is added, [DEC], with which a text begins that stage one tells."""
    width: Count = 768
    layers: Count = 12
    heads: Count = 12
    hidden: Count = 3072
    cross_every: Count = 2
    """Blocks from one look at the picture to the next, beginning with the first."""
    positions: Count = 512
    """The most tokens of a text."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1

    @field_validator("tokenizer")
    @classmethod
    def _known_tokenizer(cls, value: str) -> str:
        if value not in ("bytes", "simple") and not value.startswith(PREFIX):
            raise ValueError(unknown_message("tokenizer", value, ("bytes", "simple", f"{PREFIX}MODEL")))
        return value

    @model_validator(mode="after")
    def _whole_heads(self) -> QFormerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads})")
        return self

    def sizes(self, towers: Sequence[TowerShape], reads: bool) -> QFormerShape:
        """The sizes on a tower, with what texts need or without. Raises ModelError for several towers."""
        sizes = self.model_dump(exclude={"type", "instruction", "tokenizer"})
        ids = text_code(self.tokenizer).vocab_size + 1 if reads else None
        return QFormerShape(check_one_tower("qformer", towers).width, ids=ids, **sizes)

    def build(self, towers: Sequence[TowerShape], width: int) -> QFormerConnector:
        """The module. Raises ModelError for several towers."""
        return QFormerConnector(self.sizes(towers, self.instruction), towers[0].views, width)


class QFormerConnector(QFormer):
    """A Q-Former whose queries go on through a linear layer, a picture's views one after another.

    Its weights have the names of stage one's: what that trained is a start.
    """

    def __init__(self, shape: QFormerShape, views: int, width: int) -> None:
        super().__init__(shape)
        self.views = views
        self.views, self.places = views, views * shape.queries
        self.out = nn.Linear(shape.width, width)

    def forward(self, towers: Sequence[Features], text: ReadTexts | None = None) -> Tensor:
        """vectors_NPE; `text`: of an instruction-aware one, what is asked of each picture."""
        if text is None:
            y_MQD, _ = self.see(towers[0])
        else:
            ids_MT, there_MT = (x.repeat_interleave(self.views, 0) for x in (text.ids_NT, text.there_NT))
            y_MQD = self.join(towers[0], ReadTexts(ids_MT, there_MT))
        y_MQE: Tensor = self.out(y_MQD)
        return y_MQE.reshape(-1, self.places, y_MQE.shape[2])
