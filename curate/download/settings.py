"""Download settings of a recipe: transport, politeness, limits, and an optional resize."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from curate import __version__
from curate.readers.opt_out import OPT_OUT
from curate.settings import Settings

USER_AGENT = f"curate-mm/{__version__} (multimodal dataset curation; honours X-Robots-Tag)"

Seconds = Annotated[float, Field(gt=0, le=3600)]
Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos"]


class ResizeSettings(Settings):
    """A resize through img2dataset's resizer, in its vocabulary; the sample then holds the re-encoded file.

    `mode`: `no` re-encodes only, `keep_ratio` brings the short side to `size_px`, `keep_ratio_largest` the long
    side, `border` pads that to a square with white, `center_crop` cuts a square. `quality` is 0-9 for png.
    """

    mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = "border"
    size_px: int = Field(256, ge=1, le=16384)
    only_if_bigger: bool = False
    skip_reencode: bool = False
    upscale: Interpolation = "lanczos"
    downscale: Interpolation = "area"
    format: Literal["jpg", "png", "webp"] = "jpg"
    quality: int = Field(95, ge=0, le=100)
    max_pixels: int = Field(100_000_000, ge=1)

    @model_validator(mode="after")
    def _png_quality_is_a_compression_level(self) -> ResizeSettings:
        if self.format == "png" and self.quality > 9:
            raise ValueError(f"quality {self.quality} with format png: for png it is a compression level from 0 to 9")
        return self


class DownloadSettings(Settings):
    """Settings of the download. Times are seconds, sizes bytes.

    `per_host` bounds the requests that a host bears at once over all workers of a run, `concurrency` those of one
    worker. `timeout_s` bounds one whole attempt, redirects and body included; `connect_timeout_s` the name lookup and
    the connection. `retries` further attempts follow a timeout, a broken connection, 429 or 5xx, after
    `backoff_s` doubled each time with a jitter keyed by the URL, or after the server's Retry-After if that is at most
    `retry_after_max_s`. After `host_failures` such failures of a host in a row its other rows fail at once, as
    host_down, for a minute. `respect_opt_out`: words of the header X-Robots-Tag by which a file is not taken, and
    `tdm-reservation` for the header of that name (of which img2dataset knows nothing). `allow_private` names the
    private hosts, addresses or networks that may be fetched. `window` is how many rows may be ahead of the next one to
    be handed over, and `buffer_bytes` how much of them stays in memory (the rest waits in an unnamed temporary file).
    """

    engine: Literal["curate", "img2dataset"] = "curate"
    timeout_s: Seconds = 15.0
    connect_timeout_s: Seconds = 5.0
    retries: int = Field(1, ge=0, le=20)
    backoff_s: float = Field(0.5, ge=0, le=60)
    retry_after_max_s: float = Field(20.0, ge=0, le=600)
    host_failures: int = Field(16, ge=1)
    concurrency: int = Field(256, ge=1, le=4096)
    per_host: int = Field(8, ge=1, le=4096)
    max_bytes: int = Field(32 << 20, ge=1)
    max_redirects: int = Field(5, ge=0, le=50)
    user_agent: str = Field(USER_AGENT, min_length=1, max_length=500)
    respect_opt_out: tuple[str, ...] = OPT_OUT
    allow_private: tuple[str, ...] = ()
    resize: ResizeSettings | None = None
    resize_threads: int = Field(1, ge=1, le=64)
    window: int = Field(8192, ge=1)
    buffer_bytes: int = Field(128 << 20, ge=0)

    @field_validator("user_agent")
    @classmethod
    def _one_printable_line(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("user_agent: only printable ASCII fits in an HTTP header")
        return value

    @field_validator("respect_opt_out")
    @classmethod
    def _lowercase_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word.strip().lower() for word in value)

    @field_validator("allow_private")
    @classmethod
    def _names_or_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if not entry.strip() or "://" in entry or entry.strip() == "*":
                raise ValueError(f"{entry!r}: expected a host name, an address or a network such as 10.0.0.0/8")
            if "/" in entry:
                ipaddress.ip_network(entry.strip())
        return tuple(entry.strip().lower() for entry in value)

    def identity(self) -> dict[str, Any]:
        """The settings that change the bytes which are kept, as plain data."""
        return self.model_dump(mode="json", include={"resize", "respect_opt_out"})

    @property
    def user_agent_token(self) -> str:
        """The name that X-Robots-Tag directives address us by: the user agent up to its first `/` or space."""
        return self.user_agent.replace("/", " ").split()[0].lower()
