"""Settings of a chat model's endpoint in a recipe: where it is, how it may be asked, what may be spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

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


LOCAL, VLLM = "local", "vllm"
"""What stands as `url` where a run serves the model itself."""


class Serving(Settings):
    """Settings of a model that the run serves itself: `url: local` or `url: vllm`."""

    context_tokens: int = Field(4096, ge=128, description="The most tokens of a prompt and its answer together.")
    threads: int | None = Field(None, ge=1, le=1024, description="Of `local`; unsaid: half as many as processors.")
    gpus: int = Field(1, ge=1, le=1024, description="Of `vllm`: GPUs that the model is spread over.")
    arguments: tuple[str, ...] = Field((), description="Of `vllm`: more words of its command line.")


class BatchMode(Settings):
    """Settings of an endpoint's batches: files of requests, answered within a day at a lower price.

    The bounds are those of OpenAI's. What all workers ask for is gathered until nothing more comes for `gather_s`.
    """

    price_share: float = Field(0.5, ge=0, le=1, description="What is paid of the price.")
    most_requests: int = Field(50_000, ge=1, le=50_000, description="In a batch.")
    most_bytes: int = Field(190_000_000, ge=1 << 10, le=200_000_000, description="Of a batch's file.")
    enqueued_tokens: int | None = Field(
        None, ge=1, description="Tokens of prompts that may be waiting at the endpoint at once; unsaid: as it allows."
    )
    gather_s: Seconds = 30.0
    poll_s: Seconds = 30.0


class Endpoint(Settings):
    """An OpenAI-compatible endpoint and how it is asked. Times are seconds.

    Pauses are kept by all workers of a run together: `requests_per_minute` and `tokens_per_minute` in every span of 60
    s; `concurrency` is the most requests at once, grown by one where answers come and halved where the endpoint says
    429. A request is tried `tries` times where the endpoint fails (5xx, broken connections, answers that are no JSON).
    `patience_s`: the run ends where the endpoint answered nothing but 429, or not at all, for so long.
    """

    url: str = Field(
        description="The base URL, such as https://api.openai.com/v1; `local`: the run serves a GGUF file by llama.cpp;"
        " `vllm`: it serves a model by vLLM, on GPUs."
    )
    model: str = Field(min_length=1, description="The model's name as the endpoint knows it; of `local`, its file.")
    known_as: str | None = Field(
        None,
        min_length=1,
        description="What its answers are kept under; unsaid: `url` and `model`. A name that stays keeps what was paid"
        " for when the same model is asked at another place.",
    )
    server: Serving | None = Field(None, description="How it is served, where `url` is `local` or `vllm`.")
    key: str | None = Field(
        "OPENAI_API_KEY", description="The environment variable that holds the key; null where none is wanted."
    )
    answers_as: str | None = Field(
        None, description="The model's name in answers, where the endpoint calls it otherwise than it is asked for."
    )
    max_tokens_as: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the endpoint calls the bound of an answer's tokens."
    )
    json_schema: bool = Field(
        True, description="Whether the endpoint enforces JSON Schemas; where not, structure is asked for in words."
    )
    batch: BatchMode | None = Field(
        None, description="`true`, or how: by batches, of endpoints that have OpenAI's interface for files and batches."
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
        if value in (LOCAL, VLLM):
            return value
        if not value.startswith(("http://", "https://")):
            raise ValueError(
                f"{value!r}: expected the base URL of an endpoint, such as https://api.openai.com/v1, or `local` or"
                " `vllm` for a model that the run serves itself"
            )
        if "@" in urlsplit(value).netloc:  # not shown: there may be a password in it
            raise ValueError("no name, no password belongs into the URL: name the key's environment variable as `key`")
        return value.rstrip("/")

    @field_validator("server")
    @classmethod
    def _is_of_a_served_one(cls, value: Serving | None, info: ValidationInfo) -> Serving | None:
        if value is not None and info.data.get("url") not in (LOCAL, VLLM, None):
            raise ValueError("server: only of a model that the run serves itself, `url: local` or `url: vllm`")
        return value

    @property
    def is_served_here(self) -> bool:
        """Whether the run itself is to serve the model."""
        return self.url in (LOCAL, VLLM)

    @property
    def name(self) -> str:
        """The model's name as it is asked for: of a file, the file's."""
        return Path(self.model).stem if self.url == LOCAL else self.model

    @property
    def known(self) -> tuple[str, str]:
        """The two parts of the name that answers are kept under (see `ChatRequest.key`)."""
        return ("", self.known_as) if self.known_as is not None else (self.url, self.model)

    @field_validator("batch", mode="before")
    @classmethod
    def _is_said_or_not(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("url") in (LOCAL, VLLM):
            raise ValueError("batch: a model that the run serves itself is asked at once; leave it out")
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @field_validator("key")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is not None and not value.isidentifier():
            # The value itself may be the key: it is not shown.
            raise ValueError("key: the name of an environment variable is wanted, such as OPENAI_API_KEY, never a key")
        return value
