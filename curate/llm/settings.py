"""Settings of a chat model's endpoint in a recipe: where it is, how it may be asked, what may be spent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from curate.settings import PathText, Settings

Seconds = Annotated[float, Field(gt=0, le=86_400)]
DollarsPerMillion = Annotated[float, Field(ge=0, le=1_000_000)]


class Price(Settings):
    """Dollars for a million tokens."""

    input: DollarsPerMillion
    output: DollarsPerMillion


class Budget(Settings):
    """Bounds on all that runs in one output folder spend together; none where none is said."""

    usd: float | None = Field(None, ge=0, description="Dollars, by the price of the model.")
    requests: int | None = Field(None, ge=0, description="Requests that are sent; answers from the cache are none.")
    tokens: int | None = Field(None, ge=0, description="Tokens sent and received.")


class Endpoint(Settings):
    """An OpenAI-compatible endpoint and how it is asked. Times are seconds.

    Pauses are kept by all workers of a run together: `requests_per_minute` and `tokens_per_minute` in every span of 60
    s; `concurrency` is the most requests at once, grown by one where answers come and halved where the endpoint says
    429. A request is tried `tries` times where the endpoint fails (5xx, broken connections, answers that are no JSON).
    `patience_s`: the run ends where the endpoint answered nothing but 429, or not at all, for so long.
    """

    url: str = Field(description="The base URL, such as https://api.openai.com/v1.")
    model: str = Field(min_length=1, description="The model's name as the endpoint knows it.")
    key: str | None = Field(
        "OPENAI_API_KEY", description="The environment variable that holds the key; null where none is wanted."
    )
    answers_as: str | None = Field(
        None, description="The model's name in answers, where the endpoint calls it otherwise than it is asked for."
    )
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the endpoint calls the bound of an answer's tokens."
    )
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    concurrency: int = Field(64, ge=1, le=4096)
    timeout_s: Seconds = Field(120.0, description="For one request, answer included.")
    tries: int = Field(5, ge=1, le=100)
    patience_s: Seconds = 900.0
    picture_tokens: int = Field(1105, ge=0, description="Tokens that a picture counts for before the endpoint says.")
    price: Price | None = Field(None, description="Dollars for a million tokens; unsaid: from the bundled table.")
    budget: Budget = Budget()
    cache: PathText | None = Field(
        None, description="The folder of answers, shared by runs and recipes; unsaid: `answers` in the run's output."
    )
    durable: bool = Field(False, description="Answers survive a loss of power, too, not only the death of the run.")

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r}: expected the base URL of an endpoint, such as https://api.openai.com/v1")
        return value.rstrip("/")

    @field_validator("key")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            # The value itself may be the key: it is not shown.
            raise ValueError("key: the name of an environment variable is wanted, such as OPENAI_API_KEY, never a key")
        return value
