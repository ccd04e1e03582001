"""A mixture of experts in the place of a feed-forward: each token goes through the best two of many.

MM1's (2403.09611, 3.5: top 2, balance 0.01, z 0.001) is of AXLearn, after GShard (Lepikhin et al. 2006.16668): gates
are a softmax over all experts, the two largest made to sum to one again, and the balance loss counts first choices
only. So it is here. Both cap what an expert takes and let the rest pass it by; here nothing is dropped (as in
MegaBlocks, 2211.15841), or a document would be worth something else beside other documents.

Shapes: B x T tokens, N of them in a list, D width, H hidden width, E experts, A experts a token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from curate.settings import Settings


class ExpertsConfig(Settings):
    """Settings of the mixtures: in each `every`-th layer one of `count` experts, of which a token goes through `top`.

    `balance` and `z` weigh two losses of the router: expert use that is not even (GShard), large scores (ST-MoE, Zoph
    et al. 2202.08906). MM1: 64 experts every 2 layers of its 3B, 32 every 4 of its 7B.
    """

    count: Annotated[int, Field(ge=2)]
    top: Annotated[int, Field(ge=1)] = 2
    every: Annotated[int, Field(ge=1)] = 2
    balance: Annotated[float, Field(ge=0.0)] = 0.01
    z: Annotated[float, Field(ge=0.0)] = 0.001

    @model_validator(mode="after")
    def _enough(self) -> ExpertsConfig:
        if self.top > self.count:
            raise ValueError(f"top {self.top} of {self.count} experts: there are not so many")
        return self

    def at(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) has a mixture: with `every` 2, layers 1, 3, 5 ..."""
        return (layer + 1) % self.every == 0


def hidden_width(width: int) -> int:
    """H of a SwiGLU of about as many parameters as a plain feed-forward of 4 D: 8/3 D (Shazeer 2002.05202)."""
    return 8 * math.ceil(width / 3)


class SwiGlu(nn.Module):
    """The dense feed-forward: silu(gate) x up, then down (Shazeer 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden_width(width), bias=False)
        self.down = nn.Linear(hidden_width(width), width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """y_BTD."""
        return swiglu(x_BTD, self.gate_up.weight, self.down.weight)


def swiglu(x_ND: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """y_ND by weights of 2H x D and D x H."""
    gate, up = F.linear(x_ND, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


class Experts(nn.Module):
    """E feed-forwards and a router; a token's is the sum of its A best, weighed by its gates.

    `scores_BTE`: what the router said in the last forward; of it `losses` are made.
    """

    def __init__(self, width: int, depth: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        hidden = hidden_width(width)
        self.router = nn.Linear(width, config.count, bias=False)
        self.gate_up = nn.Parameter(torch.empty(config.count, 2 * hidden, width))
        self.down = nn.Parameter(torch.empty(config.count, width, hidden))
        nn.init.normal_(self.router.weight, std=width**-0.5)
        nn.init.normal_(self.gate_up, std=width**-0.5)
        nn.init.normal_(self.down, std=hidden**-0.5 / math.sqrt(2 * depth))
        self.scores_BTE: Tensor | None = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """y_BTD."""
        with torch.autocast(x_BTD.device.type, enabled=False):  # of rounded scores a router does not learn (ST-MoE 4)
            scores_BTE = F.linear(x_BTD.float(), self.router.weight.float())
        self.scores_BTE = scores_BTE
        gates_BTA, chosen_BTA = scores_BTE.softmax(-1).topk(self.config.top)
        gates_BTA = gates_BTA / gates_BTA.sum(-1, keepdim=True)
        y_ND = self._through(x_BTD.flatten(0, 1), chosen_BTA.flatten(0, 1), gates_BTA.flatten(0, 1))
        return y_ND.view_as(x_BTD)

    def _through(self, x_ND: Tensor, chosen_NA: Tensor, gates_NA: Tensor) -> Tensor:
        """Tokens sorted by expert, each expert's through it at once, and every token's sum."""
        order = chosen_NA.flatten().argsort(stable=True)
        token, counts = order // self.config.top, chosen_NA.flatten().bincount(minlength=self.config.count).tolist()
        parts = zip(torch.split(x_ND[token], counts), self.gate_up, self.down, strict=True)
        done = torch.cat([swiglu(x, gate_up, down) for x, gate_up, down in parts])
        weighed = done * gates_NA.flatten()[order, None].to(done.dtype)
        return torch.zeros_like(x_ND, dtype=done.dtype).index_add(0, token, weighed)

    def losses(self, there_BT: Tensor | None) -> Tensor:
        """Balance and z loss of the last forward, each times its weight, over the tokens that are there.

        Even use costs `balance` x 1, one expert alone `balance` x E.
        """
        assert self.scores_BTE is not None, "no forward yet"
        scores_NE = self.scores_BTE.flatten(0, 1) if there_BT is None else self.scores_BTE[there_BT]
        count = self.config.count
        first_E = F.one_hot(scores_NE.argmax(-1), count).float().mean(0)
        balance = count * (first_E * scores_NE.softmax(-1).mean(0)).sum()
        return self.config.balance * balance + self.config.z * scores_NE.logsumexp(-1).square().mean()


def upcycled(weights: Mapping[str, Tensor], sparse: nn.Module) -> dict[str, Tensor]:
    """Weights of a dense model as those of one with experts, each a copy of the feed-forward that it replaces.

    Sparse upcycling (Komatsuzaki et al. 2212.05055). Of the routers nothing is said, and they stay as they were drawn;
    since gates sum to one, the logits are the dense model's, to rounding, until the first step.
    """
    found = dict(weights)
    for name, module in sparse.named_modules():
        for matrix in ("gate_up", "down") if isinstance(module, Experts) else ():
            if (dense := found.pop(f"{name}.{matrix}.weight", None)) is not None:
                found[f"{name}.{matrix}"] = dense.expand(module.config.count, -1, -1).clone()
    return found
