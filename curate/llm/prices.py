"""Prices of tokens: a recipe's own, or those of a kept table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from curate.extras import require
from curate.llm.settings import Endpoint


@dataclass(frozen=True)
class PicoPrice:
    """Trillionths of a dollar for a token, in and out; a table's dollars for a million tokens, times a million."""

    input: int
    output: int

    def share(self, part: float) -> PicoPrice:
        """A part of the price, rounded up."""
        return PicoPrice(*(math.ceil(Fraction(str(part)) * whole) for whole in (self.input, self.output)))

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """The price of so many tokens in billionths of a dollar, rounded up."""
        return -(-(self.input * input_tokens + self.output * output_tokens) // 1000)


FREE = PicoPrice(0, 0)
"""The price of what has none, and of what is not known where no money is bounded."""


def find_price(endpoint: Endpoint) -> PicoPrice:
    """The price that the recipe says, else that of the bundled table (genai-prices), else FREE.

    Raises ValueError where money is bounded and the price is not known.
    """
    if endpoint.price is None and endpoint.is_served_here:
        return FREE
    if endpoint.price is not None:
        return PicoPrice(*(_pico(Fraction(str(dollars))) for dollars in (endpoint.price.input, endpoint.price.output)))
    found = _listed(endpoint)
    if found is None and endpoint.budget.usd is not None:
        raise ValueError(
            f"llm.budget.usd: the price of model {endpoint.model!r} at {endpoint.url} is not known; write"
            " price: {input: ..., output: ...} in dollars for a million tokens (0 where it costs nothing), or bound"
            " `requests` or `tokens` instead"
        )
    return found or FREE


def _listed(endpoint: Endpoint) -> PicoPrice | None:
    require("prices of chat models", "genai_prices")
    import genai_prices

    def pico(input_tokens: int, output_tokens: int) -> int:
        usage = genai_prices.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        found = genai_prices.calc_price(usage, endpoint.model, provider_api_url=endpoint.url)
        return _pico(Fraction(found.total_price) * 1000)

    try:
        # Some models cost more in a long prompt; a thousand tokens are in the first step of every one.
        return PicoPrice(pico(1000, 0), pico(0, 1000))
    except LookupError:
        return None


def _pico(dollars_per_million: Fraction) -> int:
    return math.ceil(dollars_per_million * 10**6)
